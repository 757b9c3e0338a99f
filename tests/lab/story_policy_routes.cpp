// Routes and IPsec policies hold for triggered traffic: what policy routing sends elsewhere goes there, and what is to
// go encrypted or not at all never leaves in clear.
#include "tests/lab/policy.h"

namespace lab {

class PolicyRoutes : public PolicyLab {
protected:
	void mark_host() {
		nft("table ip lab_mark {\n\tchain prerouting {\n\t\ttype filter hook prerouting priority mangle;\n"
		    "\t\tip saddr " +
		    host1() + " meta mark set 1\n\t}\n}\n");
	}
	std::string leaving() const { return "ip saddr { " + kWan + ", " + host1() + " }"; }
	/// A lease, sessions of a remote's, flows of the host's own from an open port: all run.
	Sessions begin();
	/// Of all that the host sends from an open port to kRemote2 nothing leaves in clear, while a policy says so.
	void stays_inside(const std::string &policy);
	/// Of all that kRemote2 sends nothing reaches the host, while a policy says so.
	void stays_outside(const std::string &policy);
};
LAB_STORIES(PolicyRoutes);

PolicyLab::Sessions PolicyRoutes::begin() {
	up(game());
	trigger(lan1());
	Sessions sessions = begin_sessions(lan1(), kRemote2);
	EXPECT_TRUE(run_both_ways(sessions));
	EXPECT_TRUE(own_udp(lan1(), 6005, {kRemote2, 7777}));
	EXPECT_TRUE(own_tcp(lan1(), 6005, {kRemote2, 7777}));
	return sessions;
}

TEST_P(PolicyRoutes, AMarkThatAProhibitRouteMatchesKeepsAllInside) {
	const Sessions sessions = begin();
	ip(gw(), "route add prohibit default table 100\n");
	mark_host();
	EXPECT_TRUE(run_both_ways(sessions)) << "no rule looks at the mark";

	ip(gw(), "rule add fwmark 1 table 100\n");
	let_permissions_end();
	const PacketCount clear(wan(), "prerouting priority raw;", leaving());
	EXPECT_TRUE(udp_comes_in(sessions)) << "what comes in has no mark";
	EXPECT_TRUE(ends([&] { return udp_goes_out(sessions, short_wait()); }));
	EXPECT_TRUE(ends([&] { return tcp_goes_out(sessions, short_wait()); }));
	EXPECT_FALSE(own_udp(lan1(), 6005, {kRemote2, 7777}, short_wait())) << "a flow of the host's own";
	EXPECT_FALSE(own_udp(lan1(), 6006, {kRemote2, 7777}, short_wait())) << "a new one";
	EXPECT_FALSE(own_tcp(lan1(), 6006, {kRemote2, 7777}, short_wait()));
	EXPECT_FALSE(try_trigger(lan1(), {kRemote1, 4000}, {}, short_wait()));
	EXPECT_EQ(clear.udp(), 0U);
	EXPECT_EQ(clear.tcp(), 0U);

	ip(gw(), "rule del fwmark 1 table 100\n");
	EXPECT_TRUE(run_both_ways(sessions)) << "without the rule again";
	EXPECT_TRUE(own_udp(lan1(), 6006, {kRemote2, 7777}));
	EXPECT_TRUE(own_tcp(lan1(), 6007, {kRemote2, 7777}));
	EXPECT_GT(clear.udp(), 0U);
	EXPECT_GT(clear.tcp(), 0U);
}

/// A host whose traffic is to go by a tunnel: answers in sessions and its own packets from an open port do, too.
TEST_P(PolicyRoutes, AMarkSendsAllByAnotherDevice) {
	const Sessions sessions = begin();
	const NetNs tunnel("tunnel");
	ip(gw(), "link add tun9 type veth peer name eth0 netns tunnel\naddr add 10.8.0.2/24 dev tun9\n"
		 "link set tun9 up\nroute add default via 10.8.0.1 dev tun9 table 100\n");
	ip(tunnel, "addr add 10.8.0.1/24 dev eth0\nlink set eth0 up\n");
	in_front({"oifname tun9 accept"});
	mark_host();
	const PacketCount by_tunnel(tunnel, "prerouting priority raw;", leaving());
	EXPECT_TRUE(run_both_ways(sessions)) << "no rule looks at the mark";
	EXPECT_EQ(by_tunnel.udp(), 0U);
	EXPECT_EQ(by_tunnel.tcp(), 0U);

	ip(gw(), "rule add fwmark 1 table 100\n");
	let_permissions_end();
	const PacketCount clear(wan(), "prerouting priority raw;", leaving());
	const auto udp_by_tunnel = [&](const char *what, const std::function<void()> &send) {
		const auto before = by_tunnel.udp();
		EXPECT_TRUE(eventually(5s, [&] {
			send();
			return by_tunnel.udp() > before;
		})) << what;
	};
	udp_by_tunnel("an answer", [&] { udp_goes_out(sessions, 50ms); });
	udp_by_tunnel("a flow of the host's own", [&] { own_udp(lan1(), 6005, {kRemote2, 7777}, 50ms); });
	udp_by_tunnel("a new one", [&] { own_udp(lan1(), 6006, {kRemote2, 7777}, 50ms); });
	EXPECT_EQ(by_tunnel.tcp(), 0U);
	EXPECT_FALSE(own_tcp(lan1(), 6006, {kRemote2, 7777}, short_wait()));
	const auto of_the_new_one = by_tunnel.tcp();
	EXPECT_GT(of_the_new_one, 0U) << "a connection of the host's own";
	EXPECT_TRUE(ends([&] { return tcp_goes_out(sessions, short_wait()); }));
	EXPECT_GT(by_tunnel.tcp(), of_the_new_one) << "an answer of TCP";
	ASSERT_EQ(ptrig({"lease", "close", "game"}).status, 0);
	udp_by_tunnel("a trigger", [&] { try_trigger(lan1(), {kRemote1, 4000}, {}, 50ms); });
	EXPECT_EQ(leases("game"), Json::array()) << "the tunnel is no WAN";
	EXPECT_EQ(clear.udp(), 0U);
	EXPECT_EQ(clear.tcp(), 0U);

	ip(gw(), "rule del fwmark 1 table 100\n");
	EXPECT_TRUE(run_both_ways(sessions)) << "without the rule again";
	trigger(lan1());
	EXPECT_EQ(leases("game").size(), 1U);
	EXPECT_GT(clear.udp(), 0U);
	EXPECT_GT(clear.tcp(), 0U);
}

void PolicyRoutes::stays_inside(const std::string &policy) {
	const Sessions sessions = begin();
	ip(gw(), "xfrm policy add " + policy + "\n");
	let_permissions_end();
	const PacketCount clear(wan(), "prerouting priority raw;", leaving() + " ip daddr " + kRemote2);
	EXPECT_TRUE(ends([&] { return udp_goes_out(sessions, short_wait()); }));
	EXPECT_TRUE(ends([&] { return tcp_goes_out(sessions, short_wait()); }));
	EXPECT_FALSE(own_udp(lan1(), 6005, {kRemote2, 7777}, short_wait())) << "a flow of the host's own";
	EXPECT_FALSE(own_udp(lan1(), 6006, {kRemote2, 7777}, short_wait())) << "a new one";
	EXPECT_FALSE(own_tcp(lan1(), 6006, {kRemote2, 7777}, short_wait()));
	EXPECT_EQ(clear.udp(), 0U);
	EXPECT_EQ(clear.tcp(), 0U);
	EXPECT_TRUE(own_udp(lan1(), 6007, {kRemote3, 7777})) << "to a remote of which the policy says nothing";
	EXPECT_TRUE(own_tcp(lan1(), 6007, {kRemote3, 7777}));

	ip(gw(), "xfrm policy deleteall\n");
	EXPECT_TRUE(run_both_ways(sessions)) << "without the policy again";
	EXPECT_TRUE(own_udp(lan1(), 6006, {kRemote2, 7777}));
	EXPECT_TRUE(own_tcp(lan1(), 6008, {kRemote2, 7777}));
	EXPECT_GT(clear.udp(), 0U);
	EXPECT_GT(clear.tcp(), 0U);
}

void PolicyRoutes::stays_outside(const std::string &policy) {
	const Sessions sessions = begin();
	ip(gw(), "xfrm policy add " + policy + "\n");
	EXPECT_TRUE(ends([&] { return udp_comes_in(sessions, short_wait()); }));
	EXPECT_TRUE(ends([&] { return tcp_comes_in(sessions, short_wait()); }));
	EXPECT_EQ(who_gets_udp(6001, {kRemote2, 0}), "nobody");
	EXPECT_EQ(who_gets_tcp(6001, {kRemote2, 0}), "nobody");
	EXPECT_EQ(who_gets_udp(6001, {kRemote3, 0}), "lan1") << "of whom the policy says nothing";
	EXPECT_EQ(who_gets_tcp(6001, {kRemote3, 0}), "lan1");

	ip(gw(), "xfrm policy deleteall\n");
	EXPECT_TRUE(run_both_ways(sessions)) << "without the policy again";
	EXPECT_EQ(who_gets_udp(6001, {kRemote2, 0}), "lan1");
	EXPECT_EQ(who_gets_tcp(6001, {kRemote2, 0}), "lan1");
}

TEST_P(PolicyRoutes, AnIpsecPolicyThatBlocksWhatIsForwardedHolds) {
	stays_inside("src " + host1() + "/32 dst " + kRemote2 + "/32 dir fwd action block");
}

TEST_P(PolicyRoutes, AnIpsecPolicyThatBlocksWhatGoesOutHolds) {
	stays_inside("src " + host1() + "/32 dst " + kRemote2 + "/32 dir out action block");
}

TEST_P(PolicyRoutes, AnIpsecPolicyForTheWanAddressHolds) {
	stays_inside("src " + kWan + "/32 dst " + kRemote2 + "/32 dir out action block");
}

/// Its tunnel is not up: nobody has negotiated keys.
TEST_P(PolicyRoutes, WhatIsToGoEncryptedDoesNotLeaveInClear) {
	stays_inside("src " + host1() + "/32 dst " + kRemote2 + "/32 dir out tmpl src " + kWan + " dst " + kRemote2 +
		     " proto esp mode tunnel");
}

TEST_P(PolicyRoutes, AnIpsecPolicyThatBlocksWhatGoesToAHostHolds) {
	stays_outside("src " + kRemote2 + "/32 dst " + host1() + "/32 dir out action block");
}

/// The kernel holds this one against the address that the remote has called, as it does for whatever DNAT.
TEST_P(PolicyRoutes, AnIpsecPolicyThatBlocksWhatIsForwardedFromARemoteHolds) {
	stays_outside("src " + kRemote2 + "/32 dst " + kWan + "/32 dir fwd action block");
}

} // namespace lab
