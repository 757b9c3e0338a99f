/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* TC tells XDP of a session: finds it a way in pt_fast, or renews the one that it has. */
#ifndef PT_FAST_TELL_H
#define PT_FAST_TELL_H

#include "fast.h"
#include "hop.h"

#define PT_FAST_REST_TICKS 2 /* how long a way is nobody's before the next session gets it */

struct pt_fast_search {
	struct pt_fast_key key;
	__u32 side;
	__u32 now;
	__u32 to;
	__be32 addr;
	__u32 until;
	__u64 hash;
	__u32 found; /* number of the way + 1 */
};

/* Is this way free? Then it is the session's. */
static long pt_fast_try(__u32 n, struct pt_fast_search *w) {
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
	way->until = w->until;
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

/* The session's way is this packet's, and says so for another while. */
static __always_inline bool pt_fast_renew(struct ptrig_session *s, const struct pt_fast_search *w) {
	__u32 fast = s->fast;
	struct ptrig_fast *way = pt_fast_way(fast);

	if (!way)
		return false;
	if (way->daddr != w->key.daddr || way->sport != w->key.sport || way->dport != w->key.dport ||
	    way->addr != w->addr) {
		pt_fast_leave(s);
		return false;
	}
	pt_fast_fold(s, way);
	*(volatile __be32 *)&way->who = w->key.who;
	*(volatile __u32 *)&way->to = w->to;
	*(volatile __u32 *)&way->until = w->until;
	if (__sync_fetch_and_or(&s->fast, 0) != fast) /* it ended meanwhile, on another CPU */
		pt_fast_free(way);
	return true;
}

/* XDP may serve packets like this one by `hop`, for so many ticks. */
static __always_inline void pt_fast_tell(struct __sk_buff *skb, const struct pt_pkt *p, __u32 side,
					 struct ptrig_session *s, const struct pt_hop *hop, __u32 ticks) {
	const struct ethhdr *eth = pt_packet_eth(skb);
	struct pt_fast_search w = {.side = side, .now = bpf_jiffies64(), .addr = s->addr};

	if (!eth)
		return;
	w.key.who = pt_who(eth, skb->ifindex, side, p->saddr);
	w.key.daddr = p->daddr;
	w.key.sport = p->sport;
	w.key.dport = p->dport;
	w.key.proto = p->proto;
	__u32 number = pt_hop_number(hop, side, w.now);

	if (!number)
		return;
	__u16 flags = PTRIG_FAST_USED | (p->proto == IPPROTO_TCP ? PTRIG_FAST_TCP : 0);

	w.to = pt_fast_to(s->port, flags | (number - 1));
	w.until = w.now + ticks;
	if (pt_fast_renew(s, &w))
		return;
	w.hash = pt_fast_hash(&w.key);
	bpf_loop(2 * PTRIG_FAST_WAYS, pt_fast_try, &w, 0);
	if (!w.found)
		return;
	s->folded = 0;
	if (__sync_val_compare_and_swap(&s->fast, 0, w.found)) { /* another CPU was quicker */
		struct ptrig_fast *way = pt_fast_way(w.found);

		if (way)
			pt_fast_free(way);
	}
}

#endif
