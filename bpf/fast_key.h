/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a packet's permission stands in pt_fast. */
#ifndef PT_FAST_KEY_H
#define PT_FAST_KEY_H

#include <linux/if_ether.h>
#include <linux/in.h>

#include <stdbool.h>

#include "maps_shared.h"

/* Is there a fast path, and are there sessions that may take it? */
static __always_inline bool pt_fast_is_on(void) {
	__u32 zero = 0;
	const struct ptrig_state *state = bpf_map_lookup_elem(&pt_state, &zero);

	return state && state->fast == PTRIG_STATE_FAST_ON;
}

struct pt_fast_key {
	__be32 who;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
};

static __always_inline __u32 pt_mix(__u32 a, __u32 b) {
	__u32 x = (a ^ b) * 0x9e3779b1U;

	return x ^ (x >> 15);
}

/*
 * Whom a frame is from, as far as its session's way in pt_fast goes: a frame by another interface, to another MAC
 * address (promiscuous mode), or from another machine of the LAN, finds nothing and is TC's to judge. On the WAN the
 * sender's MAC address is some router's and means nothing.
 */
static __always_inline __be32 pt_who(const struct ethhdr *eth, __u32 ifindex, __u32 side, __be32 saddr) {
	const __u16 *mac = (const __u16 *)eth; /* destination, source */
	__u32 frame = pt_mix(cfg_hash_seed ^ ifindex, mac[0] | (__u32)mac[1] << 16);
	__u32 rest = mac[2];

	if (side == PTRIG_SIDE_LAN) {
		rest |= (__u32)mac[5] << 16;
		frame = pt_mix(frame, mac[3] | (__u32)mac[4] << 16);
	}
	return saddr ^ pt_mix(frame, rest);
}

/* The lower half says the bucket, the upper half the other one. */
static __always_inline __u64 pt_fast_hash(const struct pt_fast_key *key) {
	__u64 a = ((__u64)key->daddr << 32 | key->who) ^ cfg_hash_seed;
	__u64 b = (__u32)key->sport << 16 | key->dport;

	a = (a ^ b << 16) * 0x9e3779b97f4a7c15ULL;
	a ^= a >> 32;
	a *= 0xd6e8feb86659fd93ULL;
	return a ^ (a >> 32);
}

static __always_inline bool pt_fast_is(const struct ptrig_fast *way, const struct pt_fast_key *key) {
	return way->who == key->who && way->daddr == key->daddr && way->sport == key->sport &&
	       way->dport == key->dport && !(way->hop & PTRIG_FAST_TCP) == (key->proto != IPPROTO_TCP);
}

/* Of the two buckets in which a session may be. */
static __always_inline __u32 pt_fast_index(__u64 hash, __u32 nth, __u32 side) {
	__u32 index = (nth ? hash >> 32 : hash) & (cfg_fast_buckets - 1);

	return side == PTRIG_SIDE_LAN ? index + cfg_fast_buckets : index;
}

/* The way of a packet by this side, and its number. At most eight comparisons, of which the first one or two usually
 * decide. */
static __always_inline struct ptrig_fast *pt_fast_find(const struct pt_fast_key *key, __u32 side, __u32 *number) {
	__u64 hash = pt_fast_hash(key);

#pragma unroll
	for (__u32 nth = 0; nth < 2; nth++) {
		__u32 index = pt_fast_index(hash, nth, side);
		struct ptrig_fast_bucket *bucket = bpf_map_lookup_elem(&pt_fast, &index);

		if (!bucket)
			return NULL;
#pragma unroll
		for (__u32 i = 0; i < PTRIG_FAST_WAYS; i++)
			if (pt_fast_is(&bucket->way[i], key)) {
				*number = PTRIG_FAST_WAYS * index + i;
				return &bucket->way[i];
			}
	}
	return NULL;
}

static __always_inline __u32 *pt_fast_acks(__u32 fast) {
	__u32 index = fast - 1 - PTRIG_ACKS_OF(cfg_fast_buckets);

	return fast ? bpf_map_lookup_elem(&pt_acks, &index) : NULL;
}
/* The host has acknowledged so much by the LAN half's way number `fast` - 1. */
static __always_inline void pt_fast_ack(__u32 fast, __u32 ack) {
	__u32 *acks = pt_fast_acks(fast);

	if (acks)
		*(volatile __u32 *)acks = ack;
}

/* What a port (in host order) is to rules and sessions: PTRIG_PORT_* bits. */
static __always_inline __u32 pt_port_bits_of(__u8 proto, __u16 port) {
	__u32 proto_index = proto == IPPROTO_TCP ? PTRIG_PROTO_INDEX_TCP : PTRIG_PROTO_INDEX_UDP;
	__u32 word = PTRIG_PORT_BITS_WORD(proto_index, port);
	const __u64 *bits = bpf_map_lookup_elem(&pt_port_bits, &word);

	return bits ? *bits >> PTRIG_PORT_BITS_SHIFT(port) & 0xff : 0;
}

/* A MAC address to its place in a frame. struct ethhdr is packed, and memcpy() goes byte by byte there. */
static __always_inline void pt_mac_copy(__u8 *to, const __u8 *from) {
	*(__u32 *)to = *(const __u32 *)from;
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

/* 0 < until - now <= seconds */
static __always_inline bool pt_still(__u32 until, __u32 now, __u32 seconds) {
	return until - now - 1 < seconds * cfg_tick_hz;
}

#endif
