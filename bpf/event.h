/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is told to user space: one ring buffer record per change of a lease, but at most once a second what hosts can do
 * with every packet: refusals of a rule, changes of hands of a lease. What is left out is counted, and the rule's next
 * record has the count. No lease's state depends on any of it, so none of it is under the lease's lock.
 */
#ifndef PT_EVENT_H
#define PT_EVENT_H

#include "host.h"

#define PT_SECOND_NS 1000000000ULL

static __always_inline struct ptrig_event *pt_event_begin(__u32 type, enum ptrig_reason reason, __u64 now) {
	struct ptrig_event *event = bpf_ringbuf_reserve(&pt_events, sizeof(*event), 0);

	if (!event) {
		struct ptrig_usage *usage = pt_usage_get();

		if (usage)
			__sync_fetch_and_add(&usage->events_lost, 1);
		return NULL;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = now;
	event->type = type;
	event->reason = reason;
	return event;
}

static __always_inline __u32 pt_event_type(enum ptrig_reason reason) {
	switch (reason) {
	case PTRIG_GRANTED:
		return PTRIG_EVENT_GRANTED;
	case PTRIG_TAKEN_OVER:
		return PTRIG_EVENT_TAKEOVER;
	case PTRIG_MOVED:
		return PTRIG_EVENT_MOVED;
	default:
		return PTRIG_EVENT_ENDED;
	}
}

static __always_inline struct ptrig_last *pt_event_last(__u32 rule) {
	__u32 slot = rule & 0xffff;

	return bpf_map_lookup_elem(&pt_last, &slot);
}
static __always_inline bool pt_event_second_over(__u64 now, __u64 since) {
	return (__s64)(now - since) >= (__s64)PT_SECOND_NS;
}

#define PT_GRANTS_TOLD 64

/* Of leases that are new so many of a rule are told in a second; what was left out is told as a change of hands is. */
static __noinline void pt_event_insert(struct ptrig_lease *lease, __u32 rule, __u64 now) {
	struct ptrig_last *last = pt_event_last(rule);

	if (!last)
		return;
	if (pt_event_second_over(now, last->grants_ns)) {
		last->grants_ns = now;
		last->grants = 0;
	}
	if (__sync_fetch_and_add(&last->grants, 1) < PT_GRANTS_TOLD)
		return;
	lease->told_ns = now;
	lease->untold = PTRIG_GRANTED;
	__sync_fetch_and_add(&last->untold, 1);
}

/*
 * What is to be told of this; GO_ON if nothing is. A change of hands, or a new grant of a lease that is there, is told
 * once a second: two hosts can make one with every packet. The last one that was left out is told by the first refresh
 * after that second. A short grant that nobody was told of ends as quietly.
 */
static __noinline enum ptrig_reason pt_event_due(struct ptrig_lease *lease, enum ptrig_reason reason, __u32 rule,
						 __be32 old_host, __u64 now) {
	struct ptrig_last *last = pt_event_last(rule);
	bool due = !lease->told_ns || pt_event_second_over(now, lease->told_ns);

	if (reason == PTRIG_REFRESHED) {
		if (!lease->untold || !due)
			return PT_GO_ON;
		if (last)
			pt_count_down(&last->untold);
		reason = lease->untold;
	}
	bool change = reason == PTRIG_GRANTED || reason == PTRIG_TAKEN_OVER || reason == PTRIG_MOVED;

	if (!change)
		due = !lease->untold || pt_event_second_over(lease->info.ended_ns, lease->info.granted_ns);
	if (due) {
		if (change)
			lease->told_ns = now;
		lease->untold = 0;
		return reason;
	}
	if (last)
		__sync_fetch_and_add(&last->untold, 1);
	lease->untold = change ? reason : 0;
	lease->untold_from = reason == PTRIG_GRANTED ? 0 : old_host;
	return PT_GO_ON;
}

/* A lease was granted, taken over, moved, or (any other reason) has ended. */
static __noinline void pt_event_lease(enum ptrig_reason reason, __u32 rule, const struct ptrig_lease *lease,
				      __be32 old_host, __u64 now) {
	struct ptrig_event *event = pt_event_begin(pt_event_type(reason), reason, now);

	if (!event)
		return;
	const struct ptrig_lease_info *info = &lease->info;
	struct ptrig_last *last = pt_event_last(rule);

	if (last && last->untold)
		event->suppressed = __sync_lock_test_and_set(&last->untold, 0);
	event->rule = rule;
	event->lease = info->id;
	event->host = info->host;
	event->old_host = old_host;
	event->remote = info->trigger_remote;
	event->port = info->trigger_port;
	event->proto = info->trigger_proto;
	event->wan = info->wan;
	event->sessions = lease->sessions;
	__builtin_memcpy(event->mac, info->mac, sizeof(event->mac));
	bpf_ringbuf_submit(event, 0);
}

/* The entry of a TCP session is to let sequence numbers be: it has been made again in the middle of the connection, or
 * will not see all of its packets. `lan`: the LAN half. Nobody may be reading; then what matters more finds room still.
 */
static __noinline void pt_event_liberal(const struct ptrig_session *lan) {
	if (!lan ||
	    bpf_ringbuf_query(&pt_events, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&pt_events, BPF_RB_RING_SIZE) / 2)
		return;
	struct ptrig_event *event = pt_event_begin(PTRIG_EVENT_LIBERAL, PTRIG_FORWARDED, bpf_ktime_get_boot_ns());

	if (!event)
		return;
	event->remote = lan->peer;
	event->remote_port = lan->peer_port;
	event->wan = lan->addr;
	event->port = lan->port;
	event->proto = IPPROTO_TCP;
	bpf_ringbuf_submit(event, 0);
}

/* Remember the rule's last trigger; report a refusal unless one was within the second. */
static __noinline void pt_event_trigger(const struct ptrig_rule *rule, enum ptrig_reason reason,
					const struct ptrig_cand *c, __be32 holder, __u64 now) {
	struct ptrig_last *last = pt_event_last(rule->id);

	if (!last)
		return;
	last->id = rule->id;
	last->reason = reason;
	last->time_ns = now;
	last->host = c->host;
	last->remote = c->remote;
	if (reason <= PTRIG_FLAGS || reason > PTRIG_BUSY)
		return;
	if (last->event_ns && now - last->event_ns < PT_SECOND_NS) {
		__sync_fetch_and_add(&last->suppressed, 1);
		return;
	}
	last->event_ns = now;
	struct ptrig_event *event = pt_event_begin(PTRIG_EVENT_REFUSED, reason, now);

	if (!event)
		return;
	event->rule = rule->id;
	event->host = c->host;
	event->old_host = holder;
	event->remote = c->remote;
	event->port = c->remote_port;
	event->proto = c->proto;
	event->suppressed = last->suppressed;
	last->suppressed = 0;
	__builtin_memcpy(event->mac, c->mac, sizeof(event->mac));
	bpf_ringbuf_submit(event, 0);
}

#endif
