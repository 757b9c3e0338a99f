// Which rules are on each port: counted port by port, and checked against a plain count.
#include "loader/port_index.h"

#include <gtest/gtest.h>

#include "tests/unit/samples.h"

namespace ptrig {
namespace {

std::vector<std::uint16_t> rules_at(const PortIndex &index, unsigned proto, unsigned port) {
	const auto rules = index.at(PortIndex::place(proto, port));
	return {rules.begin(), rules.end()};
}

TEST(PortIndex, CountsEachRuleOnceAPort) {
	PortIndex index;
	EXPECT_FALSE(index.add(3, 10, 20, PTRIG_TCP));
	EXPECT_FALSE(index.add(3, 15, 25, PTRIG_TCP | PTRIG_UDP));
	EXPECT_FALSE(index.add(7, 65535, 65535, PTRIG_UDP));
	EXPECT_EQ(rules_at(index, 0, 9), std::vector<std::uint16_t>{});
	EXPECT_EQ(rules_at(index, 0, 15), std::vector<std::uint16_t>{3});
	EXPECT_EQ(rules_at(index, 1, 14), std::vector<std::uint16_t>{});
	EXPECT_EQ(rules_at(index, 1, 25), std::vector<std::uint16_t>{3});
	EXPECT_EQ(rules_at(index, 1, 65535), std::vector<std::uint16_t>{7});
}

TEST(PortIndex, SaysWhichPortIsFull) {
	PortIndex index;
	for (std::uint32_t rule = 0; rule < 16; ++rule)
		EXPECT_FALSE(index.add(rule, 100 + rule, 200, PTRIG_UDP));
	EXPECT_EQ(index.add(16, 1, 65535, PTRIG_TCP | PTRIG_UDP), (PortRange{115, 115, PTRIG_UDP}));
	EXPECT_FALSE(index.add(17, 1, 65535, PTRIG_TCP));
	// The 16th again is no 17th.
	EXPECT_FALSE(index.add(15, 120, 130, PTRIG_UDP));
}

TEST(PortIndexes, AgreeWithAPlainCount) {
	for (unsigned seed = 0; seed < 10; ++seed) {
		const Config config = test::RandomConfig(seed).config(40);
		const PortIndexes indexes = index_ports(config);
		ASSERT_TRUE(indexes.conflicts.empty()) << indexes.conflicts[0].message;
		std::vector<std::vector<std::uint16_t>> trigger(2 * PTRIG_PORTS), open = trigger, host = trigger;
		const auto count = [](auto &table, std::size_t rule, unsigned first, unsigned last, Protos protos) {
			for (unsigned proto = 0; proto < 2; ++proto)
				for (unsigned port = first; (protos >> proto & 1) && port <= last; ++port)
					if (auto &rules = table[proto << 16 | port];
					    rules.empty() || rules.back() != rule)
						rules.push_back(static_cast<std::uint16_t>(rule));
		};
		for (std::size_t i = 0; i < config.rules.size(); ++i) {
			if (!config.rules[i].enabled)
				continue;
			for (const PortRange &t : config.rules[i].trigger)
				count(trigger, i, t.first, t.last, t.protos);
			for (const OpenRange &o : config.rules[i].open) {
				count(open, i, o.wan.first, o.wan.last, o.wan.protos);
				count(host, i, o.host_first, o.host_first + (o.wan.last - o.wan.first), o.wan.protos);
			}
		}
		for (unsigned place = 0; place < 2 * PTRIG_PORTS; ++place) {
			ASSERT_EQ(rules_at(indexes.trigger, 0, place), trigger[place]) << place;
			ASSERT_EQ(rules_at(indexes.open, 0, place), open[place]) << place;
			ASSERT_EQ(rules_at(indexes.host, 0, place), host[place]) << place;
		}
	}
}

TEST(PortIndexes, FindReservedPortsInEitherProtocol) {
	const struct {
		const char *reserved, *open;
		std::string found; ///< empty: no conflict
	} cases[] = {
		{"443/tcp", "443/tcp", "443/tcp"},
		{"443/tcp", "443/udp", ""},
		{"443/tcp+udp", "400-500/udp", "443/udp"},
		{"1-9/tcp", "9-10/tcp", "9/tcp"},
		{"1-9/tcp", "10/tcp", ""},
		{"65535/udp", "60000-65535/tcp+udp", "65535/udp"},
		{"100-200/tcp", "150/tcp", "150/tcp"},
		{"1/tcp", "1/tcp", "1/tcp"},
		{"80/tcp", "8080=80/tcp", ""}, // a port of the host, not of the WAN
	};
	for (const auto &c : cases) {
		Config config = test::config_of({test::rule("r", "5/tcp", c.open)});
		config.gateway.reserved = {test::ports("7/udp"), test::ports(c.reserved), test::ports(c.reserved)};
		const auto conflicts = index_ports(config).conflicts;
		ASSERT_EQ(conflicts.size(), c.found.empty() ? 0U : 1U) << c.reserved << " " << c.open;
		const std::string says = ", and " + c.found + " is reserved by \"" + c.reserved + "\"";
		if (!c.found.empty()) {
			EXPECT_NE(conflicts[0].message.find(says), std::string::npos) << conflicts[0].message;
		}
	}
}

} // namespace
} // namespace ptrig
