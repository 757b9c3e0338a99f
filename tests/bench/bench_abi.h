/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the benchmark's BPF programs and its C++ side share: how a frame is to look, what the limit writes. */
#ifndef PTRIG_BENCH_ABI_H
#define PTRIG_BENCH_ABI_H

#include <linux/types.h>

#define BENCH_FRAME 64

enum bench_mode {
	BENCH_IN,      /* remote → WAN port */
	BENCH_OUT,     /* host → remote, from the session's own port */
	BENCH_PAIR,    /* each flow in, and 64 flows later out: makes sessions */
	BENCH_TRIGGER, /* for each flow, a packet to its remote's trigger port, then one in from that remote */
	BENCH_MODES,
};

/* Frames of one run. Addresses and ports of frames in packet order, counts in host order. */
struct bench_plan {
	__u32 mode;
	__u32 flows;  /* remotes: 198.18.0.0 + flow % 2^17, their port 10000 + flow / 2^17 */
	__u32 first;  /* number of the first flow */
	__u32 random; /* 1: flows in random order; 0: one after the other */
	__be32 wan, host;
	__be16 wan_port, host_port;
	__u8 gw_wan[6], remote_mac[6], gw_lan[6], host_mac[6];
	__u32 remote_port; /* host order; 0: by flow */
	__be16 trigger;
	__u16 by_cpu; /* 1: each CPU sends a flow of its own, number `first` + the CPU's */
};

/* What the header touch writes into each frame of one direction, and what the checking sink expects in it. */
struct bench_touch {
	__be32 addr;
	__be16 port;
	__u8 dmac[6], smac[6];
	__u16 pad;
};

#endif
