/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What tests/bpf/kernel.bpf.c is asked, and what it answers. Addresses and ports in packet order. */
#ifndef PTRIG_TEST_KERNEL_ABI_H
#define PTRIG_TEST_KERNEL_ABI_H

#include <linux/types.h>

#define TEST_ENTRY_LOOK 0
#define TEST_ENTRY_MAKE 1 /* an entry whose source becomes from:from_port, or destination to:to_port */
#define TEST_ENTRY_FORGET 2
#define TEST_ENTRY_ANSWER 3 /* conntrack has seen this answer */

struct test_tuple {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
};
struct test_entry {
	__u32 op;
	__u32 proto;
	struct test_tuple tuple;
	__be32 from;
	__be32 to;
	__be16 from_port;
	__be16 to_port;
	__u32 status; /* in: of the new entry; out: as it is */
	/* out */
	__u32 found;
	__u32 is_reply;
	__u32 tcp_state;
	__u32 mark;
	struct test_tuple orig;
	struct test_tuple reply;
};

#endif
