// A TCP connection through an open port whose path becomes narrow after the handshake, when both ends have agreed on
// segments that are too large for it.
#include "tests/lab/lab.h"
#include "tests/lab/sockets_icmp.h"

namespace lab {

class PathMtu : public Lab {};
LAB_STORIES(PathMtu);

namespace {

constexpr std::size_t kBefore = 1 << 16, kAfter = 1 << 20;

} // namespace

TEST_P(PathMtu, TheLanBecomesNarrowUnderAConnection) {
	up(game());
	trigger(lan1());
	const auto [remote, host] = connect_in(6000, lan1());
	ASSERT_TRUE(exchange(remote, host, kBefore));
	ASSERT_EQ(path_mtu(remote), 1500);
	ip(gw(), std::string("link set lan1if mtu 1280\n") + (xdp() ? "" : "link set br0 mtu 1280\n"));
	ip(lan1(), "link set eth0 mtu 1280\n");
	EXPECT_TRUE(exchange(remote, host, kAfter));
	EXPECT_EQ(path_mtu(remote), 1280);
}

TEST_P(PathMtu, AHopBeyondTheWanBecomesNarrowUnderAConnection) {
	const NetNs far("far");
	ip(wan(),
	   "link add hop0 type veth peer name eth0 netns far\naddr add 192.0.2.1/24 dev hop0\nlink set hop0 up\n");
	ip(far, "addr add 192.0.2.7/24 dev eth0\nlink set eth0 up\nroute add default via 192.0.2.1\n");
	wan().sysctl("ipv4/ip_forward", "1");
	up(game());
	trigger(lan1());
	const Fd &listener = tcp_on(lan1(), 6000);
	const Connection remote = tcp_connect(far, {kWan, 6000}, {}, 10s);
	ASSERT_TRUE(remote);
	const auto host = tcp_accept(listener);
	ASSERT_TRUE(host);
	ASSERT_TRUE(exchange(remote.socket, *host, kBefore));
	ASSERT_EQ(path_mtu(*host), 1500);
	ip(wan(), "route add 192.0.2.7/32 dev hop0 mtu lock 1280\n");
	EXPECT_TRUE(exchange(remote.socket, *host, kAfter));
	EXPECT_EQ(path_mtu(*host), 1280);
}

} // namespace lab
