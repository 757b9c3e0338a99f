// What is not for ptrig, or lies about itself, goes on as it is, on every hook.
#include <algorithm>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

constexpr std::uint16_t kArp = 0x0806, kIp6 = 0x86dd;

/// The rules are there and a lease lives: only the packet's form keeps it out.
class Parse : public DatapathTest {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		apply({media(), ident()});
		ASSERT_EQ(trigger(kA, Udp{.sport = 5060, .dport = 5060} / "x"), PTRIG_GRANTED);
		ASSERT_EQ(trigger(kA, Tcp{.sport = 1025, .dport = 6667}), PTRIG_GRANTED);
	}
	/// The same reason from the LAN, from the WAN and to the LAN.
	void everywhere(const Packet &after_ethernet, enum ptrig_reason reason) {
		EXPECT_EQ(lan_in(kFromHost / after_ethernet), reason);
		EXPECT_EQ(wan_in(kFromRemote / after_ethernet), reason);
		EXPECT_EQ(lan_out(kToHost / after_ethernet), reason);
	}
};

TEST_F(Parse, NotIpv4) {
	EXPECT_EQ(lan_in(Eth{.src = kHostMac, .dst = kLanMac, .type = kArp} / Fill{46}), PTRIG_NOT_IPV4);
	EXPECT_EQ(wan_in(Eth{.src = kRemoteMac, .dst = kWanMac, .type = kIp6} / Fill{60}), PTRIG_NOT_IPV4);
	EXPECT_EQ(lan_out(Eth{.src = kLanMac, .dst = kHostMac, .type = kIp6} / Fill{60}), PTRIG_NOT_IPV4);
	everywhere(Ip4{.proto = 47} / Fill{20}, PTRIG_NOT_IPV4);
	everywhere(Ip4{.proto = 41, .csum = kWrong} / Fill{20}, PTRIG_NOT_IPV4);
}

TEST_F(Parse, VlanTaggedFramesBelongToTheVlanDevice) {
	everywhere(Vlan{7} / kRemoteToWan / kKnock, PTRIG_NOT_IPV4);
	everywhere(Vlan{0} / kHostToRemote / Udp{.dport = 5060}, PTRIG_NOT_IPV4);
}

TEST_F(Parse, FramesForOtherMachinesAreSeenButNotOurs) {
	const Packet knock = kRemoteToWan / kKnock;
	const Packet trigger = kHostToRemote / Udp{.dport = 5060};
	for (const char *dst : {"02:00:00:00:00:99", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb"}) {
		EXPECT_EQ(wan_in(Eth{.src = kRemoteMac, .dst = dst} / knock), PTRIG_NOT_IPV4) << dst;
		EXPECT_EQ(lan_in(Eth{.src = kHostMac, .dst = dst} / trigger), PTRIG_NOT_IPV4) << dst;
	}
}

TEST_F(Parse, Icmp) {
	everywhere(kRemoteToWan / Icmp{} / "ping", PTRIG_ICMP);
	everywhere(kRemoteToWan / Icmp{.type = 3, .code = 3} / (kWanToRemote / kReply), PTRIG_ICMP);
}

TEST_F(Parse, CutShort) {
	const Packet udp = kRemoteToWan / kKnock / "payload", tcp = kRemoteToWan / Tcp{} / "payload";
	// A test run takes no IPv4 frame that is shorter than its IP header; XDP's do.
	for (const Packet &whole : {udp, tcp})
		for (std::size_t n = 34; n < 14 + whole.bytes().size(); n++) {
			EXPECT_EQ(wan_in((kFromRemote / whole).cut(n)), PTRIG_MALFORMED) << n;
			EXPECT_EQ(lan_in((kFromHost / whole).cut(n)), PTRIG_MALFORMED) << n;
		}
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Parse, HeaderLength) {
	for (std::uint8_t ihl = 0; ihl < 5; ihl++)
		everywhere(Ip4{.src = kRemote, .dst = kWan, .ihl = ihl} / kKnock / Fill{40}, PTRIG_MALFORMED);
	everywhere(Ip4{.src = kRemote, .dst = kWan, .ihl = 15} / kKnock, PTRIG_MALFORMED); // longer than the packet
	everywhere(Ip4{.src = kRemote, .dst = kWan, .version = 6} / kKnock, PTRIG_MALFORMED);
	everywhere(Ip4{.src = kRemote, .dst = kWan, .version = 0} / kKnock, PTRIG_MALFORMED);
}

// From a trigger port to an open one: others are not looked at.
const Udp kUdp{.sport = 5060, .dport = 16384};

TEST_F(Parse, TotalLength) {
	for (const std::uint16_t total : {0, 19, 20, 27, 37, 65535})
		everywhere(Ip4{.src = kRemote, .dst = kWan, .total = total} / kUdp / "12345678", PTRIG_MALFORMED);
	for (const std::uint16_t total : {20, 39})
		everywhere(Ip4{.src = kRemote, .dst = kWan, .total = total} / Tcp{.sport = 6667} / "12345678",
			   PTRIG_MALFORMED);
}

TEST_F(Parse, UdpLength) {
	for (const std::uint16_t length : {0, 7, 17, 65535})
		everywhere(kRemoteToWan / Udp{.sport = 5060, .dport = 16384, .length = length} / "12345678",
			   PTRIG_MALFORMED);
}

TEST_F(Parse, TcpDataOffset) {
	for (std::uint8_t offset = 0; offset < 5; offset++)
		everywhere(kRemoteToWan / Tcp{.sport = 6667, .offset = offset} / Fill{40}, PTRIG_MALFORMED);
	everywhere(kRemoteToWan / Tcp{.sport = 6667, .offset = 6}, PTRIG_MALFORMED); // longer than the packet
}

TEST_F(Parse, LaterFragments) {
	for (const bool more : {false, true})
		everywhere(Ip4{.src = kRemote, .dst = kWan, .df = false, .mf = more, .offset = 1480} / kKnock / "x",
			   PTRIG_FRAGMENT);
	everywhere(Ip4{.src = kRemote, .dst = kWan, .df = false, .offset = 8, .proto = 17} / Bytes{1}, PTRIG_FRAGMENT);
}

TEST_F(Parse, TinyFirstFragmentIsNoTrigger) {
	const Ip4 ip{.df = false, .mf = true};
	EXPECT_EQ(lan_in(kFromHost / ip / Bytes{0x04, 0x01, 0x1a, 0x0b, 0, 0, 0, 1}), PTRIG_NOT_IPV4);
	EXPECT_EQ(lan_in(kFromHost / Ip4{.df = false, .mf = true, .proto = 6} /
			 Bytes{0x04, 0x01, 0x1a, 0x0b, 0, 0, 0, 1}),
		  PTRIG_MALFORMED);
}

TEST_F(Parse, EthernetPaddingIsNoLie) {
	Packet out;
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .total = 29} /
				 Udp{.sport = 7000, .dport = 16384, .length = 9, .csum = kZero} / "x" / Fill{17},
			 &out),
		  PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kHost, .ttl = 63, .total = 29} /
			    Udp{.sport = 7000, .dport = 16384, .length = 9, .csum = kZero} / "x" / Fill{17}));
}

TEST_F(Parse, IpOptionsAreCarried) {
	for (std::size_t words = 1; words <= 10; words++) {
		Bytes options(words * 4, 1); // no operation
		if (words >= 2)
			options = {7, 7, 4, 0, 0, 0, 0, 0}; // record route with room for one
		const Udp from{.sport = static_cast<std::uint16_t>(8000 + words), .dport = 16384};
		Packet out;
		EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .options = options} / from / "x", &out),
			  PTRIG_OPENED);
		EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kHost, .ttl = 63, .options = options} / from / "x"));
		const Udp back{.sport = 16384, .dport = from.sport};
		EXPECT_EQ(lan_in(kFromHost / Ip4{.options = options} / back / "y", &out), PTRIG_ESTABLISHED);
		EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = kRemote, .ttl = 63, .options = options} / back / "y"));
	}
}

TEST_F(Parse, IpOptionsTrigger) {
	age_lease("media", seconds(1));
	const Packet l4 = Udp{.sport = 5060, .dport = 5060} / "x";
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kFromHost / Ip4{.options = Bytes(40, 1)} / l4), PTRIG_CANDIDATE);
}

/// The kernel drops what has a source route (accept_source_route = 0) after ptrig has seen it, and what contradicts
/// itself, too.
TEST_F(Parse, IpOptionsThatTheKernelRefusesBeginNothing) {
	const Bytes loose{131, 7, 4, 198, 51, 100, 9}, strict{137, 7, 4, 198, 51, 100, 9},
		used_up{131, 7, 8, 1, 2, 3, 4};
	Bytes last(40, 1);
	std::copy(loose.begin(), loose.end(), last.end() - 7);
	const Bytes behind_another{7, 7, 4, 0, 0, 0, 0, 1, 137, 3, 4};
	age_lease("media", seconds(1));
	for (const Bytes &options : {loose, strict, used_up, last, behind_another, Bytes{7, 0, 0, 0}, Bytes{7, 1, 0, 0},
				     Bytes{7, 5, 4, 0}, Bytes{1, 1, 1, 7}}) {
		const Ip4 from_wan{.src = kRemote, .dst = kWan, .options = options}, from_lan{.options = options};
		EXPECT_EQ(wan_in(kFromRemote / from_wan / kKnock), PTRIG_IP_OPTIONS);
		EXPECT_EQ(wan_in(kFromRemote / from_wan / Tcp{.dport = 113}), PTRIG_IP_OPTIONS);
		EXPECT_EQ(lan_in(kFromHost / from_lan / Udp{.sport = 5060, .dport = 5060}), PTRIG_IP_OPTIONS);
		EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kWan, .options = options} / kKnock),
			  PTRIG_IP_OPTIONS)
			<< "a hairpin";
	}
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Parse, IpOptionsThatOnlyLookLikeASourceRoute) {
	const Bytes after_the_end{0, 131, 7, 4, 1, 2, 3, 4}, inside_another{7, 7, 4, 131, 137, 131, 137};
	for (const Bytes &options : {after_the_end, inside_another})
		EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .options = options} /
				 Udp{.sport = static_cast<std::uint16_t>(9000 + options[0]), .dport = 16384}),
			  PTRIG_OPENED);
}

/// A session's time and its end are ptrig's, whatever options its packets have.
TEST_F(Parse, ASourceRouteHidesNoPacketOfASession) {
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / kKnock), PTRIG_OPENED);
	const Bytes loose{131, 7, 4, 198, 51, 100, 9};
	const Packet routed = kFromRemote / Ip4{.src = kRemote, .dst = kWan, .options = loose} / kKnock;
	EXPECT_EQ(wan_in(routed), PTRIG_HALF_OPEN);
	admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED});
	EXPECT_NE(wan_in(routed), PTRIG_HALF_OPEN);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Parse, AtWanEgressWhatTheGatewayForwardsIsRead) {
	const Packet cut = (kToRemote / kWanToRemote / Udp{.dport = 5060}).cut(40);
	EXPECT_EQ(run(Hook::kWanOut, "wan0", cut, nullptr, kOwn), PTRIG_NO_CANDIDATE);
	EXPECT_EQ(wan_out(cut), PTRIG_MALFORMED);
	EXPECT_EQ(wan_out(kToRemote / kWanToRemote / Icmp{}), PTRIG_ICMP);
	EXPECT_EQ(wan_out(kToRemote / Ip4{.src = kWan, .dst = kRemote, .offset = 8} / Udp{}), PTRIG_FRAGMENT);
	EXPECT_EQ(wan_out(Eth{.type = kArp} / Fill{46}), PTRIG_NOT_IPV4);
}

} // namespace
} // namespace ptrig::test
