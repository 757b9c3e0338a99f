// One CPU takes an entry of conntrack's away, the other has a packet of it after the other, each of which gives it time
// again: what was taken away is gone. (An entry that has just been given time, after the kernel has found that its time
// is over, is neither found nor deleted by that look-up.)
#include <atomic>
#include <cstdio>
#include <thread>

#include "tests/race/race.h"

namespace ptrig::test {
namespace {

constexpr std::uint64_t kEntries = 200000;
constexpr std::uint32_t kBurst = 1000;

class EntryRace : public Race {};

TEST_F(EntryRace, WhatIsForgottenIsGoneThoughPacketsGiveItTime) {
	std::atomic<bool> stop = false;
	std::thread packets([&] {
		stay_on(cpus()[1]);
		while (!stop)
			driver().refresh(kBurst);
	});
	std::thread ends([&] {
		stay_on(cpus()[0]);
		for (std::uint64_t i = 0; i < kEntries; i += kBurst)
			driver().forget(kBurst);
		stop = true;
	});
	ends.join();
	packets.join();
	std::printf("made %llu, stayed %llu\n", static_cast<unsigned long long>(driver().counts().made),
		    static_cast<unsigned long long>(driver().counts().stayed));
	EXPECT_GT(driver().counts().made, kEntries / 2);
	EXPECT_EQ(driver().counts().stayed, 0U);
	forget_flows();
}

} // namespace
} // namespace ptrig::test
