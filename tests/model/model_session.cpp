// Sessions of the reference model: how they begin, what keeps them and what ends them.
#include <algorithm>

#include "tests/model/model.h"

namespace ptrig::model {

namespace {

constexpr std::uint8_t kFin = 1, kSyn = 2, kRst = 4;
constexpr Time kSecond = 1000000000;

/// The port that `from` leads to; 0 if no open port of the rule is there.
std::uint16_t mapped(const Rule &rule, Protos proto, std::uint16_t from, bool to_host) {
	for (const OpenRange &range : rule.open) {
		const std::uint16_t first = to_host ? range.wan.first : range.host_first;
		const std::uint16_t to = to_host ? range.host_first : range.wan.first;
		if (range.wan.protos & proto && from >= first && from - first <= range.wan.last - range.wan.first)
			return static_cast<std::uint16_t>(to + (from - first));
	}
	return 0;
}

} // namespace

std::uint16_t host_port(const Rule &rule, Protos proto, std::uint16_t wan_port) {
	return mapped(rule, proto, wan_port, true);
}

/// Some rule opens this port, on the WAN or for the host.
bool Gateway::opens(const Input &in) const {
	return std::any_of(config_.rules.begin(), config_.rules.end(),
			   [&](const Rule &one) { return mapped(one, in.proto, in.near, !in.from_lan); });
}

Session *Gateway::find(const Input &in, bool halfopen) {
	for (Session &s : sessions_)
		if (s.halfopen() == halfopen && s.proto == in.proto && s.remote == in.remote && s.far == in.far &&
		    (in.from_lan ? s.host == in.host && s.host_port == in.near : s.wan_port == in.near))
			return &s;
	return nullptr;
}

void Gateway::end(const Session *session) {
	sessions_.erase(sessions_.begin() + (session - sessions_.data()));
}

Lease *Gateway::lease_of(const Session &session) {
	const Rule *by = rule(session.rule);
	Lease *lease = by ? live(*by, session.remote) : nullptr;
	return lease && lease->id == session.lease ? lease : nullptr;
}

Time Gateway::idle_time(const Session &session) const {
	const Timeouts &t = config_.timeouts;
	switch (session.state) {
	case PTRIG_SESSION_HALFOPEN:
		return t.halfopen.count();
	case PTRIG_SESSION_TRANSITORY:
		return t.tcp_transitory.count();
	case PTRIG_SESSION_CLOSING:
		return 10 * kSecond;
	default:
		return session.proto == PTRIG_TCP ? t.tcp_established.count() : t.udp.count();
	}
}

Output Gateway::finish(const Session &session, const Input &in, enum ptrig_reason reason) const {
	if (in.ttl <= 1 && in.from_lan)
		return {.reason = PTRIG_TTL_EXPIRED};
	if (in.ttl <= 1)
		reason = PTRIG_TTL_EXPIRED_UP;
	return {reason,         session.host,        in.from_lan ? session.wan_port : session.host_port,
		session.client, session.client_port, session.wan_port,
		session.far};
}

void Gateway::track(Session &s, const Input &in) {
	Side &side = in.from_lan ? s.lan : s.wan;
	if (in.flags & kFin)
		side.fin = true;
	if (in.flags & kRst || (s.lan.fin && s.wan.fin)) {
		if (s.state != PTRIG_SESSION_CLOSING)
			s.seen = now_;
		s.state = PTRIG_SESSION_CLOSING;
	} else if (in.from_lan && !(in.flags & kSyn)) {
		if (s.state != PTRIG_SESSION_ESTABLISHED)
			s.wan.cached = false; // XDP's from now on: TC looks at the next packet
		s.state = PTRIG_SESSION_ESTABLISHED;
	}
}

/// The host's packet in a session refreshes its lease with `refresh = "traffic"`. If it is a trigger as well, it is one
/// for all rules in a session that the host has begun, but grants only if it is one of the session's own rule; in one
/// that the remote has begun, it refreshes the session's own lease.
void Gateway::refresh_by(const Session &session, const Input &in) {
	Lease *lease = lease_of(session);
	const Rule *by = rule(session.rule);
	const bool is_trigger = by && triggers(*by, in.proto, in.far);
	asks_ = session.own;
	only_refreshes_ = !is_trigger;
	if (!lease || lease->host != in.host || in.flags & (kFin | kRst))
		return;
	if (by->refresh == Refresh::kTraffic || (is_trigger && !session.own))
		lease->refreshed = now_;
}

bool Gateway::ends_with_lease(Session &s) const {
	if (const Rule *by = rule(s.rule))
		s.kill = by->on_close == OnClose::kKill;
	return s.kill;
}

/// Looks who is at the host's address, before a packet of the remote's goes there. True: not who was; the lease has
/// ended.
bool Gateway::another_machine(Session &s) {
	const std::string there = neighbour_of(s.host);
	Lease *lease = lease_of(s);
	const bool other = (!there.empty() && !s.dmac.empty() && there != s.dmac) ||
			   (lease && lease->host == s.host && stranger(*lease));
	if (other && lease)
		end_lease(*lease);
	s.dmac = there;
	if (!there.empty())
		s.via = there;
	return other;
}

/// Once a second, and for SYN, FIN and RST. False: the session has ended.
bool Gateway::look(Session &s, const Input &in) {
	const bool cut = ends_with_lease(s) && !lease_of(s);
	const bool again = s.state == PTRIG_SESSION_CLOSING && in.plain_syn() &&
			   (in.from_lan || (s.lan.fin && s.wan.fin)); // a remote's RST and SYN may be forged
	if (now_ - s.seen >= idle_time(s) || cut || again)
		return false;
	if (in.tcp())
		track(s, in);
	if (in.from_lan) {
		if (s.state != PTRIG_SESSION_CLOSING)
			s.seen = now_;
		refresh_by(s, in);
	}
	if (!in.from_lan && another_machine(s))
		return false;
	Side &side = in.from_lan ? s.lan : s.wan;
	side.cached = in.from_lan ? s.client.empty() : !on_link(s.host) || !s.dmac.empty();
	side.looked = now_;
	return true;
}

std::optional<Output> Gateway::established(const Input &in, bool &ended) {
	Session *s = find(in, false);
	if (!s)
		return std::nullopt;
	if (in.from_lan && !s->via.empty() && s->via != in.mac)
		return Output{.reason = PTRIG_SPOOFED};
	Side &side = in.from_lan ? s->lan : s->wan;
	const bool quick = s->state == PTRIG_SESSION_ESTABLISHED && side.cached && !(in.flags & (kSyn | kFin | kRst)) &&
			   now_ - side.looked < kSecond;
	if (!quick && !look(*s, in)) {
		end(s);
		ended = true;
		return std::nullopt;
	}
	side.packets++;
	side.bytes += in.length;
	return finish(*s, in, PTRIG_FORWARDED);
}

bool Gateway::half_over(const Session &session) {
	const Lease *lease = lease_of(session);
	return !lease || lease->host != session.host || now_ - session.seen >= idle_time(session);
}

std::optional<Output> Gateway::half_open(const Input &in, bool &ended, bool hairpin) {
	Session *s = hairpin || opens(in) ? find(in, true) : nullptr;
	if (!s)
		return std::nullopt;
	if (in.from_lan && !s->via.empty() && s->via != in.mac)
		return Output{.reason = PTRIG_SPOOFED};
	if (half_over(*s)) {
		end(s);
		ended = true;
		return std::nullopt;
	}
	if (!in.from_lan && stranger(*lease_of(*s))) {
		end_lease(*lease_of(*s));
		end(s);
		return Output{.reason = PTRIG_SESSION_ENDED};
	}
	if (!in.from_lan) {
		s->wan.packets++;
		s->wan.bytes += in.length;
		return finish(*s, in, PTRIG_HALF_OPEN);
	}
	if (in.flags & kRst) {
		const Session gone = *s;
		end(s);
		return finish(gone, in, PTRIG_HALF_OPEN);
	}
	// The other host's own packet has taken the WAN port towards this remote meanwhile.
	Input back = in;
	back.from_lan = false;
	back.near = s->wan_port;
	if (find(back, false)) {
		end(s);
		return Output{.reason = PTRIG_FLOW_KNOWN};
	}
	s->state = in.tcp() ? PTRIG_SESSION_TRANSITORY : PTRIG_SESSION_ESTABLISHED;
	s->seen = now_;
	s->lan = {.cached = s->client.empty(), .looked = now_, .packets = 1, .bytes = in.length};
	if (rule(s->rule)->refresh == Refresh::kTraffic)
		lease_of(*s)->refreshed = now_;
	return finish(*s, in, PTRIG_ESTABLISHED);
}

/// A bucket that holds a second's worth of new sessions. Time passes here in whole seconds only.
bool Gateway::take_token(Lease &lease) {
	const auto rate = config_.limits.new_sessions_per_second;
	if (!rate)
		return true;
	if (now_ - lease.tokens_since >= kSecond) {
		lease.tokens = rate;
		lease.tokens_since = now_;
	}
	lease.tokens = std::min<std::int64_t>(lease.tokens, rate);
	return lease.tokens > 0 && lease.tokens-- > 0;
}

enum ptrig_reason Gateway::may_begin(Lease &lease, const Rule &rule) {
	std::uint32_t of_lease = 0, of_host = 0;
	for (const Session &s : sessions_) {
		of_lease += s.lease == lease.id;
		of_host += s.host == lease.host;
	}
	if (rule.session_limit && of_lease >= *rule.session_limit)
		return PTRIG_SESSION_LIMIT;
	if (config_.limits.sessions_per_host && of_host >= config_.limits.sessions_per_host)
		return PTRIG_HOST_SESSIONS;
	return take_token(lease) ? PTRIG_OPENED : PTRIG_RATE_LIMITED;
}

Output Gateway::open_from_wan(const Input &in) {
	enum ptrig_reason reason = PTRIG_NOT_OPEN;
	for (const Rule &one : config_.rules) {
		const auto port = mapped(one, in.proto, in.near, true);
		if (!port)
			continue;
		if (reason == PTRIG_NOT_OPEN)
			reason = PTRIG_NO_LEASE;
		Lease *lease = live(one, in.remote);
		if (!lease)
			continue;
		if (!allows_remote(one, in.remote)) {
			reason = PTRIG_REMOTE_DENIED;
			continue;
		}
		if (in.tcp() && !in.plain_syn())
			return {.reason = PTRIG_NOT_SYN};
		if (on_link(in.remote)) // in a LAN host's name
			return {.reason = PTRIG_REMOTE_DENIED};
		const Input answer{.from_lan = true,
				   .host = lease->host,
				   .remote = in.remote,
				   .near = port,
				   .far = in.far,
				   .proto = in.proto};
		if (stranger(*lease)) {
			end_lease(*lease);
			return {.reason = PTRIG_NO_LEASE};
		}
		if (find(answer, false))
			return {.reason = PTRIG_FLOW_KNOWN};
		reason = may_begin(*lease, one);
		if (reason != PTRIG_OPENED)
			return {.reason = reason};
		if (find(answer, true))
			return {.reason = PTRIG_FLOW_KNOWN};
		sessions_.push_back({.host = lease->host,
				     .remote = in.remote,
				     .host_port = port,
				     .wan_port = in.near,
				     .far = in.far,
				     .proto = in.proto,
				     .rule = one.name,
				     .lease = lease->id,
				     .seen = now_,
				     .via = lease->mac,
				     .kill = one.on_close == OnClose::kKill,
				     .wan = {.packets = 1, .bytes = in.length}});
		return finish(sessions_.back(), in, PTRIG_OPENED);
	}
	return {.reason = reason};
}

/// The host's own packet from an open port of its lease.
std::optional<Output> Gateway::open_from_lan(const Input &in) {
	if (in.tcp() && !in.plain_syn())
		return std::nullopt;
	for (const Rule &one : config_.rules) {
		const auto port = mapped(one, in.proto, in.near, false);
		Lease *lease = port ? live(one, in.remote) : nullptr;
		if (!lease || lease->host != in.host || (!lease->mac.empty() && lease->mac != in.mac) ||
		    !allows_remote(one, in.remote))
			continue;
		Input back = in;
		back.from_lan = false;
		back.near = port;
		if (may_begin(*lease, one) != PTRIG_OPENED || find(back, false))
			return std::nullopt;
		const auto state = in.tcp() ? PTRIG_SESSION_TRANSITORY : PTRIG_SESSION_ESTABLISHED;
		sessions_.push_back({.host = in.host,
				     .remote = in.remote,
				     .host_port = in.near,
				     .wan_port = port,
				     .far = in.far,
				     .proto = in.proto,
				     .state = static_cast<std::uint8_t>(state),
				     .rule = one.name,
				     .lease = lease->id,
				     .seen = now_,
				     .via = lease->mac,
				     .own = true,
				     .kill = one.on_close == OnClose::kKill,
				     .lan = {.cached = true, .looked = now_, .packets = 1, .bytes = in.length}});
		refresh_by(sessions_.back(), in);
		return finish(sessions_.back(), in, PTRIG_OPENED);
	}
	return std::nullopt;
}

} // namespace ptrig::model
