/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How sessions begin: a remote's first packet to an open port. Who may come in is decided here; then conntrack gets the
 * session's entry, and the packet goes on to the kernel as it is. Global functions, so that the verifier walks each
 * once.
 */
#ifndef PT_OPEN_H
#define PT_OPEN_H

#include "expected.h"
#include "flow.h"

/* The lease that a packet is for. */
struct pt_opening {
	struct ptrig_rule *rule;
	struct ptrig_lease *lease;
	struct ptrig_lease_info *info; /* a copy: of one grant */
	struct ptrig_config *config;
	__u64 now;
	__be32 peer;  /* whom the host sees as its remote */
	__be32 payer; /* for whom the session is counted besides its lease; 0: the host */
	__be16 port;  /* the host's */
	bool hairpin;
	bool nobodys; /* an entry is in the way that nobody needs */
};

/* A packet's lease: the first rule in file order that has a live one on this address and lets this remote in. In a
 * hairpin the host must have contacted that address, if the rule says so. */
static __noinline enum ptrig_reason pt_open_pick(struct __sk_buff *skb, const struct pt_flow *f, __u32 entry,
						 struct pt_opening *o) {
	enum ptrig_reason reason = PTRIG_NO_LEASE;

	o->info = pt_lease_scratch();
	if (!o->info)
		return reason;
	for (int n = 0; n < PTRIG_MAX_RULES_PER_PORT; n++) {
		struct ptrig_rule *rule = pt_rule_nth(f->gen, entry, n);

		if (!rule)
			break;
		struct ptrig_lease *lease = pt_lease_get_live(rule, o->peer, f->p.daddr, o->now, o->info);

		if (!lease || (!o->hairpin && o->info->wan_ifindex != skb->ifindex))
			continue;
		if (!(o->info->flags & PTRIG_LEASE_ROUTED) && !pt_wan_address(o->info->wan_ifindex, f->p.daddr))
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

/* The verifier wants to see that they are there. */
static __always_inline bool pt_open_picked(const struct pt_opening *o) {
	return o->rule && o->lease && o->info;
}

/* Nobody else's: no flow of the kernel's, nothing that a helper expects, no socket of the gateway's. */
static __noinline enum ptrig_reason pt_open_free(struct __sk_buff *skb, const struct pt_flow *f, struct pt_opening *o) {
	const struct pt_pkt *p = &f->p;
	struct pt_tuple t = pt_tuple_of(p);
	struct pt_entry *e = pt_flow_scratch();

	if (!e)
		return PTRIG_FLOW_KNOWN;
	if (!f->looked)
		pt_entry_look(skb, &t, p->proto, e);
	enum pt_whose whose = pt_entry_whose(e, o->info->host, o->port);

	o->nobodys = whose == PT_NOBODYS;
	if (whose != PT_NONE && whose != PT_NOBODYS)
		return PTRIG_FLOW_KNOWN;
	if (pt_expectation_takes(&t, p->proto))
		return PTRIG_FLOW_EXPECTED;
	return pt_socket_takes(skb, &t, p->proto) ? PTRIG_LOCAL_SOCKET : PT_GO_ON;
}

/* From the WAN in the name of the gateway itself, or of one of its LANs (RFC 2827)? Looked for without a source first,
 * so that no rule sends the answer by a table of the WAN's own; where only such a table has a way, it is remote. */
static __noinline bool pt_open_inside(struct __sk_buff *skb, const struct pt_pkt *p) {
	struct pt_hop hop = {};

	if (pt_nexthop_from(skb, 0, p->saddr, skb->ifindex, &hop))
		return hop.flags & PTRIG_IFACE_LAN;
	return !pt_nexthop_from(skb, p->daddr, p->saddr, skb->ifindex, &hop);
}

/* Can the host be reached, and is it still the same machine? */
static __noinline enum ptrig_reason pt_open_way(struct __sk_buff *skb, __be32 remote,
						const struct ptrig_lease_info *info) {
	struct pt_hop hop = {};

	if (!pt_flow_route(skb, remote, info->host, &hop))
		return PTRIG_NO_ROUTE;
	return pt_flow_stranger(&hop, info) ? PTRIG_STRANGER : PT_GO_ON;
}

static __always_inline __be16 pt_open_other_port(__be16 port) {
	__u16 taken = bpf_ntohs(port);

	return bpf_htons(taken < 0x8000 ? taken + 0x8000 : taken - 0x4000);
}

/* Conntrack's entry of the session; in a hairpin both ends are translated, and the port that stands for the client is
 * told. */
static __noinline bool pt_open_entry(struct __sk_buff *skb, const struct pt_flow *f, const struct pt_opening *o,
				     __be16 *got_port) {
	struct pt_wanted w = {
		.orig = pt_tuple_of(&f->p),
		.to = o->info->host,
		.to_port = o->port,
		.from = o->hairpin ? o->peer : 0,
		.status = pt_flow_status(o->config, o->hairpin),
		.time_ms = o->config->halfopen_ns / 1000000,
		.proto = f->p.proto,
	};

	/* The host itself, from the port that it is led to: its question and its answer must not be the same packet. */
	if (o->hairpin && w.orig.saddr == w.to && w.orig.sport == w.to_port && w.orig.sport == w.orig.dport)
		w.from_port = pt_open_other_port(w.orig.sport);
	if (!pt_entry_make(skb, &w))
		return false;
	*got_port = w.got_port;
	return true;
}

/* The LAN half of a new session. Until its host answers it counts the remote's packets. */
static __always_inline void pt_open_half(const struct pt_flow *f, const struct pt_opening *o,
					 struct ptrig_session *lan) {
	const struct ptrig_lease_info *info = o->info;

	__builtin_memset(lan, 0, sizeof(*lan));
	lan->id = pt_session_new_id();
	lan->seen_ns = o->now;
	lan->rule = o->rule->id;
	lan->lease = info->id;
	lan->oif = info->wan_ifindex;
	lan->state = PTRIG_SESSION_HALFOPEN;
	lan->flags = (o->rule->flags & PTRIG_RULE_KILL ? PTRIG_SESSION_KILL : 0) |
		     (o->rule->flags & PTRIG_RULE_CONTACTED ? PTRIG_SESSION_CONTACTED : 0) |
		     (info->flags & PTRIG_LEASE_ROUTED ? PTRIG_SESSION_ROUTED : 0) |
		     (o->hairpin ? PTRIG_SESSION_HAIRPIN : 0);
	lan->packets = 1;
	lan->bytes = f->p.len;
	lan->addr = f->p.daddr;
	lan->port = f->p.dport;
	lan->peer = f->p.saddr;
	lan->peer_port = f->p.sport;
	lan->via = pt_via(info->lan_ifindex, info->flags & PTRIG_LEASE_ONLINK ? info->mac : NULL);
}

/* `port`: what the host sees as the remote's. */
static __always_inline struct ptrig_session_key pt_open_key(const struct pt_flow *f, const struct pt_opening *o,
							    __be16 port) {
	struct ptrig_session_key key = {
		.saddr = o->info->host,
		.daddr = o->peer,
		.sport = o->port,
		.dport = port,
		.proto = f->p.proto,
		.side = PTRIG_SIDE_LAN,
	};

	return key;
}

/* A half-open session of this very tuple that no entry led to (a flush, say) ends, before it is counted twice. Another
 * CPU may have begun it a moment ago: so its entry goes along. */
static __noinline void pt_open_instead(struct __sk_buff *skb, const struct pt_flow *f, const struct pt_opening *o) {
	struct ptrig_session_key key = pt_open_key(f, o, f->p.sport);
	struct ptrig_session *old = bpf_map_lookup_elem(&pt_halfopen, &key);
	struct pt_tuple t = pt_tuple_of(&f->p);

	if (!old)
		return;
	__u64 id = pt_session_number(old);

	barrier();
	if (pt_session_is_from(old, &t))
		pt_flow_end(skb, &key, old, id, true);
}

/* The half-open session of a packet whose entry is made; GO_ON if it is there. */
static __noinline enum ptrig_reason pt_open_session(const struct pt_flow *f, const struct pt_opening *o, __be16 port) {
	struct ptrig_pair *pair = pt_session_scratch();

	if (!pair)
		return PTRIG_HALFOPEN_FULL;
	pt_open_half(f, o, &pair->lan);
	struct ptrig_session_key key = pt_open_key(f, o, port);

	if (bpf_map_lookup_elem(&pt_sessions, &key)) /* one without an entry: conntrack would have refused this one */
		return PTRIG_FLOW_KNOWN;
	int err = pt_halfopen_insert(&key, &pair->lan, o->config);

	if (err)
		return err == -PT_EEXIST ? PTRIG_FLOW_KNOWN : PTRIG_HALFOPEN_FULL;
	return PT_GO_ON;
}

/* Does the host have a flow of its own there, or a session by another WAN port? */
static __noinline bool pt_open_known(struct __sk_buff *skb, const struct pt_flow *f, const struct pt_opening *o) {
	struct pt_tuple lan = {.saddr = o->info->host, .daddr = o->peer, .sport = o->port, .dport = f->p.sport};
	struct pt_entry e;

	return pt_entry_look(skb, &lan, f->p.proto, &e);
}

static __noinline void pt_open_forget(struct __sk_buff *skb, const struct pt_pkt *p) {
	struct pt_tuple t = pt_tuple_of(p);

	pt_entry_forget(skb, &t, p->proto);
}

/* The limits, the entry, the session: all of them or none. */
static __noinline enum ptrig_reason pt_open_begin(struct __sk_buff *skb, const struct pt_flow *f,
						  const struct pt_opening *o) {
	__be32 payer = o->payer ?: o->info->host;
	const struct ptrig_usage *usage = pt_usage_get();
	__be16 port = f->p.sport;

	pt_open_instead(skb, f, o);
	if (!usage || (o->config->conntrack_max && usage->sessions >= o->config->conntrack_max / 2))
		return PTRIG_SESSIONS_FULL;
	enum ptrig_reason reason = pt_session_count(o->lease, o->info->id, o->rule->session_limit, o->config, payer);

	if (reason != PT_GO_ON)
		return reason;
	if (o->nobodys)
		pt_open_forget(skb, &f->p);
	reason = PTRIG_ENTRY_REFUSED;
	if (!pt_open_entry(skb, f, o, &port)) {
		if (pt_open_known(skb, f, o))
			reason = PTRIG_FLOW_KNOWN;
	} else {
		reason = pt_open_session(f, o, port);
		if (reason == PT_GO_ON)
			return PT_GO_ON;
		pt_open_forget(skb, &f->p);
	}
	pt_lease_count(o->lease, o->info->id, -1, 0);
	pt_host_sub_session(payer);
	return reason;
}

/* From the WAN to an open port, and there is no session. */
__noinline int pt_open_from_wan(struct __sk_buff *skb, struct pt_flow *f, __u32 entry) {
	if (!f)
		return PT_GO_ON;
	const struct pt_pkt *p = &f->p;
	struct pt_opening o = {.config = pt_config_get(f->gen), .now = bpf_ktime_get_boot_ns(), .peer = p->saddr};

	if (!o.config)
		return PTRIG_NO_LEASE;
	if (!pt_packet_remote(p->saddr))
		return PTRIG_REMOTE_DENIED;
	enum ptrig_reason reason = pt_open_pick(skb, f, entry, &o);

	if (!pt_open_picked(&o))
		return reason;
	if (p->proto == IPPROTO_TCP && (!pt_packet_plain_syn(p) || p->first_fragment))
		return PTRIG_NOT_SYN;
	reason = pt_open_free(skb, f, &o);
	if (reason == PT_GO_ON && pt_open_inside(skb, p))
		reason = PTRIG_REMOTE_DENIED;
	if (reason == PT_GO_ON)
		reason = pt_open_way(skb, p->saddr, o.info);
	if (reason == PT_GO_ON)
		reason = pt_open_begin(skb, f, &o);
	return reason == PT_GO_ON ? PTRIG_OPENED : reason;
}

#endif
