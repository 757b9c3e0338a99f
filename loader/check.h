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
	std::vector<PortRange> dnat; ///< ports that nftables dnats already
	unsigned possible_cpus = 1;
};

std::vector<Diagnostic> check_warnings(const ParsedConfig &parsed, const CheckFacts &facts);
struct MapMemory {
	std::string name;
	std::uint64_t bytes = 0;
};
/// Kernel memory of each map, for these settings; empty, of the two whose entries are allocated one by one.
std::vector<MapMemory> memory_by_map(const GatewayConfig &gateway, unsigned possible_cpus);
/// Of all maps, in bytes.
std::uint64_t map_memory(const GatewayConfig &gateway, unsigned possible_cpus);
/// Browsers refuse to connect to this port (WHATWG Fetch, "port blocking").
bool is_bad_port(std::uint16_t port);
/// A web page can make a browser send to this port of one protocol, to a server of the page's choice.
bool is_reached_by_pages(std::uint16_t port, Protos proto);

} // namespace ptrig
