// What others' packets try: DHCP and its like under rules that open everything, a payload that names somebody else,
// fragments that say one thing and mean another, the same refusal again and again. docs/threats.md names them.
#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

class Threat : public DatapathTest {
protected:
	/// 5060/udp opens every port of both protocols to host A.
	void everything() {
		Rule rule = media();
		rule.open = {open({1, 65535, PTRIG_TCP | PTRIG_UDP})};
		granted({rule});
	}
};

constexpr Udp kDhcpRequest{.sport = 68, .dport = 67}, kDhcpReply{.sport = 67, .dport = 68};

TEST_F(Threat, DhcpOfTheGatewayIsNeverTouched) {
	Rule dhcp = media();
	dhcp.open = {open(udp(67, 68))};
	for (const bool all : {false, true}) {
		if (all)
			everything();
		else
			granted({dhcp});
		EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kDhcpReply), PTRIG_NO_LEASE) << all;
		EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kDhcpRequest), PTRIG_NO_LEASE) << all;
		EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = "203.0.113.99"} / kDhcpReply), PTRIG_NO_LEASE)
			<< "an offer of another address";
		lan_in(kFromHost / Ip4{.src = kHost, .dst = kLanAddr} / kDhcpRequest);
		lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kWan} / kDhcpRequest); // nor in a hairpin
		lan_in(kFromHost / kHostToRemote / kDhcpRequest);                    // nor by the host's own port
		EXPECT_TRUE(sessions().empty()) << all;
	}
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.sport = 7000, .dport = 67}), PTRIG_OPENED)
		<< "TCP is not DHCP";
}

TEST_F(Threat, DhcpPortsAreNotReachedByAMappingEither) {
	Rule rule = media();
	rule.open = {open(udp(60, 70), 5000), open(udp(4000, 4001), 67)};
	granted({rule});
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kDhcpReply), PTRIG_NO_LEASE);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 5008, .dport = 67}), PTRIG_CANDIDATE)
		<< "nothing is done with it";
	Packet out;
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = 69}, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (kRemoteToHost / Udp{.sport = 7000, .dport = 5009}));
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = 4001}, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (kRemoteToHost / Udp{.sport = 7000, .dport = 68})) << "the host's ports are its own";
}

TEST_F(Threat, MulticastBroadcastAndArpAreNeverTouched) {
	everything();
	const Eth to_all{.src = kRemoteMac, .dst = "ff:ff:ff:ff:ff:ff"},
		from_lan_to_all{.src = kHostMac, .dst = to_all.dst};
	EXPECT_EQ(wan_in(to_all / Ip4{.src = "0.0.0.0", .dst = "255.255.255.255"} / kDhcpRequest), PTRIG_NOT_IPV4);
	EXPECT_EQ(lan_in(from_lan_to_all / Ip4{.src = "0.0.0.0", .dst = "255.255.255.255"} / kDhcpRequest),
		  PTRIG_NOT_IPV4);
	EXPECT_EQ(wan_in(Eth{.src = kRemoteMac, .dst = to_all.dst, .type = 0x0806} / Fill{46}), PTRIG_NOT_IPV4);
	EXPECT_EQ(wan_in(Eth{.src = kRemoteMac, .dst = kWanMac, .type = 0x0806} / Fill{46}), PTRIG_NOT_IPV4) << "ARP";
	for (const char *address :
	     {"255.255.255.255", "203.0.113.255", "203.0.113.0", "224.0.0.251", "239.255.255.250"}) {
		const Ip4 ip{.src = kRemote, .dst = address};
		EXPECT_EQ(wan_in(kFromRemote / ip / Udp{.sport = 1900, .dport = 1900}), PTRIG_NO_LEASE) << address;
		const Ip4 bare{.src = kTunRemote, .dst = address};
		EXPECT_EQ(run(Hook::kWanIn, "tunw", bare / Udp{.sport = 1900, .dport = 1900} / Fill{20}),
			  PTRIG_NO_LEASE)
			<< address << " by a device without Ethernet header";
	}
	for (const char *address : {"255.255.255.255", "224.0.0.251"}) {
		const Ip4 ip{.src = kHost, .dst = address};
		EXPECT_EQ(lan_in(kFromHost / ip / Udp{.sport = 5060, .dport = 5060}), PTRIG_NOT_TRIGGER) << address;
		EXPECT_EQ(lan_in(kFromHost / ip / Udp{.sport = 9999, .dport = 9999}), PTRIG_NOT_TRIGGER) << address;
	}
	EXPECT_TRUE(sessions().empty());
}

/// NAT slipstreaming: what an application gateway would read as the address to open a port for.
TEST_F(Threat, ARegisterWithAForeignAddressOpensNothingForIt) {
	const Udp from_a{.sport = 5060, .dport = 5060};
	const std::string reg = "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP " + kHost2 +
				":16384;branch=z9hG4bK1\r\nContact: <sip:victim@" + kHost2 +
				":16384;transport=udp>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n";
	apply({media()});
	EXPECT_EQ(trigger(kA, Tcp{.sport = 5060, .dport = 5060, .flags = kPsh | kAck} / reg), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(trigger(kA, Udp{.sport = 5060, .dport = 5070} / reg), PTRIG_NOT_TRIGGER);
	EXPECT_FALSE(lease("media")) << "the payload alone is none";
	Packet out;
	EXPECT_EQ(trigger(kA, from_a / reg), PTRIG_GRANTED);
	EXPECT_EQ(lease("media")->info.host, be(kHost));
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / kKnock / "knock", &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kRemoteToHost / kKnock / "knock");
	for (const Pair &pair : sessions())
		EXPECT_EQ(pair.lan_key.saddr, be(kHost));
	EXPECT_EQ(usage().leases, 1U);
}

/// The first fragment says 9999, an overlapping one would make it 5060; and the other way round.
TEST_F(Threat, OverlappingFragmentsForgeNoTrigger) {
	apply({media()});
	const Ip4 first{.df = false, .mf = true};
	EXPECT_EQ(lan_in(kFromHost / first / Udp{.sport = 5060, .dport = 9999, .length = 3000} / Fill{1472}),
		  PTRIG_NOT_TRIGGER);
	for (const std::uint16_t offset : {8, 16})
		EXPECT_EQ(lan_in(kFromHost / Ip4{.df = false, .mf = true, .offset = offset} /
				 Udp{.sport = 5060, .dport = 5060, .length = 3000} / Fill{1472}),
			  PTRIG_FRAGMENT)
			<< offset;
	EXPECT_EQ(run(Hook::kLanIn, "lan0",
		      kFromHost / first / Udp{.sport = 5060, .dport = 5060, .length = 3000} / Fill{1472}),
		  PTRIG_CANDIDATE);
	EXPECT_EQ(wan_out(kToRemote / kWanToRemote / Udp{.sport = 5060, .dport = 9999} / Fill{2992}),
		  PTRIG_NO_CANDIDATE)
		<< "what is put together is what leaves";
	EXPECT_FALSE(lease("media"));
}

TEST_F(Threat, AThousandRefusalsAreOneEventAndACount) {
	apply({ident()});
	const Packet syn = Tcp{.sport = 1025, .dport = 6667};
	EXPECT_EQ(trigger(kA, syn), PTRIG_GRANTED);
	events();
	std::size_t told = 0;
	for (int i = 0; i < 1000; i++) {
		ASSERT_EQ(trigger(kB, syn), PTRIG_HELD);
		told += events().size();
	}
	EXPECT_LE(told, 10U) << "one a second";
	EXPECT_EQ(hits("ident").refused[PTRIG_HELD - PTRIG_FLAGS], 1000U) << "and each is counted";
}

} // namespace
} // namespace ptrig::test
