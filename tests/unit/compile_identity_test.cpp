// Which rule gets which slot and id: leases hang on ids, so a rule that stays keeps its own and nobody
// ever gets one that another had (B37: the first trigger modules lost every lease at any change).
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <set>

#include "loader/compile.h"
#include "tests/unit/samples.h"

namespace ptrig {
namespace {

constexpr std::uint32_t id(std::uint32_t counter, std::uint32_t slot) {
	return counter << 16 | slot;
}

class Identity : public testing::Test {
protected:
	Identity() : config_(test::config_of({})) {}

	/// Compiles `rules` as the successor of what was compiled before.
	const Tables &next(std::vector<Rule> rules) {
		config_.rules = std::move(rules);
		CompileInput input;
		input.config = &config_;
		input.previous = tables_.identities;
		input.slot_counters = counters_;
		auto tables = compile(input);
		EXPECT_TRUE(tables) << (tables ? "" : tables.error().what);
		tables_ = std::move(*tables);
		for (const auto &[name, identity] : tables_.identities) {
			const std::size_t slot = identity.id & 0xFFFF;
			counters_.resize(std::max(counters_.size(), slot + 1));
			counters_[slot] = identity.id >> 16;
		}
		return tables_;
	}
	std::uint32_t id_of(const std::string &name) const { return tables_.identities.at(name).id; }

	Config config_;
	Tables tables_;
	std::vector<std::uint32_t> counters_;
};

TEST_F(Identity, AFreshRulesetCountsFromOne) {
	const Tables &t = next({test::rule("a", "1/tcp", "1001/tcp"), test::rule("b", "2/tcp", "1002/tcp")});
	EXPECT_EQ(id_of("a"), id(1, 0));
	EXPECT_EQ(id_of("b"), id(1, 1));
	EXPECT_EQ(t.rules.size(), config_.gateway.max_rules);
	EXPECT_EQ(t.rules[0].id, id(1, 0));
	EXPECT_STREQ(t.rules[1].name, "b");
	EXPECT_EQ(t.rules[2].id, 0U);
	EXPECT_EQ(t.identities.at("a").open, (std::vector<OpenRange>{test::open_ports("1001/tcp")}));
}

TEST_F(Identity, SameNameAndOpenPortsKeepTheId) {
	Rule a = test::rule("a", "1/tcp", "1001/tcp"), b = test::rule("b", "2/tcp", "1002/tcp");
	a.open.push_back(test::open_ports("2000-2010=3000/udp"));
	next({a, b});
	// All else may change, and the order in the file and of the open ports too.
	Rule other = a;
	other.trigger = {test::ports("99/udp")};
	other.timeout = seconds(5);
	other.remotes = {Remotes::Kind::kSet, {Prefix{Ip4{0xC6336400}, 24}}};
	std::swap(other.open[0], other.open[1]);
	next({b, other});
	EXPECT_EQ(id_of("a"), id(1, 0));
	EXPECT_EQ(id_of("b"), id(1, 1));
}

TEST_F(Identity, OtherOpenPortsGetANewId) {
	const Rule a = test::rule("a", "1/tcp", "1001/tcp");
	next({a});
	for (const char *open : {"1001-1002/tcp", "1001/udp", "1001=5/tcp", "1001/tcp+udp"}) {
		const std::uint32_t before = id_of("a");
		next({test::rule("a", "1/tcp", open)});
		EXPECT_NE(id_of("a"), before) << open;
		EXPECT_GT(id_of("a") >> 16, before >> 16);
	}
}

TEST_F(Identity, AnotherNameGetsANewId) {
	next({test::rule("a", "1/tcp", "1001/tcp")});
	next({test::rule("b", "1/tcp", "1001/tcp")});
	EXPECT_EQ(id_of("b"), id(2, 0));
	EXPECT_FALSE(tables_.identities.contains("a"));
}

TEST_F(Identity, ARuleThatComesBackDoesNotGetItsOldId) {
	const Rule a = test::rule("a", "1/tcp", "1001/tcp");
	next({a});
	next({});
	next({a});
	EXPECT_EQ(id_of("a"), id(2, 0));
}

TEST_F(Identity, NewRulesTakeFreeSlotsNotThoseOfRulesThatStay) {
	next({test::rule("a", "1/tcp", "1001/tcp"), test::rule("b", "2/tcp", "1002/tcp"),
	      test::rule("c", "3/tcp", "1003/tcp")});
	next({test::rule("x", "1/tcp", "1004/tcp"), test::rule("c", "3/tcp", "1003/tcp"),
	      test::rule("y", "1/tcp", "1005/tcp"), test::rule("z", "1/tcp", "1006/tcp")});
	EXPECT_EQ(id_of("c"), id(1, 2));
	EXPECT_EQ(id_of("x"), id(2, 0));
	EXPECT_EQ(id_of("y"), id(2, 1));
	EXPECT_EQ(id_of("z"), id(1, 3));
}

TEST_F(Identity, DisabledRulesKeepTheirsButHaveNoRecord) {
	Rule a = test::rule("a", "1/tcp", "1001/tcp");
	next({a, test::rule("b", "2/tcp", "1002/tcp")});
	a.enabled = false;
	EXPECT_EQ(next({a, test::rule("b", "2/tcp", "1002/tcp")}).rules[0].id, 0U);
	EXPECT_EQ(id_of("a"), id(1, 0));
	next({a, test::rule("b", "2/tcp", "1002/tcp"), test::rule("c", "3/tcp", "1003/tcp")});
	EXPECT_EQ(id_of("c"), id(1, 2)) << "the slot of a disabled rule is taken";
	a.enabled = true;
	EXPECT_EQ(next({a, test::rule("b", "2/tcp", "1002/tcp")}).rules[0].id, id(1, 0));
}

TEST_F(Identity, LeasesOfAnotherKindAreNotKept) {
	Rule rule = test::rule("a", "1/tcp", "1001/tcp");
	next({rule});
	rule.remotes.kind = Remotes::Kind::kContacted;
	next({rule});
	EXPECT_EQ(id_of("a"), id(2, 0));
	next({rule});
	EXPECT_EQ(id_of("a"), id(2, 0));
}

TEST_F(Identity, CountersWrapWithoutZero) {
	counters_ = {65534, 65535};
	next({test::rule("a", "1/tcp", "1001/tcp"), test::rule("b", "2/tcp", "1002/tcp")});
	EXPECT_EQ(id_of("a"), id(65535, 0));
	EXPECT_EQ(id_of("b"), id(1, 1));
	next({test::rule("a", "1/tcp", "2001/tcp")});
	EXPECT_EQ(id_of("a"), id(1, 0));
}

TEST_F(Identity, WithoutCountersALiveRulesIdIsStillNotGivenAgain) {
	next({test::rule("a", "1/tcp", "1001/tcp")});
	counters_.clear();
	next({test::rule("b", "1/tcp", "1001/tcp")});
	EXPECT_EQ(id_of("b"), id(2, 0));
}

TEST_F(Identity, AnIdBeyondFewerRulesIsGivenUp) {
	next({test::rule("a", "1/tcp", "1001/tcp"), test::rule("b", "2/tcp", "1002/tcp")});
	config_.gateway.max_rules = 1;
	next({test::rule("b", "2/tcp", "1002/tcp")});
	EXPECT_EQ(id_of("b"), id(2, 0));
	EXPECT_EQ(tables_.rules.size(), 1U);
}

TEST_F(Identity, NoIdIsEverGivenTwice) {
	test::RandomConfig random(7);
	std::map<std::uint32_t, std::string> owner; ///< id to name and open ports, for ever
	config_.gateway.max_rules = 12;
	for (int round = 0; round < 300; ++round) {
		std::vector<Rule> rules;
		for (int name = 0; name < 12; ++name)
			if (random.number(0, 2) > 0)
				rules.push_back(
					test::rule(fmt::format("r{}", name), "1/tcp",
						   fmt::format("{}/tcp", 1000 + 10 * name + random.number(0, 1))));
		std::set<std::uint32_t> slots;
		// In this test a rule that went away is another one when it returns.
		std::map<std::string, std::uint32_t> before;
		for (const auto &[name, identity] : tables_.identities)
			before[name + to_string(identity.open[0])] = identity.id;
		next(rules);
		for (const auto &[name, identity] : tables_.identities) {
			EXPECT_TRUE(slots.insert(identity.id & 0xFFFF).second) << "two rules in a slot";
			const std::string what = name + to_string(identity.open[0]);
			if (const auto kept = before.find(what); kept != before.end())
				EXPECT_EQ(identity.id, kept->second);
			else
				EXPECT_TRUE(owner.try_emplace(identity.id, what).second) << "id given again";
		}
	}
}

} // namespace
} // namespace ptrig
