/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One address, one port, the TTL and the checksums of a packet in TC. The transport checksum goes
 * through the helper, which knows about unfinished (CHECKSUM_PARTIAL) ones; the IP header's never is.
 */
#ifndef PT_REWRITE_H
#define PT_REWRITE_H

#include "csum.h"
#include "packet.h"

#define PT_TCP_CHECK_OFFSET 16
#define PT_UDP_CHECK_OFFSET 6

/* side WAN: the destination becomes address:port; side LAN: the source. ttl_more: 1 or -1, or 0. False: half done, to
 * be dropped. */
static __always_inline bool pt_rewrite(struct __sk_buff *skb, __u32 l3, const struct pt_pkt *p, __u32 side,
				       __be32 address, __be16 port, __s32 ttl_more) {
	__be32 from = side == PTRIG_SIDE_WAN ? p->daddr : p->saddr;
	__be16 from_port = side == PTRIG_SIDE_WAN ? p->dport : p->sport;
	__u64 flags = p->proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 check = (p->l4 & 0x7f) + (p->proto == IPPROTO_TCP ? PT_TCP_CHECK_OFFSET : PT_UDP_CHECK_OFFSET);
	struct pt_headers h;

	if (bpf_l4_csum_replace(skb, check, from, address, flags | BPF_F_PSEUDO_HDR | sizeof(address)))
		return false;
	if (port != from_port && bpf_l4_csum_replace(skb, check, from_port, port, flags | sizeof(port)))
		return false;
	if (!pt_packet_headers(skb, l3, p, &h))
		return false;
	__u32 diff = pt_csum_diff32(from, address);

	if (side == PTRIG_SIDE_WAN) {
		h.ip->daddr = address;
		h.ports->dest = port;
	} else {
		h.ip->saddr = address;
		h.ports->source = port;
	}
	if (ttl_more) {
		__u8 ttl = p->ttl + ttl_more;

		diff += pt_csum_diff16(bpf_htons(p->ttl << 8), bpf_htons(ttl << 8));
		h.ip->ttl = ttl;
	}
	h.ip->check = pt_csum_apply(h.ip->check, diff);
	return true;
}

#endif
