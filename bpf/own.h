/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A host's own packets from an open port of its lease. They are ordinary packets; masquerade keeps their port where it
 * is free. Where it did not (a mapped port, random ports, an entry in the way), the flow's entry is swapped at WAN
 * egress for one with the lease's port: so the port looks the same to every remote (RFC 4787 REQ-1).
 */
#ifndef PT_OWN_H
#define PT_OWN_H

#include "claim.h"
#include "conntrack.h"
#include "rewrite.h"
#include "trigger.h"

/* A packet that leaves in a flow that its host has begun. */
struct pt_leaving {
	const struct pt_entry *e;
	struct ptrig_note *note;
	struct pt_trigger t;
	__u32 l3;
};

#define PT_OWN_UDP_MS 30000
#define PT_OWN_SYN_MS 120000

/* The lease's port for a packet that its host sends from `host_port`; 0: no lease has one. `touch`: it keeps the lease
 * alive, if the rule says so. Global, so that the verifier walks its loop once. */
__noinline int pt_own_port(const struct pt_trigger *t, __u32 entry, int touch) {
	if (!t)
		return 0;
	__u32 gen = pt_generation();
	const struct ptrig_config *config = pt_config_get(gen);
	__u8 proto = t->c.proto == IPPROTO_TCP ? PTRIG_TCP : PTRIG_UDP;
	struct ptrig_lease_info *info = pt_lease_scratch();
	__u64 now = bpf_ktime_get_boot_ns();

	for (int n = 0; config && info && n < PTRIG_MAX_RULES_PER_PORT; n++) {
		struct ptrig_rule *rule = pt_rule_nth(gen, entry, n);

		if (!rule)
			break;
		struct ptrig_lease *lease = pt_lease_get_live(rule, t->c.remote, t->wan, now, info);

		if (!lease || pt_lease_claimant(info, &t->c) != PT_CLAIM_SAME ||
		    !pt_rule_allows_remote(rule, config, t->c.remote))
			continue;
		__u16 port = pt_rule_map_port(rule, PTRIG_SIDE_LAN, proto, bpf_ntohs(t->c.host_port));

		if (!port)
			continue;
		if (touch && rule->flags & PTRIG_RULE_REFRESH_TRAFFIC)
			pt_lease_touch(lease, info->id, now);
		return port;
	}
	return 0;
}

/* Is WAN:port towards this remote free, or nobody's? Then it is free now. */
static __noinline bool pt_own_free(struct __sk_buff *skb, const struct pt_pkt *p, __be16 port) {
	struct pt_tuple t = {.saddr = p->daddr, .daddr = p->saddr, .sport = p->dport, .dport = port};
	struct pt_entry e;

	if (pt_socket_takes(skb, &t, p->proto))
		return false;
	pt_entry_look(skb, &t, p->proto, &e);
	enum pt_whose whose = pt_entry_whose(&e, 0, 0);

	if (whose == PT_NOBODYS)
		pt_entry_forget(skb, &t, p->proto);
	return whose == PT_NONE || whose == PT_NOBODYS;
}

/* Has the flow just begun, so that its entry may be another? */
static __always_inline bool pt_own_swappable(const struct pt_pkt *p, const struct pt_entry *e) {
	return !(e->status & (PT_IPS_SEEN_REPLY | PT_IPS_ASSURED | PT_IPS_HELPER)) &&
	       (p->proto != IPPROTO_TCP || pt_packet_plain_syn(p));
}

/* The flow's entry `e` makes room for one by which the flow leaves from `port`. */
static __noinline bool pt_own_swap(struct __sk_buff *skb, const struct pt_pkt *p, const struct pt_entry *e,
				   __be16 port) {
	struct pt_wanted w = {
		.orig = e->orig,
		.from = p->saddr,
		.from_port = port,
		.mark = e->mark,
		.time_ms = p->proto == IPPROTO_TCP ? PT_OWN_SYN_MS : PT_OWN_UDP_MS,
		.proto = p->proto,
	};

	if (e->status & PT_IPS_DST_NAT) {
		w.to = e->reply.saddr;
		w.to_port = e->reply.sport;
	}
	pt_entry_forget(skb, &w.orig, p->proto);
	return pt_entry_make(skb, &w);
}

/* A SYN with its entry swapped: once more by its LAN device, as it came from its host. */
static __noinline enum ptrig_reason pt_own_again(struct __sk_buff *skb, struct pt_pkt *p, const struct pt_leaving *l) {
	const struct pt_entry *e = l->e;
	__u32 l3 = l->l3;

	/* forwarding has taken one of its TTL */
	if (!pt_rewrite(skb, l3, p, PTRIG_SIDE_LAN, e->orig.saddr, e->orig.sport, 1) ||
	    !pt_rewrite(skb, l3, p, PTRIG_SIDE_WAN, e->orig.daddr, e->orig.dport, 0))
		return PTRIG_FAILED;
	if (!l3 && bpf_skb_change_head(skb, sizeof(struct ethhdr), 0))
		return PTRIG_FAILED;
	struct ethhdr *eth = pt_packet_eth(skb);

	if (!eth)
		return PTRIG_FAILED;
	__builtin_memcpy(eth->h_dest, l->note->to_mac, sizeof(eth->h_dest));
	__builtin_memcpy(eth->h_source, l->note->mac, sizeof(eth->h_source));
	eth->h_proto = bpf_htons(ETH_P_IP);
	return PTRIG_SWAPPED_SYN;
}

/* A host's packet from a port that a rule opens leaves by the WAN. GO_ON if no lease of the host's has this port. */
static __noinline enum ptrig_reason pt_own_leaves(struct __sk_buff *skb, struct pt_pkt *p, struct pt_leaving *l) {
	const struct pt_entry *e = l->e;
	__u32 entry =
		pt_port_entry(&pt_host_ports, pt_generation(), pt_packet_proto_index(p), bpf_ntohs(e->orig.sport));

	if (!entry)
		return PT_GO_ON;
	__u16 want = pt_own_port(&l->t, entry, e->status & PT_IPS_SEEN_REPLY && !(p->tcp_flags & PT_TCP_NO_GRANT));

	if (!want)
		return PT_GO_ON;
	__be16 port = bpf_htons(want);

	if (port == p->sport) {
		l->note->marks &= ~PTRIG_NOTE_GIVEN; /* a later connection of the same ports may be given back, too */
		return PTRIG_OWN_PORT;
	}
	if (p->proto == IPPROTO_TCP && l->note->marks & PTRIG_NOTE_GIVEN)
		return PTRIG_NOT_SWAPPED;
	if (!pt_own_swappable(p, e) || !pt_own_free(skb, p, port) || !pt_own_swap(skb, p, e, port))
		return PTRIG_NOT_SWAPPED;
	if (p->proto == IPPROTO_TCP) {
		l->note->marks |= PTRIG_NOTE_GIVEN;
		return pt_own_again(skb, p, l);
	}
	return pt_rewrite(skb, l->l3, p, PTRIG_SIDE_LAN, p->saddr, port, 0) ? PTRIG_SWAPPED : PTRIG_FAILED;
}

#endif
