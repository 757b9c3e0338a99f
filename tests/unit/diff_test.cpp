// What changes between two rulesets, as `apply` prints it.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "loader/compile.h"
#include "tests/unit/samples.h"

namespace ptrig {
namespace {

/// "+name", "-name", "~name key key" and a final "!" where leases end.
std::vector<std::string> diff(const std::vector<Rule> &before, const std::vector<Rule> &after) {
	std::vector<std::string> out;
	for (const RuleDiff &d : diff_rules(before, after)) {
		if (d.kind == RuleDiff::Kind::kChange)
			out.push_back(
				fmt::format("~{} {}{}", d.name, fmt::join(d.keys, " "), d.keeps_leases ? "" : " !"));
		else
			out.push_back((d.kind == RuleDiff::Kind::kAdd ? "+" : "-") + d.name);
	}
	return out;
}
using Lines = std::vector<std::string>;

TEST(Diff, AddedChangedAndRemovedInTheOrderOfTheNewFile) {
	const Rule a = test::rule("a", "1/tcp", "1001/tcp"), b = test::rule("b", "2/tcp", "1002/tcp");
	const Rule c = test::rule("c", "3/tcp", "1003/tcp"), d = test::rule("d", "4/tcp", "1004/tcp");
	Rule changed = b;
	changed.timeout = seconds(5);
	EXPECT_EQ(diff({a, b, c}, {d, changed, a}), (Lines{"+d", "~b timeout", "-c"}));
	EXPECT_EQ(diff({}, {b, a}), (Lines{"+b", "+a"}));
	EXPECT_EQ(diff({b, a}, {}), (Lines{"-b", "-a"}));
	EXPECT_EQ(diff({a, b}, {a, b}), Lines{});
	EXPECT_EQ(diff({}, {}), Lines{});
}

TEST(Diff, LeasesLiveOnAsLongAsTheOpenPortsStay) {
	const Rule before = test::rule("r", "1/tcp", "1001/tcp");
	const auto changed = [&](auto change) {
		Rule after = before;
		change(after);
		return diff({before}, {after}).at(0);
	};
	EXPECT_EQ(changed([](Rule &r) { r.trigger.push_back(test::ports("2/udp")); }), "~r trigger");
	EXPECT_EQ(changed([](Rule &r) { r.open.push_back(test::open_ports("2/udp")); }), "~r open !");
	EXPECT_EQ(changed([](Rule &r) { r.open[0].host_first = 7; }), "~r open !");
	EXPECT_EQ(changed([](Rule &r) { r.enabled = false; }), "~r enabled !");
	EXPECT_EQ(changed([](Rule &r) { r.timeout = seconds(3), r.log = false; }), "~r timeout log");
	EXPECT_EQ(changed([](Rule &r) {
			  r.remotes = {Remotes::Kind::kSet, {test::prefix("10.0.0.0/8")}};
		  }),
		  "~r remotes");
	// Leases per remote lie under other keys.
	EXPECT_EQ(changed([](Rule &r) { r.remotes.kind = Remotes::Kind::kContacted; }), "~r remotes !");
}

TEST(Diff, NamesEveryKeyThatDiffers) {
	const Rule before = test::rule("r", "1/tcp", "1001/tcp");
	const struct {
		const char *key;
		std::vector<std::string> values;
	} cases[] = {
		{"enabled", {"false"}},     {"description", {"x"}},
		{"trigger", {"2/tcp"}},     {"trigger_remotes", {"10.0.0.0/8"}},
		{"sources", {"routed"}},    {"open", {"1002/tcp"}},
		{"remotes", {"contacted"}}, {"timeout", {"1m"}},
		{"refresh", {"traffic"}},   {"conflict", {"takeover"}},
		{"yield_after", {"1m"}},    {"close", {"connection"}},
		{"confirm", {"true"}},      {"max_lifetime", {"1h"}},
		{"on_close", {"kill"}},     {"session_limit", {"5"}},
		{"cooldown", {"1s"}},       {"log", {"false"}},
	};
	ASSERT_EQ(std::size(cases), rule_keys().size());
	for (const auto &c : cases) {
		Rule after = before;
		ASSERT_TRUE(set_rule_key(after, c.key, c.values));
		const auto diffs = diff_rules({before}, {after});
		ASSERT_EQ(diffs.size(), 1U) << c.key;
		EXPECT_EQ(diffs[0].keys, std::vector<std::string>{c.key});
	}
}

TEST(Diff, IsEmptyIfAndOnlyIfNothingChanged) {
	for (unsigned seed = 0; seed < 50; ++seed) {
		const Config a = test::RandomConfig(seed).config(5), b = test::RandomConfig(seed + 1000).config(5);
		EXPECT_TRUE(diff_rules(a.rules, a.rules).empty());
		for (const RuleDiff &d : diff_rules(a.rules, b.rules))
			EXPECT_EQ(d.keys.empty(), d.kind != RuleDiff::Kind::kChange);
	}
}

} // namespace
} // namespace ptrig
