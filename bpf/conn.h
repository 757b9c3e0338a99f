/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Trigger connections, for `confirm` (has the remote answered?) and `close = "connection"` (has it
 * ended?). When the table of the latter is full, `close` falls back to `idle`.
 */
#ifndef PT_CONN_H
#define PT_CONN_H

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

static __always_inline bool pt_conn_insert(const struct ptrig_conn_key *key, const struct ptrig_conn *conn) {
	struct ptrig_usage *usage = pt_usage_get();

	if (!usage || bpf_map_update_elem(&pt_conns, key, conn, BPF_NOEXIST))
		return false;
	__sync_fetch_and_add(&usage->conns, 1);
	return true;
}

/* Whoever swaps seen_ns to 0 deletes the entry. */
static __always_inline bool pt_conn_take(struct ptrig_conn *conn) {
	__u64 seen = conn->seen_ns;

	return seen && __sync_val_compare_and_swap(&conn->seen_ns, seen, 0) == seen;
}
static __always_inline void pt_conn_remove(const struct ptrig_conn_key *key) {
	struct ptrig_usage *usage = pt_usage_get();

	if (!bpf_map_delete_elem(&pt_conns, key) && usage)
		__sync_fetch_and_add(&usage->conns, -1);
}

/* `confirm`: remember the trigger until its remote answers. When the table is full, the trigger that has waited
 * longest is forgotten; its host asks again. */
static __noinline enum ptrig_reason pt_conn_wait(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	struct ptrig_conn_key key = pt_conn_key(rule, t);
	struct ptrig_conn conn = {
		.seen_ns = t->now,
		.cand = t->c,
		.wan = t->wan,
		.wan_ifindex = t->wan_ifindex,
	};

	return bpf_map_update_elem(&pt_pending, &key, &conn, BPF_ANY) ? PTRIG_CONNS_FULL : PTRIG_PENDING;
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
	struct ptrig_conn_key key = pt_conn_key(rule, t);
	struct ptrig_lease *lease = pt_lease_find(rule, t->c.remote, t->wan);
	struct ptrig_conn *known = bpf_map_lookup_elem(&pt_conns, &key);
	bool counted = false, tracked = true;

	if (!lease)
		return;
	__u32 id = lease->info.id;

	if (known && known->lease == id && known->flags & PTRIG_CONN_COUNTED) {
		if (again)
			known->flags = PTRIG_CONN_COUNTED;
		return;
	}
	if (known && known->flags & PTRIG_CONN_COUNTED && known->wan != t->wan)
		pt_conn_uncount(rule, known);
	if (!known) {
		struct ptrig_conn conn = {
			.seen_ns = t->now,
			.cand = t->c,
			.lease = id,
			.wan = t->wan,
			.wan_ifindex = t->wan_ifindex,
		};

		tracked = pt_conn_insert(&key, &conn);
		known = bpf_map_lookup_elem(&pt_conns, &key);
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
	if (known && counted) {
		known->lease = id;
		known->wan = t->wan;
		known->wan_ifindex = t->wan_ifindex;
		known->flags = PTRIG_CONN_COUNTED;
	}
}

/* A FIN or RST of a trigger connection has passed; `fin` is the direction's bit. */
static __noinline void pt_conn_closing(const struct ptrig_rule *rule, const struct ptrig_conn_key *key, __u32 fin,
				       bool reset, __u64 now) {
	struct ptrig_conn *conn = bpf_map_lookup_elem(&pt_conns, key);
	bool last = false;

	if (!conn)
		return;
	__u32 flags = __sync_fetch_and_or(&conn->flags, fin) | fin;

	if (!reset && (flags & (PTRIG_CONN_FIN_LAN | PTRIG_CONN_FIN_WAN)) != (PTRIG_CONN_FIN_LAN | PTRIG_CONN_FIN_WAN))
		return;
	__u32 id = conn->lease;
	__be32 wan = conn->wan;

	if (!pt_conn_take(conn))
		return;
	pt_conn_remove(key);
	struct ptrig_lease *lease = pt_lease_find(rule, key->remote, wan);

	if (!lease || !(flags & PTRIG_CONN_COUNTED))
		return;
	if (!pt_lease_lock(lease))
		return;
	if (lease->info.id == id && lease->info.conns)
		last = --lease->info.conns == 0;
	pt_lease_unlock(lease);
	if (!last)
		return;
	enum ptrig_reason over = pt_lease_over(&lease->info, rule, now);

	if (over == PT_GO_ON)
		pt_lease_end_now(lease, rule->id, id, PTRIG_CONNECTION_CLOSED, now);
	else /* long since: the cooldown runs from then */
		pt_lease_end_now(lease, rule->id, id, over, pt_lease_end(&lease->info, rule));
}

#endif
