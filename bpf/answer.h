/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host's packets in sessions that a remote has begun. LAN ingress tells whether a packet is the host's own; what
 * has passed the firewall and leaves by the WAN answers the session and keeps it. In a hairpin, where the answer leaves
 * to the LAN, LAN ingress does both.
 */
#ifndef PT_ANSWER_H
#define PT_ANSWER_H

#include "flow.h"
#include "hint.h"

#define PT_HEARD_SECONDS 4 /* so long a packet may be on its way through the gateway: a neighbour is asked for 3 s */

/* One half of a session that a packet of the host's belongs to, found by the key of either half. */
struct pt_found {
	struct ptrig_session_key lan_key;
	struct ptrig_session *lan; /* NULL: none */
	__u64 id;
	bool halfopen;
};

static __always_inline void pt_answer_find(const struct ptrig_session_key *key, struct pt_found *found) {
	struct ptrig_session *s = bpf_map_lookup_elem(&pt_sessions, key);

	found->halfopen = !s;
	if (!s)
		s = bpf_map_lookup_elem(&pt_halfopen, key);
	found->lan = NULL;
	if (!s)
		return;
	found->id = *(volatile __u64 *)&s->id;
	found->lan_key = *key;
	if (key->side == PTRIG_SIDE_WAN) {
		found->lan_key = pt_session_mirror(key, s);
		s = found->halfopen ? bpf_map_lookup_elem(&pt_halfopen, &found->lan_key)
				    : bpf_map_lookup_elem(&pt_sessions, &found->lan_key);
		if (!s || *(volatile __u64 *)&s->id != found->id)
			return;
	}
	found->lan = found->id ? s : NULL;
}

/* The entry of the session with this WAN side gets so much time; none: it goes. */
static __noinline void pt_answer_entry(struct __sk_buff *skb, const struct ptrig_session_key *wan_key, __u64 time_ns) {
	struct pt_tuple t = pt_flow_tuple(wan_key);

	if (time_ns)
		pt_entry_time(skb, &t, wan_key->proto, time_ns);
	else
		pt_entry_forget(skb, &t, wan_key->proto);
}

/* The host has answered: from the half-open table to the other one. Conntrack's entry stays. */
static __noinline enum ptrig_reason pt_answer_promote(struct __sk_buff *skb, const struct pt_pkt *p,
						      const struct pt_found *found, const struct ptrig_config *config) {
	const struct ptrig_session_key *key = &found->lan_key;
	struct ptrig_session *lan = found->lan, *wan;
	struct ptrig_pair *pair = pt_session_scratch();

	if (!lan || !pair || !pt_session_claim(lan, found->id))
		return PTRIG_HALF_OPEN; /* another CPU is just doing it */
	struct ptrig_session_key mirror = pt_session_mirror(key, lan);

	wan = bpf_map_lookup_elem(&pt_halfopen, &mirror);
	if (!wan) {
		pt_halfopen_delete(key, lan);
		return PTRIG_SESSION_ENDED;
	}
	pair->lan = *lan;
	pair->wan = *wan;
	pair->lan.id = pair->wan.id = pt_session_new_id();
	pair->lan.seen_ns = pair->wan.seen_ns = bpf_ktime_get_boot_ns();
	pair->lan.state = p->proto == IPPROTO_TCP ? PTRIG_SESSION_TRANSITORY : PTRIG_SESSION_ESTABLISHED;
	pair->wan.state = pair->lan.state;
	pair->lan.packets = 1;
	pair->lan.bytes = p->len;
	pair->lan.checked = bpf_jiffies64();
	int err = pt_established_insert(key, pair);
	__be32 payer = pt_session_payer(key, &pair->lan);

	bpf_map_delete_elem(&pt_halfopen, &mirror);
	bpf_map_delete_elem(&pt_halfopen, key);
	pt_ports_count(key, &pair->lan, -1);
	pt_halfopen_release(payer);
	if (err) {
		pt_session_uncount(payer, &pair->lan, pair->wan.packets, pair->wan.bytes);
		pt_answer_entry(skb, &mirror, 0);
		return err == -PT_EEXIST ? PTRIG_FLOW_KNOWN : PTRIG_SESSIONS_FULL;
	}
	if (p->proto == IPPROTO_UDP)
		pt_answer_entry(skb, &mirror, config->udp_ns);
	return PTRIG_ESTABLISHED;
}

/* Is the session's entry there, and in which state of TCP? */
static __noinline bool pt_answer_state(struct __sk_buff *skb, const struct pt_found *found, __u8 *tcp_state) {
	if (!found->lan)
		return false;
	struct pt_tuple t;
	struct pt_entry e;

	if (!pt_flow_look(skb, &found->lan_key, found->lan, &t, &e))
		return false;
	*tcp_state = pt_flow_tcp_state(&e);
	return true;
}

/* An answered session's packet from its host: once a second, and for FIN and RST, it is looked at. */
static __noinline enum ptrig_reason pt_answer_renew(struct __sk_buff *skb, const struct pt_pkt *p,
						    const struct pt_found *found, const struct ptrig_config *config) {
	struct ptrig_session *lan = found->lan;
	__u8 tcp_state = 0;

	if (!lan)
		return PTRIG_SESSION_ENDED;
	__u64 now = bpf_ktime_get_boot_ns(), seen = lan->seen_ns;
	struct ptrig_rule *rule = pt_rule_by_id(pt_generation(), lan->rule);
	struct ptrig_lease *lease = pt_session_lease(lan, rule, now);

	if (pt_flow_denied(config, lan) || pt_established_over(lan, seen, p->proto, lease, rule, config, now)) {
		pt_flow_end(skb, &found->lan_key, lan, found->id, false);
		return PTRIG_SESSION_ENDED;
	}
	bool there = pt_answer_state(skb, found, &tcp_state);

	if (lan->id != found->id)
		return PTRIG_SESSION_ENDED;
	if (p->proto == IPPROTO_TCP && there)
		lan->state = tcp_state;
	if ((__s64)(now - seen) > 0)
		lan->seen_ns = now;
	lan->checked = bpf_jiffies64();
	if (there && lan->state == PTRIG_SESSION_ESTABLISHED) {
		struct ptrig_session_key mirror = pt_session_mirror(&found->lan_key, lan);

		pt_answer_entry(skb, &mirror, pt_session_idle_ns(lan, p->proto, config));
	}
	return PTRIG_FORWARDED;
}

/* A half-open session's packet from its host: the answer, or a reset, unless it comes too late. */
static __noinline enum ptrig_reason pt_answer_first(struct __sk_buff *skb, const struct pt_pkt *p,
						    const struct pt_found *found, const struct ptrig_config *config) {
	struct ptrig_session *lan = found->lan;
	__u64 now = bpf_ktime_get_boot_ns();

	if (!lan)
		return PTRIG_SESSION_ENDED;
	struct ptrig_lease *lease = pt_session_lease(lan, pt_rule_by_id(pt_generation(), lan->rule), now);
	bool over = pt_flow_denied(config, lan) ||
		    pt_halfopen_over(lan, lan->seen_ns, found->lan_key.saddr, lease, config, now);
	bool reset = p->tcp_flags & PT_TCP_RST;

	if (!over && !reset)
		return pt_answer_promote(skb, p, found, config);
	if (reset && lan->flags & PTRIG_SESSION_HAIRPIN)
		lan->flags |= PTRIG_SESSION_OVER; /* a closed port; the entry has yet to translate this packet */
	else
		pt_flow_end(skb, &found->lan_key, lan, found->id, true);
	return reset ? PTRIG_HALF_OPEN : PTRIG_SESSION_ENDED;
}

/* A host's packet in the session that `found` leads to. */
static __noinline enum ptrig_reason pt_answer(struct __sk_buff *skb, const struct pt_pkt *p, struct pt_found *found) {
	const struct ptrig_config *config = pt_config_get(pt_generation());
	struct ptrig_session *lan = found->lan;
	enum ptrig_reason reason = PTRIG_FORWARDED;

	if (!lan || !config)
		return PTRIG_SESSION_ENDED;
	if (found->halfopen)
		return pt_answer_first(skb, p, found, config);
	bool closing = p->tcp_flags & (PT_TCP_FIN | PT_TCP_RST);

	if (closing)
		lan->flags |= PTRIG_SESSION_ASK;
	if (closing || lan->state != PTRIG_SESSION_ESTABLISHED || lan->flags & PTRIG_SESSION_OVER ||
	    (__u32)bpf_jiffies64() - lan->checked >= cfg_tick_hz)
		reason = pt_answer_renew(skb, p, found, config);
	if (reason == PTRIG_FORWARDED) {
		lan->packets++;
		lan->bytes += p->len;
	}
	return reason;
}

/* At LAN ingress: a session's packet from its host; GO_ON if there is none. Global for the verifier's sake. */
__noinline int pt_answer_heard(struct __sk_buff *skb, struct pt_flow *f) {
	if (!f)
		return PT_GO_ON;
	struct ptrig_session_key key = pt_session_key(&f->p, PTRIG_SIDE_LAN);
	struct pt_found found = {};

	pt_answer_find(&key, &found);
	struct ptrig_session *lan = found.lan;
	__u32 tick = bpf_jiffies64();

	if (!lan)
		return PT_GO_ON;
	if (pt_session_forged(skb, f->l3, lan->via))
		return PTRIG_SPOOFED;
	if (lan->flags & PTRIG_SESSION_HAIRPIN)
		return pt_answer(skb, &f->p, &found);
	if (lan->heard != tick)
		lan->heard = tick;
	pt_hint_set(&f->p);
	return PTRIG_HEARD;
}

/* At WAN egress: a packet of a flow that began at the WAN. GO_ON if it is no session's. Global for the verifier's sake.
 */
__noinline int pt_answer_leaves(struct __sk_buff *skb, const struct pt_pkt *p) {
	if (!p)
		return PT_GO_ON;
	struct ptrig_session_key key = pt_session_answer_key(p, PTRIG_SIDE_WAN);
	struct pt_found found = {};

	pt_answer_find(&key, &found);
	struct ptrig_session *lan = found.lan;

	if (!lan)
		return PT_GO_ON;
	if ((__u32)bpf_jiffies64() - lan->heard > PT_HEARD_SECONDS * cfg_tick_hz)
		return PTRIG_SPOOFED;
	if (lan->oif != skb->ifindex)
		return PTRIG_OTHER_WAN;
	return pt_answer(skb, p, &found);
}

#endif
