/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows that a host has begun itself from, or towards, a port that a rule opens: ordinary ones, but their ports do not
 * tell. What was found out about one of them, or that its packets of TCP are no session's, holds for a quarter of a
 * second, by a hash of them, so that only a few are looked at. Nothing but passing on is ever decided by it.
 */
#ifndef PT_KNOWN_H
#define PT_KNOWN_H

#include "flow.h"

/* In which of pt_known's words, and what must stand in its upper half; 0: this packet may begin or end something. */
static __always_inline __u64 pt_known_hash(struct __sk_buff *skb, const struct pt_flow *f) {
	const struct pt_pkt *p = &f->p;
	struct pt_fast_key key = {
		.who = pt_flow_who(skb, f->l3, f->side, p->saddr),
		.daddr = p->daddr,
		.sport = p->sport,
		.dport = p->dport,
	};
	__u64 hash = pt_fast_hash(&key);

	if (p->tcp_flags & (PT_TCP_SYN | PT_TCP_FIN | PT_TCP_RST) || p->first_fragment || p->odd_options)
		return 0;
	return p->proto == IPPROTO_TCP ? hash : ~hash;
}
static __always_inline __u64 *pt_known_word(__u64 hash) {
	__u32 index = hash % PTRIG_KNOWN;

	return bpf_map_lookup_elem(&pt_known, &index);
}

static __noinline bool pt_is_known(struct __sk_buff *skb, const struct pt_flow *f) {
	__u64 hash = pt_known_hash(skb, f);
	const __u64 *word = pt_known_word(hash);
	__u64 was = word ? *(volatile const __u64 *)word : 0;

	return hash && word && was >> 32 == hash >> 32 && (__u32)bpf_jiffies64() - (__u32)was < cfg_tick_hz / 4;
}
static __noinline void pt_know(struct __sk_buff *skb, const struct pt_flow *f) {
	__u64 hash = pt_known_hash(skb, f);
	__u64 *word = pt_known_word(hash);

	if (hash && word)
		*(volatile __u64 *)word = hash >> 32 << 32 | (__u32)bpf_jiffies64();
}

#endif
