/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fast path by TC: a packet whose direction has permission (pt_fast) is translated as the one before it was, and
 * leaves by the same device. For devices without XDP, and packets that the kernel has merged.
 */
#ifndef PT_REPEAT_H
#define PT_REPEAT_H

#include "permit.h"
#include "rewrite.h"

#define PT_PACKET_HOST 0
#define PT_PACKET_OTHERHOST 3 /* so egress knows the fast path's packets: they give no permission */

/* Does it, or what it is to be cut into again, fit through the way out? */
static __always_inline bool pt_repeat_fits(struct __sk_buff *skb, const struct pt_pkt *p, __u32 l4_header, __u32 mtu) {
	return p->len <= mtu || (skb->gso_size && skb->gso_size + sizeof(struct iphdr) + l4_header <= mtu);
}

/* Its new Ethernet header, where the way out has one. */
static __always_inline bool pt_repeat_ethernet(struct __sk_buff *skb, __u32 l3, const struct ptrig_hop *hop) {
	if (hop->l3)
		return true; /* the kernel takes off what there is */
	if (!l3 && bpf_skb_change_head(skb, sizeof(struct ethhdr), 0))
		return false;
	struct ethhdr *eth = pt_packet_eth(skb);

	if (!eth)
		return false;
	__builtin_memcpy(eth->h_dest, hop->dmac, sizeof(eth->h_dest));
	__builtin_memcpy(eth->h_source, hop->smac, sizeof(eth->h_source));
	eth->h_proto = bpf_htons(ETH_P_IP);
	return true;
}

/* The device by which it leaves now, translated; 0: it goes on by the kernel; less: it is half written. */
static __noinline int pt_repeat(struct __sk_buff *skb, __u32 l3, __u32 side) {
	struct pt_pkt p = {};
	__u32 l4_header = 0;

	if (!pt_packet_plain(skb, l3, &p, &l4_header))
		return 0;
	struct pt_fast_key key = {
		.who = pt_flow_who(skb, l3, side, p.saddr),
		.daddr = p.daddr,
		.sport = p.sport,
		.dport = p.dport,
		.proto = p.proto,
	};
	__u32 fast = 0, ack = 0, now = bpf_jiffies64();
	struct ptrig_fast *way = pt_fast_find(&key, side, &fast);

	if (!way || !pt_still(way->until, now, PTRIG_FAST_SECONDS))
		return 0;
	__u32 number = way->hop & PTRIG_FAST_HOP;
	struct ptrig_hop *hop = bpf_map_lookup_elem(&pt_hops, &number);

	if (!hop || !pt_still(hop->until, now, 1) || !pt_repeat_fits(skb, &p, l4_header, hop->mtu))
		return 0;
	bool acks = side == PTRIG_SIDE_LAN && pt_packet_acks(skb, &p, &ack);

	if (!pt_rewrite(skb, l3, &p, side, way->addr, way->port, -1) || !pt_repeat_ethernet(skb, l3, hop))
		return -1;
	if (acks)
		pt_fast_ack(fast + 1, ack);
	skb->mark = hop->mark;
	skb->priority = hop->priority;
	bpf_skb_change_type(skb, PT_PACKET_OTHERHOST);
	way->count += (1ULL << PTRIG_FAST_BYTES_BITS) + p.len;
	return hop->oif;
}

#endif
