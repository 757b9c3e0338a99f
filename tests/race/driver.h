// Runs tests/race/race.bpf.c: many frames through the programs under test in one system call, on the CPU of the thread
// that calls. See race_abi.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/bpf/datapath.h"
#include "tests/race/race_abi.h"

struct bpf_program;
struct ptrig_race_bpf;

namespace ptrig::test {

/// The calling thread runs on this CPU alone.
void stay_on(int cpu);

enum class Side { kLan, kWan };

class Driver {
public:
	explicit Driver(const Datapath &datapath, const std::vector<race_machine> &machines);
	~Driver();
	Driver(const Driver &) = delete;
	Driver &operator=(const Driver &) = delete;

	/// What to draw from, on each side; at most RACE_DRAWS frames.
	void draws(Side side, const std::vector<race_frame> &frames) const;
	void port(std::uint16_t wan_port, race_port port) const;
	/// Every CPU's random numbers begin anew; no frame is waiting.
	void seed(std::uint64_t seed) const;
	/// So many frames on this side, by the calling thread's CPU.
	void run(Side side, std::uint32_t frames) const;
	/// So many entries made and forgotten, one after the other; or one that is there given time, so many times.
	void forget(std::uint32_t times) const;
	void refresh(std::uint32_t times) const;
	/// Interrupts of random length, so many a second on these CPUs; false if the kernel gives none.
	bool stall(const std::vector<int> &cpus, std::uint32_t per_second);

	/// A classifier for the device to the hosts: looks at who gets a remote's packet. It goes on with the next one.
	int receiver_fd() const;
	race_fault fault() const;
	/// Of all CPUs since seed(): only the counts are to be read.
	race_cpu counts() const;

private:
	void run(const bpf_program *program, Side side, std::uint32_t frames, std::uint32_t times) const;

	ptrig_race_bpf *object_;
	std::uint32_t lan_, wan_;
	std::vector<Fd> stalls_;
};

} // namespace ptrig::test
