// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The accelerator: packets of established sessions, with what TC has cached. Parse, session, rewrite,
 * redirect; whatever else it is goes on to TC, untouched, and so does one packet a second.
 */
#include "csum.h"
#include "packet.h"
#include "verdict_xdp.h"

struct pt_frame {
	struct ethhdr *eth;
	struct iphdr *ip;
	struct udphdr *ports; /* TCP's ports stand at the same place */
	__sum16 *check;
};

/* Only what needs no second thought: no options, no fragment, no SYN, FIN or RST, TTL left. */
static __always_inline bool pt_frame_plain(struct xdp_md *ctx, struct pt_frame *f, struct ptrig_session_key *key) {
	void *end = pt_frame_end(ctx);

	__u32 l4_len;

	f->eth = (void *)(long)ctx->data;
	f->ip = (void *)(f->eth + 1);
	f->ports = (void *)(f->ip + 1);
	if ((void *)(f->ports + 1) > end || f->eth->h_proto != bpf_htons(ETH_P_IP) || *(__u8 *)f->ip != 0x45 ||
	    f->ip->frag_off & bpf_htons(PT_IP_MF | PT_IP_OFFSET) || f->ip->ttl <= 1)
		return false;
	if (f->ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = (void *)f->ports;

		if ((void *)(tcp + 1) > end || ((__u8 *)tcp)[13] & (PT_TCP_SYN | PT_TCP_FIN | PT_TCP_RST) ||
		    tcp->doff < 5)
			return false;
		f->check = &tcp->check;
		l4_len = tcp->doff * 4;
	} else if (f->ip->protocol == IPPROTO_UDP) {
		f->check = &f->ports->check;
		l4_len = bpf_ntohs(f->ports->len);
	} else {
		return false;
	}
	__u32 len = bpf_ntohs(f->ip->tot_len);

	asm volatile("%0 &= 0xffff" : "+r"(len)); /* kernel 6.1 does not know that a be16 has 16 bits */
	if ((void *)f->ip + len > end || l4_len < sizeof(struct udphdr) || sizeof(struct iphdr) + l4_len > len)
		return false;
	key->saddr = f->ip->saddr;
	key->daddr = f->ip->daddr;
	key->sport = f->ports->source;
	key->dport = f->ports->dest;
	key->proto = f->ip->protocol;
	return true;
}

/* TC has looked within the second, and its hop takes this frame. */
static __always_inline bool pt_session_quick(const struct ptrig_session *s, __u32 ip_len) {
	return s->state == PTRIG_SESSION_ESTABLISHED && s->flags & PTRIG_SESSION_XDP &&
	       (__u32)bpf_jiffies64() - s->checked < cfg_tick_hz && ip_len <= s->mtu;
}

static __always_inline void pt_frame_rewrite(struct pt_frame *f, const struct ptrig_session *s, __u32 side) {
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
	__builtin_memcpy(f->eth->h_dest, s->dmac, sizeof(f->eth->h_dest));
	__builtin_memcpy(f->eth->h_source, s->smac, sizeof(f->eth->h_source));
}

static __always_inline int pt_xdp(struct xdp_md *ctx, __u32 side) {
	struct ptrig_session_key key = {.side = side};
	struct pt_frame f;

	if (!pt_frame_plain(ctx, &f, &key))
		return pt_verdict_xdp(PTRIG_TO_TC);
	struct ptrig_session *s = bpf_map_lookup_elem(&pt_sessions, &key);
	__u32 ip_len = bpf_ntohs(f.ip->tot_len);

	/* The helper only notes where to; it says so when oif takes no frames (any more). */
	if (!s || !pt_session_quick(s, ip_len) || !pt_frame_taken(s->oif))
		return pt_verdict_xdp(PTRIG_TO_TC);
	pt_frame_rewrite(&f, s, side);
	s->packets++;
	s->bytes += ip_len;
	return pt_verdict_xdp(PTRIG_FORWARDED);
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
