// Who comes before a lease at the WAN: the gateway's own sockets and the kernel's flows, which are real ones here.
// And that masquerade does not give away the tuple of a session.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

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
	enum ptrig_reason knock(std::uint16_t sport, std::uint16_t dport = 16384) {
		return wan_in(kFromRemote / kRemoteToWan / Udp{.sport = sport, .dport = dport} / "x");
	}
	enum ptrig_reason syn(std::uint16_t sport, std::uint16_t dport = 16384) {
		return wan_in(kFromRemote / kRemoteToWan / Tcp{.sport = sport, .dport = dport});
	}
	/// An established connection from port 7000.
	void connect() {
		const Ip4 out{.src = kHost2, .dst = kRemote};
		ASSERT_EQ(syn(7000), PTRIG_OPENED);
		ASSERT_EQ(lan_in(kFromHost2 / out / Tcp{.sport = 16384, .dport = 7000, .flags = kSyn | kAck}),
			  PTRIG_ESTABLISHED);
		ASSERT_EQ(lan_in(kFromHost2 / out / Tcp{.sport = 16384, .dport = 7000, .flags = kAck}),
			  PTRIG_FORWARDED);
		ASSERT_NE(claim().find(" 74"), std::string::npos) << "two hours and four minutes: " << claim();
	}
	/// What conntrack has of its tuple.
	static std::string claim() {
		const std::string all = flows();
		const auto at = all.find("src=" + kRemote + " dst=" + kWan + " sport=7000 dport=16384 [UNREPLIED]");
		return at == all.npos ? "none" : all.substr(all.rfind('\n', at) + 1, at - all.rfind('\n', at) - 1);
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
	const auto key = [](const std::string &remote, std::uint16_t port) {
		return ptrig_expected_key{be(remote), be(kWan), htons(port), IPPROTO_TCP, 0};
	};
	const std::uint64_t later = now_ns() + 60'000'000'000ULL;
	ASSERT_TRUE(expected.update(key(kRemote, 16384), later));
	EXPECT_EQ(syn(20), PTRIG_FLOW_KNOWN);
	EXPECT_EQ(syn(21), PTRIG_FLOW_KNOWN) << "from any port of the remote's";
	EXPECT_EQ(knock(20), PTRIG_OPENED) << "another protocol";
	EXPECT_EQ(syn(20, 16385), PTRIG_OPENED) << "another port";
	ASSERT_TRUE(expected.update(key(kRemote2, 16386), later));
	EXPECT_EQ(syn(20, 16386), PTRIG_OPENED) << "another remote";
	ASSERT_TRUE(expected.update(key("0.0.0.0", 16387), later));
	EXPECT_EQ(syn(20, 16387), PTRIG_FLOW_KNOWN) << "any remote";
	ASSERT_TRUE(expected.update(key(kRemote, 16388), now_ns()));
	EXPECT_EQ(syn(20, 16388), PTRIG_OPENED) << "it is over";
	for (const auto &old : expected.keys().value())
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
		send_to(remote, kWan, 16384, "hello yourself");
		ASSERT_EQ(receive(gateway), kRemote + ":7000");
	}
	EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN) << "also when its socket is closed already";
	EXPECT_EQ(knock(7001), PTRIG_OPENED);
}

TEST_F(Precedence, TheGatewaysOwnQuestionIsAnsweredToIt) {
	{
		const Fd gateway = socket_at(Ns::kGateway, SOCK_DGRAM, kWan, 16384),
			 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
		send_to(gateway, kRemote, 7000, "hello?");
		ASSERT_EQ(receive(remote), kWan + ":16384");
	}
	EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN) << "the first answer";
}

TEST_F(Precedence, AnEarlierProbeDoesNotBlock) {
	const Fd remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	send_to(remote, kWan, 16384, "anybody there?");
	ASSERT_NE(flows().find("src=" + kRemote + " dst=" + kWan + " sport=7000 dport=16384"), std::string::npos)
		<< flows();
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
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
	EXPECT_EQ(knock(7001, 20000), PTRIG_OPENED);
}

TEST_F(Precedence, ASessionComesBeforeEverything) {
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
	const Fd listener = socket_at(Ns::kGateway, SOCK_DGRAM, "0.0.0.0", 16384);
	EXPECT_EQ(knock(7000), PTRIG_HALF_OPEN);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_ESTABLISHED);
	EXPECT_EQ(knock(7000), PTRIG_FORWARDED);
	look_due();
	EXPECT_EQ(knock(7000), PTRIG_FORWARDED);
}

TEST_F(Precedence, MasqueradeGivesASessionsTupleToNobody) {
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_ESTABLISHED);
	const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 16384),
		 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	send_to(host, kRemote, 7000, "me, too");
	const std::string from = receive(remote);
	EXPECT_NE(from, kWan + ":16384") << "whoever was first keeps it";
	EXPECT_EQ(from.substr(0, kWan.size()), kWan);
	EXPECT_EQ(knock(7000), PTRIG_FORWARDED);
}

/// A half-open session claims nothing, or a remote could take ports from all: a flow that begins later has the tuple.
TEST_F(Precedence, AHalfOpenSessionHoldsUpNobody) {
	const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 16384),
		 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	for (const bool answered : {false, true}) {
		ASSERT_EQ(knock(7000), PTRIG_OPENED);
		send_to(host, kRemote, 7000, "hello");
		ASSERT_EQ(receive(remote), kWan + ":16384") << "masquerade keeps the port";
		if (answered)
			EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_FLOW_KNOWN)
				<< "the lease's host answers the forger too late";
		else
			EXPECT_EQ(knock(7000), PTRIG_FLOW_KNOWN) << "the reply is A's";
		EXPECT_TRUE(sessions().empty());
		forget_flows();
	}
	ASSERT_EQ(knock(7000), PTRIG_OPENED);
	EXPECT_EQ(knock(7000), PTRIG_HALF_OPEN);
}

TEST_F(Precedence, TheEntryThatKeepsTheTupleIsNothingToAFirewall) {
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
	EXPECT_EQ(flows().find("sport=7000"), std::string::npos) << "a half-open session claims nothing";
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_ESTABLISHED);
	const std::string all = flows();
	const auto at = all.find("src=" + kRemote + " dst=" + kWan + " sport=7000 dport=16384 [UNREPLIED]");
	ASSERT_NE(at, std::string::npos) << all;
	const auto line = all.substr(all.rfind('\n', at) + 1);
	EXPECT_TRUE(line.find(" 300 ") != line.npos || line.find(" 299 ") != line.npos)
		<< "as long as the session: " << line;
}

TEST_F(Precedence, ASessionThatFindsNoPlaceKeepsNoTuple) {
	use({.sessions = 1});
	granted({media()});
	forget_flows();
	ASSERT_EQ(knock(7000), PTRIG_OPENED);
	ASSERT_EQ(knock(7001), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply), PTRIG_ESTABLISHED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = 7001}), PTRIG_SESSIONS_FULL);
	EXPECT_NE(flows().find("sport=7000"), std::string::npos) << flows();
	EXPECT_EQ(flows().find("sport=7001"), std::string::npos) << flows();
}

TEST_F(Precedence, ASessionThatCameTooLateLeavesTheOthersTuple) {
	Rule first = media(), second = ident();
	second.trigger = {udp(5061)};
	second.open = first.open;
	apply({first, second}, 1);
	ASSERT_EQ(trigger(kA, Udp{.dport = 5060}), PTRIG_GRANTED);
	ASSERT_EQ(trigger(kB, Udp{.dport = 5061}), PTRIG_GRANTED);
	forget_flows();
	const Packet answer = kFromHost / kHostToRemote / kReply;
	ASSERT_EQ(knock(7000), PTRIG_OPENED) << "to A";
	ASSERT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_OPENED) << "B was quicker";
	ASSERT_NE(flows().find("sport=7000"), std::string::npos) << flows();
	EXPECT_EQ(lan_in(answer), PTRIG_FLOW_KNOWN);
	EXPECT_NE(flows().find("sport=7000"), std::string::npos) << "B's session lives, and its claim: " << flows();
}

TEST_F(Precedence, AResetLeavesNoEntryForHours) {
	connect();
	const Tcp reset{.sport = 7000, .dport = 16384, .flags = kRst};
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / reset), PTRIG_FORWARDED);
	EXPECT_TRUE(claim().find(" 10 ") != std::string::npos || claim().find(" 9 ") != std::string::npos) << claim();
}

TEST_F(Precedence, ASessionThatEndsGivesItsTupleBack) {
	connect();
	wan_address("wan0", kWan, false);
	look_due();
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} /
			 Tcp{.sport = 16384, .dport = 7000, .flags = kAck}),
		  PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(claim(), "none");
}

TEST_F(Precedence, AnEndedSessionCanBeOpenedAgain) {
	EXPECT_EQ(knock(7000), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_ESTABLISHED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 1U);
	EXPECT_EQ(knock(7000), PTRIG_OPENED) << "its entry in conntrack is no other flow";
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).halfopen, 1U);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_OPENED);
}

TEST_F(Precedence, TheOwnPortSessionsTupleToo) {
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_OPENED);
	const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 16384),
		 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	send_to(host, kRemote, 7000, "me, too");
	EXPECT_NE(receive(remote), kWan + ":16384");
}

TEST_F(Precedence, TheHostsFlowThatWasFirstGoesOn) {
	// A talks from 16384 before it holds the lease: its packets stay the kernel's.
	const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 16384),
		 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 7000);
	send_to(host, kRemote, 7000, "hello");
	ASSERT_EQ(receive(remote), kWan + ":16384");
	apply({media()}, 1);
	ASSERT_EQ(trigger(kA, Udp{.dport = 5060}), PTRIG_GRANTED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply), PTRIG_NOT_TRIGGER);
	EXPECT_TRUE(sessions().empty());
}

} // namespace
} // namespace ptrig::test
