// The main job: closed, triggered, open, both ways, intact; and ordinary traffic left alone.
#include "tests/lab/lab.h"

namespace lab {

class Forward : public Lab {
protected:
	/// Bytes both ways between a host and a remote that the host has connected to, by masquerade.
	bool masquerade_carries(const NetNs &host, std::size_t bytes);
};
LAB_STORIES(Forward);

bool Forward::masquerade_carries(const NetNs &host, std::size_t bytes) {
	const auto ends = connect_out(host);
	return ends && remote_end(ends->second).address == kWan && exchange(ends->first, ends->second, bytes);
}

TEST_P(Forward, ClosedBeforeTheTrigger) {
	up(game());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(who_gets_tcp(6000), "gateway");
	EXPECT_EQ(leases(), Json::array());
}

TEST_P(Forward, FirstPacketAfterTheTriggerPasses) {
	up(game());
	EXPECT_EQ(trigger(lan1()).address, kWan) << "the trigger is masqueraded as ever";
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(who_gets_udp(6010), "lan1");
	EXPECT_EQ(who_gets_tcp(6005), "lan1");
	EXPECT_EQ(who_gets_udp(5999), "gateway");
	EXPECT_EQ(who_gets_udp(6011), "gateway");
	EXPECT_EQ(who_gets_tcp(6011), "gateway");
}

TEST_P(Forward, FirstPacketPassesTwoHundredTimes) {
	std::string rules;
	for (int i = 0; i < 200; i++)
		rules += rule("r" + std::to_string(i), std::to_string(20000 + i) + "/udp",
			      std::to_string(30000 + i) + "/udp");
	up(rules, "", "[limits]\nleases_per_host = 0\n");
	const Fd remote = udp_socket(wan(), {kRemote2, 5555});
	for (std::uint16_t i = 0; i < 200; i++) {
		const Fd &host = udp_on(lan1(), std::uint16_t(30000 + i));
		trigger(lan1(), {kRemote1, std::uint16_t(20000 + i)});
		ASSERT_TRUE(talk(remote, host, {kWan, std::uint16_t(30000 + i)})) << "round " << i;
	}
	EXPECT_EQ(leases().size(), 200U);
}

TEST_P(Forward, FirstPacketPassesWithoutAnyNeighbourKnown) {
	up(game());
	must(gw(), {"ip", "neigh", "flush", "all"});
	trigger(lan1());
	must(gw(), {"ip", "neigh", "flush", "all"});
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Forward, AnEarlierProbeOfThePortDoesNotBlockTheSameRemoteLater) {
	up(game());
	const Endpoint remote{kRemote2, 5555};
	EXPECT_EQ(who_gets_udp(6000, remote), "gateway"); // leaves an unanswered conntrack entry behind
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000, remote), "lan1");
}

TEST_P(Forward, BothDirectionsWithTheRemotesAddressSeenByTheHost) {
	up(game());
	trigger(lan1());
	const Fd remote = udp_socket(wan(), {kRemote2, 5555});
	const Fd &host = udp_on(lan1(), 6000);
	udp_send(remote, {kWan, 6000}, "who am I?");
	const auto got = udp_receive(host);
	ASSERT_TRUE(got);
	EXPECT_EQ(got->from, (Endpoint{kRemote2, 5555}));
	for (int i = 0; i < 100; i++)
		ASSERT_TRUE(talk(remote, host)) << "round " << i;
	EXPECT_EQ(leases("game").at(0).at("host"), host1());
}

TEST_P(Forward, RemoteBehindARouterIsReachedToo) {
	up(game());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000, {kFar, 5555}), "lan1");
	EXPECT_TRUE(talk(udp_socket(wan(), {kFar, 5556}), udp_on(lan1(), 6000)));
	EXPECT_EQ(who_gets_tcp(6000, {kFar, 0}), "lan1");
}

TEST_P(Forward, MappedRangeLeadsToTheHostsOwnPorts) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000, {kRemote1, 0}, 7000), "lan1");
	EXPECT_EQ(who_gets_udp(6010, {kRemote1, 0}, 7010), "lan1");
	EXPECT_EQ(who_gets_udp(6011, {kRemote1, 0}, 7011), "gateway");
	EXPECT_EQ(who_gets_udp(7000, {kRemote1, 0}, 7000), "gateway");
	EXPECT_TRUE(talk(udp_socket(wan(), {kRemote2, 0}), udp_on(lan1(), 7005), {kWan, 6005}));
}

TEST_P(Forward, MappedRangeOfTcp) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/tcp"));
	trigger(lan1());
	EXPECT_EQ(who_gets_tcp(6003, {kRemote1, 0}, 7003), "lan1");
	EXPECT_EQ(who_gets_tcp(7003, {kRemote1, 0}, 7003), "gateway");
}

TEST_P(Forward, TcpTriggers) {
	up(game());
	const Fd &server = tcp_on(wan(), 4000);
	const Connection client = tcp_connect(lan1(), {kRemote1, 4000});
	ASSERT_TRUE(client);
	EXPECT_TRUE(tcp_accept(server));
	EXPECT_EQ(who_gets_tcp(6000), "lan1");
	EXPECT_EQ(leases("game").at(0).at("trigger"), Json({{"proto", "tcp"}, {"remote", kRemote1}, {"port", 4000}}));
}

TEST_P(Forward, OneMebibyteEachWayIntact) {
	up(game());
	trigger(lan1());
	const auto [remote, host] = connect_in(6000, lan1());
	EXPECT_EQ(remote_end(host).address, kRemote1);
	EXPECT_TRUE(exchange(remote, host, 1 << 20));
	const Json session = json({"session", "list"}).at(0);
	EXPECT_GT(session.at("bytes_in"), 1 << 20);
	EXPECT_GT(session.at("bytes_out"), 1 << 20);
}

TEST_P(Forward, UdpChecksumZeroStaysZero) {
	up(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	send_without_checksum(remote);
	for (int i = 0; i < 2; i++) { // a session's first packets and its later ones take different ways
		const Fd sniffer = udp_sniffer(lan1());
		EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
		EXPECT_EQ(sniff_checksum(sniffer, 6000), 0);
	}
	send_without_checksum(udp_on(lan1(), 6000));
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
}

TEST_P(Forward, LeaseListHasEveryKey) {
	up(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	const Json rows = leases();
	ASSERT_EQ(rows.size(), 1U);
	const Json &row = rows.at(0);
	EXPECT_EQ(row.at("rule"), "game");
	EXPECT_EQ(row.at("host"), host1());
	EXPECT_EQ(row.at("mac"), mac_of(lan1()));
	EXPECT_EQ(row.at("wan"), kWan);
	EXPECT_EQ(row.at("remote"), nullptr);
	EXPECT_EQ(row.at("state"), "live");
	EXPECT_EQ(row.at("sessions"), 1);
	EXPECT_EQ(row.at("open"), Json({"6000-6010/tcp+udp"}));
	EXPECT_EQ(row.at("trigger"), Json({{"proto", "udp"}, {"remote", kRemote1}, {"port", 4000}}));
	EXPECT_LT(row.at("age_s"), 30.0);
	EXPECT_LT(row.at("idle_s"), 30.0);
	EXPECT_GT(row.at("expires_in_s"), 30.0);
	EXPECT_LE(row.at("expires_in_s"), 60.0);
	EXPECT_TRUE(row.at("packets").is_number_unsigned());
	EXPECT_TRUE(row.at("bytes").is_number_unsigned());
	EXPECT_EQ(json({"lease", "list", "--host", host1()}).size(), 1U);
	EXPECT_EQ(json({"lease", "list", "--host", host2()}).size(), 0U);
	EXPECT_EQ(json({"lease", "list", "--port", "6003/udp"}).size(), 1U);
	EXPECT_EQ(json({"lease", "list", "--port", "6011/udp"}).size(), 0U);
	EXPECT_EQ(leases("game").size(), 1U);
}

TEST_P(Forward, SessionListHasEveryKey) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp"));
	trigger(lan1());
	const Fd remote = udp_socket(wan(), {kRemote2, 5555});
	ASSERT_TRUE(talk(remote, udp_on(lan1(), 7004), {kWan, 6004}));
	ASSERT_TRUE(talk(remote, udp_on(lan1(), 7004), {kWan, 6004}));
	Json row = json({"session", "list"}).at(0);
	EXPECT_LT(row.at("idle_s"), 30.0);
	row.erase("idle_s");
	EXPECT_GT(row.at("bytes_in"), 0);
	row.erase("bytes_in");
	EXPECT_GT(row.at("bytes_out"), 0);
	row.erase("bytes_out");
	const Json wanted = {{"rule", "mapped"},    {"proto", "udp"},    {"remote", kRemote2},
			     {"remote_port", 5555}, {"wan", kWan},       {"wan_port", 6004},
			     {"host", host1()},     {"host_port", 7004}, {"state", "established"},
			     {"packets_in", 2},     {"packets_out", 2}};
	for (const auto &[key, value] : wanted.items())
		EXPECT_EQ(row.at(key), value) << key;
	EXPECT_EQ(json({"session", "list", "--host", host2()}), Json::array());
	EXPECT_EQ(json({"session", "list", "--port", "6004/udp"}).size(), 1U);
}

TEST_P(Forward, OrdinaryMasqueradeIsUntouched) {
	start_afresh();
	EXPECT_TRUE(masquerade_carries(lan1(), 1 << 20)) << "before ptrig";
	up(game());
	trigger(lan1());
	for (const NetNs *host : {&lan1(), &lan2()})
		EXPECT_TRUE(masquerade_carries(*host, 1 << 20));
	EXPECT_EQ(json({"session", "list"}), Json::array());
}

// The remotes of a host's own flow on an open port keep reaching that host (a0, a1); new ones reach the lease's (a2).
TEST_P(Forward, MasqueradedFlowOnAnOpenPortIsNotStolen) {
	up(game());
	const Fd server = udp_socket(wan(), {kRemote1, 7777});
	const Fd &client = udp_on(lan2(), 6001);
	const auto ask = [&] {
		if (!answers(client, server, {kRemote1, 7777}))
			return false;
		return answers(server, client, {kWan, 6001});
	};
	EXPECT_TRUE(ask()) << "before the trigger";
	trigger(lan1());
	for (int i = 0; i < 5; i++)
		EXPECT_TRUE(ask()) << "after the trigger, round " << i;
	EXPECT_EQ(who_gets_udp(6001, {kRemote2, 7777}), "lan1");
	EXPECT_TRUE(ask()) << "after the new peer";
}

// b: a flow that begins later on a tuple that a session uses gets through, and so does the session.
TEST_P(Forward, LaterMasqueradedFlowDoesNotBreakASession) {
	up(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1(), {kRemote1, 7777}, 6001);
	const Fd &client = udp_on(lan2(), 6001);
	udp_send(client, {kRemote1, 7777}, "from lan2");
	const auto got = udp_receive(remote);
	ASSERT_TRUE(got);
	EXPECT_EQ(got->data, "from lan2");
	EXPECT_NE(got->from.port, 6001) << "two flows on one tuple";
	EXPECT_TRUE(answers(remote, client, got->from));
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6001), {kWan, 6001}));
}

TEST_P(Forward, MappedRangeDoesNotCaptureAFlowThatTheHostHas) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp"));
	const Fd server = udp_socket(wan(), {kRemote1, 7777});
	const Fd &client = udp_on(lan1(), 7003);
	ASSERT_TRUE(answers(client, server, {kRemote1, 7777})); // 7003 to 7777, masqueraded as 7003
	trigger(lan1());
	udp_send(server, {kWan, 6003}, "to the open port"); // would be 7777 to 7003 on the host: the same tuple
	ASSERT_TRUE(answers(client, server, {kRemote1, 7777}));
	EXPECT_TRUE(answers(server, client, {kWan, 7003})) << "the host's own flow still has its port";
}

// The port looks the same to every remote (RFC 4787 REQ-1), contacted before or not.
TEST_P(Forward, OwnPacketsFromAnOpenPortKeepTheWanPort) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp"));
	trigger(lan1());
	const Fd &host = udp_on(lan1(), 7002);
	for (const std::string &address : {kRemote1, kRemote2, kRemote3, kFar}) {
		const Fd remote = udp_socket(wan(), {address, 5555});
		udp_send(host, {address, 5555}, "media");
		const auto got = udp_receive(remote);
		ASSERT_TRUE(got) << address;
		EXPECT_EQ(got->from, (Endpoint{kWan, 6002})) << address;
		EXPECT_TRUE(answers(remote, host, {kWan, 6002})) << address;
		EXPECT_TRUE(talk(remote, host, {kWan, 6002})) << address;
	}
}

TEST_P(Forward, OwnPacketsAfterTheLeaseAreMasqueraded) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp", "timeout = '1s'"));
	const Fd remote = udp_socket(wan(), {kRemote1, 5555});
	udp_send(udp_on(lan1(), 7002), {kRemote1, 5555}, "media");
	const auto got = udp_receive(remote);
	ASSERT_TRUE(got);
	EXPECT_EQ(got->from, (Endpoint{kWan, 7002})) << "no lease yet: the kernel's masquerade chooses";
}

} // namespace lab
