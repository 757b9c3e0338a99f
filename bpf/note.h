/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Notes: what only LAN ingress knows of a flow that its host begins (the interface, the MAC address, whether the source
 * is its sender's own), kept for WAN egress, which finds the flow by the packet's own conntrack entry.
 */
#ifndef PT_NOTE_H
#define PT_NOTE_H

#include "conntrack.h"
#include "hint.h"
#include "lease.h"
#include "nexthop.h"

static __always_inline struct ptrig_flow_key pt_note_key(__be32 host, __be16 host_port, __be32 remote,
							 __be16 remote_port, __u8 proto) {
	struct ptrig_flow_key key = {
		.host = host,
		.remote = remote,
		.host_port = host_port,
		.remote_port = remote_port,
		.proto = proto,
	};

	return key;
}

/* Nothing is left to do for this flow: WAN egress was satisfied a moment ago, and the lease is still there. */
static __always_inline bool pt_note_fresh(const struct ptrig_note *note, const struct pt_pkt *p, __u32 gen,
					  __u32 trigger) {
	__u32 now = bpf_jiffies64();

	if (!(note->marks & PTRIG_NOTE_DONE) || now - note->done >= cfg_tick_hz / 4 ||
	    p->tcp_flags & (PT_TCP_FIN | PT_TCP_RST | PT_TCP_SYN))
		return false;
	if (!trigger)
		return true;
	struct ptrig_rule *rule = trigger & PTRIG_PORT_LIST ? NULL : pt_rule_nth(gen, trigger, 0);
	struct ptrig_lease *lease = rule ? pt_lease_find(rule, p->daddr, note->wan) : NULL;

	return lease && lease->info.state == PTRIG_LEASE_LIVE && lease->info.host == p->saddr &&
	       now - lease->info.refreshed_tick < cfg_tick_hz / 4;
}

/* Who sends this packet? False: not the one whose source address it has. */
static __always_inline bool pt_note_sender(struct __sk_buff *skb, const struct pt_pkt *p, const struct ethhdr *eth,
					   struct ptrig_note *note) {
	struct pt_hop back = {};

	note->lan_ifindex = skb->ifindex;
	note->noted = bpf_jiffies64();
	if (eth) {
		__builtin_memcpy(note->mac, eth->h_source, sizeof(note->mac));
		__builtin_memcpy(note->to_mac, eth->h_dest, sizeof(note->to_mac));
		note->flags |= PTRIG_NOTE_MAC;
	}
	if (!pt_nexthop_from(skb, p->daddr, p->saddr, skb->ifindex, &back) || back.oif != skb->ifindex)
		return false;
	if (back.gateway != p->saddr)
		return true;
	note->flags |= PTRIG_NOTE_ONLINK;
	if (!eth || !back.has_mac)
		return true;
	note->flags |= PTRIG_NOTE_KNOWN;
	return pt_mac_equal(back.dmac, note->mac);
}

/* WAN egress is to look at this packet, wherever it goes then: the administrator may have given its flow another
 * destination. The first packet of such a flow has no entry yet that could tell. */
static __noinline void pt_note_await(struct __sk_buff *skb, const struct pt_pkt *p) {
	struct pt_tuple t = pt_tuple_of(p);
	struct pt_entry e;

	if (pt_entry_look(skb, &t, p->proto, &e) && !e.is_reply && e.status & PT_IPS_DST_NAT)
		pt_hint_set(e.reply.saddr, e.reply.sport, p->proto, PTRIG_SIDE_WAN);
	else
		pt_hint_set(p->daddr, p->dport, p->proto, PTRIG_SIDE_WAN);
}

/* From the LAN, to a trigger port (`trigger`) or from a rule's port of the host: WAN egress is to look at it. */
static __noinline enum ptrig_reason pt_note(struct __sk_buff *skb, const struct pt_pkt *p, __u32 l3, __u32 gen,
					    __u32 trigger) {
	struct ptrig_flow_key key = pt_note_key(p->saddr, p->sport, p->daddr, p->dport, p->proto);
	const struct ethhdr *eth = l3 ? pt_packet_eth(skb) : NULL;
	struct ptrig_note *known = bpf_map_lookup_elem(&pt_notes, &key), note = {};
	__u32 now = bpf_jiffies64();

	if (!pt_packet_remote(p->daddr))
		return PTRIG_NOT_TRIGGER;
	bool same = known && known->lan_ifindex == skb->ifindex && (!eth || pt_mac_equal(known->mac, eth->h_source));

	if (same && pt_note_fresh(known, p, gen, trigger)) {
		struct ptrig_rule *rule = pt_rule_nth(gen, trigger, 0);

		if (rule)
			pt_rule_count(rule, PTRIG_FRESH);
		return trigger ? PTRIG_FRESH : PTRIG_OWN_PORT;
	}
	/* A neighbour that is not known yet soon will be. */
	bool unknown = same && (known->flags & (PTRIG_NOTE_ONLINK | PTRIG_NOTE_KNOWN)) == PTRIG_NOTE_ONLINK;

	if (!same || unknown || now - known->noted >= cfg_tick_hz) {
		if (!pt_note_sender(skb, p, eth, &note))
			return PTRIG_SPOOFED;
		if (same)
			note.marks = known->marks & PTRIG_NOTE_GIVEN;
		if (bpf_map_update_elem(&pt_notes, &key, &note, BPF_ANY))
			return PTRIG_NOT_TRIGGER;
	}
	pt_note_await(skb, p);
	return PTRIG_CANDIDATE;
}

#endif
