// What a host, a lease and a table may hold, and whose port it is when the gateway wants it too.
#include "tests/lab/lab.h"

namespace lab {

class Limits : public Lab {
protected:
	/// Datagrams from as many ports of one remote; how many reached lan1.
	int sessions_from(const std::string &remote, int count);
};
LAB_STORIES(Limits);

int Limits::sessions_from(const std::string &remote, int count) {
	int reached = 0;
	for (int i = 0; i < count; i++)
		reached += who_gets_udp(6000, {remote, 0}) == "lan1";
	return reached;
}

TEST_P(Limits, SessionLimitOfALease) {
	up(game("session_limit = 3"));
	trigger(lan1());
	EXPECT_EQ(sessions_from(kRemote1, 6), 3);
	EXPECT_EQ(counter("session_limit"), 3U);
	EXPECT_EQ(leases("game").at(0).at("sessions"), 3);
	EXPECT_EQ(ptrig({"session", "close", "--all"}).status, 0);
	EXPECT_EQ(sessions_from(kRemote1, 1), 1) << "room again";
}

TEST_P(Limits, LeasesPerHost) {
	up(game() + rule("second", "4001/udp", "6100/udp"), "", "[limits]\nleases_per_host = 1\n");
	trigger(lan1());
	trigger(lan1(), {kRemote1, 4001});
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(who_gets_udp(6100), "gateway");
	EXPECT_EQ(refused("second", "host_leases"), 1U);
	trigger(lan2(), {kRemote1, 4001});
	EXPECT_EQ(who_gets_udp(6100), "lan2") << "another host has its own limit";
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 0);
	trigger(lan1(), {kRemote1, 4000});
	EXPECT_EQ(who_gets_udp(6000), "lan1") << "room again";
}

TEST_P(Limits, SessionsPerHost) {
	up(game() + rule("second", "4001/udp", "6100/udp"), "", "[limits]\nsessions_per_host = 2\n");
	trigger(lan1());
	trigger(lan1(), {kRemote1, 4001});
	EXPECT_EQ(sessions_from(kRemote1, 2), 2);
	EXPECT_EQ(who_gets_udp(6100), "gateway");
	EXPECT_EQ(counter("host_sessions"), 1U);
}

TEST_P(Limits, NewSessionsPerSecond) {
	up(game(), "", "[limits]\nnew_sessions_per_second = 5\n");
	trigger(lan1());
	const auto since = Clock::now();
	int reached = 0;
	while (reached < 20 && Clock::now() - since < 1s)
		reached += sessions_from(kRemote1, 1);
	EXPECT_GE(reached, 5);
	EXPECT_LE(reached, 11) << "a full bucket and one second's worth";
	EXPECT_GT(counter("rate_limited"), 0U);
	EXPECT_TRUE(eventually(15s, [&] { return sessions_from(kRemote1, 1) == 1; })) << "the bucket fills again";
}

TEST_P(Limits, FullLeaseTableRefusesAndEvictsNobody) {
	up(game() + rule("second", "4001/udp", "6100/udp"), "max_leases = 1\n");
	trigger(lan1());
	trigger(lan1(), {kRemote1, 4001});
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(who_gets_udp(6100), "gateway");
	EXPECT_EQ(refused("second", "leases_full"), 1U);
}

TEST_P(Limits, FullSessionTableRefusesAndEvictsNobody) {
	up(game(), "max_sessions = 2\n");
	trigger(lan1());
	const Fd first = start_talk(lan1()), second = start_talk(lan1());
	const Fd third = udp_socket(wan(), {kRemote1, 0});
	talk(third, udp_on(lan1(), 6000), {kWan, 6000}, 200ms); // what the kernel makes of the answer is its own affair
	EXPECT_EQ(json({"session", "list"}).size(), 2U);
	EXPECT_GT(counter("sessions_full"), 0U);
	EXPECT_TRUE(talk(first, udp_on(lan1(), 6000)));
	EXPECT_TRUE(talk(second, udp_on(lan1(), 6000)));
}

TEST_P(Limits, AFloodAtOneHostLeavesTheNextRoomForSessions) {
	up(game() + rule("second", "4001/udp", "6100/udp"), "max_halfopen = 32\n");
	trigger(lan1());
	trigger(lan2(), {kRemote1, 4001});
	const NetNs &from = wan();
	for (int i = 0; i < 100; i++)
		udp_send(udp_socket(from, {kRemote1, 0}), {kWan, 6000}, "flood");
	EXPECT_TRUE(eventually(10s, [&] { return counter("halfopen_full") > 0; }));
	EXPECT_EQ(who_gets_udp(6100), "lan2");
	EXPECT_EQ(json({"status"}).at("limits").at("halfopen").at("used"), 17)
		<< "half of the table for the one, and the other's";
}

TEST_P(Limits, DisabledRuleDoesNothing) {
	up(game("enabled = false"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(ptrig({"rule", "enable", "game"}).status, 0);
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(ptrig({"rule", "disable", "game"}).status, 0);
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(leases(), Json::array());
	EXPECT_EQ(rule_row("game").at("enabled"), false);
}

TEST_P(Limits, TheGatewaysOwnListenerWins) {
	up(game());
	const Fd own = tcp_listener(gw(), {"0.0.0.0", 6001});
	const Fd own_udp = udp_socket(gw(), {"0.0.0.0", 6002});
	trigger(lan1());
	ASSERT_TRUE(tcp_connect(wan(), {kWan, 6001}));
	EXPECT_TRUE(tcp_accept(own)) << "stolen from the gateway";
	udp_send(udp_socket(wan(), {kRemote1, 0}), {kWan, 6002}, "for the gateway");
	EXPECT_TRUE(udp_receive(own_udp)) << "stolen from the gateway";
	EXPECT_GE(counter("local_socket"), 2U);
	EXPECT_EQ(who_gets_tcp(6000), "lan1");
	EXPECT_EQ(who_gets_udp(6001), "lan1") << "a tcp listener does not keep udp";
}

TEST_P(Limits, LoopbackListenerOfTheGatewayDoesNotMatter) {
	up(game());
	const Fd own = tcp_listener(gw(), {"127.0.0.1", 6001});
	trigger(lan1());
	EXPECT_EQ(who_gets_tcp(6001), "lan1");
}

TEST_P(Limits, TheGatewaysOwnFlowKeepsItsPort) {
	up(game());
	const Fd server = udp_socket(wan(), {kRemote1, 7777});
	const Fd own = udp_socket(gw(), {kWan, 6003});
	ASSERT_TRUE(answers(own, server, {kRemote1, 7777}));
	trigger(lan1());
	EXPECT_TRUE(answers(server, own, {kWan, 6003}));
}

TEST_P(Limits, InputPolicyDropMakesNoDifferenceToAnOpenPort) {
	nft("add chain inet lab input { policy drop; }\n");
	up(game());
	EXPECT_EQ(tcp_connect(wan(), {kWan, 6000}, {}, 100ms).error, ETIMEDOUT);
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(who_gets_tcp(6000), "lan1");
	const auto [remote, host] = connect_in(6001, lan1());
	EXPECT_TRUE(exchange(remote, host, 1 << 16));
}

TEST_P(Limits, ReservedPortIsRefused) {
	start_afresh();
	write("/run/reserved.toml", config(game(), "reserved = ['6005/tcp']"));
	const Output check = ptrig({"check", "/run/reserved.toml", "-j"});
	const Output up = ptrig({"up", "-c", "/run/reserved.toml"});
	EXPECT_EQ(up.status, 2) << up.err;
	EXPECT_NE(up.err.find("6005"), std::string::npos) << up.err;
	EXPECT_EQ(check.status, 2) << check.out << check.err;
}

} // namespace lab
