/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What each LAN host has in use, for the limits per host. Entries are deleted by the sweep only. */
#ifndef PT_HOST_H
#define PT_HOST_H

#include "maps.h"

#define PT_HOST_DEAD (~0ULL)

enum pt_host_field { PT_HOST_LEASES, PT_HOST_SESSIONS };

static __always_inline __u32 *pt_host_field(struct ptrig_host *host, enum pt_host_field field) {
	return field == PT_HOST_LEASES ? &host->leases : &host->sessions;
}

/* Count one more, unless the limit (0: none) is reached. A host that is not known and finds the table
 * full is refused, too. */
static __always_inline bool pt_host_add(__be32 address, enum pt_host_field field, __u32 limit) {
	struct ptrig_host *host = bpf_map_lookup_elem(&pt_hosts, &address);

	if (!host) {
		struct ptrig_host fresh = {};

		bpf_map_update_elem(&pt_hosts, &address, &fresh, BPF_NOEXIST);
		host = bpf_map_lookup_elem(&pt_hosts, &address);
	}
	if (!host || *(volatile __u64 *)host == PT_HOST_DEAD)
		return false;
	__u32 *count = pt_host_field(host, field);
	__u32 before = __sync_fetch_and_add(count, 1);

	if (!limit || before < limit)
		return true;
	__sync_fetch_and_add(count, -1);
	return false;
}
static __always_inline void pt_host_sub(__be32 address, enum pt_host_field field) {
	struct ptrig_host *host = bpf_map_lookup_elem(&pt_hosts, &address);

	if (host)
		__sync_fetch_and_add(pt_host_field(host, field), -1);
}

static __always_inline void pt_halfopen_release(__be32 address) {
	struct ptrig_host *host = bpf_map_lookup_elem(&pt_hosts, &address);
	struct ptrig_usage *usage = pt_usage_get();

	if (usage)
		__sync_fetch_and_add(&usage->halfopen, -1);
	if (host)
		__sync_fetch_and_add(&host->halfopen, -1);
}
/*
 * One more session that the host has not answered. A host gets no more of them than there are places left: one alone
 * half of them, two a third each, and so on, so that one that comes next finds room (dynamic thresholds: Choudhury
 * and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). The host is one that has been counted for a session.
 */
static __always_inline bool pt_halfopen_reserve(__be32 address, const struct ptrig_config *config) {
	struct ptrig_host *host = bpf_map_lookup_elem(&pt_hosts, &address);
	struct ptrig_usage *usage = pt_usage_get();

	if (!host || !usage)
		return false;
	__u64 all = __sync_fetch_and_add(&usage->halfopen, 1);
	__u32 most = cfg_halfopen_max, eighth = config->conntrack_max / 8;

	/* Their entries cannot be dropped early, so they must never fill the kernel's table. */
	if (eighth && eighth < most)
		most = eighth;
	if (all + __sync_fetch_and_add(&host->halfopen, 1) < most)
		return true;
	pt_halfopen_release(address);
	return false;
}

#endif
