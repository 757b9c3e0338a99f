// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The fast path by XDP: packets whose direction has permission (pt_fast). Parse, find, rewrite, redirect; whatever else
 * it is goes on to TC and the kernel, untouched, and so does the packet by which permission is to be renewed.
 */
#include "csum.h"
#include "fast_key.h"
#include "packet.h"
#include "verdict_xdp.h"

struct pt_frame {
	struct ethhdr *eth;
	struct iphdr *ip;
	struct udphdr *ports; /* TCP's ports stand at the same place */
	__sum16 *check;
	__u32 ack; /* TCP: what it acknowledges */
	bool acks;
};

/* Has some session the port that this frame comes to, or, from the LAN, leaves from? It may be anything else, too. */
static __always_inline bool pt_frame_concerns(struct xdp_md *ctx, struct pt_frame *f, __u32 side) {
	f->eth = (void *)(long)ctx->data;
	f->ip = (void *)(f->eth + 1);
	f->ports = (void *)(f->ip + 1);
	if ((void *)(f->ports + 1) > pt_frame_end(ctx) || f->eth->h_proto != bpf_htons(ETH_P_IP) ||
	    *(__u8 *)f->ip != 0x45 || (f->ip->protocol != IPPROTO_UDP && f->ip->protocol != IPPROTO_TCP))
		return false;
	__u32 bits =
		pt_port_bits_of(f->ip->protocol, bpf_ntohs(side == PTRIG_SIDE_WAN ? f->ports->dest : f->ports->source));

	return bits & (side == PTRIG_SIDE_WAN ? PTRIG_PORT_WAN_USED : PTRIG_PORT_LAN_USED);
}

/* Only what needs no second thought: no options, no fragment, no SYN, FIN or RST, TTL left. */
static __always_inline bool pt_frame_plain(struct xdp_md *ctx, struct pt_frame *f, struct pt_fast_key *key) {
	void *end = pt_frame_end(ctx);
	__u32 l4_len;

	if (f->ip->frag_off & bpf_htons(PT_IP_MF | PT_IP_OFFSET) || f->ip->ttl <= 1)
		return false;
	if (f->ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = (void *)f->ports;

		if ((void *)(tcp + 1) > end || ((__u8 *)tcp)[13] & (PT_TCP_SYN | PT_TCP_FIN | PT_TCP_RST) ||
		    tcp->doff < 5)
			return false;
		f->check = &tcp->check;
		f->ack = bpf_ntohl(tcp->ack_seq);
		f->acks = tcp->ack;
		l4_len = tcp->doff * 4;
	} else {
		f->check = &f->ports->check;
		f->acks = false;
		f->ack = 0;
		l4_len = bpf_ntohs(f->ports->len);
	}
	__u32 len = bpf_ntohs(f->ip->tot_len);

	asm volatile("%0 &= 0xffff" : "+r"(len)); /* kernel 6.1 does not know that a be16 has 16 bits */
	if ((void *)f->ip + len > end || l4_len < sizeof(struct udphdr) || sizeof(struct iphdr) + l4_len > len)
		return false;
	key->daddr = f->ip->daddr;
	key->sport = f->ports->source;
	key->dport = f->ports->dest;
	key->proto = f->ip->protocol;
	return true;
}

static __always_inline void pt_frame_rewrite(struct pt_frame *f, const struct ptrig_fast *s,
					     const struct ptrig_hop *hop, __u32 side) {
	__be32 *address = side == PTRIG_SIDE_WAN ? &f->ip->daddr : &f->ip->saddr;
	__be16 *port = side == PTRIG_SIDE_WAN ? &f->ports->dest : &f->ports->source;
	__u32 diff = pt_csum_diff32(*address, s->addr);
	__u32 l4_diff = diff + pt_csum_diff16(*port, s->port);

	f->ip->check = pt_csum_apply(f->ip->check, diff + pt_csum_diff16(bpf_htons(1 << 8), 0)); /* TTL - 1 */
	f->ip->ttl--;
	if (f->ip->protocol == IPPROTO_TCP) {
		*f->check = pt_csum_apply(*f->check, l4_diff);
	} else if (*f->check) {
		__u16 check = pt_csum_apply(*f->check, l4_diff);

		*f->check = check ? check : 0xffff; /* RFC 768: 0 is "no checksum" */
	}
	*address = s->addr;
	*port = s->port;
	pt_mac_copy(f->eth->h_dest, hop->dmac);
	pt_mac_copy(f->eth->h_source, hop->smac);
}

static __always_inline enum ptrig_reason pt_frame_forward(struct xdp_md *ctx, __u32 side) {
	struct pt_fast_key key = {};
	struct pt_frame f;

	if (!pt_fast_is_on() || !pt_frame_concerns(ctx, &f, side) || !pt_frame_plain(ctx, &f, &key))
		return PTRIG_TO_TC;
	key.who = pt_who(f.eth, ctx->ingress_ifindex, side, f.ip->saddr);
	__u32 fast = 0;
	struct ptrig_fast *way = pt_fast_find(&key, side, &fast);
	__u32 now = bpf_jiffies64(), ip_len = bpf_ntohs(f.ip->tot_len);

	if (!way || !(way->hop & PTRIG_FAST_XDP) || !pt_still(way->until, now, PTRIG_FAST_SECONDS))
		return PTRIG_TO_TC;
	__u32 number = way->hop & PTRIG_FAST_HOP;
	struct ptrig_hop *hop = bpf_map_lookup_elem(&pt_hops, &number);

	/* The redirect is only noted; pt_frame_taken() says whether oif takes frames (still). */
	if (!hop || !pt_still(hop->until, now, 1) || ip_len > hop->mtu || !pt_frame_taken(hop->oif))
		return PTRIG_TO_TC;
	if (side == PTRIG_SIDE_LAN && f.acks)
		pt_fast_ack(fast + 1, f.ack);
	pt_frame_rewrite(&f, way, hop, side);
	way->count += (1ULL << PTRIG_FAST_BYTES_BITS) + ip_len;
	return PTRIG_ACCELERATED;
}

static __always_inline int pt_xdp(struct xdp_md *ctx, __u32 side) {
	return pt_verdict_xdp(pt_frame_forward(ctx, side));
}

SEC("xdp")
int pt_xdp_lan(struct xdp_md *ctx) {
	return pt_xdp(ctx, PTRIG_SIDE_LAN);
}
SEC("xdp")
int pt_xdp_wan(struct xdp_md *ctx) {
	return pt_xdp(ctx, PTRIG_SIDE_WAN);
}

char _license[] SEC("license") = "Dual BSD/GPL";
