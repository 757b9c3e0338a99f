// What an administrator should be told of the facts: one line a warning. Pure.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "include/ptrig/abi.h"
#include "loader/system.h"

namespace ptrig {

namespace {

bool intersect(const PortRange &a, const PortRange &b) {
	return (a.protos & b.protos) != 0 && a.first <= b.last && b.first <= a.last;
}

bool intersects_any(const PortRange &range, const std::vector<PortRange> &list) {
	return std::any_of(list.begin(), list.end(), [&](const PortRange &other) { return intersect(range, other); });
}

/// "1000, 1001 and 7 more", of values already printed.
std::string shortened(const std::vector<std::string> &items) {
	constexpr std::size_t kMost = 8;
	if (items.size() <= kMost) {
		return fmt::format("{}", fmt::join(items, ", "));
	}
	return fmt::format("{} and {} more", fmt::join(items.begin(), items.begin() + kMost, ", "),
			   items.size() - kMost);
}

void warn_forwarding(const GatewayFacts &facts, std::vector<std::string> &warnings) {
	auto off = [&](const std::string &name) {
		auto it = facts.forwarding.find(name);
		return it != facts.forwarding.end() && !it->second;
	};
	if (off("all")) {
		warnings.push_back("IPv4 forwarding is off: nothing reaches the WAN and nothing triggers "
				   "(sysctl net.ipv4.ip_forward=1)");
		return;
	}
	for (const auto *side : {&facts.wan, &facts.lan}) {
		for (const auto &name : *side) {
			if (off(name)) {
				warnings.push_back(fmt::format("IPv4 forwarding is off on {} "
							       "(sysctl net/ipv4/conf/{}/forwarding=1)",
							       name, name));
			}
		}
	}
}

void warn_masquerade(const GatewayFacts &facts, std::vector<std::string> &warnings) {
	for (const auto &name : facts.wan) {
		if (facts.firewall.masquerades(name)) {
			continue;
		}
		if (facts.firewall.looked) {
			warnings.push_back(
				fmt::format("no masquerade or snat rule found for {}: LAN hosts' packets leave with "
					    "their private addresses",
					    name));
		} else {
			warnings.push_back(fmt::format("whether {} masquerades could not be looked at: {}", name,
						       facts.firewall.why_not));
		}
	}
}

void warn_addresses(const GatewayFacts &facts, std::vector<std::string> &warnings) {
	for (const auto &name : facts.wan) {
		auto addresses = facts.network.addresses_of(facts.network.find(name)->ifindex);
		if (addresses.empty()) {
			warnings.push_back(fmt::format("{} has no IPv4 address", name));
		}
		bool global = std::any_of(addresses.begin(), addresses.end(), [](const Address &address) {
			return !is_private(address.local) && !is_shared_space(address.local);
		});
		for (const auto &address : addresses) {
			if (global) {
				break; // a private one beside it is the modem's management net, not the way out
			}
			bool shared = is_shared_space(address.local);
			warnings.push_back(
				fmt::format("{} has the {} address {}: another NAT is in front of this gateway{}", name,
					    shared ? "shared (100.64.0.0/10)" : "private", to_string(address.local),
					    shared ? ", the provider's; nothing from the internet reaches an open port"
						   : "; it must forward the open ports to here"));
		}
	}
}

void warn_bridges(const GatewayFacts &facts, std::vector<std::string> &warnings) {
	for (const auto *side : {&facts.lan, &facts.wan}) {
		for (const auto &name : *side) {
			if (auto warning = bridge_member_warning(facts.network, name)) {
				warnings.push_back(*warning);
			}
		}
	}
}

void warn_shaping(const GatewayFacts &facts, std::vector<std::string> &warnings) {
	for (const auto &[name, shaping] : facts.shaping) {
		if (facts.xdp.empty()) {
			return;
		}
		if (!shaping.egress.empty()) {
			warnings.push_back(fmt::format(
				"{} is shaped by {}: sessions towards it stay in TC, as XDP would bypass it", name,
				shaping.egress));
		}
		bool runs_xdp = std::find(facts.xdp.begin(), facts.xdp.end(), name) != facts.xdp.end();
		if (!shaping.ingress.empty() && runs_xdp) {
			warnings.push_back(fmt::format("packets from {} are redirected to {}, which XDP on {} bypasses "
						       "(datapath = \"tc\" does not)",
						       name, shaping.ingress, name));
		}
	}
}

void warn_offload(const GatewayFacts &facts, std::vector<std::string> &warnings) {
	for (const auto *side : {&facts.wan, &facts.lan}) {
		for (const auto &name : *side) {
			const auto &offloaded = facts.firewall.offloaded;
			if (std::find(offloaded.begin(), offloaded.end(), name) != offloaded.end()) {
				warnings.push_back(
					fmt::format("a flow table of nftables leaves flows of {} to the hardware: what "
						    "it forwards refreshes no lease (remove `flags offload`)",
						    name));
			}
		}
	}
}

void warn_exposed_host(const GatewayFacts &facts, std::vector<std::string> &warnings) {
	for (const auto &name : facts.wan) {
		auto addresses = facts.network.addresses_of(facts.network.find(name)->ifindex);
		auto is_to = [&](const Prefix &to) {
			return std::any_of(addresses.begin(), addresses.end(),
					   [&](const Address &address) { return to.contains(address.local); });
		};
		for (const auto &forward : facts.firewall.forwards) {
			bool here = forward.to.empty() || std::any_of(forward.to.begin(), forward.to.end(), is_to);
			if (forward.all == 0 || !here || !forward.in.matches(name)) {
				continue;
			}
			bool both = forward.all == (PTRIG_TCP | PTRIG_UDP);
			warnings.push_back(fmt::format(
				"the firewall sends every {}port of {} to one place (a DMZ; {}): a port that a lease "
				"opens "
				"leads to the lease's host as long as the lease lives, and there again afterwards",
				both                       ? ""
				: forward.all == PTRIG_TCP ? "tcp "
							   : "udp ",
				name, forward.where));
			break;
		}
	}
}

void warn_zones(const GatewayFacts &facts, std::vector<std::string> &warnings) {
	if (!facts.firewall.zones.empty() && facts.conntrack_zone == 0) {
		warnings.push_back(
			fmt::format("the firewall sets conntrack zones ({}), and these are not seen by ptrig: flows in "
				    "a zone other than 0 are not known to it, and packets of theirs to an open "
				    "port go to the lease's host; where LAN and WAN are in one zone, name it in "
				    "[gateway] conntrack_zone",
				    facts.firewall.zones));
	}
}

/// Open ports of one rule that somebody else uses too.
class PortWarnings {
public:
	PortWarnings(const GatewayFacts &facts, const std::vector<PortRange> &reserved,
		     std::vector<std::string> &warnings)
	    : facts_(facts), reserved_(reserved), warnings_(warnings) {
		for (const auto &name : facts.wan) {
			auto ports = facts.firewall.forwarded_ports(name);
			forwarded_.insert(forwarded_.end(), ports.begin(), ports.end());
		}
	}

	void look(const Rule &rule) {
		std::vector<std::string> forwarded, listened, given_out;
		for (const auto &range : forwarded_) {
			add(rule, range, to_string(range), forwarded);
		}
		for (const auto &listener : facts_.listeners) {
			PortRange port{listener.port, listener.port, listener.proto};
			add(rule, port, to_string(port), listened);
		}
		for (const auto &lease : facts_.upnp) {
			add(rule, lease.port, to_string(lease.port) + " to " + to_string(lease.host), given_out);
		}
		tell(rule, "the firewall forwards too", forwarded,
		     "; which of them gets a packet cannot be told (list them in `reserved`)");
		tell(rule, "the gateway itself listens on", listened, "; its own sockets get the packets");
		tell(rule, "miniupnpd has given out", given_out, " (list them in `reserved`)");
	}

private:
	void add(const Rule &rule, const PortRange &range, const std::string &text, std::vector<std::string> &list) {
		bool opened = std::any_of(rule.open.begin(), rule.open.end(),
					  [&](const OpenRange &open) { return intersect(open.wan, range); });
		if (opened && !intersects_any(range, reserved_) &&
		    std::find(list.begin(), list.end(), text) == list.end()) {
			list.push_back(text);
		}
	}
	void tell(const Rule &rule, const char *what, const std::vector<std::string> &ports, const char *so) {
		if (!ports.empty()) {
			warnings_.push_back(fmt::format("rule {} opens ports that {}: {}{}", rule.name, what,
							shortened(ports), so));
		}
	}

	const GatewayFacts &facts_;
	const std::vector<PortRange> &reserved_;
	std::vector<std::string> &warnings_;
	std::vector<PortRange> forwarded_;
};

} // namespace

std::vector<std::string> gateway_warnings(const GatewayFacts &facts, const std::vector<Rule> &rules,
					  const std::vector<PortRange> &reserved) {
	std::vector<std::string> warnings;
	warn_forwarding(facts, warnings);
	warn_masquerade(facts, warnings);
	warn_addresses(facts, warnings);
	warn_bridges(facts, warnings);
	warn_shaping(facts, warnings);
	warn_offload(facts, warnings);
	PortWarnings ports(facts, reserved, warnings);
	bool any = false;
	for (const auto &rule : rules) {
		if (rule.enabled) {
			any = true;
			ports.look(rule);
		}
	}
	if (any) {
		auto more = firewall_warnings(facts);
		warnings.insert(warnings.end(), more.begin(), more.end());
	}
	if (any && facts.miniupnpd_runs && facts.upnp.empty()) {
		warnings.push_back(
			"miniupnpd runs and its leases could not be found: ports that it gives out may be ones that "
			"rules open");
	}
	for (const auto &unread : facts.unread) {
		warnings.push_back("could not be looked at: " + unread);
	}
	return warnings;
}

std::vector<std::string> firewall_warnings(const GatewayFacts &facts) {
	std::vector<std::string> warnings;
	warn_exposed_host(facts, warnings);
	warn_zones(facts, warnings);
	return warnings;
}

Done check_overlap(const Network &network, const std::vector<std::string> &wan, const std::vector<std::string> &lan) {
	for (const auto &lan_name : lan) {
		const auto *lan_link = network.find(lan_name);
		for (const auto &wan_name : wan) {
			const auto *wan_link = network.find(wan_name);
			if (lan_link == nullptr || wan_link == nullptr) {
				continue;
			}
			if (lan_name == wan_name) {
				return fail(lan_name + " is named as LAN and as WAN", Status::kInput);
			}
			for (const auto &inner : network.addresses_of(lan_link->ifindex)) {
				for (const auto &outer : network.addresses_of(wan_link->ifindex)) {
					if (inner.on_link.overlaps(outer.on_link) ||
					    inner.on_link.contains(outer.local)) {
						return fail(fmt::format(
							"LAN {} ({}) and WAN {} ({}) overlap: one of them needs "
							"other addresses (RFC 4787 REQ-7)",
							lan_name, to_string(inner.on_link), wan_name,
							to_string(outer.on_link)));
					}
				}
			}
		}
	}
	return {};
}

std::optional<std::string> bridge_member_warning(const Network &network, std::string_view name) {
	const auto *link = network.find(name);
	if (link == nullptr || link->slave_kind != "bridge") {
		return std::nullopt;
	}
	const auto *bridge = network.find(link->master);
	return fmt::format("{} is a member of the bridge {}: name {} instead", name,
			   bridge == nullptr ? "?" : bridge->name, bridge == nullptr ? "that" : bridge->name);
}

} // namespace ptrig
