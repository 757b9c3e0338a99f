/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How sessions begin: the remote's first packet to an open port, more of them before the host has
 * answered, the answer, and the host's own first packet from an open port. These are global functions, so that
 * the verifier walks each once.
 */
#ifndef PT_OPEN_H
#define PT_OPEN_H

#include "expected.h"
#include "flow.h"

/* The lease that a packet is for. */
struct pt_opening {
	struct ptrig_rule *rule;
	struct ptrig_lease *lease;
	struct ptrig_config *config;
	__u64 now;
	__be16 port; /* the packet's open port on the other side */
};

/* A packet's lease: the first rule in file order that has a live one and lets this remote in. `hairpin`: from the LAN,
 * to an address of any WAN; the host must have contacted that address, if the rule says so. */
static __always_inline enum ptrig_reason pt_open_pick_wan(struct __sk_buff *skb, const struct pt_flow *f, __u32 entry,
							  bool hairpin, struct pt_opening *o) {
	enum ptrig_reason reason = PTRIG_NO_LEASE;

	for (int n = 0; n < PTRIG_MAX_RULES_PER_PORT; n++) {
		struct ptrig_rule *rule = pt_rule_nth(f->gen, entry, n);

		if (!rule)
			break;
		struct ptrig_lease *lease = pt_lease_get_live(rule, hairpin ? f->p.daddr : f->p.saddr, 0, o->now);

		if (!lease || (hairpin ? !pt_wan_address(lease->info.wan_ifindex, f->p.daddr)
				       : lease->info.wan_ifindex != skb->ifindex))
			continue;
		if (!pt_rule_allows_remote(rule, o->config, f->p.saddr)) {
			reason = PTRIG_REMOTE_DENIED;
			continue;
		}
		__u16 port = pt_rule_map_port(rule, PTRIG_SIDE_WAN, pt_packet_proto_bit(&f->p), bpf_ntohs(f->p.dport));

		if (!port)
			continue;
		o->rule = rule;
		o->lease = lease;
		o->port = bpf_htons(port);
		return PT_GO_ON;
	}
	return reason;
}

/* The pair of a new session. `host_port` and `wan_port` in packet order. */
static __always_inline void pt_open_pair(const struct pt_opening *o, __be32 host, __be16 host_port, __be32 wan,
					 __be16 wan_port, __u32 wan_ifindex, __u8 state, __u8 flags,
					 struct ptrig_session *lan_side, struct ptrig_session *wan_side) {
	__builtin_memset(lan_side, 0, sizeof(*lan_side));
	lan_side->seen_ns = o->now;
	lan_side->rule = o->rule->id;
	lan_side->lease = o->lease->info.id;
	lan_side->state = state;
	lan_side->flags = flags | (o->rule->flags & PTRIG_RULE_KILL ? PTRIG_SESSION_KILL : 0) |
			  (o->rule->flags & PTRIG_RULE_CONTACTED ? PTRIG_SESSION_CONTACTED : 0);
	*wan_side = *lan_side;
	lan_side->addr = wan;
	lan_side->port = wan_port;
	lan_side->oif = wan_ifindex;
	wan_side->addr = host;
	wan_side->port = host_port;
}

/* Nobody else's: no socket of the gateway's, no flow of the kernel's on either tuple. */
static __always_inline enum ptrig_reason pt_open_free(struct __sk_buff *skb, const struct pt_tuple *wan,
						      const struct pt_tuple *lan, __u8 proto) {
	if (pt_socket_takes(skb, wan, proto))
		return PTRIG_LOCAL_SOCKET;
	enum pt_whose whose = pt_conntrack_takes(skb, wan, proto, lan->saddr, lan->sport);

	/* Our own entry is found by the host's tuple, too. */
	if (whose >= PT_HOSTS || (whose == PT_NOBODYS && pt_conntrack_known(skb, lan, proto)))
		return PTRIG_FLOW_KNOWN;
	return PT_GO_ON;
}

/* The same for a packet from the WAN; a function of its own, which has its own stack. */
static __noinline enum ptrig_reason pt_open_wan_free(struct __sk_buff *skb, const struct pt_pkt *p, __be32 host,
						     __be16 port) {
	struct pt_tuple wan = pt_tuple_of(p);
	struct pt_tuple lan = {.saddr = host, .daddr = p->saddr, .sport = port, .dport = p->sport};

	if (pt_expectation_takes(&wan, p->proto))
		return PTRIG_FLOW_KNOWN;
	return pt_open_free(skb, &wan, &lan, p->proto);
}

/* The half-open session of a packet to an open port, by f->hop to the lease's host; GO_ON if it is there. */
static __always_inline enum ptrig_reason pt_open_halfopen(const struct pt_flow *f, const struct pt_opening *o,
							  __u8 flags) {
	const struct pt_pkt *p = &f->p;
	__be32 host = o->lease->info.host;
	struct ptrig_session_key key = {
		.saddr = host,
		.daddr = p->saddr,
		.sport = o->port,
		.dport = p->sport,
		.proto = p->proto,
		.side = PTRIG_SIDE_LAN,
	};
	struct ptrig_session lan_side, wan_side;

	/* By another WAN address or port: the host could not tell the two apart. */
	if (bpf_map_lookup_elem(&pt_sessions, &key))
		return PTRIG_FLOW_KNOWN;
	enum ptrig_reason reason = pt_session_count(o->lease, o->rule, o->config, host, o->now);

	if (reason != PT_GO_ON)
		return reason;
	pt_open_pair(o, host, o->port, p->daddr, p->dport, o->lease->info.wan_ifindex, PTRIG_SESSION_HALFOPEN, flags,
		     &lan_side, &wan_side);
	lan_side.via = o->lease->info.flags & PTRIG_LEASE_ONLINK ? pt_via(f->hop.oif, o->lease->info.mac)
								 : pt_via(f->hop.oif, NULL);
	wan_side.packets = 1;
	wan_side.bytes = p->len;
	int err = pt_halfopen_insert(&key, &lan_side, &wan_side);

	if (!err)
		return PT_GO_ON;
	__sync_fetch_and_add(&o->lease->sessions, -1);
	pt_host_sub(host, PT_HOST_SESSIONS);
	return err == -PT_EEXIST ? PTRIG_FLOW_KNOWN : PTRIG_HALFOPEN_FULL;
}

/* From the WAN in the name of the gateway itself, or of one of its LANs (RFC 2827)? Looked for without a source first,
 * so that no rule sends the answer by a table of the WAN's own; where only such a table has a way, it is remote. */
static __always_inline bool pt_open_inside(struct __sk_buff *skb, struct pt_flow *f) {
	if (pt_nexthop_from(skb, 0, f->p.saddr, skb->ifindex, &f->hop))
		return f->hop.flags & PTRIG_IFACE_LAN;
	return !pt_nexthop_from(skb, f->p.daddr, f->p.saddr, skb->ifindex, &f->hop);
}

/* From the WAN to an open port, and there is no session. */
__noinline int pt_open_from_wan(struct __sk_buff *skb, struct pt_flow *f, __u32 entry) {
	if (!f)
		return PT_GO_ON;
	struct pt_opening o = {.config = pt_config_get(f->gen), .now = bpf_ktime_get_boot_ns()};
	const struct pt_pkt *p = &f->p;

	if (!pt_wan_address(skb->ifindex, p->daddr))
		return PTRIG_NOT_WAN_ADDRESS;
	if (!o.config)
		return PTRIG_NO_LEASE;
	if (!pt_packet_remote(p->saddr))
		return PTRIG_REMOTE_DENIED;
	enum ptrig_reason reason = pt_open_pick_wan(skb, f, entry, false, &o);

	if (reason != PT_GO_ON)
		return reason;
	if (p->proto == IPPROTO_TCP && (!pt_packet_plain_syn(p) || p->first_fragment))
		return PTRIG_NOT_SYN;
	if (pt_open_inside(skb, f))
		return PTRIG_REMOTE_DENIED;
	__be32 host = o.lease->info.host;
	reason = pt_open_wan_free(skb, p, host, o.port);
	if (reason != PT_GO_ON)
		return reason;
	if (!pt_flow_route(skb, f, host, 0))
		return PTRIG_NO_ROUTE;
	if (pt_flow_stranger(&f->hop, &o.lease->info)) {
		pt_lease_end_now(o.lease, o.rule->id, o.lease->info.id, PTRIG_HOST_CHANGED, o.now);
		return PTRIG_NO_LEASE;
	}
	reason = pt_open_halfopen(f, &o, 0);
	if (reason != PT_GO_ON)
		return reason;
	return pt_flow_finish(skb, f, host, o.port, PTRIG_OPENED);
}

/* Is a half-open session over? They end with their lease, after `halfopen`, with their WAN address. One that was seen
 * last at 0 is just becoming established, on another CPU, or ends there. */
static __always_inline bool pt_halfopen_over(const struct ptrig_session_key *key, __u64 seen,
					     const struct ptrig_lease *lease, const struct ptrig_config *config,
					     __u64 now) {
	return !lease || lease->info.host != key->saddr || (seen && pt_elapsed(now, seen, config->halfopen_ns));
}

/* Is the WAN tuple of a packet that a half-open session leads to `to` another's by now? */
static __noinline bool pt_halfopen_taken(struct __sk_buff *skb, const struct pt_flow *f,
					 const struct ptrig_session *to) {
	struct pt_tuple wan = pt_tuple_of(&f->p);

	return pt_conntrack_takes(skb, &wan, f->p.proto, to->addr, to->port) == PT_ANOTHERS;
}

/* From the WAN, and the host has not answered yet; GO_ON if there is no such session (any more). */
__noinline int pt_halfopen_from_wan(struct __sk_buff *skb, struct pt_flow *f) {
	if (!f)
		return PT_GO_ON;
	struct ptrig_session_key key = pt_session_key(&f->p, PTRIG_SIDE_WAN);
	struct ptrig_session *wan = bpf_map_lookup_elem(&pt_halfopen, &key);
	const struct ptrig_config *config = pt_config_get(f->gen);

	if (!wan || !config || pt_flow_strays(f, wan))
		return PT_GO_ON;
	struct ptrig_session_key lan_key = pt_session_mirror(&key, wan);
	struct ptrig_session *lan = bpf_map_lookup_elem(&pt_halfopen, &lan_key);
	__u64 now = bpf_ktime_get_boot_ns();

	if (!lan)
		return PT_GO_ON;
	__u64 seen = lan->seen_ns;
	struct ptrig_lease *lease = pt_session_lease(&lan_key, lan, pt_rule_by_id(f->gen, lan->rule), now);

	/* A flow of the kernel's that has begun since is not held up by a session that nobody has answered. */
	if (pt_halfopen_over(&lan_key, seen, lease, config, now) || pt_halfopen_taken(skb, f, wan)) {
		pt_halfopen_end(&lan_key, lan, seen);
		f->ended = true;
		return PT_GO_ON;
	}
	if (!pt_flow_route(skb, f, wan->addr, 0))
		return PTRIG_NO_ROUTE;
	if (pt_flow_stranger(&f->hop, &lease->info)) {
		pt_lease_end_now(lease, lan->rule, lan->lease, PTRIG_HOST_CHANGED, now);
		pt_halfopen_end(&lan_key, lan, seen);
		return PTRIG_SESSION_ENDED;
	}
	wan->packets++;
	wan->bytes += f->p.len;
	return pt_flow_send(skb, f, wan->addr, wan->port, PTRIG_HALF_OPEN);
}

/* An established session whose tuple conntrack gives to nobody else; 0 or a negative errno, EEXIST if it is another's.
 * `key` and `lan` are the LAN side's. */
static __always_inline int pt_established_claim(struct __sk_buff *skb, const struct ptrig_session_key *key,
						const struct ptrig_session *lan, const struct ptrig_session *wan,
						const struct ptrig_config *config) {
	if (!pt_conntrack_claim(skb, key, lan, pt_session_idle_ns(lan, key->proto, config)))
		return -PT_EEXIST;
	int err = pt_established_insert(key, lan, wan);

	if (err && err != -PT_EEXIST) /* a session that was quicker keeps the tuple */
		pt_conntrack_claim(skb, key, lan, 0);
	return err;
}

/* The host has answered: from the half-open table to the other one. */
static __always_inline enum ptrig_reason pt_halfopen_promote(struct __sk_buff *skb, struct pt_flow *f,
							     const struct ptrig_session_key *key,
							     struct ptrig_session *lan, struct ptrig_session *wan,
							     const struct ptrig_session_key *wan_key, __u64 seen,
							     const struct ptrig_config *config, __u64 now) {
	struct ptrig_session lan_side = *lan, wan_side = *wan;

	if (!seen || __sync_val_compare_and_swap(&lan->seen_ns, seen, 0) != seen)
		return PTRIG_HALF_OPEN; /* another CPU is just doing it */
	lan_side.seen_ns = wan_side.seen_ns = now;
	lan_side.state = f->p.proto == IPPROTO_TCP ? PTRIG_SESSION_TRANSITORY : PTRIG_SESSION_ESTABLISHED;
	wan_side.state = lan_side.state;
	lan_side.packets = 1;
	lan_side.bytes = f->p.len;
	if (!f->hairpin)
		pt_hop_cache(&lan_side, &f->hop);
	lan_side.checked = bpf_jiffies64();
	int err = f->hairpin ? pt_established_insert(key, &lan_side, &wan_side)
			     : pt_established_claim(skb, key, &lan_side, &wan_side, config);

	bpf_map_delete_elem(&pt_halfopen, wan_key);
	bpf_map_delete_elem(&pt_halfopen, key);
	pt_ports_count(key, &lan_side, -1);
	pt_halfopen_release(key->saddr);
	if (err) {
		pt_session_uncount(key, &lan_side, wan_side.packets, wan_side.bytes);
		if (f->hairpin)
			pt_client_forget(key, &lan_side);
		return err == -PT_EEXIST ? PTRIG_FLOW_KNOWN : PTRIG_SESSIONS_FULL;
	}
	return PTRIG_ESTABLISHED;
}

/* From the LAN: the answer to a half-open session; GO_ON if there is none. */
__noinline int pt_halfopen_from_lan(struct __sk_buff *skb, struct pt_flow *f) {
	if (!f)
		return PT_GO_ON;
	struct ptrig_session_key key = pt_session_key(&f->p, PTRIG_SIDE_LAN);
	struct ptrig_session *lan = bpf_map_lookup_elem(&pt_halfopen, &key);
	const struct ptrig_config *config = pt_config_get(f->gen);

	if (!lan || !config)
		return PT_GO_ON;
	struct ptrig_session_key wan_key = pt_session_mirror(&key, lan);
	struct ptrig_session *wan = bpf_map_lookup_elem(&pt_halfopen, &wan_key);
	__u64 now = bpf_ktime_get_boot_ns();

	if (!wan)
		return PT_GO_ON;
	__u64 seen = lan->seen_ns;
	struct ptrig_rule *rule = pt_rule_by_id(f->gen, lan->rule);
	struct ptrig_lease *lease = pt_session_lease(&key, lan, rule, now);
	__be32 address = lan->addr;
	__be16 port = lan->port;

	if (pt_session_forged(skb, f->l3, lan->via))
		return PTRIG_SPOOFED;
	if (pt_halfopen_over(&key, seen, lease, config, now) || !pt_wan_address(lan->oif, address)) {
		pt_halfopen_end(&key, lan, seen);
		f->ended = true;
		return PT_GO_ON;
	}
	if (!pt_flow_client(f, &key, lan))
		return PT_GO_ON;
	if (!pt_flow_route(skb, f, address, lan->oif))
		return PTRIG_NO_ROUTE;
	enum ptrig_reason reason = PTRIG_HALF_OPEN;

	if (f->p.tcp_flags & PT_TCP_RST) { /* a closed port: nothing stays */
		pt_halfopen_end(&key, lan, seen);
	} else {
		reason = pt_halfopen_promote(skb, f, &key, lan, wan, &wan_key, seen, config, now);
		if (reason != PTRIG_ESTABLISHED && reason != PTRIG_HALF_OPEN)
			return reason;
		if (lease && rule && rule->flags & PTRIG_RULE_REFRESH_TRAFFIC)
			pt_lease_touch(lease, lease->info.id, now);
	}
	return pt_flow_send(skb, f, address, port, reason);
}

/* The lease whose host sends this from one of its open ports. */
static __always_inline bool pt_open_pick_lan(const struct pt_flow *f, const struct ethhdr *eth, __u32 entry,
					     struct pt_opening *o) {
	for (int n = 0; n < PTRIG_MAX_RULES_PER_PORT; n++) {
		struct ptrig_rule *rule = pt_rule_nth(f->gen, entry, n);

		if (!rule)
			break;
		struct ptrig_lease *lease = pt_lease_get_live(rule, f->p.daddr, 0, o->now);

		if (!lease || lease->info.host != f->p.saddr || !lease->info.wan ||
		    (lease->info.flags & PTRIG_LEASE_ONLINK &&
		     (!eth || !pt_mac_equal(eth->h_source, lease->info.mac))) ||
		    !pt_rule_allows_remote(rule, o->config, f->p.daddr))
			continue;
		__u16 port = pt_rule_map_port(rule, PTRIG_SIDE_LAN, pt_packet_proto_bit(&f->p), bpf_ntohs(f->p.sport));

		if (!port)
			continue;
		o->rule = rule;
		o->lease = lease;
		o->port = bpf_htons(port);
		return true;
	}
	return false;
}

/* The host sends from an open port of its own lease: the port is to look the same to every remote
 * (RFC 4787 REQ-1). GO_ON if this packet is none of that. */
__noinline int pt_open_from_lan(struct __sk_buff *skb, struct pt_flow *f, __u32 entry) {
	if (!f)
		return PT_GO_ON;
	struct pt_opening o = {.config = pt_config_get(f->gen), .now = bpf_ktime_get_boot_ns()};
	const struct pt_pkt *p = &f->p;

	if (!o.config || !pt_packet_remote(p->daddr) || (p->proto == IPPROTO_TCP && !pt_packet_plain_syn(p)))
		return PT_GO_ON;
	if (!pt_open_pick_lan(f, f->l3 ? pt_packet_eth(skb) : NULL, entry, &o))
		return PT_GO_ON;
	__be32 wan_address = o.lease->info.wan;
	__u32 wan_ifindex = o.lease->info.wan_ifindex;

	/* It must be going out by that WAN anyway, from an address that is still there. */
	if (!pt_wan_address(wan_ifindex, wan_address) ||
	    !pt_nexthop_from(skb, p->saddr, p->daddr, skb->ifindex, &f->hop) || f->hop.oif != wan_ifindex)
		return PT_GO_ON;
	struct pt_tuple wan = {.saddr = p->daddr, .daddr = wan_address, .sport = p->dport, .dport = o.port};
	struct pt_tuple lan = pt_tuple_of(p);

	if (pt_open_free(skb, &wan, &lan, p->proto) != PT_GO_ON)
		return PT_GO_ON;
	if (!pt_flow_route(skb, f, wan_address, wan_ifindex) ||
	    pt_session_count(o.lease, o.rule, o.config, p->saddr, o.now) != PT_GO_ON)
		return PT_GO_ON;
	struct ptrig_session_key key = pt_session_key(p, PTRIG_SIDE_LAN);
	struct ptrig_session lan_side, wan_side;
	__u8 state = p->proto == IPPROTO_TCP ? PTRIG_SESSION_TRANSITORY : PTRIG_SESSION_ESTABLISHED;

	pt_open_pair(&o, p->saddr, p->sport, wan_address, o.port, wan_ifindex, state, PTRIG_SESSION_OWN, &lan_side,
		     &wan_side);
	lan_side.via = pt_via(skb->ifindex, o.lease->info.flags & PTRIG_LEASE_ONLINK ? o.lease->info.mac : NULL);
	lan_side.packets = 1;
	lan_side.bytes = p->len;
	pt_hop_cache(&lan_side, &f->hop);
	lan_side.checked = bpf_jiffies64();
	if (pt_established_claim(skb, &key, &lan_side, &wan_side, o.config)) {
		__sync_fetch_and_add(&o.lease->sessions, -1);
		pt_host_sub(p->saddr, PT_HOST_SESSIONS);
		return PT_GO_ON;
	}
	if (o.rule->flags & PTRIG_RULE_REFRESH_TRAFFIC)
		pt_lease_touch(o.lease, o.lease->info.id, o.now);
	f->asks = o.rule->id;
	return pt_flow_finish(skb, f, wan_address, o.port, PTRIG_OPENED);
}

#endif
