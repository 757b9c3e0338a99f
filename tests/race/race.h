// The fixture of the two CPUs: rules with few elements, frames to draw from, what each CPU does, and what must be true
// when both have stopped.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/bpf/harness.h"
#include "tests/race/driver.h"

namespace ptrig::test {

class Race : public DatapathTest {
protected:
	Race();
	void SetUp() override;

	/// Another configuration, of which `seed` is the number.
	void begin(std::uint64_t seed);
	/// Both CPUs at once, so many frames each.
	void both_cpus(std::uint64_t seed, std::uint64_t frames);
	/// The books as they are, sessions and their entries, then everything is closed and nothing may be left.
	void look_at_everything();
	Driver &driver() const { return *driver_; }
	const std::vector<int> &cpus() const { return cpus_; }

private:
	unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
	Config random_config();
	void random_times(unsigned generation);
	race_frame lan_frame();
	race_frame wan_frame();
	/// One CPU's part; `seed` is of its own.
	void act(int cpu, std::uint64_t seed, std::uint64_t frames) const;
	/// pt_admin, and pt_release if told so; what it has listed otherwise stays marked, and packets end it.
	void admin_here(ptrig_admin arguments, bool release) const;
	void check_sessions() const;
	void check_conns() const;
	void close_everything() const;
	void check_nothing_is_left() const;

	std::unique_ptr<Driver> driver_;
	std::mt19937_64 random_;
	std::vector<int> cpus_;
	std::vector<unsigned> services_; ///< of this configuration
};

} // namespace ptrig::test
