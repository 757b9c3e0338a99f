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
	/// Puts `rule` on first..last of `protos`; a port that it is on already stays as it is. Rules come in
	/// ascending order. Returns the first port that is full, which ends the adding.
	std::optional<PortRange> add(std::uint32_t rule, unsigned first, unsigned last, Protos protos);
	/// `place` counts the ports of tcp, then those of udp.
	std::span<const std::uint16_t> at(std::size_t place) const {
		const Page *page = pages_[place / kPagePorts].get();
		if (!page)
			return {};
		return {page->rules[place % kPagePorts].data(), page->count[place % kPagePorts]};
	}
	static std::size_t place(unsigned proto_index, unsigned port) { return proto_index * PTRIG_PORTS + port; }

private:
	/// Most configurations have few ports, and the whole is 4 MiB.
	static constexpr std::size_t kPagePorts = 256;
	struct Page {
		std::array<std::uint8_t, kPagePorts> count{};
		/// As many of each port as `count` says; the rest was never written.
		std::array<std::array<std::uint16_t, PTRIG_MAX_RULES_PER_PORT>, kPagePorts> rules;
	};
	std::array<std::unique_ptr<Page>, 2 * PTRIG_PORTS / kPagePorts> pages_;
};

/// What is wrong with rules[rule] beside the others. `item` is the range of its `key` that shows it, -1: none does.
struct RuleConflict {
	std::size_t rule = 0;
	std::string key; ///< "trigger", "open", "sources"; empty: the rule as such
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
