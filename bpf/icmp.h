/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about the packets of sessions: from routers and the remote, from the host and its LAN, and from
 * the gateway's own stack. They are translated and nothing else: no error begins, extends, promotes or ends a session
 * or a lease (RFC 5508 REQ-6, RFC 4787 REQ-12). Global functions, so that the verifier walks each once.
 */
#ifndef PT_ICMP_H
#define PT_ICMP_H

#include "open.h"
#include "quote.h"

static __always_inline bool pt_icmp_look(void *table, const struct ptrig_session_key *key, __u32 gen, bool hairpin,
					 struct pt_quote_about *about) {
	struct ptrig_session *s = bpf_map_lookup_elem(table, key);
	const struct ptrig_config *config = pt_config_get(gen);

	if (!s || !config || !(s->flags & PTRIG_SESSION_HAIRPIN) == hairpin)
		return false;
	struct ptrig_session_key mirror = pt_session_mirror(key, s);
	struct ptrig_session *twin = bpf_map_lookup_elem(table, &mirror);

	if (!twin)
		return false;
	bool from_lan = key->side == PTRIG_SIDE_LAN;
	struct ptrig_session *lan = from_lan ? s : twin;
	const struct ptrig_session_key *lan_key = from_lan ? key : &mirror;
	__u64 now = bpf_ktime_get_boot_ns();
	struct ptrig_rule *rule = pt_rule_by_id(gen, lan->rule);
	struct ptrig_lease *lease = pt_session_lease(lan_key, lan, rule, now);
	bool over;

	if (table == &pt_halfopen)
		over = pt_halfopen_over(lan_key, lan->seen_ns, lease, config, now) ||
		       !pt_wan_address(lan->oif, lan->addr);
	else
		over = pt_flow_over(lan, lan->seen_ns, key->proto, pt_flow_kill(lan, rule) && !lease, config, now);
	about->address = s->addr;
	about->port = s->port;
	about->oif = s->oif;
	about->via = s->via;
	return !over;
}

/* The session whose packet is quoted, which went the other way than what arrives on this side. */
static __noinline bool pt_icmp_find(const struct pt_quote *q, __u32 side, __u32 gen, struct pt_quote_about *about) {
	struct ptrig_session_key key = {
		.saddr = q->quoted.daddr,
		.daddr = q->quoted.saddr,
		.sport = q->ports.dest,
		.dport = q->ports.source,
		.proto = q->quoted.protocol,
		.side = side,
	};
	__be16 port = side == PTRIG_SIDE_WAN ? key.dport : key.sport;

	return pt_port_used(side, key.proto, bpf_ntohs(port)) && (pt_icmp_look(&pt_sessions, &key, gen, false, about) ||
								  pt_icmp_look(&pt_halfopen, &key, gen, false, about));
}

/* An ICMP packet that has arrived: ICMP_FORWARDED, or why it is passed on as it is. */
__noinline int pt_icmp_arrives(struct __sk_buff *skb, struct pt_flow *f) {
	struct pt_quote_about about = {};
	struct pt_quote q = {};

	if (!f)
		return PTRIG_ICMP;
	/* Errors go to whom they quote as the sender. */
	if (!pt_quote_parse(skb, f->l3, &q) || q.ip.daddr != q.quoted.saddr ||
	    !pt_icmp_find(&q, f->side, f->gen, &about) || !pt_quote_right(skb, &q))
		return PTRIG_ICMP;
	if (f->side == PTRIG_SIDE_LAN && pt_session_forged(skb, f->l3, about.via))
		return PTRIG_SPOOFED;
	if (q.ip.ttl <= 1)
		return PTRIG_TTL_EXPIRED;
	f->p.saddr = q.ip.saddr;
	f->p.daddr = q.ip.daddr;
	if (!pt_flow_route(skb, f, about.address, about.oif))
		return PTRIG_NO_ROUTE;
	if (f->hop.mtu && f->p.len > f->hop.mtu)
		return PTRIG_TOO_BIG;
	return pt_quote_rewrite(skb, &q, f->side, &about, true) ? PTRIG_ICMP_FORWARDED : PTRIG_FAILED;
}

/* The gateway's own error about a packet that was translated and then handed up: its remote knows the WAN side only.
 * The stack has just made it, so its checksums are right. */
__noinline int pt_icmp_leaves(struct __sk_buff *skb, __u32 l3) {
	struct pt_quote_about about = {};
	struct pt_quote q = {};

	if (!pt_quote_parse(skb, l3, &q) || q.ip.daddr != q.quoted.saddr ||
	    !pt_icmp_find(&q, PTRIG_SIDE_LAN, pt_generation(), &about))
		return PTRIG_NO_CANDIDATE;
	return pt_quote_rewrite(skb, &q, PTRIG_SIDE_LAN, &about, false) ? PTRIG_ICMP_QUOTED : PTRIG_FAILED;
}

#endif
