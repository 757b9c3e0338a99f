// Who sees nothing of a connection, or of a machine, but knows their addresses, sends in their names: a reset, a FIN,
// an ARP reply. Beside the open port the kernel's own DNAT shows what a gateway without ptrig makes of it.
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>
#include <stdexcept>

#include "tests/lab/frames.h"
#include "tests/lab/lab.h"

namespace lab {

namespace {

constexpr std::uint16_t kOpen = 6000, kDnat = 6100;

/// The number of the next byte that this end of a connection sends.
std::uint32_t next_seq(const Fd &socket) {
	const int on = 1, off = -1 /* without a window probe */, queue = 2 /* that of sending */;
	std::uint32_t seq = 0;
	socklen_t size = sizeof(seq);
	if (setsockopt(socket.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0 ||
	    setsockopt(socket.get(), IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)) < 0 ||
	    getsockopt(socket.get(), IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, &size) < 0 ||
	    setsockopt(socket.get(), IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)) < 0)
		throw std::runtime_error("TCP_REPAIR");
	return seq;
}

/// An ARP reply that nobody has asked for: `address` is at `mac`.
void say_arp(const NetNs &where, const MacBytes &mac, const std::string &address, const MacBytes &to,
	     const std::string &asked_by) {
	struct {
		ether_header eth;
		ether_arp arp;
	} __attribute__((packed)) frame{};
	std::copy(to.begin(), to.end(), frame.eth.ether_dhost);
	std::copy(mac.begin(), mac.end(), frame.eth.ether_shost);
	frame.eth.ether_type = htons(ETHERTYPE_ARP);
	frame.arp.arp_hrd = htons(ARPHRD_ETHER);
	frame.arp.arp_pro = htons(ETHERTYPE_IP);
	frame.arp.arp_hln = 6;
	frame.arp.arp_pln = 4;
	frame.arp.arp_op = htons(ARPOP_REPLY);
	const std::uint32_t from = htonl(to_number(address)), at = htonl(to_number(asked_by));
	std::copy(mac.begin(), mac.end(), frame.arp.arp_sha);
	std::memcpy(frame.arp.arp_spa, &from, 4);
	std::copy(to.begin(), to.end(), frame.arp.arp_tha);
	std::memcpy(frame.arp.arp_tpa, &at, 4);
	where.inside([&] {
		const Fd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
		sockaddr_ll device{};
		device.sll_family = AF_PACKET;
		device.sll_ifindex = static_cast<int>(if_nametoindex("eth0"));
		if (sendto(socket.get(), &frame, sizeof(frame), 0, reinterpret_cast<const sockaddr *>(&device),
			   sizeof(device)) != sizeof(frame))
			throw std::runtime_error("send an ARP reply");
	});
}

} // namespace

class Blind : public Lab {
protected:
	void begin();
	/// A connection by this WAN port: the remote's end, the host's.
	std::pair<Fd, Fd> connect(std::uint16_t port);
	/// A packet without data to the remote's peer in its name, so far from the right sequence number.
	void forge(const Fd &remote, std::uint8_t flags, std::uint32_t off_by);
	std::string state_of_session() const;
	/// The gateway believes that host 1 is at this MAC address.
	void believes(const MacBytes &mac);
};
LAB_STORIES(Blind);

void Blind::begin() {
	run_daemon(game("timeout = '1h'"), "", "[timeouts]\ntcp_transitory = '2s'\n");
	trigger(lan1());
	nft("table ip lab_dnat {\n\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat;\n"
	    "\t\tiifname wan0 meta l4proto { tcp, udp } th dport " +
	    std::to_string(kDnat) + " dnat to " + host1() +
	    "\n\t}\n}\ninsert rule inet lab forward iifname wan0 ct status dnat accept\n");
}

std::pair<Fd, Fd> Blind::connect(std::uint16_t port) {
	const Fd &listener = tcp_on(lan1(), port);
	Connection remote = tcp_connect(wan(), {kWan, port}, {kRemote1, 0});
	auto host = tcp_accept(listener);
	if (!remote || !host || !says(remote.socket, *host) || !says(*host, remote.socket))
		throw std::runtime_error("no connection by port " + std::to_string(port));
	return {std::move(remote.socket), std::move(*host)};
}

void Blind::forge(const Fd &remote, std::uint8_t flags, std::uint32_t off_by) {
	const Endpoint from = local_end(remote), to = remote_end(remote);
	FrameSender sender(wan(), "eth0", to_mac(mac_of(gw(), "wan0")));
	sender.add(to_mac(mac_of(wan())), {.from = to_number(from.address),
					   .to = to_number(to.address),
					   .from_port = from.port,
					   .to_port = to.port,
					   .tcp = true,
					   .flags = flags,
					   .seq = next_seq(remote) + off_by});
	ASSERT_EQ(sender.send(), 0U);
}

std::string Blind::state_of_session() const {
	const Json sessions = json({"session", "list"});
	return sessions.size() == 1 ? sessions[0].at("state").get<std::string>() : std::to_string(sessions.size());
}

TEST_P(Blind, AResetEndsNoConnection) {
	begin();
	auto [remote, host] = connect(kOpen);
	auto [remote_beside, host_beside] = connect(kDnat);
	for (const std::uint32_t off_by : {0x40000000U, 0xc0000000U}) {
		forge(remote, kTcpRst, off_by);
		forge(remote_beside, kTcpRst, off_by);
	}
	// Silent for longer than a connection that is being reset would live.
	EXPECT_FALSE(eventually(4s, [&] { return state_of_session() != "established"; })) << state_of_session();
	EXPECT_TRUE(says(remote_beside, host_beside)) << "the kernel's DNAT";
	EXPECT_TRUE(says(host, remote));
	EXPECT_TRUE(says(remote, host));
	forge(remote, kTcpRst, 0);
	EXPECT_TRUE(eventually(10s, [&] { return state_of_session() == "0"; }))
		<< "one that hits: " << state_of_session();
	EXPECT_TRUE(says(remote_beside, host_beside));
}

/// Conntrack takes any sequence number then: ptrig knows what the host has acknowledged, and holds a RST or FIN to
/// that.
TEST_P(Blind, NeitherAResetNorAFinEndsASilentConnectionOfTheFastPath) {
	begin();
	auto [remote, host] = connect(kOpen);
	ASSERT_TRUE(eventually(30s, [&] {
		const std::uint64_t before = counter("accelerated");
		return exchange(remote, host, 1 << 18) && counter("accelerated") > before + 3;
	}));
	let_permissions_end();
	const std::uint64_t dropped = counter("out_of_window");
	for (const std::uint32_t off_by : {0x40000000U, 0xc0000000U, 0U - 2U})
		for (const std::uint8_t flags : {kTcpRst, std::uint8_t(kTcpFin | kTcpAck)})
			forge(remote, flags, off_by);
	forge(remote, kTcpRst, 1); // in the window: the host asks whether it was one (RFC 5961 3.2)
	EXPECT_FALSE(eventually(4s, [&] { return state_of_session() != "established"; })) << state_of_session();
	EXPECT_EQ(counter("out_of_window"), dropped + 6);
	EXPECT_TRUE(says(host, remote));
	EXPECT_TRUE(says(remote, host));
	EXPECT_TRUE(exchange(remote, host, 1 << 18));
	let_permissions_end();
	forge(remote, kTcpRst, 0);
	EXPECT_TRUE(eventually(10s, [&] { return state_of_session() == "0"; }))
		<< "one that hits: " << state_of_session();
}

TEST_P(Blind, AFinEndsNoConnectionThatIsHalfClosed) {
	begin();
	auto [remote, host] = connect(kOpen);
	auto [remote_beside, host_beside] = connect(kDnat);
	ASSERT_EQ(shutdown(host.get(), SHUT_WR), 0);
	ASSERT_EQ(shutdown(host_beside.get(), SHUT_WR), 0);
	ASSERT_TRUE(at_end(remote));
	ASSERT_TRUE(at_end(remote_beside));
	forge(remote, kTcpFin | kTcpAck, 0x40000000U);
	forge(remote_beside, kTcpFin | kTcpAck, 0x40000000U);
	for (const auto end = Clock::now() + 5s; Clock::now() < end; std::this_thread::sleep_for(250ms)) {
		ASSERT_TRUE(says(remote_beside, host_beside)) << "the kernel's DNAT";
		ASSERT_TRUE(says(remote, host)) << state_of_session();
	}
	remote = Fd();
	EXPECT_TRUE(at_end(host)) << "its own FIN";
}

void Blind::believes(const MacBytes &mac) {
	const MacBytes gateway = to_mac(mac_of(gw(), lan_device()));
	// What the gateway has just learnt it believes for a second (neigh/locktime).
	ASSERT_TRUE(eventually(10s, [&] {
		say_arp(lan1(), mac, host1(), gateway, "192.168.77.1");
		return must(gw(), {"ip", "neigh", "show", host1()}).find(to_string(mac)) != std::string::npos;
	}));
}

TEST_P(Blind, AForgedArpReplyEndsNothing) {
	const MacBytes forged = to_mac("02:00:00:00:66:66"), own = to_mac(mac_of(lan1()));
	begin();
	const Fd &host = udp_on(lan1(), kOpen), &host_beside = udp_on(lan1(), kDnat);
	const Fd remote = start_talk(lan1()), remote_beside = udp_socket(wan(), {kRemote1, 0});
	ASSERT_TRUE(talk(remote_beside, host_beside, {kWan, kDnat}));
	const auto packets_in = [&] { return json({"session", "list"}).at(0).at("packets_in").get<unsigned>(); };
	const unsigned before = packets_in();
	believes(forged);
	udp_send(remote, {kWan, kOpen}, "to another machine");
	udp_send(remote_beside, {kWan, kDnat}, "to another machine");
	EXPECT_EQ(who_gets_udp(kOpen + 1, {kRemote2, 0}), "gateway") << "nothing new begins";
	EXPECT_EQ(counter("stranger"), 1U);
	believes(own);
	let_permissions_end(); // to the other machine
	while (udp_receive(host, 0ms) || udp_receive(host_beside, 0ms)) {
	}
	EXPECT_TRUE(talk(remote_beside, host_beside, {kWan, kDnat})) << "the kernel's DNAT";
	EXPECT_TRUE(talk(remote, host));
	EXPECT_EQ(packets_in(), before + 2) << "the same session";
	EXPECT_EQ(rule_row("game").at("granted"), 1U) << "the same lease";
	EXPECT_EQ(who_gets_udp(kOpen + 1, {kRemote2, 0}), "lan1");
}

} // namespace lab
