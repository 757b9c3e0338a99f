/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one kind of frame that the benchmark sends: how it is written, and what its checksums are from scratch. */
#ifndef PTRIG_BENCH_FRAME_H
#define PTRIG_BENCH_FRAME_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../../bpf/csum.h"
#include "bench_abi.h"

/* Where its headers are. Not one packed structure: the compiler would read and write that byte by byte. */
struct frame {
	struct ethhdr *eth;
	struct iphdr *ip;
	struct udphdr *udp;
};

static __always_inline struct frame frame_at(void *data) {
	return (struct frame){data, data + sizeof(struct ethhdr), data + sizeof(struct ethhdr) + sizeof(struct iphdr)};
}

static __always_inline void copy_mac(__u8 *to, const __u8 *from) {
	*(__u32 *)to = *(const __u32 *)from;
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

static __always_inline __u32 sum32(__be32 word) {
	return (word & 0xffff) + (word >> 16);
}

static __always_inline void write_frame(struct frame *f, __be32 saddr, __be32 daddr, __be16 sport, __be16 dport,
					__u16 frame_len) {
	const __be16 ip_len = bpf_htons(frame_len - sizeof(*f->eth));
	const __be16 udp_len = bpf_htons(frame_len - sizeof(*f->eth) - sizeof(*f->ip));
	const __u32 addresses = sum32(saddr) + sum32(daddr);

	f->eth->h_proto = bpf_htons(ETH_P_IP);
	*(__u16 *)f->ip = bpf_htons(0x4500);
	f->ip->tot_len = ip_len;
	f->ip->id = 0;
	f->ip->frag_off = 0;
	f->ip->ttl = 64;
	f->ip->protocol = IPPROTO_UDP;
	f->ip->saddr = saddr;
	f->ip->daddr = daddr;
	f->ip->check = ~pt_csum_fold(bpf_htons(0x4500) + ip_len + bpf_htons(64 << 8 | IPPROTO_UDP) + addresses);
	f->udp->source = sport;
	f->udp->dest = dport;
	f->udp->len = udp_len;
	f->udp->check = ~pt_csum_fold(addresses + bpf_htons(IPPROTO_UDP) + udp_len + sport + dport + udp_len);
}

/* One's complement sum of `words` 16-bit words of the frame, which is the fixed length of the generator's. */
static __always_inline __u16 sum_of(const void *from, __u32 words, __u32 sum) {
	const __u16 *word = from;

#pragma unroll
	for (__u32 i = 0; i < BENCH_FRAME / 2; i++)
		if (i < words)
			sum += word[i];
	return pt_csum_fold(sum);
}

static __always_inline __u32 same_mac(const __u8 *a, const __u8 *b) {
	const __u16 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

#endif
