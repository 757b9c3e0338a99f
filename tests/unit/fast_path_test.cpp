#include "loader/fast_path.h"

#include <vector>

#include <gtest/gtest.h>

namespace ptrig {
namespace {

constexpr std::uint32_t kHz = 250;

/// Ticks that are left of each way's permission, after a change of the ruleset at `now`.
std::vector<std::uint32_t> left_after(std::uint32_t now, const std::vector<std::uint32_t> &left) {
	std::vector<ptrig_fast_bucket> ways((left.size() + PTRIG_FAST_WAYS - 1) / PTRIG_FAST_WAYS);
	for (std::size_t i = 0; i < left.size(); i++)
		ways[i / PTRIG_FAST_WAYS].way[i % PTRIG_FAST_WAYS].until = now + left[i];
	std::vector<ptrig_hop> hops(3);
	hops[0] = {.until = now + kHz - 100, .oif = 2};
	hops[1] = {.until = now + kHz, .oif = 3}; // renewed just now
	hops[2] = {.until = now + 12345, .oif = 0};
	shorten_permissions(ways, hops, kHz);
	std::vector<std::uint32_t> after;
	for (std::size_t i = 0; i < left.size(); i++)
		after.push_back(ways[i / PTRIG_FAST_WAYS].way[i % PTRIG_FAST_WAYS].until - now);
	return after;
}

TEST(FastPath, NoPermissionOutlastsASecondAfterAChange) {
	for (const std::uint32_t now : {5000U, 0U, 0xffffff80U}) { // also where the ticks begin anew
		std::vector<std::uint32_t> left(1000, 8 * kHz);
		left[0] = kHz + 1;
		std::vector<unsigned> quarters(4);
		for (const std::uint32_t after : left_after(now, left)) {
			ASSERT_GE(after, 1U);
			ASSERT_LE(after, kHz);
			quarters[(after - 1) * 4 / kHz]++;
		}
		for (const unsigned count : quarters)
			EXPECT_NEAR(count, 250, 30) << "spread over the second";
	}
}

TEST(FastPath, WhatEndsSoonOrHasEndedStaysAsItIs) {
	const std::vector<std::uint32_t> left{1, kHz / 2, kHz, 0, 0U - 1, 0U - 5000, 8 * kHz + 1};
	EXPECT_EQ(left_after(70000, left), left);
}

TEST(FastPath, WithoutAnyHopNothingIsFast) {
	std::vector<ptrig_fast_bucket> ways(1);
	ways[0].way[0].until = 2 * kHz;
	shorten_permissions(ways, std::vector<ptrig_hop>(2), kHz);
	EXPECT_EQ(ways[0].way[0].until, 2 * kHz);
}

} // namespace
} // namespace ptrig
