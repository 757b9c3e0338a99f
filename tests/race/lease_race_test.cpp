// Two rules of two hosts, and one element for their leases: what a trigger decides, it decides about its own rule's
// lease. One CPU triggers without end; the other ends leases and grants the other rule's.
#include <atomic>
#include <cstdio>
#include <stdexcept>
#include <thread>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/bpf/harness.h"
#include "tests/race/driver.h"

namespace ptrig::test {
namespace {

constexpr unsigned kCycles = 20000;
constexpr std::uint32_t kStallsPerSecond = 20000, kBurst = 64;

Rule taken(const std::string &name, std::uint16_t trigger) {
	return {.name = name,
		.trigger = {test::tcp(trigger)},
		.open = {test::open(test::tcp(trigger + 1000))},
		.conflict = Conflict::kTakeover};
}

class LeaseRace : public DatapathTest {
protected:
	LeaseRace() { sizes_ = {.leases = 1, .sessions = 8, .halfopen = 8, .conns = 4, .hosts = 8}; }
	void SetUp() override {
		DatapathTest::SetUp();
		if (!IsSkipped() && !HasFatalFailure() && std::thread::hardware_concurrency() < 2)
			GTEST_SKIP() << "needs two CPUs";
	}
	/// Of each CPU's host, the SYN that triggers its rule.
	void draws(const Driver &driver, const Machine &who, std::uint16_t trigger) const {
		const race_frame syn{.t = {be(who.address), be(kRemote), htons(1025), htons(trigger)},
				     .proto = IPPROTO_TCP,
				     .flags = kSyn,
				     .hook = RACE_LAN_IN};
		const race_frame nothing{.t = {be(kRemote2), be(kWan), htons(4001), htons(9)},
					 .proto = IPPROTO_TCP,
					 .flags = kSyn,
					 .hook = RACE_WAN_IN};
		driver.draws(Side::kLan, {syn});
		driver.draws(Side::kWan, {nothing});
	}
	/// `between`: how many nanoseconds a lease is known to have ended and is still there.
	void end_leases(std::uint64_t between = 0) const {
		admin_here(PTRIG_ADMIN_CLOSE_LEASES);
		for (const std::uint64_t until = now_ns() + between; now_ns() < until;)
			;
		admin_here(PTRIG_ADMIN_SWEEP_LEASES);
	}
	void admin_here(std::uint32_t op) const {
		ptrig_admin arguments{.op = op, .reason = PTRIG_CLOSED};
		LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &arguments, .ctx_size_in = sizeof(arguments));
		if (bpf_prog_test_run_opts(dp().program_fd("pt_admin"), &opts) < 0 || opts.retval)
			throw std::runtime_error("pt_admin");
	}
};

TEST_F(LeaseRace, ATriggerDecidesAboutItsOwnRulesLease) {
	apply({taken("first", 5001), taken("second", 5002)});
	std::vector<race_machine> machines;
	for (const Machine &machine : {kA, kB, Machine{kStranger, kHostMac}}) {
		race_machine &m = machines.emplace_back(race_machine{.address = be(machine.address)});
		const Bytes mac = mac_bytes(machine.mac);
		std::copy(mac.begin(), mac.end(), m.mac);
	}
	Driver first(dp(), machines), second(dp(), machines);
	draws(first, kA, 5001);
	draws(second, kB, 5002);
	first.seed(1);
	second.seed(2);
	first.stall({0}, kStallsPerSecond);
	std::atomic<bool> stop = false;
	std::thread triggers([&] {
		stay_on(0);
		while (!stop) {
			first.run(Side::kLan, kBurst);
			first.run(Side::kWan, 2 * kBurst);
		}
	});
	std::thread ends([&] {
		stay_on(1);
		for (unsigned i = 0; i < kCycles; i++) {
			end_leases(i % 16 * 500);
			second.run(Side::kLan, 2);
			second.run(Side::kWan, 4);
			if (i % 2) // the other rule's turn
				end_leases();
		}
		stop = true;
	});
	ends.join();
	triggers.join();
	std::printf("granted %llu, busy %llu, stalls %llu\n",
		    static_cast<unsigned long long>(dp().counter(PTRIG_GRANTED)),
		    static_cast<unsigned long long>(dp().counter(PTRIG_BUSY)),
		    static_cast<unsigned long long>(first.counts().stalls));
	EXPECT_GT(dp().counter(PTRIG_GRANTED), kCycles / 10);
	EXPECT_EQ(dp().counter(PTRIG_TAKEN_OVER), 0U) << "each rule has one host only";
	check_books();
	end_leases();
	check_books();
	EXPECT_EQ(usage().leases, 0U);
}

} // namespace
} // namespace ptrig::test
