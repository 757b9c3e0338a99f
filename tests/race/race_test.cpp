// Two CPUs in the same few elements: frames from both sides, swaps, sweeps, closing, other rules, all at once.
// After each round both stop, and all books are compared. PTRIG_RACE_FRAMES is how many frames are sent,
// PTRIG_RACE_SEED (printed) where the random numbers begin. A seed says which rules and frames there are. It does not
// say in which order things happen, for that is the machine's.
//
// Why few elements: what a look-up returns belongs to somebody else as soon as it is deleted and inserted again, and
// how soon that is depends on the map's free list.
//  - A hash (pt_sessions, pt_halfopen, pt_leases, pt_conns, pt_hosts) has all its elements from the beginning. A
//  deleted
//    one goes on top of the deleting CPU's list, and the next insert on that CPU takes it; when a CPU's list is empty,
//    it takes from the others'. No grace period lies between: a program that still holds the pointer sees the new
//    value.
//  - A hash with BPF_F_NO_PREALLOC (pt_macs, pt_expected) gives freed elements out at once, too. Programs only look
//    there.
//  - An LRU hash (pt_notes, pt_pending) takes back the element that was used least lately when a CPU's own list is
//    empty, so an element may become another's without anybody having deleted it.
//  - Elements of an array never move.
// With 4 leases and 8 sessions every insert is a reuse. An interrupt that takes its time makes the moment between
// a look-up and its use a long one.
#include <chrono>
#include <cstdio>

#include "loader/program.h"
#include "tests/race/race.h"

namespace ptrig::test {
namespace {

constexpr std::uint64_t kRoundFrames = 2500; ///< of each CPU
constexpr std::uint64_t kRoundsOfOneConfig = 10;
constexpr std::uint64_t kEnough = 1000000; ///< frames, among which all of kWanted happens
constexpr std::uint32_t kStallsPerSecond = 4000;

/// What the suite is about: inserts, promotions, ends, entries made and made again, swaps, leases that change hands.
constexpr enum ptrig_reason kWanted[] = {
	PTRIG_OPENED,        PTRIG_ESTABLISHED,    PTRIG_FORWARDED, PTRIG_ACCELERATED, PTRIG_HALF_OPEN,
	PTRIG_SESSION_ENDED, PTRIG_REMADE,         PTRIG_SWAPPED,   PTRIG_SWAPPED_SYN, PTRIG_GRANTED,
	PTRIG_TAKEN_OVER,    PTRIG_MOVED,          PTRIG_PENDING,   PTRIG_HEARD,       PTRIG_LEASES_FULL,
	PTRIG_FLOW_KNOWN,    PTRIG_HAIRPIN_OPENED,
};

TEST_F(Race, NothingIsLeftAndNothingIsAnothers) {
	const std::uint64_t wanted = setting("PTRIG_RACE_FRAMES", 3000000), first = setting("PTRIG_RACE_SEED", 1);
	const auto began = std::chrono::steady_clock::now();
	std::printf("PTRIG_RACE_SEED=%llu\n", static_cast<unsigned long long>(first));
	driver().seed(first);
	const bool stalls = driver().stall(cpus(), kStallsPerSecond);
	std::uint64_t sent = 0, round = 0;
	for (; sent < wanted && !HasFailure(); round++) {
		SCOPED_TRACE("PTRIG_RACE_SEED=" + std::to_string(first) + ", round " + std::to_string(round));
		if (round % kRoundsOfOneConfig == 0)
			begin(first + round);
		both_cpus(first + round, kRoundFrames);
		look_at_everything();
		events();
		sent += 2 * kRoundFrames;
	}
	const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
	const race_cpu counts = driver().counts();
	std::printf("%llu rounds, %.1f s, %.0f frames/s, led %llu, accelerated %llu, swapped %llu, stalls %llu%s\n",
		    static_cast<unsigned long long>(round), seconds, static_cast<double>(sent) / seconds,
		    static_cast<unsigned long long>(counts.led), static_cast<unsigned long long>(counts.accelerated),
		    static_cast<unsigned long long>(counts.swapped), static_cast<unsigned long long>(counts.stalls),
		    stalls ? "" : " (none to be had)");
	for (const enum ptrig_reason reason : kWanted) {
		const auto times = static_cast<unsigned long long>(dp().counter(reason));
		std::printf("%s %llu ", name_of(reason), times);
		EXPECT_TRUE(times || sent < kEnough || HasFailure()) << name_of(reason) << " never happened";
	}
	std::printf("\n");
}

} // namespace
} // namespace ptrig::test

int main(int argc, char **argv) {
	::testing::InitGoogleTest(&argc, argv);
	ptrig::capture_libbpf_log();
	if (const std::string why_not = ptrig::test::enter_world(); !why_not.empty())
		std::fprintf(stderr, "no network for the tests: %s\n", why_not.c_str());
	return RUN_ALL_TESTS();
}
