/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way on: the kernel's routing and neighbour tables are asked once a second and session. */
#ifndef PT_NEXTHOP_H
#define PT_NEXTHOP_H

#include "maps.h"
#include "packet.h"

#define PT_AF_INET 2

struct pt_hop {
	__u32 oif;
	__u32 flags;    /* PTRIG_IFACE_* of oif; 0: not an interface of ours */
	__be32 gateway; /* next hop's address; the destination itself if it is on-link */
	__u16 mtu;      /* 0: not known */
	bool has_mac;
	__u8 dmac[6];
};

static __always_inline bool pt_nexthop_find(struct __sk_buff *skb, __be32 saddr, __be32 daddr, __u32 ifindex,
					    __u32 flags, struct pt_hop *hop) {
	struct bpf_fib_lookup fib = {
		.family = PT_AF_INET,
		.tot_len = sizeof(struct iphdr), /* not 0: then the route's MTU comes back */
		.ipv4_src = saddr,
		.ipv4_dst = daddr,
		.ifindex = ifindex,
	};
	long rc = bpf_fib_lookup(skb, &fib, sizeof(fib), flags);

	if (rc != BPF_FIB_LKUP_RET_SUCCESS && rc != BPF_FIB_LKUP_RET_NO_NEIGH)
		return false;
	struct ptrig_iface *iface = bpf_map_lookup_elem(&pt_ifaces, &fib.ifindex);

	hop->oif = fib.ifindex;
	hop->flags = iface ? iface->flags : 0;
	hop->gateway = fib.ipv4_dst;
	hop->has_mac = rc == BPF_FIB_LKUP_RET_SUCCESS && !(hop->flags & PTRIG_IFACE_L3);
	hop->mtu = rc == BPF_FIB_LKUP_RET_SUCCESS ? fib.mtu_result : iface ? iface->mtu : 0;
	__builtin_memcpy(hop->dmac, fib.dmac, sizeof(hop->dmac));
	return true;
}

/* The route from saddr to daddr for a packet that came in by `iif`. */
static __noinline bool pt_nexthop_from(struct __sk_buff *skb, __be32 saddr, __be32 daddr, __u32 iif,
				       struct pt_hop *hop) {
	return pt_nexthop_find(skb, saddr, daddr, iif, 0, hop);
}
/* The route from saddr to daddr that leaves by `oif`. */
static __noinline bool pt_nexthop_by(struct __sk_buff *skb, __be32 saddr, __be32 daddr, __u32 oif, struct pt_hop *hop) {
	return pt_nexthop_find(skb, saddr, daddr, oif, BPF_FIB_LOOKUP_OUTPUT, hop);
}

static __always_inline const __u32 *pt_wan_find(__u32 ifindex, __be32 address) {
	struct ptrig_wan_key key = {.ifindex = ifindex, .address = address};

	return bpf_map_lookup_elem(&pt_wan_addrs, &key);
}
static __always_inline bool pt_wan_address(__u32 ifindex, __be32 address) {
	const __u32 *known = pt_wan_find(ifindex, address);

	return known && !(*known & PTRIG_WAN_GONE);
}
/* Was it one until a moment ago? */
static __always_inline bool pt_wan_left(__u32 ifindex, __be32 address) {
	const __u32 *known = pt_wan_find(ifindex, address);

	return known && *known & PTRIG_WAN_GONE;
}

#endif
