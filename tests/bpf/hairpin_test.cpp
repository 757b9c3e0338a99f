// From the LAN to an open port of our own WAN address: one conntrack entry with both translations, which the lease's
// host and the client see as a conversation with the WAN address; who may, and that such a session lives, is limited
// and ends like any other.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

namespace ptrig::test {
namespace {

const Ip4 kClientToWan{.src = kHost2, .dst = kWan}, kWanToHost{.src = kWan, .dst = kHost, .ttl = 63},
	kHostToWan{.src = kHost, .dst = kWan}, kWanToClient{.src = kWan, .dst = kHost2, .ttl = 63};
const Packet kAsk = kFromHost2 / kClientToWan / kKnock / "ask", kTell = kFromHost / kHostToWan / kReply / "tell";
const std::string kFarClient = "192.168.88.5", kFarClientMac = "02:00:88:00:00:05";
const Packet kFarAsk = Eth{.src = kFarClientMac, .dst = kLan1Mac} / Ip4{.src = kFarClient, .dst = kWan} / kKnock;
const Eth kFromStranger{.src = kStrangerMac, .dst = kLanMac};
constexpr std::uint32_t kSeenReply = 1U << 1, kSrcNat = 1U << 4, kDstNat = 1U << 5;

/// A (192.168.77.11) holds the lease, B (192.168.77.12) is the client.
class Hairpin : public DatapathTest {
protected:
	static test_entry entry(const Packet &packet) { return entry_of(*tuple_of(packet.bytes(), 14)); }
	void establish() {
		ASSERT_EQ(lan_in(kAsk), PTRIG_HAIRPIN_OPENED);
		ASSERT_EQ(lan_in(kTell), PTRIG_ESTABLISHED);
	}
	enum ptrig_reason ask(std::uint16_t sport) {
		return lan_in(kFromHost2 / kClientToWan / Udp{.sport = sport, .dport = 16384});
	}
	/// A client's first packet; the port that A sees, 0 if A sees nothing.
	std::uint16_t opens_as(const Packet &in, const std::string &dev = "lan0") {
		EXPECT_EQ(through(in, {.lan = dev}), PTRIG_HAIRPIN_OPENED);
		return ntohs(entry(in).reply.dport);
	}
	/// Nothing is left of the session, in conntrack neither.
	void over() {
		EXPECT_TRUE(sessions().empty());
		EXPECT_FALSE(entry(kAsk).found);
	}
};

TEST_F(Hairpin, TheHostSeesTheWanAddressAndSoDoesTheClient) {
	granted({media()});
	Packet out;
	EXPECT_EQ(lan_in(kAsk, &out), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / kKnock / "ask");
	EXPECT_EQ(lan_in(kAsk), PTRIG_HALF_OPEN);
	EXPECT_EQ(lan_in(kTell, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToClient / kReply / "tell");
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(lan_in(kAsk, &out), PTRIG_FORWARDED);
		EXPECT_EQ(l3(out), kWanToHost / kKnock / "ask");
		EXPECT_EQ(lan_in(kTell, &out), PTRIG_FORWARDED);
		EXPECT_EQ(l3(out), kWanToClient / kReply / "tell");
		look_due();
	}
}

TEST_F(Hairpin, IsOneSessionOfTheLeaseWithTheWanAddressAsRemote) {
	granted({media()});
	EXPECT_EQ(lan_in(kAsk), PTRIG_HAIRPIN_OPENED);
	EXPECT_TRUE(session().halfopen);
	const test_entry made = entry(kAsk);
	EXPECT_EQ(made.status & (kSeenReply | kSrcNat | kDstNat), kSrcNat | kDstNat)
		<< "new to the forward chain, whatever `firewall` says";
	EXPECT_EQ(made.reply.saddr, be(kHost));
	EXPECT_EQ(made.reply.daddr, be(kWan));
	EXPECT_EQ(lan_in(kTell), PTRIG_ESTABLISHED);
	EXPECT_EQ(lan_in(kAsk), PTRIG_FORWARDED);
	const Pair pair = session();
	EXPECT_FALSE(pair.halfopen);
	EXPECT_EQ(pair.lan_key.saddr, be(kHost));
	EXPECT_EQ(pair.lan_key.daddr, be(kWan));
	EXPECT_EQ(ntohs(pair.lan_key.dport), 7000);
	EXPECT_EQ(pair.lan.addr, be(kWan));
	EXPECT_EQ(pair.lan.peer, be(kHost2));
	EXPECT_EQ(pair.lan.packets, 1U);
	EXPECT_EQ(pair.wan.packets, 3U) << "the first one came twice";
	EXPECT_EQ(pair.lan.state, PTRIG_SESSION_ESTABLISHED);
	EXPECT_EQ(lease("media")->sessions, 1U);
}

TEST_F(Hairpin, Tcp) {
	granted({ident()});
	const test::Tcp syn{.sport = 7000, .dport = 113}, syn_ack{.sport = 113, .dport = 7000, .flags = kSyn | kAck},
		ack{.sport = 7000, .dport = 113, .flags = kAck};
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / ack), PTRIG_NOT_SYN);
	Packet out;
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / syn, &out), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / syn);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / ack), PTRIG_HALF_OPEN) << "only the host's packets establish";
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / syn_ack, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToClient / syn_ack);
	EXPECT_EQ(session().lan.state, PTRIG_SESSION_TRANSITORY);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / ack), PTRIG_FORWARDED);
}

TEST_F(Hairpin, AResetOfTheHostReachesTheClientAndLeavesNothing) {
	granted({ident()});
	const test::Tcp syn{.sport = 7000, .dport = 113}, reset{.sport = 113, .dport = 7000, .flags = kRst | kAck};
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / syn), PTRIG_HAIRPIN_OPENED);
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / reset, &out), PTRIG_HALF_OPEN);
	EXPECT_EQ(l3(out), kWanToClient / reset);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / syn), PTRIG_HAIRPIN_OPENED) << "anew, at once";
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / reset), PTRIG_HALF_OPEN);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).halfopen, 1U);
	EXPECT_TRUE(sessions().empty());
	EXPECT_FALSE(entry(kFromHost2 / kClientToWan / syn).found);
}

TEST_F(Hairpin, MappedPorts) {
	Rule rule = media();
	rule.open = {open(udp(6000, 6010), 7000)};
	granted({rule});
	Packet out;
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / Udp{.sport = 9, .dport = 6003}, &out), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / (Udp{.sport = 9, .dport = 7003}));
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 7003, .dport = 9}, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToClient / (Udp{.sport = 6003, .dport = 9}));
}

TEST_F(Hairpin, OnlyThroughALiveLeaseOfThatAddress) {
	apply({media()});
	EXPECT_EQ(lan_in(kAsk), PTRIG_NOT_TRIGGER);
	ASSERT_EQ(trigger(kA, Udp{.dport = 5060}), PTRIG_GRANTED);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / Udp{.dport = 16391}), PTRIG_NOT_TRIGGER);
	for (const std::string &other : {kWanSecond, kWan1, kLanAddr})
		EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = other} / kKnock), PTRIG_NOT_TRIGGER) << other;
	age_lease("media", minutes(10));
	EXPECT_EQ(lan_in(kAsk), PTRIG_NOT_TRIGGER);
	over();
}

TEST_F(Hairpin, TheHostItself) {
	granted({media()});
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / kKnock, &out), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / kKnock);
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / kReply, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToHost / kReply);
	const std::uint16_t port = opens_as(kFromHost / kHostToWan / Udp{.sport = 16384, .dport = 16384});
	EXPECT_GE(port, 1024);
	EXPECT_NE(port, 16384) << "question and answer would be the same packet";
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 16384, .dport = port}, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), (kWanToHost / Udp{.sport = 16384, .dport = 16384}));
}

TEST_F(Hairpin, APortForEachClient) {
	granted({media()});
	EXPECT_EQ(opens_as(kAsk), 7000) << "the client's own, if it is free";
	const std::uint16_t other = opens_as(kFarAsk, "lan1");
	EXPECT_GE(other, 1024);
	EXPECT_NE(other, 7000);
	Packet out;
	EXPECT_EQ(lan_in(kTell, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToClient / kReply / "tell");
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 16384, .dport = other}, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = kFarClient, .ttl = 63} / kReply));
	EXPECT_EQ(opens_as(kFromHost2 / kClientToWan / Udp{.sport = 7000, .dport = 16385}), 7000)
		<< "at another port of the host's it is free still";
}

TEST_F(Hairpin, RemotesAreHeldAgainstTheClientItself) {
	Rule rule = media();
	rule.remotes = {Remotes::Kind::kSet, {prefix("203.0.113.0", 24)}};
	granted({rule});
	EXPECT_EQ(lan_in(kAsk), PTRIG_REMOTE_DENIED) << "the WAN address is in the set, the client is not";
	rule.remotes = {Remotes::Kind::kSet, {prefix(kHost2)}};
	apply({rule}, 1);
	EXPECT_EQ(lan_in(kAsk), PTRIG_HAIRPIN_OPENED);
	config_.gateway.deny_remotes = {prefix("192.168.88.0", 24), prefix(kHost2)};
	apply({media()});
	EXPECT_EQ(through(kFarAsk, {.lan = "lan1"}), PTRIG_REMOTE_DENIED);
	look_due();
	EXPECT_EQ(lan_in(kAsk), PTRIG_REMOTE_DENIED) << "denied while it had a session";
	over();
}

TEST_F(Hairpin, NobodyHasContactedOurOwnAddress) {
	Rule rule = media();
	rule.remotes.kind = Remotes::Kind::kContacted;
	granted({rule});
	EXPECT_EQ(lan_in(kAsk), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kKnock), PTRIG_NOT_TRIGGER);
}

TEST_F(Hairpin, WhatIsTheGatewaysComesFirst) {
	granted({media()});
	{
		const Fd socket = socket_at(Ns::kGateway, SOCK_DGRAM, "0.0.0.0", 16384);
		EXPECT_EQ(lan_in(kAsk), PTRIG_LOCAL_SOCKET);
	}
	const Tuple flow = *tuple_of(kAsk.bytes(), 14);
	ASSERT_TRUE(make_entry({.proto = flow.proto, .tuple = flow.tuple, .status = kSeenReply}).found);
	EXPECT_EQ(lan_in(kAsk), PTRIG_FLOW_KNOWN) << "a client's with the gateway";
	EXPECT_TRUE(entry(kAsk).found) << "it is left alone";
	EXPECT_EQ(ask(7001), PTRIG_HAIRPIN_OPENED);
}

TEST_F(Hairpin, ASpoofedClientOpensNothing) {
	granted({media()});
	EXPECT_EQ(lan_in(kFromStranger / kClientToWan / kKnock), PTRIG_SPOOFED);
	EXPECT_EQ(through(Eth{.src = kFarClientMac, .dst = kLan1Mac} / kClientToWan / kKnock, {.lan = "lan1"}),
		  PTRIG_SPOOFED);
	for (const std::string &source : {kWan, kRemote, std::string("127.0.0.1"), std::string("224.0.0.1")})
		EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = source, .dst = kWan} / kKnock), PTRIG_SPOOFED) << source;
	over();
}

TEST_F(Hairpin, NobodySpeaksForTheHost) {
	granted({media()});
	EXPECT_EQ(lan_in(kAsk), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(lan_in(kFromStranger / kHostToWan / kReply), PTRIG_SPOOFED);
	EXPECT_TRUE(session().halfopen);
	EXPECT_EQ(lan_in(kTell), PTRIG_ESTABLISHED);
	EXPECT_EQ(lan_in(kFromStranger / kHostToWan / kReply), PTRIG_SPOOFED);
	EXPECT_EQ(session().lan.packets, 1U);
}

TEST_F(Hairpin, NothingComesFromTheWanInOurName) {
	granted({media()});
	const Packet forged = kFromRemote / Ip4{.src = kWan, .dst = kWan} / kKnock;
	for (const bool answered : {false, true}) {
		EXPECT_EQ(lan_in(answered ? kTell : kAsk), answered ? PTRIG_ESTABLISHED : PTRIG_HAIRPIN_OPENED);
		EXPECT_EQ(wan_in(forged), PTRIG_REMOTE_DENIED);
		EXPECT_EQ(wan_in(kFromRemote / kClientToWan / kKnock), PTRIG_FLOW_KNOWN) << "nor in a client's";
	}
}

TEST_F(Hairpin, AnotherMachineAtTheHostsAddressGetsNothing) {
	granted({media()});
	neighbour(kHost, mac_bytes(kStrangerMac), "lan0");
	EXPECT_EQ(lan_in(kAsk), PTRIG_STRANGER);
	neighbour(kHost, mac_bytes(kHostMac), "lan0");
	over();
}

TEST_F(Hairpin, LimitsCountTheClient) {
	Rule rule = media();
	rule.session_limit = 1;
	granted({rule});
	EXPECT_EQ(ask(1), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(ask(2), PTRIG_SESSION_LIMIT);
	EXPECT_EQ(ask(1), PTRIG_HALF_OPEN);
	config_.limits.sessions_per_host = 1;
	apply({media()}, 1);
	EXPECT_EQ(ask(3), PTRIG_HOST_SESSIONS) << "the client's";
	EXPECT_EQ(through(kFarAsk, {.lan = "lan1"}), PTRIG_HAIRPIN_OPENED) << "another client";
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kKnock), PTRIG_OPENED) << "the host has none to its name";
	config_.limits.sessions_per_host = 0;
	config_.limits.new_sessions_per_second = 1;
	apply({media()});
	enum ptrig_reason last = PTRIG_HAIRPIN_OPENED;
	for (std::uint16_t port = 10; port < 20 && last == PTRIG_HAIRPIN_OPENED; port++)
		last = ask(port);
	EXPECT_EQ(last, PTRIG_RATE_LIMITED);
}

TEST_F(Hairpin, OneClientDoesNotTakeAllPlaces) {
	use({.halfopen = 2});
	granted({media()});
	EXPECT_EQ(ask(1), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(ask(2), PTRIG_HALFOPEN_FULL) << "half of them";
	EXPECT_FALSE(entry(kFromHost2 / kClientToWan / Udp{.sport = 2, .dport = 16384}).found);
	EXPECT_EQ(through(kFarAsk, {.lan = "lan1"}), PTRIG_HAIRPIN_OPENED);
}

TEST_F(Hairpin, OnlyTheHostKeepsItAlive) {
	granted({media()});
	establish();
	age_lease("media", minutes(10));
	for (int i = 0; i < 3; i++) {
		age_session(minutes(4));
		EXPECT_EQ(lan_in(kTell), PTRIG_FORWARDED) << "past its lease";
		EXPECT_EQ(lan_in(kAsk), PTRIG_FORWARDED);
	}
	age_session(minutes(4));
	EXPECT_EQ(lan_in(kAsk), PTRIG_FORWARDED);
	age_session(minutes(1));
	EXPECT_EQ(lan_in(kAsk), PTRIG_SESSION_ENDED);
	over();
}

/// On a bridge with br_netfilter nothing comes by but the first packet: conntrack is asked before the session ends.
TEST_F(Hairpin, WhatConntrackHasAnsweredGoesOn) {
	granted({media()});
	ASSERT_EQ(lan_in(kAsk), PTRIG_HAIRPIN_OPENED);
	answer_entry(*tuple_of((kFromHost / kHostToWan / kReply).bytes(), 14));
	age_session(config_.timeouts.halfopen);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).halfopen, 1U);
	ASSERT_EQ(sessions().size(), 1U);
	EXPECT_FALSE(session().halfopen) << "it is answered";
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 0U) << "and not asked about again";
	for (int i = 0; i < 2; i++) {
		age_session(config_.timeouts.udp);
		EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 1U);
		EXPECT_EQ(sessions().size(), 1U);
	}
	forget_flows();
	age_session(config_.timeouts.udp);
	admin({.op = PTRIG_ADMIN_SWEEP});
	over();
}

TEST_F(Hairpin, HalfOpenEndsWithItsTimeOrItsLease) {
	granted({media()});
	EXPECT_EQ(lan_in(kAsk), PTRIG_HAIRPIN_OPENED);
	age_session(seconds(30));
	EXPECT_EQ(lan_in(kAsk), PTRIG_HAIRPIN_OPENED) << "anew";
	age_lease("media", minutes(10));
	look_due();
	EXPECT_EQ(lan_in(kAsk), PTRIG_SESSION_ENDED);
	over();
}

TEST_F(Hairpin, OnCloseKill) {
	Rule rule = media();
	rule.on_close = OnClose::kKill;
	granted({rule});
	establish();
	age_lease("media", minutes(10));
	look_due();
	EXPECT_EQ(lan_in(kTell), PTRIG_SESSION_ENDED);
	over();
}

TEST_F(Hairpin, EndsWithTheWanAddress) {
	granted({media()});
	establish();
	wan_address("wan0", kWan, false);
	look_due();
	EXPECT_EQ(lan_in(kAsk), PTRIG_SESSION_ENDED);
	over();
}

TEST_F(Hairpin, AFlushedEntryIsOpenedAnew) {
	granted({media()});
	establish();
	forget_flows();
	EXPECT_EQ(lan_in(kAsk), PTRIG_HAIRPIN_OPENED) << "which port stood for the client is the entry's to say";
	EXPECT_TRUE(session().halfopen);
}

TEST_F(Hairpin, SweptAndClosed) {
	granted({media()});
	establish();
	EXPECT_EQ(ask(1), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 0U);
	age_sessions(minutes(5));
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 1U);
	EXPECT_FALSE(entry(kAsk).found);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS, .remote = be(kRemote)}).halfopen, 0U);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS, .remote = be(kWan)}).halfopen, 1U);
	over();
	establish();
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS, .wan = be(kWan)}).sessions, 1U);
	over();
}

TEST_F(Hairpin, GoesOnWithTheOldHostAfterATakeover) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	granted({rule});
	establish();
	ASSERT_EQ(trigger(kB, Udp{.dport = 5060}), PTRIG_TAKEN_OVER);
	look_due();
	Packet out;
	EXPECT_EQ(lan_in(kAsk, &out), PTRIG_FORWARDED);
	EXPECT_EQ(l3(out), kWanToHost / kKnock / "ask");
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 7001, .dport = 16384}, &out), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = kHost2, .ttl = 63} / Udp{.sport = 7001, .dport = 16384}));
}

TEST_F(Hairpin, AFirstFragmentOpensAndIsNotGivenBack) {
	granted({media(), ident()});
	ASSERT_EQ(trigger(kA, test::Tcp{.dport = 6667}), PTRIG_GRANTED);
	Ip4 first = kClientToWan;
	first.df = false;
	first.mf = true;
	EXPECT_EQ(lan_in(kFromHost2 / first / kKnock / Fill{64}), PTRIG_OPENED) << "the kernel waits for the rest";
	EXPECT_EQ(lan_in(kFromHost2 / first / test::Tcp{.sport = 7000, .dport = 113} / Fill{60}), PTRIG_NOT_SYN);
}

TEST_F(Hairpin, WithoutEthernetHeader) {
	granted({media()});
	const Packet in = Ip4{.src = kTunHost, .dst = kWan} / kKnock / "payload";
	EXPECT_EQ(run(Hook::kLanIn, "tunl", in), PTRIG_HAIRPIN_OPENED);
	EXPECT_EQ(run(Hook::kLanIn, "tunl", in), PTRIG_HALF_OPEN);
	Packet out;
	EXPECT_EQ(lan_in(kTell, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = kTunHost, .ttl = 63} / kReply / "tell"));
}

} // namespace
} // namespace ptrig::test
