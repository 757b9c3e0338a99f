// What each program may cost whatever the machine's mood: instructions that the verifier walks, and the size of the
// program as the kernel keeps it. PTRIG_BUDGET=write writes budget.txt anew. And what none of them may call.
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sys/utsname.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include "bpf/tc.skel.h"
#include "bpf/xdp.skel.h"
#ifdef PTRIG_NEWEST_CLANG
#include "bpf/tc_newest.skel.h"
#include "bpf/xdp_newest.skel.h"
#endif

namespace {

constexpr double kTolerance = 1.10;      ///< on the kernel that the budget was measured on
constexpr double kOtherTolerance = 1.60; ///< verifiers differ in what they walk

/// Of 512 bytes that the kernel gives a chain of calls, each rounded up as the kernel that rounds most does.
constexpr std::uint32_t kDeepestStack = 448, kStackRounding = 32;

struct Cost {
	std::uint32_t verified = 0, bytes = 0, stack = 0;
	std::string chain; ///< of calls, by the stack of each
};
using Costs = std::map<std::string, Cost>;

std::string kernel() {
	utsname name{};
	uname(&name);
	const std::string release = name.release;
	return release.substr(0, release.find('.', release.find('.') + 1));
}

/// A program's functions: how much stack each uses, and whom it calls, callbacks too.
class Stack {
public:
	Stack(const bpf_insn *code, std::size_t count) : code_(code), count_(count) {
		starts_.insert(0);
		for (std::size_t i = 0; i < count_; i++)
			if (const auto target = callee(i))
				starts_.insert(*target);
	}
	/// The deepest chain's functions, each with its own stack.
	std::uint32_t deepest(std::string *chain = nullptr, std::size_t function = 0) const {
		const auto next = starts_.upper_bound(function);
		const std::size_t end = next == starts_.end() ? count_ : *next;
		std::uint32_t used = 0, below = 0;
		std::string deepest_below;
		for (std::size_t i = function; i < end; i++) {
			used = std::max(used, reach(i, end));
			const auto target = callee(i);
			std::string there;
			if (const std::uint32_t stack = target ? deepest(&there, *target) : 0; stack > below) {
				below = stack;
				deepest_below = there;
			}
		}
		if (chain)
			*chain = std::to_string(used) + " " + deepest_below;
		return (std::max(used, 1U) + kStackRounding - 1) / kStackRounding * kStackRounding + below;
	}

private:
	std::optional<std::size_t> callee(std::size_t i) const {
		const bpf_insn &insn = code_[i];
		const bool call = insn.code == (BPF_JMP | BPF_CALL) && insn.src_reg == BPF_PSEUDO_CALL;
		const bool callback = insn.code == (BPF_LD | BPF_IMM | BPF_DW) && insn.src_reg == BPF_PSEUDO_FUNC;
		if (!call && !callback)
			return std::nullopt;
		return i + 1 + static_cast<std::size_t>(insn.imm);
	}
	/// How far below the frame pointer this instruction reaches: directly, or by a copy that the next ones lower.
	std::uint32_t reach(std::size_t i, std::size_t end) const {
		const bpf_insn &insn = code_[i];
		const std::uint8_t kind = BPF_CLASS(insn.code);
		const bool through = (kind == BPF_LDX && insn.src_reg == BPF_REG_10) ||
				     ((kind == BPF_ST || kind == BPF_STX) && insn.dst_reg == BPF_REG_10);
		if (through && insn.off < 0)
			return static_cast<std::uint32_t>(-insn.off);
		if (insn.code != (BPF_ALU64 | BPF_MOV | BPF_X) || insn.src_reg != BPF_REG_10)
			return 0;
		for (std::size_t n = i + 1; n < std::min(end, i + 4); n++)
			if (code_[n].code == (BPF_ALU64 | BPF_ADD | BPF_K) && code_[n].dst_reg == insn.dst_reg)
				return code_[n].imm < 0 ? static_cast<std::uint32_t>(-code_[n].imm) : 0;
		return 0;
	}

	const bpf_insn *code_;
	std::size_t count_;
	std::set<std::size_t> starts_;
};

void measure(const bpf_object *object, Costs &costs) {
	bpf_program *program = nullptr;
	bpf_object__for_each_program(program, object) {
		bpf_prog_info info{};
		std::uint32_t size = sizeof(info);
		ASSERT_EQ(bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size), 0);
		const bpf_insn *code = bpf_program__insns(program);
		ASSERT_NE(code, nullptr);
		Cost cost{info.verified_insns, info.xlated_prog_len, 0, {}};
		cost.stack = Stack(code, bpf_program__insn_cnt(program)).deepest(&cost.chain);
		costs[bpf_program__name(program)] = cost;
	}
}

/// Both objects as they are built, loaded once.
struct Loaded {
	std::unique_ptr<ptrig_tc_bpf, void (*)(ptrig_tc_bpf *)> tc{ptrig_tc_bpf__open_and_load(),
								   ptrig_tc_bpf__destroy};
	std::unique_ptr<ptrig_xdp_bpf, void (*)(ptrig_xdp_bpf *)> xdp{ptrig_xdp_bpf__open_and_load(),
								      ptrig_xdp_bpf__destroy};
	static const Loaded &get() {
		static const Loaded loaded;
		return loaded;
	}
};

Costs measure() {
	const Loaded &loaded = Loaded::get();
	Costs costs;
	if (loaded.tc && loaded.xdp) {
		measure(loaded.tc->obj, costs);
		measure(loaded.xdp->obj, costs);
	}
	return costs;
}

/// The helpers that the programs of an object call, their subprograms among them.
std::set<int> helpers_of(const bpf_object *object) {
	std::set<int> helpers;
	bpf_program *program = nullptr;
	bpf_object__for_each_program(program, object) {
		const bpf_insn *code = bpf_program__insns(program);
		for (std::size_t i = 0; code && i < bpf_program__insn_cnt(program); i++)
			if (code[i].code == (BPF_JMP | BPF_CALL) && code[i].src_reg == 0)
				helpers.insert(code[i].imm);
	}
	return helpers;
}

// A lease is over when a suspended gateway wakes up: only this clock has gone on meanwhile.
TEST(Budget, TheOnlyClockIsTheOneThatGoesOnInSuspend) {
	if (geteuid() != 0)
		GTEST_SKIP() << "needs root";
	const Loaded &loaded = Loaded::get();
	ASSERT_TRUE(loaded.tc && loaded.xdp);
	EXPECT_TRUE(helpers_of(loaded.tc->obj).contains(BPF_FUNC_ktime_get_boot_ns));
	for (const bpf_object *object : {loaded.tc->obj, loaded.xdp->obj})
		for (const int other : {BPF_FUNC_ktime_get_ns, BPF_FUNC_ktime_get_coarse_ns, BPF_FUNC_ktime_get_tai_ns})
			EXPECT_FALSE(helpers_of(object).contains(other)) << "helper " << other;
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
			file << name << " " << cost.verified << " " << cost.bytes << " " << cost.stack << "\n";
		ASSERT_TRUE(file.flush()) << path;
	}
	std::ifstream file(path);
	std::string word, measured_on;
	ASSERT_TRUE(file >> word >> measured_on && word == "kernel") << path;
	const double tolerance = measured_on == kernel() ? kTolerance : kOtherTolerance;
	Costs budget;
	for (Cost cost; file >> word >> cost.verified >> cost.bytes >> cost.stack;)
		budget[word] = cost;
	for (const auto &[name, cost] : costs) {
		ASSERT_TRUE(budget.contains(name)) << name << " has no budget";
		EXPECT_LE(cost.verified, budget[name].verified * tolerance) << name << ": verified instructions";
		EXPECT_LE(cost.bytes, budget[name].bytes * tolerance) << name << ": bytes";
		EXPECT_LE(cost.stack, std::min(budget[name].stack, kDeepestStack))
			<< name << ": bytes of stack: " << cost.chain;
	}
	EXPECT_EQ(budget.size(), costs.size()) << "the budget names a program that is no more";
}

TEST(Budget, TheNewestClangsProgramsLoadAndLeaveRoom) {
#ifndef PTRIG_NEWEST_CLANG
	GTEST_SKIP() << "the build has found neither clang-22 nor clang-19";
#else
	if (geteuid() != 0)
		GTEST_SKIP() << "needs root";
	const std::unique_ptr<ptrig_tc_newest_bpf, void (*)(ptrig_tc_newest_bpf *)> tc{
		ptrig_tc_newest_bpf__open_and_load(), ptrig_tc_newest_bpf__destroy};
	const std::unique_ptr<ptrig_xdp_newest_bpf, void (*)(ptrig_xdp_newest_bpf *)> xdp{
		ptrig_xdp_newest_bpf__open_and_load(), ptrig_xdp_newest_bpf__destroy};
	ASSERT_TRUE(tc && xdp) << PTRIG_NEWEST_CLANG;
	Costs costs;
	measure(tc->obj, costs);
	measure(xdp->obj, costs);
	for (const auto &[name, cost] : costs)
		EXPECT_LE(cost.stack, kDeepestStack) << PTRIG_NEWEST_CLANG << ", " << name << ": " << cost.chain;
#endif
}

} // namespace
