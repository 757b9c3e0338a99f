/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sessions: the two halves of one conversation. Find, insert both or neither, count, end. No packet is touched here,
 * and conntrack is not asked. pt_halfopen holds those whose host has not answered, so a flood of them never costs an
 * established one its place: their LAN half alone, which says all of the other. Conntrack's entry leads to it.
 */
#ifndef PT_SESSION_H
#define PT_SESSION_H

#include "fast.h"
#include "lease.h"

static __always_inline struct ptrig_session_key pt_session_key(const struct pt_pkt *p, __u32 side) {
	struct ptrig_session_key key = {
		.saddr = p->saddr,
		.daddr = p->daddr,
		.sport = p->sport,
		.dport = p->dport,
		.proto = p->proto,
		.side = side,
	};

	return key;
}
/* The key under which a session's packet that leaves by this side would come in there: its answer's. */
static __always_inline struct ptrig_session_key pt_session_answer_key(const struct pt_pkt *p, __u32 side) {
	struct ptrig_session_key key = {
		.saddr = p->daddr,
		.daddr = p->saddr,
		.sport = p->dport,
		.dport = p->sport,
		.proto = p->proto,
		.side = side,
	};

	return key;
}
/* The key of the other direction: what arrives on the other side. */
static __always_inline struct ptrig_session_key pt_session_mirror(const struct ptrig_session_key *key,
								  const struct ptrig_session *s) {
	bool wan = key->side == PTRIG_SIDE_WAN;
	struct ptrig_session_key mirror = {
		.saddr = wan ? s->addr : s->peer,
		.daddr = wan ? s->peer : s->addr,
		.sport = wan ? s->port : s->peer_port,
		.dport = wan ? s->peer_port : s->port,
		.proto = key->proto,
		.side = wan ? PTRIG_SIDE_LAN : PTRIG_SIDE_WAN,
	};

	return mirror;
}

/* Its number; 0: it is being deleted. */
static __always_inline __u64 pt_session_number(const struct ptrig_session *s) {
	return *(volatile __u64 *)&s->id & PTRIG_SESSION_NUMBER;
}

#define PT_MARK_TRIES 8 /* each one that fails is another CPU's that has not */

/* Mark session number `id`, or take a mark back: `half` may be another session's by now, which is left alone. */
static __noinline void pt_session_mark(struct ptrig_session *half, __u64 id, __u64 set, __u64 clear) {
	for (int i = 0; i < PT_MARK_TRIES; i++) {
		__u64 was = *(volatile __u64 *)&half->id, now = (was | set) & ~clear;

		if ((was & PTRIG_SESSION_NUMBER) != id || now == was ||
		    __sync_val_compare_and_swap(&half->id, was, now) == was)
			return;
	}
}

/* How long an answered one lives without its host's packets. */
static __always_inline __u64 pt_session_idle_ns(const struct ptrig_session *s, __u8 proto,
						const struct ptrig_config *config) {
	if (proto != IPPROTO_TCP)
		return config->udp_ns;
	return s->state == PTRIG_SESSION_ESTABLISHED ? config->tcp_established_ns : config->tcp_transitory_ns;
}

/* The lease it came by, whatever has become of it. `lan` is the session's LAN half. */
static __always_inline struct ptrig_lease *pt_session_any_lease(const struct ptrig_session *lan) {
	struct ptrig_lease_key lease = {
		.rule = lan->rule,
		.remote = !(lan->flags & PTRIG_SESSION_CONTACTED) ? 0
			  : lan->flags & PTRIG_SESSION_HAIRPIN    ? lan->addr
								  : lan->peer,
		.wan = lan->addr,
	};

	return bpf_map_lookup_elem(&pt_leases, &lease);
}
/* The same, if that grant still lives. */
static __always_inline struct ptrig_lease *pt_session_lease(const struct ptrig_session *lan,
							    const struct ptrig_rule *rule, __u64 now) {
	struct ptrig_lease *lease = rule ? pt_session_any_lease(lan) : NULL;

	return lease && lease->info.id == lan->lease && pt_lease_live(&lease->info, rule, now) ? lease : NULL;
}

/* What must have sent a host's packet: the interface, and on the LAN itself (not behind a router) the MAC address. */
static __always_inline __u32 pt_via(__u32 ifindex, const __u8 *mac) {
	__u32 via = pt_mix(ifindex, 0);

	if (mac)
		via = pt_mix(via ^ (mac[0] | mac[1] << 8 | mac[2] << 16 | (__u32)mac[3] << 24), mac[4] | mac[5] << 8);
	return via | 1;
}
/* Has another machine, or another interface, sent this in the host's name? */
static __always_inline bool pt_session_forged(struct __sk_buff *skb, __u32 l3, __u32 via) {
	const struct ethhdr *eth = l3 ? pt_packet_eth(skb) : NULL;

	return via && via != pt_via(skb->ifindex, NULL) && (!eth || via != pt_via(skb->ifindex, eth->h_source));
}

#define PT_BIT_TRIES 8

/* The bit follows the count. Who writes it looks at the count again, for another CPU's first or last session may have
 * come between: so the last one that writes it is right. */
static __noinline void pt_port_use_add(__u32 index, __s32 more) {
	__u32 port = index % PTRIG_PORTS, word = PTRIG_PORT_BITS_WORD(index / PTRIG_PORTS % 2, port);
	__u64 side = index < 2 * PTRIG_PORTS ? PTRIG_PORT_WAN_USED : PTRIG_PORT_LAN_USED;
	__u32 *sessions = bpf_map_lookup_elem(&pt_port_use, &index);
	__u64 *used = bpf_map_lookup_elem(&pt_port_bits, &word), bit = side << PTRIG_PORT_BITS_SHIFT(port);

	if (!sessions || !used)
		return;
	__u32 before = __sync_fetch_and_add(sessions, more);
	bool there = before + more;

	if (there == !!before)
		return;
	for (int i = 0; i < PT_BIT_TRIES; i++) {
		if (there)
			__sync_fetch_and_or(used, bit);
		else
			__sync_fetch_and_and(used, ~bit);
		bool now = __sync_fetch_and_add(sessions, 0) != 0;

		if (now == there)
			break;
		there = now;
	}
}
static __always_inline void pt_ports_count(const struct ptrig_session_key *lan_key, const struct ptrig_session *lan,
					   __s32 more) {
	__u32 proto = lan_key->proto == IPPROTO_TCP ? PTRIG_PROTO_INDEX_TCP : PTRIG_PROTO_INDEX_UDP;

	pt_port_use_add(PTRIG_USE_INDEX(PTRIG_SIDE_LAN, proto, bpf_ntohs(lan_key->sport)), more);
	pt_port_use_add(PTRIG_USE_INDEX(PTRIG_SIDE_WAN, proto, bpf_ntohs(lan->port)), more);
}

/* Whom a session is counted for besides its lease: its host; in a hairpin the client, who began it, so that one client
 * does not take all the places of the others. */
static __always_inline __be32 pt_session_payer(const struct ptrig_session_key *lan_key,
					       const struct ptrig_session *lan) {
	return lan->flags & PTRIG_SESSION_HAIRPIN ? lan->peer : lan_key->saddr;
}

/* Take back what a session was counted for. */
static __always_inline void pt_session_uncount(__be32 payer, const struct ptrig_session *lan, __u64 packets,
					       __u64 bytes) {
	struct ptrig_lease *lease = pt_session_any_lease(lan);

	pt_host_sub_session(payer);
	if (!lease || pt_lease_count(lease, lan->lease, -1, 0) != PT_GO_ON)
		return;
	__sync_fetch_and_add(&lease->packets, packets);
	__sync_fetch_and_add(&lease->bytes, bytes);
}

/* To end session number `id` is the one caller's who gets more than 0: its number and marks; `lan` stays this session
 * until it deletes it. A number that was read just after the element had become another session's is that one's: it is
 * given back. */
static __always_inline __u64 pt_session_claim(void *table, const struct ptrig_session_key *key,
					      struct ptrig_session *lan, __u64 id) {
	__u64 was = *(volatile __u64 *)&lan->id;

	if (!id || (was & PTRIG_SESSION_NUMBER) != id || __sync_val_compare_and_swap(&lan->id, was, 0) != was)
		return 0;
	if (pt_stands(table, key, lan))
		return was;
	__sync_lock_test_and_set(&lan->id, was);
	return 0;
}
/* What the claimant does when conntrack's entry is gone. */
static __noinline void pt_established_delete(const struct ptrig_session_key *key, struct ptrig_session *lan) {
	struct ptrig_session_key mirror = pt_session_mirror(key, lan);
	struct ptrig_session *wan = bpf_map_lookup_elem(&pt_sessions, &mirror);
	struct ptrig_usage *usage = pt_usage_get();

	if (usage)
		__sync_fetch_and_add(&usage->sessions, -1);
	pt_fast_end(lan);
	if (wan)
		pt_fast_end(wan);
	pt_session_uncount(pt_session_payer(key, lan), lan, lan->packets + (wan ? wan->packets : 0),
			   lan->bytes + (wan ? wan->bytes : 0));
	pt_ports_count(key, lan, -1);
	bpf_map_delete_elem(&pt_sessions, &mirror);
	bpf_map_delete_elem(&pt_sessions, key);
}
static __noinline void pt_halfopen_delete(const struct ptrig_session_key *key, struct ptrig_session *lan) {
	__be32 payer = pt_session_payer(key, lan);

	pt_halfopen_release(payer);
	pt_session_uncount(payer, lan, lan->packets, lan->bytes);
	pt_ports_count(key, lan, -1);
	bpf_map_delete_elem(&pt_halfopen, key);
}

static __always_inline struct ptrig_pair *pt_session_scratch(void) {
	struct ptrig_scratch *scratch = bpf_map_lookup_elem(&pt_scratch, &pt_zero);

	return scratch ? &scratch->pair : NULL;
}
static __always_inline __u64 pt_session_new_id(void) {
	struct ptrig_usage *usage = pt_usage_get();

	return usage ? __sync_fetch_and_add(&usage->next_session, 1) + 1 : 1;
}

/* The other half, which the LAN half and its key say. */
static __always_inline void pt_session_wan_half(const struct ptrig_session_key *lan_key,
						const struct ptrig_session *lan, struct ptrig_session *wan) {
	*wan = *lan;
	wan->addr = lan_key->saddr;
	wan->port = lan_key->sport;
	wan->peer = lan_key->daddr;
	wan->peer_port = lan_key->dport;
	wan->via = 0;
}

/* Both halves or neither; 0 or a negative errno. `key` is the LAN half's. */
static __noinline int pt_established_insert(const struct ptrig_session_key *key, const struct ptrig_pair *pair) {
	struct ptrig_session_key mirror = pt_session_mirror(key, &pair->lan);
	struct ptrig_usage *usage = pt_usage_get();
	int err = bpf_map_update_elem(&pt_sessions, &mirror, &pair->wan, BPF_NOEXIST);

	if (err)
		return err;
	err = bpf_map_update_elem(&pt_sessions, key, &pair->lan, BPF_NOEXIST);
	if (err) {
		bpf_map_delete_elem(&pt_sessions, &mirror);
		return err;
	}
	pt_ports_count(key, &pair->lan, 1);
	if (usage)
		__sync_fetch_and_add(&usage->sessions, 1);
	return 0;
}

static __noinline int pt_halfopen_insert(const struct ptrig_session_key *key, const struct ptrig_session *lan,
					 const struct ptrig_config *config) {
	__be32 payer = pt_session_payer(key, lan);

	if (!pt_halfopen_reserve(payer, config))
		return -1;
	int err = bpf_map_update_elem(&pt_halfopen, key, lan, BPF_NOEXIST);

	if (err)
		pt_halfopen_release(payer);
	else
		pt_ports_count(key, lan, 1);
	return err;
}

/* Count one more session for grant `id` of its lease and its payer, within the limits; GO_ON if it may be. */
static __noinline enum ptrig_reason pt_session_count(struct ptrig_lease *lease, __u32 id, __u32 limit,
						     const struct ptrig_config *config, __be32 payer) {
	if (!lease || !config)
		return PTRIG_SESSION_LIMIT;
	enum ptrig_reason reason = pt_lease_count(lease, id, 1, limit);

	if (reason != PT_GO_ON)
		return reason;
	reason = PTRIG_HOST_SESSIONS;
	if (pt_host_add(payer, 0, PT_HOST_SESSIONS, config->sessions_per_host)) {
		if (pt_lease_token(lease, config->new_sessions_per_second, bpf_ktime_get_boot_ns()))
			return PT_GO_ON;
		pt_host_sub_session(payer);
		reason = PTRIG_RATE_LIMITED;
	}
	pt_lease_count(lease, id, -1, 0);
	return reason;
}

/* Has the session's WAN address gone? */
static __always_inline bool pt_session_homeless(const struct ptrig_session *lan) {
	return !(lan->flags & PTRIG_SESSION_ROUTED) && !pt_wan_address(lan->oif, lan->addr);
}
/* Is an established session, seen last at `seen`, over? `lease` is its live lease, if it has one. */
static __always_inline bool pt_established_over(const struct ptrig_session *lan, __u64 seen, __u8 proto,
						const struct ptrig_lease *lease, const struct ptrig_rule *rule,
						const struct ptrig_config *config, __u64 now) {
	bool kill = rule ? rule->flags & PTRIG_RULE_KILL : lan->flags & PTRIG_SESSION_KILL;

	return lan->id & PTRIG_SESSION_OVER || pt_elapsed(now, seen, pt_session_idle_ns(lan, proto, config)) ||
	       (kill && !lease) || pt_session_homeless(lan);
}
/* They end with their lease, after `halfopen` counted from the first packet, and with their WAN address. */
static __always_inline bool pt_halfopen_over(const struct ptrig_session *lan, __u64 seen, __be32 host,
					     const struct ptrig_lease *lease, const struct ptrig_config *config,
					     __u64 now) {
	return lan->id & PTRIG_SESSION_OVER || !lease || lease->info.host != host ||
	       pt_elapsed(now, seen, config->halfopen_ns) || pt_session_homeless(lan);
}

#endif
