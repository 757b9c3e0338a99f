// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The TC programs: the whole logic, one program for each direction of each side, each also for devices
 * without an Ethernet header (_l3). Parse, look up, decide, rewrite, verdict.
 */
#include "fragment.h"
#include "hairpin.h"
#include "hairpin_icmp.h"
#include "mss.h"
#include "sweep.h"
#include "verdict.h"

#define PT_PACKET_HOST 0

/* From a LAN host: a session's answer, the host's own packet from an open port, a packet to an open port of our own
 * WAN address, a trigger. */
static __always_inline enum ptrig_reason pt_lan_ingress(struct __sk_buff *skb, struct pt_flow *f) {
	enum ptrig_reason reason = pt_flow_established(skb, f);
	__u32 proto = pt_packet_proto_index(&f->p);

	if (reason != PT_GO_ON)
		return reason;
	__u32 entry = pt_port_entry(&pt_host_ports, f->gen, proto, bpf_ntohs(f->p.sport));

	if (entry) {
		reason = pt_halfopen_from_lan(skb, f);
		if (reason == PT_GO_ON && !f->p.first_fragment)
			reason = pt_open_from_lan(skb, f, entry);
		if (reason == PTRIG_ESTABLISHED || reason == PTRIG_OPENED)
			pt_flow_tell_new(skb, f);
		if (reason != PT_GO_ON)
			return reason;
	}
	if (!f->p.first_fragment)
		reason = pt_hairpin_from_lan(skb, f);
	if (reason != PT_GO_ON)
		return reason;
	entry = pt_port_entry(&pt_trig_ports, f->gen, proto, bpf_ntohs(f->p.dport));
	if (entry)
		return pt_trigger_note(skb, &f->p, f->l3, f->gen, entry);
	return f->ended ? PTRIG_SESSION_ENDED : PTRIG_NOT_TRIGGER;
}

/* From the internet: a session's packet, or one to an open port. */
static __always_inline enum ptrig_reason pt_wan_ingress(struct __sk_buff *skb, struct pt_flow *f) {
	enum ptrig_reason reason = pt_flow_established(skb, f);

	if (reason != PT_GO_ON)
		return reason;
	__u32 entry = pt_port_entry(&pt_open_ports, f->gen, pt_packet_proto_index(&f->p), bpf_ntohs(f->p.dport));

	if (!entry)
		return f->ended ? PTRIG_SESSION_ENDED : PTRIG_NOT_OPEN;
	reason = pt_halfopen_from_wan(skb, f);
	if (reason != PT_GO_ON)
		return reason;
	reason = pt_open_from_wan(skb, f, entry);
	return f->ended && (reason == PTRIG_NO_LEASE || reason == PTRIG_NOT_SYN) ? PTRIG_SESSION_ENDED : reason;
}

/* What a session's packet may be besides: one that offers a segment's size, a trigger if the host has begun it. */
static __noinline void pt_session_also(struct __sk_buff *skb, struct pt_flow *f, enum ptrig_reason reason) {
	bool sent = pt_kind_of(reason) == PT_KIND_REDIRECT;

	if (sent && f->p.tcp_flags & PT_TCP_SYN)
		pt_mss_clamp(skb, f);
	if (!f->asks || !(sent || reason == PTRIG_FRAGMENT_PASSED || reason == PTRIG_FRAGMENT_AGAIN))
		return;
	__u32 proto = pt_packet_proto_index(&f->p), slot = 0;
	__u16 port = bpf_ntohs(f->p.dport);
	__u32 entry = pt_port_entry(&pt_trig_ports, f->gen, proto, port);

	if (!entry || pt_trigger_note(skb, &f->p, f->l3, f->gen, entry) != PTRIG_CANDIDATE)
		return;
	slot = skb->tc_index;
	struct ptrig_cand *c = bpf_map_lookup_elem(&pt_cands, &slot);

	if (c)
		c->flags |= PTRIG_CAND_SESSION |
			    (pt_trigger_has_rule(f->gen, proto, port, f->asks) ? 0 : PTRIG_CAND_REFRESH);
}

static __always_inline int pt_ingress(struct __sk_buff *skb, __u32 l3, __u32 side) {
	struct pt_flow f = {.l3 = l3, .side = side, .gen = pt_generation()};
	enum ptrig_reason reason = PTRIG_NOT_IPV4;

	if (skb->pkt_type == PT_PACKET_HOST)
		reason = pt_packet_parse_skb(skb, l3, &f.p);
	if (reason == PT_GO_ON)
		reason = side == PTRIG_SIDE_LAN ? pt_lan_ingress(skb, &f) : pt_wan_ingress(skb, &f);
	else if (reason == PTRIG_ICMP)
		reason = pt_icmp_arrives(skb, &f);
	if (reason == PTRIG_ICMP && side == PTRIG_SIDE_LAN)
		reason = pt_hairpin_icmp(skb, &f);
	if (reason == PTRIG_FRAGMENT_PASSED)
		reason = pt_fragment_up(skb, &f);
	if (f.asks || f.p.tcp_flags & PT_TCP_SYN)
		pt_session_also(skb, &f, reason);
	return pt_verdict_tc(skb, reason, l3, &f.hop);
}

/* Leaves by the WAN: a trigger that has passed the firewall, or the gateway's own ICMP error. */
static __always_inline int pt_wan_egress(struct __sk_buff *skb, __u32 l3) {
	struct pt_pkt p = {};
	enum ptrig_reason reason = PTRIG_NO_CANDIDATE;
	__u32 slot = skb->tc_index;

	if (slot) {
		skb->tc_index = 0;
		reason = pt_packet_parse_skb(skb, l3, &p);
		if (reason == PT_GO_ON)
			reason = pt_trigger_leaves(skb, &p, slot);
	} else if (!skb->ingress_ifindex && pt_packet_icmp(skb, l3)) {
		reason = pt_icmp_leaves(skb, l3);
	}
	return pt_verdict_tc(skb, reason, l3, NULL);
}

/* Leaves to the LAN: a remote's answer to a trigger, while a rule has `confirm` or `close = "connection"`. */
static __always_inline int pt_lan_egress(struct __sk_buff *skb, __u32 l3) {
	struct pt_pkt p = {};
	__u32 gen = pt_generation();
	enum ptrig_reason reason = pt_packet_parse_skb(skb, l3, &p);

	if (reason == PT_GO_ON) {
		__u32 entry = pt_port_entry(&pt_trig_ports, gen, pt_packet_proto_index(&p), bpf_ntohs(p.sport));

		reason = PTRIG_NO_ANSWER;
		for (int n = 0; entry && n < PTRIG_MAX_RULES_PER_PORT; n++) {
			struct ptrig_rule *rule = pt_rule_nth(gen, entry, n);

			if (!rule)
				break;
			if (!(rule->flags & (PTRIG_RULE_CONFIRM | PTRIG_RULE_CLOSE_CONNECTION)))
				continue;
			enum ptrig_reason answer = pt_trigger_answer(&p, gen, rule);

			if (answer != PTRIG_NO_ANSWER && !pt_trigger_is_grant(reason))
				reason = answer;
		}
	}
	return pt_verdict_tc(skb, reason, l3, NULL);
}

SEC("tc")
int pt_lan_in(struct __sk_buff *skb) {
	return pt_ingress(skb, sizeof(struct ethhdr), PTRIG_SIDE_LAN);
}
SEC("tc")
int pt_lan_in_l3(struct __sk_buff *skb) {
	return pt_ingress(skb, 0, PTRIG_SIDE_LAN);
}
SEC("tc")
int pt_wan_in(struct __sk_buff *skb) {
	return pt_ingress(skb, sizeof(struct ethhdr), PTRIG_SIDE_WAN);
}
SEC("tc")
int pt_wan_in_l3(struct __sk_buff *skb) {
	return pt_ingress(skb, 0, PTRIG_SIDE_WAN);
}
SEC("tc")
int pt_wan_out(struct __sk_buff *skb) {
	return pt_wan_egress(skb, sizeof(struct ethhdr));
}
SEC("tc")
int pt_wan_out_l3(struct __sk_buff *skb) {
	return pt_wan_egress(skb, 0);
}
SEC("tc")
int pt_lan_out(struct __sk_buff *skb) {
	return pt_lan_egress(skb, sizeof(struct ethhdr));
}
SEC("tc")
int pt_lan_out_l3(struct __sk_buff *skb) {
	return pt_lan_egress(skb, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
