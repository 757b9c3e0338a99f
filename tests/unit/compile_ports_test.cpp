// The port tables: the encoding of abi.h, read as the datapath reads it.
#include <algorithm>
#include <gtest/gtest.h>

#include "loader/compile.h"
#include "tests/unit/samples.h"

namespace ptrig {
namespace {

Tables compiled(const Config &config) {
	CompileInput input;
	input.config = &config;
	auto tables = compile(input);
	EXPECT_TRUE(tables) << (tables ? "" : tables.error().what);
	return tables ? std::move(*tables) : Tables();
}

/// The names of the rules of one entry, as the datapath finds them.
std::vector<std::string> names_at(const Tables &tables, std::uint32_t entry) {
	std::vector<std::string> names;
	if (entry & PTRIG_PORT_LIST) {
		const ptrig_list &list = tables.lists.at(entry & ~PTRIG_PORT_LIST);
		for (unsigned i = 0; i < list.count; ++i)
			names.emplace_back(tables.rules.at(list.slot[i]).name);
	} else if (entry != 0) {
		names.emplace_back(tables.rules.at(entry - 1).name);
	}
	return names;
}

std::uint32_t tcp(const std::vector<std::uint32_t> &table, unsigned port) {
	return table.at(PTRIG_PORT_INDEX(0U, PTRIG_PROTO_INDEX_TCP, port));
}
std::uint32_t udp(const std::vector<std::uint32_t> &table, unsigned port) {
	return table.at(PTRIG_PORT_INDEX(0U, PTRIG_PROTO_INDEX_UDP, port));
}

TEST(CompilePorts, OneRule) {
	const Tables t = compiled(test::config_of({test::rule("r", "6667/tcp", "6000-6010=7000/udp")}));
	ASSERT_EQ(t.trigger_ports.size(), 2 * PTRIG_PORTS);
	ASSERT_EQ(t.open_ports.size(), 2 * PTRIG_PORTS);
	ASSERT_EQ(t.host_ports.size(), 2 * PTRIG_PORTS);
	EXPECT_EQ(tcp(t.trigger_ports, 6667), 1U) << "slot 0 is entry 1";
	EXPECT_EQ(udp(t.trigger_ports, 6667), 0U);
	EXPECT_EQ(tcp(t.trigger_ports, 6668), 0U);
	EXPECT_EQ(udp(t.open_ports, 5999), 0U);
	EXPECT_EQ(udp(t.open_ports, 6000), 1U);
	EXPECT_EQ(udp(t.open_ports, 6010), 1U);
	EXPECT_EQ(udp(t.open_ports, 6011), 0U);
	EXPECT_EQ(tcp(t.open_ports, 6000), 0U);
	EXPECT_EQ(udp(t.host_ports, 6000), 0U);
	EXPECT_EQ(udp(t.host_ports, 7000), 1U);
	EXPECT_EQ(udp(t.host_ports, 7010), 1U);
	EXPECT_EQ(udp(t.host_ports, 7011), 0U);
	EXPECT_EQ(std::count(t.trigger_ports.begin(), t.trigger_ports.end(), 0U), 2 * PTRIG_PORTS - 1);
	EXPECT_TRUE(t.lists.empty());
}

TEST(CompilePorts, TheEdgesOfThePortRange) {
	const Tables t = compiled(test::config_of({test::rule("r", "1-65535/tcp+udp", "1-65535/tcp")}));
	for (const auto &table : {t.trigger_ports, t.open_ports, t.host_ports}) {
		EXPECT_EQ(tcp(table, 0), 0U);
		EXPECT_EQ(tcp(table, 1), 1U);
		EXPECT_EQ(tcp(table, 65535), 1U);
		EXPECT_EQ(udp(table, 0), 0U) << "tcp port 65535 is not udp port 0";
	}
	EXPECT_EQ(udp(t.trigger_ports, 65535), 1U);
	EXPECT_EQ(udp(t.open_ports, 1), 0U);
}

TEST(CompilePorts, SharedPortsAreListsInFileOrder) {
	Config config =
		test::config_of({test::rule("z", "21/tcp", "1000-1009/tcp"), test::rule("a", "21/tcp", "1005-1014/tcp"),
				 test::rule("m", "21-22/tcp", "1009/tcp+udp")});
	const Tables t = compiled(config);
	EXPECT_EQ(names_at(t, tcp(t.trigger_ports, 21)), (std::vector<std::string>{"z", "a", "m"}));
	EXPECT_EQ(names_at(t, tcp(t.trigger_ports, 22)), (std::vector<std::string>{"m"}));
	EXPECT_EQ(names_at(t, tcp(t.open_ports, 1004)), (std::vector<std::string>{"z"}));
	EXPECT_EQ(names_at(t, tcp(t.open_ports, 1005)), (std::vector<std::string>{"z", "a"}));
	EXPECT_EQ(names_at(t, tcp(t.open_ports, 1009)), (std::vector<std::string>{"z", "a", "m"}));
	EXPECT_EQ(names_at(t, tcp(t.open_ports, 1014)), (std::vector<std::string>{"a"}));
	EXPECT_EQ(names_at(t, udp(t.open_ports, 1009)), (std::vector<std::string>{"m"}));
	// Two different lists, {z, a, m} and {z, a}, for all three tables.
	EXPECT_EQ(t.lists.size(), 2U);
	EXPECT_EQ(tcp(t.trigger_ports, 21), tcp(t.open_ports, 1009));
	EXPECT_EQ(tcp(t.open_ports, 1005), tcp(t.host_ports, 1008));
}

TEST(CompilePorts, FileOrderIsNotSlotOrder) {
	const Config before = test::config_of({test::rule("b", "21/tcp", "1000/tcp")});
	const Config after =
		test::config_of({test::rule("a", "21/tcp", "2000/tcp"), test::rule("b", "21/tcp", "1000/tcp")});
	CompileInput input;
	input.config = &after;
	input.previous = compiled(before).identities;
	const Tables t = *compile(input);
	EXPECT_EQ(t.identities.at("b").id & 0xFFFF, 0U);
	EXPECT_EQ(t.identities.at("a").id & 0xFFFF, 1U);
	EXPECT_EQ(names_at(t, tcp(t.trigger_ports, 21)), (std::vector<std::string>{"a", "b"}));
}

TEST(CompilePorts, ARuleIsOncePerPortHoweverManyOfItsRangesHaveIt) {
	Config config =
		test::config_of({test::rule("r", "20-30/tcp", "1000=80/tcp"), test::rule("s", "25/tcp", "3000/tcp")});
	config.rules[0].trigger.push_back(test::ports("25/tcp"));
	config.rules[0].open.push_back(test::open_ports("1001=80/tcp"));
	const Tables t = compiled(config);
	EXPECT_EQ(names_at(t, tcp(t.trigger_ports, 25)), (std::vector<std::string>{"r", "s"}));
	EXPECT_EQ(names_at(t, tcp(t.host_ports, 80)), (std::vector<std::string>{"r"}));
}

TEST(CompilePorts, DisabledRulesAreOnNoPort) {
	Config config =
		test::config_of({test::rule("off", "21/tcp", "1000/tcp"), test::rule("on", "21/tcp", "1000/tcp")});
	config.rules[0].enabled = false;
	const Tables t = compiled(config);
	EXPECT_EQ(names_at(t, tcp(t.trigger_ports, 21)), (std::vector<std::string>{"on"}));
	EXPECT_EQ(names_at(t, tcp(t.open_ports, 1000)), (std::vector<std::string>{"on"}));
	EXPECT_TRUE(t.lists.empty());
}

TEST(CompilePorts, SixteenRulesOnAPortFitAList) {
	std::vector<Rule> rules;
	std::vector<std::string> names;
	for (int i = 0; i < 16; ++i) {
		rules.push_back(test::rule("r" + std::to_string(i), "21/tcp", "5000/udp"));
		names.push_back(rules.back().name);
	}
	const Tables t = compiled(test::config_of(rules));
	EXPECT_EQ(names_at(t, tcp(t.trigger_ports, 21)), names);
	EXPECT_EQ(names_at(t, udp(t.open_ports, 5000)), names);
	EXPECT_EQ(t.lists.size(), 1U);
	EXPECT_EQ(t.lists[0].count, 16U);
}

TEST(CompilePorts, RandomConfigurationsRuleByRule) {
	for (unsigned seed = 0; seed < 10; ++seed) {
		const Config config = test::RandomConfig(seed).config(30);
		const Tables t = compiled(config);
		const auto expected = [&](Protos proto, unsigned port, auto ranges_of) {
			std::vector<std::string> names;
			for (const Rule &rule : config.rules)
				for (const PortRange &range : ranges_of(rule))
					if (rule.enabled && (range.protos & proto) && range.first <= port &&
					    port <= range.last && (names.empty() || names.back() != rule.name))
						names.push_back(rule.name);
			return names;
		};
		const auto triggers = [](const Rule &r) { return r.trigger; };
		const auto host_ports = [](const Rule &r) {
			std::vector<PortRange> out;
			for (const OpenRange &o : r.open)
				out.push_back({o.host_first,
					       static_cast<std::uint16_t>(o.host_first + (o.wan.last - o.wan.first)),
					       o.wan.protos});
			return out;
		};
		for (unsigned port = 1; port < PTRIG_PORTS; port += 7) {
			ASSERT_EQ(names_at(t, tcp(t.trigger_ports, port)), expected(PTRIG_TCP, port, triggers)) << port;
			ASSERT_EQ(names_at(t, udp(t.host_ports, port)), expected(PTRIG_UDP, port, host_ports)) << port;
		}
	}
}

} // namespace
} // namespace ptrig
