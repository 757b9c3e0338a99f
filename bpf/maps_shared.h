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

PT_MAP(pt_state, BPF_MAP_TYPE_ARRAY, __u32, struct ptrig_state, 1, BPF_F_MMAPABLE); /* `active` is stored as memory */
PT_MAP(pt_fast, BPF_MAP_TYPE_ARRAY, __u32, struct ptrig_fast_bucket, 2 * 32768,
       BPF_F_MMAPABLE);                                                                  /* * 2 * cfg_fast_buckets */
PT_MAP(pt_acks, BPF_MAP_TYPE_ARRAY, __u32, __u32, PTRIG_ACKS_OF(32768), BPF_F_MMAPABLE); /* * of cfg_fast_buckets */
PT_MAP(pt_hops, BPF_MAP_TYPE_ARRAY, __u32, struct ptrig_hop, PTRIG_HOPS, BPF_F_MMAPABLE);
PT_MAP(pt_port_bits, BPF_MAP_TYPE_ARRAY, __u32, __u64, PTRIG_PORT_BITS_SIZE, BPF_F_MMAPABLE);
PT_MAP(pt_counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, PTRIG_REASON_COUNT, 0);

#endif
