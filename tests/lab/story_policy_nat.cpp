// The gateway's own NAT rules hold beside leases: redirects of what a host sends from an open port, a provider's port
// set, several addresses, and addresses that are only routed here.
#include "tests/lab/policy.h"

namespace lab {

class PolicyNat : public PolicyLab {
protected:
	/// The host's resolver is the gateway, at port 5353.
	void redirect_dns() {
		nft("table ip lab_dns {\n\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat;\n"
		    "\t\tiifname { br0, lan1if, lan2if } udp dport 53 redirect to :5353\n"
		    "\t\tiifname { br0, lan1if, lan2if } tcp dport 53 redirect to :5353\n\t}\n}\n");
	}
	/// What leaves of this host goes by the address, or by the ports, that these words say.
	void translate(const std::string &host, const std::string &words) {
		nft("insert rule ip lab_nat postrouting oifname wan0 ip saddr " + host + " meta l4proto { tcp, udp } " +
		    words + "\n");
	}
	/// Both protocols, from a remote to an open port of this address.
	void expect_open(const std::string &address, const NetNs &host, std::uint16_t port);
	void expect_closed(const std::string &address, const NetNs &host, std::uint16_t port);
};
LAB_STORIES(PolicyNat);

void PolicyNat::expect_open(const std::string &address, const NetNs &host, std::uint16_t port) {
	SCOPED_TRACE(address + " to " + host.name());
	EXPECT_TRUE(reaches_udp({address, port}, host));
	EXPECT_TRUE(reaches_tcp({address, port}, host));
	const Fd remote = udp_socket(wan(), {kRemote2, 0});
	EXPECT_TRUE(talk(remote, udp_on(host, port), {address, port})) << "the answer comes from the same address";
}

void PolicyNat::expect_closed(const std::string &address, const NetNs &host, std::uint16_t port) {
	SCOPED_TRACE(address + " to " + host.name());
	EXPECT_FALSE(reaches_udp({address, port}, host, short_wait()));
	EXPECT_FALSE(reaches_tcp({address, port}, host, short_wait()));
}

/// A console's rule opens nearly everything, so its queries come from open ports.
TEST_P(PolicyNat, ADnsRedirectHoldsForQueriesFromAnOpenPort) {
	up(rule("wide", "10025/udp", "45000-65535/tcp+udp"));
	trigger(lan1(), {kRemote1, 10025});
	ASSERT_EQ(leases("wide").size(), 1U);
	const Endpoint resolver{kRemote1, 53};
	EXPECT_TRUE(own_udp(lan1(), 50005, resolver)) << "without the redirect";
	EXPECT_TRUE(own_tcp(lan1(), 50005, resolver));

	redirect_dns();
	const Fd gateways = udp_socket(gw(), {"0.0.0.0", 5353});
	const Fd gateways_tcp = tcp_listener(gw(), {"0.0.0.0", 5353});
	const Fd &query = udp_on(lan1(), 50006);
	EXPECT_TRUE(answers(query, gateways, resolver));
	udp_send(gateways, {host1(), 50006}, "203.0.113.99");
	const auto answer = udp_receive(query, patient(5s));
	ASSERT_TRUE(answer);
	EXPECT_EQ(answer->from, resolver) << "as if the resolver itself had answered";
	const Connection connection = tcp_connect(lan1(), resolver, {"0.0.0.0", 50006}, patient(5s));
	ASSERT_TRUE(connection);
	const auto accepted = tcp_accept(gateways_tcp, patient(5s));
	ASSERT_TRUE(accepted) << "the connection went past the gateway";
	EXPECT_TRUE(line_arrives(connection.socket, *accepted, patient(5s)));
	EXPECT_TRUE(line_arrives(*accepted, connection.socket, patient(5s)));
	EXPECT_FALSE(udp_receive(udp_on(wan(), 53), 0ms)) << "nothing of it has reached the remote";
	EXPECT_FALSE(tcp_accept(tcp_on(wan(), 53), 0ms));
	EXPECT_EQ(who_gets_udp(50007), "lan1") << "the range is open";

	nft("delete table ip lab_dns\n");
	EXPECT_TRUE(own_udp(lan1(), 50008, resolver)) << "without the redirect again";
	EXPECT_TRUE(own_tcp(lan1(), 50008, resolver));
}

/// A provider that shares an address among customers hands out ports; what leaves by others comes back to somebody
/// else.
TEST_P(PolicyNat, NothingLeavesOutsideAPortSetThatHoldsTheOpenPorts) {
	up(rule("within", "4000/tcp+udp", "20500-20510/tcp+udp") +
	   rule("mapped", "4000/tcp+udp", "20600-20610=7000/tcp+udp"));
	const PacketCount outside(wan(), "prerouting priority raw;",
				  "ip saddr " + kWan + " meta l4proto { tcp, udp } th sport != 20000-20999");
	EXPECT_TRUE(own_udp(lan1(), 6100, {kRemote1, 7777}));
	EXPECT_TRUE(own_tcp(lan1(), 6100, {kRemote1, 7777}));
	const auto udp_before = outside.udp(), tcp_before = outside.tcp();
	EXPECT_GT(udp_before, 0U) << "without a port set a host's own port is kept";
	EXPECT_GT(tcp_before, 0U);

	translate(host1(), "masquerade to :20000-20999");
	trigger(lan1());
	EXPECT_TRUE(own_tcp(lan1(), 0, {kRemote1, 4000}));
	ASSERT_EQ(leases().size(), 2U);
	for (const std::uint16_t port : {6101, 20505, 7002, 7003}) {
		SCOPED_TRACE(port);
		EXPECT_TRUE(own_udp(lan1(), port, {kRemote1, 7777}));
		EXPECT_TRUE(own_udp(lan1(), port, {kRemote2, 7777}));
		EXPECT_TRUE(own_tcp(lan1(), port, {kRemote2, 7778}));
	}
	EXPECT_TRUE(run_both_ways(begin_sessions(lan1(), kRemote2, 20506))) << "sessions of remotes";
	const Fd remote = udp_socket(wan(), {kRemote3, 0});
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 7004), {kWan, 20604}));
	EXPECT_EQ(outside.udp(), udp_before);
	EXPECT_EQ(outside.tcp(), tcp_before);
}

/// The port looks the same to every remote, whatever the masquerade would choose.
TEST_P(PolicyNat, AnOpenPortInsideAPortSetIsTheHostsOwn) {
	up(rule("mapped", "4000/udp", "20600-20610=7000/tcp+udp"));
	translate(host1(), "masquerade to :20000-20099");
	trigger(lan1());
	for (const std::string &address : {kRemote1, kRemote2}) {
		const Fd remote = udp_socket(wan(), {address, 5555});
		udp_send(udp_on(lan1(), 7002), {address, 5555}, "media");
		const auto got = udp_receive(remote, patient(5s));
		ASSERT_TRUE(got) << address;
		EXPECT_EQ(got->from, (Endpoint{kWan, 20602}));
		const auto ends = connect_out(lan1(), {address, 7777}, 7003, patient(5s));
		ASSERT_TRUE(ends) << address;
		EXPECT_EQ(remote_end(ends->second), (Endpoint{kWan, 20603}));
	}
	const Fd remote = udp_socket(wan(), {kRemote3, 5555});
	udp_send(udp_on(lan1(), 6101), {kRemote3, 5555}, "from no open port");
	const auto got = udp_receive(remote, patient(5s));
	ASSERT_TRUE(got);
	EXPECT_GE(got->from.port, 20000);
	EXPECT_LE(got->from.port, 20099);
}

TEST_P(PolicyNat, ALeaseOpensOnTheAddressThatItsHostLeavesBy) {
	const std::string second = "203.0.113.5";
	ip(gw(), "addr add " + second + "/24 dev wan0\n");
	translate(host2(), "snat to " + second);
	up(game());
	expect_closed(second, lan2(), 6000);
	EXPECT_EQ(trigger(lan2()).address, second);
	expect_open(second, lan2(), 6001);
	expect_closed(kWan, lan2(), 6002);
	expect_closed(kWan, lan1(), 6002);
	EXPECT_EQ(trigger(lan1()).address, kWan);
	ASSERT_EQ(leases("game").size(), 2U) << "both hold the rule";
	expect_open(second, lan2(), 6003);
	expect_open(kWan, lan1(), 6003);
	expect_closed(second, lan1(), 6004);
	expect_closed(kWan, lan2(), 6004);
}

/// By TCP, too, a trigger counts for the address by which it leaves.
TEST_P(PolicyNat, AConnectionOpensOnTheAddressThatItLeavesBy) {
	const std::string second = "203.0.113.5";
	ip(gw(), "addr add " + second + "/24 dev wan0\n");
	translate(host1(), "snat to " + second);
	up(game());
	const auto ends = connect_out(lan1(), {kRemote1, 4000});
	ASSERT_TRUE(ends);
	EXPECT_EQ(remote_end(ends->second).address, second);
	EXPECT_EQ(leases("game").at(0).at("wan"), second);
	expect_open(second, lan1(), 6001);
	expect_closed(kWan, lan1(), 6002);
}

/// As providers route a customer's further addresses: to the one that the gateway has.
TEST_P(PolicyNat, ALeaseOpensOnAnAddressThatIsOnlyRoutedHere) {
	const std::string on_lo = "198.18.7.1", nowhere = "198.18.7.2";
	ip(gw(), "addr add " + on_lo + "/32 dev lo\n");
	ip(wan(), "route add 198.18.7.0/24 via " + kWan + "\n");
	translate(host1(), "snat to " + on_lo);
	translate(host2(), "snat to " + nowhere);
	up(game());
	expect_closed(on_lo, lan1(), 6000);
	expect_closed(nowhere, lan2(), 6000);
	EXPECT_EQ(trigger(lan1()).address, on_lo);
	expect_open(on_lo, lan1(), 6001);
	expect_closed(nowhere, lan2(), 6001);
	EXPECT_EQ(trigger(lan2()).address, nowhere);
	ASSERT_EQ(leases("game").size(), 2U);
	expect_open(nowhere, lan2(), 6002);
	expect_open(on_lo, lan1(), 6002);
	expect_closed(kWan, lan1(), 6003);
	expect_closed(kWan, lan2(), 6003);
	expect_closed(nowhere, lan1(), 6004);
}

} // namespace lab
