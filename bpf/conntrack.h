/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's own flows and sockets, which come before a lease. Conntrack kfuncs: kernel 5.18 for the
 * look-up, 6.1 for entries of our own (Documentation/bpf/kfuncs.rst; unstable by declaration).
 */
#ifndef PT_CONNTRACK_H
#define PT_CONNTRACK_H

#include "maps.h"
#include "packet.h"

/* As of kernel 6.1; later kernels accept this size. */
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

/* Only declared struct members are looked for in the running kernel (CO-RE). */
union nf_inet_addr {
	__u32 all[4];
	__be32 ip;
} __attribute__((preserve_access_index));
union nf_conntrack_man_proto {
	__be16 all;
} __attribute__((preserve_access_index));
struct nf_conntrack_man {
	union nf_inet_addr u3;
	union nf_conntrack_man_proto u;
} __attribute__((preserve_access_index));
struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
} __attribute__((preserve_access_index));
struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
} __attribute__((preserve_access_index));
struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
} __attribute__((preserve_access_index));
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
#define PT_IPS_FIXED_TIMEOUT (1UL << 10)
#define PT_CT_DIR_REPLY 1

/* An entry with a session's translation, which bpf/fragment.h makes: no packet extends it. */
#define PT_IPS_OURS (PT_IPS_SEEN_REPLY | PT_IPS_ASSURED | PT_IPS_DST_NAT | PT_IPS_FIXED_TIMEOUT)

enum pt_whose { PT_NOBODYS, PT_OURS, PT_HOSTS, PT_ANOTHERS };

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
	return bpf_skb_ct_lookup(skb, pt_sock_tuple(t), sizeof(*t), opts, sizeof(*opts));
}

/* Does the kernel have any flow with this tuple? */
static __noinline bool pt_conntrack_known(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto) {
	struct bpf_ct_opts opts = {};
	struct nf_conn *ct = pt_conntrack_find(skb, t, proto, &opts);

	if (!ct)
		return false;
	bpf_ct_release(ct);
	return true;
}

/*
 * Whose is an entry of the tuple remote -> WAN port, to a lease or session whose host is `host`? A masqueraded flow's
 * reply, the gateway's own flow and what NAT has changed are another's; an unreplied entry, left by the remote's
 * earlier probe or made by pt_conntrack_claim(), is nobody's; ours has this very translation; a reply to the host from
 * that very port is the host's.
 */
static __always_inline enum pt_whose pt_conntrack_whose(const struct nf_conn *ct, const struct bpf_ct_opts *opts,
							__be32 host, __be16 host_port) {
	unsigned long status = ct->status;

	if (opts->dir == PT_CT_DIR_REPLY)
		return ct->tuplehash[0].tuple.src.u3.ip == host && ct->tuplehash[0].tuple.src.u.all == host_port
			       ? PT_HOSTS
			       : PT_ANOTHERS;
	if ((status & PT_IPS_OURS) == PT_IPS_OURS && ct->tuplehash[1].tuple.src.u3.ip == host &&
	    ct->tuplehash[1].tuple.src.u.all == host_port)
		return PT_OURS;
	return status & (PT_IPS_SEEN_REPLY | PT_IPS_SRC_NAT | PT_IPS_DST_NAT) ? PT_ANOTHERS : PT_NOBODYS;
}
static __noinline enum pt_whose pt_conntrack_takes(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto,
						   __be32 host, __be16 host_port) {
	struct bpf_ct_opts opts = {};
	struct nf_conn *ct = pt_conntrack_find(skb, t, proto, &opts);

	if (!ct)
		return PT_NOBODYS;
	enum pt_whose whose = pt_conntrack_whose(ct, &opts, host, host_port);

	bpf_ct_release(ct);
	return whose;
}

/*
 * Tell conntrack that a session's tuple remote -> WAN port is in use, so that masquerade gives it to nobody: an
 * unreplied entry without NAT, which is to the firewall what no entry is. Renews it if it is there; no time gives the
 * tuple back. False: it is another's. `key` and `lan` are the session's LAN side.
 */
static __noinline bool pt_conntrack_claim(struct __sk_buff *skb, const struct ptrig_session_key *key,
					  const struct ptrig_session *lan, __u64 time_ns) {
	struct pt_tuple t = {.saddr = key->daddr, .daddr = lan->addr, .sport = key->dport, .dport = lan->port};
	struct bpf_ct_opts opts = {};
	__u32 time_ms = time_ns / 1000000;
	struct nf_conn *ct = pt_conntrack_find(skb, &t, key->proto, &opts);

	if (ct) {
		enum pt_whose whose = pt_conntrack_whose(ct, &opts, key->saddr, key->sport);

		if (whose == PT_NOBODYS)
			bpf_ct_change_timeout(ct, time_ms);
		bpf_ct_release(ct);
		return whose != PT_ANOTHERS;
	}
	if (!time_ms)
		return true;
	opts.dir = 0;
	opts.error = 0;
	struct nf_conn___init *fresh = bpf_skb_ct_alloc(skb, pt_sock_tuple(&t), sizeof(t), &opts, sizeof(opts));

	if (!fresh)
		return true;
	bpf_ct_set_timeout(fresh, time_ms);
	ct = bpf_ct_insert_entry(fresh);
	if (ct) {
		bpf_ct_release(ct);
		return true;
	}
	ct = pt_conntrack_find(skb, &t, key->proto, &opts); /* somebody else was quicker */
	if (!ct)
		return true;
	bool anothers = pt_conntrack_whose(ct, &opts, key->saddr, key->sport) == PT_ANOTHERS;

	bpf_ct_release(ct);
	return !anothers;
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
