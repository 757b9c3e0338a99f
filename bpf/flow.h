/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A session's packets and conntrack: whose entry they meet, what is over, what is made again. The kernel translates and
 * decides; here sessions are found, timed and ended, and every end takes the session's own entry along.
 */
#ifndef PT_FLOW_H
#define PT_FLOW_H

#include "conntrack.h"
#include "nexthop.h"
#include "session.h"

/* One packet on its way through a program. */
struct pt_flow {
	struct pt_pkt p;
	__u32 l3;
	__u32 side;
	__u32 gen;
	bool hairpin; /* from the LAN to the WAN address */
	bool ended;   /* a session of this packet was found, but it is over */
	bool looked;  /* the scratch holds what conntrack said of this packet */
};

/* pt_who() of any packet. A frame without an Ethernet header is from whoever is at that interface. */
static __always_inline __be32 pt_flow_who(struct __sk_buff *skb, __u32 l3, __u32 side, __be32 saddr) {
	const struct ethhdr *eth = l3 ? pt_packet_eth(skb) : NULL;

	return eth ? pt_who(eth, skb->ifindex, side, saddr) : saddr ^ pt_mix(cfg_hash_seed, skb->ifindex);
}

/* What conntrack says of this packet, where it is kept for the steps that follow, or of the session that is just looked
 * at. */
static __always_inline struct pt_entry *pt_flow_scratch(void) {
	struct ptrig_scratch *scratch = bpf_map_lookup_elem(&pt_scratch, &pt_zero);

	_Static_assert(sizeof(struct pt_entry) <= sizeof(scratch->entry), "room in the scratch");
	return scratch ? (struct pt_entry *)scratch->entry : NULL;
}

/* Was that of a flow that a host, or the gateway itself, has begun? */
static __always_inline bool pt_flow_began_inside(void) {
	const struct pt_entry *e = pt_flow_scratch();

	return e && e->found && e->is_reply;
}

/* The tuple of conntrack's entry of a session: what arrives on its WAN side. */
static __always_inline struct pt_tuple pt_flow_tuple(const struct ptrig_session_key *wan_key) {
	struct pt_tuple t = {
		.saddr = wan_key->saddr,
		.daddr = wan_key->daddr,
		.sport = wan_key->sport,
		.dport = wan_key->dport,
	};

	return t;
}

/* Is this the LAN half of the session whose remote's packets have this tuple? */
static __always_inline bool pt_session_is_from(const struct ptrig_session *lan, const struct pt_tuple *t) {
	return lan->addr == t->daddr && lan->port == t->dport && lan->peer == t->saddr && lan->peer_port == t->sport;
}

/* The half-open session to which an entry leads: its LAN half's key is the tuple of the answers. NULL: none. The number
 * is read before all else, so that what is seen afterwards is this session's as long as the number is there. */
static __always_inline struct ptrig_session *pt_flow_halfopen(const struct pt_entry *e, __u8 proto,
							      struct ptrig_session_key *lan_key, __u64 *id) {
	if (!e->found || e->is_reply || !(e->status & PT_IPS_DST_NAT))
		return NULL;
	__builtin_memset(lan_key, 0, sizeof(*lan_key));
	lan_key->saddr = e->reply.saddr;
	lan_key->daddr = e->reply.daddr;
	lan_key->sport = e->reply.sport;
	lan_key->dport = e->reply.dport;
	lan_key->proto = proto;
	lan_key->side = PTRIG_SIDE_LAN;
	struct ptrig_session *lan = bpf_map_lookup_elem(&pt_halfopen, lan_key);

	if (!lan)
		return NULL;
	*id = pt_session_number(lan);
	barrier();
	return pt_session_is_from(lan, &e->orig) ? lan : NULL;
}

/* Conntrack's entry of the session with this LAN half, and the tuple by which it is found. */
static __always_inline bool pt_flow_look(struct __sk_buff *skb, const struct ptrig_session_key *lan_key,
					 const struct ptrig_session *lan, struct pt_tuple *t, struct pt_entry *e) {
	struct ptrig_session_key wan_key = pt_session_mirror(lan_key, lan);

	*t = pt_flow_tuple(&wan_key);
	return pt_entry_look(skb, t, lan_key->proto, e);
}

/* End session number `id`, unless somebody else just does: its entry first, if conntrack's is still its own. `key` and
 * `lan` are the LAN half's. */
static __noinline bool pt_flow_end(struct __sk_buff *skb, const struct ptrig_session_key *key,
				   struct ptrig_session *lan, __u64 id, bool halfopen) {
	struct pt_entry *e = pt_flow_scratch();
	struct pt_tuple t;

	if (!e ||
	    !(halfopen ? pt_session_claim(&pt_halfopen, key, lan, id) : pt_session_claim(&pt_sessions, key, lan, id)))
		return false;
	if (pt_flow_look(skb, key, lan, &t, e) && pt_entry_whose(e, key->saddr, key->sport) == PT_OURS)
		pt_entry_forget(skb, &t, key->proto);
	if (halfopen)
		pt_halfopen_delete(key, lan);
	else
		pt_established_delete(key, lan);
	return true;
}

/* How the forward chain is to see it: as an answer, or as new. Without a nat chain an answer's look would let a packet
 * past the input chain. */
static __always_inline __u32 pt_flow_status(const struct ptrig_config *config, bool hairpin) {
	const struct ptrig_state *state = bpf_map_lookup_elem(&pt_state, &pt_zero);

	return hairpin || config->flags & PTRIG_CONFIG_NEW || !state || !state->nat_ready ? 0 : PT_IPS_SEEN_REPLY;
}

/* Half-open: the entry's time is what is left of the session's, whatever arrives. */
static __always_inline __u64 pt_flow_left(__u64 seen, __u64 idle, __u64 now) {
	__u64 passed = now - seen;

	return passed < idle ? idle - passed : 0;
}

/* Is its remote, or the client of a hairpin, one that may never come in? */
static __always_inline bool pt_flow_denied(const struct ptrig_config *config, const struct ptrig_session *lan) {
	return config->deny_set && pt_set_has_address(config->deny_set, lan->peer);
}

/* The state of a TCP session, as conntrack knows it. */
static __always_inline __u8 pt_flow_tcp_state(const struct pt_entry *e) {
	if (e->tcp_state >= PT_CT_TCP_LAST_ACK)
		return PTRIG_SESSION_CLOSING;
	return e->tcp_state >= PT_CT_TCP_ESTABLISHED ? PTRIG_SESSION_ESTABLISHED : PTRIG_SESSION_TRANSITORY;
}

/* The way to a host: it must be by a LAN interface. */
static __always_inline bool pt_flow_route(struct __sk_buff *skb, __be32 saddr, __be32 host, struct pt_hop *hop) {
	return pt_nexthop_from(skb, saddr, host, skb->ifindex, hop) && hop->flags & PTRIG_IFACE_LAN;
}
/* Is the machine at the end of this hop not the one that the lease was granted to? */
static __always_inline bool pt_flow_stranger(const struct pt_hop *hop, const struct ptrig_lease_info *info) {
	return info->flags & PTRIG_LEASE_ONLINK && hop->has_mac && hop->gateway == info->host &&
	       !pt_mac_equal(hop->dmac, info->mac);
}

#endif
