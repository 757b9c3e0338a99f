/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Trigger connections, for `confirm` (has the remote answered?) and `close = "connection"` (has it ended?). Hosts share
 * both tables. Where a host finds no place in the latter's, `close` falls back to `idle`.
 */
#ifndef PT_CONN_H
#define PT_CONN_H

#include "fast_key.h"
#include "lease.h"

static __always_inline struct ptrig_conn_key pt_conn_key(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	const struct ptrig_cand *c = &t->c;
	struct ptrig_conn_key key = {
		.host = c->host,
		.remote = c->remote,
		.host_port = c->host_port,
		.remote_port = c->remote_port,
		.rule = rule->id,
		.proto = c->proto,
	};

	return key;
}

static __noinline void pt_conn_release(__be32 address) {
	struct ptrig_host *host = pt_host_find(address, 0);
	struct ptrig_usage *usage = pt_usage_get();

	if (usage)
		__sync_fetch_and_add(&usage->conns, -1);
	if (host)
		pt_count_down(&host->conns);
}
/* A place for one more connection of this host's, which has a lease. */
static __noinline bool pt_conn_reserve(__be32 address) {
	struct ptrig_host *host = pt_host_find(address, 0);
	struct ptrig_usage *usage = pt_usage_get();

	if (!host || !usage)
		return false;
	__u64 all = __sync_fetch_and_add(&usage->conns, 1);

	if (pt_share_left(all, __sync_fetch_and_add(&host->conns, 1), cfg_conns_max) &&
	    pt_host_find(address, 0) == host)
		return true;
	__sync_fetch_and_add(&usage->conns, -1);
	pt_count_down(&host->conns);
	return false;
}

/* Whoever swaps seen_ns to 0 deletes the entry. The element may have become another connection's since it was found. */
static __always_inline bool pt_conn_take(const struct ptrig_conn_key *key, struct ptrig_conn *conn) {
	__u64 seen = *(volatile __u64 *)&conn->seen_ns;

	barrier();
	return seen && pt_stands(&pt_conns, key, conn) && __sync_val_compare_and_swap(&conn->seen_ns, seen, 0) == seen;
}
static __always_inline void pt_conn_remove(const struct ptrig_conn_key *key) {
	if (!bpf_map_delete_elem(&pt_conns, key))
		pt_conn_release(key->host);
}

static __always_inline bool pt_conn_is(const struct ptrig_conn_key *a, const struct ptrig_conn_key *b) {
	return a->host == b->host && a->remote == b->remote && a->host_port == b->host_port &&
	       a->remote_port == b->remote_port && a->rule == b->rule && a->proto == b->proto;
}
static __always_inline struct ptrig_wait_key pt_wait_key(const struct ptrig_conn_key *key) {
	__u32 flow = pt_mix(pt_mix(key->remote, 0), (__u32)key->host_port << 16 | key->remote_port);
	struct ptrig_wait_key wait = {
		.host = key->host,
		.slot = pt_mix(flow, key->rule << 8 | key->proto) % (cfg_wait_slots ? cfg_wait_slots : 1),
	};

	return wait;
}

/* What is to be remembered of a trigger. */
static __noinline struct ptrig_wait *pt_conn_scratch(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	struct ptrig_scratch *scratch = bpf_map_lookup_elem(&pt_scratch, &pt_zero);

	if (!scratch)
		return NULL;
	struct ptrig_conn *conn = &scratch->wait.conn;

	__builtin_memset(conn, 0, sizeof(*conn));
	scratch->wait.key = pt_conn_key(rule, t);
	conn->seen_ns = t->now;
	conn->cand = t->c;
	conn->wan = t->wan;
	conn->wan_ifindex = t->wan_ifindex;
	conn->wan_port = t->wan_port;
	return &scratch->wait;
}

/* `confirm`: remember the trigger until its remote answers. It may put out another of this host's, which then asks
 * again. */
static __noinline enum ptrig_reason pt_wait_begin(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	struct ptrig_wait *wait = pt_conn_scratch(rule, t);

	if (!wait)
		return PTRIG_CONNS_FULL;
	struct ptrig_wait_key key = pt_wait_key(&wait->key);

	return bpf_map_update_elem(&pt_pending, &key, wait, BPF_ANY) ? PTRIG_CONNS_FULL : PTRIG_PENDING;
}
static __always_inline struct ptrig_wait *pt_wait_find(const struct ptrig_conn_key *key) {
	struct ptrig_wait_key slot = pt_wait_key(key);
	struct ptrig_wait *wait = bpf_map_lookup_elem(&pt_pending, &slot);

	return wait && pt_conn_is(&wait->key, key) ? wait : NULL;
}
/* Of two callers at once, one is told true. */
static __noinline bool pt_wait_end(const struct ptrig_conn_key *key) {
	struct ptrig_wait_key slot = pt_wait_key(key);

	return pt_wait_find(key) && !bpf_map_delete_elem(&pt_pending, &slot);
}

/* It leaves by another WAN address now, and holds that one's lease. */
static __noinline void pt_conn_uncount(const struct ptrig_rule *rule, const struct ptrig_conn *conn) {
	struct ptrig_lease *lease = pt_lease_find(rule, conn->cand.remote, conn->wan);

	if (!lease || !pt_lease_lock(lease))
		return;
	if (lease->info.id == conn->lease && lease->info.conns)
		lease->info.conns--;
	pt_lease_unlock(lease);
}

/* `close = "connection"`: this connection holds the lease. It is marked as counted only when it is; where the lease was
 * busy, its next packet counts it. `again`: a SYN, so that what was half closed is no more. */
static __noinline void pt_conn_track(const struct ptrig_rule *rule, const struct pt_trigger *t, bool again) {
	struct ptrig_lease *lease = pt_lease_find(rule, t->c.remote, t->wan);
	struct ptrig_wait *made = pt_conn_scratch(rule, t);
	bool counted = false, tracked = true;

	if (!lease || !made)
		return;
	__u32 id;

	if (!pt_lease_grant(lease, rule, t->c.remote, t->wan, &id))
		return;
	struct ptrig_conn *known = bpf_map_lookup_elem(&pt_conns, &made->key);

	if (known && known->lease == id && known->flags & PTRIG_CONN_COUNTED) {
		known->wan_port = t->wan_port;
		if (again)
			known->flags = PTRIG_CONN_COUNTED;
		return;
	}
	if (known && known->flags & PTRIG_CONN_COUNTED && known->wan != t->wan)
		pt_conn_uncount(rule, known);
	if (!known) {
		made->conn.lease = id;
		tracked = pt_conn_reserve(t->c.host);
		if (tracked && bpf_map_update_elem(&pt_conns, &made->key, &made->conn, BPF_NOEXIST)) {
			pt_conn_release(t->c.host);
			tracked = false;
		}
		known = bpf_map_lookup_elem(&pt_conns, &made->key);
	}
	if (!tracked)
		pt_rule_count(rule, PTRIG_CONNS_FULL);
	if (!pt_lease_lock(lease))
		return;
	if (lease->info.id == id) {
		if (tracked && !lease->info.conns)
			lease->info.flags |= PTRIG_LEASE_CONN;
		lease->info.conns++; /* not tracked: never counted down, only the timeout ends this lease */
		counted = tracked;
	}
	pt_lease_unlock(lease);
	known = counted ? bpf_map_lookup_elem(&pt_conns, &made->key) : NULL;
	if (known) {
		known->lease = id;
		known->wan = t->wan;
		known->wan_ifindex = t->wan_ifindex;
		known->wan_port = t->wan_port;
		known->flags = PTRIG_CONN_COUNTED;
	}
}

/* A function of its own, which has its own stack. */
static __noinline struct ptrig_lease *pt_conn_lease(const struct ptrig_rule *rule, __be32 remote, __be32 wan) {
	return pt_lease_find(rule, remote, wan);
}

#define PT_CONN_CLOSED (PTRIG_CONN_FIN_LAN | PTRIG_CONN_FIN_WAN)

/* A FIN of a trigger connection has passed, `fin` is its direction's bit; or all is over, PT_CONN_CLOSED. */
static __noinline void pt_conn_closing(const struct ptrig_rule *rule, const struct ptrig_conn_key *key, __u32 fin,
				       __u64 now) {
	struct ptrig_conn *conn = bpf_map_lookup_elem(&pt_conns, key);
	bool last = false;

	if (!conn)
		return;
	__u32 flags = __sync_fetch_and_or(&conn->flags, fin) | fin;

	if ((flags & PT_CONN_CLOSED) != PT_CONN_CLOSED)
		return;
	__u32 id = conn->lease;
	struct ptrig_lease *lease = flags & PTRIG_CONN_COUNTED ? pt_conn_lease(rule, key->remote, conn->wan) : NULL;

	/* a lease that is busy: its next packet, or the daemon's next question, ends it */
	if (lease && !pt_lease_lock(lease))
		return;
	bool taken = pt_conn_take(key, conn);

	if (lease) {
		if (taken && lease->info.id == id && lease->info.conns)
			last = --lease->info.conns == 0;
		pt_lease_unlock(lease);
	}
	if (!taken)
		return;
	pt_conn_remove(key);
	if (!last || !lease)
		return;
	enum ptrig_reason over = pt_lease_over_held(&lease->info, rule, now, true); /* it was, until now */

	if (over == PT_GO_ON)
		pt_lease_end_now(lease, rule->id, id, PTRIG_CONNECTION_CLOSED, now);
	else /* long since: the cooldown runs from then */
		pt_lease_end_now(lease, rule->id, id, over, pt_lease_end_held(&lease->info, rule, true));
}

#endif
