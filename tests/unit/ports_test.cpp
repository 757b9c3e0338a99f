// The text of ports: what is understood, and that every refusal says what would be right.
#include <gtest/gtest.h>

#include "include/ptrig/abi.h"
#include "loader/rule.h"
#include "loader/rule_file.h"

namespace ptrig {
namespace {

constexpr Protos kTcp = PTRIG_TCP, kUdp = PTRIG_UDP, kBoth = PTRIG_TCP | PTRIG_UDP;

TEST(PortRange, ReadsAndPrints) {
	const struct {
		const char *text;
		PortRange range;
	} cases[] = {
		{"21/tcp", {21, 21, kTcp}},
		{"1/udp", {1, 1, kUdp}},
		{"65535/tcp+udp", {65535, 65535, kBoth}},
		{"6000-6010/tcp+udp", {6000, 6010, kBoth}},
		{"1-65535/udp", {1, 65535, kUdp}},
	};
	for (const auto &c : cases) {
		const auto range = parse_port_range(c.text);
		ASSERT_TRUE(range) << c.text << ": " << range.error().what;
		EXPECT_EQ(*range, c.range) << c.text;
		EXPECT_EQ(to_string(c.range), c.text);
	}
	EXPECT_EQ(to_string(*parse_port_range("7-7/tcp")), "7/tcp");
	for (const char *text : {"47/tcp", "50/udp", "50-51/tcp+udp", "1723/tcp"})
		EXPECT_TRUE(parse_port_range(text)) << text;
}

TEST(PortRange, ProtocolsInEitherCase) {
	const struct {
		const char *text, *printed;
	} cases[] = {
		{"21/TCP", "21/tcp"},
		{"6000-6010/UDP", "6000-6010/udp"},
		{"53/TCP+UDP", "53/tcp+udp"},
		{"53/Tcp+udp", "53/tcp+udp"},
	};
	for (const auto &c : cases) {
		const auto range = parse_port_range(c.text);
		ASSERT_TRUE(range) << range.error().what;
		EXPECT_EQ(to_string(*range), c.printed);
		EXPECT_EQ(to_string(*parse_open_range(c.text)), c.printed);
	}
	EXPECT_EQ(to_string(*parse_open_range("8080=80/TCP")), "8080=80/tcp");
	Rule rule;
	ASSERT_TRUE(set_rule_key(rule, "trigger", {"21/TCP,53/Udp"}));
	EXPECT_EQ(rule.trigger, (std::vector<PortRange>{{21, 21, kTcp}, {53, 53, kUdp}}));
}

TEST(PortRange, RefusesWithTheRightSpelling) {
	const struct {
		const char *text, *says;
	} cases[] = {
		{"", "not a port: write one as in \"21/tcp\""},
		{"6667", "the protocol is missing: write \"6667/tcp\", \"6667/udp\" or \"6667/tcp+udp\""},
		{"6000-6010", "write \"6000-6010/tcp\""},
		{"ftp", "not a port: write one"},
		{"0/tcp", "there is no port 0"},
		{"0-10/tcp", "there is no port 0"},
		{"00/tcp", "there is no port 0"},
		{"65536/tcp", "no port is above 65535"},
		{"1-99999999999999999999999999/tcp", "no port is above 65535"},
		{"021/tcp", "without a leading 0"},
		{"6010-6000/udp", "backwards: write \"6000-6010/udp\""},
		{"6000:6010/tcp", "a range is written with \"-\": write \"6000-6010/tcp\""},
		{"6000:6010", "\":\" is not used"},
		{"6000=7000/tcp", "only open ports are mapped"},
		{"/tcp", "a port number is missing"},
		{"-5/tcp", "a port number is missing"},
		{"5-/tcp", "a port number is missing"},
		{"21/", "the protocol is tcp, udp or tcp+udp, not \"\""},
		{"21/udp+tcp", "the protocol is tcp, udp or tcp+udp"},
		{"21/sctp", "the protocol is tcp, udp or tcp+udp"},
		{"21/tcp,udp", "the protocol is tcp, udp or tcp+udp"},
		{"+21/tcp", "\"+21\" is not a port number"},
		{" 21/tcp", "\" 21\" is not a port number"},
		{"21/tcp ", "not \"tcp \""},
		{"1-2-3/tcp", "\"2-3\" is not a port number"},
		{"0x15/tcp", "\"0x15\" is not a port number"},
		{"2\x1b[31m1/tcp", "\\u001b"},
		{"gre", "only TCP and UDP can be opened; GRE and ESP have no ports"},
		{"esp", "only TCP and UDP can be opened"},
		{"PPTP", "only TCP and UDP can be opened"},
		{"47/gre", "only TCP and UDP can be opened"},
		{"47/ip", "only TCP and UDP can be opened"},
		{"ip/50", "only TCP and UDP can be opened"},
		{"0/ESP", "only TCP and UDP can be opened"},
		{"1723/tcp+gre", "only TCP and UDP can be opened"},
		{"47", "the protocol is missing"},
		{"6000\u20136010/tcp", "a range is written with the plain \"-\""},
	};
	for (const auto &c : cases) {
		const auto range = parse_port_range(c.text);
		ASSERT_FALSE(range) << c.text;
		EXPECT_EQ(range.error().status, Status::kInput);
		EXPECT_NE(range.error().what.find(c.says), std::string::npos) << range.error().what;
		EXPECT_EQ(range.error().what.find_first_of("\n\x1b"), std::string::npos);
	}
}

TEST(OpenRange, ReadsPrintsAndDescribes) {
	const struct {
		const char *text;
		OpenRange open;
		const char *described;
	} cases[] = {
		{"50000-50010/tcp", {{50000, 50010, kTcp}, 50000}, "WAN 50000-50010 → host 50000-50010 tcp"},
		{"6000-6010=7000/udp", {{6000, 6010, kUdp}, 7000}, "WAN 6000-6010 → host 7000-7010 udp"},
		{"8080=80/tcp+udp", {{8080, 8080, kBoth}, 80}, "WAN 8080 → host 80 tcp+udp"},
		{"1-2=65534/udp", {{1, 2, kUdp}, 65534}, "WAN 1-2 → host 65534-65535 udp"},
	};
	for (const auto &c : cases) {
		const auto open = parse_open_range(c.text);
		ASSERT_TRUE(open) << c.text << ": " << open.error().what;
		EXPECT_EQ(*open, c.open) << c.text;
		EXPECT_EQ(to_string(c.open), c.text);
		EXPECT_EQ(describe(c.open), c.described);
	}
	EXPECT_EQ(to_string(*parse_open_range("80=80/tcp")), "80/tcp");
}

TEST(OpenRange, RefusesWithTheRightSpelling) {
	const struct {
		const char *text, *says;
	} cases[] = {
		{"6000:7000/tcp", "write \"6000-7000/tcp\" for a range, \"6000=7000/tcp\" for WAN port to host port"},
		{"8080:80/tcp", "a mapping is written with \"=\": write \"8080=80/tcp\""},
		{"6000-6010:7000/udp", "write \"6000-6010=7000/udp\""},
		{"a:b", "\":\" is not used: write a range as in \"6000-6010/tcp\""},
		{"6000-6010=7000-7010/udp", "after \"=\" comes only the first host port"},
		{"60000-65535=60001/udp", "run up to 65536: for 5536 ports the first can be 60000 at most"},
		{"8080=65536/tcp", "no port is above 65535"},
		{"8080=0/tcp", "there is no port 0"},
		{"8080=/tcp", "a port number is missing"},
		{"=80/tcp", "a port number is missing"},
		{"1/tcp=2/tcp", "the protocol is written once, at the end"},
		{"8080=80", "write \"8080=80/tcp\""},
		{"1=2=3/tcp", "\"2=3\" is not a port number"},
	};
	for (const auto &c : cases) {
		const auto open = parse_open_range(c.text);
		ASSERT_FALSE(open) << c.text;
		EXPECT_EQ(open.error().status, Status::kInput);
		EXPECT_NE(open.error().what.find(c.says), std::string::npos) << open.error().what;
	}
}

TEST(OpenRange, WhatARefusalOffersIsRight) {
	for (const std::string text : {"6000:7000/tcp", "8080:80/tcp", "6010-6000/udp", "6667", "6000-6010:7000/udp"}) {
		const std::string said = parse_open_range(text).error().what;
		std::size_t offers = 0;
		// After the text itself, every quoted piece with a slash is an offer.
		for (std::size_t at = said.find('"', text.size() + 2); at != std::string::npos;) {
			const std::size_t end = said.find('"', at + 1);
			const std::string offer = said.substr(at + 1, end - at - 1);
			if (offer.find('/') != std::string::npos) {
				EXPECT_TRUE(parse_open_range(offer)) << offer;
				++offers;
			}
			at = said.find('"', end + 1);
		}
		EXPECT_GT(offers, 0U) << said;
	}
}

} // namespace
} // namespace ptrig
