/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The ways on that sessions share for XDP: one slot of pt_hops for each neighbour in the LAN, so that it ends with the
 * neighbour's MAC address, and one for each pair of MAC addresses towards a WAN. */
#ifndef PT_HOP_H
#define PT_HOP_H

#include "fast_key.h"
#include "nexthop.h"

#define PT_HOP_PROBES 8

static __always_inline bool pt_hop_same(const struct ptrig_hop *slot, const struct pt_hop *hop) {
	const __u16 *a = (const __u16 *)slot->dmac, *b = (const __u16 *)hop->dmac;
	const __u16 *c = (const __u16 *)slot->smac, *d = (const __u16 *)hop->smac;

	return !((slot->oif ^ hop->oif) | (slot->host ^ hop->gateway) | (slot->mtu ^ hop->mtu) | (a[0] ^ b[0]) |
		 (a[1] ^ b[1]) | (a[2] ^ b[2]) | (c[0] ^ d[0]) | (c[1] ^ d[1]) | (c[2] ^ d[2]));
}

struct pt_hop_search {
	struct pt_hop hop;
	__u32 first;
	__u32 now;
	__u32 found; /* number in pt_hops + 1 */
};

/* One slot: the hop itself, renewed, or one in which nothing can be looking any more. */
static long pt_hop_try(__u32 n, struct pt_hop_search *w) {
	__u32 index = (w->first + n) % PTRIG_HOPS, now = w->now;
	struct ptrig_hop *slot = bpf_map_lookup_elem(&pt_hops, &index);

	if (!slot || __sync_val_compare_and_swap(&slot->lock, 0, 1))
		return 0;
	bool same = pt_hop_same(slot, &w->hop);

	if (!same && (!slot->oif || (__s32)(now - slot->until) > (__s32)(PTRIG_FAST_SECONDS * cfg_tick_hz))) {
		slot->oif = w->hop.oif;
		slot->host = w->hop.gateway;
		slot->mtu = w->hop.mtu;
		__builtin_memcpy(slot->dmac, w->hop.dmac, sizeof(slot->dmac));
		__builtin_memcpy(slot->smac, w->hop.smac, sizeof(slot->smac));
		same = true;
	}
	if (same) {
		*(volatile __u32 *)&slot->until = now + cfg_tick_hz;
		w->found = index + 1;
	}
	__sync_lock_test_and_set(&slot->lock, 0);
	return same;
}

/* The number of this hop in pt_hops + 1; 0: there is no place, or somebody else is at it. */
static __always_inline __u32 pt_hop_number(const struct pt_hop *hop, __u32 side, __u32 now) {
	const __u16 *mac = (const __u16 *)hop->dmac;
	struct pt_hop_search w = {.hop = *hop, .now = now};

	if (side == PTRIG_SIDE_LAN)
		w.hop.gateway = 0;
	w.first =
		pt_mix(pt_mix(hop->oif ^ w.hop.gateway, mac[0] | (__u32)mac[1] << 16), mac[2] | (__u32)hop->mtu << 16);
	bpf_loop(PT_HOP_PROBES, pt_hop_try, &w, 0);
	return w.found;
}

#endif
