/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A session's way in pt_fast: what the fast path has counted there, and leaving it. */
#ifndef PT_FAST_H
#define PT_FAST_H

#include "fast_key.h"

/* Add what was counted since the last time. */
static __always_inline void pt_fast_fold(struct ptrig_session *s, const struct ptrig_fast *way) {
	__u64 count = *(volatile __u64 *)&way->count;
	__u64 more = count - s->folded;

	s->folded = count;
	s->packets += more >> PTRIG_FAST_BYTES_BITS;
	s->bytes += more & ((1ULL << PTRIG_FAST_BYTES_BITS) - 1);
}

static __always_inline struct ptrig_fast *pt_fast_way(__u32 fast) {
	__u32 number = fast - 1, index = number / PTRIG_FAST_WAYS;
	struct ptrig_fast_bucket *bucket = bpf_map_lookup_elem(&pt_fast, &index);

	return fast && bucket ? &bucket->way[number % PTRIG_FAST_WAYS] : NULL;
}

/* What the host has acknowledged last, by whichever path. */
static __always_inline __u32 pt_fast_acked(const struct ptrig_session *lan) {
	const __u32 *acks = pt_fast_acks(lan->fast);

	return acks && (__s32)(*acks - lan->ack) > 0 ? *acks : lan->ack;
}

static __always_inline void pt_fast_free(struct ptrig_fast *way) {
	*(volatile __be32 *)&way->who = 0;
	*(volatile __u32 *)&way->until = bpf_jiffies64();
	__sync_fetch_and_and(&way->to, 0);
}

static __always_inline void pt_fast_give_back(struct ptrig_session *s, __u32 fast) {
	struct ptrig_fast *way = pt_fast_way(fast);

	if (!way)
		return;
	pt_fast_fold(s, way);
	pt_fast_free(way);
}
/* This direction has no permission any more. */
static __noinline void pt_fast_leave(struct ptrig_session *s) {
	__u32 fast = s ? s->fast : 0;

	if (s && fast && fast != PTRIG_FAST_OVER && __sync_val_compare_and_swap(&s->fast, fast, 0) == fast)
		pt_fast_give_back(s, fast);
}
/* The session is over; a CPU that is just giving it permission finds no place for that any more. */
static __noinline void pt_fast_end(struct ptrig_session *s) {
	if (!s)
		return;
	pt_fast_give_back(s, __sync_lock_test_and_set(&s->fast, PTRIG_FAST_OVER));
}

#endif
