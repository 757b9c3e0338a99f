// The benchmark's network: host, gateway and remote in namespaces of their own, each joined to the gateway by a
// veth; a generator in place of both ends' senders, and counting sinks in place of their receivers.
//
//   host 192.168.77.11 eth0 ── lan0 192.168.77.1  gw  wan0 203.0.113.2 ── eth0 203.0.113.10 remote (198.18.0.0/15)
//
// The generator runs on the CPU of the calling thread, and so does all the work that its frames make: what it
// counts is packets a second of one core that also generates them.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/bench_abi.h"
#include "tests/lab/netns.h"

struct ptrig_bench_bpf;

namespace bench {

inline constexpr std::uint16_t kTriggerPort = 4000, kOpenPort = 6000;
inline constexpr std::uint32_t kFramesPerCall = 1U << 20; ///< a call's set-up and tear-down cost about 15 ms

/// What a run of the generator came to.
struct Rate {
	std::uint64_t sent = 0, received = 0;
	double seconds = 0;
	double per_second() const { return seconds > 0 ? static_cast<double>(received) / seconds : 0; }
};

class Rig {
public:
	/// `name` starts the namespaces' names: several rigs live side by side. `sinks` false: ends with sockets and
	/// offloads as they come, for TCP; the generator's frames do not get through then. `lines`: what Limit::kRead
	/// has to read, 64 bytes each; a power of two. `pairs`: sessions that Limit::kMake has room for.
	explicit Rig(const std::string &name, bool sinks = true, std::uint32_t lines = 1, std::uint32_t pairs = 1);
	~Rig();
	Rig(const Rig &) = delete;
	Rig &operator=(const Rig &) = delete;

	const lab::NetNs &gateway() const { return gw_; }
	const lab::NetNs &host() const { return host_; }
	const lab::NetNs &remote() const { return remote_; }

	/// Native XDP on the gateway's devices: a program that drops, that writes headers, that also reads a line, or
	/// that also makes the two entries of a session.
	enum class Limit { kDrop, kTouch, kRead, kMake };
	void attach_limit(Limit limit);
	/// What kMake has made is gone.
	void forget_pairs();

	/// TC programs that pass everything, where ptrig would have its own.
	void attach_idle();

	/// Throws unless each of some frames of `plan` is delivered as it should be: MAC addresses, TTL, checksums over
	/// the whole frame, and the translated address and port, which are `addr` and `port` (packet order).
	void check(const bench_plan &plan, std::uint32_t addr, std::uint16_t port);

	/// A plan with this rig's addresses.
	bench_plan plan(bench_mode mode, std::uint32_t flows) const;
	/// Send exactly `frames`, from the plan's first flow on. The gateway sees them in batches: of 1, it is done
	/// with each before the next is made.
	Rate send(const bench_plan &plan, std::uint64_t frames, std::uint32_t batch = 64);
	/// Send calls of `frames` each until `time` has passed, at least one.
	Rate send_for(const bench_plan &plan, std::chrono::duration<double> time,
		      std::uint32_t frames = kFramesPerCall);

	/// The same from each of these CPUs at once, each a flow of its own: the sum of their rates.
	Rate send_from(const std::vector<int> &cpus, const bench_plan &plan, std::chrono::duration<double> time);

	/// Frames at the sinks so far.
	std::uint64_t received() const;

private:
	void connect();
	void quicken();
	void attach(const lab::NetNs &where, const std::string &device, int program);
	void run(std::uint32_t frames, std::uint32_t batch);

	lab::NetNs gw_, host_, remote_;
	std::unique_ptr<ptrig_bench_bpf, void (*)(ptrig_bench_bpf *)> bpf_;
	std::vector<lab::Fd> links_; ///< of attach_idle()
};

/// Keep this thread, and what it starts, on one CPU.
void pin_to_cpu(int cpu);

} // namespace bench
