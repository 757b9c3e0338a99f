// Devices without an Ethernet header: a tunnel as LAN, as WAN, and one beside an Ethernet. The tunnels' addresses
// begin with 8.0 because a test run takes the bytes there for an EtherType, 0x0800; and it takes no IPv4 frame of
// less than 34 bytes.
#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Ip4 kTunRemoteToWan{.src = kTunRemote, .dst = kTunWan},
	kTunWanToRemote{.src = kTunWan, .dst = kTunRemote, .ttl = 63};
const Ip4 kTunHostToRemote{.src = kTunHost, .dst = kTunRemote},
	kTunRemoteToHost{.src = kTunRemote, .dst = kTunHost, .ttl = 63};

class L3 : public DatapathTest {
protected:
	enum ptrig_reason tun_lan_in(const Packet &in, Packet *out = nullptr) { return through(in, kTunnels, out); }
	/// `to`: the LAN device by which the host is reached.
	enum ptrig_reason tun_wan_in(const Packet &in, Packet *out = nullptr, const std::string &to = "tunl") {
		return from_wan("tunw", in, out, to);
	}
	static const Way kTunnels;
};
const Way L3::kTunnels{.lan = "tunl", .wan = "tunw", .wan_address = kTunWan};

TEST_F(L3, Parsing) {
	apply({media(), ident()});
	EXPECT_EQ(tun_wan_in(kTunRemoteToWan / Icmp{} / "payload"), PTRIG_ICMP);
	EXPECT_EQ(tun_wan_in(Ip4{.src = kTunRemote, .dst = kTunWan, .offset = 8} / kKnock / "payload"), PTRIG_FRAGMENT);
	EXPECT_EQ(tun_wan_in((kTunRemoteToWan / Tcp{} / "payload").cut(39)), PTRIG_MALFORMED);
	EXPECT_EQ(tun_wan_in(Ip4{.src = kTunRemote, .dst = kTunWan, .ihl = 4} / kKnock / "payload"), PTRIG_MALFORMED);
	EXPECT_EQ(tun_wan_in(Ip4{.src = kTunRemote, .dst = kTunWan, .proto = 47} / Fill{20}), PTRIG_NOT_IPV4);
	EXPECT_EQ(tun_wan_in(kTunRemoteToWan / kKnock / "payload"), PTRIG_NO_LEASE);
	EXPECT_EQ(tun_lan_in(kTunHostToRemote / Udp{.dport = 9} / "payload"), PTRIG_NOT_TRIGGER);
}

TEST_F(L3, FromTunnelToTunnel) {
	apply({media()});
	ASSERT_EQ(trigger({kTunHost, ""}, kInvite, kTunRemote, kTunnels), PTRIG_GRANTED);
	const auto granted = lease("media", "", kTunWan);
	ASSERT_TRUE(granted);
	EXPECT_EQ(granted->info.flags & PTRIG_LEASE_ONLINK, 0U) << "there is no MAC to know it by";
	Packet out;
	EXPECT_EQ(tun_wan_in(kTunRemoteToWan / kKnock / "into it", &out), PTRIG_OPENED);
	EXPECT_EQ(out, kTunRemoteToHost / kKnock / "into it");
	EXPECT_EQ(tun_lan_in(kTunHostToRemote / kReply / "out of it", &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(out, kTunWanToRemote / kReply / "out of it");
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(tun_wan_in(kTunRemoteToWan / kKnock / "into it", &out), PTRIG_FORWARDED);
		EXPECT_EQ(out, kTunRemoteToHost / kKnock / "into it");
		EXPECT_EQ(tun_lan_in(kTunHostToRemote / kReply / "out of it", &out), PTRIG_FORWARDED);
		EXPECT_EQ(out, kTunWanToRemote / kReply / "out of it");
	}
}

TEST_F(L3, FromEthernetToTunnel) {
	// ppp0 as WAN.
	apply({media()});
	const Way way{.wan = "tunw", .wan_address = kTunWan};
	ASSERT_EQ(trigger(kA, kInvite, kTunRemote, way), PTRIG_GRANTED);
	Packet out;
	EXPECT_EQ(tun_wan_in(kTunRemoteToWan / kKnock / "into it", &out, "lan0"), PTRIG_OPENED);
	const Ip4 to_host{.src = kTunRemote, .dst = kHost, .ttl = 63};
	EXPECT_EQ(l3(out), to_host / kKnock / "into it");
	EXPECT_EQ(through(kFromHost / Ip4{.src = kHost, .dst = kTunRemote} / kReply / "out of it", way, &out),
		  PTRIG_ESTABLISHED);
	EXPECT_EQ(out, kTunWanToRemote / kReply / "out of it");
	EXPECT_EQ(tun_wan_in(kTunRemoteToWan / kKnock / "into it"), PTRIG_FORWARDED);
}

TEST_F(L3, FromTunnelToEthernet) {
	// wg0 as LAN.
	apply({media()});
	const Way way{.lan = "tunl"};
	ASSERT_EQ(trigger({kTunHost, ""}, kInvite, kRemote, way), PTRIG_GRANTED);
	Packet out;
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kKnock / "into it", &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kTunHost, .ttl = 63} / kKnock / "into it"));
	EXPECT_EQ(through(Ip4{.src = kTunHost, .dst = kRemote} / kReply / "out of it", way, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToRemote / kReply / "out of it");
	EXPECT_EQ(through(Ip4{.src = kTunHost, .dst = kRemote} / kReply / "out of it", way, &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, kToRemote / kWanToRemote / kReply / "out of it");
}

TEST_F(L3, Sources) {
	apply({media()});
	EXPECT_EQ(trigger({"8.0.78.1", ""}, kInvite, kTunRemote, kTunnels), PTRIG_SPOOFED) << "goes back by wan0";
	EXPECT_EQ(trigger({"8.0.77.1", ""}, kInvite, kTunRemote, kTunnels), PTRIG_SPOOFED) << "the gateway's own";
	EXPECT_EQ(trigger({"8.0.77.12", ""}, kInvite, kTunRemote, kTunnels), PTRIG_GRANTED);
	EXPECT_EQ(trigger({kTunHost, ""}, kInvite, kTunRemote, kTunnels), PTRIG_HELD);
}

TEST_F(L3, Confirm) {
	Rule rule = media();
	rule.confirm = true;
	apply({rule});
	EXPECT_EQ(trigger({kTunHost, ""}, kInvite, kTunRemote, kTunnels), PTRIG_PENDING);
	EXPECT_EQ(run(Hook::kLanOut, "tunl", kTunRemoteToHost / Udp{.sport = 5060, .dport = 5060} / "payload", nullptr,
		      "tunw"),
		  PTRIG_GRANTED);
}

TEST_F(L3, OwnPort) {
	apply({media()});
	ASSERT_EQ(trigger({kTunHost, ""}, kInvite, kTunRemote, kTunnels), PTRIG_GRANTED);
	Packet out;
	EXPECT_EQ(tun_lan_in(kTunHostToRemote / kReply / "payload", &out), PTRIG_OWN_PORT);
	EXPECT_EQ(out, kTunWanToRemote / kReply / "payload");
}

} // namespace
} // namespace ptrig::test
