/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What user space asks for: delete what is over, end leases and sessions. Runs in the kernel, so that
 * checking and deleting are one step and nothing that was just renewed is ever deleted.
 */
#ifndef PT_SWEEP_H
#define PT_SWEEP_H

#include "conn.h"
#include "session.h"

struct pt_sweep {
	const struct ptrig_config *config;
	__u64 now;
	__u32 gen;
	__u32 op;
	struct ptrig_admin *args; /* what it counts, the verifier does not follow */
};

static __always_inline bool pt_sweep_wants(const struct ptrig_admin *args, __u32 rule, __u32 lease, __be32 host,
					   __be32 remote, __be32 wan) {
	return (!args->rule || args->rule == rule) && (!args->lease || args->lease == lease) &&
	       (!args->host || args->host == host) && (!args->remote || args->remote == remote) &&
	       (!args->wan || args->wan == wan);
}

static __always_inline bool pt_sweep_session_over(const struct pt_sweep *w, const struct ptrig_session_key *key,
						  const struct ptrig_session *s, bool halfopen) {
	struct ptrig_rule *rule = pt_rule_by_id(w->gen, s->rule);
	bool ends_with_lease = halfopen || (rule ? rule->flags & PTRIG_RULE_KILL : s->flags & PTRIG_SESSION_KILL);

	if (w->op == PTRIG_ADMIN_CLOSE_SESSIONS)
		return pt_sweep_wants(w->args, s->rule, s->lease, key->saddr, key->daddr, s->addr);
	if (pt_elapsed(w->now, s->seen_ns, pt_session_idle_ns(s, key->proto, w->config)))
		return true;
	return ends_with_lease && !pt_session_lease(key, s, rule, w->now);
}

static long pt_sweep_established(void *map, const void *k, void *value, struct pt_sweep *w) {
	const struct ptrig_session_key *key = k;
	struct ptrig_session *s = value;

	if (key->side != PTRIG_SIDE_LAN || !s->seen_ns)
		return 0;
	__u64 seen = s->seen_ns;

	if (pt_sweep_session_over(w, key, s, false) && pt_established_end(key, s, seen)) {
		w->args->sessions++;
		w->args->most--;
	}
	return !w->args->most;
}
static long pt_sweep_halfopen(void *map, const void *k, void *value, struct pt_sweep *w) {
	const struct ptrig_session_key *key = k;
	struct ptrig_session *s = value;

	if (key->side != PTRIG_SIDE_LAN || !s->seen_ns)
		return 0;
	__u64 seen = s->seen_ns;

	if (pt_sweep_session_over(w, key, s, true) && pt_halfopen_end(key, s, seen)) {
		w->args->halfopen++;
		w->args->most--;
	}
	return !w->args->most;
}

/* An ended lease is kept until its cooldown is over. */
static __always_inline void pt_sweep_lease_forget(const struct pt_sweep *w, const struct ptrig_lease_key *key,
						  struct ptrig_lease *lease, const struct ptrig_rule *rule) {
	__u64 keep = rule ? rule->cooldown_ns : 0;
	bool dead = false;

	if (lease->info.state != PTRIG_LEASE_ENDED || !pt_lease_lock(lease))
		return;
	if (lease->info.state == PTRIG_LEASE_ENDED && pt_elapsed(w->now, lease->info.ended_ns, keep)) {
		lease->info.state = PTRIG_LEASE_DEAD;
		dead = true;
	}
	pt_lease_unlock(lease);
	if (!dead)
		return;
	struct ptrig_usage *usage = pt_usage_get();

	if (!bpf_map_delete_elem(&pt_leases, key) && usage)
		__sync_fetch_and_add(&usage->leases, -1);
}

/* Has the lease's WAN address gone? A trigger may be writing one part of it after the other: under the lock it is
 * whole. */
static __always_inline bool pt_sweep_wan_gone(struct ptrig_lease *lease) {
	const struct ptrig_lease_info *info = &lease->info;

	if (!info->wan || pt_wan_address(info->wan_ifindex, info->wan) || !pt_lease_lock(lease))
		return false;
	__be32 wan = info->wan;
	__u32 ifindex = info->wan_ifindex;

	pt_lease_unlock(lease);
	return wan && !pt_wan_address(ifindex, wan);
}

static long pt_sweep_lease(void *map, const void *k, void *value, struct pt_sweep *w) {
	const struct ptrig_lease_key *key = k;
	struct ptrig_lease *lease = value;
	const struct ptrig_lease_info *info = &lease->info;
	__u32 id = *(volatile __u32 *)&info->id; /* before all else: of this grant and no later one is what follows */
	struct ptrig_rule *rule = pt_rule_by_id(w->gen, key->rule);
	enum ptrig_reason over = PT_GO_ON;
	__u64 ended = w->now;
	bool wanted = true;

	if (info->state == PTRIG_LEASE_LIVE) {
		if (w->op == PTRIG_ADMIN_CLOSE_LEASES) {
			__be32 remote = key->remote ? key->remote : info->trigger_remote;

			wanted = pt_sweep_wants(w->args, key->rule, id, info->host, remote, info->wan);
			over = wanted ? w->args->reason : PT_GO_ON;
		} else if (!rule) {
			over = PTRIG_RULE_GONE;
		} else if (pt_sweep_wan_gone(lease)) {
			over = PTRIG_WAN_CHANGED;
		}
		enum ptrig_reason by_time = wanted && rule ? pt_lease_over(info, rule, w->now) : PT_GO_ON;

		if (by_time != PT_GO_ON) {
			over = by_time;
			ended = pt_lease_end(info, rule);
		}
		if (over != PT_GO_ON && pt_lease_end_now(lease, key->rule, id, over, ended))
			w->args->leases++;
	}
	if (w->op != PTRIG_ADMIN_CLOSE_LEASES)
		pt_sweep_lease_forget(w, key, lease, rule);
	return 0;
}

static long pt_sweep_conn(void *map, const void *k, void *value, struct pt_sweep *w) {
	const struct ptrig_conn_key *key = k;
	struct ptrig_conn *conn = value;
	struct ptrig_rule *rule = pt_rule_by_id(w->gen, key->rule);
	struct ptrig_lease *lease = rule ? pt_lease_find(rule, key->remote) : NULL;
	bool held = conn->flags & PTRIG_CONN_COUNTED && lease && lease->info.id == conn->lease &&
		    lease->info.state == PTRIG_LEASE_LIVE;

	if (!held && pt_conn_take(conn)) {
		pt_conn_remove(key);
		w->args->conns++;
	}
	return 0;
}

static long pt_sweep_pending(void *map, const void *k, void *value, struct pt_sweep *w) {
	const struct ptrig_conn_key *key = k;
	const struct ptrig_conn *conn = value;

	if ((!pt_rule_by_id(w->gen, key->rule) || pt_elapsed(w->now, conn->seen_ns, w->config->halfopen_ns)) &&
	    !bpf_map_delete_elem(&pt_pending, key))
		w->args->conns++;
	return 0;
}

static long pt_sweep_host(void *map, const void *k, void *value, struct pt_sweep *w) {
	__u64 *both = value;

	if (!*both && __sync_val_compare_and_swap(both, 0, PT_HOST_DEAD) == 0)
		bpf_map_delete_elem(&pt_hosts, k);
	return 0;
}

static long pt_sweep_look(__u32 index, void *unused) {
	struct ptrig_fast_bucket *bucket = bpf_map_lookup_elem(&pt_fast, &index);
	__u32 now = bpf_jiffies64();

	if (!bucket)
		return 1;
	for (int i = 0; i < (int)PTRIG_FAST_WAYS; i++)
		*(volatile __u32 *)&bucket->way[i].until = now;
	return 0;
}

SEC("syscall")
int pt_admin(struct ptrig_admin *args) {
	struct pt_sweep w = {.gen = pt_generation(), .now = bpf_ktime_get_boot_ns(), .op = args->op, .args = args};

	w.config = pt_config_get(w.gen);
	const struct ptrig_usage *usage = pt_usage_get();

	if (!w.config || !usage)
		return 1;
	if (!args->most)
		args->most = ~0U;
	args->leases = args->sessions = args->halfopen = args->conns = 0;
	bool all = w.op == PTRIG_ADMIN_SWEEP;

	/* A walk costs what the table's size says, however little it holds. */
	if ((all || w.op == PTRIG_ADMIN_SWEEP_LEASES || w.op == PTRIG_ADMIN_CLOSE_LEASES) && usage->leases)
		bpf_for_each_map_elem(&pt_leases, pt_sweep_lease, &w, 0);
	if ((all || w.op == PTRIG_ADMIN_CLOSE_SESSIONS) && usage->halfopen)
		bpf_for_each_map_elem(&pt_halfopen, pt_sweep_halfopen, &w, 0);
	if ((all || w.op == PTRIG_ADMIN_CLOSE_SESSIONS) && usage->sessions && args->most)
		bpf_for_each_map_elem(&pt_sessions, pt_sweep_established, &w, 0);
	if (all && usage->conns)
		bpf_for_each_map_elem(&pt_conns, pt_sweep_conn, &w, 0);
	if (all) {
		bpf_for_each_map_elem(&pt_pending, pt_sweep_pending, &w, 0);
		bpf_for_each_map_elem(&pt_hosts, pt_sweep_host, &w, 0);
	}
	if (w.op == PTRIG_ADMIN_LOOK)
		bpf_loop(2 * cfg_fast_buckets, pt_sweep_look, NULL, 0);
	return 0;
}

#endif
