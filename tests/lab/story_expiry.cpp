// How long a port stays open: idle time, refresh, max_lifetime, close = "connection", and what becomes of the
// sessions when it closes. Time limits hold with the daemon alive, dead or never started.
#include "tests/lab/lab.h"

#include <csignal>

namespace lab {

class Expiry : public Lab {
protected:
	/// Trigger every 200 ms for a while; false if one was lost.
	void keep_triggering(milliseconds how_long, const std::function<void()> &each);
	/// The TCP connection that triggers: both ends.
	std::pair<Fd, Fd> trigger_connection(const NetNs &host);
	/// The host sends from its open port to a remote, who answers.
	bool host_talks(const Fd &remote) {
		const Fd &host = udp_on(lan1(), 6000);
		udp_send(host, local_end(remote), "hello");
		const auto got = udp_receive(remote, 2s);
		if (!got)
			return false;
		udp_send(remote, got->from, "and back");
		return udp_receive(host, 2s).has_value();
	}
};
LAB_STORIES(Expiry);

void Expiry::keep_triggering(milliseconds how_long, const std::function<void()> &each) {
	const auto end = Clock::now() + how_long;
	auto next = Clock::now();
	eventually(how_long, [&] {
		if (Clock::now() >= next) {
			next = Clock::now() + 200ms;
			trigger(lan1());
			each();
		}
		return Clock::now() >= end;
	});
}

std::pair<Fd, Fd> Expiry::trigger_connection(const NetNs &host) {
	const Fd &server = tcp_on(wan(), 4000);
	Connection client = tcp_connect(host, {kRemote1, 4000});
	auto accepted = tcp_accept(server);
	if (!client || !accepted)
		throw std::runtime_error("no connection to the remote's trigger port");
	return {std::move(client.socket), std::move(*accepted)};
}

TEST_P(Expiry, ClosedWithinASecondWithoutADaemon) {
	up(game("timeout = '1s'"));
	trigger(lan1());
	expect_closed_between(Clock::now(), 700ms, 10s);
	EXPECT_EQ(leases(), Json::array());
}

TEST_P(Expiry, ClosedWithinASecondWithTheDaemonAlive) {
	run_daemon(game("timeout = '1s'"));
	trigger(lan1());
	expect_closed_between(Clock::now(), 700ms, 10s);
	EXPECT_EQ(leases(), Json::array());
}

TEST_P(Expiry, ClosedWithinASecondWithTheDaemonKilled) {
	Process &daemon = run_daemon(game("timeout = '1s'"));
	trigger(lan1());
	daemon.signal(SIGKILL);
	ASSERT_TRUE(daemon.wait(2s));
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	trigger(lan1());
	expect_closed_between(Clock::now(), 0ms, 10s);
	trigger(lan1()); // and it can be opened again
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	const Json status = json({"status"});
	EXPECT_EQ(status.at("daemon"), nullptr);
	EXPECT_FALSE(status.at("warnings").empty());
	EXPECT_EQ(ptrig({"rule", "set", "game", "--timeout", "5m"}).status, 0);
	trigger(lan1());
	run_daemon();
	EXPECT_EQ(leases("game").size(), 1U) << "a new daemon takes over what is there";
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Expiry, SteadyTriggersKeepItOpen) {
	up(game("timeout = '1s'"));
	keep_triggering(3s, [&] { EXPECT_EQ(who_gets_udp(6000), "lan1"); });
	EXPECT_EQ(leases("game").size(), 1U);
	EXPECT_GT(leases("game").at(0).at("age_s"), 2.5) << "it is one lease, not one after another";
	expect_closed_between(Clock::now(), 0ms, 10s);
}

TEST_P(Expiry, EstablishedTcpGoesOnPastExpiry) {
	up(game("timeout = '1s'"));
	trigger(lan1());
	const auto [remote, host] = connect_in(6000, lan1());
	ASSERT_TRUE(says(remote, host));
	expect_closed_between(Clock::now(), 0ms, 10s);
	EXPECT_TRUE(says(remote, host));
	EXPECT_TRUE(says(host, remote));
	EXPECT_TRUE(exchange(remote, host, 1 << 20));
	EXPECT_EQ(who_gets_tcp(6000), "gateway") << "no new connection";
	EXPECT_EQ(json({"session", "list"}).size(), 1U) << "the probes' half-open ones end with their lease";
}

TEST_P(Expiry, EstablishedUdpGoesOnPastExpiry) {
	up(game("timeout = '1s'"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	expect_closed_between(Clock::now(), 0ms, 10s);
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
}

TEST_P(Expiry, OnCloseKillCutsSessions) {
	up(game("timeout = '1s'\non_close = 'kill'"));
	trigger(lan1());
	const auto [remote, host] = connect_in(6000, lan1());
	const Fd udp = start_talk(lan1());
	ASSERT_TRUE(says(remote, host));
	expect_closed_between(Clock::now(), 0ms, 10s);
	EXPECT_TRUE(eventually(15s, [&] { return !says(remote, host, 100ms); }));
	EXPECT_TRUE(eventually(15s, [&] { return !talk(udp, udp_on(lan1(), 6000), {kWan, 6000}, 100ms); }));
}

TEST_P(Expiry, PacketsFromTheWanNeverExtend) {
	up(game("timeout = '2s'\nrefresh = 'traffic'"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	const Fd &host = udp_on(lan1(), 6000);
	EXPECT_TRUE(eventually(15s, [&] {
		udp_send(remote, {kWan, 6000}, "flood"); // nobody answers
		return leases("game").empty();
	}));
	EXPECT_TRUE(udp_receive(host)) << "the flood did arrive";
}

TEST_P(Expiry, RefreshTrafficKeepsItOpenByTheHostsPackets) {
	up(game("timeout = '2s'\nrefresh = 'traffic'"));
	trigger(lan1());
	const Fd remote = udp_socket(wan(), {kRemote2, 5555});
	const auto end = Clock::now() + 5s;
	eventually(6s, [&] {
		EXPECT_TRUE(host_talks(remote));
		return Clock::now() >= end;
	});
	EXPECT_EQ(leases("game").size(), 1U);
	EXPECT_EQ(who_gets_udp(6001), "lan1");
	expect_closed_between(Clock::now(), 0ms, 10s);
}

TEST_P(Expiry, RefreshTrafficIsNotKeptOpenByAnswersToARemote) {
	up(game("timeout = '2s'\nrefresh = 'traffic'"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	EXPECT_TRUE(eventually(15s, [&] {
		EXPECT_TRUE(answers(udp_on(lan1(), 6000), remote, local_end(remote)));
		return leases("game").empty();
	}));
}

TEST_P(Expiry, RefreshTriggerIsNotKeptOpenByTraffic) {
	up(game("timeout = '1s'"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	EXPECT_TRUE(eventually(15s, [&] {
		EXPECT_TRUE(answers(udp_on(lan1(), 6000), remote, local_end(remote)));
		return leases("game").empty();
	}));
}

TEST_P(Expiry, MaxLifetimeEndsABusyLease) {
	up(game("timeout = '2s'\nrefresh = 'traffic'\nmax_lifetime = '4s'"));
	const auto since = Clock::now();
	trigger(lan1());
	const Fd remote = udp_socket(wan(), {kRemote2, 5555});
	EXPECT_TRUE(eventually(8s, [&] {
		EXPECT_TRUE(host_talks(remote));
		return leases("game").empty();
	}));
	EXPECT_GE(Clock::now() - since, 3800ms);
}

TEST_P(Expiry, MaxLifetimeWithKillCutsTheSession) {
	up(game("max_lifetime = '1s'\non_close = 'kill'"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	expect_closed_between(Clock::now(), 700ms, 10s);
	EXPECT_TRUE(eventually(15s, [&] { return !talk(remote, udp_on(lan1(), 6000), {kWan, 6000}, 100ms); }));
}

TEST_P(Expiry, HalfOpenSessionEndsAndIsMadeAnew) {
	up(game(), "", "[timeouts]\nhalfopen = '1s'\n");
	trigger(lan1());
	const Endpoint remote{kRemote1, 5555};
	EXPECT_EQ(who_gets_udp(6000, remote), "lan1");
	EXPECT_EQ(json({"session", "list"}).at(0).at("state"), "half-open");
	EXPECT_TRUE(eventually(15s, [&] { return json({"session", "list"}).empty(); }));
	EXPECT_EQ(who_gets_udp(6000, remote), "lan1");
}

TEST_P(Expiry, IdleUdpSessionEnds) {
	up(game("timeout = '1s'"), "", "[timeouts]\nudp = '1s'\n");
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	expect_closed_between(Clock::now(), 0ms, 10s);
	EXPECT_TRUE(eventually(15s, [&] { return json({"session", "list"}).empty(); }));
	EXPECT_FALSE(talk(remote, udp_on(lan1(), 6000), {kWan, 6000}, 100ms));
}

TEST_P(Expiry, IdleTcpSessionsEndByTheirState) {
	up(game("session_limit = 100"), "", "[timeouts]\ntcp_established = '1s'\ntcp_transitory = '1s'\n");
	trigger(lan1());
	const auto [remote, host] = connect_in(6000, lan1());
	ASSERT_TRUE(says(remote, host));
	EXPECT_EQ(json({"session", "list"}).at(0).at("state"), "established");
	EXPECT_TRUE(eventually(15s, [&] { return json({"session", "list"}).empty(); }));
	EXPECT_FALSE(says(remote, host, 200ms)) << "not a SYN: it opens nothing";
}

TEST_P(Expiry, TheDaemonReclaimsWhatHasEnded) {
	run_daemon(game("timeout = '1s'"), "", "[timeouts]\nudp = '1s'\nhalfopen = '1s'\n");
	trigger(lan1());
	start_talk(lan1());
	who_gets_udp(6001);
	const auto used = [&](const char *what) {
		return json({"status"}).at("limits").at(what).at("used").get<int>();
	};
	EXPECT_GE(used("leases"), 1);
	EXPECT_TRUE(
		eventually(10s, [&] { return used("leases") == 0 && used("sessions") == 0 && used("halfopen") == 0; }));
}

TEST_P(Expiry, CloseConnectionByFin) {
	up(game("close = 'connection'"));
	auto [client, server] = trigger_connection(lan1());
	EXPECT_TRUE(says(client, server));
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	client = Fd();
	EXPECT_TRUE(at_end(server));
	EXPECT_EQ(who_gets_udp(6000), "lan1") << "only one side has closed";
	server = Fd();
	EXPECT_TRUE(eventually(15s, [&] { return who_gets_udp(6000) == "gateway"; }));
	EXPECT_EQ(leases(), Json::array());
}

TEST_P(Expiry, CloseConnectionByRst) {
	up(game("close = 'connection'"));
	for (const bool by_host : {true, false}) {
		auto [client, server] = trigger_connection(lan1());
		EXPECT_EQ(who_gets_udp(6000), "lan1");
		tcp_reset(std::move(by_host ? client : server));
		EXPECT_TRUE(eventually(15s, [&] { return who_gets_udp(6000) == "gateway"; })) << "by host: " << by_host;
	}
}

TEST_P(Expiry, CloseConnectionWaitsForTheLastOfThem) {
	up(game("close = 'connection'"));
	auto first = trigger_connection(lan1());
	auto second = trigger_connection(lan1());
	tcp_reset(std::move(first.first));
	EXPECT_TRUE(says(second.first, second.second));
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	tcp_reset(std::move(second.first));
	EXPECT_TRUE(eventually(15s, [&] { return who_gets_udp(6000) == "gateway"; }));
}

TEST_P(Expiry, FinAndRstDoNotRefresh) {
	up(game("timeout = '1s'"));
	auto [client, server] = trigger_connection(lan1());
	const auto since = Clock::now();
	ASSERT_TRUE(eventually(800ms, [&] { return Clock::now() - since > 600ms; }));
	client = Fd(); // its FIN goes out late in the lease's second
	expect_closed_between(since, 0ms, 1900ms);
}

} // namespace lab
