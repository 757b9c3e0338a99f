// Which NAT rules packets really meet, and asking the programs that know the rules.
#include "loader/system_firewall.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <tuple>
#include <unistd.h>

#include "loader/system.h"

namespace ptrig {

namespace {

bool is_any(const InterfaceMatch &match) {
	return match.names.empty();
}

/// Which packets come to a chain.
struct Reach {
	InterfaceMatch by;
	std::vector<PortRange> ports; ///< as in NatRule
	std::vector<Prefix> to;
	Protos protos = PTRIG_TCP | PTRIG_UDP;
	bool narrowed = false;

	auto key() const { return std::tie(by.names, by.negated, ports, to, protos, narrowed); }
	bool operator<(const Reach &other) const { return key() < other.key(); }
};

/// Follows the jumps from one base chain.
class Walk {
public:
	Walk(const NatGraph &graph, NatGraph::Hook hook, std::string who, Firewall &firewall)
	    : graph_(graph), hook_(hook), who_(std::move(who)), firewall_(firewall) {}

	void chain(const std::string &name, const Reach &reach) {
		constexpr std::size_t kMostVisits = 100000; // no ruleset of a gateway has as many
		auto it = graph_.chains.find(name);
		if (it == graph_.chains.end() || seen_.size() >= kMostVisits || !seen_.emplace(name, reach).second) {
			return;
		}
		for (const auto &rule : it->second.rules) {
			apply(name, it->second, rule, reach);
		}
	}

private:
	/// The packets of `reach` that this rule is for.
	Reach through(const NatRule &rule, const Reach &reach) const {
		const auto &own = hook_ == NatGraph::Hook::kPrerouting ? rule.in : rule.out;
		return Reach{.by = is_any(own) ? reach.by : own,
			     .ports = rule.ports.empty() ? reach.ports : rule.ports,
			     .to = rule.to.empty() ? reach.to : rule.to,
			     .protos = static_cast<Protos>(reach.protos & rule.protos),
			     .narrowed = reach.narrowed || rule.narrowed};
	}

	void apply(const std::string &name, const NatGraph::Chain &chain_, const NatRule &rule, const Reach &reach) {
		const Reach match = through(rule, reach);
		if (hook_ == NatGraph::Hook::kPrerouting && rule.action == NatRule::Action::kDestination) {
			const bool all = match.ports.empty() && !match.narrowed;
			firewall_.forwards.push_back(PortForward{match.by, match.ports, who_ + " " + name,
								 all ? match.protos : Protos{0}, match.to});
		}
		if (hook_ == NatGraph::Hook::kPostrouting && rule.action == NatRule::Action::kSource) {
			firewall_.source_nat.push_back(SourceNat{match.by});
		}
		for (const auto &target : rule.jumps) {
			chain(target, match);
		}
		for (const auto &[ports, target] : rule.port_jumps) {
			Reach there = match;
			there.ports = ports;
			chain(target, there);
		}
		for (const auto &[by, target] : hook_ == NatGraph::Hook::kPrerouting ? rule.in_jumps : rule.out_jumps) {
			Reach there = match;
			there.by = is_any(by) ? match.by : by;
			chain(target, there);
		}
		if (rule.jumps_anywhere) {
			Reach there = match;
			there.narrowed = true;
			for (const auto &[other, target] : graph_.chains) {
				if (target.table == chain_.table && target.hook == NatGraph::Hook::kNone) {
					chain(other, there);
				}
			}
		}
	}

	const NatGraph &graph_;
	NatGraph::Hook hook_;
	std::string who_;
	Firewall &firewall_;
	std::set<std::pair<std::string, Reach>> seen_;
};

std::string find_program(std::string_view name) {
	for (const char *directory : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/usr/local/sbin/"}) {
		auto path = directory + std::string(name);
		if (access(path.c_str(), X_OK) == 0) {
			return path;
		}
	}
	return {};
}

std::string first_line(const std::string &text) {
	return text.substr(0, text.find('\n'));
}

/// The output of a program that must succeed.
Result<std::string> ask(const std::vector<std::string> &argv) {
	auto output = run_child(argv);
	if (!output) {
		return tl::unexpected(output.error());
	}
	if (output->status != 0) {
		auto why = first_line(output->err);
		return fail("run " + argv.front() + ": " +
			    (why.empty() ? "exit status " + std::to_string(output->status) : why));
	}
	return output->out;
}

Result<Firewall> ask_nft(const std::string &nft) {
	auto ruleset = ask({nft, "-j", "-t", "list", "ruleset"});
	if (!ruleset) {
		return tl::unexpected(ruleset.error());
	}
	constexpr std::size_t kMostSets = 32;
	std::vector<std::string> sets;
	std::vector<SetName> asked;
	while (true) {
		std::vector<SetName> unresolved;
		auto firewall = parse_nft(*ruleset, sets, &unresolved);
		std::erase_if(unresolved, [&](const SetName &set) {
			return std::find(asked.begin(), asked.end(), set) != asked.end();
		});
		if (!firewall || unresolved.empty() || asked.size() >= kMostSets) {
			return firewall;
		}
		for (const auto &set : unresolved) {
			asked.push_back(set);
			auto text =
				ask({nft, "-j", "list", set.is_map ? "map" : "set", set.family, set.table, set.name});
			if (text) {
				sets.push_back(std::move(*text));
			}
		}
	}
}

/// Of legacy iptables; iptables-legacy-save tells only of those that there are.
std::set<std::string> legacy_tables() {
	std::ifstream listed("/proc/thread-self/net/ip_tables_names");
	std::set<std::string> tables;
	for (std::string name; std::getline(listed, name);)
		tables.insert(name);
	return tables;
}

void add(Firewall &firewall, Firewall &&more) {
	firewall.source_nat.insert(firewall.source_nat.end(), more.source_nat.begin(), more.source_nat.end());
	firewall.forwards.insert(firewall.forwards.end(), more.forwards.begin(), more.forwards.end());
	if (firewall.zones.empty()) {
		firewall.zones = std::move(more.zones);
	}
}

void ask_iptables(Firewall &firewall, const char *program, const char *otherwise) {
	auto path = find_program(program);
	auto text = path.empty() ? fail(otherwise) : ask({path});
	if (text) {
		add(firewall, parse_iptables_save(*text));
	} else if (firewall.looked) {
		firewall.looked = false; // a part is not known, so "there is none" cannot be said
		firewall.why_not = text.error().what;
	}
}

} // namespace

bool InterfaceMatch::matches(std::string_view name) const {
	if (names.empty()) {
		return true;
	}
	bool listed = std::any_of(names.begin(), names.end(), [&](const std::string &pattern) {
		return pattern.ends_with('*')
			       ? name.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1))
			       : name == pattern;
	});
	return listed != negated;
}

bool Firewall::masquerades(std::string_view interface) const {
	return std::any_of(source_nat.begin(), source_nat.end(),
			   [&](const SourceNat &rule) { return rule.out.matches(interface); });
}

std::vector<PortRange> Firewall::forwarded_ports(std::string_view interface) const {
	std::vector<PortRange> ports;
	for (const auto &rule : forwards) {
		if (rule.in.matches(interface)) {
			ports.insert(ports.end(), rule.ports.begin(), rule.ports.end());
		}
	}
	std::sort(ports.begin(), ports.end());
	ports.erase(std::unique(ports.begin(), ports.end()), ports.end());
	return ports;
}

void NatGraph::collect(const std::string &who, Firewall &firewall) const {
	for (const auto &[name, chain] : chains) {
		if (chain.hook == Hook::kPrerouting || chain.hook == Hook::kPostrouting) {
			Walk(*this, chain.hook, who, firewall).chain(name, {});
		}
	}
}

Firewall read_firewall() {
	Firewall firewall;
	auto nft = find_program("nft");
	if (nft.empty()) {
		firewall.why_not = "nft is not installed";
	} else if (auto seen = ask_nft(nft)) {
		firewall = std::move(*seen);
		firewall.looked = true;
		if (firewall.has_flow_table) {
			firewall.offloaded = parse_offloaded_devices(ask({nft, "list", "flowtables"}).value_or(""));
		}
	} else {
		firewall.why_not = seen.error().what;
	}
	if (firewall.has_xt) {
		ask_iptables(firewall, "iptables-nft-save",
			     "nftables holds rules of iptables and iptables-nft-save is not installed");
	}
	if (const auto tables = legacy_tables(); tables.count("nat") || tables.count("raw")) {
		ask_iptables(firewall, "iptables-legacy-save",
			     "the kernel holds legacy iptables rules and iptables-legacy-save is not installed");
	}
	return firewall;
}

bool has_legacy_tables() {
	return !legacy_tables().empty();
}

} // namespace ptrig
