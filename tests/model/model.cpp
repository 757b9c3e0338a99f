// Rules and leases of the reference model; sessions are in model_session.cpp.
#include "tests/model/model.h"

#include <algorithm>

namespace ptrig::model {

namespace {

constexpr std::uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;
constexpr Time kFresh = 250000000;

bool triggers(const Rule &rule, Protos proto, std::uint16_t port) {
	return std::any_of(rule.trigger.begin(), rule.trigger.end(),
			   [&](const PortRange &r) { return r.protos & proto && r.first <= port && port <= r.last; });
}

} // namespace

bool Input::plain_syn() const {
	return (flags & (kSyn | kAck | kFin | kRst)) == kSyn;
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

bool Gateway::over(const Lease &lease, const Rule &rule) const {
	return now_ - lease.refreshed >= rule.timeout.count() ||
	       (rule.max_lifetime && now_ - lease.granted >= rule.max_lifetime->count());
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

enum ptrig_reason Gateway::grant(const Rule &rule, const Input &in, enum ptrig_reason reason) {
	if (config_.limits.leases_per_host && leases_of(in.host) >= config_.limits.leases_per_host)
		return PTRIG_HOST_LEASES;
	leases_[key(rule, in.remote)] = {.id = ++next_id_,
					 .granted = now_,
					 .refreshed = now_,
					 .host = in.host,
					 .tokens = config_.limits.new_sessions_per_second,
					 .tokens_since = now_};
	return reason;
}

enum ptrig_reason Gateway::ask(const Rule &rule, const Input &in) {
	if (in.flags & (kFin | kRst))
		return PTRIG_FLAGS;
	const auto found = leases_.find(key(rule, in.remote));
	if (found == leases_.end())
		return grant(rule, in, PTRIG_GRANTED);
	Lease &lease = found->second;
	const bool same = lease.host == in.host;
	if (lease.live && !over(lease, rule)) {
		if (same) {
			lease.refreshed = now_;
			return PTRIG_REFRESHED;
		}
		const bool yields = rule.conflict == Conflict::kTakeover ||
				    (rule.yield_after && now_ - lease.refreshed >= rule.yield_after->count());
		return yields ? grant(rule, in, PTRIG_TAKEN_OVER) : PTRIG_HELD;
	}
	if (lease.live) {
		lease.live = false;
		lease.ended = lease.refreshed + rule.timeout.count();
		if (rule.max_lifetime)
			lease.ended = std::min(lease.ended, lease.granted + rule.max_lifetime->count());
	}
	if (!same && now_ - lease.ended < rule.cooldown.count())
		return PTRIG_COOLDOWN;
	return grant(rule, in, PTRIG_GRANTED);
}

/// A host's packet that is no session's. The verdict is the first grant, or else the last refusal.
enum ptrig_reason Gateway::trigger(const Input &in, bool ended) {
	std::vector<const Rule *> rules;
	for (const Rule &one : config_.rules)
		if (triggers(one, in.proto, in.far))
			rules.push_back(&one);
	if (rules.empty())
		return ended ? PTRIG_SESSION_ENDED : PTRIG_NOT_TRIGGER;
	if (rules.size() == 1 && !(in.flags & (kSyn | kFin | kRst))) {
		const auto found = leases_.find(key(*rules[0], in.remote));
		if (found != leases_.end() && found->second.live && found->second.host == in.host &&
		    now_ - found->second.refreshed < kFresh)
			return PTRIG_FRESH;
	}
	enum ptrig_reason verdict = PTRIG_REASON_COUNT;
	for (const Rule *one : rules) {
		const enum ptrig_reason reason = ask(*one, in);
		if (verdict < PTRIG_FRESH || verdict > PTRIG_PENDING)
			verdict = reason;
	}
	return verdict;
}

Output Gateway::arrives(const Input &in) {
	bool ended = false;
	if (auto out = established(in, ended))
		return *out;
	if (auto out = half_open(in, ended))
		return *out;
	if (in.from_lan) {
		if (auto out = open_from_lan(in))
			return *out;
		return {.reason = trigger(in, ended)};
	}
	Output out = open_from_wan(in);
	const auto reason = out.reason;
	if (ended && (reason == PTRIG_NOT_OPEN || reason == PTRIG_NO_LEASE || reason == PTRIG_NOT_SYN))
		out.reason = PTRIG_SESSION_ENDED;
	return out;
}

} // namespace ptrig::model
