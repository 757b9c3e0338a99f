// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A test run has no netfilter around it. This program lets the packet tests do what the kernel does between two of
 * ptrig's programs: find a packet's conntrack entry, and make the one that masquerade would make.
 */
#include "conntrack.h"
#include "kernel_abi.h"

extern int bpf_ct_change_status(struct nf_conn *ct, __u32 status) __ksym;

/* Conntrack has seen this packet, which answers an entry. */
static __noinline void test_entry_answer(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto) {
	struct bpf_ct_opts opts = {};
	struct nf_conn *ct = pt_conntrack_find(skb, t, proto, &opts);

	if (!ct)
		return;
	if (opts.dir == PT_CT_DIR_REPLY)
		bpf_ct_change_status(ct, ct->status | PT_IPS_SEEN_REPLY);
	bpf_ct_release(ct);
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct test_entry);
} entry SEC(".maps");

SEC("tc")
int test_entry(struct __sk_buff *skb) {
	__u32 zero = 0;
	struct test_entry *io = bpf_map_lookup_elem(&entry, &zero);
	struct pt_entry e = {};

	if (!io)
		return 1;
	struct pt_tuple t = {io->tuple.saddr, io->tuple.daddr, io->tuple.sport, io->tuple.dport};

	if (io->op == TEST_ENTRY_FORGET)
		pt_entry_forget(skb, &t, io->proto);
	if (io->op == TEST_ENTRY_ANSWER)
		test_entry_answer(skb, &t, io->proto);
	if (io->op == TEST_ENTRY_MAKE) {
		struct pt_wanted w = {
			.orig = t,
			.from = io->from,
			.from_port = io->from_port,
			.to = io->to,
			.to_port = io->to_port,
			.status = io->status,
			.time_ms = 30000,
			.proto = io->proto,
		};

		if (!pt_entry_make(skb, &w))
			return 2;
	}
	pt_entry_look(skb, &t, io->proto, &e);
	io->found = e.found;
	io->is_reply = e.is_reply;
	io->tcp_state = e.tcp_state;
	io->status = e.status;
	io->mark = e.mark;
	io->orig.saddr = e.orig.saddr;
	io->orig.daddr = e.orig.daddr;
	io->orig.sport = e.orig.sport;
	io->orig.dport = e.orig.dport;
	io->reply.saddr = e.reply.saddr;
	io->reply.daddr = e.reply.daddr;
	io->reply.sport = e.reply.sport;
	io->reply.dport = e.reply.dport;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
