// Sessions of the reference model: how a remote begins one, what keeps it and what ends it.
#include <algorithm>

#include "tests/model/model.h"

namespace ptrig::model {

namespace {

Entry entry_of(const Session &s) {
	return {.orig = s.from_remote(), .reply = s.from_host(), .answered = !s.hairpin};
}

} // namespace

/// An answered one by the tuple alone; one that waits for its answer is found by its entry.
Session *Gateway::by_remote(const Tuple &tuple) {
	const Entry *entry = flows_.find(tuple);
	const auto found = std::find_if(sessions_.begin(), sessions_.end(), [&](const Session &s) {
		return s.from_remote() == tuple &&
		       (!s.halfopen() || (entry && entry->orig == tuple && entry->reply == s.from_host()));
	});
	return found == sessions_.end() ? nullptr : &*found;
}

Session *Gateway::by_host(const Tuple &tuple) {
	const auto found = std::find_if(sessions_.begin(), sessions_.end(),
					[&](const Session &s) { return s.from_host() == tuple; });
	return found == sessions_.end() ? nullptr : &*found;
}

/// Its entry goes along, if it is still its own.
void Gateway::end(const Session &session) {
	if (flows_.whose(session.from_remote(), session.host, session.host_port) == Whose::kOurs)
		flows_.forget(session.from_remote());
	sessions_.erase(sessions_.begin() + (&session - sessions_.data()));
}

Lease *Gateway::lease_of(const Session &session) {
	const Rule *by = rule(session.rule);
	Lease *lease = by ? live(*by, session.peer, session.wan) : nullptr;
	return lease && lease->id == session.lease ? lease : nullptr;
}

/// TCP stays in the handshake, since conntrack sees no packet of a test run.
Time Gateway::idle_time(const Session &session) const {
	const Timeouts &t = config_.timeouts;
	switch (session.state) {
	case PTRIG_SESSION_HALFOPEN:
		return t.halfopen.count();
	case PTRIG_SESSION_TRANSITORY:
		return t.tcp_transitory.count();
	default:
		return t.udp.count();
	}
}

bool Gateway::over(const Session &s) {
	const Lease *lease = lease_of(s);
	const Rule *by = rule(s.rule);
	const bool kill = by ? by->on_close == OnClose::kKill : s.kill;
	if (now_ - s.seen >= idle_time(s) || (!s.routed && !wan_.contains(s.wan)) || s.refused)
		return true;
	return s.halfopen() ? !lease || lease->host != s.host : kill && !lease;
}

/// A packet of its host's: at WAN egress, where it has been translated, or in a hairpin at LAN ingress, before that.
enum ptrig_reason Gateway::host_answers(Session &s, const Input &in) {
	if (s.halfopen() && in.flags & kRst) {
		s.refused = true;
		if (!s.hairpin)
			end(s);
		return PTRIG_HALF_OPEN;
	}
	const bool closing = in.flags & (kFin | kRst), first = s.halfopen();
	s.ask |= closing && !first;
	if (first || closing || s.state != PTRIG_SESSION_ESTABLISHED || now_ - s.out.looked >= kSecond) {
		const Whose whose = flows_.whose(s.from_remote(), s.host, s.host_port);
		if (over(s) || within(config_.gateway.deny_remotes, s.remote) ||
		    (!first && whose == Whose::kAnothers)) {
			end(s);
			return PTRIG_SESSION_ENDED;
		}
		s.state = in.tcp() ? PTRIG_SESSION_TRANSITORY : PTRIG_SESSION_ESTABLISHED;
		s.seen = s.out.looked = now_;
		if (first)
			s.in.looked = now_;
	}
	s.out.packets++;
	s.out.bytes += in.length;
	return first ? PTRIG_ESTABLISHED : PTRIG_FORWARDED;
}

/// Is there still such a session? Then its entry is there, too, or can be made again.
bool Gateway::look(Session &s, Whose whose) {
	const bool gone = whose == Whose::kNone || whose == Whose::kNobodys;
	if (whose != Whose::kAnothers && !within(config_.gateway.deny_remotes, s.remote) && !over(s) &&
	    !(gone && (s.ask || s.hairpin)))
		return true;
	end(s);
	return false;
}

/// Whoever has to tell conntrack not to mind its sequence numbers gets so much time, for nobody does here.
bool Gateway::waits(Session &s) {
	constexpr Time kWait = kSecond / 4;
	if (s.remade && (now_ - *s.remade >= kWait || !flows_.find(s.from_remote())))
		s.remade.reset();
	return s.remade.has_value();
}

/// A remote's packet of a session, if it is one's.
std::optional<enum ptrig_reason> Gateway::remote_sends(const Input &in, bool &ended) {
	Session *s = by_remote(in.tuple());
	if (!s)
		return std::nullopt;
	const Whose whose = flows_.whose(in.tuple(), s->host, s->host_port);
	const bool ours = whose == Whose::kOurs || whose == Whose::kHosts;
	if (s->halfopen() || now_ - s->in.looked >= kSecond || !ours || in.flags & (kSyn | kFin | kRst) || s->refused ||
	    s->remade) {
		if (!look(*s, whose)) {
			ended = true;
			return std::nullopt;
		}
		if (whose == Whose::kNobodys)
			flows_.forget(in.tuple());
		if (!ours && !flows_.insert(entry_of(*s)))
			return PTRIG_ENTRY_REFUSED;
		s->in.looked = now_;
		if (ours && waits(*s))
			return PTRIG_REMADE_WAITS;
		if (!ours && in.tcp())
			s->remade = now_;
	}
	s->ask |= (in.flags & (kFin | kRst)) != 0;
	s->in.packets++;
	s->in.bytes += in.length;
	return !ours ? PTRIG_REMADE : s->halfopen() ? PTRIG_HALF_OPEN : PTRIG_FORWARDED;
}

/// A bucket that holds a second's worth of new sessions: what has come in since the time when it was empty.
bool Gateway::take_token(Lease &lease) {
	const auto rate = config_.limits.new_sessions_per_second;
	if (!rate)
		return true;
	const Time cost = kSecond / rate, empty = std::max(lease.empty_since, now_ - kSecond);
	if (now_ - empty < cost)
		return false;
	lease.empty_since = empty + cost;
	return true;
}

/// PTRIG_OPENED: it may.
enum ptrig_reason Gateway::may_begin(Lease &lease, const Rule &rule, const std::string &payer) {
	std::uint32_t of_lease = 0, of_payer = 0;
	for (const Session &s : sessions_) {
		of_lease += s.lease == lease.id;
		of_payer += s.payer() == payer;
	}
	if (rule.session_limit && of_lease >= *rule.session_limit)
		return PTRIG_SESSION_LIMIT;
	if (config_.limits.sessions_per_host && of_payer >= config_.limits.sessions_per_host)
		return PTRIG_HOST_SESSIONS;
	return take_token(lease) ? PTRIG_OPENED : PTRIG_RATE_LIMITED;
}

/// By the first rule with a live lease that lets this remote in.
enum ptrig_reason Gateway::open(const Input &in) {
	const Tuple t = in.tuple();
	enum ptrig_reason reason = PTRIG_NOT_OPEN;
	for (const Rule &one : config_.rules) {
		const auto port = mapped(one, in.proto, t.dport, true);
		if (!port)
			continue;
		if (reason == PTRIG_NOT_OPEN)
			reason = PTRIG_NO_LEASE;
		Lease *lease = live(one, in.from_lan ? t.daddr : t.saddr, t.daddr);
		if (!lease || (!lease->routed && !wan_.contains(t.daddr)))
			continue;
		if (allows_remote(one, t.saddr))
			return begin(in, *lease, one, port);
		reason = PTRIG_REMOTE_DENIED;
	}
	return reason;
}

enum ptrig_reason Gateway::begin(const Input &in, Lease &lease, const Rule &rule, std::uint16_t port) {
	const Tuple t = in.tuple();
	if (in.tcp() && !in.plain_syn())
		return PTRIG_NOT_SYN;
	if (in.from_lan && another(in.host, in.mac))
		return PTRIG_SPOOFED;
	const Whose whose = flows_.whose(t, lease.host, port);
	if (whose != Whose::kNone && whose != Whose::kNobodys)
		return PTRIG_FLOW_KNOWN;
	if (!in.from_lan && on_link(in.remote)) // in a LAN host's name
		return PTRIG_REMOTE_DENIED;
	if (!lease.mac.empty() && another(lease.host, lease.mac))
		return PTRIG_STRANGER;
	const Session session{.host = lease.host,
			      .remote = t.saddr,
			      .wan = t.daddr,
			      .host_port = port,
			      .wan_port = t.dport,
			      .far = t.sport,
			      .peer = in.from_lan ? t.daddr : t.saddr,
			      .proto = in.proto,
			      .rule = rule.name,
			      .lease = lease.id,
			      .seen = now_,
			      .via = lease.mac,
			      .kill = rule.on_close == OnClose::kKill,
			      .routed = lease.routed,
			      .hairpin = in.from_lan,
			      .in = {.looked = now_, .packets = 1, .bytes = in.length}};
	if (Session *old = by_host(session.from_host()); // it has lost its entry
	    old && old->halfopen() && old->from_remote() == t)
		end(*old);
	if (const auto reason = may_begin(lease, rule, session.payer()); reason != PTRIG_OPENED)
		return reason;
	flows_.forget(t);
	if (!flows_.insert(entry_of(session)))
		return PTRIG_FLOW_KNOWN;
	if (by_host(session.from_host())) { // its entry has been flushed
		flows_.forget(t);
		return PTRIG_FLOW_KNOWN;
	}
	sessions_.push_back(session);
	return PTRIG_OPENED;
}

const Session *Gateway::port_taken(const Input &in) const {
	const auto found = std::find_if(sessions_.begin(), sessions_.end(), [&](const Session &s) {
		return s.hairpin && s.proto == in.proto && s.remote == in.host && s.far == in.near;
	});
	return found == sessions_.end() ? nullptr : &*found;
}

/// From the LAN to a WAN address: of a client's session, or its first packet.
std::optional<enum ptrig_reason> Gateway::hairpin(const Input &in, bool &ended) {
	if (const auto reason = remote_sends(in, ended))
		return reason;
	const auto reason = open(in);
	if (reason == PTRIG_OPENED)
		return PTRIG_HAIRPIN_OPENED;
	if (reason == PTRIG_NOT_OPEN || reason == PTRIG_NO_LEASE)
		return std::nullopt;
	return ended && reason == PTRIG_NOT_SYN ? PTRIG_SESSION_ENDED : reason;
}

Output Gateway::from_wan(const Input &in) {
	bool ended = false;
	auto reason = remote_sends(in, ended);
	if (!reason) {
		reason = open(in);
		if (ended && (reason == PTRIG_NOT_OPEN || reason == PTRIG_NO_LEASE || reason == PTRIG_NOT_SYN))
			reason = PTRIG_SESSION_ENDED;
	}
	Output out{.reasons = {*reason}};
	Entry *entry = flows_.find(in.tuple());
	if (entry && entry->destination_changed()) // a session's
		out.left = entry->translated(in.tuple());
	out.answers = entry && entry->reply == in.tuple() && !entry->answered;
	if (out.answers)
		entry->answered = true;
	if (!entry && in.probe)
		flows_.insert({.orig = in.tuple(), .reply = in.tuple().turned()});
	return out;
}

} // namespace ptrig::model
