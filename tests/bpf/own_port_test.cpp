// The host's own packets from an open port: the port looks the same to every remote (RFC 4787 REQ-1).
#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kOut = kFromHost / kHostToRemote / kReply / "out", kIn = kFromRemote / kRemoteToWan / kKnock / "in";

/// From 5060 to 5060, which is also open.
Rule sip() {
	Rule rule = media();
	rule.open = {open(udp(5060))};
	return rule;
}

class OwnPort : public DatapathTest {
protected:
	/// The host's packet at LAN ingress, for `reason`, and what it then is at WAN egress; NO_CANDIDATE: nothing.
	enum ptrig_reason sends(const Packet &l4, enum ptrig_reason reason) {
		const std::uint32_t noted = usage().next_cand;
		Packet out;
		EXPECT_EQ(lan_in(kFromHost / kHostToRemote / l4, &out), reason);
		if (usage().next_cand == noted)
			return PTRIG_NO_CANDIDATE;
		return wan_out(Eth{} / l3(out), static_cast<std::uint16_t>(1 + noted % (PTRIG_CANDS - 1)));
	}
};

TEST_F(OwnPort, OpensASession) {
	granted({media()});
	Packet out;
	EXPECT_EQ(lan_in(kOut, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kWanToRemote / kReply / "out");
	const Pair pair = session();
	EXPECT_FALSE(pair.halfopen);
	EXPECT_EQ(pair.lan.state, PTRIG_SESSION_ESTABLISHED);
	EXPECT_TRUE(pair.lan.flags & PTRIG_SESSION_OWN);
	EXPECT_EQ(pair.lan.packets, 1U);
	EXPECT_EQ(lease("media")->sessions, 1U);
	EXPECT_EQ(lan_in(kOut, &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, kToRemote / kWanToRemote / kReply / "out");
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_FORWARDED);
	EXPECT_EQ(l3(out), kRemoteToHost / kKnock / "in");
}

TEST_F(OwnPort, TheSamePortToEveryRemote) {
	granted({media()});
	for (const std::string &remote : {kRemote, kRemote2, kFar}) {
		Packet out;
		EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = remote} / kReply, &out), PTRIG_OPENED);
		EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = remote, .ttl = 63} / kReply));
	}
}

TEST_F(OwnPort, NothingTowardsAddressesThatAreNoMachines) {
	granted({media()});
	for (const char *to : {"224.0.0.251", "239.1.2.3", "255.255.255.255", "127.0.0.1", "0.1.2.3", "240.0.0.1"})
		EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = to} / kReply), PTRIG_NOT_TRIGGER) << to;
	EXPECT_TRUE(sessions().empty());
}

TEST_F(OwnPort, Mapped) {
	Rule rule = media();
	rule.open = {open(udp(6000, 6010), 7000)};
	granted({rule});
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 7003, .dport = 9}, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (kWanToRemote / Udp{.sport = 6003, .dport = 9}));
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 6003, .dport = 9}), PTRIG_NOT_TRIGGER);
}

TEST_F(OwnPort, Tcp) {
	Rule rule = ident();
	rule.open = {open(test::tcp(50000, 50010))};
	granted({rule});
	const test::Tcp syn{.sport = 50000, .dport = 9}, ack{.sport = 50000, .dport = 9, .flags = kAck},
		answer{.sport = 9, .dport = 50000, .flags = kSyn | kAck};
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / ack), PTRIG_NOT_TRIGGER) << "begins with a SYN";
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / syn, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kWanToRemote / syn);
	EXPECT_EQ(session().lan.state, PTRIG_SESSION_TRANSITORY);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / answer), PTRIG_FORWARDED);
	EXPECT_EQ(session().lan.state, PTRIG_SESSION_TRANSITORY);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / ack), PTRIG_FORWARDED);
	EXPECT_EQ(session().lan.state, PTRIG_SESSION_ESTABLISHED);
}

TEST_F(OwnPort, NotWithoutALiveLeaseOfThisHost) {
	apply({media()});
	EXPECT_EQ(lan_in(kOut), PTRIG_NOT_TRIGGER);
	ASSERT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(lan_in(kFromHost2 / kHostToRemote / kReply), PTRIG_NOT_TRIGGER)
		<< "another machine under its address";
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 16391, .dport = 7000}), PTRIG_NOT_TRIGGER);
	age_lease("media", minutes(10));
	EXPECT_EQ(lan_in(kOut), PTRIG_NOT_TRIGGER);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(OwnPort, NotToElsewhereThanTheLeasesWan) {
	granted({media()});
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = "192.168.88.5"} / kReply), PTRIG_NOT_TRIGGER) << "lan1";
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kLanAddr} / kReply), PTRIG_NOT_TRIGGER) << "the gateway";
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kRemote1} / kReply), PTRIG_NOT_TRIGGER) << "wan1";
	wan_address("wan0", kWan, false);
	EXPECT_EQ(lan_in(kOut), PTRIG_NOT_TRIGGER) << "the address is gone";
	EXPECT_TRUE(sessions().empty());
}

TEST_F(OwnPort, RemotesThatMayNotComeInAreLeftToMasquerade) {
	config_.gateway.deny_remotes = {prefix(kRemote2)};
	Rule rule = media();
	rule.remotes = {Remotes::Kind::kSet, {prefix("203.0.113.0", 24)}};
	granted({rule});
	EXPECT_EQ(lan_in(kOut), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kRemote2} / kReply), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kFar} / kReply), PTRIG_NOT_TRIGGER);
}

TEST_F(OwnPort, OfAContactedLeaseToItsRemoteOnly) {
	Rule rule = media();
	rule.remotes.kind = Remotes::Kind::kContacted;
	granted({rule});
	EXPECT_EQ(lan_in(kOut), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kRemote2} / kReply), PTRIG_NOT_TRIGGER);
}

TEST_F(OwnPort, AtALimitThePacketIsMasqueraded) {
	Rule rule = media();
	rule.session_limit = 1;
	granted({rule});
	EXPECT_EQ(lan_in(kOut), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kRemote2} / kReply), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(lease("media")->sessions, 1U);
}

TEST_F(OwnPort, TableFull) {
	use({.sessions = 1});
	granted({media()});
	EXPECT_EQ(lan_in(kOut), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kRemote2} / kReply), PTRIG_NOT_TRIGGER);
}

TEST_F(OwnPort, TheTriggerPortIsATriggerStill) {
	granted({sip()});
	age_lease("media", minutes(5));
	const auto before = lease("media")->info.refreshed_ns;
	EXPECT_EQ(sends(kInvite, PTRIG_OPENED), PTRIG_REFRESHED);
	EXPECT_TRUE(is_later(lease("media")->info.refreshed_ns, before));
	EXPECT_EQ(sends(kInvite, PTRIG_FORWARDED), PTRIG_NO_CANDIDATE) << "once a second is enough";
	age_lease("media", minutes(5));
	look_due();
	EXPECT_EQ(sends(kInvite, PTRIG_FORWARDED), PTRIG_REFRESHED);
	EXPECT_TRUE(is_later(lease("media")->info.refreshed_ns, before));
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kInvite), PTRIG_FORWARDED);
}

TEST_F(OwnPort, TheTriggerPortGrantsAgain) {
	granted({sip()});
	EXPECT_EQ(sends(kInvite, PTRIG_OPENED), PTRIG_NO_CANDIDATE) << "triggered a moment ago";
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}).leases, 1U);
	const auto ended = lease("media")->info.id;
	look_due();
	EXPECT_EQ(sends(kInvite, PTRIG_FORWARDED), PTRIG_GRANTED) << "its session goes on, and so does its port";
	EXPECT_NE(lease("media")->info.id, ended);
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kFar, .dst = kWan} / kInvite), PTRIG_OPENED);
}

/// From 16384 to 7000, a trigger of the other rule. The forward chain, which might drop it, has not been asked.
TEST_F(OwnPort, AnotherRulesTriggerRefreshesButDoesNotGrant) {
	Rule other = ident();
	other.trigger = {udp(7000)};
	granted({media(), other});
	EXPECT_EQ(sends(kReply, PTRIG_OPENED), PTRIG_NO_CANDIDATE);
	look_due();
	EXPECT_EQ(sends(kReply, PTRIG_FORWARDED), PTRIG_NO_CANDIDATE);
	EXPECT_FALSE(lease("ident"));
	ASSERT_EQ(trigger(kA, Udp{.sport = 7001, .dport = 7000}), PTRIG_GRANTED);
	age_lease("ident", minutes(5));
	const auto before = lease("ident")->info.refreshed_ns;
	look_due();
	EXPECT_EQ(sends(kReply, PTRIG_FORWARDED), PTRIG_REFRESHED);
	EXPECT_TRUE(is_later(lease("ident")->info.refreshed_ns, before));
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .rule = rule_id("ident"), .reason = PTRIG_CLOSED}).leases, 1U);
	look_due();
	EXPECT_EQ(sends(kReply, PTRIG_FORWARDED), PTRIG_NO_CANDIDATE);
	EXPECT_NE(lease("ident")->info.state, PTRIG_LEASE_LIVE);
}

TEST_F(OwnPort, ATriggerOfItsOwnRuleGrantsTheOthersToo) {
	Rule other = ident();
	other.trigger = sip().trigger;
	granted({sip()});
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kInvite), PTRIG_OPENED);
	apply({sip(), other});
	look_due();
	age_lease("media", minutes(1));
	EXPECT_EQ(sends(kInvite, PTRIG_FORWARDED), PTRIG_REFRESHED) << "of the first rule";
	ASSERT_TRUE(lease("ident"));
	EXPECT_EQ(lease("ident")->info.state, PTRIG_LEASE_LIVE);
	EXPECT_EQ(lease("ident")->info.host, be(kHost));
}

TEST_F(OwnPort, TheLeaseStaysAtTheWanOfItsHostsNewFlows) {
	granted({sip()});
	ASSERT_EQ(lan_in(kFromHost / kHostToRemote / kInvite), PTRIG_OPENED);
	age_lease("media", minutes(1));
	ASSERT_EQ(trigger(kA, Udp{.sport = 4001, .dport = 5060}, kRemote, {.wan = "wan1", .wan_address = kWan1}),
		  PTRIG_REFRESHED);
	age_lease("media", minutes(1));
	const auto before = lease("media")->info.refreshed_ns;
	look_due();
	EXPECT_EQ(sends(kInvite, PTRIG_FORWARDED), PTRIG_REFRESHED) << "by the session's WAN, which is the first";
	EXPECT_TRUE(is_later(lease("media")->info.refreshed_ns, before));
	EXPECT_EQ(lease("media")->info.wan, be(kWan1));
	EXPECT_EQ(run(Hook::kWanIn, "wan1",
		      kFromRemote1 / Ip4{.src = kFar, .dst = kWan1} / Udp{.sport = 9000, .dport = 5060}),
		  PTRIG_OPENED);
}

TEST_F(OwnPort, WhatTheKernelCutsApartOrPutsTogetherIsATriggerToo) {
	granted({sip()});
	ASSERT_EQ(lan_in(kFromHost / kHostToRemote / kInvite), PTRIG_OPENED);
	const Packet first = kFromHost / Ip4{.src = kHost, .dst = kRemote, .df = false, .mf = true} /
			     (Udp{.sport = 5060, .dport = 5060, .length = 4008} / Fill{1472});
	const Packet big = kFromHost / Ip4{.src = kHost, .dst = kRemote, .df = false} /
			   (Udp{.sport = 5060, .dport = 5060} / Fill{1473});
	for (const Packet &packet : {first, big}) {
		look_due();
		age_lease("media", minutes(1));
		const std::uint32_t noted = usage().next_cand;
		EXPECT_EQ(lan_in(packet), PTRIG_FRAGMENT_PASSED);
		EXPECT_EQ(usage().next_cand, noted + 1);
	}
}

/// Or whoever gets in by one rule's port would open another rule's by the port that it comes from.
TEST_F(OwnPort, NotInASessionThatTheRemoteHasBegun) {
	Rule other = ident();
	other.trigger = {udp(7000)};
	granted({media(), other});
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_EQ(sends(kReply, PTRIG_ESTABLISHED), PTRIG_NO_CANDIDATE);
	look_due();
	EXPECT_EQ(sends(kReply, PTRIG_FORWARDED), PTRIG_NO_CANDIDATE);
	EXPECT_FALSE(lease("ident"));
}

TEST_F(OwnPort, TtlAndMtu) {
	granted({media()});
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kRemote, .ttl = 1} / kReply), PTRIG_TTL_EXPIRED);
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kRemote2} / kReply / Fill{1473}), PTRIG_TOO_BIG);
}

} // namespace
} // namespace ptrig::test
