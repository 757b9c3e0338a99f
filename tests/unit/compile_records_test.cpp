// Rule records, the configuration record and the sets: each key of a rule in its place.
#include <gtest/gtest.h>

#include "loader/compile.h"
#include "tests/unit/samples.h"

namespace ptrig {
namespace {

using test::mac;
using test::prefix;

Tables compiled(const Config &config, std::uint32_t first_set = 1) {
	CompileInput input;
	input.config = &config;
	input.first_set = first_set;
	auto tables = compile(input);
	EXPECT_TRUE(tables) << (tables ? "" : tables.error().what);
	return tables ? std::move(*tables) : Tables();
}
template <typename Change> ptrig_rule record(Change change) {
	Rule rule = test::rule("r", "21/tcp", "50000-50010/tcp");
	change(rule);
	return compiled(test::config_of({rule})).rules.at(0);
}
std::vector<std::string> members(const Tables &tables, std::uint32_t set) {
	std::vector<std::string> out;
	for (const PrefixEntry &entry : tables.prefixes)
		if (entry.set == set)
			out.push_back(to_string(entry.prefix));
	for (const MacEntry &entry : tables.macs)
		if (entry.set == set)
			out.push_back(to_string(entry.source));
	return out;
}

TEST(CompileRecord, Defaults) {
	const ptrig_rule r = record([](Rule &) {});
	EXPECT_EQ(r.id, 0x00010000U);
	EXPECT_EQ(r.flags, PTRIG_RULE_SOURCE_LAN | PTRIG_RULE_LOG);
	EXPECT_EQ(r.timeout_ns, 600'000'000'000U);
	EXPECT_EQ(r.yield_after_ns, 0U);
	EXPECT_EQ(r.cooldown_ns, 0U);
	EXPECT_EQ(r.max_lifetime_ns, 0U);
	EXPECT_EQ(r.sources_set, 0U);
	EXPECT_EQ(r.trigger_remotes_set, 0U);
	EXPECT_EQ(r.remotes_set, 0U);
	EXPECT_EQ(r.session_limit, 0U);
	EXPECT_EQ(r.open_count, 1U);
	EXPECT_EQ(r.open[0].first, 50000U);
	EXPECT_EQ(r.open[0].last, 50010U);
	EXPECT_EQ(r.open[0].host_first, 50000U);
	EXPECT_EQ(r.open[0].protos, PTRIG_TCP);
	EXPECT_EQ(r.open[1].first, 0U);
	EXPECT_STREQ(r.name, "r");
}

TEST(CompileRecord, FlagsOfEachKey) {
	const auto flags = [](auto change) { return record(change).flags; };
	const std::uint32_t lan = PTRIG_RULE_SOURCE_LAN, log = PTRIG_RULE_LOG;
	EXPECT_EQ(flags([](Rule &r) { r.log = false; }), lan);
	EXPECT_EQ(flags([](Rule &r) { r.sources.kind = Sources::Kind::kRouted; }),
		  lan | PTRIG_RULE_SOURCE_ROUTED | log);
	EXPECT_EQ(flags([](Rule &r) {
			  r.sources = {Sources::Kind::kSet, {prefix("10.0.0.0/8")}, {}};
		  }),
		  PTRIG_RULE_SOURCE_SET | log);
	EXPECT_EQ(flags([](Rule &r) { r.remotes.kind = Remotes::Kind::kContacted; }), lan | PTRIG_RULE_CONTACTED | log);
	EXPECT_EQ(flags([](Rule &r) { r.refresh = Refresh::kTraffic; }), lan | PTRIG_RULE_REFRESH_TRAFFIC | log);
	EXPECT_EQ(flags([](Rule &r) { r.conflict = Conflict::kTakeover; }), lan | PTRIG_RULE_TAKEOVER | log);
	EXPECT_EQ(flags([](Rule &r) { r.close = Close::kConnection; }), lan | PTRIG_RULE_CLOSE_CONNECTION | log);
	EXPECT_EQ(flags([](Rule &r) { r.confirm = true; }), lan | PTRIG_RULE_CONFIRM | log);
	EXPECT_EQ(flags([](Rule &r) { r.on_close = OnClose::kKill; }), lan | PTRIG_RULE_KILL | log);
}

// B38: each time into its own member.
TEST(CompileRecord, TimesAndNumbers) {
	const ptrig_rule r = record([](Rule &rule) {
		rule.timeout = seconds(100);
		rule.yield_after = seconds(7);
		rule.cooldown = std::chrono::milliseconds(1500);
		rule.max_lifetime = std::chrono::hours(24);
		rule.session_limit = 12;
		rule.name = std::string(31, 'n');
	});
	EXPECT_EQ(r.timeout_ns, 100'000'000'000U);
	EXPECT_EQ(r.yield_after_ns, 7'000'000'000U);
	EXPECT_EQ(r.cooldown_ns, 1'500'000'000U);
	EXPECT_EQ(r.max_lifetime_ns, 86'400'000'000'000U);
	EXPECT_EQ(r.session_limit, 12U);
	EXPECT_EQ(r.name, std::string(31, 'n'));
}

TEST(CompileRecord, OpenRangesInOrder) {
	const ptrig_rule r = record([](Rule &rule) {
		rule.open.clear();
		for (unsigned i = 0; i < PTRIG_MAX_RANGES; ++i)
			rule.open.push_back(
				{{static_cast<std::uint16_t>(2000 + 10 * i), static_cast<std::uint16_t>(2001 + 10 * i),
				  static_cast<Protos>(1 + i % 3)},
				 static_cast<std::uint16_t>(4000 + i)});
	});
	ASSERT_EQ(r.open_count, PTRIG_MAX_RANGES);
	for (unsigned i = 0; i < PTRIG_MAX_RANGES; ++i) {
		EXPECT_EQ(r.open[i].first, 2000 + 10 * i);
		EXPECT_EQ(r.open[i].last, 2001 + 10 * i);
		EXPECT_EQ(r.open[i].host_first, 4000 + i);
		EXPECT_EQ(r.open[i].protos, 1 + i % 3);
	}
}

TEST(CompileConfig, TimeoutsAndLimitsEachInItsPlace) {
	Config config = test::config_of({});
	config.timeouts = {seconds(1), seconds(2), seconds(3), seconds(4), seconds(5)};
	config.limits = {6, 7, 8};
	const ptrig_config c = compiled(config).config;
	EXPECT_EQ(c.tcp_established_ns, 1'000'000'000U);
	EXPECT_EQ(c.tcp_transitory_ns, 2'000'000'000U);
	EXPECT_EQ(c.udp_ns, 3'000'000'000U);
	EXPECT_EQ(c.halfopen_ns, 4'000'000'000U);
	EXPECT_EQ(c.icmp_ns, 5'000'000'000U);
	EXPECT_EQ(c.leases_per_host, 6U);
	EXPECT_EQ(c.sessions_per_host, 7U);
	EXPECT_EQ(c.new_sessions_per_second, 8U);
	EXPECT_EQ(c.deny_set, 0U);
}

TEST(CompileSets, EachListHasItsSet) {
	Config config = test::config_of({test::rule("r", "21/tcp", "50000/tcp")});
	config.gateway.deny_remotes = {prefix("198.51.100.0/24")};
	config.rules[0].sources = {Sources::Kind::kSet, {prefix("10.0.0.0/8")}, {mac("02:00:00:00:00:01")}};
	config.rules[0].trigger_remotes = {prefix("192.0.2.0/24")};
	config.rules[0].remotes = {Remotes::Kind::kSet, {prefix("203.0.113.0/24"), prefix("0.0.0.0/0")}};
	const Tables t = compiled(config, 100);
	const ptrig_rule &r = t.rules[0];
	EXPECT_EQ(members(t, t.config.deny_set), (std::vector<std::string>{"198.51.100.0/24"}));
	EXPECT_EQ(members(t, r.sources_set), (std::vector<std::string>{"10.0.0.0/8", "02:00:00:00:00:01"}));
	EXPECT_EQ(members(t, r.trigger_remotes_set), (std::vector<std::string>{"192.0.2.0/24"}));
	EXPECT_EQ(members(t, r.remotes_set), (std::vector<std::string>{"0.0.0.0/0", "203.0.113.0/24"}));
	for (const std::uint32_t set : {t.config.deny_set, r.sources_set, r.trigger_remotes_set, r.remotes_set}) {
		EXPECT_GE(set, 100U);
		EXPECT_LT(set, 104U);
	}
}

TEST(CompileSets, EqualSetsShareANumber) {
	Config config = test::config_of({test::rule("a", "1/tcp", "1001/tcp"), test::rule("b", "2/tcp", "1002/tcp"),
					 test::rule("c", "3/tcp", "1003/tcp")});
	config.rules[0].remotes = {Remotes::Kind::kSet, {prefix("10.0.0.0/8"), prefix("192.0.2.0/24")}};
	// Another order, and one twice: the same set.
	config.rules[1].remotes = {Remotes::Kind::kSet,
				   {prefix("192.0.2.0/24"), prefix("10.0.0.0/8"), prefix("10.0.0.0/8")}};
	config.rules[1].trigger_remotes = config.rules[0].remotes.prefixes;
	config.rules[2].remotes = {Remotes::Kind::kSet, {prefix("10.0.0.0/8")}};
	config.rules[2].sources = {Sources::Kind::kSet, {prefix("10.0.0.0/8")}, {mac("02:00:00:00:00:01")}};
	const Tables t = compiled(config);
	EXPECT_EQ(t.rules[0].remotes_set, t.rules[1].remotes_set);
	EXPECT_EQ(t.rules[0].remotes_set, t.rules[1].trigger_remotes_set);
	EXPECT_NE(t.rules[0].remotes_set, t.rules[2].remotes_set);
	EXPECT_NE(t.rules[2].sources_set, t.rules[2].remotes_set);
	EXPECT_EQ(t.prefixes.size(), 4U);
	EXPECT_EQ(t.macs.size(), 1U);
}

TEST(CompileSets, AMacAddressOnOneInterfaceIsAnotherMember) {
	Config config = test::config_of({test::rule("a", "1/tcp", "1001/tcp"), test::rule("b", "2/tcp", "1002/tcp")});
	config.rules[0].sources = {Sources::Kind::kSet, {}, {mac("02:00:00:00:00:01")}};
	config.rules[1].sources = {Sources::Kind::kSet, {}, {{mac("02:00:00:00:00:01"), "br0"}}};
	const Tables t = compiled(config);
	EXPECT_EQ(members(t, t.rules[0].sources_set), (std::vector<std::string>{"02:00:00:00:00:01"}));
	EXPECT_EQ(members(t, t.rules[1].sources_set), (std::vector<std::string>{"02:00:00:00:00:01@br0"}));
}

TEST(CompileSets, ASetOfMacsAlone) {
	Config config = test::config_of({test::rule("a", "1/tcp", "1001/tcp")});
	config.rules[0].sources = {Sources::Kind::kSet, {}, {mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02")}};
	const Tables t = compiled(config);
	EXPECT_TRUE(t.prefixes.empty());
	EXPECT_EQ(members(t, t.rules[0].sources_set).size(), 2U);
	EXPECT_NE(t.rules[0].sources_set, 0U);
}

TEST(CompileSets, DisabledRulesNeedNone) {
	Config config = test::config_of({test::rule("a", "1/tcp", "1001/tcp")});
	config.rules[0].remotes = {Remotes::Kind::kSet, {prefix("10.0.0.0/8")}};
	config.rules[0].enabled = false;
	EXPECT_TRUE(compiled(config).prefixes.empty());
}

TEST(CompileConfig, LanEgressIsNeededForConfirmAndCloseOfEnabledRules) {
	Config config = test::config_of({test::rule("a", "1/tcp", "1001/tcp"), test::rule("b", "2/tcp", "1002/tcp")});
	EXPECT_FALSE(compiled(config).needs_lan_egress);
	config.rules[1].confirm = true;
	EXPECT_TRUE(compiled(config).needs_lan_egress);
	config.rules[1].enabled = false;
	EXPECT_FALSE(compiled(config).needs_lan_egress);
	config.rules[0].close = Close::kConnection;
	EXPECT_TRUE(compiled(config).needs_lan_egress);
}

} // namespace
} // namespace ptrig
