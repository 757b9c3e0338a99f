// A ruleset compiled into the tables of one generation: direct-index port tables, rule records,
// prefix and MAC sets. Pure; gateway.cpp writes the result into the maps.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "include/ptrig/abi.h"
#include "loader/rule.h"

namespace ptrig {

/// What a live rule has: kept by name, and given up when its open ports change, or what a lease is of.
struct RuleIdentity {
	std::uint32_t id = 0; ///< slot in the low 16 bits
	std::vector<OpenRange> open;
	bool per_remote = false; ///< remotes = contacted: a lease per remote, under another key
};

struct PrefixEntry {
	std::uint32_t set = 0;
	Prefix prefix;
};
struct MacEntry {
	std::uint32_t set = 0;
	MacSource source;
};

struct Tables {
	/// 2 * 65536 entries each, tcp then udp, in the encoding of abi.h (list numbers are this generation's own, from
	/// 0).
	std::vector<std::uint32_t> trigger_ports, open_ports, host_ports;
	std::vector<ptrig_list> lists;
	std::vector<ptrig_rule> rules; ///< max_rules records, indexed by slot; id 0: unused
	std::vector<PrefixEntry> prefixes;
	std::vector<MacEntry> macs;
	ptrig_config config{};
	std::map<std::string, RuleIdentity> identities; ///< of the compiled rules, disabled ones too
	bool needs_lan_egress = false;                  ///< some enabled rule has confirm or close = connection
};

struct CompileInput {
	const Config *config = nullptr;
	std::map<std::string, RuleIdentity> previous; ///< identities of the rules that are live now
	std::vector<std::uint32_t> slot_counters; ///< by slot: the highest 16-bit counter ever used (may be shorter)
	std::uint32_t first_set = 1;              ///< set numbers are given out from here
};

RuleIdentity identity_of(const Rule &rule, std::uint32_t id);
/// The same open ports, in whatever order, and leases of the same kind: the rule keeps its id, and with it its leases.
bool same_leases(const RuleIdentity &a, const RuleIdentity &b);

/// Errors (kInput): an invalid rule, two rules of one name, a 17th rule on one port (the message names the rules), a
/// rule that opens a reserved port, more rules than max_rules, more shared ports than max_port_lists.
Result<Tables> compile(const CompileInput &input);

/// What changes between two rulesets, by name; order of `after`, then what is removed in the order of `before`.
struct RuleDiff {
	enum class Kind { kAdd, kRemove, kChange } kind;
	std::string name;
	std::vector<std::string> keys; ///< kChange: the keys that differ
	bool keeps_leases = false;     ///< kChange: name and open ports stay
};
std::vector<RuleDiff> diff_rules(const std::vector<Rule> &before, const std::vector<Rule> &after);

} // namespace ptrig
