/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Incremental Internet checksums (RFC 1624, equation 3), on values in packet order. */
#ifndef PT_CSUM_H
#define PT_CSUM_H

#include "config.h"

static __always_inline __u16 pt_csum_fold(__u32 sum) {
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}
/* What a change of 32 bits adds to the one's complement sum. */
static __always_inline __u32 pt_csum_diff32(__be32 from, __be32 to) {
	return (__u16)~from + (__u16) ~(from >> 16) + (to & 0xffff) + (to >> 16);
}
static __always_inline __u32 pt_csum_diff16(__be16 from, __be16 to) {
	return (__u16)~from + to;
}
static __always_inline __u16 pt_csum_apply(__u16 check, __u32 diff) {
	return ~pt_csum_fold((__u16)~check + diff);
}

#endif
