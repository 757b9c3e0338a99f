/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about the packets of hairpinned sessions, from either end (RFC 5508 REQ-7). As in icmp.h they are
 * translated and nothing else. */
#ifndef PT_HAIRPIN_ICMP_H
#define PT_HAIRPIN_ICMP_H

#include "icmp.h"

/* One half of the session whose packet is quoted: what the quoted address and port become there. */
static __noinline bool pt_hairpin_half(const struct ptrig_session_key *half, __u32 gen, struct pt_quote_about *about) {
	struct ptrig_session_key key = *half;
	const struct ptrig_hairpin *client = bpf_map_lookup_elem(&pt_hairpins, &key);

	if (!client)
		return pt_icmp_look(&pt_sessions, &key, gen, true, about) ||
		       pt_icmp_look(&pt_halfopen, &key, gen, true, about);
	about->address = client->addr;
	about->port = client->port;
	about->via = client->via;
	return true;
}

/* An ICMP error from the LAN that quotes a hairpinned packet, from either end; else why it is passed on as it is. */
__noinline int pt_hairpin_icmp(struct __sk_buff *skb, struct pt_flow *f) {
	struct pt_quote_about out = {}, in = {};
	struct pt_quote q = {};

	if (!f || !pt_quote_parse(skb, f->l3, &q) || q.ip.daddr != q.quoted.saddr)
		return PTRIG_ICMP;
	struct ptrig_session_key key = {
		.saddr = q.quoted.daddr,
		.daddr = q.quoted.saddr,
		.sport = q.ports.dest,
		.dport = q.ports.source,
		.proto = q.quoted.protocol,
		.side = PTRIG_SIDE_LAN,
	};

	if (!pt_hairpin_half(&key, f->gen, &out))
		return PTRIG_ICMP;
	key.saddr = out.address;
	key.sport = out.port;
	key.side = PTRIG_SIDE_WAN;
	if (!pt_hairpin_half(&key, f->gen, &in) || !pt_quote_right(skb, &q))
		return PTRIG_ICMP;
	if (pt_session_forged(skb, f->l3, out.via))
		return PTRIG_SPOOFED;
	if (q.ip.ttl <= 1)
		return PTRIG_TTL_EXPIRED;
	if (!pt_nexthop_from(skb, out.address, in.address, skb->ifindex, &f->hop) || !(f->hop.flags & PTRIG_IFACE_LAN))
		return PTRIG_NO_ROUTE;
	f->hop.ask = true;
	if (f->hop.mtu && bpf_ntohs(q.ip.tot_len) > f->hop.mtu)
		return PTRIG_TOO_BIG;
	return pt_quote_rewrite(skb, &q, PTRIG_SIDE_LAN, &out, true) &&
			       pt_quote_rewrite(skb, &q, PTRIG_SIDE_WAN, &in, false)
		       ? PTRIG_ICMP_FORWARDED
		       : PTRIG_FAILED;
}

#endif
