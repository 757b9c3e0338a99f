// What takes devices and queueing disciplines that not every kernel has: VLANs, a line that loses and disorders
// packets, a flow table, devices without an Ethernet header. tools/test-kernels runs these stories where the kernel has
// them.
#include "tests/lab/lab.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

namespace lab {

namespace {

/// Two tun devices, each in its namespace, and a line between them.
class TunLine {
public:
	TunLine(const NetNs &one, const NetNs &other, const std::string &name)
	    : ends_{open_tun(one, name), open_tun(other, name)}, carrier_([this] { carry(); }) {}
	TunLine(const TunLine &) = delete;
	TunLine &operator=(const TunLine &) = delete;
	~TunLine() {
		stop_ = true;
		carrier_.join();
	}

private:
	static Fd open_tun(const NetNs &where, const std::string &name) {
		return where.inside([&] {
			Fd fd(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
			ifreq wanted{};
			wanted.ifr_flags = IFF_TUN | IFF_NO_PI;
			name.copy(wanted.ifr_name, IFNAMSIZ - 1);
			if (fd.get() < 0 || ioctl(fd.get(), TUNSETIFF, &wanted) < 0)
				throw std::system_error(errno, std::generic_category(), "make " + name);
			return fd;
		});
	}
	void carry() {
		std::array<char, 65536> packet{};
		while (!stop_) {
			pollfd both[2] = {{ends_[0].get(), POLLIN, 0}, {ends_[1].get(), POLLIN, 0}};
			poll(both, 2, 50);
			for (int from = 0; from < 2; from++) {
				const ssize_t n = read(ends_[from].get(), packet.data(), packet.size());
				if (n > 0 && write(ends_[1 - from].get(), packet.data(), static_cast<size_t>(n)) != n)
					lost_++;
			}
		}
	}
	Fd ends_[2];
	std::atomic<bool> stop_ = false;
	std::atomic<unsigned> lost_ = 0;
	std::thread carrier_;
};

} // namespace

constexpr std::size_t kTransfer = 4 << 20;

class Kernel : public Lab {
protected:
	/// The firewall lets this pair of devices through, too, and masquerades.
	void let_through(const std::string &lan_name, const std::string &wan_name);
	/// With a rule that leads a WAN port to another one of the host's.
	static std::string rules() { return game() + rule("server", "27950/tcp+udp", "27961=27960/tcp+udp"); }
	/// A trigger opens the port, a conversation and a transfer through it are whole. What leaves from the mapped
	/// port is seen as the one that is open, the very trigger, too.
	void works(std::size_t bytes = kTransfer);
	/// A wireguard device of that name at both ends; `at` and `peer_at` are where the other one finds them.
	void connect_wireguard(const std::string &name, const std::string &at, const NetNs &peer,
			       const std::string &peer_at);
	/// The internet is behind another device of the gateway's, of that name on both sides.
	void move_internet_behind(const std::string &device);
	/// A connection through the open port that may have to be tried again.
	bool carries(std::size_t bytes);
	/// Whether the kernel has it, which this command of the gateway tells.
	bool can(const Words &words) {
		const Output output = run(gw(), words);
		why_ = output.err.substr(0, output.err.find('\n'));
		return output.status == 0;
	}
	std::string why_;
};

class KernelTc : public Kernel {};
INSTANTIATE_TEST_SUITE_P(, KernelTc, testing::Values("tc"),
			 [](const testing::TestParamInfo<const char *> &story) { return std::string(story.param); });
LAB_STORIES(Kernel);

void Kernel::let_through(const std::string &lan_name, const std::string &wan_name) {
	nft("add rule ip lab_nat postrouting oifname \"" + wan_name + "\" masquerade\n" +
	    "add rule inet lab forward iifname \"" + lan_name + "\" oifname \"" + wan_name + "\" accept\n");
}

bool Kernel::carries(std::size_t bytes) {
	const Fd &listener = tcp_on(lan1(), 6005);
	const Connection in = tcp_connect(wan(), {kWan, 6005}, {kRemote2, 0}, patient(10s));
	const auto accepted = tcp_accept(listener, patient(10s));
	return in && accepted && exchange(in.socket, *accepted, bytes, patient(60s));
}

void Kernel::works(std::size_t bytes) {
	EXPECT_EQ(who_gets_udp(6000), "gateway") << "open before the trigger";
	EXPECT_EQ(trigger(lan1()).address, kWan);
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(leases("game").at(0).at("host"), host1());
	EXPECT_TRUE(talk(udp_socket(wan(), {kRemote2, 0}), udp_on(lan1(), 6001), {kWan, 6001}));
	EXPECT_TRUE(carries(bytes));
	EXPECT_EQ(who_gets_udp(6011), "gateway") << "a port that is not the rule's";

	EXPECT_EQ(trigger(lan1(), {kRemote1, 27950}, {"0.0.0.0", 27960}).port, 27961);
	const auto ends = connect_out(lan1(), {kRemote1, 27950}, 27960, patient(5s));
	ASSERT_TRUE(ends);
	EXPECT_EQ(remote_end(ends->second).port, 27961);
	EXPECT_TRUE(exchange(ends->first, ends->second, bytes, patient(60s)));
	EXPECT_EQ(counter("not_swapped"), 0U);
}

void Kernel::connect_wireguard(const std::string &name, const std::string &at, const NetNs &peer,
			       const std::string &peer_at) {
	const std::string key = must(gw(), {"wg", "genkey"}), peer_key = must(gw(), {"wg", "genkey"});
	const auto set_up = [&](const NetNs &where, const std::string &own, const std::string &other,
				const std::string &endpoint) {
		std::string pub = must(where, {"wg", "pubkey"}, other);
		pub.pop_back();
		must(where,
		     {"wg", "set", name, "listen-port", "51820", "private-key", "/dev/stdin", "peer", pub,
		      "allowed-ips", "0.0.0.0/0", "endpoint", endpoint + ":51820"},
		     own);
		ip(where, "link set " + name + " up\n");
	};
	ip(peer, "link add " + name + " type wireguard\n");
	set_up(gw(), key, peer_key, peer_at);
	set_up(peer, peer_key, key, at);
}

void Kernel::move_internet_behind(const std::string &device) {
	ip(gw(), "addr flush dev wan0\naddr add 10.9.0.1/24 dev wan0\naddr add 203.0.113.2/24 dev " + device +
			 "\nlink set " + device + " up\nroute add default via 203.0.113.10\n");
	ip(wan(), "addr flush dev eth0\naddr add 10.9.0.2/24 dev eth0\naddr add 203.0.113.10/24 dev " + device +
			  "\naddr add 203.0.113.11/24 dev " + device + "\nlink set " + device + " up\n");
	let_through("br0", device);
}

TEST_P(KernelTc, WireguardAsWan) {
	if (!can({"ip", "link", "add", "wg0", "type", "wireguard"}))
		GTEST_SKIP() << "the kernel has no wireguard: " << why_;
	connect_wireguard("wg0", "10.9.0.1", wan(), "10.9.0.2");
	move_internet_behind("wg0");
	ASSERT_TRUE(eventually(15s, [&] { return try_trigger(lan1(), {kRemote1, 9}).has_value(); }));
	up(rules(), "wan = ['wg0']");
	works();
}

TEST_P(KernelTc, WireguardAsLan) {
	if (!can({"ip", "link", "add", "wg0", "type", "wireguard"}))
		GTEST_SKIP() << "the kernel has no wireguard: " << why_;
	connect_wireguard("wg0", "10.8.0.1", lan1(), "10.8.0.11");
	ip(gw(), "addr flush dev br0\naddr add 10.8.0.1/24 dev br0\naddr add 192.168.77.1/24 dev wg0\n");
	ip(lan1(), "addr flush dev eth0\naddr add 10.8.0.11/24 dev eth0\naddr add 192.168.77.11/24 dev wg0\n"
		   "route add default dev wg0\n");
	let_through("wg0", "wan0");
	ASSERT_TRUE(eventually(15s, [&] { return try_trigger(lan1(), {kRemote1, 9}).has_value(); }));
	up(rules(), "lan = ['wg0']");
	works();
	EXPECT_EQ(leases("game").at(0).at("mac"), nullptr) << "there is no Ethernet";
}

TEST_P(KernelTc, PppAsWan) {
	if (Fd(open("/dev/ppp", O_RDWR | O_CLOEXEC)).get() < 0)
		GTEST_SKIP() << "the kernel has no ppp";
	ip(gw(), "addr flush dev wan0\n");
	ip(wan(), "addr flush dev eth0\n");
	const Process &line = background(
		gw(), {"pppd", "nodetach", "noauth", "local", "203.0.113.2:203.0.113.10", "pty",
		       "nsenter --net=/run/netns/wan pppd nodetach notty noauth local 203.0.113.10:203.0.113.2"});
	const auto is_up = [](const NetNs &where) {
		const std::string said = run(where, {"ip", "addr", "show", "dev", "ppp0"}).out;
		return said.find(",UP,") != std::string::npos && said.find(" peer ") != std::string::npos;
	};
	ASSERT_TRUE(eventually(15s, [&] { return is_up(gw()) && is_up(wan()); })) << line.out() << line.err();
	ip(gw(), "route add default dev ppp0\n");
	ip(wan(), "addr add 203.0.113.11/32 dev ppp0\n");
	let_through("br0", "ppp0");
	up(rules(), "wan = ['ppp0']");
	works(1 << 18);
}

TEST_P(KernelTc, TunAsWan) {
	const TunLine line(gw(), wan(), "tun0");
	move_internet_behind("tun0");
	up(rules(), "wan = ['tun0']");
	works(1 << 20);
}

TEST_P(KernelTc, VlanAsWan) {
	if (!can({"ip", "link", "add", "link", "wan0", "name", "wan0.7", "type", "vlan", "id", "7"}))
		GTEST_SKIP() << "the kernel has no VLANs (8021q): " << why_;
	ip(gw(), "addr flush dev wan0\naddr add 203.0.113.2/24 dev wan0.7\nlink set wan0.7 up\n"
		 "route add default via 203.0.113.10\n");
	ip(wan(), "addr flush dev eth0\nlink add link eth0 name eth0.7 type vlan id 7\nlink set eth0.7 up\n"
		  "addr add 203.0.113.10/24 dev eth0.7\naddr add 203.0.113.11/24 dev eth0.7\n");
	let_through("br0", "wan0.7");
	up(rules(), "wan = ['wan0.7']");
	works();
}

TEST_P(KernelTc, VlanAsLan) {
	if (!can({"ip", "link", "add", "link", "br0", "name", "br0.5", "type", "vlan", "id", "5"}))
		GTEST_SKIP() << "the kernel has no VLANs (8021q): " << why_;
	ip(gw(), "addr flush dev br0\naddr add 192.168.77.1/24 dev br0.5\nlink set br0.5 up\n");
	ip(lan1(), "addr flush dev eth0\nlink add link eth0 name eth0.5 type vlan id 5\nlink set eth0.5 up\n"
		   "addr add 192.168.77.11/24 dev eth0.5\nroute add default via 192.168.77.1\n");
	let_through("br0.5", "wan0");
	up(rules(), "lan = ['br0.5']");
	works();
	EXPECT_EQ(leases("game").at(0).at("mac"), mac_of(lan1()));
}

// On both of the gateway's neighbours, for XDP goes past the gateway's own queueing disciplines.
TEST_P(Kernel, LossDisorderAndDuplicatesLoseNothing) {
	const Words netem{"loss", "2%", "delay", "5ms", "1ms", "reorder", "10%", "50%", "duplicate", "2%"};
	const auto worsen = [&](const NetNs &where, const std::string &device) {
		Words words{"tc", "qdisc", "add", "dev", device, "root", "netem"};
		words.insert(words.end(), netem.begin(), netem.end());
		return run(where, words);
	};
	up(game("timeout = '10m'"));
	trigger(lan1());
	ip(gw(), "link set wan0 up\n"); // the network ends with the story
	if (const Output output = worsen(wan(), "eth0"); output.status != 0)
		GTEST_SKIP() << "the kernel has no netem: " << output.err;
	ASSERT_EQ(worsen(lan1(), "eth0").status, 0);
	if (!xdp()) {
		ASSERT_EQ(worsen(gw(), "wan0").status, 0);
	}
	EXPECT_TRUE(carries(kTransfer));
	EXPECT_EQ(leases("game").size(), 1U);
}

TEST_P(Kernel, FlowTableBesideIt) {
	const std::string lan_devices = xdp() ? "lan1if, lan2if" : "br0";
	if (!can({"nft",
		  "add table inet lab; add flowtable inet lab fast { hook ingress priority filter; devices = { wan0, " +
			  lan_devices + " }; }"}))
		GTEST_SKIP() << "the kernel has no flow table: " << why_;
	nft("insert rule inet lab forward meta l4proto { tcp, udp } ct state established flow add @fast\n");
	up(rules());
	works();

	const auto ends = connect_out(lan2(), {kRemote1, 8080}, 0, patient(5s));
	ASSERT_TRUE(ends);
	EXPECT_TRUE(exchange(ends->first, ends->second, kTransfer, patient(20s)));
	EXPECT_NE(must(gw(), {"conntrack", "-L", "-p", "tcp"}).find("[OFFLOAD]"), std::string::npos)
		<< "ordinary traffic is no longer offloaded";

	// A flow to the trigger port that the flow table has taken over goes on refreshing.
	const Fd &server = udp_on(wan(), 4000);
	const Fd client = udp_socket(lan1(), {"0.0.0.0", 5678});
	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(answers(client, server, {kRemote1, 4000}));
		ASSERT_TRUE(answers(server, client, {kWan, 5678}));
	}
	EXPECT_NE(must(gw(), {"conntrack", "-L", "-p", "udp", "--dport", "4000"}).find("[OFFLOAD]"), std::string::npos);
	ASSERT_TRUE(eventually(15s, [&] { return leases("game").at(0).at("idle_s") > 1.5; }));
	ASSERT_TRUE(answers(client, server, {kRemote1, 4000}));
	EXPECT_LT(leases("game").at(0).at("idle_s"), 1.5) << "the offloaded flow does not refresh the lease";
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

} // namespace lab
