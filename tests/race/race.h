// The fixture of the two CPUs: rules with few elements, frames to draw from, what each CPU does, and what must be true
// when both have stopped.
#pragma once

#include <functional>
#include <memory>
#include <optional>
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
	/// Sends some frames by the calling thread, `cpu` of the two; returns how many.
	using Send = std::function<std::uint32_t(std::size_t cpu, std::minstd_rand &random)>;
	/// Both CPUs at once, so many frames each. The second form runs the driver.
	void both_cpus(std::uint64_t seed, std::uint64_t frames, const Send &send);
	void both_cpus(std::uint64_t seed, std::uint64_t frames);
	/// The books as they are, sessions and their entries, then everything is closed and nothing may be left.
	void look_at_everything();
	Driver &driver() const { return *driver_; }
	const std::vector<int> &cpus() const { return cpus_; }
	/// The frames of begin().
	const std::vector<race_frame> &lan_draws() const { return lan_; }
	const std::vector<race_frame> &wan_draws() const { return wan_; }
	/// What one of the hosts that ever have this frame's WAN port answers; nothing if it is not for one.
	std::optional<race_frame> answer_to(const race_frame &wan_frame);
	/// The MAC address of the machine with this address.
	static std::string mac_of(__be32 address);
	/// A number from the environment.
	static std::uint64_t setting(const char *name, std::uint64_t otherwise);

private:
	unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
	Config random_config();
	void random_times(unsigned generation);
	race_frame lan_frame();
	race_frame wan_frame();
	/// One CPU's part.
	void act(std::size_t cpu, std::uint64_t seed, std::uint64_t frames, const Send &send) const;
	/// pt_admin, and pt_release if told so; what it has listed otherwise stays marked, and packets end it.
	void admin_here(ptrig_admin arguments, bool release) const;
	void check_sessions() const;
	void check_conns() const;
	void close_everything() const;
	void check_nothing_is_left() const;

	std::unique_ptr<Driver> driver_;
	std::mt19937_64 random_;
	std::vector<int> cpus_;
	std::vector<race_frame> lan_, wan_;
	std::vector<unsigned> services_; ///< of this configuration
};

} // namespace ptrig::test
