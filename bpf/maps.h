/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps of the TC programs alone. Sizes marked * are set by the loader before load. All are pinned by name. */
#ifndef PT_MAPS_H
#define PT_MAPS_H

#include "maps_shared.h"

PT_MAP(pt_usage, BPF_MAP_TYPE_ARRAY, __u32, struct ptrig_usage, 1, 0);
PT_MAP(pt_config, BPF_MAP_TYPE_ARRAY, __u32, struct ptrig_config, 2, 0);
PT_MAP(pt_trig_ports, BPF_MAP_TYPE_ARRAY, __u32, __u32, PTRIG_PORT_TABLE_SIZE, BPF_F_MMAPABLE);
PT_MAP(pt_open_ports, BPF_MAP_TYPE_ARRAY, __u32, __u32, PTRIG_PORT_TABLE_SIZE, BPF_F_MMAPABLE);
PT_MAP(pt_host_ports, BPF_MAP_TYPE_ARRAY, __u32, __u32, PTRIG_PORT_TABLE_SIZE, BPF_F_MMAPABLE);
PT_MAP(pt_port_use, BPF_MAP_TYPE_ARRAY, __u32, __u32, PTRIG_USE_SIZE, BPF_F_MMAPABLE);
PT_MAP(pt_lists, BPF_MAP_TYPE_ARRAY, __u32, struct ptrig_list, 2 * 4096, BPF_F_MMAPABLE); /* * 2 * max_port_lists */
PT_MAP(pt_rules, BPF_MAP_TYPE_ARRAY, __u32, struct ptrig_rule, 2 * 4096, BPF_F_MMAPABLE); /* * 2 * max_rules */
PT_MAP(pt_prefixes, BPF_MAP_TYPE_LPM_TRIE, struct ptrig_prefix_key, __u32, 1 << 20, BPF_F_NO_PREALLOC);
PT_MAP(pt_macs, BPF_MAP_TYPE_HASH, struct ptrig_mac_key, __u32, 1 << 16, BPF_F_NO_PREALLOC);
PT_MAP(pt_wan_addrs, BPF_MAP_TYPE_HASH, struct ptrig_wan_key, __u32, 1024, 0);
PT_MAP(pt_expected, BPF_MAP_TYPE_HASH, struct ptrig_expected_key, __u64, PTRIG_EXPECTED, BPF_F_NO_PREALLOC);
PT_MAP(pt_ifaces, BPF_MAP_TYPE_HASH, __u32, struct ptrig_iface, 256, 0);
PT_MAP(pt_leases, BPF_MAP_TYPE_HASH, struct ptrig_lease_key, struct ptrig_lease, 8192, 0); /* * max_leases */
PT_MAP(pt_sessions, BPF_MAP_TYPE_HASH, struct ptrig_session_key, struct ptrig_session, 2 * 65536,
       0); /* * 2 * max_sessions */
PT_MAP(pt_halfopen, BPF_MAP_TYPE_HASH, struct ptrig_session_key, struct ptrig_session, 32768, 0); /* * max_halfopen */
PT_MAP(pt_scratch, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct ptrig_scratch, 1, 0);
PT_MAP(pt_over, BPF_MAP_TYPE_ARRAY, __u32, struct ptrig_over, PTRIG_OVER_MAX, BPF_F_MMAPABLE);
PT_MAP(pt_notes, BPF_MAP_TYPE_LRU_HASH, struct ptrig_flow_key, struct ptrig_note, PTRIG_NOTES, 0);
PT_MAP(pt_hints, BPF_MAP_TYPE_ARRAY, __u32, __u32, 2 * PTRIG_HINTS, 0);
PT_MAP(pt_known, BPF_MAP_TYPE_ARRAY, __u32, __u64, PTRIG_KNOWN, BPF_F_MMAPABLE);
PT_MAP(pt_conns, BPF_MAP_TYPE_HASH, struct ptrig_conn_key, struct ptrig_conn, 8192, 0);       /* * max_leases */
PT_MAP(pt_pending, BPF_MAP_TYPE_LRU_HASH, struct ptrig_wait_key, struct ptrig_wait, 8192, 0); /* * max_leases */
PT_MAP(pt_hosts, BPF_MAP_TYPE_HASH, struct ptrig_host_key, struct ptrig_host, 3 * 8192,
       0); /* * 3 * max_leases: also hosts that were only refused, and shares of a rule */
PT_MAP(pt_hits, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct ptrig_hits, 4096, 0); /* * max_rules */
PT_MAP(pt_last, BPF_MAP_TYPE_ARRAY, __u32, struct ptrig_last, 4096, 0);        /* * max_rules */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} pt_events SEC(".maps");

#endif
