// Stories that count, of programs and time: the daemon killed again and again under traffic, many hosts that want
// one rule at once, and a port that closes on time.
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <barrier>
#include <cerrno>
#include <csignal>
#include <random>
#include <set>
#include <thread>

#include "tests/lab/flow.h"
#include "tests/lab/frames.h"
#include "tests/lab/soak.h"

namespace lab {

LAB_STORIES(Soak);

namespace {

void pause(milliseconds how_long) {
	poll(nullptr, 0, static_cast<int>(how_long.count()));
}
void pause_until(Clock::time_point when) {
	pause(std::max(0ms, std::chrono::ceil<milliseconds>(when - Clock::now())));
}
milliseconds since(Clock::time_point start) {
	return std::chrono::duration_cast<milliseconds>(Clock::now() - start);
}

/// What was done to `ptrig run` and `ptrig apply`.
struct Kills {
	unsigned daemon = 0, apply = 0, applied = 0, failed = 0;
	milliseconds slowest_start{0};
};

/// One round: the daemon starts, perhaps an apply beside it, and both are killed at some moment.
void kill_once(const NetNs &gw, const Words &apply, milliseconds start_time, std::mt19937 &random, Kills &kills) {
	const auto some = [&](milliseconds most) { return milliseconds(random() % unsigned(most.count() + 1)); };
	const auto start = Clock::now();
	Process daemon(gw, {PTRIG_BIN, "run"});
	if (random() % 3 == 0) {
		EXPECT_TRUE(eventually(30s, [&] { return daemon.err().find("ready") != std::string::npos; }))
			<< daemon.err();
		kills.slowest_start = std::max(kills.slowest_start, since(start));
	}
	std::optional<Process> writer;
	if (random() % 3 == 0)
		writer.emplace(gw, apply);
	pause(some(start_time));
	if (writer && random() % 2 == 0) {
		writer->signal(SIGKILL);
		kills.apply++;
	}
	pause(some(start_time / 2));
	daemon.signal(SIGKILL);
	const auto ended = daemon.wait(10s);
	kills.daemon++;
	if (!ended || ended->status != 128 + SIGKILL) {
		kills.failed++;
		ADD_FAILURE() << "ptrig run ended by itself: " << daemon.err();
	}
	if (!writer)
		return;
	const auto output = writer->wait(20s);
	kills.applied += output && output->status == 0;
	if (!output || (output->status != 0 && output->status != 128 + SIGKILL)) {
		kills.failed++;
		ADD_FAILURE() << "ptrig apply: " << writer->err();
	}
}

} // namespace

TEST_P(Soak, KillsUnderLoad) {
	const unsigned wanted = count(5, 1000);
	std::mt19937 random(seed());
	const std::string rules = game("timeout = '2h'"), more = rules + rule("more", "4001/udp", "6100/udp");
	const Words applies[] = {{PTRIG_BIN, "apply", "/run/some.toml"}, {PTRIG_BIN, "apply", "/run/more.toml"}};
	write("/run/some.toml", config(rules));
	write("/run/more.toml", config(more));
	up(rules);
	trigger(lan1());
	const auto at_first = lease_views();
	ASSERT_EQ(at_first.size(), 1U);
	const auto [remote, host] = connect_in(6000, lan1());
	const Fd &inside = udp_on(lan1(), 6001);
	const Fd talker = start_talk(lan1(), {kRemote2, 5555}, 6001);
	Stream stream(remote, host);
	Flow in(talker, {kWan, 6001}, inside, 1000, 1 << 23);
	Flow out(inside, {kRemote2, 5555}, talker, 1000, 1 << 23);

	Kills kills;
	unsigned leases_lost = 0;
	milliseconds start_time = 100ms;
	for (unsigned i = 0; i < wanted && !HasFailure(); i++) {
		kill_once(gw(), applies[random() % 2], start_time, random, kills);
		start_time = std::max(start_time, kills.slowest_start);
		const auto now = lease_views();
		const bool kept = now.size() == 1 && now[0].lease_id == at_first[0].lease_id;
		leases_lost += !kept;
		EXPECT_TRUE(kept) << "round " << i;
	}
	const auto [bytes, bytes_lost, broken] = stream.finish();
	const auto [sent_in, lost_in] = in.finish();
	const auto [sent_out, lost_out] = out.finish();
	report("kills " + std::to_string(kills.daemon) + " (and of apply " + std::to_string(kills.apply) + "; " +
	       std::to_string(kills.applied) + " applied), resets " + std::to_string(broken) + ", bytes lost " +
	       std::to_string(bytes_lost) + " of " + std::to_string(bytes) + ", datagrams lost " +
	       std::to_string(lost_in + lost_out) + " of " + std::to_string(sent_in + sent_out) + ", leases lost " +
	       std::to_string(leases_lost) + ", slowest start " + std::to_string(kills.slowest_start.count()) + " ms");
	EXPECT_EQ(broken, 0U);
	EXPECT_EQ(bytes_lost, 0U);
	EXPECT_EQ(lost_in + lost_out, 0U);

	const Process &daemon = run_daemon();
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid());
	apply(rules);
	EXPECT_EQ(lease_views().at(0).lease_id, at_first[0].lease_id);
	EXPECT_EQ(who_gets_udp(6002), "lan1");
	EXPECT_EQ(rule_row("game").at("granted"), 1);
}

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

enum class Seen { kOpen, kClosed, kNothing };

/// One remote's lease, from its trigger on.
struct Timed {
	std::string remote;
	Clock::time_point before, after; ///< the lease began between these
};

struct Counted {
	unsigned leases = 0, open = 0, closed = 0, late = 0, wrong = 0;
};

/// A datagram to the WAN port, and what came of it; `sent` is set to when, at the latest, it had left.
Seen probe(const NetNs &wan, const std::string &remote, const Fd &host, Clock::time_point &sent) {
	const Fd socket = udp_socket(wan, {remote, 0});
	udp_connect(socket, {kWan, 6000});
	const std::string text = "probe of " + to_string(local_end(socket));
	if (send(socket.get(), text.data(), text.size(), 0) < 0)
		return Seen::kNothing;
	sent = Clock::now();
	while (since(sent) < 2s) {
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
	const unsigned wanted = count(20, 1000), batch = std::min(50U, std::max(1U, wanted / 2));
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
			counted.wrong += seen != Seen::kClosed;
			EXPECT_EQ(seen, Seen::kClosed)
				<< lease.remote << " a second after the lease's end, round " << round;
		}
		EXPECT_EQ(leases("game"), Json::array()) << "round " << round;
	}
	report("leases " + std::to_string(counted.leases) + ", open a second before their end " +
	       std::to_string(counted.open) + ", closed a second after it " + std::to_string(counted.closed) +
	       ", probes not sent in time " + std::to_string(counted.late) + ", wrong " +
	       std::to_string(counted.wrong));
	EXPECT_GE(counted.open, counted.leases / 2) << "the machine is too slow to tell";
	EXPECT_GE(counted.closed, counted.leases / 2) << "the machine is too slow to tell";
}

} // namespace lab
