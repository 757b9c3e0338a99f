// NAT rules as a graph of chains, whoever wrote them; between the firewall's parsers and Firewall.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "include/ptrig/abi.h"
#include "loader/system.h"

namespace ptrig {

/// One rule, reduced to what matters here.
struct NatRule {
	enum class Action { kNone, kSource, kDestination } action = Action::kNone;
	InterfaceMatch in, out;
	std::vector<PortRange> ports; ///< only packets to these; empty: to any, or not understood
	std::vector<Prefix> to;       ///< only packets to these addresses; empty: to any
	Protos protos = PTRIG_TCP | PTRIG_UDP;
	bool narrowed = false; ///< something else limits it, or it was not understood: not every packet comes here
	std::vector<std::string> jumps;
	/// A verdict map's jumps by port.
	std::vector<std::pair<std::vector<PortRange>, std::string>> port_jumps;
	/// A verdict map's jumps may depend on the interface, the rest of the rule does not.
	std::vector<std::pair<InterfaceMatch, std::string>> in_jumps, out_jumps;
	bool jumps_anywhere = false; ///< a verdict map that could not be read: to any chain of its table
};

/// Chains by "family table name".
struct NatGraph {
	enum class Hook { kNone, kPrerouting, kPostrouting, kOther };
	struct Chain {
		Hook hook = Hook::kNone;
		std::string table;
		std::vector<NatRule> rules;
	};
	std::map<std::string, Chain> chains;
	/// What packets meet on their way in and out; chains that nothing leads to have no say. `who`: "nftables",
	/// "iptables".
	void collect(const std::string &who, Firewall &firewall) const;
};

} // namespace ptrig
