/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The largest segment that a SYN or SYN-ACK offers (RFC 9293 3.7.1) is made to fit both devices on its way, as `tcp
 * flags syn tcp option maxseg size set rt mtu` in a forward chain does, which a session's packets do not meet. Path MTU
 * discovery alone fails where ICMP is filtered, as it is behind many a PPPoE line.
 */
#ifndef PT_MSS_H
#define PT_MSS_H

#include "flow.h"

#define PT_TCP_OPTIONS_SIZE 40
#define PT_TCP_OPTION_END 0
#define PT_TCP_OPTION_NOP 1
#define PT_TCP_OPTION_MSS 2

/* Offset of the MSS option in the TCP header; 0: there is none. */
static __noinline __u32 pt_mss_find(struct __sk_buff *skb, __u32 l4) {
	__u8 offset = 0, option[4];
	__u32 at = sizeof(struct tcphdr);

	if (bpf_skb_load_bytes(skb, l4 + 12, &offset, sizeof(offset)))
		return 0;
	for (int n = 0; n < PT_TCP_OPTIONS_SIZE; n++) {
		if (at + sizeof(option) > (offset >> 4) * 4U ||
		    bpf_skb_load_bytes(skb, l4 + at, option, sizeof(option)) || option[0] == PT_TCP_OPTION_END)
			return 0;
		if (option[0] == PT_TCP_OPTION_MSS && option[1] == sizeof(option))
			return at;
		if (option[0] != PT_TCP_OPTION_NOP && option[1] < 2)
			return 0;
		at += option[0] == PT_TCP_OPTION_NOP ? 1 : option[1];
	}
	return 0;
}

/* A session's SYN on its way by f->hop. Global for the verifier's sake. */
__noinline int pt_mss_clamp(struct __sk_buff *skb, struct pt_flow *f) {
	if (!f)
		return 0;
	__u32 from = skb->ifindex, mtu = f->hop.mtu, l4 = f->p.l4;
	const struct ptrig_iface *iface = bpf_map_lookup_elem(&pt_ifaces, &from);

	if (iface && iface->mtu < mtu)
		mtu = iface->mtu;
	__u32 most = mtu - sizeof(struct iphdr) - sizeof(struct tcphdr), at = pt_mss_find(skb, l4);
	__u16 offered;

	if (mtu <= 68 || !at || bpf_skb_load_bytes(skb, l4 + at + 2, &offered, sizeof(offered)) ||
	    bpf_ntohs(offered) <= most)
		return 0;
	__u16 now = bpf_htons(most);
	/* The checksum's words begin at even offsets. */
	__u16 was_word = at & 1 ? __builtin_bswap16(offered) : offered,
	      now_word = at & 1 ? __builtin_bswap16(now) : now;

	if (!bpf_l4_csum_replace(skb, l4 + PT_TCP_CHECK_OFFSET, was_word, now_word, sizeof(now)))
		bpf_skb_store_bytes(skb, l4 + at + 2, &now, sizeof(now), 0);
	return 0;
}

#endif
