// The model and the BPF programs get the same random rules, packets and time; every verdict, packet and table
// must be the same. PTRIG_MODEL_SEED (printed on a difference) replays a run, PTRIG_MODEL_STEPS is its length.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include <malloc.h>

#include "loader/program.h"
#include "tests/model/differential.h"

namespace ptrig::test {
namespace {

constexpr unsigned kRoundSteps = 500;
/// Real time passes too: what a round shows after that much of it proves nothing, and it is begun again.
constexpr std::uint64_t kRoundNs = 200000000;
constexpr unsigned kTries = 3;

std::uint64_t setting(const char *name, std::uint64_t otherwise) {
	const char *text = std::getenv(name);
	return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST_F(Differential, ModelAndDatapathAgree) {
	const std::uint64_t wanted = setting("PTRIG_MODEL_STEPS", 40000);
	const std::uint64_t first = setting("PTRIG_MODEL_SEED", 1);
	std::uint64_t done = 0, late = 0;
	unsigned tries = 0;
	std::printf("PTRIG_MODEL_SEED=%llu\n", static_cast<unsigned long long>(first));
	for (std::uint64_t seed = first; done < wanted && late <= 10 + done / kRoundSteps && !HasFailure();) {
		begin(seed);
		model::Gateway gateway(config_, {kWan, kWanSecond});
		gateway.neighbour(kHost, kHostMac);
		gateway.neighbour(kHost2, kHost2Mac);
		const std::uint64_t began = now_ns();
		bool in_time = true;
		std::uint64_t steps = 0;
		for (unsigned n = 0; n < kRoundSteps && in_time && !HasFailure(); n++) {
			const Input in = random_packet(gateway);
			if (pick(8) == 0)
				pass(gateway, 1 + pick(3));
			if (pick(150) == 0)
				change_rules(gateway);
			if (pick(60) == 0)
				change_network(gateway);
			std::string difference = step(gateway, in);
			const bool administered = difference.empty() && pick(20) == 0;
			if (administered)
				difference = administer(gateway);
			if (difference.empty() && (administered || n % 4 == 0))
				difference = compare_tables(gateway);
			if (difference.empty() && n % 20 == 19)
				difference = compare_counters();
			in_time = now_ns() - began <= kRoundNs;
			if (in_time && !difference.empty())
				ADD_FAILURE() << "PTRIG_MODEL_SEED=" << seed << " step " << n << '\n'
					      << shown(config_, in) << '\n'
					      << difference;
			steps += in_time;
		}
		if (!in_time && ++tries < kTries)
			continue;
		tries = 0;
		seed++;
		done += steps;
		late += !in_time;
		if (in_time)
			check_books();
	}
	EXPECT_GE(done, wanted);
	std::printf("%llu steps agree; rounds that were too slow to be looked at to their end: %llu\n",
		    static_cast<unsigned long long>(done), static_cast<unsigned long long>(late));
}

} // namespace
} // namespace ptrig::test

int main(int argc, char **argv) {
	::testing::InitGoogleTest(&argc, argv);
	mallopt(M_TRIM_THRESHOLD, 1 << 30); // a round's tables are made anew each time
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	ptrig::capture_libbpf_log();
	if (const std::string why_not = ptrig::test::enter_world(); !why_not.empty())
		std::fprintf(stderr, "no network for the tests: %s\n", why_not.c_str());
	return RUN_ALL_TESTS();
}
