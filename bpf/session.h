/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sessions: the pair of entries of one conversation. Find, insert both or neither, renew, end. No packet
 * is touched here. pt_halfopen holds those whose host has not answered, so a flood of them never costs
 * an established one its place.
 */
#ifndef PT_SESSION_H
#define PT_SESSION_H

#include "client.h"
#include "fast.h"
#include "lease.h"

#define PT_CLOSING_NS (10 * PT_SECOND_NS)

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
/* The key of the other direction: what arrives on the other side. */
static __always_inline struct ptrig_session_key pt_session_mirror(const struct ptrig_session_key *key,
								  const struct ptrig_session *s) {
	bool wan = key->side == PTRIG_SIDE_WAN;
	struct ptrig_session_key mirror = {
		.saddr = wan ? s->addr : key->daddr,
		.daddr = wan ? key->saddr : s->addr,
		.sport = wan ? s->port : key->dport,
		.dport = wan ? key->sport : s->port,
		.proto = key->proto,
		.side = wan ? PTRIG_SIDE_LAN : PTRIG_SIDE_WAN,
	};

	return mirror;
}
static __always_inline __be32 pt_session_remote(const struct ptrig_session_key *key) {
	return key->side == PTRIG_SIDE_WAN ? key->saddr : key->daddr;
}

static __always_inline __u64 pt_session_idle_ns(const struct ptrig_session *s, __u8 proto,
						const struct ptrig_config *config) {
	switch (s->state) {
	case PTRIG_SESSION_HALFOPEN:
		return config->halfopen_ns;
	case PTRIG_SESSION_TRANSITORY:
		return config->tcp_transitory_ns;
	case PTRIG_SESSION_CLOSING:
		return PT_CLOSING_NS;
	default:
		return proto == IPPROTO_TCP ? config->tcp_established_ns : config->udp_ns;
	}
}

/* The lease it came by, whatever has become of it. */
static __always_inline struct ptrig_lease *pt_session_any_lease(const struct ptrig_session_key *key,
								const struct ptrig_session *s) {
	struct ptrig_lease_key lease = {
		.rule = s->rule,
		.remote = s->flags & PTRIG_SESSION_CONTACTED ? pt_session_remote(key) : 0,
	};

	return bpf_map_lookup_elem(&pt_leases, &lease);
}
/* The same, if that grant still lives. */
static __always_inline struct ptrig_lease *pt_session_lease(const struct ptrig_session_key *key,
							    const struct ptrig_session *s,
							    const struct ptrig_rule *rule, __u64 now) {
	struct ptrig_lease *lease = rule ? pt_session_any_lease(key, s) : NULL;

	return lease && lease->info.id == s->lease && pt_lease_live(&lease->info, rule, now) ? lease : NULL;
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

/* The bit follows the count: who clears it looks again, so that a session that came meanwhile has it. */
static __always_inline void pt_port_count(__u32 side, __u32 proto, __be16 port, __s32 more) {
	__u32 index = PTRIG_USE_INDEX(side, proto, bpf_ntohs(port)), word = index / 64;
	__u32 *sessions = bpf_map_lookup_elem(&pt_port_use, &index);
	__u64 *used = bpf_map_lookup_elem(&pt_port_bits, &word), bit = 1ULL << (index % 64);

	if (!sessions || !used)
		return;
	__u32 before = __sync_fetch_and_add(sessions, more);

	if (more < 0 && before == 1) {
		__sync_fetch_and_and(used, ~bit);
		before = __sync_fetch_and_add(sessions, 0) ? 0 : 1;
	}
	if (!before)
		__sync_fetch_and_or(used, bit);
}
static __always_inline void pt_ports_count(const struct ptrig_session_key *lan_key, const struct ptrig_session *lan,
					   __s32 more) {
	__u32 proto = lan_key->proto == IPPROTO_TCP ? PTRIG_PROTO_INDEX_TCP : PTRIG_PROTO_INDEX_UDP;

	pt_port_count(PTRIG_SIDE_LAN, proto, lan_key->sport, more);
	pt_port_count(PTRIG_SIDE_WAN, proto, lan->port, more);
}

/* Take back what a session was counted for. `key` is the LAN side's. */
static __always_inline void pt_session_uncount(const struct ptrig_session_key *key, const struct ptrig_session *lan,
					       __u64 packets, __u64 bytes) {
	struct ptrig_lease *lease = pt_session_any_lease(key, lan);

	pt_host_sub(key->saddr, PT_HOST_SESSIONS);
	if (!lease || lease->info.id != lan->lease)
		return;
	__sync_fetch_and_add(&lease->sessions, -1);
	__sync_fetch_and_add(&lease->packets, packets);
	__sync_fetch_and_add(&lease->bytes, bytes);
}

/*
 * End a session: `lan` and `key` are its LAN side. True for the one caller that ended it; nobody else
 * deletes, and the tuple is not given out before both entries are gone.
 */
static __always_inline bool pt_session_end(void *table, const struct ptrig_session_key *key, struct ptrig_session *lan,
					   __u64 seen_ns) {
	struct ptrig_session_key mirror = pt_session_mirror(key, lan);

	if (!seen_ns || __sync_val_compare_and_swap(&lan->seen_ns, seen_ns, 0) != seen_ns)
		return false;
	struct ptrig_session *wan = bpf_map_lookup_elem(table, &mirror);

	pt_fast_end(lan);
	if (wan)
		pt_fast_end(wan);
	struct ptrig_usage *usage = pt_usage_get();

	if (table == &pt_halfopen)
		pt_halfopen_release(key->saddr);
	else if (usage)
		__sync_fetch_and_add(&usage->sessions, -1);
	pt_session_uncount(key, lan, lan->packets + (wan ? wan->packets : 0), lan->bytes + (wan ? wan->bytes : 0));
	pt_ports_count(key, lan, -1);
	if (lan->flags & PTRIG_SESSION_HAIRPIN)
		pt_client_forget(key, lan);
	bpf_map_delete_elem(table, &mirror);
	bpf_map_delete_elem(table, key);
	return true;
}
static __noinline bool pt_established_end(const struct ptrig_session_key *key, struct ptrig_session *lan, __u64 seen) {
	return pt_session_end(&pt_sessions, key, lan, seen);
}
static __noinline bool pt_halfopen_end(const struct ptrig_session_key *key, struct ptrig_session *lan, __u64 seen) {
	return pt_session_end(&pt_halfopen, key, lan, seen);
}

/* Both entries or neither; 0 or a negative errno. `key` and `lan` are the LAN side's. */
static __always_inline int pt_session_insert(void *table, const struct ptrig_session_key *key,
					     const struct ptrig_session *lan, const struct ptrig_session *wan) {
	struct ptrig_session_key mirror = pt_session_mirror(key, lan);
	int err = bpf_map_update_elem(table, &mirror, wan, BPF_NOEXIST);

	if (err)
		return err;
	err = bpf_map_update_elem(table, key, lan, BPF_NOEXIST);
	if (err) {
		bpf_map_delete_elem(table, &mirror);
		return err;
	}
	pt_ports_count(key, lan, 1);
	return 0;
}
static __noinline int pt_established_insert(const struct ptrig_session_key *key, const struct ptrig_session *lan,
					    const struct ptrig_session *wan) {
	int err = pt_session_insert(&pt_sessions, key, lan, wan);
	struct ptrig_usage *usage = pt_usage_get();

	if (!err && usage)
		__sync_fetch_and_add(&usage->sessions, 1);
	return err;
}
static __noinline int pt_halfopen_insert(const struct ptrig_session_key *key, const struct ptrig_session *lan,
					 const struct ptrig_session *wan) {
	if (!pt_halfopen_reserve(key->saddr))
		return -1;
	int err = pt_session_insert(&pt_halfopen, key, lan, wan);

	if (err)
		pt_halfopen_release(key->saddr);
	return err;
}

/* Count one more session for its lease and host, within the limits; GO_ON if it may be. */
static __always_inline enum ptrig_reason pt_session_count(struct ptrig_lease *lease, const struct ptrig_rule *rule,
							  const struct ptrig_config *config, __be32 host, __u64 now) {
	__u32 before = __sync_fetch_and_add(&lease->sessions, 1);
	enum ptrig_reason reason = PTRIG_SESSION_LIMIT;

	/* Signed: a takeover that comes between sets the count to 0, and what was added before is taken back after. */
	if (!rule->session_limit || (__s32)before < (__s32)rule->session_limit) {
		reason = PTRIG_HOST_SESSIONS;
		if (pt_host_add(host, PT_HOST_SESSIONS, config->sessions_per_host)) {
			if (pt_lease_token(lease, config->new_sessions_per_second, now))
				return PT_GO_ON;
			pt_host_sub(host, PT_HOST_SESSIONS);
			reason = PTRIG_RATE_LIMITED;
		}
	}
	__sync_fetch_and_add(&lease->sessions, -1);
	return reason;
}

/* Where the TCP connection stands after this packet; seen_ns moves only when CLOSING begins, so that
 * no remote can hold it there. */
static __always_inline void pt_session_track(struct ptrig_session *s, struct ptrig_session *lan,
					     struct ptrig_session *wan, __u8 flags, __u32 side, __u64 now) {
	__u8 state = lan->state;

	if (flags & PT_TCP_FIN) {
		s->flags |= PTRIG_SESSION_FIN;
		__sync_fetch_and_add(&s->fast, 0); /* a barrier: of two FINs at once, one sees the other */
	}
	bool fins = lan->flags & wan->flags & PTRIG_SESSION_FIN;

	if (flags & PT_TCP_RST || fins) {
		if (state != PTRIG_SESSION_CLOSING) {
			__u64 seen = lan->seen_ns;

			state = PTRIG_SESSION_CLOSING;
			if (seen)
				__sync_val_compare_and_swap(&lan->seen_ns, seen, now);
		}
	} else if (side == PTRIG_SIDE_LAN && !(flags & PT_TCP_SYN)) {
		if (state != PTRIG_SESSION_ESTABLISHED)
			wan->checked -= cfg_tick_hz; /* it is XDP's from its next packet on, which TC looks at */
		state = PTRIG_SESSION_ESTABLISHED;   /* also after an RST that nobody meant */
	}
	lan->state = state;
	wan->state = state;
	if (state == PTRIG_SESSION_CLOSING) {
		pt_fast_leave(lan);
		pt_fast_leave(wan);
	}
}

#endif
