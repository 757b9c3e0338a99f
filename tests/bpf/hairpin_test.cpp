// From the LAN to an open port of our own WAN address: the lease's host sees the WAN address, both ways; who may, which
// port stands for the client, and that such a session lives, is limited and ends like any other.
#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Ip4 kClientToWan{.src = kHost2, .dst = kWan}, kWanToHost{.src = kWan, .dst = kHost, .ttl = 63},
	kHostToWan{.src = kHost, .dst = kWan}, kWanToClient{.src = kWan, .dst = kHost2, .ttl = 63};
const Packet kAsk = kFromHost2 / kClientToWan / kKnock / "ask", kTell = kFromHost / kHostToWan / kReply / "tell";
const std::string kFarClient = "192.168.88.5", kFarClientMac = "02:00:88:00:00:05";
const Eth kFromFarClient{.src = kFarClientMac, .dst = kLan1Mac};

/// A (192.168.77.11) holds the lease, B (192.168.77.12) is the client.
class Hairpin : public DatapathTest {
protected:
	void TearDown() override {
		DatapathTest::TearDown();
		if (in_world())
			forget_flows();
	}
	void establish() {
		ASSERT_EQ(lan_in(kAsk), PTRIG_OPENED);
		ASSERT_EQ(lan_in(kTell), PTRIG_ESTABLISHED);
	}
	/// A client's first packet; the port that A sees, 0 if A sees nothing.
	std::uint16_t opens_as(const Packet &in, const std::string &dev = "lan0") {
		Packet out;
		EXPECT_EQ(run(Hook::kLanIn, dev, in, &out), PTRIG_OPENED);
		const Bytes bytes = out.bytes();
		return bytes.size() < 36 ? 0 : static_cast<std::uint16_t>(bytes[34] << 8 | bytes[35]);
	}
};

TEST_F(Hairpin, TheHostSeesTheWanAddressAndSoDoesTheClient) {
	granted({media()});
	Packet out;
	EXPECT_EQ(lan_in(kAsk, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / kKnock / "ask");
	EXPECT_EQ(lan_in(kAsk, &out), PTRIG_HALF_OPEN);
	EXPECT_EQ(l3(out), kWanToHost / kKnock / "ask");
	EXPECT_EQ(lan_in(kTell, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToClient / kReply / "tell");
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(lan_in(kAsk, &out), PTRIG_FORWARDED);
		EXPECT_EQ(l3(out), kWanToHost / kKnock / "ask");
		EXPECT_EQ(lan_in(kTell, &out), PTRIG_FORWARDED);
		EXPECT_EQ(l3(out), kWanToClient / kReply / "tell");
	}
}

TEST_F(Hairpin, IsOneSessionOfTheLeaseWithTheWanAddressAsRemote) {
	granted({media()});
	establish();
	EXPECT_EQ(lan_in(kAsk), PTRIG_FORWARDED);
	const Pair pair = session();
	EXPECT_FALSE(pair.halfopen);
	EXPECT_EQ(pair.lan_key.saddr, be(kHost));
	EXPECT_EQ(pair.lan_key.daddr, be(kWan));
	EXPECT_EQ(ntohs(pair.lan_key.dport), 7000);
	EXPECT_EQ(pair.lan.addr, be(kWan));
	EXPECT_EQ(ntohs(pair.lan.port), 16384);
	EXPECT_EQ(pair.lan.packets, 1U);
	EXPECT_EQ(pair.wan.packets, 2U);
	EXPECT_EQ(pair.lan.state, PTRIG_SESSION_ESTABLISHED);
	EXPECT_EQ(lease("media")->sessions, 1U);
	EXPECT_EQ(flows().find("sport=7000"), std::string::npos) << "conntrack has no part in it";
}

TEST_F(Hairpin, Tcp) {
	granted({ident()});
	const test::Tcp syn{.sport = 7000, .dport = 113}, syn_ack{.sport = 113, .dport = 7000, .flags = kSyn | kAck},
		ack{.sport = 7000, .dport = 113, .flags = kAck}, data{.sport = 113, .dport = 7000, .flags = kAck};
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / ack), PTRIG_NOT_SYN);
	Packet out;
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / syn, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / syn);
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / syn_ack, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToClient / syn_ack);
	EXPECT_EQ(session().lan.state, PTRIG_SESSION_TRANSITORY);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / ack), PTRIG_FORWARDED);
	EXPECT_EQ(session().lan.state, PTRIG_SESSION_TRANSITORY) << "only the host's packets establish";
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / data), PTRIG_FORWARDED);
	EXPECT_EQ(session().lan.state, PTRIG_SESSION_ESTABLISHED);
	for (const bool client : {true, false})
		EXPECT_EQ(lan_in(client ? kFromHost2 / kClientToWan /
						  test::Tcp{.sport = 7000, .dport = 113, .flags = kFin | kAck}
					: kFromHost / kHostToWan /
						  test::Tcp{.sport = 113, .dport = 7000, .flags = kFin | kAck}),
			  PTRIG_FORWARDED);
	EXPECT_EQ(session().lan.state, PTRIG_SESSION_CLOSING);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / syn), PTRIG_OPENED) << "the same ports again, at once";
	EXPECT_TRUE(session().halfopen);
}

TEST_F(Hairpin, AResetOfTheHostLeavesNothing) {
	granted({ident()});
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / test::Tcp{.sport = 7000, .dport = 113}), PTRIG_OPENED);
	const test::Tcp reset{.sport = 113, .dport = 7000, .flags = kRst | kAck};
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / reset, &out), PTRIG_HALF_OPEN);
	EXPECT_EQ(l3(out), kWanToClient / reset);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Hairpin, MappedPorts) {
	Rule rule = media();
	rule.open = {open(udp(6000, 6010), 7000)};
	granted({rule});
	Packet out;
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / Udp{.sport = 9, .dport = 6003}, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / (Udp{.sport = 9, .dport = 7003}));
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 7003, .dport = 9}, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToClient / (Udp{.sport = 6003, .dport = 9}));
}

TEST_F(Hairpin, ToAnyAddressOfTheWan) {
	granted({media()});
	const Ip4 second{.src = kHost2, .dst = kWanSecond};
	Packet out;
	EXPECT_EQ(lan_in(kFromHost2 / second / kKnock, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kWanSecond, .dst = kHost, .ttl = 63} / kKnock));
	for (const std::string &other : {kWan1, kLanAddr, kRemote})
		EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = other} / kKnock), PTRIG_NOT_TRIGGER) << other;
}

TEST_F(Hairpin, TheHostItself) {
	granted({media()});
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / kKnock, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / kKnock);
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / kReply, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToHost / kReply);
}

TEST_F(Hairpin, TheHostItselfFromTheOpenPort) {
	granted({media()});
	const std::uint16_t port = opens_as(kFromHost / kHostToWan / Udp{.sport = 16384, .dport = 16384});
	EXPECT_GE(port, 1024);
	EXPECT_NE(port, 16384) << "question and answer would be the same packet";
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 16384, .dport = port}, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), (kWanToHost / Udp{.sport = 16384, .dport = 16384}));
}

TEST_F(Hairpin, BetweenTwoInterfaces) {
	granted({media()});
	Packet out;
	EXPECT_EQ(run(Hook::kLanIn, "lan1", kFromFarClient / Ip4{.src = kFarClient, .dst = kWan} / kKnock, &out),
		  PTRIG_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / kKnock);
	EXPECT_EQ(lan_in(kTell, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = kFarClient, .ttl = 63} / kReply / "tell"));
}

TEST_F(Hairpin, APortForEachClient) {
	granted({media()});
	EXPECT_EQ(opens_as(kAsk), 7000) << "the client's own, if it is free";
	const std::uint16_t other = opens_as(kFromFarClient / Ip4{.src = kFarClient, .dst = kWan} / kKnock, "lan1");
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

TEST_F(Hairpin, NoPortThatLeadsElsewhere) {
	granted({media(), ident()});
	const Fd socket = socket_at(Ns::kGateway, SOCK_DGRAM, kWan, 7001);
	EXPECT_NE(opens_as(kFromHost2 / kClientToWan / Udp{.sport = 7001, .dport = 16384}), 7001)
		<< "a socket of the gateway";
	EXPECT_NE(opens_as(kFromHost2 / kClientToWan / Udp{.sport = 16385, .dport = 16384}), 16385)
		<< "another open port";
	EXPECT_EQ(opens_as(kFromHost2 / kClientToWan / Udp{.sport = 113, .dport = 16384}), 113) << "open for TCP only";
}

TEST_F(Hairpin, AClientsOwnOpenPortStandsForIt) {
	Rule game = media();
	game.name = "game";
	game.trigger = {udp(5070)};
	game.open = {open(udp(6000), 7000)};
	granted({media(), game});
	ASSERT_EQ(trigger(kB, Udp{.dport = 5070}), PTRIG_GRANTED);
	EXPECT_EQ(opens_as(kAsk), 6000) << "as every remote sees it";
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 16384, .dport = 6000}, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToClient / kReply);
}

TEST_F(Hairpin, OnlyThroughALiveLease) {
	apply({media()});
	EXPECT_EQ(lan_in(kAsk), PTRIG_NOT_TRIGGER);
	ASSERT_EQ(trigger(kA, Udp{.dport = 5060}), PTRIG_GRANTED);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / Udp{.dport = 16391}), PTRIG_NOT_TRIGGER);
	age_lease("media", minutes(10));
	EXPECT_EQ(lan_in(kAsk), PTRIG_NOT_TRIGGER);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Hairpin, RemotesAreHeldAgainstTheClientItself) {
	Rule rule = media();
	rule.remotes = {Remotes::Kind::kSet, {prefix("203.0.113.0", 24)}};
	granted({rule});
	EXPECT_EQ(lan_in(kAsk), PTRIG_REMOTE_DENIED) << "the WAN address is in the set, the client is not";
	rule.remotes = {Remotes::Kind::kSet, {prefix(kHost2)}};
	apply({rule}, 1);
	EXPECT_EQ(lan_in(kAsk), PTRIG_OPENED);
	config_.gateway.deny_remotes = {prefix("192.168.88.0", 24)};
	apply({media()});
	EXPECT_EQ(run(Hook::kLanIn, "lan1", kFromFarClient / Ip4{.src = kFarClient, .dst = kWan} / kKnock),
		  PTRIG_REMOTE_DENIED);
}

TEST_F(Hairpin, NobodyHasContactedOurOwnAddress) {
	Rule rule = media();
	rule.remotes.kind = Remotes::Kind::kContacted;
	granted({rule});
	EXPECT_EQ(lan_in(kAsk), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kKnock), PTRIG_NOT_TRIGGER);
}

TEST_F(Hairpin, TheGatewaysOwnSocketComesFirst) {
	granted({media()});
	{
		const Fd socket = socket_at(Ns::kGateway, SOCK_DGRAM, "0.0.0.0", 16384);
		EXPECT_EQ(lan_in(kAsk), PTRIG_LOCAL_SOCKET);
	}
	EXPECT_EQ(lan_in(kAsk), PTRIG_OPENED);
}

TEST_F(Hairpin, AFlowWithTheGatewayComesFirst) {
	apply({media()});
	ASSERT_EQ(trigger(kB, Udp{.dport = 5060}), PTRIG_GRANTED);
	const Fd client = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 7000);
	{
		const Fd gateway = socket_at(Ns::kGateway, SOCK_DGRAM, kWan, 16384);
		send_to(client, kWan, 16384, "hello");
		ASSERT_EQ(receive(gateway), kHost + ":7000");
		send_to(gateway, kHost, 7000, "hello yourself");
		ASSERT_EQ(receive(client), kWan + ":16384");
	}
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / kKnock), PTRIG_FLOW_KNOWN);
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_OPENED);
}

TEST_F(Hairpin, ASpoofedClientOpensNothing) {
	granted({media()});
	EXPECT_EQ(lan_in(Eth{.src = kStrangerMac, .dst = kLanMac} / kClientToWan / kKnock), PTRIG_SPOOFED);
	EXPECT_EQ(run(Hook::kLanIn, "lan1", kFromFarClient / kClientToWan / kKnock), PTRIG_SPOOFED);
	for (const std::string &source : {kWan, kRemote, std::string("127.0.0.1"), std::string("224.0.0.1")})
		EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = source, .dst = kWan} / kKnock), PTRIG_SPOOFED) << source;
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Hairpin, NobodySpeaksForTheOther) {
	granted({media()});
	EXPECT_EQ(lan_in(kAsk), PTRIG_OPENED);
	EXPECT_EQ(lan_in(Eth{.src = kStrangerMac, .dst = kLanMac} / kHostToWan / kReply), PTRIG_SPOOFED);
	EXPECT_EQ(lan_in(Eth{.src = kStrangerMac, .dst = kLanMac} / kClientToWan / kKnock), PTRIG_SPOOFED);
	EXPECT_EQ(lan_in(kTell), PTRIG_ESTABLISHED);
	EXPECT_EQ(lan_in(Eth{.src = kStrangerMac, .dst = kLanMac} / kHostToWan / kReply), PTRIG_SPOOFED);
	EXPECT_EQ(lan_in(Eth{.src = kStrangerMac, .dst = kLanMac} / kClientToWan / kKnock), PTRIG_SPOOFED);
}

TEST_F(Hairpin, NothingComesFromTheWanInOurName) {
	granted({media()});
	const Packet forged = kFromRemote / Ip4{.src = kWan, .dst = kWan} / kKnock;
	EXPECT_EQ(lan_in(kAsk), PTRIG_OPENED);
	EXPECT_EQ(wan_in(forged), PTRIG_REMOTE_DENIED);
	EXPECT_EQ(lan_in(kTell), PTRIG_ESTABLISHED);
	EXPECT_EQ(wan_in(forged), PTRIG_REMOTE_DENIED);
	EXPECT_EQ(wan_in(kFromRemote / kClientToWan / kKnock), PTRIG_REMOTE_DENIED) << "nor in a client's";
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan} / Icmp{.type = 3, .code = 3} /
			 (Ip4{.src = kWan, .dst = kWan} / kReply)),
		  PTRIG_ICMP);
}

TEST_F(Hairpin, AnotherMachineAtTheHostsAddressGetsNothing) {
	granted({media()});
	ip_batch(Ns::kGateway, "neighbour replace " + kHost + " lladdr " + kStrangerMac + " nud permanent dev lan0\n");
	EXPECT_EQ(lan_in(kAsk), PTRIG_NO_LEASE);
	ip_batch(Ns::kGateway, "neighbour replace " + kHost + " lladdr " + kHostMac + " nud permanent dev lan0\n");
	EXPECT_EQ(lease("media")->info.state, PTRIG_LEASE_ENDED);
	EXPECT_TRUE(sessions().empty());
}

} // namespace
} // namespace ptrig::test
