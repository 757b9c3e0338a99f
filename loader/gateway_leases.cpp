// Leases as user space sees them: which live, until when, and which a changed configuration ends. The
// rules of time are those of bpf/lease.h, so a list never shows a lease that a packet would not find.
#include <algorithm>

#include <fmt/format.h>
#include <netinet/in.h>

#include "loader/gateway_impl.h"
#include "loader/lease_behind.h"

namespace ptrig {

namespace {

/// When a lease that is marked live ends by time.
std::uint64_t end_of(const ptrig_lease_info &info, const Rule &rule) {
	const bool held = rule.close == Close::kConnection && info.conns > 0;
	const std::uint64_t idle =
		info.refreshed_ns + std::max<std::uint64_t>(to_ns(rule.timeout), held ? PTRIG_CONN_TIMEOUT_NS : 0);
	return rule.max_lifetime ? std::min<std::uint64_t>(idle, info.granted_ns + to_ns(*rule.max_lifetime)) : idle;
}

std::optional<Mac> mac_of(const ptrig_lease_info &info) {
	if (!(info.flags & PTRIG_LEASE_ONLINK))
		return std::nullopt;
	Mac mac;
	std::copy(std::begin(info.mac), std::end(info.mac), mac.bytes.begin());
	return mac;
}

bool contains(const std::vector<Prefix> &prefixes, Ip4 address) {
	return std::any_of(prefixes.begin(), prefixes.end(), [&](const Prefix &p) { return p.contains(address); });
}

/// Whether this lease's host, by its MAC address, is one of `sources`, as bpf/rule.h says of a trigger.
bool has_mac(const Sources &sources, const Mac &mac, const ptrig_lease_info &info, const Network &network) {
	return std::any_of(sources.macs.begin(), sources.macs.end(), [&](const MacSource &source) {
		if (source.mac != mac || source.interface.empty())
			return source.mac == mac;
		const Link *link = network.find(source.interface);
		return link && link->ifindex == info.lan_ifindex;
	});
}

/// Whether `rule` lets this lease's host trigger.
bool allows_host(const Rule &rule, const ptrig_lease_info &info, const Network &network) {
	const Ip4 host = ip_from_net(info.host);
	if (rule.sources.kind == Sources::Kind::kSet) {
		const auto mac = mac_of(info);
		return contains(rule.sources.prefixes, host) || (mac && has_mac(rule.sources, *mac, info, network));
	}
	if (rule.sources.kind == Sources::Kind::kRouted)
		return true;
	const auto addresses = network.addresses_of(info.lan_ifindex);
	return std::any_of(addresses.begin(), addresses.end(),
			   [&](const Address &address) { return address.on_link.contains(host); });
}

/// Whether `rule`, changed from `before`, leaves this lease as it is.
bool allows_lease(const Rule &before, const Rule &rule, const ptrig_lease_key &key, const ptrig_lease_info &info,
		  const Network &network) {
	const bool contacted = rule.remotes.kind == Remotes::Kind::kContacted;
	if (contacted != (before.remotes.kind == Remotes::Kind::kContacted))
		return false; // no packet would find it under its key any more
	const Ip4 remote = ip_from_net(key.remote ? key.remote : info.trigger_remote);
	if (!(before.trigger_remotes == rule.trigger_remotes) && !rule.trigger_remotes.empty() &&
	    !contains(rule.trigger_remotes, remote))
		return false;
	return before.sources == rule.sources || allows_host(rule, info, network);
}

/// Why a lease must end; nothing if it may go on.
std::optional<std::uint32_t> disallowed(const ptrig_lease_key &key, const ptrig_lease_info &info, const Live &before,
					const Live &after, const Network &network) {
	const Rule *rule = after.rule(key.rule);
	if (!rule || !rule->enabled)
		return PTRIG_RULE_GONE;
	const Rule *old = before.rule(key.rule);
	if (old && !allows_lease(*old, *rule, key, info, network))
		return PTRIG_NOT_ALLOWED;
	return std::nullopt;
}

bool matches(const Filter &filter, const LeaseEntry &entry) {
	const ptrig_lease_info &info = entry.lease.info;
	if (filter.rule && *filter.rule != entry.rule->name)
		return false;
	if (filter.host && !(*filter.host == ip_from_net(info.host)))
		return false;
	if (filter.remote &&
	    !(*filter.remote == ip_from_net(entry.key.remote ? entry.key.remote : info.trigger_remote)))
		return false;
	return !filter.port ||
	       std::any_of(entry.rule->open.begin(), entry.rule->open.end(), [&](const OpenRange &open) {
		       return open.wan.protos & filter.port->protos && open.wan.first <= filter.port->last &&
			      filter.port->first <= open.wan.last;
	       });
}

LeaseView view_of(const LeaseEntry &entry, const Traffic &traffic, std::uint64_t now) {
	const ptrig_lease_info &info = entry.lease.info;
	LeaseView view;
	view.rule = entry.rule->name;
	view.rule_id = entry.key.rule;
	view.lease_id = info.id;
	view.host = ip_from_net(info.host);
	view.mac = mac_of(info);
	view.wan = ip_from_net(info.wan);
	if (entry.key.remote)
		view.remote = ip_from_net(entry.key.remote);
	view.state = entry.live ? "live" : "cooldown";
	view.sessions = traffic.sessions;
	view.open = entry.rule->open;
	view.age_s = seconds_of(elapsed_ns(now, info.granted_ns));
	view.idle_s = seconds_of(elapsed_ns(now, info.refreshed_ns));
	view.expires_in_s = seconds_of(elapsed_ns(entry.until_ns, now));
	view.packets = entry.lease.packets + traffic.packets;
	view.bytes = entry.lease.bytes + traffic.bytes;
	view.trigger_proto = proto_mask(info.trigger_proto);
	view.trigger_remote = ip_from_net(info.trigger_remote);
	view.trigger_port = port_from_net(info.trigger_port);
	return view;
}

} // namespace

Protos proto_mask(std::uint8_t ipproto) {
	return ipproto == IPPROTO_TCP ? PTRIG_TCP : ipproto == IPPROTO_UDP ? PTRIG_UDP : 0;
}

Result<std::vector<LeaseEntry>> read_leases(const std::string &dir, const Live &live) {
	auto map = Map<ptrig_lease_key, ptrig_lease>::open(dir, "pt_leases", Access::kRead);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	const std::uint64_t now = boot_now_ns();
	std::vector<LeaseEntry> entries;
	auto listed = map->each([&](const ptrig_lease_key &key, const ptrig_lease &lease) {
		LeaseEntry entry{.key = key, .lease = lease, .rule = live.rule(key.rule)};
		const ptrig_lease_info &info = lease.info;
		if (!entry.rule || !entry.rule->enabled || info.state == PTRIG_LEASE_DEAD)
			return;
		entry.until_ns = info.state == PTRIG_LEASE_LIVE ? end_of(info, *entry.rule) : info.ended_ns;
		entry.live = info.state == PTRIG_LEASE_LIVE && entry.until_ns > now;
		if (!entry.live)
			entry.until_ns += to_ns(entry.rule->cooldown);
		if (entry.until_ns > now)
			entries.push_back(entry);
	});
	if (!listed)
		return tl::unexpected(std::move(listed.error()));
	return entries;
}

Result<std::uint32_t> end_disallowed(const std::string &dir, const Live &before, const Live &after,
				     const Network &network) {
	auto map = Map<ptrig_lease_key, ptrig_lease>::open(dir, "pt_leases", Access::kRead);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	struct Found {
		std::vector<std::uint32_t> leases; ///< ids of those that are not allowed
		bool others = false;               ///< that are
	};
	std::map<std::uint32_t, Found> not_allowed; // by rule
	std::uint32_t gone = 0;
	auto listed = map->each([&](const ptrig_lease_key &key, const ptrig_lease &lease) {
		if (lease.info.state != PTRIG_LEASE_LIVE)
			return;
		const auto reason = disallowed(key, lease.info, before, after, network);
		if (reason == PTRIG_RULE_GONE)
			gone++;
		else if (reason)
			not_allowed[key.rule].leases.push_back(lease.info.id);
		else
			not_allowed[key.rule].others = true;
	});
	if (!listed)
		return tl::unexpected(std::move(listed.error()));
	ptrig_admin request{};
	request.op = PTRIG_ADMIN_CLOSE_LEASES;
	request.reason = PTRIG_NOT_ALLOWED;
	std::uint32_t ended = gone;
	for (auto &[rule, found] : not_allowed) {
		if (!found.others && found.leases.size() > 1)
			found.leases.assign(1, 0); // all of the rule's, in one go
		for (const std::uint32_t lease : found.leases) {
			request.rule = rule;
			request.lease = lease;
			auto closed = run_admin(dir, request);
			if (!closed)
				return tl::unexpected(std::move(closed.error()));
			ended += closed->leases;
		}
	}
	// The sweep ends leases whose rule is gone, and the sessions that end with their lease.
	request = ptrig_admin{};
	request.op = PTRIG_ADMIN_SWEEP;
	if (auto swept = run_admin(dir, request); ended && !swept)
		return tl::unexpected(std::move(swept.error()));
	return ended;
}

Result<std::vector<LeaseView>> Gateway::leases(const Filter &filter) const {
	auto live = impl_->live();
	if (!live)
		return tl::unexpected(std::move(live.error()));
	if (filter.rule && !(*live)->id_of(*filter.rule))
		return fail("there is no rule " + *filter.rule, Status::kInput);
	auto entries = read_leases(impl_->dir, **live);
	if (!entries)
		return tl::unexpected(std::move(entries.error()));
	auto traffic = traffic_by_lease(impl_->dir, **live);
	if (!traffic)
		return tl::unexpected(std::move(traffic.error()));
	const std::uint64_t now = boot_now_ns();
	std::vector<LeaseView> views;
	for (const LeaseEntry &entry : *entries)
		views.push_back(view_of(entry, (*traffic)[entry.lease.info.id], now));
	mark_behind(views, (*live)->config.rules); // by all of them, whatever is asked for
	std::vector<LeaseView> wanted;
	for (std::size_t i = 0; i < views.size(); ++i)
		if (matches(filter, (*entries)[i]))
			wanted.push_back(std::move(views[i]));
	std::sort(wanted.begin(), wanted.end(), [](const LeaseView &a, const LeaseView &b) {
		return std::tuple(a.rule, a.remote, a.lease_id) < std::tuple(b.rule, b.remote, b.lease_id);
	});
	return wanted;
}

} // namespace ptrig
