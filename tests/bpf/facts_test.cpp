// The facts about a gateway from a real kernel: its firewall, sockets, shaping, sysctls and file systems.
#include <arpa/inet.h>
#include <cstring>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "include/ptrig/abi.h"
#include "loader/system.h"
#include "tests/bpf/isolated.h"

namespace ptrig {
namespace {

using Facts = IsolatedTest;

void make_gateway() {
	sh("ip link set lo up && ip link add wan0 type veth peer name w1 && ip link add lan0 type veth peer name l1 && "
	   "ip addr add 203.0.113.2/24 dev wan0 && ip addr add 192.168.77.1/24 dev lan0 && ip link set wan0 up && "
	   "ip link set lan0 up && echo 1 > /proc/sys/net/ipv4/ip_forward");
}

GatewayFacts facts() {
	return read_gateway_facts(read_network().value(), {"wan0", "ppp0"}, {"lan0"});
}

std::string warnings(const GatewayFacts &facts, const std::vector<Rule> &rules = {}) {
	std::string text;
	for (const auto &line : gateway_warnings(facts, rules, {})) {
		text += line + "\n";
	}
	return text;
}

std::string ports(const Firewall &firewall, const char *interface) {
	std::string text;
	for (const auto &range : firewall.forwarded_ports(interface)) {
		text += to_string(range) + " ";
	}
	return text;
}

/// A socket bound to address and port; TCP ones listen.
int bound(int type, const char *address, std::uint16_t port) {
	bool six = std::strchr(address, ':') != nullptr;
	int fd = socket(six ? AF_INET6 : AF_INET, type, 0);
	sockaddr_in6 place6{.sin6_family = AF_INET6, .sin6_port = htons(port)};
	sockaddr_in place4{.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(six ? AF_INET6 : AF_INET, address,
		  six ? static_cast<void *>(&place6.sin6_addr) : static_cast<void *>(&place4.sin_addr));
	auto *place = six ? reinterpret_cast<sockaddr *>(&place6) : reinterpret_cast<sockaddr *>(&place4);
	EXPECT_EQ(bind(fd, place, six ? sizeof place6 : sizeof place4), 0) << address;
	if (type == SOCK_STREAM) {
		EXPECT_EQ(listen(fd, 1), 0);
	}
	return fd;
}

TEST_F(Facts, FirewallOfNftables) {
	isolated([] {
		make_gateway();
		auto bare = facts();
		ASSERT_TRUE(bare.firewall.looked) << bare.firewall.why_not;
		EXPECT_EQ(bare.wan, std::vector<std::string>{"wan0"}) << "ppp0 does not exist";
		EXPECT_NE(warnings(bare).find("no masquerade or snat rule found for wan0"), std::string::npos);
		sh(R"(nft -f - <<'END'
table ip nat {
	set wans { type ifname; elements = { "wan0", "ppp0" }; }
	set several { type inet_service; flags interval; elements = { 5000-5010, 6000 }; }
	map hosts { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1, 443 : 10.0.0.2 }; }
	map both { type inet_proto . inet_service : ipv4_addr; elements = { udp . 99 : 10.0.0.1 }; }
	chain pre {
		type nat hook prerouting priority -100
		iifname @wans tcp dport @several dnat to 10.0.0.1
		iifname "lan0" tcp dport 7 dnat to 10.0.0.1
		dnat to tcp dport map @hosts
		dnat to meta l4proto . th dport map @both
		meta l4proto udp jump side
	}
	chain side {
		udp dport 53 redirect to :5353
	}
	chain post {
		type nat hook postrouting priority 100
		oifname vmap { "wan0" : jump out }
	}
	chain out {
		masquerade
	}
}
END)");
		auto seen = facts();
		ASSERT_TRUE(seen.firewall.looked) << seen.firewall.why_not;
		EXPECT_EQ(warnings(seen), "");
		EXPECT_FALSE(seen.firewall.masquerades("lan0"));
		EXPECT_EQ(ports(seen.firewall, "wan0"), "53/udp 80/tcp 99/udp 443/tcp 5000-5010/tcp 6000/tcp ");
		EXPECT_EQ(ports(seen.firewall, "lan0"), "7/tcp 53/udp 80/tcp 99/udp 443/tcp ");
		Rule rule;
		rule.name = "web";
		rule.open = {parse_open_range("443/tcp").value()};
		EXPECT_NE(warnings(seen, {rule}).find("rule web opens ports that the firewall forwards too: 443/tcp"),
			  std::string::npos);
		sh("echo 0 > /proc/sys/net/ipv4/ip_forward");
		EXPECT_NE(warnings(facts()).find("IPv4 forwarding is off"), std::string::npos);
	});
}

TEST_F(Facts, FirewallThatCannotBeAsked) {
	isolated([] {
		make_gateway();
		sh("for d in /usr/sbin /usr/bin /sbin; do [ -e $d/nft ] && mount --bind /dev/null $d/nft; done; true");
		auto seen = facts();
		EXPECT_FALSE(seen.firewall.looked);
		EXPECT_EQ(warnings(seen), "whether wan0 masquerades could not be looked at: nft is not installed\n");
	});
}

TEST_F(Facts, ListenersOnTheWan) {
	isolated([] {
		make_gateway();
		bound(SOCK_STREAM, "0.0.0.0", 7001);
		bound(SOCK_STREAM, "::", 7002);
		bound(SOCK_STREAM, "127.0.0.1", 7003);
		bound(SOCK_STREAM, "192.168.77.1", 7004);
		bound(SOCK_DGRAM, "203.0.113.2", 7005);
		bound(SOCK_DGRAM, "::ffff:203.0.113.2", 7006);
		bound(SOCK_DGRAM, "::1", 7007);
		int connected = bound(SOCK_DGRAM, "0.0.0.0", 7008);
		sockaddr_in remote{.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {inet_addr("203.0.113.9")}};
		ASSERT_EQ(connect(connected, reinterpret_cast<sockaddr *>(&remote), sizeof remote), 0);
		std::string seen;
		for (const auto &listener : facts().listeners) {
			seen += std::to_string(listener.port) + (listener.proto == PTRIG_TCP ? "/tcp " : "/udp ");
		}
		EXPECT_EQ(seen, "7001/tcp 7002/tcp 7005/udp 7006/udp ");
	});
}

TEST_F(Facts, ShapingThatXdpWouldBypass) {
	isolated([] {
		make_gateway();
		sh("ip link show ifb0 >/dev/null 2>&1 || ip link add ifb0 type ifb; tc qdisc add dev wan0 root tbf "
		   "rate 1mbit burst "
		   "10k latency 10ms && tc qdisc add dev wan0 clsact && tc filter add dev wan0 ingress u32 match u32 0 "
		   "0 "
		   "action mirred egress redirect dev ifb0");
		auto network = read_network().value();
		auto shaping = read_shaping(network, network.find("wan0")->ifindex);
		ASSERT_TRUE(shaping) << shaping.error().what;
		EXPECT_EQ(shaping->egress, "tbf");
		EXPECT_EQ(shaping->ingress, "ifb0");
		auto none = read_shaping(network, network.find("lan0")->ifindex).value();
		EXPECT_EQ(none.egress + none.ingress, "");
	});
}

TEST_F(Facts, BpffsAndNamespace) {
	auto outside = netns_identity().value();
	isolated([&] {
		EXPECT_FALSE(netns_identity().value() == outside);
		EXPECT_TRUE(is_on_bpffs("/sys/fs/bpf/ptrig/not/there").value());
		EXPECT_TRUE(require_bpffs("/sys/fs/bpf/ptrig"));
		EXPECT_FALSE(mount_bpffs().value()) << "there is one";
		while (umount("/sys/fs/bpf") == 0) {
		}
		EXPECT_FALSE(is_on_bpffs("/sys/fs/bpf/ptrig").value());
		auto missing = require_bpffs("/sys/fs/bpf/ptrig");
		ASSERT_FALSE(missing);
		EXPECT_NE(missing.error().what.find("ip netns exec"), std::string::npos);
		auto mounted = mount_bpffs();
		ASSERT_TRUE(mounted) << mounted.error().what;
		EXPECT_TRUE(*mounted);
		EXPECT_TRUE(is_on_bpffs("/sys/fs/bpf/ptrig").value());
		EXPECT_FALSE(mount_bpffs().value());
		EXPECT_GE(possible_cpus().value(), 1U);
	});
}

TEST_F(Facts, ABpffsBelowALaterMountIsNone) {
	isolated([] {
		ASSERT_EQ(mount("sysfs", "/sys", "sysfs", 0, nullptr), 0);
		auto mounted = mount_bpffs();
		ASSERT_TRUE(mounted) << mounted.error().what;
		EXPECT_TRUE(*mounted);
		EXPECT_TRUE(require_bpffs("/sys/fs/bpf/ptrig"));
		while (umount("/sys/fs/bpf") == 0) {
		}
		ASSERT_EQ(mount("tmpfs", "/sys/fs/bpf", "tmpfs", 0, nullptr), 0);
		EXPECT_FALSE(mount_bpffs().value()) << "somebody else's";
		EXPECT_FALSE(require_bpffs("/sys/fs/bpf/ptrig"));
	});
}

TEST_F(Facts, ConntrackModulesAreNoFailureByThemselves) {
	isolated([] {
		for (const auto &complaint : load_conntrack_modules()) {
			EXPECT_NE(complaint.find("modprobe"), std::string::npos) << complaint;
		}
	});
}

} // namespace
} // namespace ptrig
