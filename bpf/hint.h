/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ingress counts the packets that egress is to look at, by a hash of where they go, for each side apart, so that
 * ordinary traffic costs egress one load. A packet that never arrives there leaves its count behind: then some other
 * packet is looked at in its place, which does no harm.
 */
#ifndef PT_HINT_H
#define PT_HINT_H

#include "fast_key.h"
#include "maps.h"
#include "packet.h"

#define PT_HINT_MOST 1024 /* waiting packets that one hash remembers */

/* `side`: of the egress. */
static __always_inline __u32 *pt_hint(__be32 daddr, __be16 dport, __u8 proto, __u32 side) {
	__u32 hash = pt_mix(pt_mix(cfg_hash_seed ^ daddr, (__u32)dport << 8 | proto), 0) % PTRIG_HINTS;

	if (side == PTRIG_SIDE_LAN)
		hash += PTRIG_HINTS;
	return bpf_map_lookup_elem(&pt_hints, &hash);
}
static __always_inline void pt_hint_set(__be32 daddr, __be16 dport, __u8 proto, __u32 side) {
	__u32 *hint = pt_hint(daddr, dport, proto, side);

	if (hint && *hint < PT_HINT_MOST)
		__sync_fetch_and_add(hint, 1);
}
/* Is a packet that goes there awaited? */
static __always_inline bool pt_hint_awaits(const struct pt_glance *g, __u32 side) {
	const __u32 *hint = pt_hint(g->daddr, g->dport, g->proto, side);

	return hint && *hint;
}
/* The same; it has come. */
static __always_inline bool pt_hint_take(const struct pt_pkt *p, __u32 side) {
	__u32 *hint = pt_hint(p->daddr, p->dport, p->proto, side);

	if (!hint)
		return false;
	__u32 before = *hint;

	if (!before)
		return false;
	__sync_val_compare_and_swap(hint, before, before - 1);
	return true;
}

#endif
