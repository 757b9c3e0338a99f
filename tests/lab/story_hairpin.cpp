// From the LAN to an open port of the WAN address, with real sockets: over one bridge (tc), between two interfaces
// (xdp).
#include "tests/lab/lab.h"
#include "tests/lab/sockets_icmp.h"

namespace lab {

class Hairpin : public Lab {
protected:
	/// A datagram from a client on the LAN to WAN:6000; as whom lan1 sees it.
	Endpoint seen_by_host(const Fd &client) {
		const Fd &host = udp_on(lan1(), 6000);
		udp_send(client, {kWan, 6000}, "who am I?");
		const auto got = udp_receive(host, 10s);
		return got ? got->from : Endpoint{"nobody", 0};
	}
	/// TCP from a LAN host to WAN:6000 and back, until both have closed; as whom lan1 sees it.
	void connects(const NetNs &client, const Endpoint &from) {
		const Fd &listener = tcp_on(lan1(), 6000);
		Connection connection = tcp_connect(client, {kWan, 6000}, from, 10s);
		ASSERT_TRUE(connection) << connection.error;
		auto accepted = tcp_accept(listener, 10s);
		ASSERT_TRUE(accepted);
		EXPECT_EQ(remote_end(*accepted), (Endpoint{kWan, from.port}));
		EXPECT_EQ(remote_end(connection.socket), (Endpoint{kWan, 6000}));
		EXPECT_TRUE(exchange(connection.socket, *accepted, 1 << 20));
		accepted.reset();
		EXPECT_TRUE(at_end(connection.socket, 10s));
	}
	/// With br_netfilter the kernel translates on the bridge itself, and a bridge sends no frame back by the port
	/// that it came in by: a host does not reach itself then, through whatever DNAT.
	void without_bridge_netfilter() {
		if (!xdp())
			must(gw(), {"sysctl", "-q", "-e", "-w", "net.bridge.bridge-nf-call-iptables=0"});
	}
	/// What a client on the LAN gets for its datagrams to that port: errno.
	static int error_of_sending(const Fd &client) {
		int error = 0;
		eventually(10s, [&] {
			error = udp_try_send(client, "anybody there?");
			if (error == 0)
				error = udp_error(client, 200ms);
			return error != 0;
		});
		return error;
	}
};
LAB_STORIES(Hairpin);

TEST_P(Hairpin, UdpFromAnotherHost) {
	up(game());
	trigger(lan1());
	const Fd client = udp_socket(lan2(), {host2(), 5555});
	EXPECT_EQ(seen_by_host(client), (Endpoint{kWan, 5555}));
	for (int i = 0; i < 5; i++)
		EXPECT_TRUE(talk(client, udp_on(lan1(), 6000), {kWan, 6000}, 10s));
	EXPECT_EQ(counter("hairpin_opened"), 1U);
}

TEST_P(Hairpin, TcpFromAnotherHost) {
	up(game());
	trigger(lan1());
	connects(lan2(), {host2(), 5555});
}

TEST_P(Hairpin, TheHostItself) {
	without_bridge_netfilter();
	up(game());
	trigger(lan1());
	const Fd client = udp_socket(lan1(), {host1(), 5555});
	EXPECT_EQ(seen_by_host(client), (Endpoint{kWan, 5555}));
	EXPECT_TRUE(talk(client, udp_on(lan1(), 6000), {kWan, 6000}, 10s));
	connects(lan1(), {host1(), 5556});
}

TEST_P(Hairpin, TwoClientsWithTheSamePort) {
	without_bridge_netfilter();
	up(game());
	trigger(lan1());
	const Fd one = udp_socket(lan2(), {host2(), 5555}), two = udp_socket(lan1(), {host1(), 5555});
	const Endpoint first = seen_by_host(one), second = seen_by_host(two);
	EXPECT_EQ(first, (Endpoint{kWan, 5555}));
	EXPECT_EQ(second.address, kWan);
	EXPECT_NE(second.port, 5555);
	EXPECT_TRUE(talk(one, udp_on(lan1(), 6000), {kWan, 6000}, 10s));
	EXPECT_TRUE(talk(two, udp_on(lan1(), 6000), {kWan, 6000}, 10s));
	EXPECT_TRUE(talk(one, udp_on(lan1(), 6000), {kWan, 6000}, 10s));
}

TEST_P(Hairpin, WithoutALeaseTheGatewayRefuses) {
	up(game());
	udp_on(lan1(), 6000);
	tcp_on(lan1(), 6000);
	const Fd client = udp_socket(lan2(), {host2(), 5555});
	udp_connect(client, {kWan, 6000});
	EXPECT_EQ(error_of_sending(client), ECONNREFUSED);
	EXPECT_EQ(tcp_connect(lan2(), {kWan, 6000}).error, ECONNREFUSED);
	EXPECT_EQ(counter("opened"), 0U);
	EXPECT_FALSE(udp_receive(udp_on(lan1(), 6000), 0ms));
}

TEST_P(Hairpin, AClosedPortOfTheHostIsReported) {
	up(game());
	trigger(lan1());
	const Fd client = udp_socket(lan2(), {host2(), 5555});
	udp_connect(client, {kWan, 6003});
	EXPECT_EQ(error_of_sending(client), ECONNREFUSED);
	const auto opened = counter("hairpin_opened");
	EXPECT_EQ(tcp_connect(lan2(), {kWan, 6003}, {}, 10s).error, ECONNREFUSED);
	EXPECT_EQ(counter("hairpin_opened"), opened + 1);
}

TEST_P(Hairpin, TheGatewaysOwnServiceComesFirst) {
	up(game());
	trigger(lan1());
	const Fd &host = tcp_on(lan1(), 6000);
	const Fd service = tcp_listener(gw(), {"0.0.0.0", 6000});
	const Connection connection = tcp_connect(lan2(), {kWan, 6000}, {}, 10s);
	ASSERT_TRUE(connection);
	EXPECT_TRUE(tcp_accept(service, 10s));
	EXPECT_FALSE(tcp_accept(host, 0ms));
}

/// With br_netfilter only the first packet comes by the LAN's ingress, and the bridge translates the others: conntrack
/// knows that they are answered. Without it, or between two interfaces, every packet comes by.
TEST_P(Hairpin, LivesAsLongAsConntrackHasItAnswered) {
	run_daemon(game(), "", "[timeouts]\nhalfopen = '1s'\nudp = '2s'\n");
	trigger(lan1());
	const Fd client = udp_socket(lan2(), {host2(), 5555});
	const Fd &listener = tcp_on(lan1(), 6001);
	Connection connection = tcp_connect(lan2(), {kWan, 6001}, {host2(), 5556}, 10s);
	ASSERT_TRUE(connection) << connection.error;
	const auto accepted = tcp_accept(listener, 10s);
	ASSERT_TRUE(accepted);
	for (const auto until = std::chrono::steady_clock::now() + 5s; std::chrono::steady_clock::now() < until;) {
		ASSERT_TRUE(talk(client, udp_on(lan1(), 6000), {kWan, 6000}, 10s));
		ASSERT_TRUE(exchange(connection.socket, *accepted, 1000)) << "its entry has gone with its session";
		std::this_thread::sleep_for(100ms);
	}
	EXPECT_EQ(counter("hairpin_opened"), 2U) << "none has begun anew";
	for (const Json &row : json({"session", "list"}))
		EXPECT_EQ(row.at("state"), "established");
	EXPECT_EQ(json({"session", "list"}).size(), 2U);
}

/// Nobody answers: conntrack knows that, too.
TEST_P(Hairpin, EndsWithoutAnAnswer) {
	run_daemon(game(), "", "[timeouts]\nhalfopen = '1s'\n");
	trigger(lan1());
	udp_on(lan1(), 6000); // takes it and is silent
	const Fd client = udp_socket(lan2(), {host2(), 5555});
	udp_send(client, {kWan, 6000}, "anybody there?");
	EXPECT_TRUE(eventually(10s, [&] { return counter("hairpin_opened") == 1U; }));
	EXPECT_TRUE(eventually(10s, [&] { return json({"status"}).at("limits").at("halfopen").at("used") == 0; }));
}

TEST_P(Hairpin, IsListedAndClosed) {
	without_bridge_netfilter(); // so that the host's answer comes by
	up(game());
	trigger(lan1());
	const Fd client = udp_socket(lan2(), {host2(), 5555});
	ASSERT_TRUE(talk(client, udp_on(lan1(), 6000), {kWan, 6000}, 10s));
	const Json row = json({"session", "list"}).at(0);
	EXPECT_EQ(row.at("rule"), "game");
	EXPECT_EQ(row.at("host"), host1());
	EXPECT_EQ(row.at("host_port"), 6000);
	EXPECT_EQ(row.at("remote"), kWan) << "as the host sees it";
	EXPECT_EQ(row.at("remote_port"), 5555);
	EXPECT_EQ(row.at("wan"), kWan);
	EXPECT_EQ(row.at("wan_port"), 6000);
	EXPECT_TRUE(talk(client, udp_on(lan1(), 6000), {kWan, 6000}, 10s));
	EXPECT_EQ(json({"session", "list"}).at(0).at("state"), "established");
	EXPECT_EQ(ptrig({"session", "close", "--remote", kWan}).status, 0);
	EXPECT_EQ(json({"session", "list"}).size(), 0U);
}

} // namespace lab
