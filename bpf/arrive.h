/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A remote's packet of a session that exists, half-open or established, from the WAN or, in a hairpin, from the LAN: is
 * the session over, and does conntrack still have its entry? Global functions, so that the verifier walks each once.
 */
#ifndef PT_ARRIVE_H
#define PT_ARRIVE_H

#include "answer.h"

#define PT_WINDOW_LEAST 65535 /* of a host, where conntrack has not seen a larger one */

/* What one packet needs to know of its session. */
struct pt_arrival {
	struct ptrig_session_key lan_key;
	struct ptrig_session *lan; /* a copy in the scratch: the element may become another session's */
	struct ptrig_session *at;  /* the element itself */
	struct ptrig_session *wan; /* the other half; NULL: half-open */
	struct pt_tuple t;
};

/* Once a second, for a SYN, and while the host has not answered: is the session over? */
static __noinline bool pt_arrive_over(const struct pt_flow *f, const struct pt_arrival *a, const struct pt_entry *e) {
	const struct ptrig_config *config = pt_config_get(f->gen);
	struct ptrig_rule *rule = pt_rule_by_id(f->gen, a->lan->rule);
	__u64 now = bpf_ktime_get_boot_ns();
	struct ptrig_lease *lease = pt_session_lease(a->lan, rule, now);

	if (!config)
		return false;
	if (pt_flow_denied(config, a->lan))
		return true;
	if (!a->wan)
		return pt_halfopen_over(a->lan, a->lan->seen_ns, a->lan_key.saddr, lease, config, now);
	/* The same ports again for a new connection: conntrack would begin anew, and so does the session. */
	if (pt_packet_plain_syn(&f->p) && f->p.proto == IPPROTO_TCP && e->found && e->tcp_state >= PT_CT_TCP_LAST_ACK)
		return true;
	return pt_established_over(a->lan, a->lan->seen_ns, f->p.proto, lease, rule, config, now);
}

/* An answered session's entry is gone (a flush, early drop, the kernel's shorter time) and nobody has taken its place.
 */
static __noinline bool pt_arrive_again(struct __sk_buff *skb, const struct pt_flow *f, const struct pt_arrival *a) {
	const struct ptrig_config *config = pt_config_get(f->gen);

	if (!config || f->hairpin)
		return false;
	struct pt_wanted w = {
		.orig = pt_tuple_of(&f->p),
		.to = a->lan_key.saddr,
		.to_port = a->lan_key.sport,
		.status = pt_flow_status(config, false),
		.time_ms = pt_flow_left(a->lan->seen_ns, pt_session_idle_ns(a->lan, f->p.proto, config),
					bpf_ktime_get_boot_ns()) /
			   1000000,
		.proto = f->p.proto,
	};

	return pt_entry_make(skb, &w);
}

/* Nothing is to be decided: looked at within the last second, and conntrack has its entry. The commonest case by
 * far, for which the WAN half suffices. */
static __always_inline bool pt_arrive_plain(const struct pt_flow *f, const struct ptrig_session *wan,
					    const struct pt_entry *e) {
	enum pt_whose whose = pt_entry_whose(e, wan->addr, wan->port);

	return !(wan->id & PTRIG_SESSION_OVER) && !(wan->flags & PTRIG_SESSION_HAIRPIN) == !f->hairpin &&
	       !(wan->flags & PTRIG_SESSION_REMADE) && !(f->p.tcp_flags & (PT_TCP_SYN | PT_TCP_FIN | PT_TCP_RST)) &&
	       (__u32)bpf_jiffies64() - wan->checked < cfg_tick_hz && (whose == PT_OURS || whose == PT_HOSTS);
}

/* The session of this packet, copied; false if there is none, or it is just beginning or ending on another CPU
 * (`busy`). */
static __noinline bool pt_arrive_find(const struct pt_flow *f, const struct pt_entry *e, struct pt_arrival *a,
				      bool *busy) {
	struct ptrig_session *lan;
	__u64 id;

	if (a->wan) {
		struct ptrig_session_key key = pt_session_key(&f->p, PTRIG_SIDE_WAN);

		id = pt_session_number(a->wan);
		a->lan_key = pt_session_mirror(&key, a->wan);
		lan = bpf_map_lookup_elem(&pt_sessions, &a->lan_key);
		*busy = true;
	} else {
		id = 0;
		lan = pt_flow_halfopen(e, f->p.proto, &a->lan_key, &id);
		*busy = lan;
	}
	if (!lan || !id)
		return false;
	*a->lan = *lan;
	a->at = lan;
	return pt_session_number(lan) == id && pt_session_number(a->lan) == id;
}

/* On a bridge with br_netfilter the host's answers in a hairpin never come by LAN ingress. Conntrack has seen one: its
 * entry began without. */
static __noinline enum ptrig_reason pt_arrive_answered(struct __sk_buff *skb, const struct pt_flow *f,
						       const struct pt_arrival *a) {
	const struct ptrig_config *config = pt_config_get(f->gen);
	struct pt_found found = {
		.lan_key = a->lan_key, .lan = a->at, .id = pt_session_number(a->lan), .halfopen = !a->wan};

	if (!config || !found.lan)
		return PTRIG_HALF_OPEN;
	if (found.halfopen)
		return pt_answer_promote(skb, &f->p, &found, config);
	if (pt_session_number(found.lan) == found.id)
		found.lan->seen_ns = bpf_ktime_get_boot_ns();
	return PTRIG_FORWARDED;
}

/* Its new entry knows neither the connection's sequence numbers nor the scale of its windows: it would take packets for
 * invalid, and the gateway would answer them with a RST. So the rest waits until the daemon has told conntrack to let
 * sequence numbers be (pt_answer_waits()). */
static __noinline void pt_arrive_remade(const struct pt_arrival *a) {
	struct ptrig_session *lan = a->at, *wan = a->wan;

	if (!lan || !wan)
		return;
	lan->flags &= ~PTRIG_SESSION_LIBERAL;
	lan->remade = bpf_jiffies64();
	lan->flags |= PTRIG_SESSION_REMADE;
	wan->flags |= PTRIG_SESSION_REMADE;
	pt_event_liberal(a->lan);
}

/* It is looked at: is it over, and is its entry there? GO_ON if it is over and has been ended. */
static __noinline enum ptrig_reason pt_arrive_look(struct __sk_buff *skb, struct pt_flow *f, struct pt_arrival *a,
						   const struct pt_entry *e) {
	struct ptrig_session *lan = a->at;
	enum pt_whose whose = pt_entry_whose(e, a->lan_key.saddr, a->lan_key.sport);
	bool gone = whose == PT_NONE || whose == PT_NOBODYS;

	if (!lan)
		return PT_GO_ON;
	if (whose == PT_ANOTHERS || pt_arrive_over(f, a, e) ||
	    (gone && (f->hairpin || a->lan->id & PTRIG_SESSION_ASK))) {
		pt_flow_end(skb, &a->lan_key, lan, pt_session_number(a->lan), !a->wan);
		f->ended = true;
		return PT_GO_ON;
	}
	if (whose == PT_NOBODYS)
		pt_entry_forget(skb, &a->t, f->p.proto);
	if (gone && !pt_arrive_again(skb, f, a))
		return PTRIG_ENTRY_REFUSED;
	if (gone && f->p.proto == IPPROTO_TCP)
		pt_arrive_remade(a);
	/* it has ended meanwhile, and taken its entry along */
	if (gone && pt_session_number(lan) != pt_session_number(a->lan)) {
		pt_entry_forget(skb, &a->t, f->p.proto);
		return PTRIG_SESSION_ENDED;
	}
	if (a->wan) {
		a->wan->checked = bpf_jiffies64();
	} else {
		const struct ptrig_config *config = pt_config_get(f->gen);

		if (config)
			pt_entry_time(skb, &a->t, f->p.proto,
				      pt_flow_left(a->lan->seen_ns, config->halfopen_ns, bpf_ktime_get_boot_ns()));
	}
	return gone ? PTRIG_REMADE : PTRIG_FORWARDED;
}

/* A FIN or RST. Conntrack says what it means, unless its entry lets sequence numbers be: then it is held against what
 * the host has acknowledged (RFC 9293 3.5.3, RFC 5961 3.2), and only a RST that fits exactly ends the connection. */
static __noinline enum ptrig_reason pt_arrive_closes(struct __sk_buff *skb, const struct pt_flow *f,
						     const struct pt_arrival *a, const struct pt_entry *e,
						     enum ptrig_reason reason) {
	struct ptrig_session *lan = a->at;
	__u64 id = pt_session_number(a->lan), mark = PTRIG_SESSION_ASK;
	bool reset = f->p.tcp_flags & PT_TCP_RST;
	__be32 seq;

	if (!lan)
		return reason;
	if (a->wan && e->liberal && a->lan->flags & PTRIG_SESSION_ACKED) {
		if (bpf_skb_load_bytes(skb, f->p.l4 + offsetof(struct tcphdr, seq), &seq, sizeof(seq)))
			return PTRIG_OUT_OF_WINDOW;
		__u32 ahead = bpf_ntohl(seq) - pt_fast_acked(lan);

		/* a FIN may come again, whose acknowledgement was lost */
		if (ahead > (e->window > PT_WINDOW_LEAST ? e->window : PT_WINDOW_LEAST) && (reset || ahead != ~0U))
			return PTRIG_OUT_OF_WINDOW;
		if (reset)
			mark = ahead ? 0 : PTRIG_SESSION_OVER;
	}
	if (mark)
		pt_answer_slow(lan, a->wan);
	pt_session_mark(lan, id, mark, 0);
	return reason;
}

/* The WAN half of an answered session. */
static __noinline struct ptrig_session *pt_arrive_wan(const struct pt_pkt *p) {
	struct ptrig_session_key key = pt_session_key(p, PTRIG_SIDE_WAN);

	return bpf_map_lookup_elem(&pt_sessions, &key);
}

static __always_inline enum ptrig_reason pt_arrive_counted(struct ptrig_session *half, const struct pt_pkt *p,
							   enum ptrig_reason reason) {
	half->packets++;
	half->bytes += p->len;
	return reason;
}

/* It came by the session's own WAN, and not out of a tunnel: LAN egress is to look at it, for permission. */
static __always_inline void pt_arrive_ask(struct __sk_buff *skb, const struct pt_flow *f, struct ptrig_session *wan,
					  const struct pt_entry *e) {
	bool established = f->p.proto == IPPROTO_TCP ? pt_entry_lets_be(e) && !(f->p.tcp_flags & PT_TCP_NO_GRANT)
						     : wan->state == PTRIG_SESSION_ESTABLISHED;

	if (!established || !pt_permit_possible(wan) || wan->oif != skb->ifindex || pt_permit_secured(skb))
		return;
	pt_permit_ask(skb, f, wan);
	pt_hint_set(wan->addr, wan->port, f->p.proto, PTRIG_SIDE_LAN);
}

/* A remote's packet that leaves to its host, as LAN ingress of the answer would have it: its direction gets permission.
 * Global for the verifier's sake. */
__noinline int pt_arrive_leaves(struct __sk_buff *skb, const struct pt_pkt *p) {
	if (!p)
		return PTRIG_NO_ANSWER;
	struct ptrig_session_key key = pt_session_answer_key(p, PTRIG_SIDE_LAN);
	struct ptrig_session *lan = bpf_map_lookup_elem(&pt_sessions, &key), *wan;

	if (!lan)
		return PTRIG_NO_ANSWER;
	__u64 id = pt_session_number(lan);

	key = pt_session_mirror(&key, lan);
	wan = bpf_map_lookup_elem(&pt_sessions, &key);
	if (wan && id && pt_session_number(wan) == id)
		pt_permit(skb, p, &key, wan, id);
	return PTRIG_NO_ANSWER;
}

/* A remote's packet of a session; GO_ON if there is none (any more). */
__noinline int pt_arrive(struct __sk_buff *skb, struct pt_flow *f) {
	struct ptrig_pair *scratch = pt_session_scratch();
	struct pt_entry *e = pt_flow_scratch();

	if (!f || !scratch || !e)
		return PT_GO_ON;
	struct pt_arrival a = {
		.t = pt_tuple_of(&f->p),
		.lan = &scratch->lan,
		.wan = pt_arrive_wan(&f->p),
	};
	bool busy = false;

	pt_entry_look(skb, &a.t, f->p.proto, e);
	if (a.wan && pt_arrive_plain(f, a.wan, e)) {
		pt_arrive_ask(skb, f, a.wan, e);
		return pt_arrive_counted(a.wan, &f->p, PTRIG_FORWARDED);
	}
	f->looked = !a.wan;
	if (!pt_arrive_find(f, e, &a, &busy))
		return busy ? PTRIG_HALF_OPEN : PT_GO_ON;
	if (!(a.lan->flags & PTRIG_SESSION_HAIRPIN) != !f->hairpin)
		return PT_GO_ON;
	f->looked = false; /* it may change */
	enum ptrig_reason reason = pt_arrive_look(skb, f, &a, e);

	if (reason != PTRIG_FORWARDED && reason != PTRIG_REMADE)
		return reason;
	if (reason == PTRIG_FORWARDED && pt_answer_waits(a.at, a.wan, e))
		return PTRIG_REMADE_WAITS;
	if (f->p.tcp_flags & (PT_TCP_FIN | PT_TCP_RST)) {
		reason = pt_arrive_closes(skb, f, &a, e, reason);
		if (reason == PTRIG_OUT_OF_WINDOW)
			return reason;
	}
	pt_arrive_counted(a.wan ?: a.at, &f->p, reason);
	if (f->hairpin && e->status & PT_IPS_SEEN_REPLY)
		return pt_arrive_answered(skb, f, &a);
	if (!a.wan)
		return PTRIG_HALF_OPEN;
	pt_arrive_ask(skb, f, a.wan, e);
	return reason;
}

#endif
