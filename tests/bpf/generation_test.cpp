// Two generations of tables: one store switches which rules, lists, prefixes and settings packets see.
#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kIn = kFromRemote / kRemoteToWan / kKnock / "in", kOut = kFromHost / kHostToRemote / kReply / "out";

class Generation : public DatapathTest {};

TEST_F(Generation, TheIdleOneIsNotSeen) {
	apply({media()}, 0);
	apply({ident()}, 1, false);
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, Tcp{.dport = 6667}), PTRIG_NOT_TRIGGER);
	activate(1);
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(trigger(kA, Tcp{.dport = 6667}), PTRIG_GRANTED);
	EXPECT_EQ(wan_in(kIn), PTRIG_NOT_OPEN);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.dport = 113}), PTRIG_OPENED);
}

TEST_F(Generation, LeasesAndSessionsOfARuleThatStaysLiveOn) {
	granted({ident(), media()});
	ASSERT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
	ASSERT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_OPENED);
	const auto before = rule_id("media");
	Rule changed = media();
	changed.timeout = minutes(20);
	changed.trigger = {udp(5061)};
	apply({changed}, 1);
	EXPECT_EQ(rule_id("media"), before);
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_HALF_OPEN);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7002, .dport = 16384}), PTRIG_OPENED);
	age_lease("media", minutes(15));
	EXPECT_EQ(trigger(kA, Udp{.dport = 5061}), PTRIG_REFRESHED) << "the new timeout, the new trigger";
}

TEST_F(Generation, OtherOpenPortsAreAnotherRule) {
	granted({media()});
	const auto before = rule_id("media");
	Rule changed = media();
	changed.open = {open(udp(16384, 16391))};
	apply({changed}, 1);
	EXPECT_NE(rule_id("media"), before);
	EXPECT_EQ(wan_in(kIn), PTRIG_NO_LEASE);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
}

TEST_F(Generation, SetsOfPrefixesAreTheirOwn) {
	Rule before = media(), after = media();
	before.trigger_remotes = {prefix(kRemote)};
	after.trigger_remotes = {prefix(kRemote2)};
	apply({before}, 0);
	apply({after}, 1, false);
	EXPECT_EQ(trigger(kA, kInvite, kRemote2), PTRIG_TRIGGER_REMOTE);
	activate(1);
	EXPECT_EQ(trigger(kA, kInvite, kRemote), PTRIG_TRIGGER_REMOTE);
	EXPECT_EQ(trigger(kA, kInvite, kRemote2), PTRIG_GRANTED);
}

TEST_F(Generation, ListsAreTheirOwn) {
	Rule one = media(), two = media(), three = media();
	two.name = "two", two.open = {open(tcp(2))};
	three.name = "three", three.open = {open(tcp(3))};
	apply({one, two}, 0);
	apply({three, one}, 1, false);
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_TRUE(lease("media"));
	EXPECT_FALSE(lease("three"));
	activate(1);
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED) << "three's";
	EXPECT_TRUE(lease("three"));
}

TEST_F(Generation, LimitsAndTimeoutsAreTheirOwn) {
	config_.limits.sessions_per_host = 1;
	granted({media()});
	ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_HOST_SESSIONS);
	config_.limits.sessions_per_host = 2;
	config_.timeouts.halfopen = seconds(5);
	apply({media()}, 1);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_OPENED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).halfopen, 0U);
	config_.timeouts.halfopen = seconds(0);
	apply({media()}, 0);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).halfopen, 2U);
}

TEST_F(Generation, BetweenLanIngressAndWanEgress) {
	apply({media()}, 0);
	apply({ident()}, 1, false);
	ASSERT_EQ(run(Hook::kLanIn, "lan0", kFromHost / kHostToRemote / kInvite), PTRIG_CANDIDATE);
	activate(1);
	EXPECT_EQ(wan_out(kToRemote / kWanToRemote / kInvite), PTRIG_NO_CANDIDATE);
	EXPECT_EQ(usage().leases, 0U);
}

TEST_F(Generation, NoRulesAtAll) {
	apply({});
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(wan_in(kIn), PTRIG_NOT_OPEN);
	EXPECT_EQ(lan_in(kOut), PTRIG_NOT_TRIGGER);
}

} // namespace
} // namespace ptrig::test
