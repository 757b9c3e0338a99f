// Who is measured: each a gateway in a rig of its own, with the sessions of a case already established.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "tests/bench/rig.h"
#include "tests/lab/process.h"

namespace bench {

/// How the gateway of a contender is to be.
struct Wanted {
	std::uint32_t sessions = 1; ///< established before measuring
	std::uint32_t max_sessions = 65536;
	std::uint32_t rules = 1; ///< of ptrig: the one in use is the last
	std::uint32_t max_rules = 4096, max_halfopen = 4096, max_leases = 8192;
	bool wide = false;      ///< of ptrig: 1024-65535/udp are leased, instead of one port
	bool contacted = false; ///< of ptrig: a lease for each remote instead of one for all
	bool sinks = true;      ///< false: Rig without sinks
	bool daemon = false;    ///< of ptrig: `ptrig run` beside it; without sessions, the fast path rests
	std::string udp_timeout = "1h";
};

class Contender {
public:
	virtual ~Contender() = default;
	Rig &rig() { return rig_; }
	const Rig &rig() const { return rig_; }
	const std::string &name() const { return name_; }
	/// Ends every session.
	virtual void forget() {}

protected:
	explicit Contender(std::string name, bool sinks = true, std::uint32_t lines = 1, std::uint32_t pairs = 1);

private:
	std::string name_;
	Rig rig_;
};

/// The ones that run ptrig, for what is not a packet rate.
class Ptrig : public Contender {
public:
	Ptrig(const std::string &name, const Wanted &wanted);
	~Ptrig() override;
	void forget() override { ptrig({"session", "close", "--all"}); }

	/// Run the program; throws unless it succeeds. Returns what it wrote to stdout.
	std::string ptrig(const lab::Words &words);
	lab::Words command(const lab::Words &words) const;
	nlohmann::json status() { return nlohmann::json::parse(ptrig({"status", "-j"})); }
	std::string pins() const { return "/sys/fs/bpf/" + rig_name(); }
	/// The configuration file of this gateway; what it says for `wanted`.
	std::string file() const { return "/run/" + rig_name() + ".toml"; }
	std::string config(const Wanted &wanted) const;

private:
	std::string rig_name() const { return rig().gateway().name(); }
	void establish(std::uint32_t sessions);
	void run_daemon(bool rests);
	std::uint64_t established() { return status().at("limits").at("sessions").at("used"); }

	std::optional<lab::Process> daemon_;
};

/// One packet of the host's to the trigger port.
void trigger(Rig &rig, bool sinks = true);
/// A packet in and an answer out for flows `first`..`first + flows`.
Rate talk(Rig &rig, std::uint32_t first, std::uint32_t flows);

/// By name: drop, touch, read, make, nft (the port-triggering recipe), dnat (static, nftables), forward (no NAT),
/// masquerade (NAT of what goes out, nothing open), idle (the same, and programs that do nothing where ptrig has its
/// own), tc, xdp, auto (ptrig). Ready to be measured. Throws if it cannot be set up or its sessions do not come about.
std::unique_ptr<Contender> make_contender(const std::string &name, const Wanted &wanted);

} // namespace bench
