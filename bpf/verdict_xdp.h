/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counts a frame's reason and tells the driver; verdict.h is its twin for TC. */
#ifndef PT_VERDICT_XDP_H
#define PT_VERDICT_XDP_H

#include <stdbool.h>

#include "count.h"
#include "maps_xdp.h"

static __always_inline bool pt_frame_taken(__u32 oif) {
	return bpf_redirect_map(&pt_devs, oif, XDP_PASS) == XDP_REDIRECT;
}

static __always_inline int pt_verdict_xdp(enum ptrig_reason reason) {
	pt_count(reason);
	return reason == PTRIG_ACCELERATED ? XDP_REDIRECT : XDP_PASS;
}

#endif
