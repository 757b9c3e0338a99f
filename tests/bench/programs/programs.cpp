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
const Packet kTrigger = kHostToRemote / Udp{.sport = 4000, .dport = 5060} / Fill{22};
const Packet kTriggerLeft = kWanToRemote / Udp{.sport = 4000, .dport = 5060} / Fill{22};
const Packet kOther = kFromHost / kHostToRemote / Udp{.sport = 4000, .dport = 5061} / Fill{22};

/// The tests' gateway with a lease and an established session, outside a test.
class Bench : public DatapathTest {
public:
	Bench() {
		SetUp();
		use({.halfopen = 65536});
		with_xdp();
		granted({media()});
		for (const bool out : {false, true, false})
			out ? lan_in(kOut) : wan_in(kIn);
	}
	~Bench() override { without_xdp(); }
	void TestBody() override {}

	struct Path {
		Hook hook;
		const char *dev;
		Packet packet;
		enum ptrig_reason reason;
	};
	void run(benchmark::State &state, const Path &path) {
		const auto before = dp().counters()[path.reason];
		std::uint64_t packets = 0;
		for ([[maybe_unused]] auto _ : state) {
			refresh();
			const auto timing = dp().time(path.hook, path.dev, path.packet.bytes(), "", 0, kRepeat);
			state.SetIterationTime(timing.ns * 1e-9);
			packets += kRepeat;
		}
		if (dp().counters()[path.reason] - before < packets)
			state.SkipWithError("not every packet took this path");
	}
	/// What a trigger costs once a second, on its way out. One packet a run.
	void run_refresh(benchmark::State &state) {
		const auto before = dp().counters()[PTRIG_REFRESHED];
		for ([[maybe_unused]] auto _ : state) {
			age_lease("media", seconds(2));
			const std::uint16_t index = candidate(kFromHost / kTrigger);
			const auto timing =
				dp().time(Hook::kWanOut, "wan0", (kToRemote / kTriggerLeft).bytes(), "lan0", index, 1);
			state.SetIterationTime(timing.ns * 1e-9);
		}
		if (dp().counters()[PTRIG_REFRESHED] - before != static_cast<std::uint64_t>(state.iterations()))
			state.SkipWithError("not every packet refreshed the lease");
	}
	/// One packet a run, each from a port of its own: nothing is in the caches for it.
	void run_new(benchmark::State &state) {
		std::uint16_t port = 1024;
		const auto before = dp().counters()[PTRIG_OPENED];
		for ([[maybe_unused]] auto _ : state) {
			const Packet packet = kFromRemote / kRemoteToWan / Udp{.sport = ++port, .dport = 16384};
			const auto timing = dp().time(Hook::kWanIn, "wan0", packet.bytes(), "", 0, 1);
			state.SetIterationTime(timing.ns * 1e-9);
		}
		if (dp().counters()[PTRIG_OPENED] - before != static_cast<std::uint64_t>(state.iterations()))
			state.SkipWithError("not every packet opened a session");
		admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS});
	}

private:
	/// TC has looked at the lease and at the session this very moment: for a second nothing has to be written down.
	void refresh() {
		age_lease("media", seconds(2));
		trigger(kA, Udp{.sport = 4000, .dport = 5060} / Fill{22});
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
	add(bench, "tc/trigger hit", {Hook::kLanIn, "lan0", kFromHost / kTrigger, PTRIG_FRESH});
	add(bench, "tc/trigger miss", {Hook::kLanIn, "lan0", kOther, PTRIG_NOT_TRIGGER});
	add(bench, "tc/open-port miss",
	    {Hook::kWanIn, "wan0", kFromRemote / kRemoteToWan / Udp{.dport = 9999} / Fill{22}, PTRIG_NOT_OPEN});
	add(bench, "tc/session in", {Hook::kWanIn, "wan0", kIn, PTRIG_FORWARDED});
	add(bench, "tc/session out", {Hook::kLanIn, "lan0", kOut, PTRIG_FORWARDED});
	add(bench, "xdp/session in", {Hook::kXdpWan, "wan0", kIn, PTRIG_FORWARDED});
	add(bench, "xdp/session out", {Hook::kXdpLan, "lan0", kOut, PTRIG_FORWARDED});
	add(bench, "xdp/open-port miss",
	    {Hook::kXdpWan, "wan0", kFromRemote / kRemoteToWan / Udp{.dport = 9999} / Fill{22}, PTRIG_TO_TC});
	benchmark::RegisterBenchmark("tc/trigger refresh, WAN side",
				     [&bench](benchmark::State &state) { bench.run_refresh(state); })
		->UseManualTime()
		->Iterations(1000);
	benchmark::RegisterBenchmark("tc/new session", [&bench](benchmark::State &state) { bench.run_new(state); })
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
