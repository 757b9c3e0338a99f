// Who comes before a lease at the WAN: sessions, the kernel's flows, which are real ones here, what a helper expects,
// the gateway's own sockets; and that whoever was first keeps a tuple.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

namespace ptrig::test {
namespace {

const Ip4 kHost2ToRemote{.src = kHost2, .dst = kRemote};
constexpr std::uint32_t kSeenReply = 1U << 1, kDstNat = 1U << 5;

/// B (192.168.77.12) holds the leases; A's sockets are the real ones of the LAN namespace.
class Precedence : public DatapathTest {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		Rule both = media();
		both.trigger = {udp(5060)};
		both.open = {open(tcp(16384, 16390)), open(udp(16384, 16390)), open(udp(20000), 30000)};
		apply({both});
		ASSERT_EQ(trigger(kB, Udp{.sport = 5060, .dport = 5060}), PTRIG_GRANTED);
		forget_flows();
	}
	void TearDown() override {
		DatapathTest::TearDown();
		if (in_world())
			forget_flows();
	}
	static Packet datagram(std::uint16_t sport, std::uint16_t dport = 16384) {
		return kFromRemote / kRemoteToWan / Udp{.sport = sport, .dport = dport} / "x";
	}
	enum ptrig_reason knock(std::uint16_t sport, std::uint16_t dport = 16384) {
		return wan_in(datagram(sport, dport));
	}
	enum ptrig_reason syn(std::uint16_t sport, std::uint16_t dport = 16384) {
		return wan_in(kFromRemote / kRemoteToWan / Tcp{.sport = sport, .dport = dport});
	}
	enum ptrig_reason answers() { return lan_in(kFromHost2 / kHost2ToRemote / kReply); }
	static test_entry entry(const Packet &packet) { return entry_of(*tuple_of(packet.bytes(), 14)); }
	/// An entry of this packet, translated or not.
	static void there_is(const Packet &packet, test_entry what) {
		const Tuple t = *tuple_of(packet.bytes(), 14);
		what.proto = t.proto, what.tuple = t.tuple;
		ASSERT_TRUE(make_entry(what).found);
	}
};

TEST_F(Precedence, UdpSocketOfTheGateway) {
	{
		const Fd any = socket_at(Ns::kGateway, SOCK_DGRAM, "0.0.0.0", 16384);
		EXPECT_EQ(knock(1), PTRIG_LOCAL_SOCKET);
		EXPECT_EQ(knock(1, 16385), PTRIG_OPENED) << "another port";
		EXPECT_EQ(syn(1), PTRIG_OPENED) << "another protocol";
	}
	{
		const Fd here = socket_at(Ns::kGateway, SOCK_DGRAM, kWan, 16384);
		EXPECT_EQ(knock(2), PTRIG_LOCAL_SOCKET);
	}
	const Fd inside = socket_at(Ns::kGateway, SOCK_DGRAM, kLanAddr, 16384);
	EXPECT_EQ(knock(3), PTRIG_OPENED) << "a socket of the LAN address is no reason";
}

TEST_F(Precedence, TcpListenerOfTheGateway) {
	{
		const Fd listener = socket_at(Ns::kGateway, SOCK_STREAM, "0.0.0.0", 16384);
		EXPECT_EQ(syn(1), PTRIG_LOCAL_SOCKET);
		EXPECT_EQ(knock(1), PTRIG_OPENED);
		EXPECT_EQ(syn(1, 16385), PTRIG_OPENED);
	}
	EXPECT_EQ(syn(2), PTRIG_OPENED) << "it is closed again";
}

/// As the daemon writes it for a helper.
TEST_F(Precedence, WhatAHelperExpects) {
	auto expected = dp().map<ptrig_expected_key, std::uint64_t>("pt_expected");
	dp().memory<ptrig_state>("pt_state")[0].expecting = 1;
	const auto key = [](const std::string &remote, std::uint16_t port) {
		return ptrig_expected_key{be(remote), be(kWan), htons(port), IPPROTO_TCP, 0};
	};
	const std::uint64_t later = now_ns() + 60'000'000'000ULL;
	ASSERT_TRUE(expected.update(key(kRemote, 16384), later));
	EXPECT_EQ(syn(20), PTRIG_FLOW_EXPECTED);
	EXPECT_EQ(syn(21), PTRIG_FLOW_EXPECTED) << "from any port of the remote's";
	EXPECT_EQ(knock(20), PTRIG_OPENED) << "another protocol";
	EXPECT_EQ(syn(20, 16385), PTRIG_OPENED) << "another port";
	ASSERT_TRUE(expected.update(key(kRemote2, 16386), later));
	EXPECT_EQ(syn(20, 16386), PTRIG_OPENED) << "another remote";
	ASSERT_TRUE(expected.update(key("0.0.0.0", 16387), later));
	EXPECT_EQ(syn(20, 16387), PTRIG_FLOW_EXPECTED) << "any remote";
	ASSERT_TRUE(expected.update(key(kRemote, 16388), now_ns()));
	EXPECT_EQ(syn(20, 16388), PTRIG_OPENED) << "it is over";
	const std::vector<ptrig_expected_key> keys = expected.keys().value();
	for (const ptrig_expected_key &old : keys)
		ASSERT_TRUE(expected.erase(old));
	EXPECT_EQ(syn(22), PTRIG_OPENED) << "it came, or was given up";
}

TEST_F(Precedence, AHostsListenerIsNone) {
	const Fd listener = socket_at(Ns::kLan, SOCK_STREAM, "0.0.0.0", 16384);
	EXPECT_EQ(syn(1), PTRIG_OPENED);
}

TEST_F(Precedence, MasqueradedFlowOfAnotherHost) {
	const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 16384),
		 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	send_to(host, kRemote, 7000, "hello");
	ASSERT_EQ(receive(remote), kWan + ":16384") << "masquerade keeps the port";
	EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN) << "the reply is A's";
	EXPECT_EQ(knock(7001), PTRIG_OPENED) << "another remote port is nobody's";
	send_to(remote, kWan, 16384, "hello yourself");
	EXPECT_EQ(receive(host), kRemote + ":7000");
	EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN);
}

TEST_F(Precedence, TheGatewaysOwnFlow) {
	{
		const Fd gateway = socket_at(Ns::kGateway, SOCK_DGRAM, kWan, 16384),
			 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
		send_to(gateway, kRemote, 7000, "hello");
		ASSERT_EQ(receive(remote), kWan + ":16384");
	}
	EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN) << "also when its socket is closed already";
	EXPECT_EQ(knock(7001), PTRIG_OPENED);
}

TEST_F(Precedence, AnEarlierProbeDoesNotBlock) {
	const Fd remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	send_to(remote, kWan, 16384, "anybody there?");
	ASSERT_NE(flows().find("src=" + kRemote + " dst=" + kWan + " sport=7000 dport=16384"), std::string::npos)
		<< flows();
	EXPECT_FALSE(entry(datagram(7000)).status & kDstNat);
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
	EXPECT_TRUE(entry(datagram(7000)).status & kDstNat) << "nobody's entry is forgotten";
}

TEST_F(Precedence, AProbesEntryStaysWhereNothingIsOpened) {
	there_is(datagram(7000), {});
	{
		const Fd socket = socket_at(Ns::kGateway, SOCK_DGRAM, kWan, 16384);
		EXPECT_EQ(knock(7000), PTRIG_LOCAL_SOCKET);
	}
	EXPECT_TRUE(entry(datagram(7000)).found) << "it may be the socket's";
	there_is(datagram(7000, 9), {});
	EXPECT_EQ(knock(7000, 9), PTRIG_NOT_OPEN);
	EXPECT_TRUE(entry(datagram(7000, 9)).found);
}

TEST_F(Precedence, AFlowOfTheRemoteThatTheGatewayAnswered) {
	{
		const Fd remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000),
			 gateway = socket_at(Ns::kGateway, SOCK_DGRAM, kWan, 16384);
		send_to(remote, kWan, 16384, "hello");
		ASSERT_EQ(receive(gateway), kRemote + ":7000");
		send_to(gateway, kRemote, 7000, "hello yourself");
		ASSERT_EQ(receive(remote), kWan + ":16384");
	}
	EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN);
}

TEST_F(Precedence, WhatTheAdministratorTranslatesIsHis) {
	there_is(datagram(7000), {.to = be(kHost), .to_port = htons(16384)});
	EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN) << "a port forward of his, unanswered";
	EXPECT_EQ(entry(datagram(7000)).reply.saddr, be(kHost)) << "it is left alone";
	there_is(datagram(7001), {.from = be("192.168.77.200"), .from_port = htons(7001)});
	EXPECT_EQ(knock(7001), PTRIG_FLOW_KNOWN) << "its source is translated";
	there_is(datagram(7002), {.to = be(kHost2), .to_port = htons(16384)});
	EXPECT_EQ(knock(7002), PTRIG_FLOW_KNOWN) << "to the lease's own host, but no session's";
	EXPECT_TRUE(sessions().empty());
	forget_flows();
}

TEST_F(Precedence, AMappedRangeMustNotCaptureAFlowThatTheHostHas) {
	// WAN 20000 leads to the host's 30000, which already talks to the remote's 7000, masqueraded as :30000.
	const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 30000),
		 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	Rule mine = media();
	mine.trigger = {udp(5070)};
	mine.name = "mapped";
	mine.open = {open(udp(20000), 30000)};
	apply({mine});
	ASSERT_EQ(trigger(kA, Udp{.dport = 5070}), PTRIG_GRANTED);
	send_to(host, kRemote, 7000, "hello");
	ASSERT_EQ(receive(remote), kWan + ":30000");
	EXPECT_EQ(knock(7000, 20000), PTRIG_FLOW_KNOWN) << "its answers could not be told from the flow's";
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(knock(7001, 20000), PTRIG_OPENED);
}

TEST_F(Precedence, TheOrder) {
	auto expected = dp().map<ptrig_expected_key, std::uint64_t>("pt_expected");
	dp().memory<ptrig_state>("pt_state")[0].expecting = 1;
	const ptrig_expected_key key{be(kRemote), be(kWan), htons(16384), IPPROTO_UDP, 0};
	{
		const Fd listener = socket_at(Ns::kGateway, SOCK_DGRAM, "0.0.0.0", 16384);
		ASSERT_TRUE(expected.update(key, now_ns() + 60'000'000'000ULL));
		there_is(datagram(7000), {.status = kSeenReply});
		EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN);
		forget_flows();
		EXPECT_EQ(knock(7000), PTRIG_FLOW_EXPECTED);
		ASSERT_TRUE(expected.erase(key));
		EXPECT_EQ(knock(7000), PTRIG_LOCAL_SOCKET);
	}
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
}

TEST_F(Precedence, ASessionComesBeforeEverything) {
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
	const Fd listener = socket_at(Ns::kGateway, SOCK_DGRAM, "0.0.0.0", 16384);
	auto expected = dp().map<ptrig_expected_key, std::uint64_t>("pt_expected");
	dp().memory<ptrig_state>("pt_state")[0].expecting = 1;
	ASSERT_TRUE(
		expected.update({be(kRemote), be(kWan), htons(16384), IPPROTO_UDP, 0}, now_ns() + 60'000'000'000ULL));
	look_due();
	EXPECT_EQ(knock(7000), PTRIG_HALF_OPEN);
	EXPECT_EQ(answers(), PTRIG_ESTABLISHED);
	EXPECT_EQ(knock(7000), PTRIG_FORWARDED);
	look_due();
	EXPECT_EQ(knock(7000), PTRIG_FORWARDED);
}

/// From the first packet on: whoever was first keeps it.
TEST_F(Precedence, MasqueradeGivesASessionsTupleToNobody) {
	const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 16384),
		 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
	send_to(host, kRemote, 7000, "me, too");
	const std::string from = receive(remote);
	EXPECT_NE(from, kWan + ":16384");
	EXPECT_EQ(from.substr(0, kWan.size()), kWan);
	EXPECT_EQ(answers(), PTRIG_ESTABLISHED);
	EXPECT_EQ(knock(7000), PTRIG_FORWARDED);
}

TEST_F(Precedence, NorDoesASwap) {
	Rule first = media(), second = ident();
	second.trigger = {udp(5061)};
	second.open = first.open;
	apply({first, second}, 1);
	ASSERT_EQ(trigger(kA, Udp{.dport = 5060}), PTRIG_GRANTED);
	ASSERT_EQ(trigger(kB, Udp{.dport = 5061}), PTRIG_GRANTED);
	ASSERT_EQ(knock(7000), PTRIG_OPENED) << "to A";
	EXPECT_EQ(answers(), PTRIG_NOT_SWAPPED) << "B's own flow from the same port";
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply), PTRIG_ESTABLISHED) << "A's session lives";
}

TEST_F(Precedence, ASessionThatFindsNoPlaceKeepsNoTuple) {
	use({.sessions = 1});
	granted({media()});
	forget_flows();
	ASSERT_EQ(knock(7000), PTRIG_OPENED);
	ASSERT_EQ(knock(7001), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply), PTRIG_ESTABLISHED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = 7001}), PTRIG_SESSIONS_FULL);
	EXPECT_TRUE(entry(datagram(7000)).found);
	EXPECT_FALSE(entry(datagram(7001)).found);
}

TEST_F(Precedence, AnEndedSessionCanBeOpenedAgain) {
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
	EXPECT_EQ(answers(), PTRIG_ESTABLISHED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 1U);
	EXPECT_EQ(knock(7000), PTRIG_OPENED) << "its entry in conntrack is no other flow";
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).halfopen, 1U);
	EXPECT_EQ(answers(), PTRIG_OWN_PORT) << "a flow of the host's own now";
	EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN);
}

TEST_F(Precedence, TheHostsFlowThatWasFirstGoesOn) {
	// A talks from 16384 before it holds the lease: its packets stay the kernel's.
	const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 16384),
		 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	send_to(host, kRemote, 7000, "hello");
	ASSERT_EQ(receive(remote), kWan + ":16384");
	apply({media()}, 1);
	ASSERT_EQ(trigger(kA, Udp{.dport = 5060}), PTRIG_GRANTED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply), PTRIG_OWN_PORT);
	EXPECT_TRUE(sessions().empty());
}

} // namespace
} // namespace ptrig::test
