// Jumbo frames, on both sides of the gateway or on one. A veth takes no native XDP program if its other end's MTU is
// more than a page holds.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <random>

#include "tests/lab/lab.h"

namespace lab {

class Mtu : public Lab {
protected:
	/// The devices between the gateway and lan1, and the internet, made anew.
	void make_lan(int mtu);
	void make_wan(int mtu);
	/// Datagrams of all sizes, both ways, unchanged; the first one of a size may be what tells the path's MTU.
	void expect_datagrams(const Fd &remote, const Fd &host);
	/// The gateway at these MTUs serves lan1 as it should.
	void expect_served(int lan_mtu, int wan_mtu);
};
LAB_STORIES(Mtu);

void Mtu::make_lan(int mtu) {
	const std::string bytes = std::to_string(mtu);
	ip(gw(), "link del lan1if\nlink add lan1if address 02:00:00:00:77:01 mtu " + bytes +
			 " type veth peer name eth0 address 02:00:00:00:77:11 mtu " + bytes + " netns lan1\n" +
			 (xdp() ? "addr add 192.168.77.1/24 dev lan1if\n"
				: "link set lan1if master br0\nlink set lan2if mtu " + bytes + "\n") +
			 "link set lan1if up\n");
	ip(lan1(), "addr add 192.168.77.11/24 dev eth0\nlink set eth0 up\nroute add default via 192.168.77.1\n");
	if (xdp())
		must(lan1(), {"ethtool", "-K", "eth0", "tx", "off", "gro", "on"});
}

void Mtu::make_wan(int mtu) {
	const std::string bytes = std::to_string(mtu);
	ip(gw(), "link del wan0\nlink add wan0 address 02:00:00:00:00:02 mtu " + bytes +
			 " type veth peer name eth0 address 02:00:00:00:00:10 mtu " + bytes + " netns wan\n" +
			 "addr add 203.0.113.2/24 dev wan0\nlink set wan0 up\nroute add default via 203.0.113.10\n");
	ip(wan(), "addr add 203.0.113.10/24 dev eth0\naddr add 203.0.113.11/24 dev eth0\nlink set eth0 up\n");
	if (xdp())
		must(wan(), {"ethtool", "-K", "eth0", "tx", "off", "gro", "on"});
}

namespace {

std::string noise(std::size_t bytes) {
	std::mt19937 random(static_cast<unsigned>(bytes));
	std::string data(bytes, '\0');
	for (char &byte : data)
		byte = static_cast<char>(random());
	return data;
}

/// Where the datagram came from, if it arrives as it was sent.
std::optional<Endpoint> carry(const Fd &from, const Endpoint &to, const Fd &at, const std::string &data) {
	try {
		udp_send(from, to, data);
	} catch (const std::exception &) { // too big for what the path has turned out to be: the next one is cut
		return std::nullopt;
	}
	while (auto got = udp_receive(at, patient(300ms)))
		if (got->data == data)
			return got->from;
	return std::nullopt;
}

} // namespace

void Mtu::expect_datagrams(const Fd &remote, const Fd &host) {
	for (const std::size_t size : {1000, 1472, 1473, 4000, 8972, 8973, 30000}) {
		const std::string data = noise(size);
		std::optional<Endpoint> seen;
		EXPECT_TRUE(eventually(10s,
				       [&] {
					       return (seen = carry(remote, {kWan, 6000}, host, data)).has_value();
				       }))
			<< size << " bytes from the remote";
		if (!seen)
			continue;
		std::optional<Endpoint> back;
		EXPECT_TRUE(eventually(10s, [&] { return (back = carry(host, *seen, remote, data)).has_value(); }))
			<< size << " bytes from the host";
		EXPECT_EQ(back, (Endpoint{kWan, 6000}));
	}
}

void Mtu::expect_served(int lan_mtu, int wan_mtu) {
	SCOPED_TRACE("LAN " + std::to_string(lan_mtu) + ", WAN " + std::to_string(wan_mtu));
	ASSERT_TRUE(eventually(15s, [&] {
		return try_trigger(lan1(), {kRemote1, 4000}, {}, 100ms) && who_gets_udp(6003) == "lan1";
	}));
	expect_datagrams(udp_socket(wan(), {kRemote2, 0}), udp_on(lan1(), 6000));
	const auto [remote, host] = connect_in(6001, lan1(), kRemote2);
	EXPECT_TRUE(exchange(remote, host, 4 << 20));
	int segment = 0;
	socklen_t length = sizeof(segment);
	ASSERT_EQ(getsockopt(host.get(), IPPROTO_TCP, TCP_MAXSEG, &segment, &length), 0);
	const int smaller = std::min(lan_mtu, wan_mtu);
	EXPECT_GT(segment, smaller - 100) << "small segments where large ones fit";
	EXPECT_LT(segment, smaller);
}

TEST_P(Mtu, LargeFramesOnEitherSide) {
	run_daemon(game());
	expect_served(1500, 1500);
	make_lan(9000);
	make_wan(9000);
	expect_served(9000, 9000); // before anybody has learnt of a smaller one
	make_wan(1500);
	expect_served(9000, 1500);
	make_wan(9000);
	make_lan(1500);
	expect_served(1500, 9000);
}

} // namespace lab
