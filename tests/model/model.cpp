// Rules and packets of the reference model; triggers are in model_trigger.cpp, sessions in model_session.cpp.
#include "tests/model/model.h"

#include <algorithm>

#include <arpa/inet.h>

namespace ptrig::model {

namespace {

constexpr std::uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

} // namespace

bool Input::plain_syn() const {
	return (flags & (kSyn | kAck | kFin | kRst)) == kSyn;
}

bool within(const std::vector<Prefix> &prefixes, const std::string &address) {
	in_addr parsed{};
	inet_pton(AF_INET, address.c_str(), &parsed);
	return std::any_of(prefixes.begin(), prefixes.end(),
			   [&](const Prefix &p) { return p.contains({ntohl(parsed.s_addr)}); });
}

const Rule *Gateway::rule(const std::string &name) const {
	for (const Rule &one : config_.rules)
		if (one.name == name)
			return &one;
	return nullptr;
}

LeaseKey Gateway::key(const Rule &rule, const std::string &remote) const {
	return {rule.name, rule.remotes.kind == Remotes::Kind::kContacted ? remote : ""};
}

/// `contacted` is decided by the lease's key.
bool Gateway::allows_remote(const Rule &rule, const std::string &remote) const {
	return !within(config_.gateway.deny_remotes, remote) &&
	       (rule.remotes.kind != Remotes::Kind::kSet || within(rule.remotes.prefixes, remote));
}

bool Gateway::over(const Lease &lease, const Rule &rule) const {
	return now_ - lease.refreshed >= rule.timeout.count() ||
	       (rule.max_lifetime && now_ - lease.granted >= rule.max_lifetime->count());
}

std::string Gateway::neighbour_of(const std::string &host) const {
	const auto found = neighbours_.find(host);
	return on_link(host) && found != neighbours_.end() ? found->second : "";
}

/// Is the machine at the lease's host's address not the one that it was granted to?
bool Gateway::stranger(const Lease &lease) const {
	const std::string there = neighbour_of(lease.host);
	return !lease.mac.empty() && !there.empty() && there != lease.mac;
}

void Gateway::end_lease(Lease &lease) const {
	lease.live = false;
	lease.ended = now_;
}

Lease *Gateway::live(const Rule &rule, const std::string &remote) {
	const auto found = leases_.find(key(rule, remote));
	return found != leases_.end() && found->second.live && !over(found->second, rule) ? &found->second : nullptr;
}

std::size_t Gateway::leases_of(const std::string &host) const {
	return static_cast<std::size_t>(std::count_if(leases_.begin(), leases_.end(), [&](const auto &entry) {
		return entry.second.live && entry.second.host == host;
	}));
}

/// What ptrig sends on itself may be a trigger, when it leaves.
Output Gateway::and_trigger(Output out, const Input &in) {
	if (!asks_ || (out.reason != PTRIG_FORWARDED && out.reason != PTRIG_OPENED))
		return out;
	const enum ptrig_reason reason = trigger(in, false);
	if (reason != PTRIG_NOT_TRIGGER && reason != PTRIG_FRESH && reason != PTRIG_SPOOFED)
		out.also = reason;
	return out;
}

Output Gateway::arrives(const Input &in) {
	if (in.answer)
		return {.reason = answer(in)};
	bool ended = false;
	asks_ = only_refreshes_ = false;
	if (auto out = established(in, ended))
		return and_trigger(*out, in);
	if (auto out = half_open(in, ended))
		return *out;
	if (in.from_lan) {
		if (auto out = in.remote == wan_ ? hairpin(in, ended) : open_from_lan(in))
			return and_trigger(*out, in);
		return {.reason = trigger(in, ended)};
	}
	Output out = open_from_wan(in);
	const auto reason = out.reason;
	if (ended && (reason == PTRIG_NOT_OPEN || reason == PTRIG_NO_LEASE || reason == PTRIG_NOT_SYN))
		out.reason = PTRIG_SESSION_ENDED;
	return out;
}

} // namespace ptrig::model
