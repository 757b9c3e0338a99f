// Which leases are behind those of an earlier rule: by ports, WAN address, remotes, and file order.
#include "loader/lease_behind.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "tests/unit/samples.h"

namespace ptrig {
namespace {

LeaseView lease_of(const std::string &rule, const char *remote = nullptr, const char *wan = "203.0.113.2") {
	LeaseView lease;
	lease.rule = rule;
	lease.state = "live";
	lease.wan = *parse_ip4(wan);
	if (remote)
		lease.remote = *parse_ip4(remote);
	return lease;
}

Rule rule(const std::string &name, const char *open, Remotes remotes = {}) {
	Rule out = test::rule(name, "21/tcp", open);
	out.remotes = std::move(remotes);
	return out;
}
Remotes set(const char *prefix) {
	return {Remotes::Kind::kSet, {test::prefix(prefix)}};
}
const Remotes kContacted{Remotes::Kind::kContacted, {}};

/// What the last of the leases is behind: "all of a, b", "part of a", "".
std::string last(std::vector<LeaseView> leases, const std::vector<Rule> &rules) {
	mark_behind(leases, rules);
	for (std::size_t i = 0; i + 1 < leases.size(); ++i)
		EXPECT_TRUE(leases[i].behind.empty()) << leases[i].rule;
	const LeaseView &lease = leases.back();
	if (lease.behind.empty())
		return "";
	return fmt::format("{} {}", lease.behind_wholly ? "all of" : "part of", fmt::join(lease.behind, ", "));
}

TEST(LeaseBehind, TheEarlierRuleWithALiveLeaseTakesThePorts) {
	const std::vector<Rule> rules{rule("a", "1500-4999/udp"), rule("xbox", "3074/udp"), rule("z", "3000-5000/udp"),
				      rule("other", "3074/tcp")};
	EXPECT_EQ(last({lease_of("a"), lease_of("xbox")}, rules), "all of a");
	EXPECT_EQ(last({lease_of("a"), lease_of("z")}, rules), "part of a");
	EXPECT_EQ(last({lease_of("a"), lease_of("other")}, rules), "");
	EXPECT_EQ(last({lease_of("xbox")}, rules), "");
	// The order of the file, not that of the list.
	EXPECT_EQ(last({lease_of("xbox"), lease_of("a")}, {rules[1], rules[0]}), "part of xbox");
	LeaseView over = lease_of("a");
	over.state = "cooldown";
	EXPECT_EQ(last({over, lease_of("xbox")}, rules), "") << "one that has ended takes nothing";
	EXPECT_EQ(last({lease_of("a", nullptr, "203.0.113.9"), lease_of("xbox")}, rules), "") << "another WAN address";
}

TEST(LeaseBehind, SeveralRulesTogether) {
	const std::vector<Rule> rules{rule("a", "1000-1004/tcp"), rule("b", "1005-1009/tcp"),
				      rule("c", "1000-1009/tcp")};
	std::vector<LeaseView> leases{lease_of("c"), lease_of("a"), lease_of("b")};
	mark_behind(leases, rules);
	EXPECT_EQ(leases[0].behind, (std::vector<std::string>{"a", "b"}));
	EXPECT_TRUE(leases[0].behind_wholly);
	EXPECT_TRUE(leases[1].behind.empty() && leases[2].behind.empty());
}

TEST(LeaseBehind, OnlyWhereTheSameRemoteMayComeIn) {
	const auto pair = [](const Remotes &first, const char *first_remote, const Remotes &second,
			     const char *second_remote) {
		return last({lease_of("a", first_remote), lease_of("b", second_remote)},
			    {rule("a", "5000/udp", first), rule("b", "5000/udp", second)});
	};
	const char *here = "198.51.100.1", *there = "198.51.100.2";
	EXPECT_EQ(pair(kContacted, here, {}, nullptr), "part of a");
	EXPECT_EQ(pair(kContacted, here, kContacted, here), "all of a");
	EXPECT_EQ(pair(kContacted, here, kContacted, there), "");
	EXPECT_EQ(pair({}, nullptr, kContacted, there), "all of a");
	EXPECT_EQ(pair(set("198.51.100.0/31"), nullptr, kContacted, here), "all of a");
	EXPECT_EQ(pair(set("198.51.100.0/31"), nullptr, kContacted, there), "");
	EXPECT_EQ(pair(set("198.51.100.0/31"), nullptr, {}, nullptr), "part of a");
	EXPECT_EQ(pair(set("198.51.100.0/31"), nullptr, set("198.51.100.2/31"), nullptr), "");
	EXPECT_EQ(pair(set("198.51.100.0/24"), nullptr, set("198.51.100.2/31"), nullptr), "part of a");
	EXPECT_EQ(pair(set("198.51.100.0/24"), nullptr, set("198.51.100.0/24"), nullptr), "all of a");
	EXPECT_EQ(pair(kContacted, here, set("198.51.100.0/31"), nullptr), "part of a");
	EXPECT_EQ(pair(kContacted, there, set("198.51.100.0/31"), nullptr), "");
}

} // namespace
} // namespace ptrig
