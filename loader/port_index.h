// Which rules are on each port: counted here for compile(), and for the errors and warnings that only
// rules together can have.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "include/ptrig/abi.h"
#include "loader/rule.h"

namespace ptrig {

/// The rules (by their index in the configuration) on each port of each protocol, in file order.
class PortIndex {
public:
	PortIndex() : count_(2 * PTRIG_PORTS), rules_(std::make_unique_for_overwrite<Rules[]>(2 * PTRIG_PORTS)) {}

	/// Puts `rule` on first..last of `protos`; a port that it is on already stays as it is. Rules come in
	/// ascending order. Returns the first port that is full, which ends the adding.
	std::optional<PortRange> add(std::uint32_t rule, unsigned first, unsigned last, Protos protos);
	/// `place` counts the ports of tcp, then those of udp.
	std::span<const std::uint16_t> at(std::size_t place) const { return {rules_[place].data(), count_[place]}; }
	static std::size_t place(unsigned proto_index, unsigned port) { return proto_index * PTRIG_PORTS + port; }

private:
	using Rules = std::array<std::uint16_t, PTRIG_MAX_RULES_PER_PORT>;
	std::vector<std::uint8_t> count_;
	std::unique_ptr<Rules[]> rules_; ///< as many of each port as count_ says; the rest was never written
};

/// What is wrong with rules[rule] beside the others. `item` is the range of its `key` that shows it, -1: none does.
struct RuleConflict {
	std::size_t rule = 0;
	std::string key; ///< "trigger", "open"; empty: the rule as such
	int item = -1;
	std::string message;
};

struct PortIndexes {
	PortIndex trigger, open, host; ///< host: by the port on the host that an open port leads to
	std::vector<RuleConflict> conflicts;
};
/// Of the enabled rules. Every rule must be valid by itself.
PortIndexes index_ports(const Config &config);

} // namespace ptrig
