// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The TC programs: the whole logic, one program for each direction of each side, each also for devices without an
 * Ethernet header (_l3). Parse, look up, decide, verdict. Packets go on to the kernel, which translates and decides.
 */
#include "hairpin.h"
#include "known.h"
#include "leave.h"
#include "repeat.h"
#include "sweep.h"
#include "verdict.h"

/* Of ports with these bits: is a packet from the LAN, or from the WAN, any rule's or session's? */
static __always_inline bool pt_lan_concerns(__u32 from, __u32 to) {
	return from & (PTRIG_PORT_LAN_USED | PTRIG_PORT_HOSTS) ||
	       to & (PTRIG_PORT_TRIGGERS | PTRIG_PORT_OPENS | PTRIG_PORT_WAN_USED);
}
static __always_inline bool pt_wan_concerns(__u32 to) {
	return to & (PTRIG_PORT_OPENS | PTRIG_PORT_WAN_USED);
}

/* From a LAN host: a session's answer, a packet to an open port of the WAN address, one that WAN egress is to look at.
 */
static __always_inline enum ptrig_reason pt_lan_ingress(struct __sk_buff *skb, struct pt_flow *f) {
	__u32 proto = pt_packet_proto_index(&f->p), trigger = 0;
	__u32 from = pt_port_bits_of(f->p.proto, bpf_ntohs(f->p.sport));
	__u32 to = pt_port_bits_of(f->p.proto, bpf_ntohs(f->p.dport));
	enum ptrig_reason reason = PT_GO_ON;

	if (!pt_lan_concerns(from, to))
		return PTRIG_NOT_TRIGGER;
	f->gen = pt_generation();
	if (from & PTRIG_PORT_LAN_USED)
		reason = pt_answer_heard(skb, f);
	if (reason != PT_GO_ON)
		return reason;
	if (!(to & PTRIG_PORT_TRIGGERS) && pt_is_known(skb, f))
		return PTRIG_OWN_PORT;
	reason = pt_hairpin_from_lan(skb, f, to);
	if (reason != PT_GO_ON)
		return reason;
	if (to & PTRIG_PORT_TRIGGERS)
		trigger = pt_port_entry(&pt_trig_ports, f->gen, proto, bpf_ntohs(f->p.dport));
	if (trigger || (from & PTRIG_PORT_HOSTS && pt_port_entry(&pt_host_ports, f->gen, proto, bpf_ntohs(f->p.sport))))
		reason = f->p.odd_options ? PTRIG_IP_OPTIONS : pt_note(skb, &f->p, f->l3, f->gen, trigger);
	if (reason == PTRIG_OWN_PORT)
		pt_know(skb, f);
	if (reason != PT_GO_ON)
		return reason;
	return f->ended ? PTRIG_SESSION_ENDED : PTRIG_NOT_TRIGGER;
}

/* From the internet: a session's packet, or one to an open port. */
static __always_inline enum ptrig_reason pt_wan_ingress(struct __sk_buff *skb, struct pt_flow *f) {
	__u16 port = bpf_ntohs(f->p.dport);
	__u32 bits = pt_port_bits_of(f->p.proto, port);
	enum ptrig_reason reason = PT_GO_ON;

	if (!pt_wan_concerns(bits))
		return PTRIG_NOT_OPEN;
	f->gen = pt_generation();
	if (bits & PTRIG_PORT_WAN_USED)
		reason = pt_arrive(skb, f);
	if (reason != PT_GO_ON)
		return reason;
	if (pt_is_known(skb, f))
		return f->p.proto == IPPROTO_TCP ? PTRIG_NOT_SYN : PTRIG_FLOW_KNOWN;
	__u32 entry = pt_port_entry(&pt_open_ports, f->gen, pt_packet_proto_index(&f->p), port);

	if (!entry)
		return f->ended ? PTRIG_SESSION_ENDED : PTRIG_NOT_OPEN;
	if (f->p.odd_options)
		return PTRIG_IP_OPTIONS;
	reason = pt_open_from_wan(skb, f, entry);
	if (f->ended && (reason == PTRIG_NO_LEASE || reason == PTRIG_NOT_SYN))
		return PTRIG_SESSION_ENDED;
	if (reason == PTRIG_NOT_SYN || (reason == PTRIG_FLOW_KNOWN && pt_flow_began_inside()))
		pt_know(skb, f);
	return reason;
}

/* Most packets are nobody's here: a glance at their ports says so. Of the others, some may be a session's. */
enum pt_first_sight { PT_NOBODYS_PORTS, PT_RULES_PORTS, PT_SESSIONS_PORTS };
static __always_inline enum pt_first_sight pt_ingress_sight(const struct pt_glance *g, __u32 side) {
	__u32 to = pt_port_bits_of(g->proto, bpf_ntohs(g->dport));
	__u32 from = side == PTRIG_SIDE_LAN ? pt_port_bits_of(g->proto, bpf_ntohs(g->sport)) : 0;

	if (side == PTRIG_SIDE_LAN ? !pt_lan_concerns(from, to) : !pt_wan_concerns(to))
		return PT_NOBODYS_PORTS;
	return (side == PTRIG_SIDE_LAN ? from & PTRIG_PORT_LAN_USED : to & PTRIG_PORT_WAN_USED) ? PT_SESSIONS_PORTS
												: PT_RULES_PORTS;
}

static __always_inline int pt_ingress(struct __sk_buff *skb, __u32 l3, __u32 side) {
	struct pt_glance g;

	if (skb->pkt_type != PT_PACKET_HOST)
		return pt_verdict_pass(PTRIG_NOT_IPV4);
	if (pt_packet_glance(skb, l3, &g)) {
		enum pt_first_sight sight = pt_ingress_sight(&g, side);

		if (sight == PT_NOBODYS_PORTS)
			return pt_verdict_pass(side == PTRIG_SIDE_LAN ? PTRIG_NOT_TRIGGER : PTRIG_NOT_OPEN);
		if (sight == PT_SESSIONS_PORTS && pt_fast_is_on()) {
			int oif = pt_repeat(skb, l3, side);

			if (oif)
				return pt_verdict_fast(oif > 0 ? oif : 0);
		}
	}
	struct pt_flow f = {.l3 = l3, .side = side};
	enum ptrig_reason reason = pt_packet_parse_skb(skb, l3, &f.p);

	if (reason == PT_GO_ON)
		reason = side == PTRIG_SIDE_LAN ? pt_lan_ingress(skb, &f) : pt_wan_ingress(skb, &f);
	return pt_verdict_tc(skb, reason, l3, skb->ifindex, NULL);
}

/* A session's packet that is about to leave by another WAN than its own: it goes by that. */
static __noinline int pt_wan_other(struct __sk_buff *skb, const struct pt_pkt *p, __u32 l3) {
	struct ptrig_session_key key = pt_session_answer_key(p, PTRIG_SIDE_WAN);
	struct ptrig_session *s = bpf_map_lookup_elem(&pt_sessions, &key);
	const struct pt_entry *e = pt_flow_scratch(); /* of this packet, where the session is half-open */
	struct pt_hop hop = {};
	__u64 id;

	if (!s && e)
		s = pt_flow_halfopen(e, p->proto, &key, &id);
	if (!s || !pt_nexthop_by(skb, p->saddr, p->daddr, s->oif, &hop) || hop.oif != s->oif ||
	    !(hop.flags & PTRIG_IFACE_WAN) || (hop.mtu && p->len > hop.mtu && !skb->gso_size))
		return pt_verdict_tc(skb, PTRIG_NO_ROUTE, l3, 0, NULL);
	pt_hint_set(p->daddr, p->dport, p->proto, PTRIG_SIDE_WAN); /* it passes WAN egress once more */
	return pt_verdict_tc(skb, PTRIG_OTHER_WAN, l3, 0, &hop);
}

/* A glance at what leaves: does nobody wait for it? `answers`: nor is it a remote's answer to a trigger. */
static __always_inline bool pt_egress_ordinary(struct __sk_buff *skb, __u32 l3, __u32 side, bool answers) {
	struct pt_glance g;

	if (!skb->ingress_ifindex || skb->pkt_type != PT_PACKET_HOST)
		return true;
	return pt_packet_glance(skb, l3, &g) && !pt_hint_awaits(&g, side) &&
	       !(answers && pt_port_bits_of(g.proto, bpf_ntohs(g.sport)) & PTRIG_PORT_TRIGGERS);
}

static __always_inline int pt_wan_egress(struct __sk_buff *skb, __u32 l3) {
	if (pt_egress_ordinary(skb, l3, PTRIG_SIDE_WAN, false))
		return pt_verdict_pass(PTRIG_NO_CANDIDATE);
	struct pt_pkt p = {};
	enum ptrig_reason reason = pt_leave(skb, l3, &p);

	if (reason == PTRIG_OTHER_WAN)
		return pt_wan_other(skb, &p, l3);
	return pt_verdict_tc(skb, reason, l3, skb->ingress_ifindex, NULL);
}

/* A remote's answer to a trigger, while a rule has `confirm` or `close = "connection"`. */
static __always_inline enum ptrig_reason pt_lan_answer(const struct pt_pkt *p) {
	__u32 gen = pt_generation();
	__u32 entry = pt_port_entry(&pt_trig_ports, gen, pt_packet_proto_index(p), bpf_ntohs(p->sport));
	enum ptrig_reason reason = PTRIG_NO_ANSWER;

	for (int n = 0; entry && n < PTRIG_MAX_RULES_PER_PORT; n++) {
		struct ptrig_rule *rule = pt_rule_nth(gen, entry, n);

		if (!rule)
			break;
		if (!(rule->flags & (PTRIG_RULE_CONFIRM | PTRIG_RULE_CLOSE_CONNECTION)))
			continue;
		enum ptrig_reason answer = pt_trigger_answer(p, gen, rule);

		if (answer != PTRIG_NO_ANSWER && !pt_trigger_is_grant(reason))
			reason = answer;
	}
	return reason;
}

/* Leaves to the LAN: a remote's packet of a session, or its answer to a trigger. */
static __always_inline int pt_lan_egress(struct __sk_buff *skb, __u32 l3) {
	if (pt_egress_ordinary(skb, l3, PTRIG_SIDE_LAN, true))
		return pt_verdict_pass(PTRIG_NO_ANSWER);
	struct pt_pkt p = {};
	enum ptrig_reason reason = pt_packet_parse_skb(skb, l3, &p);

	if (reason == PT_GO_ON && pt_hint_take(&p, PTRIG_SIDE_LAN))
		pt_arrive_leaves(skb, &p);
	if (reason == PT_GO_ON)
		reason = pt_port_bits_of(p.proto, bpf_ntohs(p.sport)) & PTRIG_PORT_TRIGGERS ? pt_lan_answer(&p)
											    : PTRIG_NO_ANSWER;
	return pt_verdict_tc(skb, reason, l3, 0, NULL);
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
