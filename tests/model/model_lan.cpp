// Packets from the LAN in the reference model: LAN ingress notes who sends, conntrack translates, WAN egress decides.
#include <algorithm>

#include "tests/model/model.h"

namespace ptrig::model {

namespace {

constexpr Time kFresh = 250000000;

} // namespace

Output Gateway::from_lan(const Input &in) {
	Output out;
	do {
		out.reasons.push_back(heard(in));
		const bool goes = out.reasons.back() == PTRIG_HEARD || out.reasons.back() == PTRIG_CANDIDATE;
		if (!goes || in.remote == in.wan) // or to the gateway itself
			continue;
		out.left = translate(in).translated(in.tuple());
		out.reasons.push_back(leaves(in, *out.left));
	} while (out.reasons.back() == PTRIG_SWAPPED_SYN || out.reasons.back() == PTRIG_HAIRPIN_OPENED);
	const Entry *entry = in.remote == in.wan ? flows_.find(in.tuple()) : nullptr;
	if (entry) // a hairpin's
		out.left = entry->translated(in.tuple());
	return out;
}

/// At LAN ingress.
enum ptrig_reason Gateway::heard(const Input &in) {
	if (Session *s = by_host(in.tuple())) {
		if (!s->via.empty() && s->via != in.mac)
			return PTRIG_SPOOFED;
		if (s->hairpin)
			return host_answers(*s, in);
		s->heard = now_;
		return waits(*s) ? PTRIG_REMADE_WAITS : PTRIG_HEARD;
	}
	bool ended = false;
	if (const auto reason = in.remote == in.wan ? hairpin(in, ended) : std::nullopt)
		return *reason;
	const bool opens = std::any_of(config_.rules.begin(), config_.rules.end(),
				       [&](const Rule &one) { return mapped(one, in.proto, in.near, false); });
	if (opens || !triggered(in).empty())
		return note(in);
	return ended ? PTRIG_SESSION_ENDED : PTRIG_NOT_TRIGGER;
}

/// A packet that WAN egress is to look at.
enum ptrig_reason Gateway::note(const Input &in) {
	const auto found = notes_.find(in.tuple());
	const bool same = found != notes_.end() && found->second.mac == in.mac;
	if (same && fresh(found->second, in))
		return triggered(in).empty() ? PTRIG_OWN_PORT : PTRIG_FRESH;
	/* A neighbour that is not known yet soon will be. */
	if (same && (found->second.known || !on_link(in.host)) && now_ - found->second.noted < kSecond)
		return PTRIG_CANDIDATE;
	Note note{.mac = in.mac, .given_back = same && found->second.given_back, .noted = now_};
	if (another(in.host, in.mac))
		return PTRIG_SPOOFED;
	const auto neighbour = neighbours_.find(in.host);
	note.known = neighbour != neighbours_.end() && !neighbour->second.empty();
	notes_[in.tuple()] = note;
	return PTRIG_CANDIDATE;
}

/// Nothing is left to do for this flow.
bool Gateway::fresh(const Note &note, const Input &in) {
	if (!note.done || now_ - *note.done >= kFresh || in.flags & (kFin | kRst | kSyn))
		return false;
	const auto rules = triggered(in);
	if (rules.empty())
		return true;
	const Lease *lease = rules.size() == 1 ? find(*rules[0], in.remote, note.wan) : nullptr;
	return lease && lease->live && lease->host == in.host && now_ - lease->refreshed < kFresh;
}

/// The entry of a packet on its way out. Where there is none it is masqueraded: with its own port, if that is free.
Entry Gateway::translate(const Input &in) {
	if (const Entry *known = flows_.find(in.tuple()))
		return *known;
	Entry made{.orig = in.tuple(), .reply = {in.proto, in.remote, in.wan, in.far, in.near}};
	for (std::uint16_t port = 40000; !flows_.insert(made); port++)
		made.reply.dport = port;
	return made;
}

/// At WAN egress, as `left`.
enum ptrig_reason Gateway::leaves(const Input &in, Tuple &left) {
	const Entry entry = *flows_.find(in.tuple());
	// An answered session's, as long as its host was heard of late: whose entry that is, is asked once a second.
	if (Session *own = by_remote(left.turned());
	    own && !own->halfopen() && own->heard && now_ - *own->heard < 4 * kSecond)
		return host_answers(*own, in);
	if (entry.orig == in.tuple())
		return begun(in, entry, left);
	Session *session = by_remote(entry.orig);
	return session ? host_answers(*session, in) : PTRIG_NO_CANDIDATE;
}

/// Of a flow that its host has begun: a trigger, or from an open port, or both.
enum ptrig_reason Gateway::begun(const Input &in, const Entry &entry, Tuple &left) {
	const auto found = notes_.find(in.tuple());
	if (found == notes_.end())
		return PTRIG_NO_CANDIDATE;
	Note &note = found->second;
	/* Of a session's packet nothing is noted: this may be of a machine that had the address before. */
	if (const Session *s = by_host(in.tuple()); s && !s->via.empty() && s->via != note.mac)
		return PTRIG_NO_CANDIDATE;
	Trigger t{.in = in, .known = note.known, .wan = left.saddr};
	t.in.mac = note.mac;
	const bool is_trigger = !triggered(in).empty();
	const auto verdict = is_trigger ? trigger(t) : PTRIG_NO_CANDIDATE;
	const auto own = own_port(t, entry, note, left);
	const bool nothing = own == PTRIG_REASON_COUNT;
	note.wan = t.wan;
	if ((!is_trigger || grants(verdict)) && verdict != PTRIG_PENDING && (nothing || own == PTRIG_OWN_PORT))
		note.done = now_;
	return nothing || (own == PTRIG_OWN_PORT && is_trigger) ? verdict : own;
}

/// PTRIG_REASON_COUNT: no lease of the host's has this port.
enum ptrig_reason Gateway::own_port(const Trigger &t, const Entry &entry, Note &note, Tuple &left) {
	const std::uint16_t port = port_of(t, entry.answered && !(t.in.flags & (kFin | kRst)));
	if (!port)
		return PTRIG_REASON_COUNT;
	if (port == left.sport) {
		note.given_back = false;
		return PTRIG_OWN_PORT;
	}
	if ((t.in.tcp() && note.given_back) || !swap(t.in, entry, port))
		return PTRIG_NOT_SWAPPED;
	if (t.in.tcp()) {
		note.given_back = true;
		return PTRIG_SWAPPED_SYN;
	}
	left.sport = port;
	return PTRIG_SWAPPED;
}

/// The WAN port of the host's lease that stands for the one that it sends from; 0: none. `touch`: with `refresh =
/// "traffic"` the packet keeps that lease.
std::uint16_t Gateway::port_of(const Trigger &t, bool touch) {
	for (const Rule &one : config_.rules) {
		const std::uint16_t port = mapped(one, t.in.proto, t.in.near, false);
		Lease *lease = port ? live(one, t.in.remote, t.wan) : nullptr;
		if (!lease || claimant(*lease, t) != Who::kSame || !allows_remote(one, t.in.remote))
			continue;
		if (touch && one.refresh == Refresh::kTraffic)
			lease->refreshed = now_;
		return port;
	}
	return 0;
}

/// The flow leaves by the lease's port from now on, if it is new and the port is free.
bool Gateway::swap(const Input &in, const Entry &entry, std::uint16_t port) {
	Tuple reply = entry.reply;
	reply.dport = port;
	const Whose whose = flows_.whose(reply, "", 0);
	if (entry.answered || (in.tcp() && !in.plain_syn()) || (whose != Whose::kNone && whose != Whose::kNobodys))
		return false;
	flows_.forget(reply);
	flows_.forget(entry.orig);
	return flows_.insert({.orig = entry.orig, .reply = reply});
}

} // namespace ptrig::model
