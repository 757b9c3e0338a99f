// Which interfaces and addresses a configuration means in the network as it is now. Reads pt_ifaces
// only to keep `wan = "auto"` where it is while there is no default route. Changes nothing.
#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "loader/gateway_impl.h"
#include "loader/system.h"

namespace ptrig {

namespace {

/// As the kernel's dev_valid_name().
bool is_valid_name(const std::string &name) {
	if (name.empty() || name.size() >= IFNAMSIZ || name == "." || name == "..")
		return false;
	return std::none_of(name.begin(), name.end(),
			    [](unsigned char c) { return c == '/' || c == ':' || std::isspace(c); });
}

class Selector {
public:
	Selector(const Config &config, const std::map<std::uint32_t, ptrig_iface> &attached, Wanted &wanted)
	    : config_(config), attached_(attached), wanted_(wanted) {}

	void select() {
		for (const auto &name : config_.gateway.lan)
			add_named("lan", name, PTRIG_IFACE_LAN);
		for (const auto &name : config_.gateway.wan)
			if (name == "auto")
				add_default_route();
			else
				add_named("wan", name, PTRIG_IFACE_WAN);
		check_prefixes();
	}

private:
	void refuse(std::string what) {
		if (!wanted_.wrong)
			wanted_.wrong = Error{Status::kInput, what};
		wanted_.conditions.push_back(std::move(what));
	}
	void add(const Link &link, std::uint32_t role) {
		const auto same = [&](const WantedInterface &other) { return other.link.ifindex == link.ifindex; };
		const auto known = std::find_if(wanted_.interfaces.begin(), wanted_.interfaces.end(), same);
		if (known == wanted_.interfaces.end()) {
			wanted_.interfaces.push_back({link, role | (link.ethernet ? 0U : PTRIG_IFACE_L3)});
			return;
		}
		if (!(known->role & role))
			refuse(fmt::format("{} is both lan and wan", link.name));
	}
	void add_named(const char *side, const std::string &name, std::uint32_t role) {
		if (const Link *link = wanted_.network.find(name)) {
			add(*link, role);
			return;
		}
		wanted_.missing = true;
		wanted_.conditions.push_back(fmt::format("{} {} does not exist yet: waiting for it", side, name));
	}
	void add_default_route() {
		for (const std::uint32_t ifindex : wanted_.network.default_route)
			if (const Link *link = wanted_.network.find(ifindex))
				add(*link, PTRIG_IFACE_WAN);
		if (!wanted_.network.default_route.empty())
			return;
		bool kept = false;
		for (const auto &[ifindex, iface] : attached_)
			if (const Link *link = wanted_.network.find(ifindex); link && iface.flags & PTRIG_IFACE_WAN) {
				add(*link, PTRIG_IFACE_WAN);
				kept = true;
			}
		if (!kept)
			wanted_.conditions.push_back("wan auto: there is no default route: waiting for one");
	}
	void check_prefixes() {
		std::vector<std::string> lan, wan;
		for (const auto &interface : wanted_.interfaces)
			(interface.role & PTRIG_IFACE_LAN ? lan : wan).push_back(interface.link.name);
		if (auto apart = check_overlap(wanted_.network, wan, lan); !apart)
			refuse(apart.error().what);
	}

	const Config &config_;
	const std::map<std::uint32_t, ptrig_iface> &attached_;
	Wanted &wanted_;
};

void collect_addresses(Wanted &wanted) {
	for (const auto &interface : wanted.interfaces) {
		if (!(interface.role & PTRIG_IFACE_WAN))
			continue;
		std::uint32_t primary = 1; // the first is the one that the kernel chooses by itself
		for (const Address &address : wanted.network.addresses_of(interface.link.ifindex)) {
			if (address.scope >= RT_SCOPE_HOST)
				continue;
			wanted.addresses[{interface.link.ifindex, to_net(address.local)}] = primary;
			primary = 0;
		}
	}
}

} // namespace

Done check_names(const GatewayConfig &config) {
	for (const auto *side : {&config.lan, &config.wan})
		for (const auto &name : *side)
			if (!is_valid_name(name))
				return fail(fmt::format("{} `{}`: no interface can have this name (1-15 characters, no "
							"slash, colon or space)",
							side == &config.lan ? "lan" : "wan", name),
					    Status::kInput);
	for (const auto &name : config.lan)
		if (std::find(config.wan.begin(), config.wan.end(), name) != config.wan.end())
			return fail(name + " is both lan and wan", Status::kInput);
	return {};
}

Result<LanEgress> wants_lan_egress(const std::string &dir, const Config &config) {
	const auto state = read_state(dir);
	const auto usage = read_usage(dir);
	if (!state || !usage)
		return tl::unexpected(state ? usage.error() : state.error());
	const bool answers = std::any_of(config.rules.begin(), config.rules.end(), [](const Rule &rule) {
		return rule.enabled && (rule.confirm || rule.close == Close::kConnection);
	});
	return LanEgress{.answers = answers,
			 .fast = config.gateway.datapath != Datapath::kKernel,
			 .rests = state->fast == PTRIG_STATE_FAST_RESTS && usage->sessions == 0};
}

Wanted want_interfaces(const Config &config, Network network, LanEgress lan_egress,
		       const std::map<std::uint32_t, ptrig_iface> &attached) {
	Wanted wanted;
	wanted.network = std::move(network);
	wanted.datapath = config.gateway.datapath;
	wanted.lan_egress = lan_egress;
	Selector(config, attached, wanted).select();
	collect_addresses(wanted);
	return wanted;
}

std::vector<std::string> notes_of(const Wanted &wanted, const std::vector<std::string> &conditions) {
	std::vector<std::string> notes = conditions;
	if (wanted.missing)
		notes.push_back("interfaces there are: " + wanted.network.describe());
	return notes;
}

Result<std::map<std::uint32_t, ptrig_iface>> read_ifaces(const std::string &dir) {
	auto map = Map<std::uint32_t, ptrig_iface>::open(dir, "pt_ifaces", Access::kRead);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	std::map<std::uint32_t, ptrig_iface> ifaces;
	auto done = map->each([&](std::uint32_t ifindex, const ptrig_iface &iface) { ifaces[ifindex] = iface; });
	if (!done)
		return tl::unexpected(std::move(done.error()));
	return ifaces;
}

} // namespace ptrig
