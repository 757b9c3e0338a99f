// What the gateway and its rules have seen and done: counters, limits, and every warning that explains an
// empty lease list.
#include <algorithm>

#include <fmt/format.h>
#include <linux/rtnetlink.h>

#include "loader/classifier.h"
#include "loader/gateway_impl.h"
#include "loader/rule_file.h"
#include "loader/system.h"
#include "loader/xdp.h"

namespace ptrig {

namespace {

/// The sum over all CPUs of what the rule has counted since it got its id.
ptrig_hits sum_hits(const std::vector<ptrig_hits> &cpus, std::uint32_t id) {
	ptrig_hits sum{};
	for (const ptrig_hits &hits : cpus) {
		if (hits.id != id)
			continue;
		sum.triggers += hits.triggers;
		sum.granted += hits.granted;
		for (unsigned i = 0; i < PTRIG_REFUSALS; i++)
			sum.refused[i] += hits.refused[i];
	}
	return sum;
}

std::vector<RefusedCount> refusals_of(const ptrig_hits &hits) {
	std::vector<RefusedCount> refused;
	for (unsigned i = 0; i < PTRIG_REFUSALS; i++)
		if (hits.refused[i])
			refused.push_back({reason_name(PTRIG_FLAGS + i), hits.refused[i]});
	return refused;
}

std::optional<LastTrigger> last_of(const std::optional<ptrig_last> &last, std::uint32_t id, std::uint64_t now) {
	if (!last || last->id != id || !last->time_ns)
		return std::nullopt;
	return LastTrigger{ip_from_net(last->host), ip_from_net(last->remote),
			   seconds_of(elapsed_ns(now, last->time_ns)), reason_name(last->reason)};
}

Result<std::vector<RefusedCount>> read_counters(const std::string &dir) {
	auto map = PerCpuMap<std::uint32_t, std::uint64_t>::open(dir, "pt_counters", Access::kRead);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	std::vector<RefusedCount> counters;
	for (std::uint32_t reason = 0; reason < PTRIG_REASON_COUNT; reason++) {
		auto cpus = map->lookup(reason);
		if (!cpus)
			return tl::unexpected(std::move(cpus.error()));
		std::uint64_t sum = 0;
		for (const std::uint64_t count : *cpus)
			sum += count;
		if (sum)
			counters.push_back({reason_name(reason), sum});
	}
	return counters;
}

/// Interfaces of one side, by the names of the configuration and what is attached.
class Sides {
public:
	Sides(const std::string &dir, const Network &network, const std::map<std::uint32_t, ptrig_iface> &ifaces,
	      Datapath wanted)
	    : dir_(dir), network_(network), ifaces_(ifaces), wanted_(wanted) {}

	std::vector<InterfaceView> views(const std::vector<std::string> &names, std::uint32_t role) const {
		std::vector<InterfaceView> views;
		for (const auto &name : names)
			if (name != "auto")
				views.push_back(view(network_.find(name), name, role));
		if (std::find(names.begin(), names.end(), "auto") == names.end())
			return views;
		std::size_t found = 0;
		for (const auto &[ifindex, iface] : ifaces_) {
			const Link *link = network_.find(ifindex);
			if (!link || !(iface.flags & role))
				continue;
			found++;
			const auto same = [&](const InterfaceView &other) { return other.ifindex == link->ifindex; };
			if (std::none_of(views.begin(), views.end(), same))
				views.push_back(view(link, link->name, role));
		}
		if (!found)
			views.push_back(view(nullptr, "auto", role));
		return views;
	}
	std::vector<std::string> warnings(const std::vector<InterfaceView> &views, LanEgress lan_egress) const {
		std::vector<std::string> warnings;
		for (const auto &view : views) {
			if (view.datapath == "waiting") {
				warnings.push_back(waiting(view.name));
				continue;
			}
			const auto iface = ifaces_.find(view.ifindex);
			if (const Link *link = network_.find(view.ifindex); link && iface != ifaces_.end())
				for (auto &warning : place_warnings(dir_, *link, iface->second.flags, lan_egress))
					warnings.push_back(std::move(warning));
		}
		return warnings;
	}

private:
	std::string waiting(const std::string &name) const {
		if (name == "auto")
			return "wan auto: waiting for a default route";
		if (network_.find(name))
			return name +
			       ": nothing is attached to it yet (the daemon or `ptrig up` does, and says why if it "
			       "cannot)";
		return fmt::format("{}: waiting for this interface (there are: {})", name, network_.describe());
	}
	std::string why_not_more(const Link &link, const ptrig_iface &entry) const {
		if (wanted_ == Datapath::kKernel || entry.flags & PTRIG_IFACE_XDP_IN)
			return "";
		if (!(entry.flags & PTRIG_IFACE_FAST_IN)) {
			const auto there = classifier_query({dir_, link.ifindex, TcSide::kIngress});
			return there && !there->others.empty() ? there->others + " is there" : "";
		}
		if (wanted_ == Datapath::kTc)
			return "";
		XdpContext context;
		context.trunk = network_.is_trunk(link.ifindex);
		context.features = xdp_features(link.ifindex).value_or(std::nullopt);
		const XdpChoice choice = xdp_auto(link, context);
		return "no XDP: " + (choice.use ? "it could not be attached" : choice.why);
	}
	InterfaceView view(const Link *link, const std::string &name, std::uint32_t role) const {
		InterfaceView view{.name = name, .datapath = "waiting", .addresses = {}, .why = {}};
		const auto iface = link ? ifaces_.find(link->ifindex) : ifaces_.end();
		if (iface == ifaces_.end() || !(iface->second.flags & role))
			return view;
		view.ifindex = link->ifindex;
		view.datapath = datapath_name(iface->second);
		view.why = why_not_more(*link, iface->second);
		for (const Address &address : network_.addresses_of(link->ifindex))
			view.addresses.push_back(to_string(address.local));
		return view;
	}

	const std::string &dir_;
	const Network &network_;
	const std::map<std::uint32_t, ptrig_iface> &ifaces_;
	const Datapath wanted_;
};

/// WAN addresses that the datapath does not know: its table is full, or nobody has told it yet.
Result<std::vector<std::string>> unknown_addresses(const std::string &dir, const Network &network,
						   const std::vector<InterfaceView> &wan) {
	auto map = Map<ptrig_wan_key, std::uint32_t>::open(dir, "pt_wan_addrs", Access::kRead);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	std::vector<std::string> warnings;
	for (const auto &interface : wan) {
		std::vector<Ip4> unknown;
		const auto addresses = network.addresses_of(interface.ifindex);
		for (const Address &address : addresses) {
			if (address.scope >= RT_SCOPE_HOST)
				continue;
			auto known = map->lookup({.ifindex = interface.ifindex, .address = to_net(address.local)});
			if (!known)
				return tl::unexpected(std::move(known.error()));
			if (!*known || **known & PTRIG_WAN_GONE)
				unknown.push_back(address.local);
		}
		if (!unknown.empty())
			warnings.push_back(
				fmt::format("{} of {} addresses of {} are not followed, nothing opens on them: {}{}",
					    unknown.size(), addresses.size(), interface.name,
					    to_string(unknown.front()), unknown.size() > 1 ? " and on" : ""));
	}
	return warnings;
}

std::vector<std::string> names_of(const std::vector<InterfaceView> &views) {
	std::vector<std::string> names;
	for (const auto &view : views)
		if (view.ifindex)
			names.push_back(view.name);
	return names;
}

/// Whether the file would give what is live; empty if so.
std::string config_warning(const Live &live) {
	if (live.config_path.empty() || live.config_path == "-")
		return {};
	const ParsedConfig parsed = load_config(live.config_path);
	if (!parsed.errors.empty())
		return fmt::format("{} is not valid any more: {}", live.config_path, parsed.errors.front().text());
	if (parsed.config == live.config)
		return {};
	return fmt::format("the live rules differ from {} (ptrig apply -n shows how)", live.config_path);
}

Done fill_limits(const std::string &dir, const MapSizes &sizes, StatusView &view) {
	auto usage = read_usage(dir);
	if (!usage)
		return tl::unexpected(std::move(usage.error()));
	view.mended = usage->mended;
	view.limits = {{"sessions", usage->sessions, sizes.sessions},
		       {"halfopen", usage->halfopen, sizes.halfopen},
		       {"leases", usage->leases, sizes.leases},
		       {"rules", view.rules, sizes.rules}};
	return {};
}

/// Of the machine around: firewall, forwarding, addresses, shaping, other listeners.
std::vector<std::string> facts_warnings(const Network &network, const StatusView &view, const Config &config) {
	GatewayFacts facts = read_gateway_facts(network, names_of(view.wan), names_of(view.lan));
	for (const auto *side : {&view.wan, &view.lan})
		for (const auto &interface : *side)
			if (interface.datapath == "xdp")
				facts.xdp.push_back(interface.name);
	facts.conntrack_zone = config.gateway.conntrack_zone;
	std::vector<Rule> enabled;
	std::copy_if(config.rules.begin(), config.rules.end(), std::back_inserter(enabled),
		     [](const Rule &rule) { return rule.enabled; });
	return gateway_warnings(facts, enabled, config.gateway.reserved);
}

void add_warnings(const Live &live, const Network &network, const Sides &sides, LanEgress lan_egress,
		  StatusView &view) {
	const auto add = [&](const std::vector<std::string> &lines) {
		view.warnings.insert(view.warnings.end(), lines.begin(), lines.end());
	};
	if (!view.daemon)
		view.warnings.push_back("no daemon runs: leases end on time and traffic flows, but nothing follows the "
					"network or reports");
	add(sides.warnings(view.wan, lan_egress));
	add(sides.warnings(view.lan, lan_egress));
	if (const auto unknown = unknown_addresses(view.pin_dir, network, view.wan))
		add(*unknown);
	if (view.daemon)
		for (const auto &trouble : read_trouble(runtime_file(view.pin_dir, "trouble")))
			view.warnings.push_back("the daemon has trouble: " + trouble);
	if (const auto differs = config_warning(live); !differs.empty())
		view.warnings.push_back(differs);
	for (const auto &limit : view.limits)
		if (limit.name != "rules" && limit.max && limit.used >= limit.max)
			view.warnings.push_back(fmt::format("{}: all {} are in use", limit.name, limit.max));
	add(facts_warnings(network, view, live.config));
}

} // namespace

Result<std::vector<RuleView>> Gateway::rules() const {
	auto live = impl_->live();
	auto hits = PerCpuMap<std::uint32_t, ptrig_hits>::open(impl_->dir, "pt_hits", Access::kRead);
	auto last = Map<std::uint32_t, ptrig_last>::open(impl_->dir, "pt_last", Access::kRead);
	for (auto *error :
	     {live ? nullptr : &live.error(), hits ? nullptr : &hits.error(), last ? nullptr : &last.error()})
		if (error)
			return tl::unexpected(std::move(*error));
	auto leases = read_leases(impl_->dir, **live);
	if (!leases)
		return tl::unexpected(std::move(leases.error()));
	std::unordered_map<std::uint32_t, std::uint32_t> living;
	for (const LeaseEntry &entry : *leases)
		living[entry.key.rule] += entry.live;
	const std::uint64_t now = boot_now_ns();
	std::vector<RuleView> views;
	for (const Rule &rule : (*live)->config.rules) {
		const std::uint32_t id = (*live)->id_of(rule.name);
		auto cpus = hits->lookup(id & 0xffff);
		auto seen = last->lookup(id & 0xffff);
		if (!cpus || !seen)
			return tl::unexpected(cpus ? std::move(seen.error()) : std::move(cpus.error()));
		const ptrig_hits sum = sum_hits(*cpus, id);
		views.push_back(
			{rule, living[id], sum.triggers, sum.granted, refusals_of(sum), last_of(*seen, id, now)});
	}
	return views;
}

Result<StatusView> Gateway::status() const {
	auto live = impl_->live();
	auto network = read_network();
	auto ifaces = read_ifaces(impl_->dir);
	auto counters = read_counters(impl_->dir);
	for (auto *error : {live ? nullptr : &live.error(), network ? nullptr : &network.error(),
			    ifaces ? nullptr : &ifaces.error(), counters ? nullptr : &counters.error()})
		if (error)
			return tl::unexpected(std::move(*error));
	auto leases = read_leases(impl_->dir, **live);
	auto lan_egress = wants_lan_egress(impl_->dir, (*live)->config);
	if (!leases || !lan_egress)
		return tl::unexpected(std::move(leases ? lan_egress.error() : leases.error()));
	StatusView view;
	view.daemon = daemon_pid(runtime_file(impl_->dir, "daemon")).value_or(std::nullopt);
	view.config = (*live)->config_path;
	view.pin_dir = impl_->dir;
	const GatewayConfig &config = (*live)->config.gateway;
	const Sides sides(impl_->dir, *network, *ifaces, config.datapath);
	view.wan = sides.views(config.wan, PTRIG_IFACE_WAN);
	view.lan = sides.views(config.lan, PTRIG_IFACE_LAN);
	view.rules = (*live)->config.rules.size();
	view.leases = static_cast<std::uint64_t>(
		std::count_if(leases->begin(), leases->end(), [](const LeaseEntry &entry) { return entry.live; }));
	view.counters = std::move(*counters);
	auto traffic = traffic_by_lease(impl_->dir, **live);
	if (!traffic)
		return tl::unexpected(std::move(traffic.error()));
	for (const auto &[lease, sum] : *traffic)
		view.sessions += sum.sessions;
	if (auto filled = fill_limits(impl_->dir, impl_->sizes, view); !filled)
		return tl::unexpected(std::move(filled.error()));
	add_warnings(**live, *network, sides, *lan_egress, view);
	return view;
}

} // namespace ptrig
