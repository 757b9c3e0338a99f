// A host's own packets from its lease's port, and from a mapped one: whatever the WAN, the LAN and the firewall are
// made of, they leave from the open port, also towards the remote that triggered.
#include "tests/lab/soak.h"
#include "tests/lab/tun.h"

namespace lab {

class OwnPort : public Lab {
protected:
	static constexpr std::uint16_t kOpen = 27961, kHosts = 27960, kTrigger = 27950;
	static constexpr std::uint16_t kElsewhere = 5900; ///< which no rule opens
	static std::string server() { return rule("server", "27950-27951/tcp+udp", "27961=27960/tcp+udp"); }
	/// From which port the remote sees a datagram or a connection that the host sends from `from`.
	std::uint16_t seen_udp(const NetNs &host, const Endpoint &to, std::uint16_t from);
	std::uint16_t seen_tcp(const NetNs &host, const Endpoint &to, std::uint16_t from);
	/// The first packet gets the lease and leaves from the open port. So do later ones, to other ports as well.
	/// Answers come back. By UDP and by TCP.
	void expect_swapped(const NetNs &host, const std::string &remote = kRemote1, const std::string &wan = kWan);
};
LAB_STORIES(OwnPort);

std::uint16_t OwnPort::seen_udp(const NetNs &host, const Endpoint &to, std::uint16_t from) {
	const auto seen = try_trigger(host, to, {"0.0.0.0", from});
	return seen ? seen->port : 0;
}

std::uint16_t OwnPort::seen_tcp(const NetNs &host, const Endpoint &to, std::uint16_t from) {
	const auto ends = connect_out(host, to, from, patient(3s));
	return ends && exchange(ends->first, ends->second, 1 << 12) ? remote_end(ends->second).port : 0;
}

void OwnPort::expect_swapped(const NetNs &host, const std::string &remote, const std::string &wan_address) {
	EXPECT_EQ(seen_udp(host, {remote, 9}, kHosts), kHosts) << "there is no lease yet";
	EXPECT_EQ(seen_tcp(host, {remote, 9}, kHosts), kHosts) << "there is no lease yet";
	EXPECT_EQ(seen_udp(host, {remote, kTrigger}, kHosts), kOpen) << "the trigger itself";
	EXPECT_EQ(seen_udp(host, {remote, 9000}, kHosts), kOpen);
	EXPECT_TRUE(answers(udp_on(wan(), kTrigger), udp_on(host, kHosts), {wan_address, kOpen}));
	EXPECT_TRUE(answers(udp_on(wan(), 9000), udp_on(host, kHosts), {wan_address, kOpen}));
	EXPECT_EQ(seen_tcp(host, {remote, kTrigger}, kHosts), kOpen);
	EXPECT_EQ(seen_tcp(host, {remote, 9000}, kHosts), kOpen);
	EXPECT_EQ(ptrig({"lease", "close", "server"}).status, 0);
	must(gw(), {"conntrack", "-F"}); // masquerade gives a host's port again what it has given it before
	const std::uint64_t before = counter("swapped_syn");
	EXPECT_EQ(seen_tcp(host, {remote, 9}, kHosts), kHosts) << "there is no lease any more";
	EXPECT_EQ(seen_tcp(host, {remote, kTrigger + 1}, kHosts), kOpen) << "the trigger itself";
	EXPECT_EQ(counter("swapped_syn"), before + 1) << "its SYN was given back once";
	EXPECT_EQ(counter("not_swapped"), 0U);
}

TEST_P(OwnPort, IsSwappedWhereBothSidesAreEthernet) {
	up(server());
	expect_swapped(lan1());
}

/// As ppp and WireGuard are: the SYN that is given back has no Ethernet header to go by.
TEST_P(OwnPort, IsSwappedAtAWanWithoutEthernet) {
	const TunCable cable(gw(), "ppp0", wan(), "ppp0");
	ip(gw(), "addr add 198.18.9.2 peer 198.18.9.1 dev ppp0\nlink set ppp0 mtu 1400 up\n");
	ip(wan(), "addr add 198.18.9.1 peer 198.18.9.2 dev ppp0\nlink set ppp0 mtu 1400 up\n");
	nft("add rule inet lab forward oifname ppp0 accept\nadd rule ip lab_nat postrouting oifname ppp0 masquerade\n");
	up(server(), "wan = ['ppp0']\ndatapath = 'auto'");
	expect_swapped(lan1(), "198.18.9.1", "198.18.9.2");
}

TEST_P(OwnPort, IsSwappedForALanWithoutEthernet) {
	const NetNs road("road");
	const TunCable cable(gw(), "wg0", road, "wg0");
	ip(gw(), "addr add 10.66.0.1/24 dev wg0\nlink set wg0 mtu 1420 up\n");
	ip(road, "addr add 10.66.0.2/24 dev wg0\nlink set wg0 mtu 1420 up\nroute add default via 10.66.0.1\n");
	nft("add rule inet lab forward iifname wg0 oifname wan0 accept\n");
	up(server(), "lan = ['wg0']\ndatapath = 'auto'");
	expect_swapped(road);
}

TEST_P(OwnPort, IsSwappedWhereNeitherSideIsEthernet) {
	const NetNs road("road");
	const TunCable line(gw(), "ppp0", wan(), "ppp0"), cable(gw(), "wg0", road, "wg0");
	ip(gw(), "addr add 198.18.9.2 peer 198.18.9.1 dev ppp0\nlink set ppp0 up\n"
		 "addr add 10.66.0.1/24 dev wg0\nlink set wg0 up\n");
	ip(wan(), "addr add 198.18.9.1 peer 198.18.9.2 dev ppp0\nlink set ppp0 up\n");
	ip(road, "addr add 10.66.0.2/24 dev wg0\nlink set wg0 up\nroute add default via 10.66.0.1\n");
	nft("add rule inet lab forward oifname ppp0 accept\nadd rule ip lab_nat postrouting oifname ppp0 masquerade\n");
	up(server(), "wan = ['ppp0']\nlan = ['wg0']\ndatapath = 'auto'");
	expect_swapped(road, "198.18.9.1", "198.18.9.2");
}

/// The LAN lets in only frames of MAC addresses that it knows. A SYN that is given back has its host's own.
TEST_P(OwnPort, IsSwappedBehindAMacFilter) {
	const std::string known = "ether saddr != " + mac_of(lan1()) + " drop\n";
	if (!xdp()) // the bridge's own filter, too
		nft("table bridge lab_mac {\nchain pre { type filter hook prerouting priority 0; iifname { lan1if, "
		    "lan2if } " +
		    known + "}\n}\n");
	nft("table netdev lab_mac {\nchain " + lan_device() + " { type filter hook ingress device " + lan_device() +
	    " priority 0; " + known + "}\n}\n");
	up(server());
	expect_swapped(lan1());
	ip(lan1(), "link set eth0 address 02:00:00:00:77:99\n");
	EXPECT_FALSE(try_trigger(lan1(), {kRemote1, 9}, {}, 500ms)) << "the filter lets in any MAC address";
}

/// Leaves with a hop fewer, as any packet, and is not sent round and round.
TEST_P(OwnPort, IsSwappedWithTwoHopsLeft) {
	must(wan(), {"nft", "-f", "-"}, R"(
table inet soak {
	counter last { }
	counter more { }
	chain arriving {
		type filter hook prerouting priority raw;
		udp sport 27961 ip ttl 1 counter name last
		udp sport 27961 ip ttl > 1 counter name more
		tcp sport 27961 tcp flags syn / syn,ack ip ttl 1 counter name last
		tcp sport 27961 tcp flags syn / syn,ack ip ttl > 1 counter name more
	}
}
)");
	ip(lan1(), ""); // the network is no longer as it was
	up(server());
	for (const bool few : {false, true}) {
		lan1().sysctl("ipv4/ip_default_ttl", few ? "2" : "64");
		must(gw(), {"conntrack", "-F"}); // masquerade gives a host's port again what it has given it before
		const std::uint16_t to = few ? 9001 : 9000;
		EXPECT_EQ(seen_udp(lan1(), {kRemote1, kTrigger}, kHosts), kOpen);
		EXPECT_EQ(seen_udp(lan1(), {kRemote1, to}, kHosts), kOpen);
		EXPECT_EQ(seen_tcp(lan1(), {kRemote1, to}, kHosts), kOpen);
		EXPECT_EQ(counted_by(wan(), "last"), few ? 3U : 0U);
		EXPECT_EQ(counted_by(wan(), "more"), 3U);
	}
	EXPECT_EQ(counter("swapped_syn"), 2U);
}

/// As with any translation: what conntrack does not follow is translated for nobody, and nobody else notices.
TEST_P(OwnPort, IsNobodysWhereItsFlowIsNotTracked) {
	up(server());
	nft("table ip lab_raw {\nchain pre {\ntype filter hook prerouting priority raw;\n"
	    "iifname wan0 meta l4proto { tcp, udp } th dport 27961 notrack\n"
	    "iifname != wan0 meta l4proto { tcp, udp } th sport 27960 notrack\n}\n}\n");
	EXPECT_EQ(try_trigger(lan1(), {kRemote1, kTrigger}, {"0.0.0.0", kHosts}), (Endpoint{host1(), kHosts}))
		<< "it leaves as without ptrig";
	EXPECT_EQ(tcp_connect(lan1(), {kRemote1, kTrigger}, {"0.0.0.0", kHosts}, 100ms).error, ETIMEDOUT);
	EXPECT_EQ(leases(), Json::array());
	EXPECT_EQ(trigger(lan1(), {kRemote1, kTrigger}).address, kWan) << "by another port it triggers";
	EXPECT_EQ(leases().size(), 1U);
	EXPECT_EQ(who_gets_udp(kOpen, {kRemote1, 0}, kHosts), "gateway");
	EXPECT_EQ(who_gets_tcp(kOpen, {kRemote1, 0}, kHosts), "gateway");
	EXPECT_EQ(seen_udp(lan1(), {kRemote1, 9}, kElsewhere), kElsewhere);
	EXPECT_EQ(seen_tcp(lan2(), {kRemote1, 9}, kElsewhere), kElsewhere);
	nft("delete table ip lab_raw\n");
	EXPECT_EQ(who_gets_udp(kOpen, {kRemote1, 0}, kHosts), "lan1");
	EXPECT_EQ(who_gets_tcp(kOpen, {kRemote1, 0}, kHosts), "lan1");
}

/// RFC 4787 REQ-1: the same port towards every remote, although masquerade takes any.
TEST_P(OwnPort, IsKeptWhereMasqueradeIsRandom) {
	nft("flush chain ip lab_nat postrouting\n"
	    "add rule ip lab_nat postrouting oifname wan0 masquerade random,fully-random\n");
	up(game());
	int others = 0;
	for (const std::string &remote : {kRemote1, kRemote2, kRemote3, kFar}) {
		EXPECT_EQ(seen_udp(lan1(), {remote, 4000}, 6005), 6005) << remote;
		EXPECT_EQ(seen_tcp(lan1(), {remote, 4000}, 6006), 6006) << remote;
		others += seen_udp(lan1(), {remote, 9}, kElsewhere) != kElsewhere;
		others += seen_tcp(lan1(), {remote, 9}, kElsewhere) != kElsewhere;
	}
	EXPECT_GE(others, 7) << "masquerade keeps a port that is not open, too: nothing is shown";
}

/// A remote's probe came before the trigger. The entry that it left has the trigger's own tuple.
TEST_P(OwnPort, IsTheTriggersToARemoteThatHasProbedIt) {
	up(game());
	nft("add chain inet lab unanswered { type filter hook output priority raw; }\n"
	    "add rule inet lab unanswered oifname wan0 tcp flags rst drop\n");
	const Endpoint prober{kRemote1, 4000};
	const auto probe = [&](const char *proto, std::uint16_t port) {
		if (proto == std::string("udp"))
			udp_send(udp_on(wan(), prober.port), {kWan, port}, "probe");
		else
			tcp_connect(wan(), {kWan, port}, prober, 50ms);
		return must(gw(), {"conntrack", "-L", "-p", proto, "--orig-src", kRemote1, "--orig-port-dst",
				   std::to_string(port)})
			       .find("UNREPLIED") != std::string::npos;
	};
	EXPECT_TRUE(probe("tcp", kElsewhere) && probe("tcp", 6000)); // before the remote listens at this port
	EXPECT_NE(seen_tcp(lan1(), prober, kElsewhere), kElsewhere) << "the probe does not stand in the way";
	EXPECT_EQ(seen_tcp(lan1(), prober, 6000), 6000);
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 0);
	EXPECT_TRUE(probe("udp", kElsewhere) && probe("udp", 6001));
	EXPECT_NE(seen_udp(lan1(), prober, kElsewhere), kElsewhere) << "the probe does not stand in the way";
	EXPECT_EQ(seen_udp(lan1(), prober, 6001), 6001);
	EXPECT_EQ(seen_udp(lan1(), {kRemote2, 4000}, 6001), 6001) << "to others";
}

} // namespace lab
