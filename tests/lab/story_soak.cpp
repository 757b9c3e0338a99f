// Stories that count, of kills: the daemon, apply, up and down at any moment of their work.
#include <poll.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <random>

#include "include/ptrig/abi.h"
#include "tests/lab/flow.h"
#include "tests/lab/soak.h"

namespace lab {

LAB_STORIES(Soak);

namespace {

void pause(milliseconds how_long) {
	poll(nullptr, 0, static_cast<int>(how_long.count()));
}
milliseconds since(Clock::time_point start) {
	return std::chrono::duration_cast<milliseconds>(Clock::now() - start);
}

/// What was done to `ptrig run` and `ptrig apply`.
struct Kills {
	unsigned daemon = 0, apply = 0, applied = 0, failed = 0;
	milliseconds last_start{100}, slowest_start{0}; ///< until ready
};

/// One round: the daemon starts, perhaps an apply beside it, and both are killed at some moment.
void kill_once(const NetNs &gw, const Words &apply, std::mt19937 &random, Kills &kills) {
	const auto some = [&](milliseconds most) { return milliseconds(random() % unsigned(most.count() + 1)); };
	const auto start = Clock::now();
	Process daemon(gw, {PTRIG_BIN, "run"});
	if (random() % 3 == 0) {
		EXPECT_TRUE(eventually(30s, [&] { return daemon.err().find("ready") != std::string::npos; }))
			<< daemon.err();
		kills.last_start = since(start);
		kills.slowest_start = std::max(kills.slowest_start, kills.last_start);
	}
	std::optional<Process> writer;
	if (random() % 3 == 0)
		writer.emplace(gw, apply);
	pause(some(kills.last_start));
	if (writer && random() % 2 == 0) {
		writer->signal(SIGKILL);
		kills.apply++;
	}
	pause(some(kills.last_start / 2));
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
	for (unsigned i = 0; i < wanted && !HasFailure(); i++) {
		kill_once(gw(), applies[random() % 2], random, kills);
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

TEST_P(Soak, KilledWhileStartingOrEnding) {
	const unsigned wanted = count(4, 500);
	std::mt19937 random(seed());
	start_afresh();
	write(kConfig, config(game()));
	auto start = Clock::now();
	ASSERT_EQ(ptrig({"up"}).status, 0);
	const milliseconds up_time = since(start);
	start = Clock::now();
	ASSERT_EQ(ptrig({"down"}).status, 0);
	const milliseconds down_time = since(start);

	unsigned works_again = 0, half_up = 0, half_replaced = 0, half_down = 0;
	const auto kill_at_random = [&](const Words &words, milliseconds time) {
		Process process(gw(), words);
		const bool late = random() % 2 == 0; // most of what stays behind is made towards the end
		const milliseconds least = late ? time * 4 / 5 : 0ms, most = late ? time * 6 / 5 : time;
		pause(least + milliseconds(random() % unsigned((most - least).count() + 1)));
		process.signal(SIGKILL);
		EXPECT_TRUE(process.wait(10s));
		EXPECT_TRUE(try_trigger(lan1(), {kRemote1, 9})) << "ordinary traffic does not pass";
	};
	const auto up_works = [&] {
		const Output up = ptrig({"up"});
		EXPECT_EQ(up.status, 0) << up.err;
		EXPECT_EQ(json({"status"}).at("rules"), 1);
		trigger(lan1());
		EXPECT_EQ(who_gets_udp(6000), "lan1");
	};
	for (unsigned i = 0; i < wanted && !HasFailure(); i++) {
		kill_at_random({PTRIG_BIN, random() % 2 == 0 ? "up" : "run"}, up_time);
		half_up += std::filesystem::exists(kPins);
		up_works();
		set_abi(random() % 2 == 0 ? PTRIG_ABI + 1 : PTRIG_ABI - 1);
		kill_at_random({PTRIG_BIN, "up", "--if-needed"}, up_time);
		half_replaced += ptrig({"status"}).status != 0;
		up_works();
		kill_at_random({PTRIG_BIN, "down"}, down_time);
		half_down += std::filesystem::exists(kPins);
		const Output down = ptrig({"down"});
		EXPECT_EQ(down.status, 0) << down.err;
		EXPECT_FALSE(std::filesystem::exists(kPins));
		EXPECT_EQ(who_gets_udp(6000), "gateway");
		works_again += !HasFailure();
	}
	report("killed while starting " + std::to_string(wanted) + " times (" + std::to_string(half_up) +
	       " left something), while replacing another version as often (" + std::to_string(half_replaced) +
	       " had not come to their end), while ending as often (" + std::to_string(half_down) +
	       " left something), worked again after " + std::to_string(works_again));
}

} // namespace lab
