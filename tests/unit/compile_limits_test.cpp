// What compile() refuses, and a full ruleset.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "loader/compile.h"
#include "tests/unit/samples.h"

namespace ptrig {
namespace {

void expect_refused(const Config &config, std::initializer_list<std::string_view> says) {
	CompileInput input;
	input.config = &config;
	const auto tables = compile(input);
	ASSERT_FALSE(tables);
	EXPECT_EQ(tables.error().status, Status::kInput);
	for (const std::string_view text : says)
		EXPECT_NE(tables.error().what.find(text), std::string::npos) << tables.error().what;
}

/// `count` rules that all have `trigger` and `open`, with "#" replaced by a number of their own.
Config same(int count, const std::string &trigger, const std::string &open) {
	Config config = test::config_of({});
	for (int i = 0; i < count; ++i) {
		const auto own = [&](std::string text, int base) {
			const std::size_t at = text.find('#');
			return at == std::string::npos ? text : text.replace(at, 1, std::to_string(base + i));
		};
		config.rules.push_back(test::rule(fmt::format("r{}", i), own(trigger, 20000), own(open, 30000)));
	}
	return config;
}

TEST(CompileLimits, TheSeventeenthRuleOnAPort) {
	expect_refused(same(17, "21/tcp", "#/tcp"),
		       {"rule \"r16\" is the 17th that triggers on 21/tcp, and 16 is the most: r0, r1, ", ", r15"});
	expect_refused(same(17, "#/tcp", "5000/udp"), {"rule \"r16\" is the 17th that opens 5000/udp", "r0, r1, "});
	expect_refused(same(17, "#/tcp", "#=5060/udp"), {"rule \"r16\" is the 17th that leads to host port 5060/udp"});
	expect_refused(same(17, "1-65535/tcp", "#/tcp"), {"17th that triggers on 1/tcp"});
	Config config = same(17, "21/tcp", "5000/udp");
	config.rules[3].enabled = false;
	CompileInput input;
	input.config = &config;
	EXPECT_TRUE(compile(input)) << "a disabled rule does not count";
}

TEST(CompileLimits, ReservedPorts) {
	Config config = test::config_of({test::rule("web", "21/tcp", "440-450/tcp")});
	config.gateway.reserved = {test::ports("443/tcp+udp")};
	expect_refused(config, {"rule \"web\" opens \"440-450/tcp\"", "443/tcp is reserved by \"443/tcp+udp\""});
}

TEST(CompileLimits, MoreRulesThanMaxRules) {
	Config config = same(3, "#/tcp", "#/tcp");
	config.gateway.max_rules = 2;
	expect_refused(config, {"3 rules are more than max_rules (2): raise max_rules"});
	config.rules[0].enabled = false;
	expect_refused(config, {"3 rules are more"});
	config.gateway.max_rules = 3;
	CompileInput input;
	input.config = &config;
	EXPECT_TRUE(compile(input));
}

TEST(CompileLimits, MorePortListsThanMaxPortLists) {
	Config config = same(8, "1000-1007/tcp", "#/tcp");
	for (std::size_t i = 0; i < config.rules.size(); ++i)
		config.rules[i].trigger[0].last = static_cast<std::uint16_t>(1000 + i);
	config.gateway.max_port_lists = 7;
	CompileInput input;
	input.config = &config;
	EXPECT_EQ(compile(input)->lists.size(), 7U);
	config.gateway.max_port_lists = 6;
	expect_refused(config, {"7 different sets of rules, more than max_port_lists (6): raise it"});
}

TEST(CompileLimits, InvalidRulesAndTwoOfOneName) {
	Config config = same(2, "#/tcp", "#/tcp");
	config.rules[1].name = "r0";
	expect_refused(config, {"two rules are named \"r0\""});
	config = same(1, "#/tcp", "#/tcp");
	config.rules[0].open.resize(17, test::open_ports("1/tcp"));
	expect_refused(config, {"rule \"r0\": open: 17 ranges are too many"});
}

TEST(CompileLimits, AMacAddressOnWhatIsNoLan) {
	Config config = same(1, "#/tcp", "#/tcp");
	config.gateway.lan = {"br0"};
	config.rules[0].sources = {Sources::Kind::kSet, {}, {{Mac{{2, 0, 0, 0, 0, 1}}, "eth9"}}};
	expect_refused(config, {"02:00:00:00:00:01@eth9", "eth9 is none of [gateway] lan: write one of br0"});
}

TEST(CompileLimits, MoreAddressesThanTheMapsHold) {
	Config config = same(1, "#/tcp", "#/tcp");
	config.rules[0].sources.kind = Sources::Kind::kSet;
	for (std::uint32_t i = 0; i <= 32768; ++i)
		config.rules[0].sources.macs.push_back(
			Mac{{2, 0, 0, static_cast<std::uint8_t>(i >> 16), static_cast<std::uint8_t>(i >> 8),
			     static_cast<std::uint8_t>(i)}});
	expect_refused(config, {"32769 MAC addresses in all are too many: 32768 is the most"});
	config = same(1, "#/tcp", "#/tcp");
	for (std::uint32_t i = 0; i <= 524288; ++i)
		config.gateway.deny_remotes.push_back(Prefix{Ip4{i << 4}, 28});
	expect_refused(config, {"524289 prefixes in all are too many: 524288 is the most"});
}

/// 65,535 rules of 16 ranges on each side; every port of tcp has 16 rules.
Config full_config() {
	Config config = test::config_of({});
	config.gateway.max_rules = 65536;
	config.gateway.max_port_lists = 393216;
	for (unsigned i = 0; i < 65535; ++i) {
		Rule rule;
		rule.name = fmt::format("rule-{}", i);
		for (unsigned k = 0; k < PTRIG_MAX_RANGES; ++k) {
			const auto port = static_cast<std::uint16_t>((i + k * 4096) % 65535 + 1);
			rule.trigger.push_back({port, port, PTRIG_TCP});
			rule.open.push_back({{port, port, PTRIG_TCP}, port});
		}
		config.rules.push_back(std::move(rule));
	}
	return config;
}

/// How long it takes is `tools/bench`'s to say (apply).
TEST(CompileLimits, AFullRulesetIsTakenAndKeepsItsIdentities) {
	const Config config = full_config();
	CompileInput input;
	input.config = &config;
	auto tables = compile(input);
	ASSERT_TRUE(tables) << tables.error().what;
	EXPECT_EQ(tables->lists.size(), 65535U);
	EXPECT_EQ(tables->identities.size(), 65535U);
	input.previous = tables->identities;
	const auto again = compile(input);
	ASSERT_TRUE(again);
	EXPECT_EQ(again->trigger_ports, tables->trigger_ports);
	EXPECT_EQ(again->identities.at("rule-4711").id, tables->identities.at("rule-4711").id);
}

} // namespace
} // namespace ptrig
