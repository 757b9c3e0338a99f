// What the tables cost: their sweep and their memory; and that what a trigger writes into them is there at once.
#include <arpa/inet.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <fmt/format.h>
#include <fstream>
#include <thread>
#include <tuple>

#include "loader/gateway.h"
#include "tests/bench/cases.h"
#include "tests/bench/contender.h"
#include "tests/bench/memory.h"

namespace bench {

namespace {

using namespace std::chrono_literals;
using Seconds = std::chrono::duration<double>;
using lab::Clock;

double cpu_seconds(clockid_t clock) {
	timespec now{};
	clock_gettime(clock, &now);
	return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Packets in of one session, in a thread of its own, until it goes.
class Stream {
public:
	explicit Stream(Rig &rig)
	    : rig_(rig), thread_([this] {
		      bench_plan plan = rig_.plan(BENCH_IN, 1), both_ways = rig_.plan(BENCH_PAIR, 1);
		      while (!stop_) {
			      rig_.send(both_ways, 256);            // the host keeps it alive
			      rig_.send(plan, 16 * kFramesPerCall); // its end waits for RCU, as packets do not
		      }
	      }) {}
	Stream(const Stream &) = delete;
	Stream &operator=(const Stream &) = delete;
	~Stream() {
		stop_ = true;
		thread_.join();
	}
	/// Packets a second that arrive while `work` is done.
	double during(const std::function<void()> &work) const {
		const std::uint64_t before = rig_.received();
		const auto start = Clock::now();
		work();
		return static_cast<double>(rig_.received() - before) / Seconds(Clock::now() - start).count();
	}

private:
	Rig &rig_;
	std::atomic<bool> stop_ = false;
	std::thread thread_;
};

/// Arithmetic that needs no memory, for as long.
void compute(std::chrono::milliseconds time) {
	for (const auto end = Clock::now() + time; Clock::now() < end;) {
		std::uint32_t x = 1;
		for (int i = 0; i < 100000; i++) {
			x = x * 1664525U + 1013904223U;
			asm volatile("" : "+r"(x));
		}
	}
}

struct Swept {
	double cpu_ms = 0, inbound = 0; ///< inbound: the rate meanwhile over the rate around it
	double control = 0;             ///< the same while CPU 0 only computes
	std::uint32_t sessions = 0;
};

/// As the daemon does it, or all at once; the sessions removed and the CPU time.
std::pair<std::uint32_t, double> sweep(ptrig::Gateway &gateway, bool at_once) {
	std::uint32_t sessions = 0;
	const double start = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
	for (bool more = true; more;) {
		const auto result = gateway.sweep(at_once ? ptrig::Sweep::kAll : ptrig::Sweep::kSome);
		if (!result)
			throw std::runtime_error(result.error().what);
		sessions += result->sessions;
		more = result->more && !at_once;
		if (more)
			std::this_thread::sleep_for(1s);
	}
	return {sessions, (cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - start) * 1e3};
}

/// The sweep on CPU 0 while CPU 1 is busy with packets of a session that lives on.
Swept sweep(Ptrig &ptrig, bool at_once) {
	auto gateway = ptrig.rig().gateway().inside([&] { return ptrig::Gateway::open(ptrig.pins()); });
	if (!gateway)
		throw std::runtime_error(gateway.error().what);
	Swept swept;
	const Stream stream(ptrig.rig());
	std::thread sweeper([&] {
		pin_to_cpu(0);
		const std::uint64_t at_first = ptrig.rig().received();
		if (!lab::eventually(10s, [&] { return ptrig.rig().received() > at_first; }))
			return; // no stream: a rate of 0 says so
		const double before = stream.during([] { std::this_thread::sleep_for(200ms); });
		const double rate =
			stream.during([&] { std::tie(swept.sessions, swept.cpu_ms) = sweep(*gateway, at_once); });
		const double after = stream.during([] { std::this_thread::sleep_for(200ms); });
		swept.inbound = rate / ((before + after) / 2);
		swept.control = stream.during([] { compute(400ms); }) / after;
	});
	sweeper.join();
	return swept;
}

Swept make_and_sweep(std::uint32_t sessions, bool at_once) {
	Wanted wanted{sessions, std::min(sessions + 1024, 1U << 20)};
	Ptrig ptrig("xdp", wanted);
	// They expire by a shorter time limit, all but the one that goes on.
	wanted.udp_timeout = "12s"; // longer than they took to be made: `apply` sweeps as well
	std::ofstream(ptrig.file()) << ptrig.config(wanted) << std::flush;
	ptrig.ptrig({"apply", ptrig.file()});
	for (const auto end = Clock::now() + 13s; Clock::now() < end; std::this_thread::sleep_for(100ms))
		ptrig.rig().send(ptrig.rig().plan(BENCH_PAIR, 1), 256);
	return sweep(ptrig, at_once);
}

void run_sweep(const Options &options, Report &report) {
	report.begin("sweep");
	const std::uint32_t expired = options.quick ? 1U << 14 : 1U << 17; // 4,096 a second go
	std::vector<double> cpu, inbound, control;
	for (int round = 0; round < std::min(options.rounds, 3); round++) {
		const Swept swept = make_and_sweep(expired, false);
		report.note(fmt::format("{} of {} sessions swept", swept.sessions, expired));
		cpu.push_back(swept.cpu_ms);
		inbound.push_back(swept.inbound);
		control.push_back(swept.control);
	}
	report.at_most(fmt::format("sweep of {} expired sessions, of each with its conntrack entry", expired), 4,
		       median(cpu) * 1e3 / expired, "µs of CPU");
	report.at_least("inbound rate during a sweep", 0.9, median(inbound));
	report.note(fmt::format("inbound rate while the other CPU computes and touches no memory: {:.2f}",
				median(control)));
	const Swept at_once = make_and_sweep(expired, true);
	report.note(
		fmt::format("all {} in one go, as `ptrig session close` would: {:.0f} ms of CPU, inbound rate {:.2f}",
			    at_once.sessions, at_once.cpu_ms, at_once.inbound));
}

void run_memory(const Options &, Report &report) {
	report.begin("memory");
	constexpr std::uint32_t kSmall = 1U << 16, kLarge = 1U << 20;
	const auto of = [](std::uint32_t sessions) {
		const Ptrig ptrig("tc", {0, sessions});
		return memory_of(ptrig.pins());
	};
	const Memory small = of(kSmall), large = of(kLarge);
	const auto each = [&](std::uint64_t more, std::uint64_t less) {
		return static_cast<double>(more - less) / (kLarge - kSmall);
	};
	report.note(fmt::format("{} sessions: {:.1f} MiB in all maps; {}: {:.1f} MiB", kSmall,
				static_cast<double>(small.charged) / (1 << 20), kLarge,
				static_cast<double>(large.charged) / (1 << 20)));
	const double content = each(large.content, small.content), charged = each(large.charged, small.charged);
	report.at_most(
		fmt::format("memory per session, keys and values of all maps (with the hash's own: {:.0f})", charged),
		160, content, "bytes");
}

void run_first(const Options &options, Report &report) {
	report.begin("first packet");
	const std::uint32_t leases = options.quick ? 1000 : 10000;
	for (const char *datapath : {"tc", "xdp"}) {
		Wanted wanted{0, 65536};
		wanted.contacted = true;
		wanted.max_leases = 16384, wanted.max_halfopen = 32768; // a host alone gets half of them
		Ptrig ptrig(datapath, wanted);
		bench_plan plan = ptrig.rig().plan(BENCH_TRIGGER, leases);
		plan.trigger = htons(kTriggerPort);
		// Each trigger packet reaches its remote, and each remote's packet the host.
		const Rate rate = ptrig.rig().send(plan, 2 * std::uint64_t{leases}, 1);
		const std::uint64_t passed = rate.received - std::min<std::uint64_t>(rate.received, leases);
		report.figure({fmt::format("first packet after the trigger, {}", datapath),
			       fmt::format("{0} of {0}", leases), fmt::format("{} of {}", passed, leases),
			       passed == leases});
	}
}

} // namespace

std::vector<Case> state_cases() {
	return {{"sweep", run_sweep}, {"memory", run_memory}, {"first packet", run_first}};
}

} // namespace bench
