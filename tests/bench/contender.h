// Who is measured: each a gateway in a rig of its own, with the sessions of a case already established.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tests/bench/rig.h"

namespace bench {

/// How the gateway of a contender is to be.
struct Wanted {
	std::uint32_t sessions = 1; ///< established before measuring
	std::uint32_t max_sessions = 65536;
	std::uint32_t rules = 1; ///< of ptrig: the one in use is the last
	bool attached = true;    ///< ptrig contenders: false is the same gateway without ptrig
};

class Contender {
public:
	virtual ~Contender() = default;
	Rig &rig() { return rig_; }
	const std::string &name() const { return name_; }

protected:
	Contender(std::string name, const std::string &rig_name) : name_(std::move(name)), rig_(rig_name) {}

private:
	std::string name_;
	Rig rig_;
};

/// By name: touch, drop, nft (the port-triggering recipe), dnat (static, nftables), forward (no NAT),
/// tc, xdp (ptrig). Ready to be measured. Throws if it cannot be set up or its sessions do not come about.
std::unique_ptr<Contender> make_contender(const std::string &name, const Wanted &wanted);

} // namespace bench
