// What the unit tests build configurations from: a smallest valid rule, and random valid ones.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "include/ptrig/abi.h"
#include "loader/rule_file.h"

namespace ptrig::test {

/// A parser's value; fails the test if there is none.
PortRange ports(std::string_view text);
OpenRange open_ports(std::string_view text);
Prefix prefix(std::string_view text);
Mac mac(std::string_view text);

/// A valid rule: triggers on the one, opens the other, all else default.
Rule rule(std::string name, std::string_view trigger, std::string_view open);
/// With these rules and the LAN br0.
Config config_of(std::vector<Rule> rules);

/// Every member takes every kind of value in time; the same seed gives the same configuration.
class RandomConfig {
public:
	explicit RandomConfig(unsigned seed) : random_(seed) {}
	Config config(std::size_t rules);
	Rule rule(const std::string &name);
	std::uint32_t number(std::uint32_t least, std::uint32_t most);

private:
	bool coin() { return number(0, 1) == 1; }
	nanoseconds time(nanoseconds least, nanoseconds most);
	PortRange ports();
	OpenRange open();
	Prefix prefix();
	Mac mac();
	std::string text();

	std::mt19937 random_;
};

/// The errors as "LINE:COL: message", one a line.
std::string lines_of(const std::vector<Diagnostic> &diagnostics);

} // namespace ptrig::test
