/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Triggers: LAN ingress notes who sends (bpf/note.h); only when the packet arrives at WAN egress has it passed the
 * firewall and really leaves, and only then a lease is asked for.
 */
#ifndef PT_TRIGGER_H
#define PT_TRIGGER_H

#include "claim.h"
#include "conn.h"
#include "note.h"

#define PT_TCP_NO_GRANT (PT_TCP_FIN | PT_TCP_RST)

static __always_inline bool pt_trigger_is_grant(enum ptrig_reason reason) {
	return reason >= PTRIG_FRESH && reason <= PTRIG_PENDING;
}

/* Is there a lease of this very host to be refreshed? */
static __always_inline bool pt_trigger_held(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	struct ptrig_lease *lease = pt_lease_find(rule, t->c.remote, t->wan);

	return lease && pt_lease_live(&lease->info, rule, t->now) &&
	       pt_lease_claimant(&lease->info, &t->c) == PT_CLAIM_SAME;
}

/* A FIN or RST of a trigger connection leaves. */
static __noinline void pt_trigger_closes(const struct ptrig_rule *rule, const struct pt_trigger *t, bool tracked) {
	const struct ptrig_wait *closing = pt_conn_scratch(rule, t);

	if (closing && rule->flags & PTRIG_RULE_CONFIRM)
		pt_wait_end(&closing->key);
	if (!closing || !tracked)
		return;
	pt_conn_closing(rule, &closing->key, t->c.tcp_flags & PT_TCP_RST ? PT_CONN_CLOSED : PTRIG_CONN_FIN_LAN, t->now);
	pt_lease_make_room(rule, t->c.remote, t->wan, t->now);
}

/* One rule's part of a trigger packet that leaves. Global for the verifier's sake. */
__noinline int pt_trigger_rule(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	if (!rule || !t)
		return PTRIG_NO_CANDIDATE;
	const struct ptrig_cand *c = &t->c;
	bool tracked = rule->flags & PTRIG_RULE_CLOSE_CONNECTION && c->proto == IPPROTO_TCP;
	bool syn = (c->tcp_flags & (PT_TCP_SYN | PT_TCP_ACK)) == PT_TCP_SYN;
	enum ptrig_reason reason;

	if (c->tcp_flags & PT_TCP_NO_GRANT) {
		pt_trigger_closes(rule, t, tracked);
		return PTRIG_FLAGS;
	}
	if (!pt_rule_allows_source(rule, c))
		reason = PTRIG_SOURCE;
	else if (rule->trigger_remotes_set && !pt_set_has_address(rule->trigger_remotes_set, c->remote))
		reason = PTRIG_TRIGGER_REMOTE;
	/* close = "connection": a connection's first packet grants, and any of one that conntrack knows as established
	 */
	else if (tracked && !syn && !t->established)
		reason = pt_trigger_held(rule, t) ? pt_lease_claim(rule, t, false) : PTRIG_FLAGS;
	else
		reason = pt_lease_ask(rule, t);
	if (reason == PTRIG_PENDING)
		reason = pt_wait_begin(rule, t);
	else if (tracked && (syn || t->established) && pt_trigger_is_grant(reason))
		pt_conn_track(rule, t, syn);
	pt_rule_count(rule, reason);
	struct ptrig_lease *held = reason == PTRIG_HELD ? pt_lease_find(rule, c->remote, t->wan) : NULL;

	pt_event_trigger(rule, reason, c, held ? held->info.host : 0, t->now);
	return reason;
}

/* The part of a trigger that does not come from its packet. */
static __always_inline bool pt_trigger_limits(struct pt_trigger *t, __u32 gen) {
	const struct ptrig_config *config = pt_config_get(gen);

	if (!config)
		return false;
	t->now = bpf_ktime_get_boot_ns();
	t->leases_per_host = config->leases_per_host;
	return true;
}

/* At WAN egress. The verdict is the first rule's that grants, or else the last refusal. Global for the verifier's sake.
 */
__noinline int pt_trigger_leaves(struct pt_trigger *t, __u32 entry) {
	if (!t)
		return PTRIG_NO_CANDIDATE;
	__u32 gen = pt_generation();
	enum ptrig_reason verdict = PTRIG_NO_CANDIDATE;

	if (!pt_trigger_limits(t, gen))
		return PTRIG_NO_CANDIDATE;
	for (int n = 0; n < PTRIG_MAX_RULES_PER_PORT; n++) {
		struct ptrig_rule *rule = pt_rule_nth(gen, entry, n);

		if (!rule)
			break;
		enum ptrig_reason reason = pt_trigger_rule(rule, t);

		if (!pt_trigger_is_grant(verdict))
			verdict = reason;
	}
	return verdict;
}

/* At LAN egress, un-masqueraded: the remote of a trigger connection answers or closes. */
__noinline int pt_trigger_answer(const struct pt_pkt *p, __u32 gen, const struct ptrig_rule *rule) {
	if (!p || !rule)
		return PTRIG_NO_ANSWER;
	struct pt_trigger t = {
		.c =
			{
				.host = p->daddr,
				.remote = p->saddr,
				.host_port = p->dport,
				.remote_port = p->sport,
				.proto = p->proto,
			},
		.answered = true,
	};
	struct ptrig_conn_key key = pt_conn_key(rule, &t);
	struct ptrig_wait *waiting = pt_wait_find(&key);
	const struct ptrig_config *config = pt_config_get(gen & 1);

	if (!config || !pt_trigger_limits(&t, gen & 1))
		return PTRIG_NO_ANSWER;
	if (p->tcp_flags & PT_TCP_NO_GRANT) {
		const struct ptrig_conn *conn = bpf_map_lookup_elem(&pt_conns, &key);

		if (conn)
			t.wan = conn->wan;
		else if (!waiting)
			return PTRIG_NO_ANSWER;
		if (waiting)
			pt_wait_end(&key);
		pt_conn_closing(rule, &key, p->tcp_flags & PT_TCP_RST ? PT_CONN_CLOSED : PTRIG_CONN_FIN_WAN, t.now);
		pt_lease_make_room(rule, t.c.remote, t.wan, t.now);
		return PTRIG_FLAGS;
	}
	if (!waiting)
		return PTRIG_NO_ANSWER;
	bool late = pt_elapsed(t.now, waiting->conn.seen_ns, config->halfopen_ns);

	t.c = waiting->conn.cand;
	t.wan = waiting->conn.wan;
	t.wan_ifindex = waiting->conn.wan_ifindex;
	t.wan_port = waiting->conn.wan_port;
	t.routed = !pt_wan_address(t.wan_ifindex, t.wan);
	if (!pt_wait_end(&key) || late || pt_wan_left(t.wan_ifindex, t.wan))
		return PTRIG_NO_ANSWER;
	enum ptrig_reason reason = pt_lease_ask(rule, &t);

	if (rule->flags & PTRIG_RULE_CLOSE_CONNECTION && t.c.proto == IPPROTO_TCP && pt_trigger_is_grant(reason))
		pt_conn_track(rule, &t, true);
	pt_rule_count(rule, reason);
	pt_event_trigger(rule, reason, &t.c, 0, t.now);
	return reason;
}

#endif
