/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * WAN egress: what firewall, routing and NAT have let out. The packet's own conntrack entry says whose flow it is and
 * who began it.
 */
#ifndef PT_LEAVE_H
#define PT_LEAVE_H

#include "answer.h"
#include "own.h"

/* Is this the machine, or the interface behind which it is, that sends for a session? */
static __always_inline bool pt_leave_is_by(const struct ptrig_note *note, __u32 via) {
	return via == pt_via(note->lan_ifindex, NULL) || via == pt_via(note->lan_ifindex, note->mac);
}
/* The note of a flow that its host has begun. LAN ingress notes nothing of a session's packets: where this is one,
 * whose entry is gone, the note may be of a machine that had the address before, and is not this packet's. */
static __noinline struct ptrig_note *pt_leave_note(const struct pt_entry *e, __u8 proto) {
	struct ptrig_flow_key key = pt_note_key(e->orig.saddr, e->orig.sport, e->orig.daddr, e->orig.dport, proto);
	struct ptrig_note *note = bpf_map_lookup_elem(&pt_notes, &key);

	if (!note || !(pt_port_bits_of(proto, bpf_ntohs(e->orig.sport)) & PTRIG_PORT_LAN_USED))
		return note;
	struct ptrig_session_key lan_key = {
		.saddr = e->orig.saddr,
		.daddr = e->orig.daddr,
		.sport = e->orig.sport,
		.dport = e->orig.dport,
		.proto = proto,
		.side = PTRIG_SIDE_LAN,
	};
	struct ptrig_session *lan = bpf_map_lookup_elem(&pt_sessions, &lan_key);

	if (!lan)
		lan = bpf_map_lookup_elem(&pt_halfopen, &lan_key);
	return lan && !pt_leave_is_by(note, lan->via) ? NULL : note;
}

/* A packet of a flow that its host has begun: a trigger, or from an open port, or both. Global for the verifier's sake.
 */
__noinline int pt_leave_begun(struct __sk_buff *skb, struct pt_pkt *p, const struct pt_entry *e, __u32 l3) {
	if (!p || !e)
		return PTRIG_NO_CANDIDATE;
	struct ptrig_note *note = pt_leave_note(e, p->proto);
	__u32 trigger = pt_port_entry(&pt_trig_ports, pt_generation(), pt_packet_proto_index(p), bpf_ntohs(p->dport));
	struct pt_leaving l = {
		.e = e,
		.note = note,
		.t =
			{
				.c =
					{
						.host = e->orig.saddr,
						.remote = p->daddr,
						.host_port = e->orig.sport,
						.remote_port = p->dport,
						.proto = p->proto,
						.tcp_flags = p->tcp_flags,
					},
				.wan = p->saddr,
				.wan_ifindex = skb->ifindex,
				.wan_port = p->sport,
				.established = p->proto == IPPROTO_TCP && e->tcp_state == PT_CT_TCP_ESTABLISHED,
			},
		.l3 = l3,
	};
	struct pt_trigger *t = &l.t;

	if (!note)
		return PTRIG_NO_CANDIDATE;
	if (p->saddr == e->orig.saddr)
		return PTRIG_UNTRANSLATED;
	t->routed = !pt_wan_address(skb->ifindex, p->saddr);
	t->c.lan_ifindex = note->lan_ifindex;
	t->c.flags = note->flags & (PTRIG_NOTE_ONLINK | PTRIG_NOTE_MAC | PTRIG_NOTE_KNOWN);
	__builtin_memcpy(t->c.mac, note->mac, sizeof(t->c.mac));
	enum ptrig_reason verdict = trigger ? pt_trigger_leaves(t, trigger) : PTRIG_NO_CANDIDATE;
	enum ptrig_reason own = pt_own_leaves(skb, p, &l);

	note->wan = p->saddr;
	if ((!trigger || pt_trigger_is_grant(verdict)) && verdict != PTRIG_PENDING &&
	    (own == PT_GO_ON || own == PTRIG_OWN_PORT)) {
		note->done = bpf_jiffies64();
		note->marks |= PTRIG_NOTE_DONE;
	}
	return own == PT_GO_ON || (own == PTRIG_OWN_PORT && trigger) ? verdict : own;
}

static __always_inline enum ptrig_reason pt_leave(struct __sk_buff *skb, __u32 l3, struct pt_pkt *p) {
	enum ptrig_reason reason = pt_packet_parse_skb(skb, l3, p), answer = PT_GO_ON;

	if (reason != PT_GO_ON)
		return reason;
	if (!pt_hint_take(p, PTRIG_SIDE_WAN))
		return PTRIG_NO_CANDIDATE;
	struct pt_entry *e = pt_flow_scratch();

	if (!e)
		return PTRIG_NO_CANDIDATE;
	e->found = false; /* it is an earlier packet's */
	if (pt_port_bits_of(p->proto, bpf_ntohs(p->sport)) & PTRIG_PORT_WAN_USED)
		answer = pt_answer_leaves(skb, p);
	if (answer != PT_GO_ON && answer != PTRIG_SPOOFED)
		return answer;
	struct pt_tuple t = {.saddr = p->daddr, .daddr = p->saddr, .sport = p->dport, .dport = p->sport};

	if (!pt_entry_look(skb, &t, p->proto, e))
		return answer == PT_GO_ON ? PTRIG_NO_CANDIDATE : answer;
	if (e->is_reply)
		reason = pt_wan_left(skb->ifindex, p->saddr) ? PTRIG_NO_CANDIDATE : pt_leave_begun(skb, p, e, l3);
	else if (answer == PT_GO_ON)
		reason = pt_answer_first_leaves(skb, p, e);
	else
		reason = answer;
	return reason == PT_GO_ON ? PTRIG_NO_CANDIDATE : reason;
}

#endif
