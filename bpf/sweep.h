/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What user space asks for: end what is over, delete what has ended, and close. Runs in the kernel, so that checking
 * and ending are one step and nothing that was just renewed is ended. Sessions end in two steps, for only a TC program
 * may ask conntrack: pt_admin marks and lists them, pt_release takes their entries away and deletes them. What is
 * marked is over to every packet, and is listed again until it is gone.
 */
#ifndef PT_SWEEP_H
#define PT_SWEEP_H

#include "answer.h"
#include "conn.h"
#include "mend.h"

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

/* Is it over, or is conntrack to be asked? In a hairpin conntrack is asked when the time is over: on a bridge with
 * br_netfilter only the first packet comes by, and the bridge itself translates the others. */
static __always_inline bool pt_sweep_session_over(const struct pt_sweep *w, const struct ptrig_session_key *key,
						  const struct ptrig_session *s, bool halfopen, bool *ask) {
	struct ptrig_rule *rule = pt_rule_by_id(w->gen, s->rule);
	struct ptrig_lease *lease = pt_session_lease(s, rule, w->now);
	bool hairpin = s->flags & PTRIG_SESSION_HAIRPIN;
	__u64 seen = hairpin ? w->now : s->seen_ns;
	__u64 time = halfopen ? w->config->halfopen_ns : pt_session_idle_ns(s, key->proto, w->config);

	*ask = false;
	if (s->id & PTRIG_SESSION_OVER)
		return true;
	if (w->op == PTRIG_ADMIN_CLOSE_SESSIONS)
		return pt_sweep_wants(w->args, s->rule, s->lease, key->saddr, key->daddr, s->addr);
	*ask = (hairpin && pt_elapsed(w->now, s->seen_ns, time)) || (!halfopen && s->id & PTRIG_SESSION_ASK);
	if (halfopen)
		return pt_halfopen_over(s, seen, key->saddr, lease, w->config, w->now);
	return pt_established_over(s, seen, key->proto, lease, rule, w->config, w->now);
}

static __always_inline struct ptrig_over *pt_sweep_next(const struct ptrig_admin *args) {
	__u32 index = args->sessions + args->halfopen + args->asked;

	return bpf_map_lookup_elem(&pt_over, &index);
}

/* Over to every packet, of either side. */
static __noinline void pt_sweep_mark(const struct ptrig_session_key *key, struct ptrig_session *lan, __u64 id,
				     bool halfopen) {
	struct ptrig_session_key mirror = pt_session_mirror(key, lan);
	struct ptrig_session *wan = halfopen ? NULL : bpf_map_lookup_elem(&pt_sessions, &mirror);

	pt_session_mark(lan, id, PTRIG_SESSION_OVER, 0);
	if (wan)
		pt_session_mark(wan, id, PTRIG_SESSION_OVER, 0);
}

/* The element may be on its way to another session, with a key and a half of two: what is found over is looked at again
 * once it stands under its key, and is acted on only if it still does then. */
static __always_inline long pt_sweep_session(const struct ptrig_session_key *key, struct ptrig_session *s, void *table,
					     struct pt_sweep *w, bool halfopen) {
	struct ptrig_session_key at = *key;
	__u64 id = pt_session_number(s);
	bool ask;

	if (at.side != PTRIG_SIDE_LAN || !id)
		return 0;
	bool over = pt_sweep_session_over(w, &at, s, halfopen, &ask);

	if ((!over && !ask) || !pt_stands(table, &at, s))
		return 0;
	over = pt_sweep_session_over(w, &at, s, halfopen, &ask);
	if ((!over && !ask) || pt_session_number(s) != id || !pt_stands(table, &at, s))
		return 0;
	if (over && !(s->id & PTRIG_SESSION_OVER))
		pt_sweep_mark(&at, s, id, halfopen);
	struct ptrig_over *listed = pt_sweep_next(w->args);

	if (!listed)
		return 1;
	listed->id = id;
	listed->key = at;
	listed->kind = halfopen ? PTRIG_LISTED_HALFOPEN : PTRIG_LISTED_SESSION;
	if (halfopen)
		w->args->halfopen++;
	else
		w->args->sessions++;
	return !--w->args->most;
}
static long pt_sweep_established(void *map, const void *key, void *value, struct pt_sweep *w) {
	return pt_sweep_session(key, value, &pt_sessions, w, false);
}
static long pt_sweep_halfopen(void *map, const void *key, void *value, struct pt_sweep *w) {
	return pt_sweep_session(key, value, &pt_halfopen, w, true);
}

/* Has the lease's WAN address gone? A trigger may be writing one part of it after the other: under the lock it is
 * whole. */
static __always_inline bool pt_sweep_wan_gone(struct ptrig_lease *lease) {
	const struct ptrig_lease_info *info = &lease->info;

	if (info->flags & PTRIG_LEASE_ROUTED || pt_wan_address(info->wan_ifindex, info->wan) || !pt_lease_lock(lease))
		return false;
	__be32 wan = info->wan;
	__u32 ifindex = info->wan_ifindex;
	bool routed = info->flags & PTRIG_LEASE_ROUTED;

	pt_lease_unlock(lease);
	return !routed && !pt_wan_address(ifindex, wan);
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
		pt_lease_forget(lease, key, rule && !pt_lease_scarce() ? rule->cooldown_ns : 0, w->now);
	return 0;
}

/* Silent for a quarter of the time after which it ends: conntrack is to be asked whether the connection lives. */
static __always_inline bool pt_sweep_is_silent(const struct pt_sweep *w, const struct ptrig_lease_info *info,
					       const struct ptrig_rule *rule) {
	return pt_elapsed(w->now, info->refreshed_ns, pt_lease_timeout(rule, info->conns) / 4);
}
static long pt_sweep_conn(void *map, const void *k, void *value, struct pt_sweep *w) {
	struct ptrig_conn_key key = *(const struct ptrig_conn_key *)k; /* as of pt_sweep_session() */
	struct ptrig_conn *conn = value;
	struct ptrig_rule *rule = pt_rule_by_id(w->gen, key.rule);
	struct ptrig_lease *lease = rule ? pt_lease_find(rule, key.remote, conn->wan) : NULL;
	__u64 seen = conn->seen_ns;
	bool held = conn->flags & PTRIG_CONN_COUNTED && lease && lease->info.id == conn->lease &&
		    lease->info.state == PTRIG_LEASE_LIVE;

	if (!held && pt_conn_take(&key, conn)) {
		pt_conn_remove(&key);
		w->args->conns++;
	}
	/* asked once a second: what is to be listed comes to an end */
	if (!held || !seen || !pt_elapsed(w->now, seen, PT_SECOND_NS) || !pt_sweep_is_silent(w, &lease->info, rule))
		return 0;
	struct ptrig_over *listed = pt_sweep_next(w->args);

	if (!listed || __sync_val_compare_and_swap(&conn->seen_ns, seen, w->now) != seen)
		return !listed;
	listed->kind = PTRIG_LISTED_CONN;
	listed->conn = key;
	w->args->asked++;
	return !--w->args->most;
}

static long pt_sweep_pending(void *map, const void *k, void *value, struct pt_sweep *w) {
	const struct ptrig_wait *wait = value;

	if ((!pt_rule_by_id(w->gen, wait->key.rule) ||
	     pt_elapsed(w->now, wait->conn.seen_ns, w->config->halfopen_ns)) &&
	    !bpf_map_delete_elem(&pt_pending, k))
		w->args->conns++;
	return 0;
}

/* The element may be on its way to another host, who must not find it dead: it is deleted only if it stands. */
static long pt_sweep_host(void *map, const void *k, void *value, struct pt_sweep *w) {
	struct ptrig_host_key key = *(const struct ptrig_host_key *)k;
	const struct ptrig_host *host = value;
	__u64 *both = value;

	if (*both || host->conns || __sync_val_compare_and_swap(both, 0, PT_HOST_DEAD) != 0)
		return 0;
	if (!pt_stands(&pt_hosts, &key, value) || bpf_map_delete_elem(&pt_hosts, &key))
		__sync_val_compare_and_swap(both, PT_HOST_DEAD, 0);
	return 0;
}

/* A silent connection keeps its lease as long as conntrack knows it. Where conntrack has forgotten it, it may yet live
 * (a flush): the lease's timeout counts. */
static __noinline void pt_release_conn(struct __sk_buff *skb, const struct ptrig_conn_key *listed) {
	struct ptrig_conn_key key = *listed;
	struct ptrig_conn *conn = bpf_map_lookup_elem(&pt_conns, &key);
	struct ptrig_rule *rule = pt_rule_by_id(pt_generation(), key.rule);
	__u64 now = bpf_ktime_get_boot_ns();
	struct pt_entry e;

	if (!conn || !rule)
		return;
	struct pt_tuple t = {
		.saddr = key.remote, .daddr = conn->wan, .sport = key.remote_port, .dport = conn->wan_port};

	if (!pt_entry_look(skb, &t, key.proto, &e) || !e.is_reply || e.orig.saddr != key.host ||
	    e.orig.sport != key.host_port)
		return;
	if (e.tcp_state >= PT_CT_TCP_LAST_ACK) {
		pt_conn_closing(rule, &key, PT_CONN_CLOSED, now);
		return;
	}
	struct ptrig_lease *lease = pt_lease_find(rule, key.remote, conn->wan);

	if (lease && e.tcp_state >= PT_CT_TCP_ESTABLISHED)
		pt_lease_touch(lease, conn->lease, now);
}

/* A hairpin's session whose time is over: it goes on if conntrack has its entry, and has seen the host's answer. */
static __noinline void pt_release_hairpin(struct __sk_buff *skb, const struct pt_found *found, const struct pt_entry *e,
					  const struct ptrig_config *config) {
	struct ptrig_session *lan = found->lan;
	struct pt_pkt none = {.proto = found->lan_key.proto};

	if (!lan)
		return;
	if (pt_entry_whose(e, found->lan_key.saddr, found->lan_key.sport) != PT_OURS ||
	    !(e->status & PT_IPS_SEEN_REPLY) || e->tcp_state >= PT_CT_TCP_LAST_ACK) {
		pt_flow_end(skb, &found->lan_key, lan, found->id, found->halfopen);
		return;
	}
	if (found->halfopen) {
		pt_answer_promote(skb, &none, found, config);
		lan = bpf_map_lookup_elem(&pt_sessions, &found->lan_key);
		if (!lan)
			return;
	}
	if (none.proto == IPPROTO_TCP)
		lan->state = pt_flow_tcp_state(e);
	lan->seen_ns = bpf_ktime_get_boot_ns();
}
/* Is it such a one? Of what is half-open nothing else is listed that is not over. */
static __always_inline bool pt_release_late(const struct pt_found *found, const struct ptrig_config *config) {
	const struct ptrig_session *lan = found->lan;

	return lan->flags & PTRIG_SESSION_HAIRPIN &&
	       (found->halfopen || pt_elapsed(bpf_ktime_get_boot_ns(), lan->seen_ns,
					      pt_session_idle_ns(lan, found->lan_key.proto, config)));
}

/* What pt_admin has listed n-th: a session to end or to ask conntrack about, or a connection. */
static long pt_release_one(__u32 n, struct __sk_buff **skb) {
	struct ptrig_over *listed = bpf_map_lookup_elem(&pt_over, &n);
	struct ptrig_session *lan;
	struct pt_entry e;

	if (!listed)
		return 1;
	if (listed->kind == PTRIG_LISTED_CONN) {
		pt_release_conn(*skb, &listed->conn);
		return 0;
	}
	bool halfopen = listed->kind == PTRIG_LISTED_HALFOPEN;
	struct pt_found found = {.lan_key = listed->key, .id = listed->id, .halfopen = halfopen};
	const struct ptrig_session_key *key = &found.lan_key;
	const struct ptrig_config *config = pt_config_get(pt_generation());

	lan = halfopen ? bpf_map_lookup_elem(&pt_halfopen, key) : bpf_map_lookup_elem(&pt_sessions, key);
	if (!lan || pt_session_number(lan) != listed->id)
		return 0;
	found.lan = lan;
	if (!(lan->id & PTRIG_SESSION_OVER)) {
		struct pt_tuple t;
		bool there = pt_flow_look(*skb, key, lan, &t, &e);

		if (config && pt_release_late(&found, config)) {
			pt_release_hairpin(*skb, &found, &e, config);
			return 0;
		}
		if (there && e.tcp_state < PT_CT_TCP_LAST_ACK) {
			if (e.tcp_state == PT_CT_TCP_ESTABLISHED) /* the FIN or RST was none */
				pt_session_mark(lan, listed->id, 0, PTRIG_SESSION_ASK);
			return 0;
		}
		lan->state = PTRIG_SESSION_CLOSING;
		if (e.found)
			return 0;
	}
	pt_flow_end(*skb, key, lan, listed->id, halfopen);
	return 0;
}

/* Run by hand after pt_admin, which has listed skb->mark of them. */
SEC("tc")
int pt_release(struct __sk_buff *skb) {
	bpf_loop(skb->mark < PTRIG_OVER_MAX ? skb->mark : PTRIG_OVER_MAX, pt_release_one, &skb, 0);
	return 0;
}

SEC("syscall")
int pt_admin(struct ptrig_admin *args) {
	struct pt_sweep w = {.gen = pt_generation(), .now = bpf_ktime_get_boot_ns(), .op = args->op, .args = args};

	w.config = pt_config_get(w.gen);
	const struct ptrig_usage *usage = pt_usage_get();

	if (!w.config || !usage)
		return 1;
	if (!args->most || args->most > PTRIG_OVER_MAX)
		args->most = PTRIG_OVER_MAX;
	args->leases = args->sessions = args->halfopen = args->conns = args->asked = 0;
	if (w.op == PTRIG_ADMIN_MEND) {
		args->mended = pt_mend(args);
		return 0;
	}
	bool all = w.op == PTRIG_ADMIN_SWEEP;

	/* A walk costs what the table's size says, however little it holds. */
	if ((all || w.op == PTRIG_ADMIN_SWEEP_LEASES || w.op == PTRIG_ADMIN_CLOSE_LEASES) && usage->leases)
		bpf_for_each_map_elem(&pt_leases, pt_sweep_lease, &w, 0);
	if ((all || w.op == PTRIG_ADMIN_CLOSE_SESSIONS) && usage->halfopen && args->most)
		bpf_for_each_map_elem(&pt_halfopen, pt_sweep_halfopen, &w, 0);
	if ((all || w.op == PTRIG_ADMIN_CLOSE_SESSIONS) && usage->sessions && args->most)
		bpf_for_each_map_elem(&pt_sessions, pt_sweep_established, &w, 0);
	if (all && usage->conns && args->most)
		bpf_for_each_map_elem(&pt_conns, pt_sweep_conn, &w, 0);
	if (all) {
		bpf_for_each_map_elem(&pt_pending, pt_sweep_pending, &w, 0);
		bpf_for_each_map_elem(&pt_hosts, pt_sweep_host, &w, 0);
	}
	return 0;
}

#endif
