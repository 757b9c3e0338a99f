// Conntrack has a TCP flow on an open port already: what a remote's probe has left stands in nobody's way.
// Masqueraded connections of another host whose source port lies in an open range: whoever was first keeps the
// tuple, and neither the lease's host nor the other one gets what is not its own.
#include "tests/lab/frames.h"
#include "tests/lab/lab.h"

namespace lab {

class Collision : public Lab {
protected:
	/// lan2's connection from a port in the range to the remote's; it is masqueraded with the same port.
	std::pair<Fd, Fd> from_the_range();
};
LAB_STORIES(Collision);

namespace {

const Endpoint kServer{kRemote1, 7777};
constexpr std::uint16_t kPort = 6001;
constexpr std::size_t kBytes = 1 << 16;

} // namespace

std::pair<Fd, Fd> Collision::from_the_range() {
	auto ends = connect_out(lan2(), kServer, kPort);
	if (!ends)
		throw std::runtime_error("no connection from a port in the open range");
	EXPECT_EQ(remote_end(ends->second), (Endpoint{kWan, kPort}));
	return std::move(*ends);
}

/// What the remote's earlier SYN has left in conntrack: nothing where it was refused, and else an unanswered entry.
TEST_P(Collision, AnEarlierSynDoesNotBlockTheSameRemoteLater) {
	up(game());
	const Endpoint remote{kRemote2, 5555};
	EXPECT_EQ(who_gets_tcp(6002, remote), "gateway");
	nft("add chain inet lab unanswered { type filter hook output priority raw; }\n"
	    "add rule inet lab unanswered oifname wan0 tcp flags rst drop\n");
	EXPECT_EQ(who_gets_tcp(kPort, remote), "nobody");
	EXPECT_NE(must(gw(), {"conntrack", "-L", "-p", "tcp", "--orig-port-dst", std::to_string(kPort)})
			  .find("UNREPLIED"),
		  std::string::npos);
	trigger(lan1());
	EXPECT_EQ(who_gets_tcp(6002, remote), "lan1");
	EXPECT_EQ(who_gets_tcp(kPort, remote), "lan1");
}

TEST_P(Collision, AConnectionFromBeforeTheLease) {
	up(game());
	const auto [client, server] = from_the_range();
	EXPECT_TRUE(exchange(client, server, kBytes)) << "before the trigger";
	trigger(lan1());
	EXPECT_TRUE(exchange(client, server, kBytes)) << "after it";
	EXPECT_EQ(who_gets_tcp(kPort, {kRemote2, 0}), "lan1") << "another remote";
	EXPECT_EQ(who_gets_tcp(kPort, {kRemote1, 0}), "lan1") << "another port of the same remote";
	EXPECT_TRUE(exchange(client, server, kBytes)) << "after both";
}

TEST_P(Collision, AConnectionThatBeginsUnderALease) {
	up(game());
	trigger(lan1());
	const auto [client, server] = from_the_range();
	EXPECT_TRUE(exchange(client, server, kBytes));
	EXPECT_EQ(who_gets_tcp(kPort, {kRemote2, 0}), "lan1");
	EXPECT_EQ(who_gets_tcp(kPort, {kRemote1, 0}), "lan1");
	EXPECT_TRUE(exchange(client, server, kBytes));
}

/// The remote's SYN comes on the very tuple of the connection: it opens nothing at the lease's host.
TEST_P(Collision, ASynOnTheTupleOfAConnectionOpensNoSession) {
	up(game());
	trigger(lan1());
	const Fd &listener = tcp_on(lan1(), kPort);
	const auto [client, server] = from_the_range();
	FrameSender sender(wan(), "eth0", to_mac("02:00:00:00:00:02"));
	const std::uint64_t before = counter("flow_known");
	for (int i = 0; i < 3; i++)
		sender.add(to_mac(mac_of(wan())),
			   {to_number(kServer.address), to_number(kWan), kServer.port, kPort, true});
	sender.send();
	EXPECT_TRUE(eventually(10s, [&] { return counter("flow_known") >= before + 3; }));
	EXPECT_FALSE(tcp_accept(listener, 100ms)) << "the lease's host was asked";
	EXPECT_EQ(json({"session", "list"}), Json::array());
	EXPECT_TRUE(exchange(client, server, kBytes));
}

/// The session was first: the connection gets another port, and both go on.
TEST_P(Collision, AConnectionThatBeginsAfterTheSession) {
	up(game());
	trigger(lan1());
	const Fd &listener = tcp_on(lan1(), kPort);
	const Connection remote = tcp_connect(wan(), {kWan, kPort}, kServer);
	ASSERT_TRUE(remote);
	const auto host = tcp_accept(listener);
	ASSERT_TRUE(host);
	ASSERT_TRUE(exchange(remote.socket, *host, kBytes));
	const auto ends = connect_out(lan2(), kServer, kPort);
	ASSERT_TRUE(ends);
	EXPECT_EQ(remote_end(ends->second).address, kWan);
	EXPECT_NE(remote_end(ends->second).port, kPort) << "two connections on one tuple";
	EXPECT_TRUE(exchange(ends->first, ends->second, kBytes));
	EXPECT_TRUE(exchange(remote.socket, *host, kBytes));
	EXPECT_TRUE(exchange(ends->first, ends->second, kBytes));
}

} // namespace lab
