// Two hosts want one rule: hold, takeover, yield_after, cooldown, and `contacted`, where both have it.
#include "tests/lab/lab.h"

namespace lab {

class Conflict : public Lab {};
LAB_STORIES(Conflict);

TEST_P(Conflict, SecondHostIsRefusedAndDoesNotExtend) {
	up(game("timeout = '2s'"));
	trigger(lan1());
	const auto since = Clock::now();
	std::uint64_t tries = 0;
	EXPECT_TRUE(eventually(15s, [&] {
		trigger(lan2()); // its own packets pass as ever
		tries++;
		const Json rows = leases("game");
		return rows.empty() || rows.at(0).at("host") != host1();
	}));
	const auto held = Clock::now() - since;
	EXPECT_GE(held, 1800ms);
	EXPECT_LE(held, 3200ms) << "the second host's triggers extended the first one's lease";
	EXPECT_GT(tries, 3U);
	EXPECT_GT(refused("game", "held"), 0U);
	trigger(lan2());
	EXPECT_EQ(who_gets_udp(6000), "lan2");
}

TEST_P(Conflict, RuleListExplainsARefusal) {
	up(game());
	trigger(lan1());
	trigger(lan2(), {kRemote2, 4000});
	const Json row = rule_row("game");
	EXPECT_EQ(row.at("leases"), 1);
	EXPECT_EQ(row.at("triggers_seen"), 2);
	EXPECT_EQ(row.at("granted"), 1);
	EXPECT_EQ(row.at("refused").at("held"), 1);
	EXPECT_EQ(row.at("last_trigger").at("host"), host2());
	EXPECT_EQ(row.at("last_trigger").at("remote"), kRemote2);
	EXPECT_EQ(row.at("last_trigger").at("reason"), "held");
	EXPECT_LT(row.at("last_trigger").at("age_s"), 30.0);
}

TEST_P(Conflict, TakeoverAtOnce) {
	up(game("conflict = 'takeover'"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	trigger(lan2());
	EXPECT_EQ(who_gets_udp(6000), "lan2");
	EXPECT_EQ(leases("game").size(), 1U);
	EXPECT_EQ(leases("game").at(0).at("host"), host2());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Conflict, TakeoverKeepsOrKillsTheSessions) {
	up(game("conflict = 'takeover'") +
	   rule("cut", "4001/udp", "6100/udp", "conflict = 'takeover'\non_close = 'kill'"));
	trigger(lan1());
	trigger(lan1(), {kRemote1, 4001});
	const Fd kept = start_talk(lan1());
	const Fd cut = start_talk(lan1(), {kRemote1, 0}, 6100);
	trigger(lan2());
	trigger(lan2(), {kRemote1, 4001});
	EXPECT_TRUE(talk(kept, udp_on(lan1(), 6000)));
	EXPECT_TRUE(eventually(15s, [&] { return !talk(cut, udp_on(lan1(), 6100), {kWan, 6100}, 100ms); }));
	EXPECT_EQ(who_gets_udp(6100), "lan2");
}

TEST_P(Conflict, TakeoverEndsHalfOpenSessions) {
	up(game("conflict = 'takeover'"));
	trigger(lan1());
	const Endpoint remote{kRemote1, 5555};
	EXPECT_EQ(who_gets_udp(6000, remote), "lan1"); // never answered
	trigger(lan2());
	EXPECT_TRUE(eventually(15s, [&] { return who_gets_udp(6000, remote) == "lan2"; }));
}

TEST_P(Conflict, YieldAfterAnIdleHolder) {
	up(game("yield_after = '1s'"));
	trigger(lan1());
	const auto since = Clock::now();
	trigger(lan2());
	EXPECT_EQ(who_gets_udp(6000), "lan1") << "not idle yet";
	EXPECT_TRUE(eventually(15s, [&] {
		trigger(lan2());
		return leases("game").at(0).at("host") == host2();
	}));
	EXPECT_GE(Clock::now() - since, 800ms);
	EXPECT_EQ(who_gets_udp(6000), "lan2");
}

TEST_P(Conflict, CooldownKeepsAnotherHostOut) {
	up(game("cooldown = '2s'"));
	trigger(lan1());
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 0);
	const auto since = Clock::now();
	trigger(lan2());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_GT(refused("game", "cooldown"), 0U);
	EXPECT_EQ(leases("game").at(0).at("state"), "cooldown");
	EXPECT_TRUE(eventually(15s, [&] {
		trigger(lan2());
		return who_gets_udp(6000) == "lan2";
	}));
	EXPECT_GE(Clock::now() - since, 1800ms);
}

TEST_P(Conflict, CooldownAfterExpiryWithoutADaemon) {
	up(game("timeout = '1s'\ncooldown = '60s'"));
	trigger(lan1());
	expect_closed_between(Clock::now(), 700ms, 10s);
	trigger(lan2());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_GT(refused("game", "cooldown"), 0U);
}

TEST_P(Conflict, CooldownNeverHoldsTheSameHost) {
	up(game("cooldown = '60s'"));
	trigger(lan1());
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 0);
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Conflict, ContactedServesTwoHostsAtOnce) {
	up(game("remotes = 'contacted'"));
	trigger(lan1(), {kRemote1, 4000});
	trigger(lan2(), {kRemote2, 4000});
	EXPECT_EQ(who_gets_udp(6000, {kRemote1, 0}), "lan1");
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "lan2");
	EXPECT_EQ(who_gets_udp(6000, {kRemote3, 0}), "gateway");
	EXPECT_EQ(who_gets_tcp(6000, {kRemote1, 0}), "lan1");
	EXPECT_EQ(who_gets_tcp(6000, {kRemote2, 0}), "lan2");
	EXPECT_EQ(who_gets_tcp(6000, {kRemote3, 0}), "gateway");
	Json rows = leases("game");
	ASSERT_EQ(rows.size(), 2U);
	std::map<std::string, std::string> hosts;
	for (const Json &row : rows)
		hosts[row.at("remote")] = row.at("host");
	EXPECT_EQ(hosts, (std::map<std::string, std::string>{{kRemote1, host1()}, {kRemote2, host2()}}));
	trigger(lan2(), {kRemote1, 4000});
	EXPECT_EQ(who_gets_udp(6000, {kRemote1, 0}), "lan1") << "held towards that remote";
	const Output closed = ptrig({"lease", "close", "game", "--remote", kRemote1});
	EXPECT_EQ(closed.status, 0) << closed.err;
	EXPECT_EQ(who_gets_udp(6000, {kRemote1, 0}), "gateway");
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "lan2");
}

TEST_P(Conflict, TwoRulesOnOneTriggerBothOpen) {
	up(game() + rule("other", "4000/udp", "6100/udp"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(who_gets_udp(6100), "lan1");
}

TEST_P(Conflict, OverlappingOpenPortsGoToTheFirstRuleWithALease) {
	up(game() + rule("second", "4001/udp", "6000/udp"));
	trigger(lan2(), {kRemote1, 4001});
	EXPECT_EQ(who_gets_udp(6000), "lan2");
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1") << "file order decides";
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 0);
	EXPECT_EQ(who_gets_udp(6000), "lan2");
}

} // namespace lab
