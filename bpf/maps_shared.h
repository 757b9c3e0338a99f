/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps that TC and XDP share. Sizes marked * are set by the loader before load. Pinned by name. */
#ifndef PT_MAPS_SHARED_H
#define PT_MAPS_SHARED_H

#include "config.h"

#define PT_MAP(name, map_type, key_type, value_type, entries, flags)                                                   \
	struct {                                                                                                       \
		__uint(type, map_type);                                                                                \
		__uint(max_entries, entries);                                                                          \
		__uint(map_flags, flags);                                                                              \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
	} name SEC(".maps")

PT_MAP(pt_sessions, BPF_MAP_TYPE_HASH, struct ptrig_session_key, struct ptrig_session, 2 * 65536,
       0); /* * 2 * max_sessions */
PT_MAP(pt_counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, PTRIG_REASON_COUNT, 0);

#endif
