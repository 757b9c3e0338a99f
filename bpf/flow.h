/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets of sessions that exist: the quick way with what is cached, and the once-a-second look at the
 * clock, the lease, the route and the neighbour.
 */
#ifndef PT_FLOW_H
#define PT_FLOW_H

#include "conntrack.h"
#include "fast_tell.h"
#include "nexthop.h"
#include "rewrite.h"
#include "session.h"
#include "trigger.h"

/* One packet on its way through a program. */
struct pt_flow {
	struct pt_pkt p;
	struct pt_hop hop; /* of a packet that is redirected */
	__u32 l3;
	__u32 side;
	__u32 gen;
	__u32 ticks; /* after a look: for how long XDP may do without another */
	__u32 asks;  /* the rule of a session that the host has begun: its packet may be a trigger as well */
	bool ended;  /* a session of this packet was found, but it is over */
	/* Between a lease's host and a client on the LAN. The client's packet is looked at as it would come back from
	 * the WAN: with side WAN, and in `p` the WAN address and the client's port there as its source. */
	bool hairpin;
	union {
		__be16 client_port;
		__be16 to_port; /* FRAGMENT_PASSED, never of a hairpin: what the kernel is to translate to */
	};
	union {
		__be32 client;
		__be32 to;
	};
};

static __always_inline void pt_hop_cache(struct ptrig_session *s, const struct pt_hop *hop) {
	__u8 flags = s->flags & ~(PTRIG_SESSION_NEXTHOP | PTRIG_SESSION_L3);

	if (hop->flags & PTRIG_IFACE_L3)
		flags |= PTRIG_SESSION_NEXTHOP | PTRIG_SESSION_L3;
	else if (hop->has_mac)
		flags |= PTRIG_SESSION_NEXTHOP;
	s->oif = hop->oif;
	s->mtu = hop->mtu;
	__builtin_memcpy(s->dmac, hop->dmac, sizeof(s->dmac));
	__builtin_memcpy(s->smac, hop->smac, sizeof(s->smac));
	s->flags = flags;
}
static __always_inline void pt_hop_cached(const struct ptrig_session *s, struct pt_hop *hop) {
	hop->oif = s->oif;
	hop->mtu = s->mtu;
	hop->flags = s->flags & PTRIG_SESSION_L3 ? PTRIG_IFACE_L3 : 0;
	hop->has_mac = true;
	hop->ask = false;
	__builtin_memcpy(hop->dmac, s->dmac, sizeof(hop->dmac));
	__builtin_memcpy(hop->smac, s->smac, sizeof(hop->smac));
}

/* The way to the host (side WAN, iif), by the session's WAN to the remote (side LAN, oif), or to the client. */
static __always_inline bool pt_flow_route(struct __sk_buff *skb, struct pt_flow *f, __be32 address, __u32 oif) {
	bool to_lan = f->side == PTRIG_SIDE_WAN || f->hairpin, found;

	if (f->side == PTRIG_SIDE_WAN)
		found = pt_nexthop_from(skb, f->p.saddr, address, skb->ifindex, &f->hop);
	else if (f->hairpin)
		found = pt_nexthop_from(skb, address, f->client, skb->ifindex, &f->hop);
	else
		found = pt_nexthop_by(skb, address, f->p.daddr, oif, &f->hop);
	f->hop.ask = true;
	return found && f->hop.flags & (to_lan ? PTRIG_IFACE_LAN : PTRIG_IFACE_WAN);
}
/* The host's packet in a hairpinned session: to which client? False: its entry is gone. */
static __always_inline bool pt_flow_client(struct pt_flow *f, const struct ptrig_session_key *key,
					   const struct ptrig_session *lan) {
	struct ptrig_session_key back = pt_client_key(key, lan);

	if (!(lan->flags & PTRIG_SESSION_HAIRPIN))
		return true;
	struct ptrig_hairpin *client = bpf_map_lookup_elem(&pt_hairpins, &back);

	if (!client)
		return false;
	f->hairpin = true;
	f->client = client->addr;
	f->client_port = client->port;
	return true;
}
/* Is the machine at the end of this hop not the one that the lease was granted to? */
static __always_inline bool pt_flow_stranger(const struct pt_hop *hop, const struct ptrig_lease_info *info) {
	return info->flags & PTRIG_LEASE_ONLINK && hop->has_mac && hop->gateway == info->host &&
	       !pt_mac_equal(hop->dmac, info->mac);
}

static __always_inline bool pt_flow_too_big(struct __sk_buff *skb, const struct pt_flow *f) {
	__u32 mtu = 0;

	if (!f->hop.mtu || f->p.len <= f->hop.mtu)
		return false;
	/* A GSO packet is cut into segments on its way out: those must fit. */
	return !skb->gso_size || bpf_check_mtu(skb, f->hop.oif, &mtu, 0, BPF_MTU_CHK_SEGS);
}

/* Rewrite a hairpinned packet: source and destination change. What cannot be sent on is dropped: to the
 * kernel it would be for the gateway itself, and a reset would be the answer. */
__noinline int pt_flow_turn(struct __sk_buff *skb, struct pt_flow *f, __be32 address, __be16 port, __u32 reason) {
	if (!f || f->p.first_fragment)
		return PTRIG_FRAGMENT;
	if (f->p.ttl <= 1 || pt_flow_too_big(skb, f))
		return PTRIG_FAILED;
	__be32 to = f->client, from = address;
	__be16 to_port = f->client_port, from_port = port;

	if (f->side == PTRIG_SIDE_WAN) {
		to = address;
		to_port = port;
		from = f->p.saddr;
		from_port = f->p.sport;
		f->p.saddr = f->client; /* as it is in the frame */
		f->p.sport = f->client_port;
	}
	if (!pt_rewrite(skb, f->l3, &f->p, PTRIG_SIDE_LAN, from, from_port, true) ||
	    !pt_rewrite(skb, f->l3, &f->p, PTRIG_SIDE_WAN, to, to_port, false))
		return PTRIG_FAILED;
	return reason;
}
/* Too big: may it be cut apart? TCP expects to be told instead, and sees to it that it is (DF); the kernel's conntrack,
 * which would follow its sequence numbers, has not seen the packets before this one. */
static __always_inline bool pt_flow_fragments(const struct pt_flow *f) {
	return f->p.proto == IPPROTO_UDP && !f->p.df;
}

/* Rewrite the packet to address:port; `reason` if it can be sent by f->hop. What has to be put together or cut apart on
 * its way is the kernel's (bpf/fragment.h). */
static __noinline enum ptrig_reason pt_flow_finish(struct __sk_buff *skb, struct pt_flow *f, __be32 address,
						   __be16 port, enum ptrig_reason reason) {
	bool wan = f->side == PTRIG_SIDE_WAN;

	f->to = address;
	f->to_port = port;
	if (f->p.first_fragment)
		return PTRIG_FRAGMENT_PASSED;
	if (f->p.ttl <= 1)
		reason = wan ? PTRIG_TTL_EXPIRED_UP : PTRIG_TTL_EXPIRED;
	else if (pt_flow_too_big(skb, f))
		reason = pt_flow_fragments(f) ? PTRIG_FRAGMENT_PASSED : wan ? PTRIG_TOO_BIG_UP : PTRIG_TOO_BIG;
	if (reason == PTRIG_FRAGMENT_PASSED || reason == PTRIG_TTL_EXPIRED || reason == PTRIG_TOO_BIG)
		return reason;
	bool up = reason == PTRIG_TTL_EXPIRED_UP || reason == PTRIG_TOO_BIG_UP;

	if (!pt_rewrite(skb, f->l3, &f->p, f->side, address, port, !up))
		return PTRIG_FAILED;
	return reason;
}

static __always_inline enum ptrig_reason pt_flow_send(struct __sk_buff *skb, struct pt_flow *f, __be32 address,
						      __be16 port, enum ptrig_reason reason) {
	return f->hairpin ? pt_flow_turn(skb, f, address, port, reason) : pt_flow_finish(skb, f, address, port, reason);
}

/* What sends for the machine at the end of this hop, if that is `host` itself; 0: not known. */
static __always_inline __u32 pt_flow_via(const struct pt_hop *hop, __be32 host) {
	if (hop->gateway != host || hop->flags & PTRIG_IFACE_L3)
		return pt_via(hop->oif, NULL);
	return hop->has_mac ? pt_via(hop->oif, hop->dmac) : 0;
}

/* For how long XDP may do without a look: the host's packets keep sessions and leases alive, and what ends with its
 * lease must see that it does; the remote's packets need no more than the idle time's end. In ticks. */
static __always_inline __u32 pt_flow_ticks(const struct pt_flow *f, const struct ptrig_session *lan, __u64 idle_ns,
					   __u64 now) {
	__u64 left = lan->seen_ns + idle_ns - now;

	if (f->side == PTRIG_SIDE_LAN || lan->flags & PTRIG_SESSION_KILL)
		return cfg_tick_hz;
	if (left >= PTRIG_FAST_SECONDS * PT_SECOND_NS)
		return PTRIG_FAST_SECONDS * cfg_tick_hz;
	return left / (PT_SECOND_NS / cfg_tick_hz);
}

/* What was found of this direction holds for `ticks`: let XDP have it, if it can be XDP's. */
static __noinline void pt_flow_tell(struct __sk_buff *skb, struct pt_flow *f, struct ptrig_session *s, __u32 ticks) {
	if (s->state != PTRIG_SESSION_ESTABLISHED || !f->l3 || f->hairpin)
		return;
	if (f->hop.flags & PTRIG_IFACE_XDP && f->hop.has_mac)
		pt_fast_tell(skb, &f->p, f->side, s, &f->hop, ticks);
	else
		pt_fast_leave(s);
}
/* The same for a session that its host's packet has just made. */
static __always_inline void pt_flow_tell_new(struct __sk_buff *skb, struct pt_flow *f) {
	struct ptrig_session_key key = pt_session_key(&f->p, PTRIG_SIDE_LAN);
	struct ptrig_session *lan = bpf_map_lookup_elem(&pt_sessions, &key);

	if (lan)
		pt_flow_tell(skb, f, lan, cfg_tick_hz);
}

/* The host's own packet: the session lives on, and its lease too if the rule says so. */
static __always_inline bool pt_flow_renew(struct __sk_buff *skb, struct pt_flow *f, struct ptrig_session *lan,
					  const struct ptrig_session_key *key, const struct ptrig_rule *rule,
					  struct ptrig_lease *lease, const struct ptrig_config *config, __u64 now) {
	__u64 seen = lan->seen_ns;

	if (!seen)
		return false;
	if ((__s64)(now - seen) > 0 && lan->state != PTRIG_SESSION_CLOSING &&
	    __sync_val_compare_and_swap(&lan->seen_ns, seen, now) == 0)
		return false;
	bool counts = !(f->p.tcp_flags & PT_TCP_NO_GRANT);

	f->asks = lan->flags & PTRIG_SESSION_OWN ? lan->rule : 0;
	if (lease && rule && counts && lease->info.host == f->p.saddr &&
	    (rule->flags & PTRIG_RULE_REFRESH_TRAFFIC ||
	     (!f->hairpin && !f->asks &&
	      pt_trigger_has_rule(f->gen, pt_packet_proto_index(&f->p), bpf_ntohs(f->p.dport), rule->id))))
		pt_lease_touch(lease, lan->lease, now);
	if (!f->hairpin)
		pt_conntrack_claim(skb, key, lan, pt_session_idle_ns(lan, f->p.proto, config));
	return true;
}

/* PTRIG_SESSION_KILL, if the session ends with its lease. */
static __always_inline __u8 pt_flow_kill(const struct ptrig_session *lan, const struct ptrig_rule *rule) {
	if (rule)
		return rule->flags & PTRIG_RULE_KILL ? PTRIG_SESSION_KILL : 0;
	return lan->flags & PTRIG_SESSION_KILL;
}
/* Is an established session that was seen last at `seen` over? */
static __always_inline bool pt_flow_over(const struct ptrig_session *lan, __u64 seen, __u8 proto, bool cut,
					 const struct ptrig_config *config, __u64 now) {
	return !seen || pt_elapsed(now, seen, pt_session_idle_ns(lan, proto, config)) || cut ||
	       !pt_wan_address(lan->oif, lan->addr);
}

/* End an established session and give its tuple back to conntrack. */
static __always_inline void pt_flow_end(struct __sk_buff *skb, const struct ptrig_session_key *key,
					struct ptrig_session *lan, __u64 seen) {
	if (seen && !(lan->flags & PTRIG_SESSION_HAIRPIN))
		pt_conntrack_claim(skb, key, lan, 0);
	pt_established_end(key, lan, seen);
}

/*
 * Once a second, and for SYN, FIN and RST: is the session still to be served, and where to? GO_ON, with
 * f->hop filled and cached; SESSION_ENDED; NO_ROUTE. Global for the verifier's sake.
 */
__noinline int pt_flow_look(struct __sk_buff *skb, struct pt_flow *f, struct ptrig_session *s,
			    const struct ptrig_session_key *arrived) {
	if (!f || !s || !arrived)
		return PTRIG_SESSION_ENDED;
	struct ptrig_session_key own = *arrived, *key = &own; /* kernel 6.1 wants a map's key on the stack */
	struct ptrig_session_key mirror = pt_session_mirror(key, s);
	struct ptrig_session *twin = bpf_map_lookup_elem(&pt_sessions, &mirror);
	const struct ptrig_config *config = pt_config_get(f->gen);
	bool from_lan = f->side == PTRIG_SIDE_LAN;
	__u64 now = bpf_ktime_get_boot_ns();

	if (!twin || !config)
		return PTRIG_SESSION_ENDED;
	struct ptrig_session *lan = from_lan ? s : twin;
	struct ptrig_session *wan = from_lan ? twin : s;
	const struct ptrig_session_key *lan_key = from_lan ? key : &mirror;
	struct ptrig_rule *rule = pt_rule_by_id(f->gen, s->rule);
	struct ptrig_lease *lease = pt_session_lease(key, lan, rule, now);
	__u64 seen = lan->seen_ns;
	__u8 kill = pt_flow_kill(lan, rule);
	bool over = pt_flow_over(lan, seen, f->p.proto, kill && !lease, config, now);

	/* The same ports again for a new connection, before the old one's 10 s are over. A remote's RST may be forged,
	 * and its SYN: the host, which answers, tells. */
	if (lan->state == PTRIG_SESSION_CLOSING && pt_packet_plain_syn(&f->p) &&
	    (from_lan || lan->flags & wan->flags & PTRIG_SESSION_FIN))
		over = true;
	if ((lan->flags & PTRIG_SESSION_KILL) != kill) /* another CPU may be just noting a FIN */
		lan->flags ^= PTRIG_SESSION_KILL;
	if (over) {
		pt_flow_end(skb, lan_key, lan, seen);
		return PTRIG_SESSION_ENDED;
	}
	if (f->p.proto == IPPROTO_TCP)
		pt_session_track(s, lan, wan, f->p.tcp_flags, f->side, now);
	/* The host's packets see to it themselves. */
	if (!from_lan && lan->state == PTRIG_SESSION_CLOSING && !(lan->flags & PTRIG_SESSION_HAIRPIN))
		pt_conntrack_claim(skb, lan_key, lan, PT_CLOSING_NS);
	if (from_lan && !pt_flow_renew(skb, f, lan, lan_key, rule, lease, config, now))
		return PTRIG_SESSION_ENDED;
	if (!pt_flow_route(skb, f, s->addr, s->oif))
		return PTRIG_NO_ROUTE;
	bool moved = f->hop.has_mac && f->hop.gateway == s->addr && s->flags & PTRIG_SESSION_NEXTHOP &&
		     !(s->flags & PTRIG_SESSION_L3) && !pt_mac_equal(f->hop.dmac, s->dmac);

	if (!from_lan && (moved || (lease && lease->info.host == s->addr && pt_flow_stranger(&f->hop, &lease->info)))) {
		if (lease && rule)
			pt_lease_end_now(lease, rule->id, s->lease, PTRIG_HOST_CHANGED, now);
		pt_flow_end(skb, lan_key, lan, lan->seen_ns);
		return PTRIG_SESSION_ENDED;
	}
	__u32 via = from_lan ? 0 : pt_flow_via(&f->hop, s->addr);

	if (via && via != lan->via) {
		lan->via = via;
		pt_fast_leave(lan); /* to XDP it is still the old one */
	}
	if (!from_lan || !f->hairpin) /* the LAN side's oif stays the lease's WAN */
		pt_hop_cache(s, &f->hop);
	wan->seen_ns = lan->seen_ns;
	s->checked = bpf_jiffies64();
	f->ticks = pt_flow_ticks(f, lan, pt_session_idle_ns(lan, f->p.proto, config), now);
	return PT_GO_ON;
}

/* From the WAN, in the name of our own address? */
static __always_inline bool pt_flow_strays(const struct pt_flow *f, const struct ptrig_session *wan) {
	return wan->flags & PTRIG_SESSION_HAIRPIN && !f->hairpin;
}

/* A packet of an established session; GO_ON if there is none (any more). */
static __always_inline enum ptrig_reason pt_flow_established(struct __sk_buff *skb, struct pt_flow *f) {
	struct ptrig_session_key key = pt_session_key(&f->p, f->side);
	__be16 port = f->side == PTRIG_SIDE_WAN ? f->p.dport : f->p.sport;

	if (!pt_port_used(f->side, f->p.proto, bpf_ntohs(port)))
		return PT_GO_ON;
	struct ptrig_session *s = bpf_map_lookup_elem(&pt_sessions, &key);

	if (!s)
		return PT_GO_ON;
	if (f->side == PTRIG_SIDE_LAN && pt_session_forged(skb, f->l3, s->via))
		return PTRIG_SPOOFED;
	if (f->side == PTRIG_SIDE_LAN ? !pt_flow_client(f, &key, s) : pt_flow_strays(f, s))
		return PT_GO_ON;
	if (s->state == PTRIG_SESSION_ESTABLISHED && s->flags & PTRIG_SESSION_NEXTHOP &&
	    !(f->p.tcp_flags & (PT_TCP_SYN | PT_TCP_FIN | PT_TCP_RST)) &&
	    (__u32)bpf_jiffies64() - s->checked < cfg_tick_hz) {
		pt_hop_cached(s, &f->hop);
	} else {
		enum ptrig_reason reason = pt_flow_look(skb, f, s, &key);

		if (reason == PTRIG_SESSION_ENDED) {
			f->ended = true;
			f->hairpin &= f->side == PTRIG_SIDE_WAN;
			return PT_GO_ON;
		}
		if (reason != PT_GO_ON)
			return reason;
		pt_flow_tell(skb, f, s, f->ticks);
	}
	s->packets++;
	s->bytes += f->p.len;
	return pt_flow_send(skb, f, s->addr, s->port, PTRIG_FORWARDED);
}

#endif
