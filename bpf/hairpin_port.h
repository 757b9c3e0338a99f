/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which port of the WAN address stands for a client (RFC 4787 REQ-9a): the client's own, if nobody else is there. */
#ifndef PT_HAIRPIN_PORT_H
#define PT_HAIRPIN_PORT_H

#include "open.h"

#define PT_HAIRPIN_TRIES 16
#define PT_HAIRPIN_LOWEST 1024 /* of the ports that are given out at random */

/* The client's port as the internet sees it, if it is an open port of the client's own lease; else 0
 * (RFC 4787 REQ-1, REQ-9a). */
__noinline int pt_hairpin_own_port(struct __sk_buff *skb, const struct pt_flow *f, __u32 entry) {
	if (!f)
		return 0;
	struct pt_opening own = {.config = pt_config_get(f->gen), .now = bpf_ktime_get_boot_ns()};

	if (!own.config || !pt_open_pick_lan(f, f->l3 ? pt_packet_eth(skb) : NULL, entry, &own) ||
	    own.lease->info.wan != f->p.daddr)
		return 0;
	return own.port;
}

/* A port of the WAN address that stands for the client. */
struct pt_hairpin_search {
	struct __sk_buff *skb;
	struct pt_tuple host; /* the host's answers, sent to that port */
	__be16 open;          /* the open port, in packet order as all here */
	__be16 wanted;        /* the client's own */
	__be16 mapped;        /* its own open port, or 0 */
	__be16 found;
	__u32 gen;
	__u8 proto;
};
static long pt_hairpin_try(__u32 n, struct pt_hairpin_search *w) {
	__u32 any = PT_HAIRPIN_LOWEST + bpf_get_prandom_u32() % (PTRIG_PORTS - PT_HAIRPIN_LOWEST);
	__be16 port = n == 0 && w->mapped ? w->mapped : n <= 1 ? w->wanted : bpf_htons(any);
	__u32 proto = w->proto == IPPROTO_TCP ? PTRIG_PROTO_INDEX_TCP : PTRIG_PROTO_INDEX_UDP;
	struct ptrig_session_key key = {
		.saddr = w->host.saddr,
		.daddr = w->host.daddr,
		.sport = w->host.sport,
		.dport = port,
		.proto = w->proto,
		.side = PTRIG_SIDE_LAN,
	};

	/* Another open port would be taken from the host: its packets there are answers to this client. */
	if (!port || port == w->open ||
	    (port != w->mapped && pt_port_entry(&pt_open_ports, w->gen, proto, bpf_ntohs(port))) ||
	    bpf_map_lookup_elem(&pt_sessions, &key) || bpf_map_lookup_elem(&pt_halfopen, &key))
		return 0;
	key.saddr = w->host.daddr;
	key.sport = w->open;
	key.side = PTRIG_SIDE_WAN;
	w->host.dport = port;
	if (bpf_map_lookup_elem(&pt_hairpins, &key) || pt_socket_takes(w->skb, &w->host, w->proto) ||
	    pt_conntrack_known(w->skb, &w->host, w->proto))
		return 0;
	w->found = port;
	return 1;
}
static __noinline __be16 pt_hairpin_port(struct __sk_buff *skb, const struct pt_flow *f, __be32 host, __be16 port) {
	struct pt_hairpin_search w = {
		.skb = skb,
		.host = {.saddr = host, .daddr = f->p.daddr, .sport = port},
		.open = f->p.dport,
		.wanted = f->p.sport,
		.gen = f->gen,
		.proto = f->p.proto,
	};
	__u32 entry = pt_port_entry(&pt_host_ports, f->gen, pt_packet_proto_index(&f->p), bpf_ntohs(w.wanted));

	if (entry)
		w.mapped = pt_hairpin_own_port(skb, f, entry);
	bpf_loop(PT_HAIRPIN_TRIES, pt_hairpin_try, &w, 0);
	return w.found;
}

#endif
