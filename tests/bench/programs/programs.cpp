// Single program paths by BPF_PROG_RUN, in nanoseconds a packet: where a regression shows first. Each run has the same
// frame again and again, so tables and code are in the CPU's caches; what a packet costs on its way through the kernel
// is ptrig_bench's to say. A path whose packets do not all end with the reason that it is about is an error.
#include <benchmark/benchmark.h>

#include <cstdio>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

constexpr std::uint32_t kRepeat = 100000; ///< packets of one run
constexpr int kRuns = 20;

const Packet kIn = kFromRemote / kRemoteToWan / kKnock / Fill{22}, kOut = kFromHost / kHostToRemote / kReply / Fill{22};
const Packet kTrigger = Udp{.sport = 4000, .dport = 5060} / Fill{22},
	     kOther = Udp{.sport = 4000, .dport = 5061} / Fill{22};

/// The tests' gateway with a lease and an established session, outside a test.
class Bench : public DatapathTest {
public:
	Bench() {
		SetUp();
		use({.sessions = 65536, .halfopen = 65536});
		granted({media()});
		wan_in(kIn);
		lan_in(kOut);
	}
	~Bench() override { forget_flows(); }
	void TestBody() override {}

	struct Path {
		Hook hook;
		const char *dev;
		Packet packet;
		enum ptrig_reason reason;
		const char *from = "";
	};
	void run(benchmark::State &state, const Path &path) {
		const auto before = dp().counter(path.reason);
		std::uint64_t packets = 0;
		for ([[maybe_unused]] auto _ : state) {
			refresh();
			const auto timing = dp().time(path.hook, path.dev, path.packet.bytes(), path.from, kRepeat);
			state.SetIterationTime(timing.ns * 1e-9);
			packets += kRepeat;
		}
		if (dp().counter(path.reason) - before < packets)
			state.SkipWithError("not every packet took this path");
	}
	/// One packet a run, each from a port of its own: nothing is in the caches for it.
	void run_new(benchmark::State &state) {
		std::uint16_t port = 1024;
		const auto before = dp().counter(PTRIG_OPENED);
		for ([[maybe_unused]] auto _ : state) {
			const Packet packet = kFromRemote / kRemoteToWan / Udp{.sport = ++port, .dport = 16384};
			const auto timing = dp().time(Hook::kWanIn, "wan0", packet.bytes(), "", 1);
			state.SetIterationTime(timing.ns * 1e-9);
		}
		if (dp().counter(PTRIG_OPENED) - before != static_cast<std::uint64_t>(state.iterations()))
			state.SkipWithError("not every packet opened a session");
		admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS});
	}

private:
	/// Lease and session have been looked at this very moment: for a second nothing has to be written down.
	void refresh() {
		age_lease("media", seconds(2));
		trigger(kA, kTrigger);
		age_sessions(seconds(1));
		wan_in(kIn);
		lan_in(kOut);
	}
};

void add(Bench &bench, const char *name, Bench::Path path) {
	benchmark::RegisterBenchmark(
		name, [&bench, path = std::move(path)](benchmark::State &state) { bench.run(state, path); })
		->UseManualTime()
		->Iterations(kRuns);
}

void add_all(Bench &bench) {
	add(bench, "ordinary, LAN ingress",
	    {Hook::kLanIn, "lan0", kFromHost / kHostToRemote / kOther, PTRIG_NOT_TRIGGER});
	add(bench, "ordinary, WAN egress",
	    {Hook::kWanOut, "wan0", kToRemote / kWanToRemote / kOther, PTRIG_NO_CANDIDATE, "lan0"});
	add(bench, "ordinary, WAN ingress",
	    {Hook::kWanIn, "wan0", kFromRemote / kRemoteToWan / Udp{.dport = 9999} / Fill{22}, PTRIG_NOT_OPEN});
	add(bench, "trigger of a fresh lease, LAN ingress",
	    {Hook::kLanIn, "lan0", kFromHost / kHostToRemote / kTrigger, PTRIG_FRESH});
	add(bench, "session in, WAN ingress", {Hook::kWanIn, "wan0", kIn, PTRIG_FORWARDED});
	add(bench, "session out, LAN ingress", {Hook::kLanIn, "lan0", kOut, PTRIG_HEARD});
	benchmark::RegisterBenchmark("new session, WAN ingress",
				     [&bench](benchmark::State &state) { bench.run_new(state); })
		->UseManualTime()
		->Iterations(2000);
}

int run(int argc, char **argv) {
	if (const std::string why_not = enter_world(); !why_not.empty())
		throw std::runtime_error(why_not);
	benchmark::Initialize(&argc, argv);
	if (benchmark::ReportUnrecognizedArguments(argc, argv))
		return 2;
	Bench bench;
	add_all(bench);
	benchmark::RunSpecifiedBenchmarks();
	return 0;
}

} // namespace
} // namespace ptrig::test

int main(int argc, char **argv) {
	try {
		return ptrig::test::run(argc, argv);
	} catch (const std::exception &error) {
		std::fprintf(stderr, "ptrig_bench_programs: %s\n", error.what());
		return 1;
	}
}
