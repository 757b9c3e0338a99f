/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Triggers: LAN ingress notes a candidate and its slot in skb->tc_index; only when the packet arrives at
 * WAN egress has it passed the firewall and really leaves, and only then a lease is asked for.
 */
#ifndef PT_TRIGGER_H
#define PT_TRIGGER_H

#include "conn.h"
#include "nexthop.h"

#define PT_TCP_NO_GRANT (PT_TCP_FIN | PT_TCP_RST)

/* The only rule on this port has a lease of this very host that was refreshed a moment ago. */
static __always_inline bool pt_trigger_fresh(const struct ptrig_rule *rule, const struct pt_pkt *p,
					     const struct ethhdr *eth) {
	if (p->tcp_flags & (PT_TCP_NO_GRANT | PT_TCP_SYN) || rule->trigger_remotes_set)
		return false;
	struct ptrig_lease *lease = pt_lease_find(rule, p->daddr);

	if (!lease || lease->info.state != PTRIG_LEASE_LIVE || lease->info.host != p->saddr)
		return false;
	if (lease->info.flags & PTRIG_LEASE_ONLINK && (!eth || !pt_mac_equal(lease->info.mac, eth->h_source)))
		return false;
	return (__u32)bpf_jiffies64() - lease->info.refreshed_tick < cfg_tick_hz / 4;
}

/* From the LAN, to a trigger port. */
static __noinline enum ptrig_reason pt_trigger_note(struct __sk_buff *skb, const struct pt_pkt *p, __u32 l3, __u32 gen,
						    __u32 entry) {
	struct ethhdr *eth = l3 ? pt_packet_eth(skb) : NULL;
	struct ptrig_cand c = {
		.host = p->saddr,
		.remote = p->daddr,
		.host_port = p->sport,
		.remote_port = p->dport,
		.proto = p->proto,
		.tcp_flags = p->tcp_flags,
		.lan_ifindex = skb->ifindex,
	};
	struct pt_hop back = {};

	if (!pt_packet_remote(p->daddr))
		return PTRIG_NOT_TRIGGER;
	if (!(entry & PTRIG_PORT_LIST)) {
		struct ptrig_rule *rule = pt_rule_nth(gen, entry, 0);

		if (rule && pt_trigger_fresh(rule, p, eth)) {
			pt_rule_count(rule, PTRIG_FRESH);
			return PTRIG_FRESH;
		}
	}
	if (eth) {
		__builtin_memcpy(c.mac, eth->h_source, sizeof(c.mac));
		c.flags |= PTRIG_CAND_MAC;
	}
	if (!pt_nexthop_from(skb, p->daddr, p->saddr, skb->ifindex, &back) || back.oif != skb->ifindex)
		return PTRIG_SPOOFED;
	if (back.gateway == p->saddr) {
		c.flags |= PTRIG_CAND_ONLINK;
		if (l3 && back.has_mac && !pt_mac_equal(back.dmac, c.mac))
			return PTRIG_SPOOFED;
	}
	struct ptrig_usage *usage = pt_usage_get();

	if (!usage)
		return PTRIG_NOT_TRIGGER;
	__u32 slot = 1 + __sync_fetch_and_add(&usage->next_cand, 1) % (PTRIG_CANDS - 1);

	bpf_map_update_elem(&pt_cands, &slot, &c, BPF_ANY);
	skb->tc_index = slot;
	return PTRIG_CANDIDATE;
}

/* Is this port a trigger of this rule? The host's packet in a session then refreshes the lease, too.
 * Global for the verifier's sake, like pt_rule_map_port(). */
__noinline int pt_trigger_has_rule(__u32 gen, __u32 proto_index, __u16 port, __u32 rule_id) {
	__u32 entry = pt_port_entry(&pt_trig_ports, gen & 1, proto_index & 1, port);

	if (!entry)
		return false;
	for (int n = 0; n < PTRIG_MAX_RULES_PER_PORT; n++) {
		struct ptrig_rule *rule = pt_rule_nth(gen, entry, n);

		if (!rule)
			return false;
		if (rule->id == rule_id)
			return true;
	}
	return false;
}

static __always_inline bool pt_trigger_is_grant(enum ptrig_reason reason) {
	return reason >= PTRIG_FRESH && reason <= PTRIG_PENDING;
}

/* Is there a lease of this very host to be refreshed? */
static __always_inline bool pt_trigger_held(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	struct ptrig_lease *lease = pt_lease_find(rule, t->c.remote);

	return lease && pt_lease_live(&lease->info, rule, t->now) &&
	       pt_lease_claimant(&lease->info, &t->c) == PT_CLAIM_SAME;
}

/* One rule's part of a trigger packet that leaves. Global for the verifier's sake. */
__noinline int pt_trigger_rule(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	if (!rule || !t)
		return PTRIG_NO_CANDIDATE;
	const struct ptrig_cand *c = &t->c;
	bool tracked = rule->flags & PTRIG_RULE_CLOSE_CONNECTION && c->proto == IPPROTO_TCP;
	bool syn = (c->tcp_flags & (PT_TCP_SYN | PT_TCP_ACK)) == PT_TCP_SYN;
	bool refreshes = c->flags & PTRIG_CAND_REFRESH;
	enum ptrig_reason reason;

	if (c->tcp_flags & PT_TCP_NO_GRANT) {
		struct ptrig_conn_key key = pt_conn_key(rule, c);

		if (rule->flags & PTRIG_RULE_CONFIRM)
			bpf_map_delete_elem(&pt_pending, &key);
		if (tracked) {
			pt_conn_closing(rule, &key, PTRIG_CONN_FIN_LAN, c->tcp_flags & PT_TCP_RST, t->now);
		}
		return PTRIG_FLAGS;
	}
	/* The firewall has not been asked about this port: who has no lease by it gets none. */
	if (refreshes && !pt_trigger_held(rule, t))
		return PTRIG_NO_CANDIDATE;
	if (!pt_rule_allows_source(rule, c))
		reason = PTRIG_SOURCE;
	else if (rule->trigger_remotes_set && !pt_set_has_address(rule->trigger_remotes_set, c->remote))
		reason = PTRIG_TRIGGER_REMOTE;
	else if (refreshes)
		reason = pt_lease_claim(rule, t, false);
	else if (tracked && !syn) /* close = "connection": only a SYN grants, the others refresh what is there */
		reason = pt_trigger_held(rule, t) ? pt_lease_claim(rule, t, false) : PTRIG_FLAGS;
	else
		reason = pt_lease_ask(rule, t);
	if (reason == PTRIG_PENDING)
		reason = pt_conn_wait(rule, t);
	else if (tracked && syn && pt_trigger_is_grant(reason))
		pt_conn_track(rule, t);
	pt_rule_count(rule, reason);
	struct ptrig_lease *held = reason == PTRIG_HELD ? pt_lease_find(rule, c->remote) : NULL;

	pt_event_trigger(rule, reason, c, held ? held->info.host : 0, t->now);
	return reason;
}

/* The candidate of a packet that leaves by the WAN, if the slot still is about this packet. */
static __always_inline bool pt_trigger_candidate(const struct pt_pkt *p, __u32 slot, struct ptrig_cand *c) {
	struct ptrig_cand *noted = bpf_map_lookup_elem(&pt_cands, &slot);

	if (!noted)
		return false;
	*c = *noted;
	return c->host && c->remote == p->daddr && c->remote_port == p->dport && c->proto == p->proto;
}

/* The part of a trigger that does not come from its packet. */
static __always_inline bool pt_trigger_limits(struct pt_trigger *t, __u32 gen) {
	const struct ptrig_config *config = pt_config_get(gen);

	if (!config)
		return false;
	t->now = bpf_ktime_get_boot_ns();
	t->leases_per_host = config->leases_per_host;
	t->new_sessions_per_second = config->new_sessions_per_second;
	return true;
}

/* At WAN egress. The verdict is the first rule's that grants, or else the last refusal. */
static __noinline enum ptrig_reason pt_trigger_leaves(struct __sk_buff *skb, const struct pt_pkt *p, __u32 slot) {
	__u32 gen = pt_generation();
	struct pt_trigger t = {.wan_ifindex = skb->ifindex};
	enum ptrig_reason verdict = PTRIG_NO_CANDIDATE;

	if (!pt_trigger_candidate(p, slot, &t.c) || !pt_trigger_limits(&t, gen))
		return PTRIG_NO_CANDIDATE;
	t.wan = pt_wan_address(skb->ifindex, p->saddr) ? p->saddr : 0;
	__u32 entry = pt_port_entry(&pt_trig_ports, gen, pt_packet_proto_index(p), bpf_ntohs(p->dport));

	for (int n = 0; n < PTRIG_MAX_RULES_PER_PORT; n++) {
		struct ptrig_rule *rule = pt_rule_nth(gen, entry, n);

		if (!rule)
			break;
		enum ptrig_reason reason = pt_trigger_rule(rule, &t);

		if (!pt_trigger_is_grant(verdict))
			verdict = reason;
	}
	return verdict;
}

/* At LAN egress, un-masqueraded: the remote of a trigger connection answers or closes. */
__noinline int pt_trigger_answer(const struct pt_pkt *p, __u32 gen, const struct ptrig_rule *rule) {
	if (!p || !rule)
		return PTRIG_NO_ANSWER;
	struct ptrig_cand c = {
		.host = p->daddr,
		.remote = p->saddr,
		.host_port = p->dport,
		.remote_port = p->sport,
		.proto = p->proto,
	};
	struct ptrig_conn_key key = pt_conn_key(rule, &c);
	struct ptrig_conn *waiting = bpf_map_lookup_elem(&pt_pending, &key);
	const struct ptrig_config *config = pt_config_get(gen & 1);
	struct pt_trigger t = {.answered = true};

	if (!config || !pt_trigger_limits(&t, gen & 1))
		return PTRIG_NO_ANSWER;
	if (p->tcp_flags & PT_TCP_NO_GRANT) {
		bool known = waiting || bpf_map_lookup_elem(&pt_conns, &key);

		if (waiting)
			bpf_map_delete_elem(&pt_pending, &key);
		pt_conn_closing(rule, &key, PTRIG_CONN_FIN_WAN, p->tcp_flags & PT_TCP_RST, t.now);
		return known ? PTRIG_FLAGS : PTRIG_NO_ANSWER;
	}
	if (!waiting)
		return PTRIG_NO_ANSWER;
	bool late = pt_elapsed(t.now, waiting->seen_ns, config->halfopen_ns);

	t.c = waiting->cand;
	t.wan = waiting->wan;
	t.wan_ifindex = waiting->wan_ifindex;
	if (bpf_map_delete_elem(&pt_pending, &key) || late) /* of two answers at once, one deletes */
		return PTRIG_NO_ANSWER;
	enum ptrig_reason reason = pt_lease_ask(rule, &t);

	if (rule->flags & PTRIG_RULE_CLOSE_CONNECTION && t.c.proto == IPPROTO_TCP && pt_trigger_is_grant(reason))
		pt_conn_track(rule, &t);
	pt_rule_count(rule, reason);
	pt_event_trigger(rule, reason, &t.c, 0, t.now);
	return reason;
}

#endif
