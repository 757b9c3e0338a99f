// Stories that count, of hosts and time: many hosts that want one rule at once, and a port that closes on time.
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <barrier>
#include <cerrno>
#include <random>
#include <set>
#include <thread>

#include "tests/lab/frames.h"
#include "tests/lab/soak.h"

namespace lab {

namespace {

/// LAN machines that do not exist: their frames come from the two hosts' devices.
struct Crowd {
	struct Member {
		std::string address;
		MacBytes mac;
		/// Its own: of two flows that want one port at once, conntrack drops a packet.
		std::uint16_t port;
	};
	FrameSender senders[2];
	std::vector<Member> members[2]; ///< of each sender

	/// Every machine's datagram to the remote's port, from two processors at once. How many were refused.
	unsigned trigger_at_once(const Endpoint &remote, std::mt19937 &random) {
		for (unsigned side = 0; side < 2; side++) {
			std::shuffle(members[side].begin(), members[side].end(), random);
			for (const Member &one : members[side])
				senders[side].add(one.mac, {to_number(one.address), to_number(remote.address), one.port,
							    remote.port});
		}
		std::barrier gate(2);
		unsigned refused[2] = {0, 0};
		std::vector<std::thread> threads;
		for (unsigned side = 0; side < 2; side++)
			threads.emplace_back([&, side] {
				cpu_set_t own;
				CPU_ZERO(&own);
				CPU_SET(side % std::max(1U, std::thread::hardware_concurrency()), &own);
				sched_setaffinity(0, sizeof(own), &own);
				gate.arrive_and_wait();
				refused[side] = senders[side].send();
			});
		for (std::thread &thread : threads)
			thread.join();
		return refused[0] + refused[1];
	}
};

} // namespace

TEST_P(Soak, ManyHostsOneOwner) {
	constexpr unsigned kHosts = 200;
	const unsigned rounds = count(10, 1000);
	const MacBytes gateways[2] = {to_mac("02:00:00:00:77:01"),
				      to_mac(xdp() ? "02:00:00:00:78:01" : "02:00:00:00:77:01")};
	Crowd crowd{{{lan1(), "eth0", gateways[0]}, {lan2(), "eth0", gateways[1]}}, {}};
	std::mt19937 random(seed());
	std::set<std::string> known, owners;
	std::string neighbours;
	for (unsigned i = 0; i < kHosts; i++) {
		const unsigned side = i < kHosts / 2 ? 0 : 1;
		const std::string address =
			(xdp() && side == 1 ? "192.168.78." : "192.168.77.") + std::to_string(20 + i);
		const MacBytes mac{2, 0, 0, 1, 0, static_cast<std::uint8_t>(20 + i)};
		crowd.members[side].push_back({address, mac, static_cast<std::uint16_t>(5000 + i)});
		known.insert(address);
		neighbours += "neigh add " + address + " lladdr " + to_string(mac) + " dev " +
			      (!xdp()      ? "br0"
			       : side == 0 ? "lan1if"
					   : "lan2if") +
			      " nud permanent\n";
	}
	ip(gw(), neighbours);
	up(game("conflict = 'hold'\nlog = false"));
	udp_on(wan(), 4000);

	Json before = rule_row("game");
	unsigned exactly_one = 0, refused_busy = 0, done = 0;
	for (; done < rounds && !HasFailure(); done++) {
		ASSERT_EQ(crowd.trigger_at_once({kRemote1, 4000}, random), 0U);
		Json now;
		const auto more = [&](const Json &row, const char *key) {
			return row.value(key, 0) - before.value(key, 0);
		};
		ASSERT_TRUE(
			eventually(15s, [&] { return more(now = rule_row("game"), "triggers_seen") >= int(kHosts); }))
			<< now << "\n"
			<< must(gw(), {"conntrack", "-S"});
		const auto refusals = [&](const char *reason) {
			return now.at("refused").value(reason, 0U) - before.at("refused").value(reason, 0U);
		};
		const unsigned held = refusals("held"), busy = refusals("busy");
		refused_busy += busy;
		EXPECT_EQ(more(now, "triggers_seen"), int(kHosts));
		EXPECT_EQ(more(now, "granted"), 1) << now;
		EXPECT_EQ(held + busy, kHosts - 1) << now;
		const Json rows = leases("game");
		ASSERT_EQ(rows.size(), 1U);
		EXPECT_TRUE(known.contains(rows.at(0).at("host"))) << rows;
		owners.insert(rows.at(0).at("host"));
		EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 0);
		exactly_one += !HasFailure();
		before = now;
	}
	report("hosts " + std::to_string(kHosts) + ", rounds " + std::to_string(done) + ", with exactly one owner " +
	       std::to_string(exactly_one) + ", different owners " + std::to_string(owners.size()) +
	       ", refused as busy instead of held " + std::to_string(refused_busy));
}

namespace {

void pause_until(Clock::time_point when) {
	const auto left = std::chrono::ceil<milliseconds>(when - Clock::now());
	poll(nullptr, 0, std::max(0, static_cast<int>(left.count())));
}

enum class Seen { kOpen, kClosed, kNothing };

/// One remote's lease, from its trigger on.
struct Timed {
	std::string remote;
	Clock::time_point before, after; ///< the lease began between these
};

struct Counted {
	unsigned leases = 0, open = 0, closed = 0, late = 0, unanswered = 0, wrong = 0;
};

/// A datagram to the WAN port, and what came of it; `sent` is set to when, at the latest, it had left.
Seen probe(const NetNs &wan, const std::string &remote, const Fd &host, Clock::time_point &sent) {
	const Fd socket = udp_socket(wan, {remote, 0});
	udp_connect(socket, {kWan, 6000});
	const std::string text = "probe of " + to_string(local_end(socket));
	if (send(socket.get(), text.data(), text.size(), 0) < 0)
		return Seen::kNothing;
	sent = Clock::now();
	while (Clock::now() < sent + 500ms) {
		pollfd both[2] = {{host.get(), POLLIN, 0}, {socket.get(), POLLIN, 0}};
		poll(both, 2, 100);
		if (both[0].revents)
			if (const auto got = udp_receive(host, 0ms); got && got->data == text)
				return Seen::kOpen;
		char byte = 0;
		if (both[1].revents && recv(socket.get(), &byte, 1, 0) < 0 && errno == ECONNREFUSED)
			return Seen::kClosed;
	}
	return Seen::kNothing;
}

} // namespace

TEST_P(Soak, ExpiryOnTime) {
	constexpr milliseconds kTimeout = 4s, kWindow = 800ms;
	const unsigned wanted = count(20, 1000), batch = std::min(40U, std::max(1U, wanted / 2));
	std::string addresses;
	for (unsigned i = 1; i <= batch; i++)
		addresses += "addr add 10.50.0." + std::to_string(i) + "/32 dev lo\n";
	ip(wan(), addresses);
	up(game("remotes = 'contacted'\ntimeout = '4s'\nlog = false"));
	const Fd &host = udp_on(lan1(), 6000);

	Counted counted;
	std::optional<Process> daemon;
	for (unsigned round = 0; counted.leases < wanted && !HasFailure(); round++) {
		if (round % 2 == 0) {
			daemon.emplace(gw(), Words{PTRIG_BIN, "run"});
			ASSERT_TRUE(eventually(30s, [&] { return daemon->err().find("ready") != std::string::npos; }));
		} else {
			daemon.reset();
		}
		std::vector<Timed> all;
		for (unsigned i = 1; i <= batch; i++) {
			const std::string remote = "10.50.0." + std::to_string(i);
			const auto before = Clock::now();
			trigger(lan1(), {remote, 4000});
			all.push_back({remote, before, Clock::now()});
		}
		counted.leases += batch;
		for (const Timed &lease : all) {
			pause_until(lease.before + kTimeout - 1s);
			Clock::time_point sent;
			const Seen seen = probe(wan(), lease.remote, host, sent);
			if (sent > lease.before + kTimeout - 1s + kWindow) {
				counted.late++;
				continue;
			}
			counted.open += seen == Seen::kOpen;
			counted.wrong += seen != Seen::kOpen;
			EXPECT_EQ(seen, Seen::kOpen)
				<< lease.remote << " a second before the lease's end, round " << round;
		}
		for (const Timed &lease : all) {
			pause_until(lease.after + kTimeout + 1s);
			const auto start = Clock::now();
			Clock::time_point sent;
			const Seen seen = probe(wan(), lease.remote, host, sent);
			if (start > lease.after + kTimeout + 1s + kWindow) {
				counted.late++;
				continue;
			}
			counted.closed += seen == Seen::kClosed;
			counted.unanswered += seen == Seen::kNothing; // the kernel answers so many in a second
			counted.wrong += seen == Seen::kOpen;
			EXPECT_NE(seen, Seen::kOpen)
				<< lease.remote << " a second after the lease's end, round " << round;
		}
		EXPECT_EQ(leases("game"), Json::array()) << "round " << round;
	}
	report("leases " + std::to_string(counted.leases) + ", open a second before their end " +
	       std::to_string(counted.open) + ", closed a second after it " + std::to_string(counted.closed) +
	       ", probes not sent in time " + std::to_string(counted.late) + ", closed without an answer " +
	       std::to_string(counted.unanswered) + ", wrong " + std::to_string(counted.wrong));
	EXPECT_GE(counted.open, counted.leases / 2) << "the machine is too slow to tell";
	EXPECT_GE(counted.closed, counted.leases / 2) << "the machine is too slow to tell";
}

} // namespace lab
