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
	enum ptrig_reason tun_lan_in(const Packet &in, Packet *out = nullptr) {
		return run(Hook::kLanIn, "tunl", in, out);
	}
	enum ptrig_reason tun_wan_in(const Packet &in, Packet *out = nullptr) {
		return run(Hook::kWanIn, "tunw", in, out);
	}
	static const Way kTunnels;
};
const Way L3::kTunnels{.lan = "tunl", .wan = "tunw", .wan_address = kTunWan};

TEST_F(L3, Parsing) {
	apply({media()});
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
	EXPECT_EQ(lease("media")->info.flags & PTRIG_LEASE_ONLINK, 0U) << "there is no MAC to know it by";
	EXPECT_EQ(lease("media")->info.wan, be(kTunWan));
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
	EXPECT_TRUE(session().wan.flags & PTRIG_SESSION_L3);
}

TEST_F(L3, FromEthernetToTunnel) {
	// ppp0 as WAN: the frame loses its Ethernet header on the way out (bpf_redirect to such a device does that).
	apply({media()});
	const Way way{.wan = "tunw", .wan_address = kTunWan};
	ASSERT_EQ(trigger(kA, kInvite, kTunRemote, way), PTRIG_GRANTED);
	Packet out;
	EXPECT_EQ(tun_wan_in(kTunRemoteToWan / kKnock / "into it", &out), PTRIG_OPENED);
	const Ip4 to_host{.src = kTunRemote, .dst = kHost, .ttl = 63};
	EXPECT_EQ(l3(out), to_host / kKnock / "into it") << "an Ethernet header has been put before it";
	EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = kTunRemote} / kReply / "out of it", &out),
		  PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kTunWanToRemote / kReply / "out of it");
	EXPECT_EQ(tun_wan_in(kTunRemoteToWan / kKnock / "into it"), PTRIG_FORWARDED);
	EXPECT_EQ(tun_wan_in(kTunRemoteToWan / kKnock / "into it", &out), PTRIG_FORWARDED);
	EXPECT_EQ(out, kToHost / to_host / kKnock / "into it") << "by the cached hop";
}

TEST_F(L3, FromTunnelToEthernet) {
	// wg0 as LAN.
	apply({media()});
	const Way way{.lan = "tunl"};
	ASSERT_EQ(trigger({kTunHost, ""}, kInvite, kRemote, way), PTRIG_GRANTED);
	Packet out;
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kKnock / "into it", &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kTunHost, .ttl = 63} / kKnock / "into it"));
	EXPECT_EQ(tun_lan_in(Ip4{.src = kTunHost, .dst = kRemote} / kReply / "out of it", &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToRemote / kReply / "out of it");
	EXPECT_EQ(tun_lan_in(Ip4{.src = kTunHost, .dst = kRemote} / kReply / "out of it", &out), PTRIG_FORWARDED);
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
	EXPECT_EQ(tun_lan_in(kTunHostToRemote / kReply / "payload", &out), PTRIG_OPENED);
	EXPECT_EQ(out, kTunWanToRemote / kReply / "payload");
}

TEST_F(L3, TtlAndMtu) {
	apply({media()});
	ASSERT_EQ(trigger({kTunHost, ""}, kInvite, kTunRemote, kTunnels), PTRIG_GRANTED);
	Packet out;
	Ip4 from = kTunRemoteToWan, to = kTunRemoteToHost;
	from.ttl = to.ttl = 1;
	EXPECT_EQ(tun_wan_in(from / kKnock / "payload", &out), PTRIG_TTL_EXPIRED_UP);
	EXPECT_EQ(out, to / kKnock / "payload");
	interface("tunl", PTRIG_IFACE_LAN | PTRIG_IFACE_L3, 1280);
	from.ttl = to.ttl = 64;
	EXPECT_EQ(tun_wan_in(from / kKnock / Fill{1253}, &out), PTRIG_TOO_BIG_UP);
	EXPECT_EQ(out, to / kKnock / Fill{1253});
	to.ttl = 63;
	EXPECT_EQ(tun_wan_in(from / kKnock / Fill{1252}, &out), PTRIG_HALF_OPEN);
	EXPECT_EQ(out, to / kKnock / Fill{1252});
}

} // namespace
} // namespace ptrig::test
