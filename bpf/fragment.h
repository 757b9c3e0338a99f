/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments. The first one of a datagram, in whichever order they come, names the session; it leaves conntrack an entry
 * with the session's translation and goes up with all the others. The kernel puts them together, and only then looks
 * for the entry, translates, and fragments again. There is no table of fragments here.
 *
 * A remote's first fragment to an open port opens a half-open session like any other packet, so it is held to the same
 * limits, and the host's answer is the session's. The entry has seen a reply and is assured, so that a forward chain
 * which lets in nothing but answers takes it for one.
 */
#ifndef PT_FRAGMENT_H
#define PT_FRAGMENT_H

#include "flow.h"

/* So long an entry outlives its session at most: whole packets, too, are translated by it when ptrig no longer does.
 * Its time is fixed, or each of them would extend it; so it cannot be extended here either, and is made anew by the
 * next first fragment. */
#define PT_FRAGMENT_MS 5000

enum pt_entry { PT_ENTRY_REFUSED, PT_ENTRY_THERE, PT_ENTRY_MADE };

static __always_inline bool pt_fragment_insert(struct __sk_buff *skb, const struct pt_tuple *wan, __u8 proto,
					       __be32 host, __be16 host_port) {
	struct bpf_ct_opts opts = {.netns_id = -1, .l4proto = proto};
	union nf_inet_addr address = {};
	struct nf_conn___init *fresh = bpf_skb_ct_alloc(skb, pt_sock_tuple(wan), sizeof(*wan), &opts, sizeof(opts));

	if (!fresh)
		return false;
	address.all[0] = host;
	int err = bpf_ct_set_nat_info(fresh, &address, bpf_ntohs(host_port), NF_NAT_MANIP_DST);

	err |= bpf_ct_set_status(fresh, PT_IPS_SEEN_REPLY | PT_IPS_ASSURED | PT_IPS_FIXED_TIMEOUT);
	bpf_ct_set_timeout(fresh, err ? 0 : PT_FRAGMENT_MS); /* there is no other way to be rid of it */
	struct nf_conn *ct = bpf_ct_insert_entry(fresh);

	if (ct)
		bpf_ct_release(ct);
	return ct && !err;
}

/* An entry's translation is settled when it is made: another one has to go first. It is over, and who looks for an
 * entry that is over removes it. */
static __noinline void pt_fragment_forget(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto) {
	struct bpf_ct_opts opts = {};
	struct nf_conn *ct = pt_conntrack_find(skb, t, proto, &opts);

	if (!ct)
		return;
	if (opts.dir != PT_CT_DIR_REPLY)
		bpf_ct_change_timeout(ct, 0);
	bpf_ct_release(ct);
	ct = pt_conntrack_find(skb, t, proto, &opts);
	if (ct)
		bpf_ct_release(ct);
}

/* Conntrack has, or gets, the translation of remote -> WAN port to the host, unless another's flow is there. The host's
 * own flow is none: it is what masquerade has made of fragments that came between two entries of ours. */
static __noinline enum pt_entry pt_fragment_translate(struct __sk_buff *skb, const struct pt_tuple *wan, __u8 proto,
						      __be32 host, __be16 host_port) {
	struct pt_tuple lan = {.saddr = host, .daddr = wan->saddr, .sport = host_port, .dport = wan->sport};
	enum pt_whose whose = pt_conntrack_takes(skb, wan, proto, host, host_port);

	if (whose == PT_OURS)
		return PT_ENTRY_THERE;
	if (whose == PT_ANOTHERS)
		return PT_ENTRY_REFUSED;
	pt_fragment_forget(skb, wan, proto);
	pt_fragment_forget(skb, &lan, proto);
	return pt_fragment_insert(skb, wan, proto, host, host_port) ? PT_ENTRY_MADE : PT_ENTRY_REFUSED;
}

/* The kernel routes by its own tables: from the LAN it must send by the session's WAN. */
static __always_inline bool pt_fragment_routed(struct __sk_buff *skb, const struct pt_flow *f) {
	struct pt_hop hop = {};

	return f->side == PTRIG_SIDE_WAN ||
	       (pt_nexthop_from(skb, f->p.saddr, f->p.daddr, skb->ifindex, &hop) && hop.oif == f->hop.oif);
}

/*
 * A session's packet is to be translated by the kernel, between f->p and f->to. On a bridge with br_netfilter conntrack
 * has put together the fragments already, and noted a flow for the packet, before it arrives here: given back to its
 * device it loses that, and this time the entry is there. Global for the verifier's sake.
 */
__noinline int pt_fragment_up(struct __sk_buff *skb, struct pt_flow *f) {
	if (!f)
		return PTRIG_FRAGMENT;
	const struct pt_pkt *p = &f->p;
	bool from_wan = f->side == PTRIG_SIDE_WAN;
	struct pt_tuple wan = {
		.saddr = from_wan ? p->saddr : p->daddr,
		.daddr = from_wan ? p->daddr : f->to,
		.sport = from_wan ? p->sport : p->dport,
		.dport = from_wan ? p->dport : f->to_port,
	};
	__be32 host = from_wan ? f->to : p->saddr;
	__be16 host_port = from_wan ? f->to_port : p->sport;

	if (!pt_fragment_routed(skb, f))
		return PTRIG_NO_ROUTE;
	enum pt_entry entry = pt_fragment_translate(skb, &wan, p->proto, host, host_port);

	if (entry == PT_ENTRY_REFUSED)
		return PTRIG_FLOW_KNOWN;
	return entry == PT_ENTRY_MADE && !p->first_fragment ? PTRIG_FRAGMENT_AGAIN : PTRIG_FRAGMENT_PASSED;
}

#endif
