/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From the LAN to an open port of our own WAN address (RFC 4787 REQ-9, RFC 5382 REQ-8, RFC 5508 REQ-7); how such a
 * session is kept is said in client.h. The client is judged as what it is: `remotes` and `deny_remotes` are held
 * against its own address, and it must be where its packets come from.
 */
#ifndef PT_HAIRPIN_H
#define PT_HAIRPIN_H

#include "hairpin_port.h"

/* The client's packet, as it would come back from the WAN. */
static __always_inline void pt_hairpin_turn(struct pt_flow *f, __be32 address, __be16 port) {
	f->client = f->p.saddr;
	f->client_port = f->p.sport;
	f->p.saddr = address;
	f->p.sport = port;
	f->side = PTRIG_SIDE_WAN;
	f->hairpin = true;
}
static __always_inline void pt_hairpin_undo(struct pt_flow *f) {
	f->p.saddr = f->client;
	f->p.sport = f->client_port;
	f->side = PTRIG_SIDE_LAN;
	f->hairpin = false;
}

/* A client's packet of a session; GO_ON if there is none (any more). */
__noinline int pt_hairpin_session(struct __sk_buff *skb, struct pt_flow *f) {
	if (!f)
		return PT_GO_ON;
	struct ptrig_session_key key = pt_session_key(&f->p, PTRIG_SIDE_LAN);
	const struct ptrig_hairpin *client = bpf_map_lookup_elem(&pt_hairpins, &key);

	if (!client)
		return PT_GO_ON;
	if (pt_session_forged(skb, f->l3, client->via))
		return PTRIG_SPOOFED;
	pt_hairpin_turn(f, client->addr, client->port);
	enum ptrig_reason reason = pt_flow_established(skb, f);

	if (reason == PT_GO_ON)
		reason = pt_halfopen_from_wan(skb, f);
	if (reason == PT_GO_ON)
		pt_hairpin_undo(f);
	return reason;
}

/* What may send the client's packets from now on; 0: it is not where this one came from. */
static __noinline __u32 pt_hairpin_via(struct __sk_buff *skb, const struct pt_flow *f) {
	const struct ethhdr *eth = f->l3 ? pt_packet_eth(skb) : NULL;
	struct pt_hop back = {};

	if (!pt_packet_remote(f->p.saddr) || !pt_nexthop_from(skb, f->p.daddr, f->p.saddr, skb->ifindex, &back) ||
	    back.oif != skb->ifindex)
		return 0;
	if (!eth || back.gateway != f->p.saddr)
		return pt_via(skb->ifindex, NULL);
	return back.has_mac && !pt_mac_equal(back.dmac, eth->h_source) ? 0 : pt_via(skb->ifindex, eth->h_source);
}

/* Nobody else's: no socket of the gateway's, no flow of the kernel's. */
static __noinline enum ptrig_reason pt_hairpin_free(struct __sk_buff *skb, const struct pt_pkt *p, __be32 host,
						    __be16 port) {
	struct pt_tuple wan = pt_tuple_of(p);

	if (pt_socket_takes(skb, &wan, p->proto))
		return PTRIG_LOCAL_SOCKET;
	return pt_conntrack_takes(skb, &wan, p->proto, host, port) ? PTRIG_FLOW_KNOWN : PT_GO_ON;
}

static __always_inline struct ptrig_session_key pt_hairpin_back(const struct pt_flow *f) {
	struct ptrig_session_key back = {
		.saddr = f->p.daddr,
		.daddr = f->p.saddr,
		.sport = f->p.dport,
		.dport = f->p.sport,
		.proto = f->p.proto,
		.side = PTRIG_SIDE_WAN,
	};

	return back;
}

/*
 * A client's packet to a port that rules open, and there is no session: may it come in? Then its half is made, `f` is
 * turned and leads to the lease's host, and this is the id of the lease's rule, which is greater than any reason.
 * GO_ON if it is none of ours.
 */
__noinline __u32 pt_hairpin_admit(struct __sk_buff *skb, struct pt_flow *f, __u32 entry) {
	if (!f)
		return PT_GO_ON;
	struct pt_opening o = {.config = pt_config_get(f->gen), .now = bpf_ktime_get_boot_ns()};

	if (!o.config)
		return PT_GO_ON;
	enum ptrig_reason reason = pt_open_pick_wan(skb, f, entry, true, &o);

	if (reason != PT_GO_ON)
		return reason == PTRIG_NO_LEASE ? PT_GO_ON : reason;
	if (f->p.proto == IPPROTO_TCP && !pt_packet_plain_syn(&f->p))
		return f->ended ? PTRIG_SESSION_ENDED : PTRIG_NOT_SYN;
	__be32 host = o.lease->info.host;
	__u32 via = pt_hairpin_via(skb, f);

	if (!via)
		return PTRIG_SPOOFED;
	reason = pt_hairpin_free(skb, &f->p, host, o.port);
	if (reason != PT_GO_ON)
		return reason;
	__be16 port = pt_hairpin_port(skb, f, host, o.port);

	if (!port)
		return PTRIG_FLOW_KNOWN;
	pt_hairpin_turn(f, f->p.daddr, port);
	if (!pt_flow_route(skb, f, host, 0))
		return PTRIG_NO_ROUTE;
	if (pt_flow_stranger(&f->hop, &o.lease->info)) {
		pt_lease_end_now(o.lease, o.rule->id, o.lease->info.id, PTRIG_HOST_CHANGED, o.now);
		return PTRIG_NO_LEASE;
	}
	struct ptrig_hairpin client = {.addr = f->client, .port = f->client_port};
	struct ptrig_session_key back = pt_hairpin_back(f);

	int err = pt_client_insert(&back, &client, via);

	if (err)
		return err == -PT_EEXIST ? PTRIG_FLOW_KNOWN : PTRIG_SESSIONS_FULL;
	return o.rule->id;
}

/* The session of a client that was let in by this rule; GO_ON if it is there. */
__noinline int pt_hairpin_begin(struct pt_flow *f, __u32 rule_id) {
	if (!f)
		return PTRIG_NO_LEASE;
	struct pt_opening o = {.config = pt_config_get(f->gen), .now = bpf_ktime_get_boot_ns()};
	enum ptrig_reason reason = PTRIG_NO_LEASE;

	o.rule = pt_rule_by_id(f->gen, rule_id);
	if (o.config && o.rule) {
		o.lease = pt_lease_get_live(o.rule, f->p.daddr, 0, o.now);
		o.port = bpf_htons(
			pt_rule_map_port(o.rule, PTRIG_SIDE_WAN, pt_packet_proto_bit(&f->p), bpf_ntohs(f->p.dport)));
		if (o.lease && o.port)
			reason = pt_open_halfopen(f, &o, PTRIG_SESSION_HAIRPIN);
	}
	if (reason != PT_GO_ON) {
		struct ptrig_session_key back = pt_hairpin_back(f);

		pt_client_delete(&back);
	}
	return reason;
}

/* The packet that has begun the session. */
__noinline int pt_hairpin_first(struct __sk_buff *skb, struct pt_flow *f) {
	if (!f)
		return PTRIG_FAILED;
	struct ptrig_session_key key = pt_session_key(&f->p, PTRIG_SIDE_WAN);
	const struct ptrig_session *wan = bpf_map_lookup_elem(&pt_halfopen, &key);

	return wan ? pt_flow_turn(skb, f, wan->addr, wan->port, PTRIG_OPENED) : PTRIG_SESSION_ENDED;
}

/* From the LAN; GO_ON if it is not for an open port of the WAN address. */
static __always_inline enum ptrig_reason pt_hairpin_from_lan(struct __sk_buff *skb, struct pt_flow *f) {
	__u16 port = bpf_ntohs(f->p.dport);
	__u32 entry = pt_port_entry(&pt_open_ports, f->gen, pt_packet_proto_index(&f->p), port);
	enum ptrig_reason reason = PT_GO_ON;

	if (pt_port_used(PTRIG_SIDE_WAN, f->p.proto, port))
		reason = pt_hairpin_session(skb, f);
	if (reason != PT_GO_ON || !entry)
		return reason;
	__u32 rule = pt_hairpin_admit(skb, f, entry);

	if (rule <= PT_GO_ON)
		return rule;
	reason = pt_hairpin_begin(f, rule);
	return reason == PT_GO_ON ? pt_hairpin_first(skb, f) : reason;
}

#endif
