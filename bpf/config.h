/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Fixed before load: user space sets these between open and load, the verifier removes dead branches. */
#ifndef PT_CONFIG_H
#define PT_CONFIG_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "ptrig/abi.h"
#include "ptrig/reasons.h"

/* What an update with BPF_NOEXIST returns, negative. Keep it in an int: before Linux 6.4 a map's functions return one,
 * and called directly they leave the upper half of the register a long would be read from as it is. */
#define PT_EEXIST 17

const volatile __u32 cfg_tick_hz = 250;        /* jiffies a second, measured */
const volatile __u32 cfg_rules_max = 4096;     /* pt_rules holds twice as many: two generations */
const volatile __u32 cfg_lists_max = 4096;     /* likewise pt_lists */
const volatile __u32 cfg_halfopen_max = 32768; /* sessions */
const volatile __u32 cfg_leases_max = 8192;
const volatile __u32 cfg_conns_max = 8192;     /* connections in pt_conns */
const volatile __u32 cfg_wait_slots = 256;     /* of one host in pt_pending */
const volatile __u32 cfg_fast_buckets = 32768; /* of each side in pt_fast; a power of two */
const volatile __u32 cfg_zone = 0;             /* conntrack's, in which flows are looked for */
const volatile __u32 cfg_hash_seed = 0;

#endif
