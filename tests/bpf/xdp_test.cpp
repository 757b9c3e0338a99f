// The accelerator: established sessions with the cached hop, byte for byte as TC would send them; whatever else it
// sees goes on to TC as it is.
#include <netinet/in.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kIn = kFromRemote / kRemoteToWan / kKnock / "in", kOut = kFromHost / kHostToRemote / kReply / "out";
const Tcp kTcpIn{.sport = 4000, .dport = 113, .flags = kAck}, kTcpOut{.sport = 113, .dport = 4000, .flags = kAck};

class Xdp : public DatapathTest {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		with_xdp();
		Rule both = media();
		both.open = {open(udp(16384)), open(udp(6000), 7000), open(tcp(113))};
		granted({both});
		establish(kKnock, kReply);
		tcp_handshake();
	}
	void TearDown() override {
		without_xdp();
		DatapathTest::TearDown();
	}
	/// An established session whose both directions TC has just looked at.
	void establish(const Packet &in, const Packet &out) {
		ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / in), PTRIG_OPENED);
		ASSERT_EQ(lan_in(kFromHost / kHostToRemote / out), PTRIG_ESTABLISHED);
		ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / in), PTRIG_FORWARDED);
	}
	void tcp_handshake() {
		const Tcp syn{.sport = 4000, .dport = 113}, syn_ack{.sport = 113, .dport = 4000, .flags = kSyn | kAck};
		ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / syn), PTRIG_OPENED);
		ASSERT_EQ(lan_in(kFromHost / kHostToRemote / syn_ack), PTRIG_ESTABLISHED);
		ASSERT_EQ(lan_in(kFromHost / kHostToRemote / kTcpOut), PTRIG_FORWARDED);
		ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_FORWARDED);
	}
	/// TC has looked at the way in a moment ago, however long the test has run.
	void look() {
		age_sessions(seconds(1));
		ASSERT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	}
	enum ptrig_reason xdp_wan(const Packet &in, Packet *out = nullptr) {
		return run(Hook::kXdpWan, "wan0", in, out);
	}
	enum ptrig_reason xdp_lan(const Packet &in, Packet *out = nullptr) {
		return run(Hook::kXdpLan, "lan0", in, out);
	}
};

TEST_F(Xdp, BothDirections) {
	Packet out;
	EXPECT_EQ(xdp_wan(kIn, &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, kToHost / kRemoteToHost / kKnock / "in");
	EXPECT_EQ(xdp_lan(kOut, &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, kToRemote / kWanToRemote / kReply / "out");
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kTcpIn / "in", &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, kToHost / kRemoteToHost / kTcpIn / "in");
	EXPECT_EQ(xdp_lan(kFromHost / kHostToRemote / kTcpOut / "out", &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, kToRemote / kWanToRemote / kTcpOut / "out");
}

TEST_F(Xdp, Mapped) {
	const Udp in{.sport = 4000, .dport = 6000}, out{.sport = 7000, .dport = 4000};
	establish(in, out);
	Packet seen;
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / in / "x", &seen), PTRIG_FORWARDED);
	EXPECT_EQ(seen, (kToHost / kRemoteToHost / Udp{.sport = 4000, .dport = 7000} / "x"));
	EXPECT_EQ(xdp_lan(kFromHost / kHostToRemote / out / "y", &seen), PTRIG_FORWARDED);
	EXPECT_EQ(seen, (kToRemote / kWanToRemote / Udp{.sport = 6000, .dport = 4000} / "y"));
}

TEST_F(Xdp, Counts) {
	const auto udp = [&] {
		for (const Pair &pair : sessions())
			if (pair.lan_key.proto == IPPROTO_UDP)
				return pair;
		return Pair{};
	};
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(xdp_wan(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(udp().wan.packets, 2U) << "TC's own";
	EXPECT_EQ(with_fast(udp().wan).packets, 5U);
	EXPECT_EQ(with_fast(udp().wan).bytes, 2 * 28U + 3 * 30U);
	age_sessions(seconds(1));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(udp().wan.packets, 6U) << "TC's look adds what XDP has counted";
	EXPECT_EQ(udp().wan.bytes, 2 * 28U + 4 * 30U);
	EXPECT_EQ(with_fast(udp().wan).packets, 6U);
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_lan(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 2U);
	const auto left = lease("media");
	EXPECT_EQ(left->packets, 6U + 3U + 4U) << "an ended session's packets are its lease's";
	EXPECT_TRUE(fast_ways().empty());
}

TEST_F(Xdp, Checksums) {
	for (const Csum csum : {kRight, kZero, kWrong})
		for (const std::size_t n : {0, 1, 2, 63, 64, 1400}) {
			Packet seen;
			const Udp udp{.sport = 7000, .dport = 16384, .csum = csum};
			EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / udp / Fill{n}, &seen), PTRIG_FORWARDED);
			EXPECT_EQ(seen, kToHost / kRemoteToHost / udp / Fill{n});
			Tcp tcp = kTcpOut;
			tcp.csum = csum.mode == Csum::Mode::kZero ? kRight : csum;
			EXPECT_EQ(xdp_lan(kFromHost / kHostToRemote / tcp / Fill{n}, &seen), PTRIG_FORWARDED);
			EXPECT_EQ(seen, kToRemote / kWanToRemote / tcp / Fill{n});
		}
	Ip4 from = kRemoteToWan, to = kRemoteToHost;
	from.csum = to.csum = kWrong;
	Packet seen;
	EXPECT_EQ(xdp_wan(kFromRemote / from / kKnock, &seen), PTRIG_FORWARDED);
	EXPECT_EQ(seen, kToHost / to / kKnock);
}

TEST_F(Xdp, UdpResultZeroIsWrittenAsAllOnes) {
	for (unsigned i = 0; i <= 0xffff; i++) {
		if (i % 4096 == 0)
			look();
		const Packet payload = Bytes{static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)};
		const Bytes after = (kToHost / kRemoteToHost / kKnock / payload).bytes();
		if (after[40] != 0xff || after[41] != 0xff)
			continue;
		Packet seen;
		EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kKnock / payload, &seen), PTRIG_FORWARDED);
		EXPECT_EQ(seen, Packet(after));
		return;
	}
	FAIL() << "no payload gives that sum";
}

TEST_F(Xdp, AsTcDoes) {
	for (std::size_t n = 0; n < 1473; n += 7) {
		look();
		for (const int ttl : {2, 64, 255}) {
			Packet by_xdp, by_tc;
			Ip4 ip = kRemoteToWan;
			ip.ttl = static_cast<std::uint8_t>(ttl), ip.tos = static_cast<std::uint8_t>(n), ip.df = n % 2;
			EXPECT_EQ(xdp_wan(kFromRemote / ip / kKnock / Fill{n}, &by_xdp), PTRIG_FORWARDED);
			EXPECT_EQ(wan_in(kFromRemote / ip / kKnock / Fill{n}, &by_tc), PTRIG_FORWARDED);
			EXPECT_EQ(by_xdp, by_tc);
		}
	}
}

TEST_F(Xdp, EthernetPaddingStays) {
	Packet seen;
	const Packet padding = Fill{16}, in = Packet(kIn.bytes()) / padding;
	EXPECT_EQ(xdp_wan(in, &seen), PTRIG_FORWARDED);
	EXPECT_EQ(seen, Packet((kToHost / kRemoteToHost / kKnock / "in").bytes()) / padding);
}

TEST_F(Xdp, NoSession) {
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = 53}), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote2, .dst = kWan} / kKnock), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote, .dst = kWanSecond} / kKnock), PTRIG_TO_TC);
	EXPECT_EQ(xdp_lan(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_TO_TC);
	EXPECT_EQ(xdp_lan(kFromHost / kHostToRemote / Tcp{.sport = 16384, .dport = 7000, .flags = kAck}), PTRIG_TO_TC);
}

TEST_F(Xdp, ASideIsASide) {
	EXPECT_EQ(run(Hook::kXdpLan, "lan0", kFromHost / kRemoteToWan / kKnock), PTRIG_TO_TC)
		<< "a LAN host that plays the remote";
	EXPECT_EQ(run(Hook::kXdpWan, "wan0", kFromRemote / kHostToRemote / kReply), PTRIG_TO_TC)
		<< "a remote that plays the host";
}

TEST_F(Xdp, HalfOpenSessionsAreTcs) {
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_OPENED);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_TO_TC);
	EXPECT_EQ(xdp_lan(kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = 7001}), PTRIG_TO_TC);
}

TEST_F(Xdp, AClosingConnectionIsTcs) {
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_FORWARDED);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.sport = 4000, .dport = 113, .flags = kRst}),
		  PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_TO_TC);
	EXPECT_EQ(xdp_lan(kFromHost / kHostToRemote / kTcpOut), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kIn), PTRIG_FORWARDED) << "another session";
}

TEST_F(Xdp, AnEndedSessionIsForgottenAtOnce) {
	EXPECT_EQ(fast_ways().size(), 4U);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 2U);
	EXPECT_TRUE(fast_ways().empty());
	EXPECT_EQ(xdp_wan(kIn), PTRIG_TO_TC);
	EXPECT_EQ(xdp_lan(kOut), PTRIG_TO_TC);
}

TEST_F(Xdp, NewRulesAreLookedAtByTc) {
	EXPECT_EQ(xdp_wan(kIn), PTRIG_FORWARDED);
	admin({.op = PTRIG_ADMIN_LOOK});
	EXPECT_EQ(xdp_wan(kIn), PTRIG_TO_TC);
	EXPECT_EQ(xdp_lan(kOut), PTRIG_TO_TC);
}

TEST_F(Xdp, WhoeverElseSendsItIsTcs) {
	for (const Eth &eth : {Eth{.src = kStrangerMac, .dst = kLanMac}, Eth{.src = kHostMac, .dst = kHost2Mac},
			       Eth{.src = kHostMac, .dst = "ff:ff:ff:ff:ff:ff"}})
		EXPECT_EQ(xdp_lan(eth / kHostToRemote / kReply / "out"), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(Eth{.src = kRemoteMac, .dst = kHostMac} / kRemoteToWan / kKnock), PTRIG_TO_TC)
		<< "a promiscuous interface";
	EXPECT_EQ(xdp_wan(Eth{.src = kRouterMac, .dst = kWanMac} / kRemoteToWan / kKnock), PTRIG_FORWARDED)
		<< "by whichever router";
	EXPECT_EQ(run(Hook::kXdpLan, "lan1", kOut), PTRIG_TO_TC) << "by another interface";
}

TEST_F(Xdp, FlagsThatMean) {
	for (const int flags :
	     {kSyn + 0, kFin + 0, kRst + 0, kSyn + kAck, kFin + kAck, kRst + kAck, kPsh + kAck + kFin}) {
		Tcp in = kTcpIn, out = kTcpOut;
		in.flags = out.flags = static_cast<std::uint8_t>(flags);
		EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / in), PTRIG_TO_TC) << flags;
		EXPECT_EQ(xdp_lan(kFromHost / kHostToRemote / out), PTRIG_TO_TC) << flags;
	}
	for (const int flags : {kAck + 0, kPsh + kAck, kPsh + kAck + kUrg, kAck + 0xc0}) {
		Tcp in = kTcpIn;
		in.flags = static_cast<std::uint8_t>(flags);
		EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / in), PTRIG_FORWARDED) << flags;
	}
}

TEST_F(Xdp, FragmentsOptionsVlanIcmpArp) {
	EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .df = false, .mf = true} / kKnock),
		  PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .df = false, .offset = 8} / kKnock),
		  PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .options = Bytes(4, 1)} / kKnock),
		  PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / Vlan{5} / kRemoteToWan / kKnock), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / Icmp{}), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(Eth{.src = kRemoteMac, .dst = kWanMac, .type = 0x0806} / Fill{46}), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .proto = 47} / kKnock), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .version = 6} / kKnock), PTRIG_TO_TC);
}

TEST_F(Xdp, CutShort) {
	for (const Packet &whole : {kIn, kFromRemote / kRemoteToWan / kTcpIn / "payload"})
		for (std::size_t n = 14; n < whole.bytes().size(); n++)
			EXPECT_EQ(xdp_wan(whole.cut(n)), PTRIG_TO_TC) << n;
}

TEST_F(Xdp, LengthsThatLie) {
	for (const std::uint16_t total : {0, 19, 20, 27, 31, 65535})
		EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .total = total} / kKnock / "in"),
			  PTRIG_TO_TC)
			<< total;
	for (const std::uint16_t total : {20, 39})
		EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .total = total} / kTcpIn), PTRIG_TO_TC)
			<< total;
	for (const std::uint16_t length : {0, 7, 11, 65535})
		EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = 16384, .length = length} /
				  "in"),
			  PTRIG_TO_TC)
			<< length;
}

TEST_F(Xdp, TtlUsedUp) {
	for (const std::uint8_t ttl : {0, 1}) {
		EXPECT_EQ(xdp_wan(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .ttl = ttl} / kKnock), PTRIG_TO_TC);
		EXPECT_EQ(xdp_lan(kFromHost / Ip4{.src = kHost, .dst = kRemote, .ttl = ttl} / kReply), PTRIG_TO_TC);
	}
}

TEST_F(Xdp, TooBig) {
	Packet seen;
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kKnock / Fill{1472}, &seen), PTRIG_FORWARDED)
		<< "1500 bytes fit";
	EXPECT_EQ(seen, kToHost / kRemoteToHost / kKnock / Fill{1472});
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kKnock / Fill{1473}), PTRIG_TO_TC);
	auto hops = MappedArray<ptrig_hop>::map(dp().map_fd("pt_hops"), "pt_hops");
	ASSERT_TRUE(hops);
	for (std::size_t i = 0; i < hops->size(); i++)
		(*hops)[i].mtu = 1280;
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kKnock / Fill{1252}), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kKnock / Fill{1253}), PTRIG_TO_TC);
}

TEST_F(Xdp, OnePacketASecondIsTcs) {
	EXPECT_EQ(xdp_wan(kIn), PTRIG_FORWARDED);
	age_sessions(seconds(1));
	EXPECT_EQ(xdp_wan(kIn), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kIn), PTRIG_TO_TC) << "until TC has looked";
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_FORWARDED)
		<< "one look serves all that go the same way";
	EXPECT_EQ(xdp_lan(kOut), PTRIG_TO_TC) << "each direction for itself";
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_lan(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_lan(kFromHost / kHostToRemote / kTcpOut), PTRIG_TO_TC) << "and each session of its host";
}

TEST_F(Xdp, EachSessionIsLookedAtEverySixteenSeconds) {
	age_sessions(seconds(15));
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_FORWARDED) << "renews the way to the host";
	EXPECT_EQ(xdp_wan(kIn), PTRIG_FORWARDED);
	age_sessions(seconds(1));
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kIn), PTRIG_TO_TC);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_FORWARDED);
}

TEST_F(Xdp, NotBeyondTheIdleTime) {
	config_.timeouts.udp = seconds(4);
	apply(config_.rules, 1);
	age_sessions(seconds(2));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kIn), PTRIG_FORWARDED);
	age_fast(seconds(2));
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kIn), PTRIG_TO_TC);
}

TEST_F(Xdp, WhatEndsWithItsLeaseIsLookedAtEverySecond) {
	Rule rule = config_.rules[0];
	rule.on_close = OnClose::kKill;
	apply({rule}, 1);
	age_sessions(seconds(1));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kIn), PTRIG_FORWARDED);
	age_sessions(seconds(1));
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_FORWARDED) << "renews the way to the host";
	EXPECT_EQ(xdp_wan(kIn), PTRIG_TO_TC);
}

TEST_F(Xdp, AHostWithAnotherMacIsAnotherWay) {
	age_sessions(seconds(1));
	ip_batch(Ns::kGateway, "neigh replace " + kHost + " lladdr " + kStrangerMac + " dev lan0 nud permanent");
	EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / kTcpIn), PTRIG_TO_TC) << "nothing renews the old one";
	ip_batch(Ns::kGateway, "neigh replace " + kHost + " lladdr " + kHostMac + " dev lan0 nud permanent");
}

TEST_F(Xdp, WhoMaySendInTheHostsNameHoldsAtOnce) {
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}).leases, 1U);
	ip_batch(Ns::kGateway, "neigh del " + kHost + " dev lan0");
	age_sessions(seconds(1));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED) << "to whoever answers";
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_lan(kOut), PTRIG_FORWARDED);
	ip_batch(Ns::kGateway, "neigh replace " + kHost + " lladdr " + kStrangerMac + " dev lan0 nud permanent");
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED) << "to who has answered";
	EXPECT_EQ(xdp_lan(kOut), PTRIG_TO_TC);
	EXPECT_EQ(lan_in(kOut), PTRIG_SPOOFED);
	ip_batch(Ns::kGateway, "neigh replace " + kHost + " lladdr " + kHostMac + " dev lan0 nud permanent");
}

/// Two hosts behind one bridge that shows one MAC address for all (a Wi-Fi repeater): one of them leaves it.
TEST_F(Xdp, AHostThatLeavesASharedMacAddress) {
	const auto at = [](const std::string &address, const std::string &mac) {
		ip_batch(Ns::kGateway, "neigh replace " + address + " lladdr " + mac + " dev lan0 nud permanent");
	};
	const Tcp syn{.sport = 4001, .dport = 5000}, answer{.sport = 5000, .dport = 4001, .flags = kSyn | kAck},
		ack{.sport = 4001, .dport = 5000, .flags = kAck}, out{.sport = 5000, .dport = 4001, .flags = kAck};
	const Eth from_host2{.src = kHostMac, .dst = kLanMac};
	const Ip4 host2{.src = kHost2, .dst = kRemote};
	at(kHost2, kHostMac);
	Rule first = media(), second = ident();
	first.open = {open(udp(16384)), open(udp(6000), 7000), open(tcp(113))};
	second.open = {open(tcp(5000))};
	apply({first, second}, 1);
	ASSERT_EQ(trigger({kHost2, kHostMac}, Tcp{.dport = 6667}), PTRIG_GRANTED);
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / syn), PTRIG_OPENED);
	ASSERT_EQ(lan_in(from_host2 / host2 / answer), PTRIG_ESTABLISHED);
	ASSERT_EQ(lan_in(from_host2 / host2 / out), PTRIG_FORWARDED);
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / ack), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / ack), PTRIG_FORWARDED);

	at(kHost2, kHost2Mac);
	age_sessions(seconds(1));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED) << "renews the way to the one that stays";
	EXPECT_EQ(xdp_wan(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kFromRemote / kRemoteToWan / ack), PTRIG_TO_TC) << "the other is not there any more";
}

TEST_F(Xdp, OnlyTowardsDevicesThatTakeRedirectedFrames) {
	interface("lan0", PTRIG_IFACE_LAN);
	age_sessions(seconds(1));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(xdp_wan(kIn), PTRIG_TO_TC) << "lan0 takes none";
	EXPECT_EQ(xdp_lan(kOut), PTRIG_FORWARDED) << "wan0 does";
}

TEST_F(Xdp, ADeviceThatIsGoneLosesNothing) {
	ASSERT_TRUE((dp().map<std::uint32_t, std::uint32_t>("pt_devs").erase(ifindex("lan0"))));
	EXPECT_EQ(xdp_wan(kIn), PTRIG_TO_TC) << "TC still knows the way";
}

} // namespace
} // namespace ptrig::test
