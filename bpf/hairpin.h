/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From the LAN to an open port of the WAN address (RFC 4787 REQ-9, RFC 5382 REQ-8). Conntrack gets one entry that
 * translates both ends, always seen as new by the forward chain: whether LANs may talk to each other is the firewall's
 * to say. The client is judged as what it is: `remotes` and `deny_remotes` are held against its own address.
 */
#ifndef PT_HAIRPIN_H
#define PT_HAIRPIN_H

#include "arrive.h"
#include "open.h"

/* Is the client where its packets come from? */
static __noinline bool pt_hairpin_genuine(struct __sk_buff *skb, const struct pt_flow *f) {
	const struct ethhdr *eth = f->l3 ? pt_packet_eth(skb) : NULL;
	struct pt_hop back = {};

	if (!pt_packet_remote(f->p.saddr) || !pt_nexthop_from(skb, f->p.daddr, f->p.saddr, skb->ifindex, &back) ||
	    back.oif != skb->ifindex)
		return false;
	return !eth || back.gateway != f->p.saddr || !back.has_mac || pt_mac_equal(back.dmac, eth->h_source);
}

/* A client's first packet to a port that rules open; GO_ON if it is none of ours. */
__noinline int pt_hairpin_open(struct __sk_buff *skb, struct pt_flow *f, __u32 entry) {
	if (!f)
		return PT_GO_ON;
	struct pt_opening o = {
		.config = pt_config_get(f->gen),
		.now = bpf_ktime_get_boot_ns(),
		.peer = f->p.daddr,
		.payer = f->p.saddr,
		.hairpin = true,
	};

	if (!o.config)
		return PT_GO_ON;
	enum ptrig_reason reason = pt_open_pick(skb, f, entry, &o);

	if (!pt_open_picked(&o))
		return reason == PTRIG_NO_LEASE ? PT_GO_ON : reason;
	if (f->p.proto == IPPROTO_TCP && (!pt_packet_plain_syn(&f->p) || f->p.first_fragment))
		return f->ended ? PTRIG_SESSION_ENDED : PTRIG_NOT_SYN;
	if (!pt_hairpin_genuine(skb, f))
		return PTRIG_SPOOFED;
	reason = pt_open_free(skb, f, &o);
	if (reason == PT_GO_ON)
		reason = pt_open_way(skb, f->p.daddr, o.info);
	if (reason == PT_GO_ON)
		reason = pt_open_begin(skb, f, &o);
	if (reason != PT_GO_ON)
		return reason;
	/* The kernel puts a datagram's fragments together after this; a whole packet may have been tracked on a bridge
	 * with br_netfilter before it came here. */
	return f->p.first_fragment ? PTRIG_OPENED : PTRIG_HAIRPIN_OPENED;
}

/* From the LAN, to a port with these bits; GO_ON if it is not for an open port of the WAN address. */
static __always_inline enum ptrig_reason pt_hairpin_from_lan(struct __sk_buff *skb, struct pt_flow *f, __u32 bits) {
	enum ptrig_reason reason = PT_GO_ON;
	__u32 entry = 0;

	if (bits & PTRIG_PORT_OPENS)
		entry = pt_port_entry(&pt_open_ports, f->gen, pt_packet_proto_index(&f->p), bpf_ntohs(f->p.dport));
	f->hairpin = true;
	if (bits & PTRIG_PORT_WAN_USED)
		reason = pt_arrive(skb, f);
	if (reason == PT_GO_ON && entry)
		reason = f->p.odd_options ? PTRIG_IP_OPTIONS : pt_hairpin_open(skb, f, entry);
	f->hairpin = false;
	return reason;
}

#endif
