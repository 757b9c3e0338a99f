// Stories that count, of packets: a flood at an open port beside traffic that must not notice, and probes at random
// that must reach nobody but through an open port.
#include <poll.h>

#include <algorithm>
#include <random>
#include <thread>

#include "tests/lab/barrage.h"
#include "tests/lab/flow.h"
#include "tests/lab/soak.h"
#include "tests/lab/table_size.h"

namespace lab {

namespace {

/// What goes on beside a flood, and what of it was lost.
struct Loss {
	unsigned datagrams = 0, sent = 0;
	std::uint64_t bytes = 0, bytes_sent = 0;
	unsigned resets = 0;
};
Loss operator+(Loss loss, std::pair<unsigned, unsigned> flow) {
	loss.sent += flow.first;
	loss.datagrams += flow.second;
	return loss;
}

/// New flows while the flood lasts: to another host's lease, and of that host's own, by masquerade.
struct FreshFlows {
	unsigned tried = 0, came_up = 0;
};

} // namespace

void Soak::flood_open_ports(bool blocked) {
	const unsigned shots = count(20000, 1000000);
	std::mt19937 random(seed());
	nft("add rule inet lab input iifname wan0 ct state new drop\n"); // as gateways do
	if (blocked)
		nft("insert rule inet lab forward iifname wan0 th dport 6002-6010 drop\n");
	const ToldTableSize told(gw(), blocked ? 16384 : 1 << 20);
	run_daemon(game() + rule("second", "4001/udp", "6100-6101/tcp+udp"), "max_sessions = 65536\n");
	trigger(lan1());
	trigger(lan2(), {kRemote1, 4001});
	const auto [remote, host] = connect_in(6000, lan1());
	const Fd talker1 = start_talk(lan1(), {kRemote2, 5555}, 6001);
	const Fd talker2 = start_talk(lan2(), {kRemote2, 6666}, 6100);
	const Fd &inside = udp_on(lan1(), 6001), &fresh_tcp = tcp_on(lan2(), 6100), &fresh_udp = udp_on(lan2(), 6101);
	for (std::uint16_t port = 6002; port <= 6005; port++)
		udp_on(lan1(), port); // takes it and says nothing; at most of the others nobody listens
	tcp_on(lan1(), 6010);         // answers each SYN
	Stream stream(remote, host);
	Flow first(talker1, {kWan, 6001}, inside, 1000), back(inside, {kRemote2, 5555}, talker1, 1000);
	Flow second(talker2, {kWan, 6100}, udp_on(lan2(), 6100), 1000);

	const std::uint64_t drops_before = device_drops(), conntrack_before = conntrack_count();
	std::uint64_t conntrack_most = 0, waiting_most = 0;
	FreshFlows fresh, own;
	Barrage flood(wan(), shots, 30000, [&] {
		return Shot{any_remote(random), to_number(kWan), static_cast<std::uint16_t>(1024 + random() % 60000),
			    static_cast<std::uint16_t>(6002 + random() % 9), random() % 2 == 0};
	});
	while (!flood.over()) {
		own.tried += 2;
		own.came_up += own_flows(lan2());
		fresh.tried += 2;
		const Connection connection = tcp_connect(wan(), {kWan, 6100}, {kRemote3, 0}, 10s);
		fresh.came_up += connection && tcp_accept(fresh_tcp, 10s).has_value();
		fresh.came_up += talk(udp_socket(wan(), {kRemote3, 0}), fresh_udp, {kWan, 6101}, 5s);
		conntrack_most = std::max(conntrack_most, conntrack_count());
		waiting_most = std::max(waiting_most, half_open_sessions());
		poll(nullptr, 0, 50);
	}
	const auto [bytes_sent, bytes_lost, resets] = stream.finish();
	const Loss loss = Loss{0, 0, bytes_lost, bytes_sent, resets} + first.finish() + back.finish() + second.finish();
	const std::uint64_t drops = device_drops() - drops_before, answered = counter("established");
	report(std::string(blocked ? "flood that the firewall drops, " : "flood ") + text(shots) + " packets at " +
	       text(flood.rate()) + "/s (" + text(flood.refused()) + " refused by the device), " +
	       text(counter("rate_limited")) + " over the lease's limit; datagrams lost " + text(loss.datagrams) +
	       " of " + text(loss.sent) + " (devices dropped " + text(drops) + "), bytes lost " + text(loss.bytes) +
	       " of " + text(loss.bytes_sent) + ", resets " + text(loss.resets) + ", new flows of another lease " +
	       text(fresh.came_up) + " of " + text(fresh.tried) + ", new flows of its host's own " + text(own.came_up) +
	       " of " + text(own.tried) + ", conntrack " + text(conntrack_before) + " before, at most " +
	       text(conntrack_most) + ", half-open sessions at most " + text(waiting_most) +
	       ", sessions that the hosts answered " + text(answered));
	const std::uint64_t all = shots + loss.sent;
	EXPECT_LE(loss.datagrams, share_of(drops, loss.sent, all)) << "lost, and not for want of room in a device";
	EXPECT_EQ(loss.bytes, 0U);
	EXPECT_EQ(loss.resets, 0U);
	EXPECT_GE(fresh.came_up + share_of(drops, fresh.tried, all), fresh.tried);
	EXPECT_GT(fresh.tried, 0U);
	EXPECT_GE(own.came_up + share_of(drops, own.tried, all), own.tried);
	EXPECT_GT(own.tried, 0U);
	// Each session has an entry from its first packet; the lease's limit bounds them.
	const std::uint64_t opened = counter("opened");
	EXPECT_LE(conntrack_most, conntrack_before + opened + own.tried + 64) << "conntrack grows with the flood";
	EXPECT_LT(opened, shots / 4);
	EXPECT_GT(counter("rate_limited"), 0U);
	if (blocked) {
		EXPECT_LE(waiting_most, 16384U / 8);
		// fewer where a new flow has the port of one before, whose session lives
		EXPECT_LE(answered, 3 + fresh.came_up) << "a host has got one that the firewall drops";
	}
}

TEST_P(Soak, HalfOpenFlood) {
	flood_open_ports(false);
}

/// The firewall drops it in the forward chain, after its sessions have begun; the kernel's table is small.
TEST_P(Soak, BlockedFlood) {
	flood_open_ports(true);
}

namespace {

/// Counts what comes in at a host: at the rule's ports, which goes no further, and all else.
constexpr const char *kCounting = R"(
table inet soak {
	counter opened { }
	counter other { }
	chain arriving {
		type filter hook prerouting priority raw;
		iifname eth0 udp dport { 6000-6010, 8000-8004 } counter name opened drop
		iifname eth0 tcp dport 6000-6010 counter name opened drop
		iifname eth0 counter name other
	}
}
)";

} // namespace

TEST_P(Soak, RandomProbes) {
	const unsigned probes = count(50000, 10000000);
	std::mt19937 random(seed());
	run_daemon(rule("game", "4000/udp", "6000-6010/tcp+udp', '7000-7004=8000/udp", "timeout = '2h'"),
		   "max_sessions = 65536\n", "[limits]\nnew_sessions_per_second = 0\n");
	trigger(lan1());
	for (const NetNs *host : {&lan1(), &lan2()})
		must(*host, {"nft", "-f", "-"}, kCounting);
	ip(lan1(), ""); // the network is no longer as it was
	const std::uint64_t drops_before = device_drops(), received_before = received_by_wan();
	unsigned rate = 0, at_open = 0;
	{
		const auto near = [&](unsigned port) { return static_cast<std::uint16_t>(port - 16 + random() % 48); };
		Barrage barrage(wan(), probes, 0, [&] {
			const unsigned kind = random() % 32;
			Shot shot{any_remote(random), to_number(kWan), static_cast<std::uint16_t>(random()),
				  kind == 0   ? near(6000)
				  : kind == 1 ? near(7000)
					      : static_cast<std::uint16_t>(random()),
				  random() % 2 == 0};
			at_open += (shot.to_port >= 6000 && shot.to_port <= 6010) ||
				   (!shot.tcp && shot.to_port >= 7000 && shot.to_port <= 7004);
			return shot;
		});
		while (!barrage.over())
			poll(nullptr, 0, 20);
		rate = barrage.rate();
	}
	const std::uint64_t arrived = counted_by(lan1(), "opened"), stray = counted_by(lan1(), "other"),
			    at_lan2 = counted_by(lan2(), "other") + counted_by(lan2(), "opened");
	const std::uint64_t passed = counter("opened") + counter("half_open"), drops = device_drops() - drops_before;
	report("probes " + text(probes) + " at " + text(rate) + "/s, " + text(received_by_wan() - received_before) +
	       " reached the gateway, " + text(at_open) + " were for open ports; the host got " + text(arrived) +
	       " at open ports, " + text(stray) + " others, another host got " + text(at_lan2) + "; ptrig passed " +
	       text(passed) + ", found the table full " + text(counter("halfopen_full")) + " times (devices dropped " +
	       text(drops) + ")");
	EXPECT_EQ(stray, 0U);
	EXPECT_EQ(at_lan2, 0U);
	EXPECT_LE(arrived, passed);
	EXPECT_GE(arrived + drops, passed);
	EXPECT_GT(arrived, 0U);
	EXPECT_LE(arrived, at_open);
}

} // namespace lab
