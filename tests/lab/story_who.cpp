// Who may trigger and who may come in: sources, trigger_remotes, remotes, deny_remotes, confirm; forged sources,
// DHCP, and the firewall's word.
#include "tests/lab/lab.h"

namespace lab {

class Who : public Lab {};
LAB_STORIES(Who);

TEST_P(Who, SourcesPrefix) {
	up(game("sources = ['" + host2() + "/32']"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(refused("game", "source"), 1U);
	trigger(lan2());
	EXPECT_EQ(who_gets_udp(6000), "lan2");
}

TEST_P(Who, SourcesMac) {
	up(game("sources = ['" + mac_of(lan2()) + "']"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(refused("game", "source"), 1U);
	trigger(lan2());
	EXPECT_EQ(who_gets_udp(6000), "lan2");
}

class WhoTwoLans : public Lab {};
LAB_STORIES_OF(WhoTwoLans, "xdp"); // where the two hosts are on LANs of their own

TEST_P(WhoTwoLans, AForgedMacAddressOnTheOtherLanGetsNothing) {
	const std::string mac = mac_of(lan1()), bound = mac + "@" + lan_device();
	up(rule("bound", "4000/udp", "6000/udp", "sources = ['" + bound + "']\ntimeout = '1m'") +
	   rule("loose", "4001/udp", "6100/udp", "sources = ['" + mac + "']\ntimeout = '1m'"));
	EXPECT_EQ(rule_row("bound").at("sources"), Json::array({bound}));
	ip(lan2(), "link set eth0 down\nlink set eth0 address " + mac +
			   "\nlink set eth0 up\nroute replace default via 192.168.78.1\n");
	ASSERT_TRUE(eventually(15s, [&] { return try_trigger(lan2(), {kRemote1, 9}, {}, 50ms).has_value(); }));
	trigger(lan2(), {kRemote1, 4001});
	EXPECT_EQ(who_gets_udp(6100), "lan2") << "without an interface it counts on each";
	trigger(lan2(), {kRemote1, 4000});
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(refused("bound", "source"), 1U);
	EXPECT_EQ(leases("bound"), Json::array());
	trigger(lan1(), {kRemote1, 4000});
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	// Another interface is another source: the lease's host is not one any more.
	EXPECT_EQ(ptrig({"rule", "set", "bound", "--sources", mac + "@eth9"}).status, 2);
	EXPECT_EQ(leases("bound").size(), 1U);
	EXPECT_EQ(ptrig({"rule", "set", "bound", "--sources", mac + "@lan2if"}).status, 0);
	EXPECT_EQ(leases("bound"), Json::array());
	trigger(lan2(), {kRemote1, 4000});
	EXPECT_EQ(who_gets_udp(6000), "lan2");
}

TEST_P(Who, SourcesLanLeavesOutWhatIsRouted) {
	ip(lan1(), "addr add 10.9.0.5/32 dev lo\n");
	ip(gw(), "route add 10.9.0.0/24 via 192.168.77.11\n");
	up(game() + rule("routed", "4001/udp", "6100/udp", "sources = 'routed'"));
	trigger(lan1(), {kRemote1, 4000}, {"10.9.0.5", 0});
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(refused("game", "source"), 1U);
	trigger(lan1(), {kRemote1, 4001}, {"10.9.0.5", 0});
	EXPECT_EQ(who_gets_udp(6100), "lan1");
	const Json row = leases("routed").at(0);
	EXPECT_EQ(row.at("host"), "10.9.0.5");
	EXPECT_EQ(row.at("mac"), nullptr) << "its frames carry the router's MAC";
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Who, TriggerRemotes) {
	up(game("trigger_remotes = ['" + kRemote2 + "/32', '198.51.100.0/24']"));
	trigger(lan1(), {kRemote1, 4000});
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(refused("game", "trigger_remote"), 1U);
	trigger(lan1(), {kFar, 4000});
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Who, RemotesPrefixes) {
	up(game("remotes = ['" + kRemote2 + "/32', '198.51.100.0/24']"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000, {kRemote1, 0}), "gateway") << "triggered, but not in remotes";
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "lan1");
	EXPECT_EQ(who_gets_udp(6000, {kFar, 0}), "lan1");
	EXPECT_EQ(who_gets_tcp(6000, {kRemote3, 0}), "gateway");
	EXPECT_GT(counter("remote_denied"), 0U);
}

TEST_P(Who, DenyRemotes) {
	up(game(), "deny_remotes = ['" + kRemote2 + "/32']");
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "gateway");
	EXPECT_EQ(who_gets_tcp(6000, {kRemote2, 0}), "gateway");
	EXPECT_EQ(who_gets_udp(6000, {kRemote1, 0}), "lan1");
	EXPECT_GT(counter("remote_denied"), 0U);
}

TEST_P(Who, ConfirmWaitsForTheRemotesAnswer) {
	up(game("confirm = true"));
	const Fd &server = udp_on(wan(), 4000);
	const Fd client = udp_socket(lan1(), {host1(), 5555});
	udp_send(client, {kRemote1, 4000}, "hello");
	const auto got = udp_receive(server);
	ASSERT_TRUE(got);
	EXPECT_EQ(leases(), Json::array());
	EXPECT_EQ(who_gets_udp(6000), "gateway") << "not answered yet";
	ASSERT_TRUE(answers(server, client, got->from));
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(leases("game").at(0).at("host"), host1());
}

TEST_P(Who, ConfirmWithTcp) {
	up(game("confirm = true"));
	EXPECT_EQ(tcp_connect(lan1(), {kRemote2, 4000}).error, ECONNREFUSED) << "answered by RST";
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(leases(), Json::array());
	const Fd &server = tcp_on(wan(), 4000);
	const Connection client = tcp_connect(lan1(), {kRemote1, 4000});
	ASSERT_TRUE(client);
	ASSERT_TRUE(tcp_accept(server));
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

// What the forward chain drops has not left, and triggers nothing.
TEST_P(Who, TriggerThatTheFirewallDropsGrantsNothing) {
	nft("insert rule inet lab forward udp dport 4000 drop\n");
	up(game());
	EXPECT_FALSE(try_trigger(lan1(), {kRemote1, 4000}, {}, 100ms));
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(leases(), Json::array());
	EXPECT_EQ(rule_row("game").at("granted"), 0);
}

TEST_P(Who, ForgedSourceNeverOwnsALease) {
	up(game());
	trigger(lan2(), {kRemote1, 9}); // lan2 is a known neighbour
	const Fd &sink = udp_on(wan(), 4000);
	for (const std::string &source : {host2(), std::string("198.51.100.99"), kWan, std::string("192.168.77.1"),
					  std::string("127.0.0.1"), kRemote2}) {
		send_forged(lan1(), {source, 4444}, {kRemote1, 4000}, "forged");
		const auto arrived = udp_receive(sink, 100ms); // masqueraded or not, it must not count
		EXPECT_EQ(leases(), Json::array()) << "forged as " << source << (arrived ? ", which left" : "");
	}
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	send_forged(lan1(), {host2(), 4444}, {kRemote1, 4000}, "forged");
	EXPECT_EQ(leases("game").at(0).at("host"), host1());
}

TEST_P(Who, PacketsThatEnterByTheWanNeverTrigger) {
	up(game());
	send_forged(wan(), {host1(), 4444}, {kWan, 4000}, "forged");
	send_forged(wan(), {host1(), 4444}, {kRemote2, 4000}, "forged");
	udp_send(udp_socket(wan(), {kRemote1, 0}), {kWan, 4000}, "direct");
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(leases(), Json::array());
}

TEST_P(Who, TheGatewaysOwnPacketsNeverTrigger) {
	up(game());
	trigger(gw());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(leases(), Json::array());
}

TEST_P(Who, HostWithANewAddressTakesItsLeaseAlong) {
	run_daemon(game());
	Process &monitor = start_monitor();
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	ip(lan1(), "addr flush dev eth0\naddr add 192.168.77.21/24 dev eth0\nroute add default via 192.168.77.1\n");
	trigger(lan1());
	const Json rows = leases("game");
	ASSERT_EQ(rows.size(), 1U);
	EXPECT_EQ(rows.at(0).at("host"), "192.168.77.21");
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(refused("game", "held"), 0U);
	EXPECT_TRUE(eventually(15s, [&] { return monitor.out().find("\"moved\"") != std::string::npos; }))
		<< monitor.out();
}

TEST_P(Who, AnotherMachineAtTheAddressInheritsNothing) {
	up(game());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	ip(lan1(), "link set eth0 down\nlink set eth0 address 02:00:00:00:77:99\nlink set eth0 up\n"
		   "route replace default via 192.168.77.1\n");
	// Another machine with the old address: the gateway learns its MAC as soon as it talks.
	ASSERT_TRUE(eventually(15s, [&] { return try_trigger(lan1(), {kRemote1, 9}, {}, 50ms).has_value(); }));
	EXPECT_TRUE(eventually(15s, [&] { return who_gets_udp(6000) == "gateway"; }));
	EXPECT_EQ(who_gets_tcp(6000), "gateway");
	EXPECT_GE(counter("stranger"), 1U);
	EXPECT_EQ(leases().size(), 1U) << "one frame ends nobody's lease";
	trigger(lan1());
	EXPECT_EQ(leases().size(), 1U) << "its own trigger does, and gives it one of its own";
	EXPECT_EQ(leases().at(0).at("mac"), "02:00:00:00:77:99");
}

} // namespace lab
