// The text of addresses, prefixes, MAC addresses and rule names, and what a prefix contains.
#include <gtest/gtest.h>

#include "tests/unit/samples.h"

namespace ptrig {
namespace {

using test::prefix;

template <typename T> void expect_refusal(const Result<T> &result, std::string_view text, std::string_view says) {
	ASSERT_FALSE(result) << text;
	EXPECT_EQ(result.error().status, Status::kInput);
	EXPECT_NE(result.error().what.find(says), std::string::npos) << result.error().what;
}

TEST(Ip4, ReadsAndPrints) {
	for (const char *text : {"0.0.0.0", "203.0.113.10", "255.255.255.255"})
		EXPECT_EQ(to_string(*parse_ip4(text)), text);
	EXPECT_EQ(parse_ip4("203.0.113.10")->value, 0xCB00710AU);
	// Forms that inet_aton takes for something else.
	for (const char *text :
	     {"", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "0x1.2.3.4", "1.2.3.4 ", "1..3.4", "-1.2.3.4"})
		expect_refusal(parse_ip4(text), text, "not an IPv4 address");
	expect_refusal(parse_ip4("2001:db8::1"), "v6", "no IPv6");
}

TEST(Prefix, ReadsAndPrints) {
	for (const char *text : {"203.0.113.0/24", "0.0.0.0/0", "128.0.0.0/1", "10.1.2.3"})
		EXPECT_EQ(to_string(prefix(text)), text);
	EXPECT_EQ(prefix("10.1.2.3"), prefix("10.1.2.3/32"));
}

TEST(Prefix, RefusesWithTheRightSpelling) {
	const struct {
		const char *text, *says;
	} cases[] = {
		{"203.0.113.5/24", "write 203.0.113.0/24 for the whole prefix or 203.0.113.5 for the one address"},
		{"1.2.3.4/0", "write 0.0.0.0/0"},
		{"1.2.3.4/33", "0 to 32"},
		{"1.2.3.4/", "0 to 32"},
		{"1.2.3.4/08", "0 to 32"},
		{"1.2.3.0/255.255.255.0", "0 to 32"},
		{"1.2.3/8", "not an IPv4 prefix"},
		{"any", "\"any\" is a name, write an address"},
		{"stun.example.net", "\"stun.example.net\" is a name, write an address: names are not looked up"},
		{"stun.example.net/24", "is a name, write an address"},
		{"203.0.113.x", "is a name, write an address"},
		{"", "not an IPv4 prefix"},
		{"2001:db8::/32", "no IPv6"},
	};
	for (const auto &c : cases)
		expect_refusal(parse_prefix(c.text), c.text, c.says);
}

TEST(Prefix, ContainsAndOverlaps) {
	const auto address = [](const char *text) { return *parse_ip4(text); };
	EXPECT_TRUE(prefix("203.0.113.0/24").contains(address("203.0.113.255")));
	EXPECT_FALSE(prefix("203.0.113.0/24").contains(address("203.0.114.0")));
	EXPECT_TRUE(prefix("0.0.0.0/0").contains(address("255.1.2.3")));
	EXPECT_TRUE(prefix("10.0.0.1").contains(address("10.0.0.1")));
	EXPECT_FALSE(prefix("10.0.0.1").contains(address("10.0.0.0")));
	const struct {
		const char *a, *b;
		bool overlap;
	} cases[] = {
		{"10.0.0.0/8", "10.1.0.0/16", true}, {"10.0.0.0/8", "11.0.0.0/8", false},
		{"0.0.0.0/0", "1.2.3.4", true},      {"1.2.3.4", "1.2.3.4", true},
		{"1.2.3.4", "1.2.3.5", false},       {"192.168.0.0/17", "192.168.128.0/17", false},
	};
	for (const auto &c : cases) {
		EXPECT_EQ(prefix(c.a).overlaps(prefix(c.b)), c.overlap) << c.a << " " << c.b;
		EXPECT_EQ(prefix(c.b).overlaps(prefix(c.a)), c.overlap) << c.b << " " << c.a;
	}
}

TEST(Mac, ReadsAndPrints) {
	EXPECT_EQ(to_string(*parse_mac("02:00:5e:10:00:01")), "02:00:5e:10:00:01");
	EXPECT_EQ(to_string(*parse_mac("AA:BB:CC:DD:EE:F0")), "aa:bb:cc:dd:ee:f0");
	const struct {
		const char *text, *says;
	} cases[] = {
		{"AA-BB-CC-DD-EE-F0", "write aa:bb:cc:dd:ee:f0"},
		{"aabb.ccdd.eef0", "write aa:bb:cc:dd:ee:f0"},
		{"AABBCCDDEEF0", "write aa:bb:cc:dd:ee:f0"},
		{"1:2:3:4:5:6", "not a MAC address"},
		{"02:00:5e:10:00", "not a MAC address"},
		{"02:00:5e:10:00:01:02", "not a MAC address"},
		{"02:00:5e:10:00:0g", "not a MAC address"},
		{"01:00:5e:00:00:01", "group address"},
		{"ff:ff:ff:ff:ff:ff", "group address"},
		{"00:00:00:00:00:00", "belongs to no host"},
		{"", "not a MAC address"},
	};
	for (const auto &c : cases)
		expect_refusal(parse_mac(c.text), c.text, c.says);
}

TEST(MacSource, ReadsAndPrints) {
	for (const char *text : {"02:00:5e:10:00:01", "02:00:5e:10:00:01@br0", "02:00:5e:10:00:01@eth0.42",
				 "02:00:5e:10:00:01@a@b", "02:00:5e:10:00:01@fifteen-letters"})
		EXPECT_EQ(to_string(*parse_mac_source(text)), text);
	EXPECT_EQ(*parse_mac_source("AA:BB:CC:DD:EE:F0@br0"), MacSource(*parse_mac("aa:bb:cc:dd:ee:f0"), "br0"));
	const struct {
		const char *text, *about, *says;
	} cases[] = {
		{"02:00:5e:10:00:01@", "", "an interface's name is missing"},
		{"02:00:5e:10:00:01@sixteen-letters-", "sixteen-letters-", "longer than 15 characters"},
		{"02:00:5e:10:00:01@a/b", "a/b", "no interface can have this name"},
		{"02:00:5e:10:00:01@a b", "a b", "no interface can have this name"},
		{"AA-BB-CC-DD-EE-F0@br0", "AA-BB-CC-DD-EE-F0", "write aa:bb:cc:dd:ee:f0"},
		{"01:00:5e:00:00:01@br0", "01:00:5e:00:00:01", "group address"},
		{"@br0", "", "not a MAC address"},
	};
	for (const auto &c : cases)
		expect_refusal(parse_mac_source(c.text), c.about, c.says);
}

TEST(RuleName, IsCheckedForItsCharactersAndLength) {
	for (const char *name : {"a", "ftp-active", "A.b_c-9", "a-", "-", "_.", "0123456789012345678901234567890"})
		EXPECT_EQ(*parse_rule_name(name), name);
	expect_refusal(parse_rule_name(""), "", "a rule needs a name");
	expect_refusal(parse_rule_name("01234567890123456789012345678901"), "32", "32 characters are too many");
	// S16: what could be a path, an option's value or an escape sequence.
	for (const char *name : {"a b", "a/b", "a\n", "a\x1b[m", "é", "a,b", "a\"b", "*"})
		expect_refusal(parse_rule_name(name), name, "A-Z a-z 0-9 . _ -");
}

TEST(RuleName, AWrongOneIsAnsweredWithARightOne) {
	const struct {
		const char *name, *offer;
	} cases[] = {
		{"Battle.net", nullptr},
		{"MSN Gaming Zone", "MSN-Gaming-Zone"},
		{"PC-to-Phone: dial (UDP)", "PC-to-Phone-dial-UDP"},
		{".x", "x"},
		{"..a/../b", "a-..-b"},
		{"Fünf", "F-nf"},
		{"a,b", "a-b"},
		{"01234567890123456789012345678901", "0123456789012345678901234567890"},
		{"Final Fantasy XI (PlayStation 2, PC)", "Final-Fantasy-XI-PlayStation-2"},
		{"*", ""},
		{"...", ""},
	};
	for (const auto &c : cases) {
		const auto name = parse_rule_name(c.name);
		ASSERT_EQ(name.has_value(), c.offer == nullptr) << c.name;
		if (name)
			continue;
		const std::string end = std::string(": write \"") + c.offer + "\"";
		EXPECT_EQ(name.error().what.ends_with(end), *c.offer != '\0') << name.error().what;
		if (*c.offer != '\0') {
			EXPECT_EQ(parse_rule_name(c.offer).value_or(""), c.offer);
		}
	}
}

} // namespace
} // namespace ptrig
