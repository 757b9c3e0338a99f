// Warnings about a valid configuration: risky or useless rules. Pure, but for the facts handed in.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "loader/rule_file.h"

namespace ptrig {

/// A socket of the gateway's own that would answer on a WAN address.
struct Listener {
	std::uint16_t port = 0;
	Protos proto = 0;
};
struct CheckFacts {
	std::vector<Listener> listeners;
	std::vector<PortRange> dnat;     ///< ports that nftables dnats already
	unsigned possible_cpus = 1;
};

std::vector<Diagnostic> check_warnings(const ParsedConfig &parsed, const CheckFacts &facts);
/// Kernel memory of all maps, in bytes, for these settings.
std::uint64_t map_memory(const GatewayConfig &gateway, unsigned possible_cpus);
/// Browsers refuse to connect to this port (WHATWG Fetch, "port blocking").
bool is_bad_port(std::uint16_t port);

} // namespace ptrig
