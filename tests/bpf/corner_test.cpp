// Where two things meet: two WANs, two hosts, two WAN ports of one host port, the wrong side of the gateway.
#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kIn = kFromRemote / kRemoteToWan / kKnock / "in", kOut = kFromHost / kHostToRemote / kReply / "out";
const Way kSecondWan{.wan = "wan1", .wan_address = kWan1};

class Corner : public DatapathTest {};

TEST_F(Corner, NothingThatArrivesAtTheWanTriggers) {
	apply({media()});
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kInvite), PTRIG_NOT_OPEN);
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kHost, .dst = kRemote} / kInvite), PTRIG_NOT_OPEN)
		<< "a host's address";
	EXPECT_EQ(wan_out(kToRemote / kWanToRemote / kInvite), PTRIG_NO_CANDIDATE);
	EXPECT_EQ(usage().leases, 0U);
}

TEST_F(Corner, ALeaseIsOfTheAddressByWhichItsTriggerLeft) {
	granted({media()});
	EXPECT_EQ(trigger(kA, kInvite, kRemote1, kSecondWan), PTRIG_GRANTED) << "another WAN, another lease";
	EXPECT_EQ(trigger(kB, kInvite, kRemote, {.wan_address = kWanSecond}), PTRIG_GRANTED)
		<< "hosts behind different addresses hold one rule side by side";
	EXPECT_EQ(lease("media")->info.host, be(kHost));
	EXPECT_EQ(lease("media", "", kWan1)->info.wan_ifindex, ifindex("wan1"));
	EXPECT_EQ(lease("media", "", kWanSecond)->info.host, be(kHost2));
	Packet out;
	EXPECT_EQ(from_wan("wan1", kFromRemote1 / Ip4{.src = kRemote1, .dst = kWan1} / kKnock, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote1, .dst = kHost, .ttl = 63} / kKnock));
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = kWanSecond} / kKnock, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kHost2, .ttl = 63} / kKnock));
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kRemoteToHost / kKnock / "in");
}

TEST_F(Corner, RepliesLeaveByTheWanTheyCameInOn) {
	apply({media()});
	ASSERT_EQ(trigger(kA, kInvite, kRemote1, {.wan = "wan1", .wan_address = kWan1}), PTRIG_GRANTED);
	const Packet in = kFromRemote1 / Ip4{.src = kFar, .dst = kWan1} / kKnock;
	ASSERT_EQ(run(Hook::kWanIn, "wan1", in), PTRIG_OPENED);
	ip_batch(Ns::kGateway, "route add default via " + kRemote1 + " dev wan1 metric 100\n");
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kFar} / kReply, &out), PTRIG_OTHER_WAN)
		<< "the default route is wan0's";
	EXPECT_TRUE(session().halfopen) << "not answered before it leaves";
	EXPECT_EQ(run(Hook::kWanOut, "wan1", kToRemote1 / Ip4{.src = kWan1, .dst = kFar, .ttl = 63} / kReply, nullptr,
		      "lan0"),
		  PTRIG_ESTABLISHED)
		<< "and there it arrives, sent by its own WAN";
	EXPECT_EQ(session().lan.oif, ifindex("wan1"));
	ip_batch(Ns::kGateway, "route del default via " + kRemote1 + " dev wan1 metric 100\n");
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kFar} / kReply, &out), PTRIG_NO_ROUTE)
		<< "it goes as the kernel wants, where its own WAN has no way";
}

TEST_F(Corner, TwoWanPortsOfOneHostPort) {
	Rule rule = media();
	rule.open = {open(udp(6000), 16384), open(udp(16384))};
	granted({rule});
	ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
	ASSERT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = 6000}), PTRIG_FLOW_KNOWN);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 6000}), PTRIG_OPENED);
}

TEST_F(Corner, TheNewHolderCannotTakeAnOldSessionsTuple) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	granted({rule});
	ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
	ASSERT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_NOT_SWAPPED)
		<< "left to masquerade, which conntrack keeps off the tuple";
	Packet out;
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_FORWARDED);
	EXPECT_EQ(l3(out), kRemoteToHost / kKnock / "in");
	EXPECT_EQ(sessions().size(), 1U);
}

TEST_F(Corner, HostTableFull) {
	use({.hosts = 1});
	apply({media(), ident()});
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, Tcp{.dport = 6667}), PTRIG_HOST_LEASES) << "whom nobody can count gets nothing";
	EXPECT_EQ(trigger(kA, Tcp{.dport = 6667}), PTRIG_GRANTED);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
}

TEST_F(Corner, OneWayStreamStaysHalfOpen) {
	granted({media()});
	ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
	for (int i = 0; i < 5; i++) {
		age_session(seconds(29));
		EXPECT_EQ(wan_in(kIn), PTRIG_HALF_OPEN);
		age_session(seconds(1));
		EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	}
	EXPECT_EQ(lease("media")->sessions, 1U);
	age_lease("media", minutes(10));
	EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED) << "and ends with the lease, which no remote can extend";
	EXPECT_EQ(wan_in(kIn), PTRIG_NO_LEASE);
}

TEST_F(Corner, AFloodOfHalfOpenSessionsCostsNoEstablishedOne) {
	use({.sessions = 4, .halfopen = 8});
	config_.limits.new_sessions_per_second = 0;
	granted({media()});
	ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
	ASSERT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	for (std::uint16_t port = 1; port <= 20; port++)
		EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = port, .dport = 16384}),
			  port <= 4 ? PTRIG_OPENED : PTRIG_HALFOPEN_FULL);
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
}

} // namespace
} // namespace ptrig::test
