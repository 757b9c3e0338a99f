// What each program may cost whatever the machine's mood: instructions that the verifier walks, and the size of the
// program as the kernel keeps it. PTRIG_BUDGET=write writes budget.txt anew.
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sys/utsname.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include "bpf/tc.skel.h"
#include "bpf/xdp.skel.h"

namespace {

constexpr double kTolerance = 1.10;      ///< on the kernel that the budget was measured on
constexpr double kOtherTolerance = 1.60; ///< verifiers differ in what they walk

struct Cost {
	std::uint32_t verified = 0, bytes = 0;
};
using Costs = std::map<std::string, Cost>;

std::string kernel() {
	utsname name{};
	uname(&name);
	const std::string release = name.release;
	return release.substr(0, release.find('.', release.find('.') + 1));
}

void measure(const bpf_object *object, Costs &costs) {
	bpf_program *program = nullptr;
	bpf_object__for_each_program(program, object) {
		bpf_prog_info info{};
		std::uint32_t size = sizeof(info);
		ASSERT_EQ(bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size), 0);
		costs[bpf_program__name(program)] = {info.verified_insns, info.xlated_prog_len};
	}
}

Costs measure() {
	const std::unique_ptr<ptrig_tc_bpf, void (*)(ptrig_tc_bpf *)> tc(ptrig_tc_bpf__open_and_load(),
									 ptrig_tc_bpf__destroy);
	const std::unique_ptr<ptrig_xdp_bpf, void (*)(ptrig_xdp_bpf *)> xdp(ptrig_xdp_bpf__open_and_load(),
									    ptrig_xdp_bpf__destroy);
	Costs costs;
	if (tc && xdp) {
		measure(tc->obj, costs);
		measure(xdp->obj, costs);
	}
	return costs;
}

TEST(Budget, EveryProgramIsWithinIt) {
	if (geteuid() != 0)
		GTEST_SKIP() << "needs root";
	const std::string path = PTRIG_BUDGET_FILE;
	const Costs costs = measure();
	ASSERT_FALSE(costs.empty()) << "the programs do not load";
	if (const char *order = std::getenv("PTRIG_BUDGET"); order != nullptr && std::string(order) == "write") {
		std::ofstream file(path);
		file << "kernel " << kernel() << "\n";
		for (const auto &[name, cost] : costs)
			file << name << " " << cost.verified << " " << cost.bytes << "\n";
		ASSERT_TRUE(file.flush()) << path;
	}
	std::ifstream file(path);
	std::string word, measured_on;
	ASSERT_TRUE(file >> word >> measured_on && word == "kernel") << path;
	const double tolerance = measured_on == kernel() ? kTolerance : kOtherTolerance;
	Costs budget;
	for (Cost cost; file >> word >> cost.verified >> cost.bytes;)
		budget[word] = cost;
	for (const auto &[name, cost] : costs) {
		ASSERT_TRUE(budget.contains(name)) << name << " has no budget";
		EXPECT_LE(cost.verified, budget[name].verified * tolerance) << name << ": verified instructions";
		EXPECT_LE(cost.bytes, budget[name].bytes * tolerance) << name << ": bytes";
	}
	EXPECT_EQ(budget.size(), costs.size()) << "the budget names a program that is no more";
}

} // namespace
