// What can be told of a look at the network without a kernel: finding interfaces, choosing XDP.
#include <gtest/gtest.h>

#include "loader/netlink.h"
#include "loader/xdp.h"

namespace ptrig {
namespace {

constexpr std::uint16_t kEther = 1, kLoopback = 772, kPpp = 512;

Link link(std::uint32_t ifindex, const char *name, const char *kind = "", const char *driver = "") {
	Link made;
	made.ifindex = ifindex;
	made.name = name;
	made.kind = kind;
	made.driver = driver;
	made.arphrd = kEther;
	made.ethernet = true;
	return made;
}

Address address(std::uint32_t ifindex, const char *text, bool secondary = false) {
	auto prefix = parse_prefix(text);
	std::string bare = text;
	auto local = parse_ip4(bare.substr(0, bare.find('/'))).value();
	auto bits = static_cast<std::uint8_t>(std::stoi(bare.substr(bare.find('/') + 1)));
	std::uint32_t mask = bits == 0 ? 0 : ~0U << (32 - bits);
	return Address{ifindex, local, Prefix{Ip4{local.value & mask}, bits}, bits, 0, secondary};
}

TEST(Network, FindsAndDescribes) {
	Network network;
	network.links = {link(1, "lo"), link(2, "wan0"), link(3, "br0", "bridge"), link(4, "eth9")};
	network.links[0].arphrd = kLoopback;
	network.addresses = {address(1, "127.0.0.1/8"), address(3, "192.168.77.2/24", true),
			     address(3, "192.168.77.1/24"), address(2, "203.0.113.2/24")};
	ASSERT_NE(network.find("br0"), nullptr);
	EXPECT_EQ(network.find("br0")->ifindex, 3U);
	EXPECT_EQ(network.find(99U), nullptr);
	EXPECT_EQ(network.addresses_of(3)[0].local, parse_ip4("192.168.77.1").value());
	EXPECT_EQ(network.require("wan0").value().ifindex, 2U);
	auto unknown = network.require("wan1");
	ASSERT_FALSE(unknown);
	EXPECT_EQ(unknown.error().status, Status::kInput);
	EXPECT_EQ(unknown.error().what, "no interface \"wan1\"; there are wan0 203.0.113.2/24, "
					"br0 192.168.77.1/24 192.168.77.2/24, eth9 (no IPv4 address)");
	EXPECT_EQ(Network().describe(), "none but loopback");
}

TEST(Network, TrunkIsTheLowerDeviceOfAVlanHere) {
	Network network;
	network.links = {link(2, "eth0"), link(3, "eth0.7", "vlan"), link(4, "far.8", "vlan"),
			 link(5, "mv0", "macvlan")};
	network.links[1].lower = 2;
	network.links[2].lower = 5;
	network.links[2].lower_elsewhere = true;
	network.links[3].lower = 3;
	EXPECT_TRUE(network.is_trunk(2));
	EXPECT_FALSE(network.is_trunk(3));
	EXPECT_FALSE(network.is_trunk(5)) << "that index is one of another namespace";
}

constexpr XdpFeatures kNative{3}, kNativeAndXmit{7};

TEST(XdpAuto, OnlyKnownHardware) {
	XdpContext context{.features = kNativeAndXmit};
	EXPECT_TRUE(xdp_auto(link(2, "eth0", "", "ixgbe"), context).use);
	EXPECT_TRUE(xdp_auto(link(2, "eth0", "", "ixgbe"), XdpContext{}).use) << "a kernel before 6.3";
	for (const auto &never : {link(2, "v0", "veth"), link(2, "tap0", "tun"), link(2, "eth0", "", "virtio_net"),
				  link(2, "br0", "bridge"), link(2, "eth0.7", "vlan"), link(2, "bond0", "bond"),
				  link(2, "eth0", "", "hv_netvsc"), link(2, "eth0", "", "r8169"), link(2, "eth0")}) {
		auto choice = xdp_auto(never, context);
		EXPECT_FALSE(choice.use) << never.name << " " << never.kind << never.driver;
		EXPECT_FALSE(choice.why.empty());
	}
	auto wifi = link(2, "wlan0", "", "ixgbe");
	wifi.wireless = true;
	EXPECT_FALSE(xdp_auto(wifi, context).use);
	auto ppp = link(2, "ppp0", "ppp");
	ppp.ethernet = false;
	ppp.arphrd = kPpp;
	EXPECT_EQ(xdp_auto(ppp, context).why, "packets have no Ethernet header");
}

TEST(XdpAuto, NotWhereItWouldBypassOrSeeTooMuch) {
	auto nic = link(2, "eth0", "", "ixgbe");
	EXPECT_FALSE(xdp_auto(nic, XdpContext{.features = kNative, .trunk = true}).use);
	EXPECT_FALSE(xdp_auto(nic, XdpContext{.features = kNative, .ingress_redirect = true}).use);
	EXPECT_TRUE(xdp_auto(nic, XdpContext{.features = kNative, .egress_shaped = true}).use)
		<< "what comes in is not shaped";
	EXPECT_FALSE(xdp_auto(nic, XdpContext{.features = XdpFeatures{0}}).use) << "the kernel says no";
}

TEST(XdpPossible, WhateverCanWork) {
	EXPECT_TRUE(xdp_possible(link(2, "v0", "veth"), XdpContext{.features = kNative}).use);
	EXPECT_TRUE(xdp_possible(link(2, "v0", "veth"), XdpContext{}).use);
	EXPECT_FALSE(xdp_possible(link(2, "v0", "veth"), XdpContext{.trunk = true}).use);
	EXPECT_FALSE(xdp_possible(link(2, "br0", "bridge"), XdpContext{.features = XdpFeatures{0}}).use);
	auto tun = link(2, "tun0", "tun");
	tun.ethernet = false;
	EXPECT_FALSE(xdp_possible(tun, XdpContext{.features = kNative}).use);
}

TEST(XdpTakesRedirects, AsTheKernelSaysOrTheTable) {
	auto veth = link(2, "v0", "veth"), nic = link(3, "eth0", "", "mlx5_core"), bond = link(4, "bond0", "bond");
	EXPECT_TRUE(xdp_takes_redirects(veth, XdpContext{.features = kNativeAndXmit}));
	EXPECT_FALSE(xdp_takes_redirects(veth, XdpContext{.features = kNative}));
	EXPECT_FALSE(xdp_takes_redirects(veth, XdpContext{})) << "its peer may have no NAPI";
	EXPECT_TRUE(xdp_takes_redirects(nic, XdpContext{}));
	EXPECT_FALSE(xdp_takes_redirects(link(3, "eth0", "", "mlx4_en"), XdpContext{}));
	EXPECT_FALSE(xdp_takes_redirects(nic, XdpContext{.features = kNativeAndXmit, .egress_shaped = true}));
	EXPECT_FALSE(xdp_takes_redirects(bond, XdpContext{.features = kNativeAndXmit}));
	auto l3 = link(5, "tun0", "tun");
	l3.ethernet = false;
	EXPECT_FALSE(xdp_takes_redirects(l3, XdpContext{.features = kNativeAndXmit}));
}

} // namespace
} // namespace ptrig
