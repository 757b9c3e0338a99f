// What a gateway's interfaces may be, and be made of: without Ethernet, on top of others, with offloads and sizes of
// every kind, with several addresses.
#include "tests/lab/lab.h"
#include "tests/lab/tun.h"

namespace lab {

class Devices : public Lab {
protected:
	/// A lease by way of `remote`, and then both protocols through the open ports of `wan`, both ways.
	void expect_served(const NetNs &host, const std::string &remote, const std::string &wan);
};
LAB_STORIES(Devices);

void Devices::expect_served(const NetNs &host, const std::string &remote, const std::string &wan_address) {
	EXPECT_FALSE(talk(udp_socket(wan(), {remote, 0}), udp_on(host, 6000), {wan_address, 6000}, 200ms))
		<< "before the trigger";
	EXPECT_EQ(trigger(host, {remote, 4000}).address, wan_address);
	EXPECT_EQ(leases("game").at(0).at("wan"), wan_address);
	const Fd talker = udp_socket(wan(), {remote, 0});
	for (int i = 0; i < 3; i++)
		EXPECT_TRUE(talk(talker, udp_on(host, 6000), {wan_address, 6000})) << i;
	const Connection connection = tcp_connect(wan(), {wan_address, 6001}, {remote, 0});
	ASSERT_TRUE(connection);
	const auto accepted = tcp_accept(tcp_on(host, 6001));
	ASSERT_TRUE(accepted);
	EXPECT_EQ(remote_end(*accepted).address, remote);
	EXPECT_TRUE(exchange(connection.socket, *accepted, 1 << 18));
}

TEST_P(Devices, WanWithoutEthernet) {
	const TunCable cable(gw(), "ppp0", wan(), "ppp0");
	ip(gw(), "addr add 198.18.9.2 peer 198.18.9.1 dev ppp0\nlink set ppp0 mtu 1400 up\n");
	ip(wan(), "addr add 198.18.9.1 peer 198.18.9.2 dev ppp0\nlink set ppp0 mtu 1400 up\n");
	nft("add rule inet lab forward oifname ppp0 accept\nadd rule ip lab_nat postrouting oifname ppp0 masquerade\n");
	tcp_on(lan1(), 6001);
	up(game(), "wan = ['ppp0']\ndatapath = 'auto'");
	expect_served(lan1(), "198.18.9.1", "198.18.9.2");
}

TEST_P(Devices, LanWithoutEthernet) {
	const NetNs road("road");
	const TunCable cable(gw(), "wg0", road, "wg0");
	ip(gw(), "addr add 10.66.0.1/24 dev wg0\nlink set wg0 mtu 1420 up\n");
	ip(road, "addr add 10.66.0.2/24 dev wg0\nlink set wg0 mtu 1420 up\nroute add default via 10.66.0.1\n");
	nft("add rule inet lab forward iifname wg0 oifname wan0 accept\n");
	tcp_on(road, 6001);
	up(game(), "lan = ['wg0']\ndatapath = 'auto'");
	expect_served(road, kRemote1, kWan);
	EXPECT_EQ(leases("game").at(0).at("host"), "10.66.0.2");
}

TEST_P(Devices, WanOnTopOfAnother) {
	for (const NetNs *end : {&gw(), &wan()}) {
		const bool gateway = end == &gw();
		ip(*end, "link add vx0 type vxlan id 7 dstport 4789 local " + (gateway ? kWan : kRemote1) + " remote " +
				 (gateway ? kRemote1 : kWan) + " dev " + (gateway ? "wan0" : "eth0") + "\naddr add " +
				 (gateway ? "198.18.9.2" : "198.18.9.1") + "/24 dev vx0\nlink set vx0 up\n");
	}
	nft("add rule inet lab forward oifname vx0 accept\nadd rule ip lab_nat postrouting oifname vx0 masquerade\n");
	tcp_on(lan1(), 6001);
	up(game(), "wan = ['vx0']\ndatapath = 'auto'");
	expect_served(lan1(), "198.18.9.1", "198.18.9.2");
}

/// A lease is of the address by which its trigger left: hosts behind different ones hold one rule side by side.
TEST_P(Devices, EachOfSeveralWanAddressesAnswersForItself) {
	ip(gw(), "addr add 203.0.113.3/24 dev wan0\n");
	nft("insert rule ip lab_nat postrouting oifname wan0 ip saddr " + host2() + " snat to 203.0.113.3\n");
	up(game());
	EXPECT_EQ(trigger(lan2()).address, "203.0.113.3");
	EXPECT_EQ(leases("game").at(0).at("wan"), "203.0.113.3");
	const Fd first = udp_socket(wan(), {kRemote1, 0}), second = udp_socket(wan(), {kRemote1, 0});
	udp_send(first, {kWan, 6000}, "too early");
	EXPECT_FALSE(udp_receive(udp_on(lan2(), 6000), 200ms)) << "the other address is not its host's";
	EXPECT_EQ(trigger(lan1()).address, kWan);
	EXPECT_EQ(leases("game").size(), 2U);
	const Fd third = udp_socket(wan(), {kRemote1, 0});
	for (int i = 0; i < 3; i++) {
		EXPECT_TRUE(talk(third, udp_on(lan1(), 6000), {kWan, 6000})) << i;
		EXPECT_TRUE(talk(second, udp_on(lan2(), 6000), {"203.0.113.3", 6000})) << i;
	}
}

/// Checksums that hardware is left to finish, packets that are joined or to be cut: nothing of it may reach the data.
TEST_P(Devices, OffloadsAndSizes) {
	up(game());
	trigger(lan1());
	int combinations = 0;
	for (const int mtu : {1280, 1500, 3000}) {
		for (const NetNs *end : {&lan1(), &wan()})
			ip(*end, "link set eth0 mtu " + std::to_string(mtu) + "\n");
		ip(gw(),
		   "link set wan0 mtu " + std::to_string(mtu) + "\nlink set lan1if mtu " + std::to_string(mtu) + "\n");
		for (unsigned bits = 0; bits < 16; bits++) {
			const auto on = [&](unsigned bit) { return bits & bit ? "on" : "off"; };
			// With XDP on a veth's other end, that end's checksums are to be finished and GRO is to be on.
			if (xdp() && (bits & 12) != 4)
				continue;
			for (const NetNs *end : {&lan1(), &wan()})
				must(*end,
				     {"ethtool", "-K", "eth0", "tso", on(1), "gso", on(2), "gro", on(4), "tx", on(8)});
			const auto [remote, host] = connect_in(6002, lan1());
			EXPECT_TRUE(exchange(remote, host, 1 << 17)) << "mtu " << mtu << ", offloads " << bits;
			combinations++;
		}
	}
	EXPECT_EQ(combinations, xdp() ? 12 : 48);
}

TEST_P(Devices, TheRulesetIsFlushedAndLoadedAgain) {
	run_daemon(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	const Json before = leases("game");
	nft("flush ruleset\n"); // nothing in the kernel follows connections now
	load_firewall();
	EXPECT_TRUE(eventually(10s, [&] { return talk(remote, udp_on(lan1(), 6000), {kWan, 6000}, 200ms); }));
	EXPECT_EQ(who_gets_udp(6001), "lan1") << "the port is ptrig's, not the ruleset's";
	EXPECT_EQ(leases("game").at(0).at("age_s") >= before.at(0).at("age_s"), true);
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6003), "lan1");
	EXPECT_EQ(leases("game").size(), 1U);
}

/// Where the LAN is a bridge.
class Bridged : public Lab {};
LAB_STORIES_OF(Bridged, "tc");

TEST_P(Bridged, TheHostsPortLeavesAndComesBack) {
	up(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	ip(gw(), "link set lan1if nomaster\n");
	EXPECT_FALSE(talk(remote, udp_on(lan1(), 6000), {kWan, 6000}, 200ms));
	ip(gw(), "link set lan1if master br0\n");
	EXPECT_TRUE(eventually(15s, [&] { return talk(remote, udp_on(lan1(), 6000), {kWan, 6000}, 100ms); }));
}

} // namespace lab
