// NAT rules from the text of iptables-save. Pure.
#include <algorithm>
#include <charconv>
#include <sstream>

#include "include/ptrig/abi.h"
#include "loader/system_firewall.h"

namespace ptrig {

namespace {

/// Words as a shell would split them: a comment may hold blanks inside quotes.
std::vector<std::string> split_words(const std::string &line) {
	std::vector<std::string> words;
	std::string word;
	bool quoted = false, begun = false;
	for (std::size_t i = 0; i < line.size(); ++i) {
		char c = line[i];
		if (c == '"') {
			quoted = !quoted;
			begun = true;
		} else if (c == '\\' && quoted && i + 1 < line.size()) {
			word += line[++i];
		} else if ((c == ' ' || c == '\t') && !quoted) {
			if (begun) {
				words.push_back(std::exchange(word, {}));
			}
			begun = false;
		} else {
			word += c;
			begun = true;
		}
	}
	if (begun) {
		words.push_back(word);
	}
	return words;
}

/// "80", "1000:1010", "80,443,1000:1010".
std::vector<PortRange> parse_ports(const std::string &text, Protos protos) {
	std::vector<PortRange> ports;
	std::istringstream list(text);
	for (std::string item; std::getline(list, item, ',');) {
		PortRange range{.first = 0, .last = 0, .protos = protos};
		const char *end = item.data() + item.size();
		auto first = std::from_chars(item.data(), end, range.first);
		range.last = range.first;
		bool good = first.ec == std::errc();
		if (good && first.ptr != end) {
			good = *first.ptr == ':' && std::from_chars(first.ptr + 1, end, range.last).ec == std::errc();
		}
		if (good && range.first != 0 && range.first <= range.last) {
			ports.push_back(range);
		}
	}
	return ports;
}

InterfaceMatch interface(std::string name, bool negated) {
	if (name.ends_with('+')) {
		name.back() = '*';
	}
	return InterfaceMatch{{std::move(name)}, negated};
}

struct Options {
	Protos protos = PTRIG_TCP | PTRIG_UDP;
	std::string ports;
	bool ports_negated = false;
	std::string target;
	NatRule rule;
};

/// Of whom a rule is, it says nothing: a module's name, a comment, where packets are sent, `-m addrtype --dst-type
/// LOCAL`.
bool says_nothing(const std::string &key, const std::string &value) {
	return key == "-m" || key == "--comment" || key.starts_with("--to-") || key == "--random" ||
	       key == "--persistent" || (key == "--dst-type" && value == "LOCAL") ||
	       ((key == "--ctstate" || key == "--state") && value.find("NEW") != std::string::npos);
}

void option(Options &options, const std::string &key, const std::string &value, bool negated) {
	if (key == "-i") {
		options.rule.in = interface(value, negated);
	} else if (key == "-o") {
		options.rule.out = interface(value, negated);
	} else if (key == "-p" && !negated) {
		options.protos = value == "tcp" || value == "6"    ? PTRIG_TCP
				 : value == "udp" || value == "17" ? PTRIG_UDP
				 : value == "all"                  ? PTRIG_TCP | PTRIG_UDP
								   : 0;
	} else if (key == "--dport" || key == "--dports" || key == "--ports") {
		options.ports = value;
		options.ports_negated = negated;
	} else if (key == "-j" || key == "-g") {
		options.target = value;
	} else if (key == "-d" && !negated) {
		if (const auto to = parse_prefix(value)) {
			options.rule.to.push_back(*to);
		}
	} else if (key.starts_with('-') && !says_nothing(key, value)) {
		options.rule.narrowed = true;
	}
}

/// "-A CHAIN -i wan0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1"
void add_rule(NatGraph &graph, const std::vector<std::string> &words) {
	Options options;
	bool negated = false;
	for (std::size_t i = 2; i < words.size(); ++i) {
		if (words[i] == "!") {
			negated = true;
			continue;
		}
		if (i + 1 < words.size()) {
			option(options, words[i], words[i + 1], negated);
		}
		negated = false;
	}
	auto &rule = options.rule;
	rule.protos = options.protos;
	if (options.protos != 0 && !options.ports_negated) {
		rule.ports = parse_ports(options.ports, options.protos);
	}
	rule.narrowed |= !options.ports.empty() && rule.ports.empty();
	const auto &target = options.target;
	if (target == "MASQUERADE" || target == "SNAT") {
		rule.action = NatRule::Action::kSource;
	} else if (target == "DNAT" || target == "REDIRECT") {
		rule.action = NatRule::Action::kDestination;
	} else if (!target.empty()) {
		rule.jumps.push_back(target); // to a chain; other targets are chains that do not exist
	}
	graph.chains[words[1]].rules.push_back(std::move(rule));
}

} // namespace

Firewall parse_iptables_save(std::string_view text) {
	Firewall firewall;
	firewall.looked = true;
	NatGraph graph;
	bool nat = false;
	std::istringstream lines{std::string(text)};
	for (std::string line; std::getline(lines, line);) {
		if (line.starts_with('*')) {
			nat = line == "*nat";
			continue;
		}
		if (line.find(" --zone") != std::string::npos && line.find(" -j CT ") != std::string::npos) {
			firewall.zones = "iptables raw";
		}
		if (!nat) {
			continue;
		}
		auto words = split_words(line);
		if (words.size() > 1 && words[0] == "-A") {
			add_rule(graph, words);
		} else if (!words.empty() && words[0].starts_with(':')) {
			auto name = words[0].substr(1);
			graph.chains[name].hook = name == "PREROUTING"                  ? NatGraph::Hook::kPrerouting
						  : name == "POSTROUTING"               ? NatGraph::Hook::kPostrouting
						  : name == "INPUT" || name == "OUTPUT" ? NatGraph::Hook::kOther
											: NatGraph::Hook::kNone;
		}
	}
	graph.collect("iptables", firewall);
	return firewall;
}

} // namespace ptrig
