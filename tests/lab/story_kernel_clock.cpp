// The machine's clock is set, and the machine sleeps. Both concern all of the machine: only the emulated one of
// tools/test-kernels may do so, which says that it is one by PTRIG_LAB_OWN_MACHINE.
#include <time.h>

#include <cstdlib>
#include <fstream>

#include "tests/lab/soak.h"

namespace lab {

namespace {

double read_clock(clockid_t clock) {
	timespec now{};
	clock_gettime(clock, &now);
	return double(now.tv_sec) + double(now.tv_nsec) / 1e9;
}

/// Steps the wall clock, and sets it back when it goes.
class WallClock {
public:
	WallClock() = default;
	WallClock(const WallClock &) = delete;
	WallClock &operator=(const WallClock &) = delete;
	~WallClock() { step(-stepped_); }
	void step(long seconds) {
		timespec now{};
		clock_gettime(CLOCK_REALTIME, &now);
		now.tv_sec += seconds;
		if (clock_settime(CLOCK_REALTIME, &now) == 0)
			stepped_ += seconds;
		else
			ADD_FAILURE() << "set the clock: " << std::generic_category().message(errno);
	}

private:
	long stepped_ = 0;
};

bool write_file(const std::string &path, const std::string &text) {
	std::ofstream file(path);
	file << text << std::flush;
	return bool(file);
}

} // namespace

class KernelClock : public Soak {
protected:
	void SetUp() override {
		if (std::getenv("PTRIG_LAB_OWN_MACHINE") == nullptr)
			GTEST_SKIP() << "sets the machine's clock or lets it sleep: in an emulated one only "
					"(tools/test-kernels)";
		Soak::SetUp();
	}
	void TearDown() override {
		if (!IsSkipped())
			Soak::TearDown();
	}
	/// Suspend to memory, until the real-time clock wakes the machine.
	void sleep_for(unsigned seconds) {
		const double before = read_clock(CLOCK_BOOTTIME) - read_clock(CLOCK_MONOTONIC);
		ASSERT_TRUE(write_file("/sys/class/rtc/rtc0/wakealarm", "0"));
		ASSERT_TRUE(write_file("/sys/class/rtc/rtc0/wakealarm", "+" + std::to_string(seconds)));
		ASSERT_TRUE(write_file("/sys/power/state", "mem")) << "no suspend to memory";
		slept_ = read_clock(CLOCK_BOOTTIME) - read_clock(CLOCK_MONOTONIC) - before;
		ASSERT_GE(slept_, seconds - 2) << "it did not sleep";
	}
	double expires_in(const std::string &rule) const { return leases(rule).at(0).at("expires_in_s"); }
	/// Its end is when it was to be, `before` seconds from `at`.
	void expect_same_end(const std::string &rule, double before, double at) const {
		const double now = read_clock(CLOCK_BOOTTIME), left = expires_in(rule);
		EXPECT_NEAR(left, before - (now - at), 2 + (read_clock(CLOCK_BOOTTIME) - now)) << rule;
	}
	double slept_ = 0;
};
LAB_STORIES(KernelClock);

TEST_P(KernelClock, StepsOfTheWallClockChangeNothing) {
	const Process &daemon =
		run_daemon(game("timeout = '20m'") + rule("short", "4001/udp", "6100/udp", "timeout = '8s'"));
	trigger(lan1());
	const Fd talker = start_talk(lan1());
	const double at = read_clock(CLOCK_BOOTTIME), before = expires_in("game");
	WallClock clock;
	for (const long step : {3600L, -7200L}) {
		const double since = read_clock(CLOCK_BOOTTIME);
		trigger(lan1(), {kRemote1, 4001});
		clock.step(step);
		expect_same_end("game", before, at);
		EXPECT_EQ(who_gets_udp(6001), "lan1") << step;
		EXPECT_TRUE(talk(talker, udp_on(lan1(), 6000), {kWan, 6000}, 10s)) << step;
		if (read_clock(CLOCK_BOOTTIME) - since < 6) {
			EXPECT_EQ(who_gets_udp(6100), "lan1") << step;
		}
		EXPECT_TRUE(eventually(15s, [&] { return who_gets_udp(6100) == "gateway"; })) << "it lives longer";
		EXPECT_GE(read_clock(CLOCK_BOOTTIME) - since, 8) << "it ended early";
	}
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid());
	EXPECT_EQ(rule_row("game").at("granted"), 1);
}

TEST_P(KernelClock, SuspendToMemoryAcrossAnEnd) {
	const Process &daemon =
		run_daemon(game("timeout = '20m'") + rule("short", "4001/udp", "6100/udp", "timeout = '25s'"), "",
			   "[timeouts]\nudp = '30s'\n");
	trigger(lan1());
	const auto [remote, host] = connect_in(6000, lan1());
	ASSERT_TRUE(says(remote, host, 10s));
	trigger(lan1(), {kRemote1, 4001});
	const Fd idle = start_talk(lan1(), {kRemote2, 0}, 6100);
	const double at = read_clock(CLOCK_BOOTTIME), before = expires_in("game");
	ASSERT_EQ(leases("short").size(), 1U);
	ASSERT_EQ(json({"session", "list"}).size(), 2U);

	sleep_for(35);
	if (HasFatalFailure())
		return;
	EXPECT_EQ(who_gets_udp(6100), "gateway") << "its time ran out in the sleep";
	EXPECT_EQ(leases("short"), Json::array());
	expect_same_end("game", before, at);
	const Json sessions = json({"session", "list"});
	ASSERT_EQ(sessions.size(), 1U) << sessions;
	EXPECT_EQ(sessions.at(0).at("proto"), "tcp");
	EXPECT_GE(sessions.at(0).at("idle_s").get<double>(), slept_ - 1);
	EXPECT_TRUE(says(remote, host, 10s));
	EXPECT_TRUE(says(host, remote, 10s));
	EXPECT_FALSE(talk(idle, udp_on(lan1(), 6100), {kWan, 6100}, 1s)) << "a session that has ended";
	EXPECT_EQ(who_gets_udp(6002), "lan1");
	trigger(lan1(), {kRemote1, 4001});
	EXPECT_EQ(who_gets_udp(6100), "lan1") << "open again by a trigger";
	EXPECT_EQ(rule_row("game").at("granted"), 1);
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid());
	EXPECT_NE(daemon.err().find("short: lease of " + host1() + " ended: idle"), std::string::npos) << daemon.err();
	std::cout << "slept " << slept_ << " s\n";
}

} // namespace lab
