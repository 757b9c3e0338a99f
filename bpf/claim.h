/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * May this host have the lease? What a trigger makes of a rule's lease: granted, refreshed, moved, taken over, or
 * refused. Decided under the lease's lock, told after it.
 */
#ifndef PT_CLAIM_H
#define PT_CLAIM_H

#include "lease.h"

enum pt_claimant {
	PT_CLAIM_SAME,    /* the lease's host */
	PT_CLAIM_MOVED,   /* the lease's host (MAC) under a new address */
	PT_CLAIM_CHANGED, /* another machine under the lease's host's address */
	PT_CLAIM_OTHER,
};
static __always_inline enum pt_claimant pt_lease_claimant(const struct ptrig_lease_info *info,
							  const struct ptrig_cand *c) {
	bool known = info->flags & PTRIG_LEASE_ONLINK && c->flags & PTRIG_CAND_MAC && c->flags & PTRIG_CAND_ONLINK;
	bool same_mac = known && pt_mac_equal(info->mac, c->mac);

	if (info->host == c->host)
		return !known || same_mac ? PT_CLAIM_SAME : PT_CLAIM_CHANGED;
	/* A MAC address says who somebody is on one LAN only, and one frame alone proves nothing. */
	return same_mac && info->lan_ifindex == c->lan_ifindex && c->flags & PTRIG_CAND_KNOWN ? PT_CLAIM_MOVED
											      : PT_CLAIM_OTHER;
}

/* The first lease under this key. BUSY: somebody else was quicker, look again. */
static __noinline enum ptrig_reason pt_lease_insert(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	struct ptrig_lease_key key = pt_rule_lease_key(rule, t->c.remote, t->wan);
	struct ptrig_scratch *scratch = bpf_map_lookup_elem(&pt_scratch, &pt_zero);
	struct ptrig_usage *usage = pt_usage_get();

	if (!usage || !scratch)
		return PTRIG_LEASES_FULL;
	struct ptrig_lease *lease = &scratch->lease;

	__builtin_memset(lease, 0, sizeof(*lease));
	if (!pt_host_add_lease(t->c.host, rule, t->leases_per_host))
		return PTRIG_HOST_LEASES;
	pt_lease_fill(&lease->info, t, pt_lease_new_id());
	lease->grant = lease->info.id;
	lease->info.refreshed_tick = bpf_jiffies64();
	lease->tokens_ns = t->now - PT_SECOND_NS;
	pt_event_insert(lease, rule->id, t->now);
	int err = bpf_map_update_elem(&pt_leases, &key, lease, BPF_NOEXIST);

	if (err) {
		pt_host_sub_lease(t->c.host, rule->id);
		return err == -PT_EEXIST ? PTRIG_BUSY : PTRIG_LEASES_FULL;
	}
	__sync_fetch_and_add(&usage->leases, 1);
	if (!lease->untold)
		pt_event_lease(PTRIG_GRANTED, rule->id, lease, 0, t->now);
	return PTRIG_GRANTED;
}

/* What a trigger makes of a lease that is there; decided under the lock, told after it. */
struct pt_decision {
	enum ptrig_reason reason;
	enum ptrig_reason ended; /* why the lease before this one ended, PT_GO_ON if none did */
	__be32 old_host;
	bool old_counted; /* old_host's lease was still counted */
};

static __always_inline bool pt_lease_yields(const struct ptrig_rule *rule, const struct ptrig_lease_info *info,
					    __u64 now) {
	return rule->flags & PTRIG_RULE_TAKEOVER ||
	       (rule->yield_after_ns && pt_elapsed(now, info->refreshed_ns, rule->yield_after_ns));
}

/* Under the lock: no calls. `may_grant`: a new grant is allowed (quota reserved, confirmed). */
static __always_inline void pt_lease_decide(struct ptrig_lease *lease, const struct ptrig_rule *rule,
					    const struct pt_trigger *t, bool may_grant, __u32 id, __u32 tick,
					    struct pt_decision *d) {
	struct ptrig_lease_info *info = &lease->info;
	enum pt_claimant who = pt_lease_claimant(info, &t->c);
	bool live = pt_lease_live(info, rule, t->now);

	d->old_host = info->host;
	d->old_counted = info->state == PTRIG_LEASE_LIVE;
	d->ended = PT_GO_ON;
	if (info->state == PTRIG_LEASE_DEAD) {
		d->reason = PTRIG_BUSY;
		return;
	}
	if (live && who == PT_CLAIM_SAME) {
		pt_lease_follow(info, t);
		pt_lease_renew(info, t->now, tick);
		d->reason = PTRIG_REFRESHED;
		return;
	}
	if (live && who == PT_CLAIM_MOVED) {
		d->reason = PTRIG_MOVED;
		if (!may_grant)
			return;
		info->host = t->c.host;
		pt_lease_follow(info, t);
		pt_lease_renew(info, t->now, tick);
		return;
	}
	if (live && who == PT_CLAIM_OTHER && !pt_lease_yields(rule, info, t->now)) {
		d->reason = PTRIG_HELD;
		return;
	}
	d->reason = live && who == PT_CLAIM_OTHER ? PTRIG_TAKEN_OVER : PTRIG_GRANTED;
	if (info->state == PTRIG_LEASE_LIVE && d->reason == PTRIG_GRANTED) {
		d->ended = live ? PTRIG_HOST_CHANGED : pt_lease_over(info, rule, t->now);
		info->ended_ns = live ? t->now : pt_lease_end(info, rule);
		info->end_reason = d->ended;
		info->state = PTRIG_LEASE_ENDED;
	}
	if (d->reason == PTRIG_GRANTED && who != PT_CLAIM_SAME && who != PT_CLAIM_MOVED && rule->cooldown_ns &&
	    !pt_elapsed(t->now, info->ended_ns, rule->cooldown_ns)) {
		d->reason = PTRIG_COOLDOWN;
		return;
	}
	if (!may_grant)
		return;
	pt_lease_count_anew(lease, id);
	pt_lease_fill(info, t, id);
	info->refreshed_tick = tick;
	lease->packets = 0;
	lease->bytes = 0;
	lease->tokens_ns = t->now - PT_SECOND_NS;
}

static __always_inline bool pt_decision_grants(const struct pt_decision *d) {
	return d->reason == PTRIG_GRANTED || d->reason == PTRIG_TAKEN_OVER || d->reason == PTRIG_MOVED;
}

/* A trigger for a lease that may be there: GO_ON if it is not. With `may_grant` false only what needs no
 * new grant is done; GRANTED, TAKEN_OVER and MOVED then say what would be done. Global, so that the
 * verifier walks it once. */
__noinline int pt_lease_claim(const struct ptrig_rule *rule, const struct pt_trigger *t, int may_grant) {
	struct pt_decision d = {};
	__u32 tick = bpf_jiffies64();

	if (!rule || !t)
		return PT_GO_ON;
	struct ptrig_lease *lease = pt_lease_find(rule, t->c.remote, t->wan);
	__u32 id = may_grant ? pt_lease_new_id() : 0, grant;

	if (!lease)
		return PT_GO_ON;
	d.ended = PT_GO_ON;
	d.reason = PTRIG_BUSY;
	/* what is decided is decided about this key's grant, which the element may no longer hold */
	if (pt_lease_grant(lease, rule, t->c.remote, t->wan, &grant) && pt_lease_lock(lease)) {
		if (lease->info.id == grant)
			pt_lease_decide(lease, rule, t, may_grant, id, tick, &d);
		pt_lease_unlock(lease);
	}
	if (d.ended != PT_GO_ON) {
		pt_lease_tell(d.ended, rule->id, lease, d.old_host, t->now);
		if (d.old_counted)
			pt_host_sub_lease(d.old_host, rule->id);
	}
	if (d.reason == PTRIG_REFRESHED && lease->untold)
		pt_lease_tell(PTRIG_REFRESHED, rule->id, lease, 0, t->now);
	if (!may_grant)
		return d.reason;
	if (!pt_decision_grants(&d)) { /* the reserved place was not needed after all */
		pt_host_sub_lease(t->c.host, rule->id);
		return d.reason;
	}
	if (d.reason != PTRIG_GRANTED)
		pt_host_sub_lease(d.old_host, rule->id);
	pt_lease_tell(d.reason, rule->id, lease, d.reason == PTRIG_GRANTED ? 0 : d.old_host, t->now);
	return d.reason;
}

/* Ask for the rule's lease. Returns GRANTED, REFRESHED, MOVED, TAKEN_OVER, a refusal, or PENDING when
 * the rule wants the remote's answer first. */
static __always_inline enum ptrig_reason pt_lease_ask(const struct ptrig_rule *rule, const struct pt_trigger *t) {
	bool wait = rule->flags & PTRIG_RULE_CONFIRM && !t->answered;
	enum ptrig_reason reason = PTRIG_BUSY;

	for (int i = 0; i < 3 && reason == PTRIG_BUSY; i++) {
		reason = pt_lease_claim(rule, t, false);
		if (reason == PT_GO_ON) {
			reason = wait ? PTRIG_PENDING : pt_lease_insert(rule, t);
			continue;
		}
		if (reason != PTRIG_GRANTED && reason != PTRIG_TAKEN_OVER && reason != PTRIG_MOVED)
			continue;
		if (wait && reason != PTRIG_MOVED)
			return PTRIG_PENDING;
		if (!pt_host_add_lease(t->c.host, rule, t->leases_per_host))
			return PTRIG_HOST_LEASES;
		reason = pt_lease_claim(rule, t, true);
		if (reason == PT_GO_ON) { /* swept meanwhile */
			pt_host_sub_lease(t->c.host, rule->id);
			reason = PTRIG_BUSY;
		}
	}
	return reason;
}

#endif
