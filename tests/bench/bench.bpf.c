// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The benchmark's own programs: the generator (run by BPF_PROG_RUN on live frames, whose pages come back as the
 * gateway left them, so every header byte is written each time), the counting sink, and two gateways that set the
 * scale: one that drops, and one that makes a forwarding DNAT's header writes without any look-up.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "bench_frame.h"
#include "ptrig/abi.h"

#define BENCH_REMOTES 0xc6120000 /* 198.18.0.0/15, RFC 2544 */
#define BENCH_LAG 64             /* flows between a question and its answer: one batch is through by then */

struct bench_plan plan;
struct bench_touch touch_in, touch_out;
struct bench_touch expect_in, expect_out; /* what the checking sink wants to see */
__u64 right, wrong;                       /* frames that it saw */
__u64 sent;                               /* frames since the plan was set; the generator runs on one CPU */
const volatile __u32 lines = 1;           /* of bench_lines; a power of two */

struct bench_line {
	__be32 zero;
	__u32 rest[15];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct bench_line);
	__uint(max_entries, 1); /* as many as `lines` */
} bench_lines SEC(".maps");

/* As pt_halfopen. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct ptrig_session_key);
	__type(value, struct ptrig_session);
	__uint(max_entries, 1); /* set by user space */
} bench_pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} received SEC(".maps");

/* 0: the LAN side's device, 1: the WAN side's. The generator's and the gateway's are two maps of this kind. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 2);
} generator_to SEC(".maps"), gateway_to SEC(".maps");

/* A 32-bit mix with no short cycle: flows in random order are as likely as each other. */
static __always_inline __u32 mix(__u32 x) {
	x = (x ^ (x >> 16)) * 0x7feb352d;
	x = (x ^ (x >> 15)) * 0x846ca68b;
	return x ^ (x >> 16);
}

SEC("xdp")
int bench_generate(struct xdp_md *ctx) {
	void *data = (void *)(long)ctx->data;
	struct frame f = frame_at(data);
	void *end = (void *)(long)ctx->data_end;
	const __u64 n = plan.by_cpu ? bpf_get_smp_processor_id() : sent++; /* no line that two CPUs write */
	__u64 flow = n;
	__u32 out = plan.mode == BENCH_OUT;

	if ((void *)(f.udp + 1) > end)
		return XDP_ABORTED;
	if (plan.mode == BENCH_PAIR) {
		out = n & 1;
		flow = n >> 1;
		if (out) {
			if (flow < BENCH_LAG)
				return XDP_DROP;
			flow -= BENCH_LAG;
		}
		if (flow >= plan.flows)
			return XDP_DROP;
	} else if (plan.mode == BENCH_TRIGGER) {
		out = !(n & 1);
		flow = n >> 1;
	} else if (plan.random) {
		flow = (__u64)mix(n) * plan.flows >> 32;
	} else if (flow >= plan.flows) {
		flow %= plan.flows;
	}
	flow += plan.first;
	const __be32 remote = bpf_htonl(BENCH_REMOTES + (flow & 0x1ffff));
	const __be16 port = plan.remote_port ? bpf_htons(plan.remote_port) : bpf_htons(10000 + (flow >> 17));

	if (out) {
		copy_mac(f.eth->h_dest, plan.gw_lan);
		copy_mac(f.eth->h_source, plan.host_mac);
		write_frame(&f, plan.host, remote, plan.host_port, plan.mode == BENCH_TRIGGER ? plan.trigger : port,
			    end - data);
	} else {
		copy_mac(f.eth->h_dest, plan.gw_wan);
		copy_mac(f.eth->h_source, plan.remote_mac);
		write_frame(&f, remote, plan.wan, port, plan.wan_port, end - data);
	}
	return bpf_redirect_map(&generator_to, !out, 0);
}

SEC("xdp")
int bench_sink(struct xdp_md *ctx) {
	void *data = (void *)(long)ctx->data;
	struct frame f = frame_at(data);
	const __u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&received, &zero);

	if ((void *)(f.udp + 1) > (void *)(long)ctx->data_end || f.eth->h_proto != bpf_htons(ETH_P_IP) ||
	    f.ip->protocol != IPPROTO_UDP || !count)
		return XDP_PASS;
	++*count;
	return XDP_DROP;
}

/* In place of bench_sink, before anything is measured: is it the frame that a gateway has to deliver here? */
static __always_inline int check(struct xdp_md *ctx, const struct bench_touch *want, __u32 out) {
	void *data = (void *)(long)ctx->data;
	struct frame f = frame_at(data);
	const __u32 head = sizeof(*f.eth) + sizeof(*f.ip);

	if (data + BENCH_FRAME > (void *)(long)ctx->data_end || f.eth->h_proto != bpf_htons(ETH_P_IP) ||
	    f.ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	const __u32 pseudo = sum32(f.ip->saddr) + sum32(f.ip->daddr) + bpf_htons(IPPROTO_UDP) + f.udp->len;
	const __u32 ok = same_mac(f.eth->h_dest, want->dmac) && same_mac(f.eth->h_source, want->smac) &&
			 f.ip->ttl == 63 && (out ? f.ip->saddr : f.ip->daddr) == want->addr &&
			 (out ? f.udp->source : f.udp->dest) == want->port &&
			 sum_of(f.ip, sizeof(*f.ip) / 2, 0) == 0xffff &&
			 sum_of(f.udp, (BENCH_FRAME - head) / 2, pseudo) == 0xffff;

	__sync_fetch_and_add(ok ? &right : &wrong, 1);
	return XDP_DROP;
}

SEC("xdp")
int bench_check_host(struct xdp_md *ctx) {
	return check(ctx, &expect_in, 0);
}
SEC("xdp")
int bench_check_remote(struct xdp_md *ctx) {
	return check(ctx, &expect_out, 1);
}

/* 0, from a line of its own for each flow: the least that a table with something for each session can cost. */
static __always_inline __be32 line_of(const struct frame *f, __u32 out) {
	const __be32 remote = out ? f->ip->daddr : f->ip->saddr;
	const __be16 port = out ? f->udp->dest : f->udp->source;
	const __u32 place = mix(bpf_ntohl(remote) ^ (__u32)port << 16) & (lines - 1);
	const struct bench_line *line = bpf_map_lookup_elem(&bench_lines, &place);

	return line ? line->zero : 0;
}

/* Two entries for a packet from the remote, by what arrives on either side: the least that making a session costs. */
static __always_inline void make_pair(struct xdp_md *ctx, const struct bench_touch *t) {
	void *data = (void *)(long)ctx->data;
	struct frame f = frame_at(data);
	struct ptrig_session value = {.state = PTRIG_SESSION_HALFOPEN, .addr = t->addr, .port = t->port};

	if ((void *)(f.udp + 1) > (void *)(long)ctx->data_end)
		return;
	struct ptrig_session_key wan = {.saddr = f.ip->saddr,
					.daddr = f.ip->daddr,
					.sport = f.udp->source,
					.dport = f.udp->dest,
					.proto = f.ip->protocol,
					.side = PTRIG_SIDE_WAN};
	struct ptrig_session_key lan = {.saddr = t->addr,
					.daddr = wan.saddr,
					.sport = t->port,
					.dport = wan.sport,
					.proto = wan.proto,
					.side = PTRIG_SIDE_LAN};

	bpf_map_update_elem(&bench_pairs, &wan, &value, BPF_NOEXIST);
	bpf_map_update_elem(&bench_pairs, &lan, &value, BPF_NOEXIST);
}

static __always_inline int touch(struct xdp_md *ctx, const struct bench_touch *t, __u32 out, __u32 reads) {
	void *data = (void *)(long)ctx->data;
	struct frame f = frame_at(data);

	if ((void *)(f.udp + 1) > (void *)(long)ctx->data_end || f.eth->h_proto != bpf_htons(ETH_P_IP) ||
	    f.ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	__be32 *address = out ? &f.ip->saddr : &f.ip->daddr;
	__be16 *port = out ? &f.udp->source : &f.udp->dest;
	const __be32 to = reads ? t->addr ^ line_of(&f, out) : t->addr;
	const __u32 diff = pt_csum_diff32(*address, to);
	const __u16 check = pt_csum_apply(f.udp->check, diff + pt_csum_diff16(*port, t->port));

	f.ip->check = pt_csum_apply(f.ip->check, diff + pt_csum_diff16(bpf_htons(1 << 8), 0));
	f.ip->ttl--;
	f.udp->check = check ? check : 0xffff;
	*address = to;
	*port = t->port;
	copy_mac(f.eth->h_dest, t->dmac);
	copy_mac(f.eth->h_source, t->smac);
	return bpf_redirect_map(&gateway_to, out, 0);
}

SEC("xdp")
int bench_touch_wan(struct xdp_md *ctx) {
	return touch(ctx, &touch_in, 0, 0);
}
SEC("xdp")
int bench_touch_lan(struct xdp_md *ctx) {
	return touch(ctx, &touch_out, 1, 0);
}
SEC("xdp")
int bench_read_wan(struct xdp_md *ctx) {
	return touch(ctx, &touch_in, 0, 1);
}
SEC("xdp")
int bench_read_lan(struct xdp_md *ctx) {
	return touch(ctx, &touch_out, 1, 1);
}

SEC("xdp")
int bench_make_wan(struct xdp_md *ctx) {
	make_pair(ctx, &touch_in);
	return touch(ctx, &touch_in, 0, 0);
}

SEC("xdp")
int bench_drop(struct xdp_md *ctx) {
	return bench_sink(ctx);
}

/* At every place where ptrig has a TC program, to see what the place costs. */
SEC("tc")
int pt_idle(struct __sk_buff *skb) {
	(void)skb;
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
