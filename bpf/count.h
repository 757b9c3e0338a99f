/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One count for each packet, by reason; per CPU. */
#ifndef PT_COUNT_H
#define PT_COUNT_H

#include "maps_shared.h"

static __always_inline void pt_count(enum ptrig_reason reason) {
	__u32 index = reason;
	__u64 *count = bpf_map_lookup_elem(&pt_counters, &index);

	if (count)
		++*count;
}

#endif
