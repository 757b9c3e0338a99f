/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A remote's packet of a session that exists, half-open or established, from the WAN or, in a hairpin, from the LAN: is
 * the session over, and does conntrack still have its entry? Global functions, so that the verifier walks each once.
 */
#ifndef PT_ARRIVE_H
#define PT_ARRIVE_H

#include "answer.h"

/* What one packet needs to know of its session. `lan` is a copy, since the element may become another session's. */
struct pt_arrival {
	struct ptrig_session_key lan_key;
	struct ptrig_session *lan; /* in the scratch */
	bool halfopen;
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
	if (a->halfopen)
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
		.time_ms = pt_session_idle_ns(a->lan, f->p.proto, config) / 1000000,
		.proto = f->p.proto,
	};

	return pt_entry_make(skb, &w);
}

/* The session of this packet, copied, and where its halves are; false if there is none, or it is just beginning or
 * ending on another CPU (`busy`). */
static __always_inline struct ptrig_session *pt_arrive_find(const struct pt_flow *f, struct pt_arrival *a,
							    struct ptrig_session **wan_side, bool *busy) {
	struct ptrig_session_key key = pt_session_key(&f->p, PTRIG_SIDE_WAN);
	struct ptrig_session *wan = bpf_map_lookup_elem(&pt_sessions, &key), *lan;

	a->halfopen = !wan;
	if (!wan)
		wan = bpf_map_lookup_elem(&pt_halfopen, &key);
	if (!wan)
		return NULL;
	__u64 id = *(volatile __u64 *)&wan->id;

	a->lan_key = pt_session_mirror(&key, wan);
	lan = a->halfopen ? bpf_map_lookup_elem(&pt_halfopen, &a->lan_key)
			  : bpf_map_lookup_elem(&pt_sessions, &a->lan_key);
	*busy = true;
	if (!lan)
		return NULL;
	*a->lan = *lan;
	if (*(volatile __u64 *)&lan->id != id || a->lan->id != id)
		return NULL;
	*wan_side = wan;
	return lan;
}

/* On a bridge with br_netfilter the host's answers in a hairpin never come by LAN ingress. Conntrack has seen one: its
 * entry began without. */
static __noinline enum ptrig_reason pt_arrive_answered(struct __sk_buff *skb, const struct pt_flow *f,
						       const struct pt_arrival *a, struct ptrig_session *lan) {
	const struct ptrig_config *config = pt_config_get(f->gen);
	struct pt_found found = {.lan_key = a->lan_key, .lan = lan, .id = a->lan->id, .halfopen = a->halfopen};

	if (!config || !lan)
		return PTRIG_HALF_OPEN;
	if (found.halfopen)
		return pt_answer_promote(skb, &f->p, &found, config);
	if (lan->id == found.id)
		lan->seen_ns = bpf_ktime_get_boot_ns();
	return PTRIG_FORWARDED;
}

/* A remote's packet of a session; GO_ON if there is none (any more). */
__noinline int pt_arrive(struct __sk_buff *skb, struct pt_flow *f) {
	if (!f)
		return PT_GO_ON;
	struct pt_arrival a = {};
	struct ptrig_session *wan = NULL, *lan;
	struct pt_tuple t = pt_tuple_of(&f->p);
	struct pt_entry e;
	bool busy = false;
	struct ptrig_pair *scratch = pt_session_scratch();

	if (!scratch)
		return PT_GO_ON;
	a.lan = &scratch->lan;
	lan = pt_arrive_find(f, &a, &wan, &busy);
	if (!lan || !wan)
		return busy ? PTRIG_HALF_OPEN : PT_GO_ON;
	if (!(a.lan->flags & PTRIG_SESSION_HAIRPIN) != !f->hairpin)
		return PT_GO_ON;
	pt_entry_look(skb, &t, f->p.proto, &e);
	enum pt_whose whose = pt_entry_whose(&e, a.lan_key.saddr, a.lan_key.sport);
	__u32 tick = bpf_jiffies64();
	bool look = a.halfopen || tick - wan->checked >= cfg_tick_hz || whose != PT_OURS ||
		    f->p.tcp_flags & PT_TCP_SYN || a.lan->flags & PTRIG_SESSION_OVER;

	if (look) {
		bool gone = whose == PT_NONE || whose == PT_NOBODYS;

		if (whose == PT_ANOTHERS || pt_arrive_over(f, &a, &e) ||
		    (gone && (a.halfopen || f->hairpin || a.lan->flags & PTRIG_SESSION_ASK))) {
			pt_flow_end(skb, &a.lan_key, lan, a.lan->id, a.halfopen);
			f->ended = true;
			return PT_GO_ON;
		}
		if (whose == PT_NOBODYS)
			pt_entry_forget(skb, &t, f->p.proto);
		if (gone && !pt_arrive_again(skb, f, &a))
			return PTRIG_ENTRY_REFUSED;
		/* it has ended meanwhile, and taken its entry along */
		if (gone && *(volatile __u64 *)&lan->id != a.lan->id) {
			pt_entry_forget(skb, &t, f->p.proto);
			return PTRIG_SESSION_ENDED;
		}
		wan->checked = tick;
		if (a.halfopen) {
			const struct ptrig_config *config = pt_config_get(f->gen);

			if (config)
				pt_entry_time(
					skb, &t, f->p.proto,
					pt_flow_left(a.lan->seen_ns, config->halfopen_ns, bpf_ktime_get_boot_ns()));
		}
	}
	if (f->p.tcp_flags & (PT_TCP_FIN | PT_TCP_RST) && lan->id == a.lan->id)
		lan->flags |= PTRIG_SESSION_ASK;
	wan->packets++;
	wan->bytes += f->p.len;
	if (look && f->hairpin && e.status & PT_IPS_SEEN_REPLY)
		return pt_arrive_answered(skb, f, &a, lan);
	if (look && !a.halfopen && (whose == PT_NONE || whose == PT_NOBODYS))
		return PTRIG_REMADE;
	return a.halfopen ? PTRIG_HALF_OPEN : PTRIG_FORWARDED;
}

#endif
