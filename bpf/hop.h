/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The ways on that permissions share: one slot of pt_hops for each neighbour in the LAN, so that it ends with the
 * neighbour's MAC address, and one for each pair of MAC addresses towards a WAN. */
#ifndef PT_HOP_H
#define PT_HOP_H

#include "fast_key.h"
#include "maps.h"

#define PT_HOP_PROBES 8

struct pt_hop_search {
	struct ptrig_hop want; /* without lock and until */
	__u32 first;
	__u32 now;
	__u32 found; /* number in pt_hops + 1 */
};

static __always_inline bool pt_hop_same(const struct ptrig_hop *slot, const struct ptrig_hop *want) {
	const __u16 *a = (const __u16 *)slot->dmac, *b = (const __u16 *)want->dmac;
	const __u16 *c = (const __u16 *)slot->smac, *d = (const __u16 *)want->smac;

	return !((slot->oif ^ want->oif) | (slot->host ^ want->host) | (slot->mtu ^ want->mtu) |
		 (slot->mark ^ want->mark) | (slot->priority ^ want->priority) | (a[0] ^ b[0]) | (a[1] ^ b[1]) |
		 (a[2] ^ b[2]) | (c[0] ^ d[0]) | (c[1] ^ d[1]) | (c[2] ^ d[2]));
}

/* One slot: the hop itself, renewed, or one in which nothing can be looking any more. */
static long pt_hop_try(__u32 n, struct pt_hop_search *w) {
	__u32 index = (w->first + n) % PTRIG_HOPS, now = w->now;
	struct ptrig_hop *slot = bpf_map_lookup_elem(&pt_hops, &index);

	if (!slot || __sync_val_compare_and_swap(&slot->lock, 0, 1))
		return 0;
	bool same = pt_hop_same(slot, &w->want);

	if (!same && (!slot->oif || (__s32)(now - slot->until) > (__s32)(PTRIG_FAST_SECONDS * cfg_tick_hz))) {
		slot->oif = w->want.oif;
		slot->host = w->want.host;
		slot->mtu = w->want.mtu;
		slot->l3 = w->want.l3;
		slot->mark = w->want.mark;
		slot->priority = w->want.priority;
		__builtin_memcpy(slot->dmac, w->want.dmac, sizeof(slot->dmac));
		__builtin_memcpy(slot->smac, w->want.smac, sizeof(slot->smac));
		same = true;
	}
	if (same) {
		*(volatile __u32 *)&slot->until = now + cfg_tick_hz;
		w->found = index + 1;
	}
	__sync_lock_test_and_set(&slot->lock, 0);
	return same;
}

/* The number of `w`'s hop in pt_hops + 1; 0: there is no place, or somebody else is at it. */
static __always_inline __u32 pt_hop_number(struct pt_hop_search *w) {
	const struct ptrig_hop *want = &w->want;
	const __u16 *mac = (const __u16 *)want->dmac;

	w->first = pt_mix(
		pt_mix(want->oif ^ want->host ^ want->mark << 16 ^ want->priority << 8, mac[0] | (__u32)mac[1] << 16),
		mac[2] | (__u32)want->mtu << 16);
	bpf_loop(PT_HOP_PROBES, pt_hop_try, w, 0);
	return w->found;
}

#endif
