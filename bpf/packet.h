/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A frame to struct pt_pkt, and back to pointers for writing. The only file that names data_end.
 * Offsets count from the start of the frame: l3 is 14, or 0 on a device without an Ethernet header.
 */
#ifndef PT_PACKET_H
#define PT_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <stdbool.h>

#include "config.h"

#define PT_GO_ON PTRIG_REASON_COUNT /* no verdict yet */

#define PT_IP_MF 0x2000
#define PT_IP_OFFSET 0x1fff

/* IP options (RFC 791 3.1) */
#define PT_IPOPT_END 0
#define PT_IPOPT_NOOP 1
#define PT_IPOPT_LSRR 131
#define PT_IPOPT_SSRR 137
#define PT_IPOPT_MOST 40 /* bytes */
#define PT_IPOPT_ROOM 64 /* for the verifier, who wants a mask */

#define PT_TCP_FIN 0x01
#define PT_TCP_SYN 0x02
#define PT_TCP_RST 0x04
#define PT_TCP_ACK 0x10

struct pt_pkt {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u16 len; /* IP total length */
	__u8 l4;   /* offset of the TCP or UDP header */
	__u8 proto;
	__u8 ttl;
	__u8 tcp_flags;      /* 0 for UDP */
	bool first_fragment; /* more fragments follow; the whole L4 header is in this one */
	bool odd_options;    /* it begins nothing; see pt_packet_odd() */
};

struct pt_headers {
	struct ethhdr *eth; /* only on a device with an Ethernet header */
	struct iphdr *ip;
	union {
		struct tcphdr *tcp;
		struct udphdr *udp;
		struct {
			__be16 source, dest;
		} * ports;
	};
};

static __always_inline __u32 pt_packet_proto_index(const struct pt_pkt *p) {
	return p->proto == IPPROTO_TCP ? PTRIG_PROTO_INDEX_TCP : PTRIG_PROTO_INDEX_UDP;
}
static __always_inline __u8 pt_packet_proto_bit(const struct pt_pkt *p) {
	return p->proto == IPPROTO_TCP ? PTRIG_TCP : PTRIG_UDP;
}
/* A TCP packet that can begin a connection. */
static __always_inline bool pt_packet_plain_syn(const struct pt_pkt *p) {
	return (p->tcp_flags & (PT_TCP_SYN | PT_TCP_ACK | PT_TCP_RST | PT_TCP_FIN)) == PT_TCP_SYN;
}

/* Can this be a machine on the internet? Not multicast, broadcast, loopback, 0/8 or class E (RFC 1122 3.2.1.3). */
static __always_inline bool pt_packet_remote(__be32 address) {
	__u32 first = bpf_ntohl(address) >> 24;

	return first != 0 && first != 127 && first < 224;
}

static __always_inline enum ptrig_reason pt_packet_parse_l4(void *l4, void *data_end, __u32 room, struct pt_pkt *p) {
	if (p->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = l4;

		if ((void *)(tcp + 1) > data_end || room < sizeof(*tcp) || tcp->doff < 5 || tcp->doff * 4U > room)
			return PTRIG_MALFORMED;
		p->sport = tcp->source;
		p->dport = tcp->dest;
		p->tcp_flags = ((__u8 *)tcp)[13];
		return PT_GO_ON;
	}
	struct udphdr *udp = l4;

	if ((void *)(udp + 1) > data_end || room < sizeof(*udp))
		return PTRIG_MALFORMED;
	__u32 udp_len = bpf_ntohs(udp->len);

	if (udp_len < sizeof(*udp) || (udp_len > room && !p->first_fragment))
		return PTRIG_MALFORMED;
	p->sport = udp->source;
	p->dport = udp->dest;
	p->tcp_flags = 0;
	return PT_GO_ON;
}

/* frame_len: the whole frame, of which data..data_end may be only the beginning. */
static __always_inline enum ptrig_reason pt_packet_parse(void *data, void *data_end, __u32 l3, __u32 frame_len,
							 struct pt_pkt *p) {
	struct iphdr *ip = data + l3;

	if ((void *)(ip + 1) > data_end)
		return PTRIG_MALFORMED;
	if (l3 && ((struct ethhdr *)data)->h_proto != bpf_htons(ETH_P_IP))
		return PTRIG_NOT_IPV4;
	__u32 header = ip->ihl * 4;
	__u16 fragment = bpf_ntohs(ip->frag_off);

	p->len = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || p->len < header || l3 + p->len > frame_len)
		return PTRIG_MALFORMED;
	p->proto = ip->protocol;
	if (p->proto == IPPROTO_ICMP)
		return PTRIG_ICMP;
	if (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP)
		return PTRIG_NOT_IPV4;
	if (fragment & PT_IP_OFFSET)
		return PTRIG_FRAGMENT;
	p->first_fragment = fragment & PT_IP_MF;
	p->saddr = ip->saddr;
	p->daddr = ip->daddr;
	p->ttl = ip->ttl;
	p->l4 = l3 + header;
	return pt_packet_parse_l4((void *)ip + header, data_end, p->len - header, p);
}

/* A frame of a VLAN; number 0 is none, only a priority (IEEE 802.1Q 9.6). */
static __always_inline bool pt_packet_vlan(const struct __sk_buff *skb) {
	return skb->vlan_present && skb->vlan_tci & 0xfff;
}

/* A walk through IP options. */
struct pt_options {
	__u8 bytes[PT_IPOPT_ROOM];
	__u32 len, at;
	bool odd;
};
/* One option; 1: there is no more to see. */
static long pt_packet_option(__u32 n, struct pt_options *o) {
	__u8 kind = o->bytes[o->at & (PT_IPOPT_ROOM - 1)], length = o->bytes[(o->at + 1) & (PT_IPOPT_ROOM - 1)];

	if (o->at >= o->len || kind == PT_IPOPT_END)
		return 1;
	if (kind == PT_IPOPT_NOOP)
		length = 1;
	else if (kind == PT_IPOPT_LSRR || kind == PT_IPOPT_SSRR || length < 2 || o->at + length > o->len) {
		o->odd = true;
		return 1;
	}
	o->at += length;
	return 0;
}
/* A source route, or IP options that contradict themselves? The kernel refuses both (accept_source_route), but only
 * after ptrig and conntrack have seen the packet. `at`: where the options begin, `len` bytes. Global for the verifier's
 * sake. */
__noinline int pt_packet_odd(struct __sk_buff *skb, __u32 at, __u32 len) {
	struct pt_options o = {.len = len};

	if (len > PT_IPOPT_MOST)
		return true;
	barrier_var(len); /* two comparisons, from which kernel 6.1 sees both bounds */
	if (len < sizeof(__u32) || bpf_skb_load_bytes(skb, at, o.bytes, len))
		return true;
	bpf_loop(PT_IPOPT_MOST, pt_packet_option, &o, 0);
	return o.odd;
}

/* TC: headers may lie outside the linear part of the skb; packets of another VLAN, and frames that are
 * not addressed to this machine, are none of ours. */
static __always_inline enum ptrig_reason pt_packet_parse_skb(struct __sk_buff *skb, __u32 l3, struct pt_pkt *p) {
	__u32 need = l3 + 60 + sizeof(struct tcphdr);

	if (skb->protocol != bpf_htons(ETH_P_IP) || pt_packet_vlan(skb))
		return PTRIG_NOT_IPV4;
	if (need > skb->len)
		need = skb->len;
	if ((void *)(long)skb->data + need > (void *)(long)skb->data_end && bpf_skb_pull_data(skb, need))
		return PTRIG_MALFORMED;
	enum ptrig_reason reason =
		pt_packet_parse((void *)(long)skb->data, (void *)(long)skb->data_end, l3, skb->len, p);
	__u32 options = l3 + sizeof(struct iphdr);

	if (reason == PT_GO_ON && p->l4 > options)
		p->odd_options = pt_packet_odd(skb, options, p->l4 - options);
	return reason;
}

/* What a glance at a packet says. */
struct pt_glance {
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
};
/* TCP or UDP with its ports at the usual place: enough for most packets, which no rule is about. False: it is not one
 * (IP options, a fragment, another protocol, another VLAN), and pt_packet_parse_skb() is to say what it is. */
static __always_inline bool pt_packet_glance(struct __sk_buff *skb, __u32 l3, struct pt_glance *g) {
	const struct iphdr *ip = (void *)(long)skb->data + l3;
	const struct udphdr *ports = (void *)(ip + 1);

	if ((void *)(ports + 1) > (void *)(long)skb->data_end || skb->protocol != bpf_htons(ETH_P_IP) ||
	    pt_packet_vlan(skb) || *(const __u8 *)ip != 0x45 || ip->frag_off & bpf_htons(PT_IP_MF | PT_IP_OFFSET) ||
	    (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP))
		return false;
	g->daddr = ip->daddr;
	g->sport = ports->source;
	g->dport = ports->dest;
	g->proto = ip->protocol;
	return true;
}

/* What a glance has found plain: does it need no second thought either? No SYN, FIN or RST, TTL left, whole.
 * l4_header: the length of its transport header. */
static __always_inline bool pt_packet_plain(struct __sk_buff *skb, __u32 l3, struct pt_pkt *p, __u32 *l4_header) {
	const struct iphdr *ip = (void *)(long)skb->data + l3;
	const struct tcphdr *tcp = (void *)(ip + 1);
	const struct udphdr *udp = (void *)(ip + 1);
	const void *end = (void *)(long)skb->data_end;

	if ((void *)(udp + 1) > end)
		return false;
	p->saddr = ip->saddr;
	p->daddr = ip->daddr;
	p->sport = udp->source;
	p->dport = udp->dest;
	p->len = bpf_ntohs(ip->tot_len);
	p->l4 = l3 + sizeof(*ip);
	p->proto = ip->protocol;
	p->ttl = ip->ttl;
	__u32 room = p->len - sizeof(*ip), header = sizeof(*udp);

	if (p->ttl <= 1 || p->len < sizeof(*ip) + sizeof(*udp) || l3 + p->len > skb->len)
		return false;
	if (p->proto == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end || ((__u8 *)tcp)[13] & (PT_TCP_SYN | PT_TCP_FIN | PT_TCP_RST) ||
		    tcp->doff < 5)
			return false;
		header = tcp->doff * 4;
	}
	*l4_header = header;
	__u32 length = p->proto == IPPROTO_TCP ? header : bpf_ntohs(udp->len);

	return length >= header && length <= room;
}

/* What it acknowledges, if it does so. */
static __always_inline bool pt_packet_acks(struct __sk_buff *skb, const struct pt_pkt *p, __u32 *ack) {
	const struct tcphdr *tcp = (void *)(long)skb->data + (p->l4 & 0x7f);

	if (p->proto != IPPROTO_TCP || (void *)(tcp + 1) > (void *)(long)skb->data_end || !tcp->ack)
		return false;
	*ack = bpf_ntohl(tcp->ack_seq);
	return true;
}

/* The headers again, for writing, after a helper has invalidated every pointer. */
static __always_inline bool pt_packet_headers(struct __sk_buff *skb, __u32 l3, const struct pt_pkt *p,
					      struct pt_headers *h) {
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	__u32 l4 = p->l4 & 0x7f;

	h->eth = data;
	h->ip = data + (l3 ? sizeof(struct ethhdr) : 0); /* bounds that the verifier can see */
	h->ports = data + l4;
	return (void *)(h->ip + 1) <= data_end && (void *)(h->udp + 1) <= data_end;
}

/* XDP: where the frame ends. */
static __always_inline void *pt_frame_end(struct xdp_md *ctx) {
	return (void *)(long)ctx->data_end;
}

/* The Ethernet header, where there is one. */
static __always_inline struct ethhdr *pt_packet_eth(struct __sk_buff *skb) {
	struct ethhdr *eth = (void *)(long)skb->data;

	return (void *)(eth + 1) <= (void *)(long)skb->data_end ? eth : NULL;
}

#endif
