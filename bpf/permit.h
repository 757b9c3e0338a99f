/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Permission: a direction of an answered session whose packet was seen leaving, let out by firewall and routing, may
 * have that repeated by TC or XDP for a moment (pt_fast). Ingress notes whose frames the direction's are and asks both
 * egresses to look; they see the packet with its new headers, and only they give permission.
 */
#ifndef PT_PERMIT_H
#define PT_PERMIT_H

#include "fast.h"
#include "flow.h"
#include "hop.h"
#include "trigger.h"

#define PT_FAST_REST_TICKS 2     /* how long a way is nobody's before the next session gets it */
#define PT_PERMIT_LOOKS 20000ULL /* packets a second that all permissions together may cost */

/* Has IPsec protected this packet? One in clear with the same addresses and ports is another matter. */
static __always_inline bool pt_permit_secured(struct __sk_buff *skb) {
	struct bpf_xfrm_state state;

	return !bpf_skb_get_xfrm_state(skb, 0, &state, sizeof(state), 0);
}

/* Is there a fast path, and may this session take it? */
static __always_inline bool pt_permit_possible(const struct ptrig_session *half) {
	return pt_fast_is_on() && !(half->flags & PTRIG_SESSION_HAIRPIN);
}
/* May the host's direction have permission? What needs the kernel for each packet never asks. */
static __always_inline bool pt_permit_wanted(const struct ptrig_session *lan, const struct pt_pkt *p) {
	return lan->state == PTRIG_SESSION_ESTABLISHED && pt_permit_possible(lan) &&
	       (p->proto != IPPROTO_TCP || (lan->flags & PTRIG_SESSION_LIBERAL && !(p->tcp_flags & PT_TCP_NO_GRANT)));
}
/* TCP: may conntrack miss packets of this connection? */
static __always_inline bool pt_entry_lets_be(const struct pt_entry *e) {
	return e->liberal && e->tcp_state == PT_CT_TCP_ESTABLISHED;
}
/* The same of a session, as it is this moment. */
static __noinline bool pt_permit_tcp(struct __sk_buff *skb, const struct ptrig_session_key *key,
				     const struct ptrig_session *half) {
	struct ptrig_session_key wan_key;
	struct pt_entry *e = pt_flow_scratch();
	struct pt_tuple t;

	if (!half || !e)
		return false;
	wan_key = key->side == PTRIG_SIDE_WAN ? *key : pt_session_mirror(key, half);
	t = pt_flow_tuple(&wan_key);
	return pt_entry_look(skb, &t, IPPROTO_TCP, e) && pt_entry_lets_be(e);
}

/* At ingress: a packet of the direction `half` goes by the kernel. Egress is told whose frame it was. */
static __always_inline void pt_permit_ask(struct __sk_buff *skb, const struct pt_flow *f, struct ptrig_session *half) {
	__be32 who = pt_flow_who(skb, f->l3, f->side, f->p.saddr);

	if (half->who == who && half->iif == skb->ifindex)
		return;
	half->iif = skb->ifindex;
	half->who = who;
}

/* Will somebody shorten all permissions when the firewall's rules change? */
static __always_inline bool pt_permit_followed(void) {
	const struct ptrig_state *state = bpf_map_lookup_elem(&pt_state, &pt_zero);

	return state && bpf_ktime_get_boot_ns() < state->followed_ns;
}

/* For how many ticks? The more sessions, the longer; but what may be forbidden at any moment is looked at each second,
 * and all is looked at twice before it would be over for want of its host's packets. */
static __noinline __u32 pt_permit_ticks(const struct ptrig_session *half, __u8 proto) {
	__u32 gen = pt_generation();
	const struct ptrig_config *config = pt_config_get(gen);
	const struct ptrig_usage *usage = pt_usage_get();
	__u64 hz = cfg_tick_hz, ticks, most = PTRIG_FAST_SECONDS * hz;

	if (!half || !config || !usage)
		return 0;
	const struct ptrig_rule *rule = pt_rule_by_id(gen, half->rule);
	__u64 idle = pt_session_idle_ns(half, proto, config) / 2 * hz / 1000000000;

	if (!rule || rule->flags & PTRIG_RULE_KILL || rule->max_lifetime_ns || !pt_permit_followed())
		most = hz;
	if (idle < most)
		most = idle;
	ticks = 2 * usage->sessions * hz / PT_PERMIT_LOOKS;
	if (ticks < hz)
		ticks = hz;
	return ticks < most ? ticks : most;
}

struct pt_permission {
	struct pt_fast_key key;
	__u32 side;
	__u32 now;
	__u32 to;
	__be32 addr;
	__u32 until;
	__u64 hash;
	__u32 found; /* number of the way + 1 */
};

/* Is this way free? Then it is the session's; nothing is permitted by it yet. */
static long pt_permit_try(__u32 n, struct pt_permission *w) {
	__u32 index = pt_fast_index(w->hash, n / PTRIG_FAST_WAYS, w->side), nth = n % PTRIG_FAST_WAYS;
	struct ptrig_fast_bucket *bucket = bpf_map_lookup_elem(&pt_fast, &index);

	if (!bucket)
		return 1;
	struct ptrig_fast *way = &bucket->way[nth];

	/* The clock of the CPU that freed it may be a tick ahead. */
	if (way->to || w->now - way->until + PT_FAST_REST_TICKS <= 2 * PT_FAST_REST_TICKS ||
	    __sync_val_compare_and_swap(&way->to, 0, w->to))
		return 0;
	way->count = 0;
	way->daddr = w->key.daddr;
	way->sport = w->key.sport;
	way->dport = w->key.dport;
	way->addr = w->addr;
	way->until = w->now;
	__sync_lock_test_and_set(&way->who, w->key.who); /* a barrier, too: seen last */
	w->found = 1 + nth + PTRIG_FAST_WAYS * index;
	return 1;
}

static __always_inline __u32 pt_fast_to(__be16 port, __u16 hop) {
	union {
		struct {
			__be16 port;
			__u16 hop;
		};
		__u32 to;
	} both = {{.port = port, .hop = hop}};

	return both.to;
}

/* The session's way is this direction's, and says so for another while. */
static __noinline bool pt_permit_renew(struct ptrig_session *half, const struct pt_permission *w) {
	__u32 fast = half->fast;
	struct ptrig_fast *way = pt_fast_way(fast);

	if (!way)
		return false;
	if (way->daddr != w->key.daddr || way->sport != w->key.sport || way->dport != w->key.dport ||
	    way->addr != w->addr) {
		pt_fast_leave(half);
		return false;
	}
	pt_fast_fold(half, way);
	*(volatile __be32 *)&way->who = w->key.who;
	*(volatile __u32 *)&way->to = w->to;
	*(volatile __u32 *)&way->until = w->until;
	if (__sync_fetch_and_or(&half->fast, 0) != fast) /* it ended meanwhile, on another CPU */
		pt_fast_free(way);
	return true;
}

/* A way for session number `id`, whose direction `half` has none. */
static __noinline void pt_permit_new(struct ptrig_session *half, __u64 id, struct pt_permission *w) {
	w->hash = pt_fast_hash(&w->key);
	bpf_loop(2 * PTRIG_FAST_WAYS, pt_permit_try, w, 0);
	struct ptrig_fast *way = pt_fast_way(w->found);

	if (!way)
		return;
	half->folded = 0;
	if (w->side == PTRIG_SIDE_LAN && w->key.proto == IPPROTO_TCP)
		pt_fast_ack(w->found, half->ack);
	if (__sync_val_compare_and_swap(&half->fast, 0, w->found)) { /* another CPU was quicker, or it has ended */
		pt_fast_free(way);
		return;
	}
	if (pt_session_number(half) == id)
		*(volatile __u32 *)&way->until = w->until;
	else /* the element is another session's by now */
		pt_fast_leave(half);
}

/* By which devices? 0: not by these; else PTRIG_FAST_*. */
static __always_inline __u16 pt_permit_devices(const struct ptrig_iface *in, const struct ptrig_iface *out) {
	if (!in || !out || !(in->flags & PTRIG_IFACE_FAST_IN) || !(out->flags & PTRIG_IFACE_FAST_OUT))
		return 0;
	return PTRIG_FAST_USED | (in->flags & PTRIG_IFACE_XDP_IN && out->flags & PTRIG_IFACE_XDP ? PTRIG_FAST_XDP : 0);
}

/* What fits through the way by which it leaves. */
static __noinline __u16 pt_permit_mtu(struct __sk_buff *skb, const struct pt_pkt *p, __u32 device_mtu) {
	struct pt_hop route = {};

	if (pt_nexthop_by(skb, p->saddr, p->daddr, skb->ifindex, &route) && route.mtu && route.mtu < device_mtu)
		return route.mtu;
	return device_mtu;
}

/* The frame that leaves says how the next one is to look: the number of its hop in pt_hops + 1, or 0. */
static __noinline __u32 pt_permit_hop(struct __sk_buff *skb, const struct pt_pkt *p, __be32 host, __u32 now) {
	struct pt_hop_search w = {.want = {.oif = skb->ifindex, .host = host}, .now = now};
	const struct ptrig_iface *out = bpf_map_lookup_elem(&pt_ifaces, &w.want.oif);
	const struct ethhdr *eth;

	if (!out)
		return 0;
	w.want.mark = skb->mark;
	w.want.priority = skb->priority;
	w.want.mtu = pt_permit_mtu(skb, p, out->mtu);
	if (out->flags & PTRIG_IFACE_L3) {
		w.want.l3 = 1;
	} else {
		eth = pt_packet_eth(skb);
		if (!eth)
			return 0;
		__builtin_memcpy(w.want.dmac, eth->h_dest, sizeof(w.want.dmac));
		__builtin_memcpy(w.want.smac, eth->h_source, sizeof(w.want.smac));
	}
	return pt_hop_number(&w);
}

/* At egress: packet `p` of session number `id` has left. `key` and `half` are those of its direction. */
static __noinline void pt_permit(struct __sk_buff *skb, const struct pt_pkt *p, const struct ptrig_session_key *key,
				 struct ptrig_session *half, __u64 id) {
	__u32 from = skb->ingress_ifindex, to = skb->ifindex;

	if (!half || half->iif != from || !half->who)
		return;
	__u16 flags = pt_permit_devices(bpf_map_lookup_elem(&pt_ifaces, &from), bpf_map_lookup_elem(&pt_ifaces, &to));

	if (!flags || (key->proto == IPPROTO_TCP && !pt_permit_tcp(skb, key, half)))
		return;
	struct pt_permission w = {
		.key = {.who = half->who,
			.daddr = key->daddr,
			.sport = key->sport,
			.dport = key->dport,
			.proto = key->proto},
		.side = key->side,
		.now = bpf_jiffies64(),
		.addr = half->addr,
	};
	__u32 hop = pt_permit_hop(skb, p, key->side == PTRIG_SIDE_WAN ? half->addr : 0, w.now);

	if (!hop)
		return;
	if (key->proto == IPPROTO_TCP)
		flags |= PTRIG_FAST_TCP;
	w.to = pt_fast_to(half->port, flags | (hop - 1));
	w.until = w.now + pt_permit_ticks(half, key->proto);
	if (!pt_permit_renew(half, &w))
		pt_permit_new(half, id, &w);
}

#endif
