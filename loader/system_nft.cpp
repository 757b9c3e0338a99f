// NAT rules from nft's JSON (libnftables-json(5)). Pure.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "include/ptrig/abi.h"
#include "loader/system_firewall.h"

namespace ptrig {

namespace {

using nlohmann::json;

constexpr Protos kBoth = PTRIG_TCP | PTRIG_UDP;

std::string text(const json &object, const char *key) {
	auto it = object.find(key);
	return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

/// The member, or null.
const json &member(const json &object, const char *key) {
	static const json nothing;
	if (!object.is_object()) {
		return nothing;
	}
	auto it = object.find(key);
	return it == object.end() ? nothing : *it;
}

/// An element may be wrapped with its timeout or comment: {"elem": {"val": 80, "timeout": 60}}.
const json &unwrap(const json &element) {
	const auto &inner = member(member(element, "elem"), "val");
	return inner.is_null() ? element : inner;
}

bool is_payload(const json &left, const char *field) {
	return text(member(left, "payload"), "field") == field;
}
bool is_dport(const json &left) {
	return is_payload(left, "dport");
}
bool is_meta(const json &left, const char *key, const char *alias = "") {
	auto name = text(member(left, "meta"), "key");
	return name == key || (!name.empty() && name == alias);
}
bool is_l4proto(const json &left) {
	return is_meta(left, "l4proto") || (is_payload(left, "protocol"));
}

Protos protocol(const json &value) {
	if (value.is_string()) {
		return value == "tcp" ? PTRIG_TCP : value == "udp" ? PTRIG_UDP : 0;
	}
	return value == 6 ? PTRIG_TCP : value == 17 ? PTRIG_UDP : 0;
}

/// Of `tcp dport`, `udp dport`; for `th dport` what the rest of the rule says.
Protos protocol_of(const json &left, Protos rest) {
	auto named = text(member(left, "payload"), "protocol");
	return named == "th" ? rest : protocol(named);
}

void add_ports(const json &value, Protos protos, std::vector<PortRange> &ports) {
	const auto &element = unwrap(value);
	auto port = [](const json &number) {
		auto wide = number.is_number_integer() ? number.get<std::int64_t>() : 0;
		return static_cast<std::uint16_t>(wide > 0 && wide < 65536 ? wide : 0);
	};
	std::uint16_t first = port(element), last = first;
	if (const auto &range = member(element, "range"); range.is_array() && range.size() == 2) {
		first = port(range[0]);
		last = port(range[1]);
	}
	if (protos != 0 && first != 0 && first <= last) {
		ports.push_back(PortRange{first, last, protos});
	}
}

class Parser {
public:
	explicit Parser(std::vector<SetName> *unresolved) : unresolved_(unresolved) {}

	void objects(const json &document) {
		for (const auto &object : member(document, "nftables")) {
			for (const char *kind : {"set", "map"}) {
				const auto &set = member(object, kind);
				if (set.is_object()) {
					sets_[key(set, text(set, "name"))] = Set{member(set, "elem"), kind[0] == 'm'};
				}
			}
		}
	}
	void rules(const json &document, Firewall &firewall) {
		for (const auto &object : member(document, "nftables")) {
			firewall.has_flow_table |= member(object, "flowtable").is_object();
			if (const auto &chain = member(object, "chain"); chain.is_object()) {
				add_chain(chain);
			}
			if (const auto &rule = member(object, "rule"); rule.is_object()) {
				add_rule(rule, firewall);
			}
		}
		graph_.collect("nftables", firewall);
	}

private:
	struct Set {
		json elements; ///< null: not listed
		bool is_map = false;
	};

	static std::string key(const json &object, const std::string &name) {
		return text(object, "family") + " " + text(object, "table") + " " + name;
	}

	void add_chain(const json &chain) {
		auto &entry = graph_.chains[key(chain, text(chain, "name"))];
		entry.table = text(chain, "family") + " " + text(chain, "table");
		auto hook = text(chain, "hook"), family = text(chain, "family");
		if (!hook.empty()) {
			bool ours = family == "ip" || family == "inet";
			entry.hook = ours && hook == "prerouting"    ? NatGraph::Hook::kPrerouting
				     : ours && hook == "postrouting" ? NatGraph::Hook::kPostrouting
								     : NatGraph::Hook::kOther;
		}
	}

	/// What a match's right side or a map's data stands for, as a list; null if it is not known.
	json values(const json &right) {
		if (right.is_string() && right.get_ref<const std::string &>().starts_with('@')) {
			auto name = right.get<std::string>().substr(1);
			auto it = sets_.find(key(*rule_, name));
			if (it == sets_.end()) {
				return {};
			}
			if (it->second.elements.is_null() && unresolved_ != nullptr) {
				SetName set{text(*rule_, "family"), text(*rule_, "table"), name, it->second.is_map};
				if (std::find(unresolved_->begin(), unresolved_->end(), set) == unresolved_->end()) {
					unresolved_->push_back(std::move(set));
				}
			}
			return it->second.elements;
		}
		if (const auto &set = member(right, "set"); !set.is_null()) {
			return set.is_array() ? set : json::array({set});
		}
		return json::array({right});
	}

	InterfaceMatch interfaces(const json &right, bool negated) {
		InterfaceMatch match{.names = {}, .negated = negated};
		auto list = values(right);
		for (const auto &value : list) {
			const auto &name = unwrap(value);
			if (!name.is_string()) {
				return {}; // an index or a range: could be any
			}
			match.names.push_back(name.get<std::string>());
		}
		return match.names.empty() ? InterfaceMatch{} : match;
	}

	Protos protocols(const json &right) {
		Protos protos = 0;
		auto list = values(right);
		for (const auto &value : list) {
			protos |= protocol(unwrap(value));
		}
		return list.is_null() ? kBoth : protos;
	}

	void add_match(const json &match, NatRule &rule, Protos &rest) {
		const auto &left = member(match, "left");
		const auto &right = member(match, "right");
		bool negated = text(match, "op") == "!=";
		if (is_meta(left, "iifname", "iif")) {
			rule.in = interfaces(right, negated);
		} else if (is_meta(left, "oifname", "oif")) {
			rule.out = interfaces(right, negated);
		} else if (is_l4proto(left) && !negated) {
			rest = protocols(right);
		} else if (is_dport(left) && !negated) {
			auto list = values(right);
			for (const auto &value : list) {
				add_ports(value, protocol_of(left, rest), rule.ports);
			}
			rule.narrowed |= rule.ports.empty();
		} else if (text(member(left, "payload"), "protocol") == "ip" && is_payload(left, "daddr") && !negated) {
			add_destinations(right, rule);
		} else {
			rule.narrowed |= !is_of_every_first_packet(left);
		}
	}

	/// What the first packet from whoever to a WAN address has: `ct state new`, `fib daddr type local`, `meta
	/// nfproto`.
	static bool is_of_every_first_packet(const json &left) {
		return text(member(left, "ct"), "key") == "state" || text(member(left, "fib"), "result") == "type" ||
		       is_meta(left, "nfproto");
	}

	void add_destinations(const json &right, NatRule &rule) {
		auto list = values(right);
		for (const auto &value : list) {
			const auto &element = unwrap(value);
			const auto &prefix = member(element, "prefix");
			auto written = element.is_string() ? element.get<std::string>() : text(prefix, "addr");
			if (const auto &bits = member(prefix, "len"); bits.is_number_unsigned()) {
				written += "/" + std::to_string(bits.get<unsigned>());
			}
			if (auto parsed = parse_prefix(written)) {
				rule.to.push_back(*parsed);
			} else {
				rule.narrowed = true;
			}
		}
		rule.narrowed |= rule.to.empty();
	}

	/// `dnat to tcp dport map {...}`: the ports are the map's keys, perhaps beside other things.
	void add_map(const json &map, NatRule &rule, Protos rest) {
		const auto &by = member(map, "key");
		auto list = values(member(map, "data"));
		for (const auto &pair : list) {
			if (pair.is_array() && !pair.empty()) {
				auto ports = ports_of_element(by, unwrap(pair[0]), rest);
				rule.ports.insert(rule.ports.end(), ports.begin(), ports.end());
			}
		}
		rule.narrowed |= rule.ports.empty(); // by something else, such as the address
	}

	void add_concat(const json &parts, const json &values, NatRule &rule, Protos rest) {
		for (std::size_t i = 0; i < parts.size(); ++i) {
			if (is_l4proto(parts[i])) {
				rest = protocol(values[i]);
			}
		}
		for (std::size_t i = 0; i < parts.size(); ++i) {
			if (is_dport(parts[i])) {
				add_ports(values[i], protocol_of(parts[i], rest), rule.ports);
			}
		}
	}

	void add_jump(const json &verdict, std::vector<std::string> &jumps) {
		for (const char *kind : {"jump", "goto"}) {
			auto target = text(member(verdict, kind), "target");
			if (!target.empty()) {
				jumps.push_back(key(*rule_, target));
			}
		}
	}

	/// The ports among a map's key, of one element: `tcp dport`, or `meta l4proto . th dport`.
	std::vector<PortRange> ports_of_element(const json &by, const json &from, Protos rest) {
		NatRule found;
		const auto &parts = member(by, "concat");
		const auto &values = member(from, "concat");
		if (is_dport(by)) {
			add_ports(from, protocol_of(by, rest), found.ports);
		} else if (parts.is_array() && values.is_array() && parts.size() == values.size()) {
			add_concat(parts, values, found, rest);
		}
		return found.ports;
	}

	void add_verdict_map(const json &vmap, NatRule &rule, Protos rest) {
		const auto &by = member(vmap, "key");
		auto list = values(member(vmap, "data"));
		rule.jumps_anywhere |= list.is_null();
		for (const auto &pair : list) {
			if (!pair.is_array() || pair.size() != 2) {
				continue;
			}
			std::vector<std::string> targets;
			add_jump(pair[1], targets);
			for (const auto &target : targets) {
				if (auto ports = ports_of_element(by, unwrap(pair[0]), rest); !ports.empty()) {
					rule.port_jumps.emplace_back(std::move(ports), target);
				} else if (is_meta(by, "iifname", "iif")) {
					rule.in_jumps.emplace_back(interfaces(unwrap(pair[0]), false), target);
				} else if (is_meta(by, "oifname", "oif")) {
					rule.out_jumps.emplace_back(interfaces(unwrap(pair[0]), false), target);
				} else {
					rule.narrowed =
						true; // by something else; of a rule with such a map that is all
					rule.jumps.push_back(target);
				}
			}
		}
	}

	void add_statement(const json &statement, NatRule &rule, Protos &rest, Firewall &firewall) {
		if (statement.contains("match")) {
			add_match(statement["match"], rule, rest);
		} else if (statement.contains("masquerade") || statement.contains("snat")) {
			rule.action = NatRule::Action::kSource;
		} else if (statement.contains("dnat") || statement.contains("redirect")) {
			rule.action = NatRule::Action::kDestination;
			const auto &target = member(statement, "dnat");
			for (const char *part : {"addr", "port"}) {
				if (const auto &map = member(member(target, part), "map"); !map.is_null()) {
					add_map(map, rule, rest);
				}
			}
		} else if (statement.contains("vmap")) {
			add_verdict_map(statement["vmap"], rule, rest);
		} else if (statement.contains("xt")) {
			firewall.has_xt = true;
		}
		add_jump(statement, rule.jumps);
	}

	/// `ct zone set`, in whatever chain. Zone 0 is that of all flows without one.
	static void look_for_zone(const json &object, Firewall &firewall) {
		for (const auto &statement : member(object, "expr")) {
			const auto &mangle = member(statement, "mangle");
			if (text(member(member(mangle, "key"), "ct"), "key") == "zone" &&
			    member(mangle, "value") != 0 && firewall.zones.empty()) {
				firewall.zones = "nftables " + key(object, text(object, "chain"));
			}
		}
	}

	void add_rule(const json &object, Firewall &firewall) {
		auto family = text(object, "family");
		if (family != "ip6") {
			look_for_zone(object, firewall);
		}
		if (family != "ip" && family != "inet") {
			return;
		}
		rule_ = &object;
		NatRule rule;
		Protos rest = kBoth;
		for (const auto &statement : member(object, "expr")) {
			if (statement.is_object()) {
				add_statement(statement, rule, rest, firewall);
			}
		}
		rule.protos = rest;
		graph_.chains[key(object, text(object, "chain"))].rules.push_back(std::move(rule));
	}

	std::vector<SetName> *unresolved_;
	std::map<std::string, Set> sets_;
	NatGraph graph_;
	const json *rule_ = nullptr; ///< the rule whose table names are looked up in
};

} // namespace

Result<Firewall> parse_nft(std::string_view ruleset, const std::vector<std::string> &sets,
			   std::vector<SetName> *unresolved) {
	Firewall firewall;
	firewall.looked = true;
	Parser parser(unresolved);
	auto document = json::parse(ruleset, nullptr, false);
	if (!document.is_object() || !member(document, "nftables").is_array()) {
		return fail("read the nftables ruleset: not what nft -j prints");
	}
	parser.objects(document);
	for (const auto &set : sets) {
		parser.objects(json::parse(set, nullptr, false));
	}
	parser.rules(document, firewall);
	return firewall;
}

std::vector<std::string> parse_offloaded_devices(std::string_view text) {
	std::vector<std::string> devices, offloaded;
	std::istringstream lines{std::string(text)};
	for (std::string line; std::getline(lines, line);) {
		std::istringstream words(line);
		std::string word;
		words >> word;
		if (word == "flowtable") {
			devices.clear();
		} else if (word == "devices") { // devices = { eth0, "eth1" }
			while (words >> word) {
				std::erase_if(word, [](char c) { return c == ',' || c == '"'; });
				if (word != "=" && word != "{" && word != "}") {
					devices.push_back(word);
				}
			}
		} else if (word == "flags" && line.find("offload") != std::string::npos) {
			offloaded.insert(offloaded.end(), devices.begin(), devices.end());
		}
	}
	return offloaded;
}

} // namespace ptrig
