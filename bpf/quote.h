/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An ICMP error and the packet that it quotes (RFC 792, RFC 5508 section 4): found, held against its checksums, and
 * rewritten. What is read and written lies in the first 78 bytes after the ICMP header, so extensions
 * (RFC 4884), which begin 128 bytes after it or later, and the field with their place are never touched.
 */
#ifndef PT_QUOTE_H
#define PT_QUOTE_H

#include "csum.h"
#include "packet.h"
#include "rewrite.h"

/* <linux/icmp.h> drags in the C library. */
#define PT_ICMP_HEADER 8
#define PT_ICMP_CHECK_OFFSET 2
#define PT_ICMP_UNREACHABLE 3
#define PT_ICMP_TIME_EXCEEDED 11
#define PT_ICMP_PARAMETER 12

#define PT_QUOTE_CHUNK 64
#define PT_QUOTE_L4_LEAST 8 /* of the quoted packet's TCP or UDP header, RFC 792 */

struct pt_quote {
	__u32 l3;    /* offsets: the IP header, */
	__u32 icmp;  /* the ICMP header, */
	__u32 inner; /* the quoted IP header, */
	__u32 l4;    /* the quoted TCP or UDP header, */
	__u32 end;   /* the packet's end */
	struct iphdr ip;
	struct iphdr quoted;
	struct {
		__be16 source, dest;
	} ports;
};

/* The session that an error is about: what the quoted address and port become. */
struct pt_quote_about {
	__be32 address;
	__be16 port;
	__u32 oif;
	__u32 via;
};

static __always_inline bool pt_quote_is_error(__u8 type) {
	return type == PT_ICMP_UNREACHABLE || type == PT_ICMP_TIME_EXCEEDED || type == PT_ICMP_PARAMETER;
}

/* Is this an ICMP error that quotes a TCP or UDP packet with its ports? */
static __noinline bool pt_quote_parse(struct __sk_buff *skb, __u32 l3, struct pt_quote *q) {
	__u8 type = 0;

	if (bpf_skb_load_bytes(skb, l3, &q->ip, sizeof(q->ip)))
		return false;
	q->l3 = l3;
	q->icmp = l3 + q->ip.ihl * 4;
	q->inner = q->icmp + PT_ICMP_HEADER;
	q->end = l3 + bpf_ntohs(q->ip.tot_len);
	if (q->ip.version != 4 || q->ip.ihl < 5 || q->ip.protocol != IPPROTO_ICMP || q->end > skb->len ||
	    q->ip.frag_off & bpf_htons(PT_IP_MF | PT_IP_OFFSET) || q->inner + sizeof(q->quoted) > q->end)
		return false;
	if (bpf_skb_load_bytes(skb, q->icmp, &type, sizeof(type)) || !pt_quote_is_error(type) ||
	    bpf_skb_load_bytes(skb, q->inner, &q->quoted, sizeof(q->quoted)))
		return false;
	q->l4 = q->inner + q->quoted.ihl * 4;
	if (q->quoted.version != 4 || q->quoted.ihl < 5 || q->quoted.frag_off & bpf_htons(PT_IP_OFFSET) ||
	    (q->quoted.protocol != IPPROTO_TCP && q->quoted.protocol != IPPROTO_UDP) ||
	    q->l4 + PT_QUOTE_L4_LEAST > q->end)
		return false;
	return !bpf_skb_load_bytes(skb, q->l4, &q->ports, sizeof(q->ports));
}

struct pt_quote_sum {
	struct __sk_buff *skb;
	__u32 at;
	__u32 end;
	__u32 sum;
};

static long pt_quote_add(__u32 n, struct pt_quote_sum *w) {
	__u8 chunk[PT_QUOTE_CHUNK] = {};
	__u32 size = w->end - w->at;

	if (size > PT_QUOTE_CHUNK)
		size = PT_QUOTE_CHUNK;
	__u32 less = size - 1;

	/* Kernel 6.1 learns nothing from size != 0, and sees no relation between two registers. */
	asm volatile("" : "+r"(less));
	if (less >= PT_QUOTE_CHUNK || bpf_skb_load_bytes(w->skb, w->at, chunk, less + 1))
		return 1;
	w->at += size;
	w->sum = bpf_csum_diff(NULL, 0, (__be32 *)chunk, sizeof(chunk), w->sum);
	return 0;
}
/* Is the checksum in these bytes right? */
static __noinline bool pt_quote_sum_right(struct __sk_buff *skb, __u32 at, __u32 end) {
	struct pt_quote_sum w = {.skb = skb, .at = at, .end = end};

	bpf_loop((end - at + PT_QUOTE_CHUNK - 1) / PT_QUOTE_CHUNK, pt_quote_add, &w, 0);
	return w.at == end && pt_csum_fold(w.sum) == 0xffff;
}
/* RFC 5508 REQ-3: of the message and of the quoted IP header; that of the quoted TCP or UDP packet is none of ours. */
static __always_inline bool pt_quote_right(struct __sk_buff *skb, const struct pt_quote *q) {
	return pt_quote_sum_right(skb, q->icmp, q->end) && pt_quote_sum_right(skb, q->inner, q->l4);
}

/* The quoted TCP or UDP checksum, if the quote has it; `diff` is what it changes by. False: could not be written. */
static __always_inline bool pt_quote_l4_check(struct __sk_buff *skb, const struct pt_quote *q, __u32 diff,
					      __u32 *icmp_diff) {
	bool udp = q->quoted.protocol == IPPROTO_UDP;
	__u32 at = q->l4 + (udp ? PT_UDP_CHECK_OFFSET : PT_TCP_CHECK_OFFSET);
	__u16 old = 0;

	if (at + sizeof(old) > q->end)
		return true;
	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)))
		return false;
	if (udp && !old)
		return true;
	__u16 fresh = pt_csum_apply(old, diff);

	if (udp && !fresh)
		fresh = 0xffff;
	*icmp_diff += pt_csum_diff16(old, fresh);
	return !bpf_skb_store_bytes(skb, at, &fresh, sizeof(fresh), 0);
}

/*
 * side WAN: it is about a packet of the host's, whose source becomes the host; side LAN: about one to the host, whose
 * destination becomes the WAN side. The error itself goes to, or comes from, that address. False: half done, to be
 * dropped.
 */
static __noinline bool pt_quote_rewrite(struct __sk_buff *skb, struct pt_quote *q, __u32 side,
					const struct pt_quote_about *about, __u32 ttl_less) {
	bool wan = side == PTRIG_SIDE_WAN;
	__be32 address = about->address;
	__be16 port = about->port;
	__be32 old = wan ? q->quoted.saddr : q->quoted.daddr;
	__be16 old_port = wan ? q->ports.source : q->ports.dest;
	__u32 inner = pt_csum_diff32(old, address), ports = pt_csum_diff16(old_port, port);
	__u32 outer = pt_csum_diff32(wan ? q->ip.daddr : q->ip.saddr, address);
	__u16 old_check = q->quoted.check, check = 0;
	__u32 diff = inner + ports;

	if (!pt_quote_l4_check(skb, q, inner + ports, &diff))
		return false;
	q->quoted.check = pt_csum_apply(old_check, inner);
	diff += pt_csum_diff16(old_check, q->quoted.check);
	*(wan ? &q->quoted.saddr : &q->quoted.daddr) = address;
	*(wan ? &q->ip.daddr : &q->ip.saddr) = address;
	*(wan ? &q->ports.source : &q->ports.dest) = port;
	if (ttl_less) {
		outer += pt_csum_diff16(bpf_htons(q->ip.ttl << 8), bpf_htons((q->ip.ttl - 1) << 8));
		q->ip.ttl--;
	}
	q->ip.check = pt_csum_apply(q->ip.check, outer);
	__u32 check_at = q->icmp + PT_ICMP_CHECK_OFFSET;

	if (bpf_skb_load_bytes(skb, check_at, &check, sizeof(check)))
		return false;
	check = pt_csum_apply(check, diff);
	return !bpf_skb_store_bytes(skb, check_at, &check, sizeof(check), 0) &&
	       !bpf_skb_store_bytes(skb, q->l4, &q->ports, sizeof(q->ports), 0) &&
	       !bpf_skb_store_bytes(skb, q->inner, &q->quoted, sizeof(q->quoted), 0) &&
	       !bpf_skb_store_bytes(skb, q->l3, &q->ip, sizeof(q->ip), 0);
}

#endif
