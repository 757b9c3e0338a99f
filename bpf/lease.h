/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Leases: find, fill, count, renew, end, forget; claim.h says who gets one. No packet is touched here. A lease changes
 * hands only under its lock; when it is over follows from its stamps and the rule as it is now, so a changed timeout
 * holds for living leases at once.
 */
#ifndef PT_LEASE_H
#define PT_LEASE_H

#include "event.h"
#include "host.h"

/* A trigger packet that has left by the WAN. No pointers: global functions take it as plain memory. */
struct pt_trigger {
	struct ptrig_cand c;
	__be32 wan;
	__u32 wan_ifindex;
	__u64 now;
	__u32 answered;    /* the remote has answered: `confirm` is satisfied */
	__u32 routed;      /* wan is an address that is only routed here */
	__u32 established; /* conntrack knows the connection as established */
	__be16 wan_port;   /* as the remote sees it */
	__u32 leases_per_host;
};

static __always_inline bool pt_elapsed(__u64 now, __u64 since, __u64 time) {
	return (__s64)(now - since) >= (__s64)time;
}
/* How long it lives without a refresh. While a connection holds it, the daemon asks conntrack and refreshes it in time;
 * it looks once in a few seconds. */
static __always_inline __u64 pt_lease_timeout(const struct ptrig_rule *rule, bool held) {
	return held ? rule->held_timeout_ns : rule->timeout_ns;
}
/* Why a lease that is marked live is over; PT_GO_ON if it is not. */
static __always_inline enum ptrig_reason pt_lease_over_held(const struct ptrig_lease_info *info,
							    const struct ptrig_rule *rule, __u64 now, bool held) {
	if (rule->max_lifetime_ns && pt_elapsed(now, info->granted_ns, rule->max_lifetime_ns))
		return PTRIG_LIFETIME;
	if (pt_elapsed(now, info->refreshed_ns, pt_lease_timeout(rule, held)))
		return PTRIG_EXPIRED;
	return PT_GO_ON;
}
static __always_inline enum ptrig_reason pt_lease_over(const struct ptrig_lease_info *info,
						       const struct ptrig_rule *rule, __u64 now) {
	return pt_lease_over_held(info, rule, now, info->conns);
}
static __always_inline bool pt_lease_live(const struct ptrig_lease_info *info, const struct ptrig_rule *rule,
					  __u64 now) {
	return info->state == PTRIG_LEASE_LIVE && pt_lease_over(info, rule, now) == PT_GO_ON;
}
/* When it ended, for a lease that is over. */
static __always_inline __u64 pt_lease_end_held(const struct ptrig_lease_info *info, const struct ptrig_rule *rule,
					       bool held) {
	__u64 idle = info->refreshed_ns + pt_lease_timeout(rule, held);
	__u64 life = info->granted_ns + rule->max_lifetime_ns;

	if (info->state != PTRIG_LEASE_LIVE)
		return info->ended_ns;
	return rule->max_lifetime_ns && life < idle ? life : idle;
}
static __always_inline __u64 pt_lease_end(const struct ptrig_lease_info *info, const struct ptrig_rule *rule) {
	return pt_lease_end_held(info, rule, info->conns);
}
static __always_inline struct ptrig_lease *pt_lease_find(const struct ptrig_rule *rule, __be32 remote, __be32 wan) {
	struct ptrig_lease_key key = pt_rule_lease_key(rule, remote, wan);

	return bpf_map_lookup_elem(&pt_leases, &key);
}

/* The number of the grant that `lease`, found under this key, holds now; false if the element has become another key's
 * lease. As long as that number stands there, it has not. */
static __always_inline bool pt_lease_grant(struct ptrig_lease *lease, const struct ptrig_rule *rule, __be32 remote,
					   __be32 wan, __u32 *id) {
	*id = *(volatile __u32 *)&lease->info.id;
	barrier();
	struct ptrig_lease_key key = pt_rule_lease_key(rule, remote, wan);

	return pt_stands(&pt_leases, &key, lease);
}

static __always_inline bool pt_mac_equal(const __u8 *a, const __u8 *b) {
	/* without branches: six of them would be 64 paths to the verifier */
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5]));
}

/* Held for some tens of nanoseconds; who does not get it in this many tries does without. */
#define PT_LOCK_TRIES 64

static __always_inline bool pt_lease_lock(struct ptrig_lease *lease) {
	for (int i = 0; i < PT_LOCK_TRIES; i++) {
		if (!__sync_val_compare_and_swap(&lease->lock, 0, 1))
			return true;
	}
	return false;
}
static __always_inline void pt_lease_unlock(struct ptrig_lease *lease) {
	__sync_lock_test_and_set(&lease->lock, 0);
}

/* The way by which its host sends now: an interface that came back under another index, the same address by another
 * WAN. */
static __always_inline void pt_lease_follow(struct ptrig_lease_info *info, const struct pt_trigger *t) {
	info->wan_ifindex = t->wan_ifindex;
	info->lan_ifindex = t->c.lan_ifindex;
	if (t->routed)
		info->flags |= PTRIG_LEASE_ROUTED;
	else
		info->flags &= ~PTRIG_LEASE_ROUTED;
}

#define PT_COUNT_TRIES 64 /* each one that fails is another CPU's that has not */

union pt_lease_counted {
	struct {
		__u32 sessions;
		__u32 grant;
	};
	__u64 both;
};
/* One more session of grant `id`, within the limit (0: none), or one less. The lease may be granted anew at any moment:
 * then it is not counted. */
static __always_inline enum ptrig_reason pt_lease_count(struct ptrig_lease *lease, __u32 id, __s32 more, __u32 limit) {
	__u64 *both = (__u64 *)&lease->sessions;

	for (int i = 0; i < PT_COUNT_TRIES; i++) {
		union pt_lease_counted was = {.both = *(volatile __u64 *)both}, now = was;

		if (was.grant != id)
			return PTRIG_NO_LEASE;
		if (limit && (__s32)was.sessions >= (__s32)limit)
			return PTRIG_SESSION_LIMIT;
		now.sessions += more;
		if (__sync_val_compare_and_swap(both, was.both, now.both) == was.both)
			return PT_GO_ON;
	}
	return PTRIG_NO_LEASE;
}
/* Grant `id` has no sessions yet. */
static __always_inline void pt_lease_count_anew(struct ptrig_lease *lease, __u32 id) {
	union pt_lease_counted now = {.grant = id};

	__sync_lock_test_and_set((__u64 *)&lease->sessions, now.both);
}

/* Whose lease it is and since when; the caller holds the lock or the only reference. */
static __always_inline void pt_lease_fill(struct ptrig_lease_info *info, const struct pt_trigger *t, __u32 id) {
	const struct ptrig_cand *c = &t->c;

	info->id = id;
	info->state = PTRIG_LEASE_LIVE;
	info->flags = c->flags & PTRIG_CAND_ONLINK && c->flags & PTRIG_CAND_MAC ? PTRIG_LEASE_ONLINK : 0;
	info->end_reason = 0;
	info->granted_ns = t->now;
	info->refreshed_ns = t->now;
	info->ended_ns = 0;
	info->host = c->host;
	info->wan = t->wan;
	pt_lease_follow(info, t);
	info->trigger_proto = c->proto;
	info->trigger_remote = c->remote;
	info->trigger_port = c->remote_port;
	info->conns = 0;
	__builtin_memcpy(info->mac, c->mac, sizeof(info->mac));
}
static __always_inline void pt_lease_renew(struct ptrig_lease_info *info, __u64 now, __u32 tick) {
	if ((__s64)(now - info->refreshed_ns) > 0)
		info->refreshed_ns = now;
	info->refreshed_tick = tick;
}

static __always_inline __u32 pt_lease_new_id(void) {
	struct ptrig_usage *usage = pt_usage_get();
	__u32 id = usage ? __sync_fetch_and_add(&usage->next_lease, 1) + 1 : 1;

	return id ? id : 1;
}

/* `reason`: REFRESHED, or what has changed. */
static __always_inline void pt_lease_tell(enum ptrig_reason reason, __u32 rule, struct ptrig_lease *lease,
					  __be32 old_host, __u64 now) {
	enum ptrig_reason due = pt_event_due(lease, reason, rule, old_host, now);

	if (due != PT_GO_ON)
		pt_event_lease(due, rule, lease, reason == PTRIG_REFRESHED ? lease->untold_from : old_host, now);
}

/* The rule's live lease on this WAN address, or NULL. It may change hands at any moment, and the element may become
 * another rule's lease: so `info` is a copy of one grant of this very lease, and all that is decided is decided by it.
 */
static __noinline struct ptrig_lease *pt_lease_get_live(const struct ptrig_rule *rule, __be32 remote, __be32 wan,
							__u64 now, struct ptrig_lease_info *info) {
	struct ptrig_lease *lease = pt_lease_find(rule, remote, wan);

	if (!lease)
		return NULL;
	__u32 id = *(volatile __u32 *)&lease->info.id;

	barrier();
	*info = lease->info;
	barrier();
	if (pt_lease_find(rule, remote, wan) != lease || *(volatile __u32 *)&lease->info.id != id || info->id != id ||
	    *(volatile __be32 *)&lease->info.host != info->host)
		return NULL;
	return pt_lease_live(info, rule, now) ? lease : NULL;
}
/* Where such a copy is kept. */
static __always_inline struct ptrig_lease_info *pt_lease_scratch(void) {
	struct ptrig_scratch *scratch = bpf_map_lookup_elem(&pt_scratch, &pt_zero);

	if (!scratch)
		return NULL;
	barrier_var(scratch); /* the verifier wants the check before the sum */
	return &scratch->lease.info;
}

/* The host's own packet keeps the lease alive. */
static __always_inline void pt_lease_touch(struct ptrig_lease *lease, __u32 id, __u64 now) {
	__u32 tick = bpf_jiffies64();

	if (!pt_lease_lock(lease))
		return;
	if (lease->info.id == id && lease->info.state == PTRIG_LEASE_LIVE)
		pt_lease_renew(&lease->info, now, tick);
	pt_lease_unlock(lease);
}

/* End a lease that is live; id 0: whichever grant. False if it was not live. */
static __noinline bool pt_lease_end_now(struct ptrig_lease *lease, __u32 rule, __u32 id, enum ptrig_reason reason,
					__u64 ended_ns) {
	bool ended = false;
	__be32 host = 0;

	if (!pt_lease_lock(lease))
		return false;
	if (lease->info.state == PTRIG_LEASE_LIVE && (!id || lease->info.id == id)) {
		lease->info.state = PTRIG_LEASE_ENDED;
		lease->info.ended_ns = ended_ns;
		lease->info.end_reason = reason;
		host = lease->info.host;
		ended = true;
	}
	pt_lease_unlock(lease);
	if (!ended)
		return false;
	pt_host_sub_lease(host, rule);
	pt_lease_tell(reason, rule, lease, host, bpf_ktime_get_boot_ns());
	return true;
}

/* Is more than half of the table in use? Then a lease that has ended goes at once, cooldown or not: a host's quota does
 * not count them, and one host can end as many as it opens connections. */
static __always_inline bool pt_lease_scarce(void) {
	struct ptrig_usage *usage = pt_usage_get();

	return usage && usage->leases > cfg_leases_max / 2;
}

/* Delete the lease that stands under this key if it has ended and was kept for long enough. It stays locked: its
 * element may be another lease at once, whose lock nobody may hold yet. */
static __always_inline void pt_lease_forget(struct ptrig_lease *lease, const struct ptrig_lease_key *key, __u64 keep,
					    __u64 now) {
	struct ptrig_lease_info *info = &lease->info;
	struct ptrig_usage *usage = pt_usage_get();

	if (info->state != PTRIG_LEASE_ENDED || !pt_lease_lock(lease))
		return;
	if (info->state == PTRIG_LEASE_ENDED && pt_elapsed(now, info->ended_ns, keep) &&
	    pt_stands(&pt_leases, key, lease)) {
		info->state = PTRIG_LEASE_DEAD;
		if (!bpf_map_delete_elem(&pt_leases, key)) {
			if (usage)
				__sync_fetch_and_add(&usage->leases, -1);
			return;
		}
		info->state = PTRIG_LEASE_ENDED;
	}
	pt_lease_unlock(lease);
}

/* What has ended under this key goes at once if there is need. A function of its own, which has its own stack. */
static __noinline void pt_lease_make_room(const struct ptrig_rule *rule, __be32 remote, __be32 wan, __u64 now) {
	struct ptrig_lease_key key = pt_rule_lease_key(rule, remote, wan);
	struct ptrig_lease *lease = pt_lease_scarce() ? bpf_map_lookup_elem(&pt_leases, &key) : NULL;

	if (lease)
		pt_lease_forget(lease, &key, 0, now);
}

/* Take a token for one new session. The bucket holds a second's worth, and is a time: what has passed since is what is
 * in it. Without the lease's lock, for who does not get that one would refuse a session. per_second is at most
 * 4,000,000. */
static __always_inline bool pt_lease_token(struct ptrig_lease *lease, __u32 per_second, __u64 now) {
	if (!per_second)
		return true;
	__u64 cost = PT_SECOND_NS / per_second;

	for (int i = 0; i < PT_COUNT_TRIES; i++) {
		__u64 was = *(volatile __u64 *)&lease->tokens_ns, empty = was;

		if ((__s64)(now - was) > (__s64)PT_SECOND_NS)
			empty = now - PT_SECOND_NS;
		if ((__s64)(now - empty) < (__s64)cost)
			return false;
		if (__sync_val_compare_and_swap(&lease->tokens_ns, was, empty + cost) == was)
			return true;
	}
	return false;
}

#endif
