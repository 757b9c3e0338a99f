/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's own flows and sockets, which come before a lease. Conntrack kfuncs: kernel 5.18 for the
 * look-up, 6.1 for entries of our own (Documentation/bpf/kfuncs.rst; unstable by declaration).
 */
#ifndef PT_CONNTRACK_H
#define PT_CONNTRACK_H

#include "packet.h"

/* As of kernel 6.11. Kernels before that know the first 12 bytes alone, which later ones accept, too. */
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u16 ct_zone_id;
	__u8 ct_zone_dir;
	__u8 reserved[3];
};
#define PT_CT_OPTS_SIZE (cfg_zone ? sizeof(struct bpf_ct_opts) : 12)

/* Only declared struct members are looked for in the running kernel (CO-RE). */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
union nf_inet_addr {
	__u32 all[4];
	__be32 ip;
};
union nf_conntrack_man_proto {
	__be16 all;
};
struct nf_conntrack_man {
	union nf_inet_addr u3;
	union nf_conntrack_man_proto u;
};
struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union {
			__be16 all;
		} u;
	} dst;
};
struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
};
struct ip_ct_tcp_state {
	__u32 td_maxwin;
	__u8 flags;
};
struct ip_ct_tcp {
	struct ip_ct_tcp_state seen[2];
	__u8 state;
};
union nf_conntrack_proto {
	struct ip_ct_tcp tcp;
};
struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
	__u32 mark;
	union nf_conntrack_proto proto;
};
#pragma clang attribute pop
enum nf_nat_manip_type { NF_NAT_MANIP_SRC, NF_NAT_MANIP_DST };
struct nf_conn___init {
	struct nf_conn ct;
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple_size,
					 struct bpf_ct_opts *opts, __u32 opts_size) __ksym;
extern struct nf_conn___init *bpf_skb_ct_alloc(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple_size,
					       struct bpf_ct_opts *opts, __u32 opts_size) __ksym;
extern int bpf_ct_set_nat_info(struct nf_conn___init *ct, union nf_inet_addr *addr, int port,
			       enum nf_nat_manip_type manip) __ksym;
extern int bpf_ct_set_status(struct nf_conn___init *ct, __u32 status) __ksym;
extern void bpf_ct_set_timeout(struct nf_conn___init *ct, __u32 timeout) __ksym;
extern int bpf_ct_change_timeout(struct nf_conn *ct, __u32 timeout) __ksym;
extern struct nf_conn *bpf_ct_insert_entry(struct nf_conn___init *ct) __ksym;
extern void bpf_ct_release(struct nf_conn *ct) __ksym;

#define PT_IPS_SEEN_REPLY (1UL << 1)
#define PT_IPS_ASSURED (1UL << 2)
#define PT_IPS_SRC_NAT (1UL << 4)
#define PT_IPS_DST_NAT (1UL << 5)
#define PT_IPS_DYING (1UL << 9)
#define PT_IPS_HELPER (1UL << 13)
#define PT_CT_DIR_REPLY 1

/* enum tcp_conntrack */
#define PT_CT_TCP_ESTABLISHED 3
#define PT_CT_TCP_LAST_ACK 6
#define PT_CT_TCP_TIME_WAIT 7
#define PT_CT_TCP_CLOSE 8
#define PT_CT_TCP_BE_LIBERAL 0x08 /* IP_CT_TCP_FLAG_BE_LIBERAL */

/* The IPv4 part of struct bpf_sock_tuple, which is all that is handed to the kernel. */
struct pt_tuple {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
};
static __always_inline struct pt_tuple pt_tuple_of(const struct pt_pkt *p) {
	struct pt_tuple t = {.saddr = p->saddr, .daddr = p->daddr, .sport = p->sport, .dport = p->dport};

	return t;
}
static __always_inline struct bpf_sock_tuple *pt_sock_tuple(const struct pt_tuple *t) {
	return (struct bpf_sock_tuple *)t;
}

static __always_inline struct nf_conn *pt_conntrack_find(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto,
							 struct bpf_ct_opts *opts) {
	opts->netns_id = -1;
	opts->l4proto = proto;
	opts->ct_zone_id = cfg_zone;
	return bpf_skb_ct_lookup(skb, pt_sock_tuple(t), sizeof(*t), opts, PT_CT_OPTS_SIZE);
}

/* What an entry said when it was looked at. */
struct pt_entry {
	struct pt_tuple orig;  /* the first packet's, as it came */
	struct pt_tuple reply; /* its answer's, as it comes */
	__u32 status;
	__u32 mark;
	bool found;
	bool is_reply; /* it was found by its answer's tuple */
	__u8 tcp_state;
	bool liberal; /* TCP: it lets sequence numbers be, those of both directions */
	__u32 window; /* TCP: the largest that the receiver of such a packet has announced */
};

static __noinline bool pt_entry_look(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto, struct pt_entry *e) {
	struct bpf_ct_opts opts = {};
	struct nf_conn *ct = pt_conntrack_find(skb, t, proto, &opts);

	if (!ct) {
		e->found = false;
		return false;
	}
	e->found = true;
	e->is_reply = opts.dir == PT_CT_DIR_REPLY;
	e->status = ct->status;
	e->mark = ct->mark;
	e->tcp_state = 0;
	e->liberal = false;
	if (proto == IPPROTO_TCP) {
		e->tcp_state = ct->proto.tcp.state;
		e->liberal = ct->proto.tcp.seen[0].flags & ct->proto.tcp.seen[1].flags & PT_CT_TCP_BE_LIBERAL;
		e->window = e->is_reply ? ct->proto.tcp.seen[0].td_maxwin : ct->proto.tcp.seen[1].td_maxwin;
	}
	e->orig.saddr = ct->tuplehash[0].tuple.src.u3.ip;
	e->orig.daddr = ct->tuplehash[0].tuple.dst.u3.ip;
	e->orig.sport = ct->tuplehash[0].tuple.src.u.all;
	e->orig.dport = ct->tuplehash[0].tuple.dst.u.all;
	e->reply.saddr = ct->tuplehash[1].tuple.src.u3.ip;
	e->reply.daddr = ct->tuplehash[1].tuple.dst.u3.ip;
	e->reply.sport = ct->tuplehash[1].tuple.src.u.all;
	e->reply.dport = ct->tuplehash[1].tuple.dst.u.all;
	bpf_ct_release(ct);
	return true;
}

enum pt_whose {
	PT_NONE,    /* there is no entry */
	PT_NOBODYS, /* unreplied and without NAT: left by the remote's earlier probe */
	PT_OURS,    /* has this very translation */
	PT_HOSTS,   /* its host's own flow, of the same two ends: after a flush the host has sent first */
	PT_ANOTHERS /* a flow that began inside, or is the gateway's own, or has been translated by somebody else */
};

/* Whose is an entry of the tuple remote -> WAN port, to a session or lease that leads to host:port? */
static __always_inline enum pt_whose pt_entry_whose(const struct pt_entry *e, __be32 host, __be16 port) {
	if (!e->found)
		return PT_NONE;
	if (e->is_reply)
		return e->orig.saddr == host && e->orig.sport == port ? PT_HOSTS : PT_ANOTHERS;
	if (e->status & PT_IPS_DST_NAT && e->reply.saddr == host && e->reply.sport == port)
		return PT_OURS;
	return e->status & (PT_IPS_SEEN_REPLY | PT_IPS_SRC_NAT | PT_IPS_DST_NAT) ? PT_ANOTHERS : PT_NOBODYS;
}

static __noinline void pt_entry_time(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto, __u64 time_ns) {
	struct bpf_ct_opts opts = {};
	struct nf_conn *ct = pt_conntrack_find(skb, t, proto, &opts);

	if (!ct)
		return;
	bpf_ct_change_timeout(ct, time_ns / 1000000);
	bpf_ct_release(ct);
}

#define PT_FORGET_TRIES 64

/* Entries cannot be deleted from here. This one expires at once, and the second look-up, which finds that it has,
 * deletes it. A packet on another CPU may have given it time in between, then it is found, or even between the kernel's
 * two looks at its time: then it is not found, and lives (____nf_conntrack_find(), nf_ct_gc_expired()). So it is gone
 * when it is dying. Global for the verifier's sake. */
__noinline int pt_entry_forget(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto) {
	struct bpf_ct_opts opts = {};
	struct nf_conn *ct = t ? pt_conntrack_find(skb, t, proto, &opts) : NULL;

	if (!ct)
		return 0;
	for (int i = 0; i < PT_FORGET_TRIES && !(ct->status & PT_IPS_DYING); i++) {
		bpf_ct_change_timeout(ct, 0);
		struct nf_conn *again = pt_conntrack_find(skb, t, proto, &opts);

		if (again)
			bpf_ct_release(again);
	}
	bpf_ct_release(ct);
	return 0;
}

/* An entry to be made: what a packet `orig` and its answers are translated to. */
struct pt_wanted {
	struct pt_tuple orig;
	__be32 to;   /* new destination; 0: none */
	__be32 from; /* new source; 0: none */
	__be16 to_port;
	__be16 from_port; /* 0: the kernel picks one that is free */
	__u32 status;
	__u32 mark;
	__u32 time_ms;
	__be16 got_port; /* result: the new source's port */
	__u8 proto;
};

static __noinline bool pt_entry_make(struct __sk_buff *skb, struct pt_wanted *w) {
	struct bpf_ct_opts opts = {.netns_id = -1, .l4proto = w->proto, .ct_zone_id = cfg_zone};
	union nf_inet_addr address = {};
	int err = 0;
	struct nf_conn___init *fresh =
		bpf_skb_ct_alloc(skb, pt_sock_tuple(&w->orig), sizeof(w->orig), &opts, PT_CT_OPTS_SIZE);

	if (!fresh)
		return false;
	if (w->to) {
		address.all[0] = w->to;
		err = bpf_ct_set_nat_info(fresh, &address, bpf_ntohs(w->to_port), NF_NAT_MANIP_DST);
	}
	if (w->from) {
		address.all[0] = w->from;
		err |= bpf_ct_set_nat_info(fresh, &address, bpf_ntohs(w->from_port), NF_NAT_MANIP_SRC);
	}
	if (w->status)
		err |= bpf_ct_set_status(fresh, w->status);
	if (w->mark)
		((struct nf_conn *)fresh)->mark = w->mark;
	bpf_ct_set_timeout(fresh, err ? 0 : w->time_ms); /* there is no other way to be rid of it */
	struct nf_conn *ct = bpf_ct_insert_entry(fresh);

	if (!ct)
		return false;
	w->got_port = ct->tuplehash[1].tuple.dst.u.all;
	bpf_ct_release(ct);
	return !err;
}

/* Does the gateway itself listen, or talk, on this tuple (remote -> WAN port)? */
static __noinline bool pt_socket_takes(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto) {
	struct bpf_sock *tcp_socket, *udp_socket;

	if (proto == IPPROTO_TCP) {
		tcp_socket = bpf_skc_lookup_tcp(skb, pt_sock_tuple(t), sizeof(*t), BPF_F_CURRENT_NETNS, 0);
		if (!tcp_socket)
			return false;
		bpf_sk_release(tcp_socket);
		return true;
	}
	udp_socket = bpf_sk_lookup_udp(skb, pt_sock_tuple(t), sizeof(*t), BPF_F_CURRENT_NETNS, 0);
	if (!udp_socket)
		return false;
	bpf_sk_release(udp_socket);
	return true;
}

#endif
