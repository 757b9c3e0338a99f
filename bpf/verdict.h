/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counts a packet's reason and turns it into what the kernel is told. The only file that names TC_ACT_*. */
#ifndef PT_VERDICT_H
#define PT_VERDICT_H

#include <linux/pkt_cls.h>

#include "count.h"
#include "nexthop.h"

enum pt_kind {
	PT_KIND_PASS,
	PT_KIND_ENTRY,
	PT_KIND_FAST,
	PT_KIND_AGAIN,
	PT_KIND_REWRITE,
	PT_KIND_REDIRECT,
	PT_KIND_DROP,
	PT_KIND_GRANT,
	PT_KIND_REFUSE,
	PT_KIND_END
};

static __always_inline enum pt_kind pt_kind_of(enum ptrig_reason reason) {
	switch (reason) {
#define PT_KIND_CASE(name, kind, text)                                                                                 \
	case PTRIG_##name:                                                                                             \
		return PT_KIND_##kind;
		PTRIG_REASONS(PT_KIND_CASE)
#undef PT_KIND_CASE
	default:
		return PT_KIND_PASS;
	}
}

/* Send the packet by another WAN: the kernel's neighbour code writes its Ethernet header. */
static __always_inline int pt_verdict_send(struct __sk_buff *skb, __u32 l3, const struct pt_hop *hop) {
	struct bpf_redir_neigh next = {.nh_family = PT_AF_INET, .ipv4_nh = hop->gateway};

	if (hop->flags & PTRIG_IFACE_L3)
		return bpf_redirect(hop->oif, 0);
	if (!l3 && bpf_skb_change_head(skb, sizeof(struct ethhdr), 0))
		return TC_ACT_SHOT;
	return bpf_redirect_neigh(hop->oif, &next, sizeof(next), 0);
}

static __always_inline int pt_verdict_pass(enum ptrig_reason reason) {
	pt_count(reason);
	return TC_ACT_UNSPEC; /* other people's filters still run */
}

/* Sent on by the fast path; 0: its headers are half written. */
static __always_inline int pt_verdict_fast(__u32 oif) {
	pt_count(oif ? PTRIG_ACCELERATED : PTRIG_FAILED);
	return oif ? bpf_redirect(oif, 0) : TC_ACT_SHOT;
}

/* `device`: by which the packet arrives AGAIN. `hop`: of a REDIRECT. */
static __always_inline int pt_verdict_tc(struct __sk_buff *skb, enum ptrig_reason reason, __u32 l3, __u32 device,
					 const struct pt_hop *hop) {
	pt_count(reason);
	switch (pt_kind_of(reason)) {
	case PT_KIND_REDIRECT:
		return hop ? pt_verdict_send(skb, l3, hop) : TC_ACT_SHOT;
	case PT_KIND_AGAIN:
		return bpf_redirect(device, BPF_F_INGRESS); /* without what the kernel has noted of it */
	case PT_KIND_DROP:
		return TC_ACT_SHOT;
	default:
		return TC_ACT_UNSPEC; /* other people's filters still run */
	}
}

#endif
