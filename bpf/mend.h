/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A count that the daemon has found wrong is put right: added to, for packets change it at the same time.
 */
#ifndef PT_MEND_H
#define PT_MEND_H

#include "session.h"

static __always_inline void pt_mend_usage(struct ptrig_usage *usage, const struct ptrig_admin *args) {
	__s64 by = args->by;

	if (args->book == PTRIG_BOOK_SESSIONS)
		__sync_fetch_and_add(&usage->sessions, by);
	else if (args->book == PTRIG_BOOK_HALFOPEN)
		__sync_fetch_and_add(&usage->halfopen, by);
	else if (args->book == PTRIG_BOOK_LEASES)
		__sync_fetch_and_add(&usage->leases, by);
	else
		__sync_fetch_and_add(&usage->conns, by);
}

static __always_inline bool pt_mend_host(const struct ptrig_admin *args) {
	struct ptrig_host *host = pt_host_find(args->host, args->rule);

	if (!host || *(volatile __u64 *)host == PT_HOST_DEAD)
		return false;
	if (args->book == PTRIG_BOOK_HOST_LEASES)
		__sync_fetch_and_add(&host->leases, args->by);
	else if (args->book == PTRIG_BOOK_HOST_SESSIONS)
		__sync_fetch_and_add(&host->sessions, args->by);
	else if (args->book == PTRIG_BOOK_HOST_HALFOPEN)
		__sync_fetch_and_add(&host->halfopen, args->by);
	else
		__sync_fetch_and_add(&host->conns, args->by);
	return true;
}

static __always_inline bool pt_mend_lease(const struct ptrig_admin *args) {
	struct ptrig_lease_key key = {.rule = args->rule, .remote = args->remote, .wan = args->wan};
	struct ptrig_lease *lease = bpf_map_lookup_elem(&pt_leases, &key);

	if (!lease)
		return false;
	if (args->book == PTRIG_BOOK_LEASE_SESSIONS)
		return pt_lease_count(lease, args->lease, args->by, 0) == PT_GO_ON;
	if (!pt_lease_lock(lease))
		return false;
	bool same = lease->info.id == args->lease;

	if (same)
		lease->info.conns += args->by;
	pt_lease_unlock(lease);
	return same;
}

/* False: what was counted is gone. */
static __always_inline bool pt_mend(const struct ptrig_admin *args) {
	struct ptrig_usage *usage = pt_usage_get();
	bool done = true;

	if (!usage)
		return false;
	if (args->book <= PTRIG_BOOK_CONNS)
		pt_mend_usage(usage, args);
	else if (args->book <= PTRIG_BOOK_HOST_CONNS)
		done = pt_mend_host(args);
	else if (args->book <= PTRIG_BOOK_LEASE_CONNS)
		done = pt_mend_lease(args);
	else
		pt_port_use_add(args->index, args->by);
	if (done)
		__sync_fetch_and_add(&usage->mended, 1);
	return done;
}

#endif
