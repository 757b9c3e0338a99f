// What can be told of a look at the network without a kernel: finding interfaces, choosing XDP.
#include <arpa/inet.h>
#include <array>
#include <gtest/gtest.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>

#include "loader/netlink.h"
#include "loader/netlink_message.h"
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

/// One message of the kernel's.
template <typename Header> class Message {
public:
	explicit Message(std::uint16_t type) {
		mnl_nlmsg_put_header(buffer_.data())->nlmsg_type = type;
		mnl_nlmsg_put_extra_header(message(), sizeof(Header));
	}
	Header &header() { return *static_cast<Header *>(mnl_nlmsg_get_payload(message())); }
	Message &u32(std::uint16_t attribute, std::uint32_t value) {
		mnl_attr_put_u32(message(), attribute, value);
		return *this;
	}
	const nlmsghdr *get() const { return reinterpret_cast<const nlmsghdr *>(buffer_.data()); }

private:
	nlmsghdr *message() { return reinterpret_cast<nlmsghdr *>(buffer_.data()); }
	alignas(8) std::array<char, 512> buffer_{};
};

Message<rtmsg> route(const char *to, std::uint8_t bits, std::uint32_t table, std::uint32_t ifindex) {
	Message<rtmsg> made(RTM_NEWROUTE);
	made.header().rtm_family = AF_INET;
	made.header().rtm_dst_len = bits;
	made.header().rtm_type = RTN_UNICAST;
	made.header().rtm_table = RT_TABLE_COMPAT;
	made.u32(RTA_TABLE, table).u32(RTA_OIF, ifindex);
	if (bits > 0)
		made.u32(RTA_DST, htonl(parse_ip4(to)->value));
	return made;
}

TEST(DefaultRoute, OfAnyTableAndInHalves) {
	const auto part_of = [](const char *to, std::uint8_t bits) -> std::optional<DefaultRoute::Part> {
		const auto made = route(to, bits, 1000, 7);
		const auto parsed = parse_default_route(made.get());
		EXPECT_EQ(parse_change(made.get()).has_value(), parsed.has_value()) << to << " is to be noticed";
		if (!parsed)
			return std::nullopt;
		EXPECT_EQ(parsed->table, 1000U);
		EXPECT_EQ(parsed->ifindexes, std::vector<std::uint32_t>{7});
		return parsed->part;
	};
	EXPECT_EQ(part_of("0.0.0.0", 0), DefaultRoute::Part::kWhole);
	EXPECT_EQ(part_of("0.0.0.0", 1), DefaultRoute::Part::kLowHalf);
	EXPECT_EQ(part_of("128.0.0.0", 1), DefaultRoute::Part::kHighHalf);
	EXPECT_EQ(part_of("0.0.0.0", 8), std::nullopt);
	EXPECT_EQ(part_of("128.0.0.0", 2), std::nullopt);
}

TEST(DefaultRoute, TheWholeBeforeTheHalvesAndNoHalfAlone) {
	using Part = DefaultRoute::Part;
	using List = std::vector<std::uint32_t>;
	const DefaultRoute whole{Part::kWhole, 254, 100, {2}}, better{Part::kWhole, 254, 10, {3}};
	const DefaultRoute low{Part::kLowHalf, 254, 0, {4}}, high{Part::kHighHalf, 254, 0, {4}},
		elsewhere{Part::kHighHalf, 254, 0, {5}};
	EXPECT_EQ(best_default({}), List{});
	EXPECT_EQ(best_default({whole, better, low, high}), List{3});
	EXPECT_EQ(best_default({low, high}), List{4});
	EXPECT_EQ(best_default({low, elsewhere}), (List{4, 5}));
	EXPECT_EQ(best_default({low}), List{});
	EXPECT_EQ(best_default({high}), List{});
}

TEST(RoutingRules, TablesForAllPacketsBeforeThoseForSome) {
	const auto rule = [](std::uint32_t priority, std::uint32_t table) {
		Message<fib_rule_hdr> made(RTM_NEWRULE);
		made.header().family = AF_INET;
		made.header().action = FR_ACT_TO_TBL;
		made.u32(FRA_PRIORITY, priority).u32(FRA_TABLE, table);
		return made;
	};
	auto marked = rule(100, 51820), suppressed = rule(90, RT_TABLE_MAIN), inverted = rule(95, 9),
	     local = rule(0, 255);
	marked.u32(FRA_FWMARK, 7);
	suppressed.u32(FRA_SUPPRESS_PREFIXLEN, 0);
	inverted.header().flags = FIB_RULE_INVERT;
	EXPECT_FALSE(parse_table_rule(suppressed.get()));
	EXPECT_FALSE(parse_table_rule(local.get()));
	EXPECT_FALSE(parse_table_rule(marked.get())->for_all);
	EXPECT_FALSE(parse_table_rule(inverted.get())->for_all);
	EXPECT_TRUE(parse_change(marked.get())) << "it is to be noticed";
	std::vector<TableRule> rules;
	for (const auto &made :
	     {marked, rule(32767, RT_TABLE_DEFAULT), inverted, rule(32766, RT_TABLE_MAIN), rule(200, 1000)})
		rules.push_back(parse_table_rule(made.get()).value());
	EXPECT_EQ(tables_in_order(rules),
		  (std::vector<std::uint32_t>{1000, RT_TABLE_MAIN, RT_TABLE_DEFAULT, 9, 51820}));
	EXPECT_EQ(tables_in_order({}), std::vector<std::uint32_t>{RT_TABLE_MAIN});
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
