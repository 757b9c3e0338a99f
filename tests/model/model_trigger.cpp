// Triggers of the reference model: who may, and what a trigger makes of a rule's lease.
#include <algorithm>

#include "tests/model/model.h"

namespace ptrig::model {

namespace {

ConnKey conn(const Rule &rule, const Input &in) {
	return {rule.name, in.host, in.remote, in.near, in.far, in.proto};
}

} // namespace

bool triggers(const Rule &rule, Protos proto, std::uint16_t port) {
	return std::any_of(rule.trigger.begin(), rule.trigger.end(),
			   [&](const PortRange &r) { return r.protos & proto && r.first <= port && port <= r.last; });
}

bool grants(enum ptrig_reason reason) {
	return reason >= PTRIG_FRESH && reason <= PTRIG_PENDING;
}

bool may_trigger(const Rule &rule, const Input &in) {
	const Sources &from = rule.sources;
	if (from.kind == Sources::Kind::kSet)
		return within(from.prefixes, in.host) ||
		       std::any_of(from.macs.begin(), from.macs.end(), [&](const MacSource &source) {
			       return to_string(source.mac) == in.mac &&
				      (source.interface.empty() || source.interface == in.lan);
		       });
	return from.kind == Sources::Kind::kRouted || on_link(in.host);
}

std::vector<const Rule *> Gateway::triggered(const Input &in) const {
	std::vector<const Rule *> rules;
	for (const Rule &one : config_.rules)
		if (triggers(one, in.proto, in.far))
			rules.push_back(&one);
	return rules;
}

/// A new lease, or the one that there is for a new host; with `confirm` only once the remote has answered.
enum ptrig_reason Gateway::grant(const Rule &rule, const Trigger &t, enum ptrig_reason reason, bool answered) {
	if (rule.confirm && !answered) {
		waiting_[conn(rule, t.in)] = {t, now_};
		return PTRIG_PENDING;
	}
	if (!has_room(rule, t.in.host))
		return PTRIG_HOST_LEASES;
	leases_[key(rule, t.in.remote, t.wan)] = {.id = ++next_id_,
						  .granted = now_,
						  .refreshed = now_,
						  .host = t.in.host,
						  .mac = on_link(t.in.host) ? t.in.mac : "",
						  .trigger_remote = t.in.remote,
						  .routed = !wan_.contains(t.wan),
						  .empty_since = now_ - kSecond};
	return reason;
}

/// This connection holds the lease from now on.
void Gateway::track(const Rule &rule, const Trigger &t) {
	conns_[conn(rule, t.in)] = {.lease = find(rule, t.in.remote, t.wan)->id, .wan = t.wan};
}

/// FIN or RST of a trigger connection: the lease ends with the last one.
void Gateway::closing(const Rule &rule, const Input &in) {
	const auto found = conns_.find(conn(rule, in));
	if (found == conns_.end())
		return;
	Conn &one = found->second;
	(in.answer ? one.fin_wan : one.fin_lan) = true;
	if (!(in.flags & kRst) && !(one.fin_lan && one.fin_wan))
		return;
	const std::uint32_t id = one.lease;
	Lease *lease = find(rule, in.remote, one.wan);
	std::optional<Lease> over_by_time; // while this connection still counts
	if (lease && lease->id == id && lease->live && over(*lease, rule))
		ended_by_time(over_by_time.emplace(*lease), rule);
	conns_.erase(found);
	if (!lease || lease->id != id || !lease->live ||
	    std::any_of(conns_.begin(), conns_.end(), [&](const auto &other) { return other.second.lease == id; }))
		return;
	if (over_by_time)
		*lease = *over_by_time;
	else
		end_lease(*lease);
}

Gateway::Who Gateway::claimant(const Lease &lease, const Trigger &t) {
	const bool known = !lease.mac.empty() && on_link(t.in.host), same_mac = known && lease.mac == t.in.mac;
	if (lease.host == t.in.host)
		return !known || same_mac ? Who::kSame : Who::kChanged;
	return same_mac && t.known ? Who::kMoved : Who::kOther;
}

enum ptrig_reason Gateway::claim(const Rule &rule, const Trigger &t, bool answered) {
	Lease *const lease = find(rule, t.in.remote, t.wan);
	if (!lease)
		return grant(rule, t, PTRIG_GRANTED, answered);
	const Who who = claimant(*lease, t);
	if (lease->live && over(*lease, rule))
		ended_by_time(*lease, rule);
	if (lease->live && (who == Who::kSame || who == Who::kMoved)) {
		if (who == Who::kMoved && !has_room(rule, t.in.host))
			return PTRIG_HOST_LEASES;
		lease->host = t.in.host;
		lease->refreshed = now_;
		lease->routed = !wan_.contains(t.wan);
		return who == Who::kMoved ? PTRIG_MOVED : PTRIG_REFRESHED;
	}
	if (lease->live && who == Who::kOther) {
		const bool yields = rule.conflict == Conflict::kTakeover ||
				    (rule.yield_after && now_ - lease->refreshed >= rule.yield_after->count());
		return yields ? grant(rule, t, PTRIG_TAKEN_OVER, answered) : PTRIG_HELD;
	}
	if (lease->live) // another machine under its host's address
		end_lease(*lease);
	const bool waits = who == Who::kOther || who == Who::kChanged;
	if (waits && now_ - lease->ended < rule.cooldown.count())
		return PTRIG_COOLDOWN;
	return grant(rule, t, PTRIG_GRANTED, answered);
}

/// One rule's part of a packet that leaves by the WAN to one of its trigger ports.
enum ptrig_reason Gateway::ask(const Rule &rule, const Trigger &t) {
	const Input &in = t.in;
	const bool tracked = rule.close == Close::kConnection && in.tcp(), syn = (in.flags & (kSyn | kAck)) == kSyn;
	if (in.flags & (kFin | kRst)) {
		if (rule.confirm)
			waiting_.erase(conn(rule, in));
		if (tracked)
			closing(rule, in);
		return PTRIG_FLAGS;
	}
	if (!may_trigger(rule, in))
		return PTRIG_SOURCE;
	if (!rule.trigger_remotes.empty() && !within(rule.trigger_remotes, in.remote))
		return PTRIG_TRIGGER_REMOTE;
	if (tracked && !syn) { // refreshes what is there
		const Lease *lease = live(rule, in.remote, t.wan);
		return lease && claimant(*lease, t) == Who::kSame ? claim(rule, t, false) : PTRIG_FLAGS;
	}
	const enum ptrig_reason reason = claim(rule, t, false);
	if (tracked && reason != PTRIG_PENDING && grants(reason))
		track(rule, t);
	return reason;
}

/// The verdict is the first grant, or else the last refusal.
enum ptrig_reason Gateway::trigger(const Trigger &t) {
	enum ptrig_reason verdict = PTRIG_NO_CANDIDATE;
	for (const Rule *one : triggered(t.in)) {
		const enum ptrig_reason reason = ask(*one, t);
		if (!grants(verdict))
			verdict = reason;
	}
	return verdict;
}

/// One rule's part of an answer.
enum ptrig_reason Gateway::answered(const Rule &rule, const Input &in) {
	const auto found = waiting_.find(conn(rule, in));
	if (in.flags & (kFin | kRst)) {
		const bool known = found != waiting_.end() || conns_.contains(conn(rule, in));
		waiting_.erase(conn(rule, in));
		closing(rule, in);
		return known ? PTRIG_FLAGS : PTRIG_NO_ANSWER;
	}
	if (found == waiting_.end())
		return PTRIG_NO_ANSWER;
	const Waiting waiting = found->second;
	waiting_.erase(found);
	if (now_ - waiting.since >= config_.timeouts.halfopen.count())
		return PTRIG_NO_ANSWER;
	const enum ptrig_reason reason = claim(rule, waiting.trigger, true);
	if (rule.close == Close::kConnection && in.tcp() && grants(reason))
		track(rule, waiting.trigger);
	return reason;
}

enum ptrig_reason Gateway::answer(const Input &in) {
	enum ptrig_reason verdict = PTRIG_NO_ANSWER;
	for (const Rule *one : triggered(in)) {
		if (!one->confirm && one->close != Close::kConnection)
			continue;
		const enum ptrig_reason reason = answered(*one, in);
		if (reason != PTRIG_NO_ANSWER && !grants(verdict))
			verdict = reason;
	}
	return verdict;
}

} // namespace ptrig::model
