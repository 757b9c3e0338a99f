// Rules and leases of the reference model. What a packet from the LAN does is in model_lan.cpp, triggers are in
// model_trigger.cpp, sessions and packets from the WAN in model_session.cpp.
#include "tests/model/model.h"

#include <algorithm>

#include <arpa/inet.h>

namespace ptrig::model {

bool Input::plain_syn() const {
	return (flags & (kSyn | kAck | kFin | kRst)) == kSyn;
}

Tuple Input::tuple() const {
	return from_lan ? Tuple{proto, host, remote, near, far} : Tuple{proto, remote, wan, far, near};
}

bool on_link(const std::string &host) {
	return host.starts_with("192.168.77.");
}

bool within(const std::vector<Prefix> &prefixes, const std::string &address) {
	in_addr parsed{};
	inet_pton(AF_INET, address.c_str(), &parsed);
	return std::any_of(prefixes.begin(), prefixes.end(),
			   [&](const Prefix &p) { return p.contains({ntohl(parsed.s_addr)}); });
}

std::uint16_t mapped(const Rule &rule, Protos proto, std::uint16_t from, bool to_host) {
	for (const OpenRange &range : rule.open) {
		const std::uint16_t first = to_host ? range.wan.first : range.host_first;
		const std::uint16_t to = to_host ? range.host_first : range.wan.first;
		if (range.wan.protos & proto && from >= first && from - first <= range.wan.last - range.wan.first)
			return static_cast<std::uint16_t>(to + (from - first));
	}
	return 0;
}

const Rule *Gateway::rule(const std::string &name) const {
	for (const Rule &one : config_.rules)
		if (one.name == name)
			return &one;
	return nullptr;
}

LeaseKey Gateway::key(const Rule &rule, const std::string &remote, const std::string &wan) {
	return {rule.name, rule.remotes.kind == Remotes::Kind::kContacted ? remote : "", wan};
}

/// `contacted` is decided by the lease's key.
bool Gateway::allows_remote(const Rule &rule, const std::string &remote) const {
	return !within(config_.gateway.deny_remotes, remote) &&
	       (rule.remotes.kind != Remotes::Kind::kSet || within(rule.remotes.prefixes, remote));
}

/// While a connection holds it, ten seconds at least: so long the daemon may take to ask conntrack.
nanoseconds::rep Gateway::timeout(const Lease &lease, const Rule &rule) const {
	const bool held = rule.close == Close::kConnection &&
			  std::any_of(conns_.begin(), conns_.end(),
				      [&](const auto &conn) { return conn.second.lease == lease.id; });
	return held ? std::max<nanoseconds::rep>(rule.timeout.count(), nanoseconds(std::chrono::seconds(10)).count())
		    : rule.timeout.count();
}

bool Gateway::over(const Lease &lease, const Rule &rule) const {
	return now_ - lease.refreshed >= timeout(lease, rule) ||
	       (rule.max_lifetime && now_ - lease.granted >= rule.max_lifetime->count());
}

void Gateway::wan_address(const std::string &address, bool there) {
	if (there)
		wan_.insert(address);
	else
		wan_.erase(address);
}

/// Does the neighbour table know another machine than this under that address?
bool Gateway::another(const std::string &host, const std::string &mac) const {
	const auto known = neighbours_.find(host);
	return known != neighbours_.end() && !known->second.empty() && known->second != mac;
}

void Gateway::end_lease(Lease &lease) const {
	lease.live = false;
	lease.ended = now_;
}

/// The lease is over; now it is known.
void Gateway::ended_by_time(Lease &lease, const Rule &rule) const {
	lease.live = false;
	lease.ended = lease.refreshed + timeout(lease, rule);
	if (rule.max_lifetime)
		lease.ended = std::min(lease.ended, lease.granted + rule.max_lifetime->count());
}

Lease *Gateway::find(const Rule &rule, const std::string &remote, const std::string &wan) {
	const auto found = leases_.find(key(rule, remote, wan));
	return found != leases_.end() ? &found->second : nullptr;
}

Lease *Gateway::live(const Rule &rule, const std::string &remote, const std::string &wan) {
	Lease *lease = find(rule, remote, wan);
	return lease && lease->live && !over(*lease, rule) ? lease : nullptr;
}

/// One more lease for the host? Half of its limit goes to one rule that gives a lease for each remote.
bool Gateway::has_room(const Rule &rule, const std::string &host) const {
	const std::uint32_t limit = config_.limits.leases_per_host;
	const auto held = [&](const std::string &by) {
		return std::count_if(leases_.begin(), leases_.end(), [&](const auto &entry) {
			return entry.second.live && entry.second.host == host && (by.empty() || entry.first.rule == by);
		});
	};
	return !limit || (held("") < limit &&
			  (rule.remotes.kind != Remotes::Kind::kContacted || held(rule.name) < (limit + 1) / 2));
}

Output Gateway::arrives(const Input &in) {
	if (!in.answer)
		return in.from_lan ? from_lan(in) : from_wan(in);
	Output out{.reasons = {answer(in)}};
	Entry *entry = flows_.find({in.proto, in.host, in.remote, in.near, in.far});
	out.answers = entry && entry->orig.saddr == in.host && !entry->answered;
	if (out.answers)
		entry->answered = true;
	return out;
}

} // namespace ptrig::model
