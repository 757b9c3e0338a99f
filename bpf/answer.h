/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host's packets in sessions that a remote has begun. LAN ingress tells whether a packet is the host's own; what
 * has passed the firewall and leaves by the WAN answers the session and keeps it. In a hairpin, where the answer leaves
 * to the LAN, LAN ingress does both.
 */
#ifndef PT_ANSWER_H
#define PT_ANSWER_H

#include "event.h"
#include "hint.h"
#include "permit.h"

#define PT_HEARD_SECONDS 4 /* so long a packet may be on its way through the gateway: a neighbour is asked for 3 s */

/* The session that a packet of the host's belongs to. */
struct pt_found {
	struct ptrig_session_key lan_key;
	struct ptrig_session *lan; /* NULL: none */
	__u64 id;
	bool halfopen;
	/* TCP, once pt_answer_whose() has looked: as conntrack has it */
	__u8 tcp_state;
	bool liberal;
};

/* By the tuple of the packet as its host sends it. */
static __always_inline void pt_answer_find(const struct pt_pkt *p, struct pt_found *found) {
	found->lan_key = pt_session_key(p, PTRIG_SIDE_LAN);
	struct ptrig_session *lan = bpf_map_lookup_elem(&pt_sessions, &found->lan_key);

	found->halfopen = !lan;
	if (!lan)
		lan = bpf_map_lookup_elem(&pt_halfopen, &found->lan_key);
	if (!lan)
		return;
	found->id = pt_session_number(lan);
	found->lan = found->id ? lan : NULL;
}
/* An established one, by the tuple as it leaves by the WAN. */
static __always_inline void pt_answer_find_leaving(const struct pt_pkt *p, struct pt_found *found) {
	struct ptrig_session_key key = pt_session_answer_key(p, PTRIG_SIDE_WAN);
	struct ptrig_session *wan = bpf_map_lookup_elem(&pt_sessions, &key), *lan;

	if (!wan)
		return;
	found->id = pt_session_number(wan);
	found->lan_key = pt_session_mirror(&key, wan);
	lan = bpf_map_lookup_elem(&pt_sessions, &found->lan_key);
	found->lan = lan && pt_session_number(lan) == found->id ? lan : NULL;
}

/* The entry of the session with this LAN half gets so much time; none: it goes. */
static __noinline void pt_answer_entry(struct __sk_buff *skb, const struct ptrig_session_key *lan_key,
				       const struct ptrig_session *lan, __u64 time_ns) {
	struct ptrig_session_key wan_key = pt_session_mirror(lan_key, lan);
	struct pt_tuple t = pt_flow_tuple(&wan_key);

	if (time_ns)
		pt_entry_time(skb, &t, lan_key->proto, time_ns);
	else
		pt_entry_forget(skb, &t, lan_key->proto);
}

/* The host has answered: from the half-open table to the other one. Conntrack's entry stays. */
static __noinline enum ptrig_reason pt_answer_promote(struct __sk_buff *skb, const struct pt_pkt *p,
						      const struct pt_found *found, const struct ptrig_config *config) {
	const struct ptrig_session_key *key = &found->lan_key;
	struct ptrig_session *lan = found->lan;
	struct ptrig_pair *pair = pt_session_scratch();

	__u64 was = lan && pair ? pt_session_claim(&pt_halfopen, key, lan, found->id) : 0;

	if (!was)
		return PTRIG_HALF_OPEN; /* another CPU is just doing it */
	pair->lan = *lan;
	pair->lan.id = pt_session_new_id() | (was & ~PTRIG_SESSION_NUMBER);
	pair->lan.seen_ns = bpf_ktime_get_boot_ns();
	pair->lan.checked = bpf_jiffies64();
	pair->lan.state = p->proto == IPPROTO_TCP ? PTRIG_SESSION_TRANSITORY : PTRIG_SESSION_ESTABLISHED;
	pt_session_wan_half(key, &pair->lan, &pair->wan); /* until now the remote's packets were counted */
	pair->lan.packets = 1;
	pair->lan.bytes = p->len;
	int err = pt_established_insert(key, pair);
	__be32 payer = pt_session_payer(key, &pair->lan);

	bpf_map_delete_elem(&pt_halfopen, key);
	pt_ports_count(key, &pair->lan, -1);
	pt_halfopen_release(payer);
	if (err) {
		pt_session_uncount(payer, &pair->lan, pair->wan.packets, pair->wan.bytes);
		pt_answer_entry(skb, key, &pair->lan, 0);
		return err == -PT_EEXIST ? PTRIG_FLOW_KNOWN : PTRIG_SESSIONS_FULL;
	}
	if (p->proto == IPPROTO_UDP)
		pt_answer_entry(skb, key, &pair->lan, config->udp_ns);
	return PTRIG_ESTABLISHED;
}

/* Whose is the entry under the session's tuple, in which state of TCP is it, and does it let sequence numbers be? */
static __noinline enum pt_whose pt_answer_whose(struct __sk_buff *skb, struct pt_found *found) {
	struct pt_entry *e = pt_flow_scratch();
	struct pt_tuple t;

	if (!found->lan || !e || !pt_flow_look(skb, &found->lan_key, found->lan, &t, e))
		return PT_NONE;
	found->tcp_state = pt_flow_tcp_state(e);
	found->liberal = e->liberal;
	return pt_entry_whose(e, found->lan_key.saddr, found->lan_key.sport);
}

/* The other half of an answered session. */
static __noinline struct ptrig_session *pt_answer_wan(const struct pt_found *found) {
	if (!found->lan)
		return NULL;
	struct ptrig_session_key key = pt_session_mirror(&found->lan_key, found->lan);

	return bpf_map_lookup_elem(&pt_sessions, &key);
}

/* Conntrack is to see the rest of it: neither direction has permission any more. */
static __always_inline void pt_answer_slow(struct ptrig_session *lan, struct ptrig_session *wan) {
	pt_fast_leave(lan);
	pt_fast_leave(wan);
}

/* TCP, its entry `e` was made again: does the kernel have to wait for the daemon's word still? No longer than a quarter
 * of a second: there may be no daemon. */
static __noinline bool pt_answer_waits(struct ptrig_session *lan, struct ptrig_session *wan, const struct pt_entry *e) {
	if (!lan || !wan || !(lan->flags & PTRIG_SESSION_REMADE))
		return false;
	bool liberal = e->found && e->liberal;

	if (e->found && !liberal && (__u16)((__u16)bpf_jiffies64() - lan->remade) < cfg_tick_hz / 4)
		return true;
	lan->flags &= ~PTRIG_SESSION_REMADE;
	wan->flags &= ~PTRIG_SESSION_REMADE;
	if (liberal)
		lan->flags |= PTRIG_SESSION_LIBERAL;
	else
		pt_answer_slow(lan, wan);
	return false;
}
/* The same for a packet from the host. */
static __noinline bool pt_answer_heard_waits(struct __sk_buff *skb, const struct pt_found *found) {
	struct pt_entry *e = pt_flow_scratch();
	struct pt_tuple t;

	if (!found->lan || !e)
		return false;
	pt_flow_look(skb, &found->lan_key, found->lan, &t, e);
	return pt_answer_waits(found->lan, pt_answer_wan(found), e);
}

#define PT_LIBERAL_PACKETS 32 /* of its host: a connection with fewer is not worth it */

/* As conntrack sees the connection now. Its entry is to let sequence numbers be before the fast path may have it. */
static __noinline void pt_answer_track(const struct pt_found *found) {
	struct ptrig_session *lan = found->lan;

	if (!lan)
		return;
	lan->state = found->tcp_state;
	if (found->liberal) {
		lan->flags |= PTRIG_SESSION_LIBERAL;
		return;
	}
	lan->flags &= ~PTRIG_SESSION_LIBERAL;
	if (lan->state == PTRIG_SESSION_ESTABLISHED && lan->packets >= PT_LIBERAL_PACKETS && pt_permit_possible(lan))
		pt_event_liberal(lan);
}

/* An answered session's packet from its host: once a second, and for FIN and RST, it is looked at. */
static __noinline enum ptrig_reason pt_answer_renew(struct __sk_buff *skb, const struct pt_pkt *p,
						    struct pt_found *found, const struct ptrig_config *config) {
	struct ptrig_session *lan = found->lan;

	if (!lan)
		return PTRIG_SESSION_ENDED;
	__u64 now = bpf_ktime_get_boot_ns(), seen = lan->seen_ns;
	struct ptrig_rule *rule = pt_rule_by_id(pt_generation(), lan->rule);
	struct ptrig_lease *lease = pt_session_lease(lan, rule, now);

	enum pt_whose whose = pt_answer_whose(skb, found);
	bool there = whose == PT_OURS || whose == PT_HOSTS;

	if (p->tcp_flags & PT_TCP_RST && found->liberal) /* conntrack makes nothing of it then */
		pt_session_mark(lan, found->id, PTRIG_SESSION_OVER, 0);
	if (whose == PT_ANOTHERS || pt_flow_denied(config, lan) ||
	    pt_established_over(lan, seen, p->proto, lease, rule, config, now)) {
		pt_flow_end(skb, &found->lan_key, lan, found->id, false);
		return PTRIG_SESSION_ENDED;
	}

	if (pt_session_number(lan) != found->id)
		return PTRIG_SESSION_ENDED;
	if (p->proto == IPPROTO_TCP && there)
		pt_answer_track(found);
	if ((__s64)(now - seen) > 0)
		lan->seen_ns = now;
	lan->checked = bpf_jiffies64();
	if (whose == PT_OURS && lan->state == PTRIG_SESSION_ESTABLISHED)
		pt_answer_entry(skb, &found->lan_key, lan, pt_session_idle_ns(lan, p->proto, config));
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
		/* a closed port; the entry has yet to translate this packet */
		pt_session_mark(lan, found->id, PTRIG_SESSION_OVER, 0);
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

	if (closing) {
		pt_answer_slow(lan, pt_answer_wan(found));
		pt_session_mark(lan, found->id, PTRIG_SESSION_ASK, 0);
	}
	if (closing || lan->state != PTRIG_SESSION_ESTABLISHED || lan->id & PTRIG_SESSION_OVER ||
	    (__u32)bpf_jiffies64() - lan->checked >= cfg_tick_hz)
		reason = pt_answer_renew(skb, p, found, config);
	if (reason == PTRIG_FORWARDED) {
		lan->packets++;
		lan->bytes += p->len;
	}
	return reason;
}

/* What the host has acknowledged, against which a RST or FIN of its remote is held. It is noted from the first packet
 * on: conntrack may let sequence numbers be at any moment. */
static __always_inline void pt_answer_acked(struct __sk_buff *skb, const struct pt_pkt *p, struct ptrig_session *lan) {
	__u32 ack;

	if (!pt_packet_acks(skb, p, &ack))
		return;
	lan->ack = ack;
	if (!(lan->flags & PTRIG_SESSION_ACKED))
		lan->flags |= PTRIG_SESSION_ACKED;
}

/* At LAN ingress: a session's packet from its host; GO_ON if there is none. Global for the verifier's sake. */
__noinline int pt_answer_heard(struct __sk_buff *skb, struct pt_flow *f) {
	if (!f)
		return PT_GO_ON;
	struct pt_found found = {};

	pt_answer_find(&f->p, &found);
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
	if (lan->flags & PTRIG_SESSION_REMADE && pt_answer_heard_waits(skb, &found))
		return PTRIG_REMADE_WAITS;
	if (f->p.proto == IPPROTO_TCP)
		pt_answer_acked(skb, &f->p, lan);
	if (pt_permit_wanted(lan, &f->p))
		pt_permit_ask(skb, f, lan);
	pt_hint_set(f->p.daddr, f->p.dport, f->p.proto, PTRIG_SIDE_WAN);
	return PTRIG_HEARD;
}

/* Of the session that was found, if the host itself sent this a moment ago and it leaves by the session's WAN. */
static __always_inline enum ptrig_reason pt_answer_found(struct __sk_buff *skb, const struct pt_pkt *p,
							 struct pt_found *found) {
	const struct ptrig_session *lan = found->lan;

	if (!lan)
		return PT_GO_ON;
	if ((__u32)bpf_jiffies64() - lan->heard >= PT_HEARD_SECONDS * cfg_tick_hz)
		return PTRIG_SPOOFED;
	return lan->oif == skb->ifindex ? pt_answer(skb, p, found) : PTRIG_OTHER_WAN;
}

/* At WAN egress: a packet of an established session; GO_ON if there is none. SPOOFED: it may be of a flow that its host
 * has begun. Global for the verifier's sake. */
__noinline int pt_answer_leaves(struct __sk_buff *skb, const struct pt_pkt *p) {
	if (!p)
		return PT_GO_ON;
	struct pt_found found = {};

	pt_answer_find_leaving(p, &found);
	enum ptrig_reason reason = pt_answer_found(skb, p, &found);

	if (reason == PTRIG_FORWARDED && found.lan && pt_permit_wanted(found.lan, p))
		pt_permit(skb, p, &found.lan_key, found.lan, found.id);
	return reason;
}

/* The same for a half-open one, to which the packet's entry `e` leads. */
__noinline int pt_answer_first_leaves(struct __sk_buff *skb, const struct pt_pkt *p, const struct pt_entry *e) {
	if (!p || !e)
		return PT_GO_ON;
	struct pt_found found = {.halfopen = true};

	found.lan = pt_flow_halfopen(e, p->proto, &found.lan_key, &found.id);
	if (found.lan && !found.id)
		return PTRIG_HALF_OPEN;
	return pt_answer_found(skb, p, &found);
}

#endif
