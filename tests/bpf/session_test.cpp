// Established sessions: both directions, the look once a second and what it decides, refresh, kill, and that
// nothing which arrives from the WAN keeps anything alive.
#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kIn = kFromRemote / kRemoteToWan / kKnock / "in", kOut = kFromHost / kHostToRemote / kReply / "out";

class Session : public DatapathTest {
protected:
	/// A holds the lease of the first rule, and has an established UDP session with the remote.
	void established(const std::vector<Rule> &rules) {
		granted(rules);
		ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
		ASSERT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	}
};

TEST_F(Session, BothDirectionsWithTheCachedHop) {
	established({media()});
	Packet out;
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_FORWARDED); // the WAN side learns its hop
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, kToHost / kRemoteToHost / kKnock / "in");
	EXPECT_EQ(lan_in(kOut, &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, kToRemote / kWanToRemote / kReply / "out");
}

TEST_F(Session, NobodyElseSendsInTheHostsName) {
	established({media()});
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(lan_in(Eth{.src = kStrangerMac, .dst = kLanMac} / kHostToRemote / kReply / "out"),
			  PTRIG_SPOOFED);
		EXPECT_EQ(run(Hook::kLanIn, "lan1", Eth{.src = kHostMac, .dst = kLan1Mac} / kHostToRemote / kReply),
			  PTRIG_SPOOFED);
		look_due();
	}
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
}

TEST_F(Session, ByARouter) {
	granted({media()});
	Packet out;
	const Ip4 far_to_wan{.src = kFar, .dst = kWan}, host_to_far{.src = kHost, .dst = kFar};
	EXPECT_EQ(wan_in(Eth{.src = kRouterMac, .dst = kWanMac} / far_to_wan / kKnock), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost / host_to_far / kReply), PTRIG_ESTABLISHED);
	EXPECT_EQ(lan_in(kFromHost / host_to_far / kReply, &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, (Eth{.src = kWanMac, .dst = kRouterMac} / Ip4{.src = kWan, .dst = kFar, .ttl = 63} / kReply));
}

TEST_F(Session, AHostBehindASwitch) {
	Rule rule = media();
	rule.sources.kind = Sources::Kind::kRouted;
	apply({rule});
	ASSERT_EQ(trigger({kRouted, kSwitchMac}, kInvite), PTRIG_GRANTED);
	Packet out;
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromSwitch / Ip4{.src = kRouted, .dst = kRemote} / kReply), PTRIG_ESTABLISHED);
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, (Eth{.src = kLanMac, .dst = kSwitchMac} / Ip4{.src = kRemote, .dst = kRouted, .ttl = 63} /
			kKnock / "in"));
}

TEST_F(Session, Counts) {
	established({media()});
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	const Pair pair = session();
	EXPECT_EQ(pair.wan.packets, 4U);
	EXPECT_EQ(pair.wan.bytes, 4U * 30);
	EXPECT_EQ(pair.lan.packets, 2U);
	EXPECT_EQ(pair.lan.bytes, 2U * 31);
	admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS});
	EXPECT_EQ(lease("media")->packets, 6U) << "of sessions that have ended";
	EXPECT_EQ(lease("media")->bytes, 4U * 30 + 2 * 31);
}

TEST_F(Session, GoesOnWhenTheLeaseHasExpired) {
	established({media()});
	age_lease("media", minutes(11));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	look_due();
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_NO_LEASE);
}

TEST_F(Session, GoesOnAtATakeover) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	established({rule});
	ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	look_due();
	Packet out;
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_FORWARDED);
	EXPECT_EQ(l3(out), kRemoteToHost / kKnock / "in") << "still A's";
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kHost2, .ttl = 63} / Udp{.sport = 7001, .dport = 16384}));
}

TEST_F(Session, EndsWhenIdle) {
	established({media()});
	age_session(minutes(5) - seconds(1));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	age_session(seconds(1));
	age_lease("media", minutes(11));
	EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(wan_in(kIn), PTRIG_NO_LEASE);
}

TEST_F(Session, EndedOneIsMadeAnewWhileTheLeaseLives) {
	established({media()});
	age_session(minutes(5));
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_TRUE(session().halfopen);
}

TEST_F(Session, TheHostComesBackTooLate) {
	established({media()});
	age_session(minutes(5));
	age_lease("media", minutes(11));
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Session, OnlyTheHostKeepsItAlive) {
	established({media()});
	age_session(minutes(4));
	const auto before = session().lan.seen_ns;
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	look_due();
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(session().lan.seen_ns, before - 1000000000) << "as look_due() left it";
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_TRUE(is_later(session().lan.seen_ns, before + 200000000000));
}

TEST_F(Session, TriggerPacketsAloneRefreshTheLease) {
	established({media()});
	age_lease("media", minutes(5));
	const auto before = lease("media")->info.refreshed_ns;
	look_due();
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(lease("media")->info.refreshed_ns, before);
}

TEST_F(Session, AnswersToARemoteRefreshNothing) {
	Rule rule = media();
	rule.refresh = Refresh::kTraffic;
	granted({rule});
	// The remote comes from the trigger port, its own choice.
	const Udp knock{.sport = 5060, .dport = 16384}, reply{.sport = 16384, .dport = 5060};
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / knock), PTRIG_OPENED);
	age_lease("media", minutes(5));
	const auto before = lease("media")->info.refreshed_ns;
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / knock), PTRIG_HALF_OPEN);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / reply), PTRIG_ESTABLISHED);
	look_due();
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / knock), PTRIG_FORWARDED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / reply), PTRIG_FORWARDED);
	EXPECT_EQ(lease("media")->info.refreshed_ns, before);
}

TEST_F(Session, TrafficOfAnOldSessionRefreshesNoOtherHostsLease) {
	Rule rule = media();
	rule.refresh = Refresh::kTraffic;
	rule.conflict = Conflict::kTakeover;
	established({rule});
	ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	age_lease("media", minutes(5));
	const auto before = lease("media")->info.refreshed_ns;
	look_due();
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(lease("media")->info.refreshed_ns, before);
}

TEST_F(Session, TheOldAddressOfAMovedHostRefreshesNothing) {
	Rule rule = media();
	rule.refresh = Refresh::kTraffic;
	established({rule});
	knows(kStranger, kHostMac);
	ASSERT_EQ(trigger({kStranger, kHostMac}, kInvite), PTRIG_MOVED);
	age_lease("media", minutes(5));
	const auto before = lease("media")->info.refreshed_ns;
	look_due();
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED) << "the session is the old address's still";
	EXPECT_EQ(lease("media")->info.refreshed_ns, before);
}

TEST_F(Session, KilledWithItsLease) {
	Rule rule = media();
	rule.on_close = OnClose::kKill;
	established({rule});
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	age_lease("media", minutes(11));
	look_due();
	EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Session, KilledAtATakeover) {
	Rule rule = media();
	rule.on_close = OnClose::kKill;
	rule.conflict = Conflict::kTakeover;
	established({rule});
	ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	look_due();
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Session, KillIsDecidedByTheRuleAsItIsNow) {
	Rule rule = media();
	rule.on_close = OnClose::kKill;
	established({rule});
	apply({media()}, 1); // keep
	look_due();
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	age_lease("media", minutes(11));
	look_due();
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	apply({rule}, 0); // kill
	look_due();
	EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED);
}

TEST_F(Session, MaxLifetimeWithKill) {
	Rule rule = media();
	rule.on_close = OnClose::kKill;
	rule.max_lifetime = minutes(30);
	established({rule});
	for (int i = 0; i < 6; i++) {
		age_lease("media", minutes(5));
		look_due();
		if (i < 5) {
			EXPECT_EQ(trigger(kA, kInvite), PTRIG_REFRESHED);
			EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
		}
	}
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED) << "however busy";
}

TEST_F(Session, RuleGone) {
	Rule keep = media(), kill = media();
	kill.name = "kill";
	kill.on_close = OnClose::kKill;
	kill.trigger = {udp(5070)};
	kill.open = {open(udp(2000))};
	established({keep, kill});
	ASSERT_EQ(trigger(kA, Udp{.dport = 5070}), PTRIG_GRANTED);
	const Udp in{.sport = 7000, .dport = 2000};
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / in), PTRIG_OPENED);
	ASSERT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 2000, .dport = 7000}), PTRIG_ESTABLISHED);
	apply({ident()}, 1);
	age_sessions(seconds(1));
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / in), PTRIG_SESSION_ENDED) << "on_close = kill";
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED) << "on_close = keep";
	EXPECT_EQ(sessions().size(), 1U);
}

TEST_F(Session, WanAddressGone) {
	established({media()});
	wan_address("wan0", kWan, false);
	look_due();
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

} // namespace
} // namespace ptrig::test
