/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What conntrack's helpers expect comes before a lease: the data connection of another host's active FTP, say. No kfunc
 * tells of expectations, so the daemon keeps pt_expected in step with them.
 */
#ifndef PT_EXPECTED_H
#define PT_EXPECTED_H

#include "conntrack.h"
#include "rule.h"

static __always_inline bool pt_expected_until(const struct ptrig_expected_key *key) {
	const __u64 *until = bpf_map_lookup_elem(&pt_expected, key);

	return until && *until > bpf_ktime_get_boot_ns();
}

/* Does a helper expect a flow from this remote to this WAN port? A function of its own, which has its own stack. */
static __noinline bool pt_expectation_takes(const struct pt_tuple *wan, __u8 proto) {
	const struct ptrig_state *state = bpf_map_lookup_elem(&pt_state, &pt_zero);
	struct ptrig_expected_key key = {
		.remote = wan->saddr,
		.wan = wan->daddr,
		.port = wan->dport,
		.proto = proto,
	};

	if (!state || !state->expecting)
		return false;
	if (pt_expected_until(&key))
		return true;
	key.remote = 0;
	return pt_expected_until(&key);
}

#endif
