// The text of times: a unit is required, and what is printed is the shortest that reads back the same.
#include <gtest/gtest.h>
#include <random>

#include "loader/rule.h"

namespace ptrig {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;

TEST(Duration, ReadsAndPrints) {
	const struct {
		const char *text;
		nanoseconds time;
		const char *printed;
	} cases[] = {
		{"10m", minutes(10), "10m"},
		{"2h4m", minutes(124), "2h4m"},
		{"124m", minutes(124), "2h4m"},
		{"0s", seconds(0), "0s"},
		{"0ms", seconds(0), "0s"},
		{"600s", minutes(10), "10m"},
		{"1500ms", milliseconds(1500), "1500ms"},
		{"1s500ms", milliseconds(1500), "1500ms"},
		{"90s", seconds(90), "90s"},
		{"1m30s", seconds(90), "90s"},
		{"7d", hours(168), "7d"},
		{"1d2h3m4s5ms", hours(26) + minutes(3) + seconds(4) + milliseconds(5), "93784s5ms"},
		{"1ms", milliseconds(1), "1ms"},
		{"24h", hours(24), "1d"},
		{"106751d", hours(24) * 106751, "106751d"},
	};
	for (const auto &c : cases) {
		const auto time = parse_duration(c.text);
		ASSERT_TRUE(time) << c.text << ": " << time.error().what;
		EXPECT_EQ(*time, c.time) << c.text;
		EXPECT_EQ(to_string(c.time), c.printed);
	}
}

TEST(Duration, RefusesWithTheRightSpelling) {
	const struct {
		const char *text, *says;
	} cases[] = {
		{"", "a time is missing"},
		{"600", "a unit is required: write \"600s\" for seconds or \"600m\" for minutes"},
		{"20", "a unit is required: write \"20s\" for seconds or \"20m\" for minutes"},
		{"0", "a unit is required: write \"0s\""},
		{"10m30", "a unit is required"},
		{"99999999999999999999", "a unit is required"},
		{"1.5h", "write whole numbers, as in \"1h30m\""},
		{"4m2h", "write each unit once and the larger first"},
		{"1m1m", "write each unit once and the larger first"},
		{"10 m", "\" m\" is no unit"},
		{"10min", "\"min\" is no unit: write d, h, m, s or ms"},
		{"2w", "\"w\" is no unit"},
		{"5us", "\"us\" is no unit"},
		{"10M", "\"M\" is no unit"},
		{"-1s", "not a time"},
		{"m", "not a time"},
		{"+1m", "not a time"},
		{"01m", "without a leading 0"},
		{"99999999999d", "too long a time"},
		{"106751d99999h", "too long a time"},
		{"99999999999999999999s", "too long a time"},
	};
	for (const auto &c : cases) {
		const auto time = parse_duration(c.text);
		ASSERT_FALSE(time) << c.text;
		EXPECT_EQ(time.error().status, Status::kInput);
		EXPECT_NE(time.error().what.find(c.says), std::string::npos) << time.error().what;
	}
}

TEST(Duration, PrintedReadsBackTheSame) {
	std::mt19937_64 random(1);
	for (int i = 0; i < 20000; ++i) {
		// All magnitudes alike.
		const milliseconds time(static_cast<long>(random() >> (18 + random() % 46) & 0xFFFFFFFFFF));
		const auto back = parse_duration(to_string(nanoseconds(time)));
		ASSERT_TRUE(back) << time.count();
		EXPECT_EQ(*back, time) << to_string(nanoseconds(time));
	}
}

} // namespace
} // namespace ptrig
