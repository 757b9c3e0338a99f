/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What each LAN host has in use, for the limits per host. Entries are deleted by the sweep only. The map is a
 * preallocated hash: a deleted element may be another host's at once, so who adds looks whether it is still his.
 */
#ifndef PT_HOST_H
#define PT_HOST_H

#include "rule.h"

#define PT_HOST_DEAD (~0ULL)
#define PT_HOST_TRIES 64 /* each one that fails is another CPU's that has not */

enum pt_host_field { PT_HOST_LEASES, PT_HOST_SESSIONS };

union pt_host_both {
	struct {
		__u32 leases;
		__u32 sessions;
	};
	__u64 both;
};

/* Count one less, and never below none. */
static __always_inline void pt_count_down(__u32 *count) {
	if ((__s32)__sync_fetch_and_add(count, -1) <= 0)
		__sync_fetch_and_add(count, 1);
}

/* Under a rule's id: what the host has of that rule alone. */
static __always_inline struct ptrig_host *pt_host_find(__be32 address, __u32 rule) {
	struct ptrig_host_key key = {.host = address, .rule = rule};

	return bpf_map_lookup_elem(&pt_hosts, &key);
}

/* Count one more, unless the limit (0: none) is reached. A host that is not known and finds the table full is refused,
 * too. Global, so that the verifier walks its loop once. */
__noinline int pt_host_add(__be32 address, __u32 rule, __u32 field, __u32 limit) {
	struct ptrig_host *host = pt_host_find(address, rule);

	if (!host) {
		struct ptrig_host_key key = {.host = address, .rule = rule};
		struct ptrig_host fresh = {};

		bpf_map_update_elem(&pt_hosts, &key, &fresh, BPF_NOEXIST);
		host = pt_host_find(address, rule);
	}
	if (!host)
		return false;
	for (int i = 0; i < PT_HOST_TRIES; i++) {
		__u64 before = *(volatile __u64 *)host;
		union pt_host_both both = {.both = before};
		__u32 *count = field == PT_HOST_LEASES ? &both.leases : &both.sessions;

		if (before == PT_HOST_DEAD || (limit && *count >= limit))
			return false;
		++*count;
		if (__sync_val_compare_and_swap((__u64 *)host, before, both.both) != before)
			continue;
		if (pt_host_find(address, rule) == host)
			return true;
		/* swept meanwhile; it is another host's now */
		pt_count_down(field == PT_HOST_LEASES ? &host->leases : &host->sessions);
		return false;
	}
	return false;
}
static __always_inline void pt_host_sub_session(__be32 address) {
	struct ptrig_host *host = pt_host_find(address, 0);

	if (host)
		pt_count_down(&host->sessions);
}

static __noinline void pt_host_sub_lease(__be32 address, __u32 rule) {
	struct ptrig_host *host = pt_host_find(address, 0);

	if (host)
		pt_count_down(&host->leases);
	host = pt_host_find(address, rule);
	if (host)
		pt_count_down(&host->leases);
}
/* One more lease of a host, within its limit (0: none). A rule that gives a host many leases, one for each remote, gets
 * half of them at most: one program must not take the ports of all the others. */
static __always_inline bool pt_host_add_lease(__be32 address, const struct ptrig_rule *rule, __u32 limit) {
	if (!pt_host_add(address, 0, PT_HOST_LEASES, limit))
		return false;
	if (!(rule->flags & PTRIG_RULE_CONTACTED) || pt_host_add(address, rule->id, PT_HOST_LEASES, (limit + 1) / 2))
		return true;
	struct ptrig_host *host = pt_host_find(address, 0);

	if (host)
		pt_count_down(&host->leases);
	return false;
}

/*
 * A table that hosts share: one more for a host that has `mine` of `all` so far. A host gets no more than there are
 * places left: one alone half of them, two a third each, and so on, so that one that comes next finds room (dynamic
 * thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998).
 */
static __always_inline bool pt_share_left(__u64 all, __u32 mine, __u32 most) {
	return all + mine < most;
}

static __always_inline void pt_halfopen_release(__be32 address) {
	struct ptrig_host *host = pt_host_find(address, 0);
	struct ptrig_usage *usage = pt_usage_get();

	if (usage)
		__sync_fetch_and_add(&usage->halfopen, -1);
	if (host)
		pt_count_down(&host->halfopen);
}
/* One more session that the host has not answered. The host is one that has been counted for a session. */
static __always_inline bool pt_halfopen_reserve(__be32 address, const struct ptrig_config *config) {
	struct ptrig_host *host = pt_host_find(address, 0);
	struct ptrig_usage *usage = pt_usage_get();

	if (!host || !usage)
		return false;
	__u64 all = __sync_fetch_and_add(&usage->halfopen, 1);
	__u32 most = cfg_halfopen_max, eighth = config->conntrack_max / 8;

	/* Their entries cannot be dropped early, so they must never fill the kernel's table. */
	if (eighth && eighth < most)
		most = eighth;
	if (pt_share_left(all, __sync_fetch_and_add(&host->halfopen, 1), most))
		return true;
	pt_halfopen_release(address);
	return false;
}

#endif
