/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every struct that crosses a map, for the BPF programs and for user space. Fields are in host byte
 * order unless their type is __be16 or __be32. Times are CLOCK_BOOTTIME nanoseconds. A change of
 * layout or meaning raises PTRIG_ABI; a running gateway with another number is started afresh.
 */
#ifndef PTRIG_ABI_H
#define PTRIG_ABI_H

#include <linux/types.h>

#include "reasons.h"

#define PTRIG_ABI 13

#define PTRIG_MAX_RULES 65536       /* a rule's slot is 16 bits */
#define PTRIG_MAX_RANGES 16         /* ranges on each side of a rule */
#define PTRIG_MAX_RULES_PER_PORT 16 /* rules on one port of one protocol */
#define PTRIG_NAME_SIZE 32          /* rule name and its NUL */

/* Bits of a protocol mask, and the index of a protocol in the port tables. */
#define PTRIG_TCP 1U
#define PTRIG_UDP 2U
#define PTRIG_PROTO_INDEX_TCP 0U
#define PTRIG_PROTO_INDEX_UDP 1U

/*
 * Port tables (pt_trig_ports, pt_open_ports, pt_host_ports): arrays of __u32, one table each per
 * generation, at index PTRIG_PORT_INDEX(generation, protocol index, port).
 * An entry is 0 (no rule), slot + 1 (one rule), or PTRIG_PORT_LIST | list (several: pt_lists).
 * Example: 6667/tcp triggers the rule in slot 0 only: entry 1.
 */
#define PTRIG_PORTS 65536U
#define PTRIG_PORT_INDEX(gen, proto_index, port) (((gen) << 17) | ((proto_index) << 16) | (port))
#define PTRIG_PORT_LIST 0x80000000U
#define PTRIG_PORT_TABLE_SIZE (4 * PTRIG_PORTS)

/* The rules of one port in file order. Example: {count 2, slot {3, 0}}: rule 3 is asked first. */
struct ptrig_list {
	__u16 count;
	__u16 slot[PTRIG_MAX_RULES_PER_PORT];
	__u16 pad[3];
};

/* Open ports first..last of the protocols in `protos` lead to host_first.. on the host.
 * Example: WAN 6000-6010/udp to host 7000-7010: {6000, 6010, 7000, PTRIG_UDP}. */
struct ptrig_range {
	__u16 first;
	__u16 last;
	__u16 host_first;
	__u8 protos;
	__u8 pad;
};

#define PTRIG_RULE_SOURCE_LAN 0x001U    /* on-link sources of the ingress interface may trigger */
#define PTRIG_RULE_SOURCE_ROUTED 0x002U /* also those routed back by it */
#define PTRIG_RULE_SOURCE_SET 0x004U    /* and those in sources_set (prefixes, MACs) */
#define PTRIG_RULE_CONTACTED 0x008U     /* remotes = contacted: a lease per remote */
#define PTRIG_RULE_REFRESH_TRAFFIC 0x010U
#define PTRIG_RULE_TAKEOVER 0x020U
#define PTRIG_RULE_CLOSE_CONNECTION 0x040U
#define PTRIG_RULE_CONFIRM 0x080U
#define PTRIG_RULE_KILL 0x100U /* on_close = kill */
#define PTRIG_RULE_LOG 0x200U

/*
 * pt_rules[generation * max_rules + slot]. id is 0 in an unused slot; else its low 16 bits are the
 * slot and its high 16 a counter that is never 0 and changes with every new use of the slot.
 * A set is a number in pt_prefixes and pt_macs; 0 is "no set": anything.
 * Example: "ftp-active" in slot 0: id 0x00010000, timeout_ns 600000000000, open[0] {50000, 50010, 50000, TCP}.
 */
struct ptrig_rule {
	__u32 id;
	__u32 flags;
	__u64 timeout_ns;
	__u64 held_timeout_ns; /* the same while a connection holds the lease: at least PTRIG_CONN_TIMEOUT_NS */
	__u64 yield_after_ns;  /* 0: never */
	__u64 cooldown_ns;     /* 0: none */
	__u64 max_lifetime_ns; /* 0: none */
	__u32 sources_set;
	__u32 trigger_remotes_set;
	__u32 remotes_set;
	__u32 session_limit; /* per lease, 0: none */
	__u32 open_count;
	__u32 pad;
	struct ptrig_range open[PTRIG_MAX_RANGES];
	char name[PTRIG_NAME_SIZE];
};

#define PTRIG_CONFIG_NEW 1U /* firewall = "new": the forward chain sees a session's first packet as `new` */

/* pt_config[generation]: [timeouts], [limits] and deny_remotes of the configuration. */
struct ptrig_config {
	__u64 tcp_established_ns;
	__u64 tcp_transitory_ns;
	__u64 udp_ns;
	__u64 halfopen_ns;
	__u64 icmp_ns;
	__u32 flags;                   /* PTRIG_CONFIG_* */
	__u32 conntrack_max;           /* nf_conntrack_max; 0: not known */
	__u32 leases_per_host;         /* 0: no limit */
	__u32 sessions_per_host;       /* 0: no limit */
	__u32 new_sessions_per_second; /* per lease, 0: no limit */
	__u32 deny_set;                /* prefixes that never open a session; 0: none */
};

/* pt_state[0]: who owns these pins, and the generation that packets use. */
struct ptrig_state {
	__u32 abi;       /* PTRIG_ABI */
	__u32 active;    /* generation in use: 0 or 1 */
	__u64 netns_ino; /* of /proc/self/ns/net */
	__u64 netns_dev;
	__u32 max_rules;
	__u32 max_leases;
	__u32 max_sessions;
	__u32 max_halfopen;
	__u32 max_lists;
	__u32 generation; /* counts the switches */
	__u64 applied_ns;
	__u32 hash_seed; /* of pt_fast */
	__u32 settled;   /* the last switch whose leases that it does not allow any more have been ended */
	__u32 nat_ready; /* 1: the chain that registers the NAT hooks (table ip ptrig) was there when last looked for */
	__u32 expecting; /* 0: pt_expected is empty */
	__u32 zone;      /* conntrack's, in which sessions are */
	__u32 fast;      /* PTRIG_STATE_FAST_* */
	__u64 followed_ns; /* boot time until which permission may last long: the daemon follows the firewall */
};

/* ptrig_state.fast. It rests while no session is answered: then LAN egress has no program for it. */
#define PTRIG_STATE_FAST_OFF 0U
#define PTRIG_STATE_FAST_ON 1U /* what comes in by some interface may take the fast path */
#define PTRIG_STATE_FAST_RESTS 2U

/* pt_usage[0]: how much is in use. */
struct ptrig_usage {
	__u64 sessions;
	__u64 halfopen;
	__u64 leases;
	__u64 conns;
	__u64 events_lost;
	__u64 mended;       /* counts that were found wrong and put right */
	__u64 next_session; /* the last session number given */
	__u32 next_lease;   /* the last lease id given */
	__u32 pad;
};

/* pt_prefixes: LPM trie; prefix_bits counts the 32 bits of `set` too. Value: a __u32, unused.
 * Example: 203.0.113.0/24 in set 7: {56, 7, 203.0.113.0}. */
struct ptrig_prefix_key {
	__u32 prefix_bits;
	__u32 set; /* compared bytewise: same order on both sides */
	__be32 address;
};

/* pt_macs: hash; the MAC addresses of a `sources` set, each on one LAN interface or (ifindex 0) on all of them.
 * Value: a __u32, unused.
 * Example: 02:00:5e:10:00:01@br0 in set 7, where br0 is interface 4: {7, 4, 02:00:5e:10:00:01}. */
struct ptrig_mac_key {
	__u32 set;
	__u32 ifindex;
	__u8 mac[6];
	__u16 pad;
};

/*
 * pt_wan_addrs: hash; an address of a WAN interface. Value: __u32, 1 = primary. PTRIG_WAN_GONE and the second of
 * CLOCK_BOOTTIME: it has just gone. What is masqueraded to it leaves for a moment still, and it must not pass for an
 * address that is only routed here.
 */
#define PTRIG_WAN_GONE 0x80000000U
#define PTRIG_WAN_GONE_SECONDS 10U
struct ptrig_wan_key {
	__u32 ifindex;
	__be32 address;
};

/*
 * pt_expected: hash; connections to a WAN address that a conntrack helper expects, which the daemon reads from the
 * kernel. Value: __u64, until when. remote is 0 where any may connect. Example: for PORT 203,0,113,2,23,117 of active
 * FTP with 203.0.113.10 it is {.10, .2, 6005, TCP} -> now + 300 s.
 */
#define PTRIG_EXPECTED 8192U
struct ptrig_expected_key {
	__be32 remote;
	__be32 wan;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

#define PTRIG_IFACE_LAN 1U
#define PTRIG_IFACE_WAN 2U
#define PTRIG_IFACE_XDP 4U       /* takes frames that XDP redirects to it, and XDP passes nothing over there */
#define PTRIG_IFACE_L3 8U        /* has no Ethernet header (ppp, wireguard, tun) */
#define PTRIG_IFACE_FAST_IN 16U  /* what comes in by it may take the fast path: nobody else's program would miss it */
#define PTRIG_IFACE_FAST_OUT 32U /* what takes the fast path may leave by it, likewise */
#define PTRIG_IFACE_XDP_IN 64U   /* its XDP program is attached natively */

/* pt_ifaces: hash by ifindex. */
struct ptrig_iface {
	__u32 flags;
	__u32 mtu;
};

/* pt_leases: hash. A lease is of the WAN address by which its trigger left. remote is 0 unless the rule's remotes are
 * `contacted`. */
struct ptrig_lease_key {
	__u32 rule; /* id */
	__be32 remote;
	__be32 wan;
};

enum ptrig_lease_state {
	PTRIG_LEASE_LIVE = 1,  /* until refreshed_ns + the rule's timeout */
	PTRIG_LEASE_ENDED = 2, /* kept until the rule's cooldown is over, or the table half full */
	PTRIG_LEASE_DEAD = 3,  /* being deleted by whoever set this; never revived */
};

#define PTRIG_LEASE_ONLINK 1U /* the host is on-link on an Ethernet and `mac` is its own */
#define PTRIG_LEASE_CONN 2U   /* close = connection, and all its trigger connections are tracked */
#define PTRIG_LEASE_ROUTED 4U /* its WAN address is on none of the WAN interfaces: it is only routed here */

/* The part of a lease that is read. Example: granted at 90 s to 192.168.77.11 for its packet to
 * 203.0.113.10:6667/tcp, which left by WAN address 203.0.113.2; refreshed at 95 s. */
struct ptrig_lease_info {
	__u32 id; /* of this grant: a new one at each grant and takeover */
	__u8 state;
	__u8 flags;
	__u8 trigger_proto; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 end_reason;    /* enum ptrig_reason, once ended */
	__u64 granted_ns;
	__u64 refreshed_ns;
	__u64 ended_ns;
	__be32 host;
	__be32 wan;
	__be32 trigger_remote;
	__be16 trigger_port;
	__u8 mac[6];
	__u32 lan_ifindex;
	__u32 wan_ifindex;
	__u32 refreshed_tick; /* jiffies */
	__u32 conns;          /* open trigger connections, close = connection only */
};

/* Value of pt_leases. `lock` is a try-lock of the BPF programs' own: kernel 6.1 lets no program that may
 * sleep near a map with a bpf_spin_lock, and the sweep is one. */
struct ptrig_lease {
	__u32 lock; /* 1: held */
	__u32 pad;
	__u64 tokens_ns; /* bucket of new sessions: it holds what has come in since then, of one second at most */
	__u32 sessions;  /* now, half-open ones too: those of this grant */
	__u32 grant;     /* as info.id; changes in one store with `sessions` */
	__u64 packets;   /* of sessions that have ended */
	__u64 bytes;
	__u64 told_ns;      /* when an event last told that it changed hands or was granted anew; 0: never */
	__u32 untold;       /* enum ptrig_reason of the last such change, if no event told it; 0: one did */
	__be32 untold_from; /* who held it before that change */
	struct ptrig_lease_info info;
};

#define PTRIG_SIDE_WAN 1U /* packets that arrive at the WAN */
#define PTRIG_SIDE_LAN 2U /* packets that arrive from the host */

/*
 * pt_sessions, pt_halfopen: hash; the tuple of a packet as it arrives on that side. pt_halfopen has the LAN side's
 * only. Example: remote 203.0.113.10:4000 to WAN 203.0.113.2:113 is {.10, .2, 4000, 113, TCP, SIDE_WAN}; its host's
 * answers are {192.168.77.11, 203.0.113.10, 113, 4000, TCP, SIDE_LAN}.
 */
struct ptrig_session_key {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 side;
	__u16 pad;
};

enum ptrig_session_state {
	PTRIG_SESSION_HALFOPEN = 1,   /* the host has not answered */
	PTRIG_SESSION_TRANSITORY = 2, /* TCP: handshake under way */
	PTRIG_SESSION_ESTABLISHED = 3,
	PTRIG_SESSION_CLOSING = 4, /* FIN both ways, or RST */
};

/* What a session is from its beginning to its end: its flags. */
#define PTRIG_SESSION_ROUTED 0x01U    /* as PTRIG_LEASE_ROUTED */
#define PTRIG_SESSION_LIBERAL 0x02U   /* LAN half: its entry let sequence numbers be when last looked at */
#define PTRIG_SESSION_HAIRPIN 0x04U   /* with a host of the LAN, who came by the WAN address */
#define PTRIG_SESSION_KILL 0x08U      /* ends with its lease */
#define PTRIG_SESSION_ACKED 0x10U     /* LAN half: `ack` is set */
#define PTRIG_SESSION_REMADE 0x20U    /* TCP: its entry was made again (`remade`), and checks sequence numbers */
#define PTRIG_SESSION_CONTACTED 0x80U /* its lease's key has the remote */

/* What it is marked with while it lives: in its id, above its number. */
#define PTRIG_SESSION_OVER                                                                                             \
	(1ULL << 63)                   /* ended by user space, or reset by its host: its entry goes, then the session */
#define PTRIG_SESSION_ASK (1ULL << 62) /* a FIN or RST came by: conntrack knows whether it was one */
#define PTRIG_SESSION_NUMBER (PTRIG_SESSION_ASK - 1)

/*
 * One direction of a session; its other direction is the entry under the mirrored key. Conntrack's entry of the WAN
 * side's tuple carries the translation. The half of the LAN side is the session: it is over when seen_ns (the host's
 * last packet, a second's precision; half-open: the remote's first) is older than the state's idle time. Both halves
 * carry the session's number. Only who swaps the LAN half's id to 0 ends the session; whatever a look-up returned may
 * be another session by then, so the number is compared before anything is done with it, and marks are swapped in
 * together with it. Example: remote
 * 203.0.113.10:4000 to WAN 203.0.113.2:113, host 192.168.77.11. WAN half: addr .77.11, port 113, peer .10:4000. LAN
 * half: addr 203.0.113.2, port 113, peer .10:4000. In a hairpin the WAN half's peer is the WAN address and the port
 * that stands for the client, the LAN half's peer the client. A half-open session is its LAN half alone, which counts
 * the remote's packets until the host answers.
 */
struct ptrig_session {
	__u64 id; /* its number, and what it is marked with; 0: the LAN half of a session that is being deleted */
	__u64 seen_ns;
	__u64 packets; /* this direction */
	__u64 bytes;   /* IP length */
	__u64 folded;  /* of the count of its way in pt_fast: what `packets` and `bytes` have of it */
	__u32 checked; /* jiffies of the last look at this half */
	__u32 heard;   /* LAN half: jiffies of the last packet that came in from the host itself */
	__u32 rule;    /* id */
	__u32 lease;   /* id of the grant */
	__u32 oif;     /* the session's WAN interface */
	__u32 via;     /* LAN half: pt_via() of what may send for the host; 0 on the WAN half */
	__u32 fast;    /* its way in pt_fast: the number + 1; 0: none; PTRIG_FAST_OVER */
	__u32 iif;     /* this direction's last packet that asked for permission: its interface, and */
	__be32 who;    /* pt_who() of its frame; 0: none has */
	__be32 addr;   /* WAN half: the new destination (host). LAN half: the new source (WAN) */
	__be32 peer;   /* the remote, as the other half's key has it */
	__be16 port;
	__be16 peer_port;
	__u8 state;
	__u8 flags;
	__u16 remade; /* LAN half: the lower half of jiffies when that was */
	__u32 ack;    /* LAN half: what its host has acknowledged last by the kernel's way */
};

struct ptrig_pair {
	struct ptrig_session lan;
	struct ptrig_session wan;
};

/*
 * pt_fast: permissions. How the packets of one direction of an established session are translated, and until when TC or
 * XDP may do so by themselves. WAN and LAN egress write it when they have seen one leave; the fast path only counts. A
 * way belongs to its session until that ends, and is left alone for two ticks before the next session gets it, so that
 * no packet under way ever reads half of one and half of the other.
 * `until`: it is permitted while 0 < until - jiffies <= PTRIG_FAST_SECONDS seconds.
 * `count`: packets in the upper 28 bits, bytes in the lower 36. It never goes back while the way is in use;
 * the sum since the last fold is exact while it stays below 2^36 bytes.
 * Example: 203.0.113.10:4000 to WAN 203.0.113.2:113/tcp is {who .10 ^ pt_who(), .2, 4000, 113, 192.168.77.11,
 * 113, PTRIG_FAST_USED | PTRIG_FAST_TCP | hop 5}.
 */
#define PTRIG_FAST_SECONDS 8U
#define PTRIG_FAST_BYTES_BITS 36
#define PTRIG_FAST_USED 0x8000U
#define PTRIG_FAST_TCP 0x4000U
#define PTRIG_FAST_XDP 0x2000U /* XDP's, too; else TC's alone */
#define PTRIG_FAST_HOP 0x1fffU
#define PTRIG_FAST_WAYS 4U
#define PTRIG_FAST_OVER 0xffffffffU /* in ptrig_session.fast: the session has ended */
struct ptrig_fast {
	__u64 count;
	__be32 who; /* the source address, mixed with the frame's MAC addresses and interface; 0: nobody */
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__be32 addr; /* as in ptrig_session */
	union {
		struct {
			__be16 port;
			__u16 hop; /* PTRIG_FAST_*, number in pt_hops */
		};
		__u32 to; /* both; 0: the way is free */
	};
	__u32 until; /* jiffies */
};

/* Value of pt_fast[side LAN ? cfg_fast_buckets + n : n]. Way number w is way[w % 4] of value w / 4. */
struct ptrig_fast_bucket {
	struct ptrig_fast way[PTRIG_FAST_WAYS];
};

/* pt_acks: array of __u32; what a session's host has acknowledged last by the fast path, by the number of its LAN
 * half's way in pt_fast, from the first one of that side on. */
#define PTRIG_ACKS_OF(fast_buckets) ((fast_buckets)*PTRIG_FAST_WAYS)

/* pt_hops: array; the ways on that sessions in pt_fast share, as their packets were seen leaving. Each such packet
 * renews it; its content is changed only when nothing in pt_fast can be using it any more. */
#define PTRIG_HOPS 4096U
struct ptrig_hop {
	__u32 lock;
	__u32 until; /* jiffies, as in ptrig_fast, but for one second */
	__u32 oif;
	__be32 host; /* whose MAC address this is, or the router's to it; 0: towards a WAN, where many remotes may share
			one */
	__u16 mtu;
	__u8 dmac[6];
	__u8 smac[6];
	__u8 l3; /* 1: oif has no Ethernet header */
	__u8 pad;
	__u32 mark; /* of the packet, which a queueing discipline may go by; TC only, as the next */
	__u32 priority;
};

/* pt_port_use: array of __u32; sessions, half-open ones too, by PTRIG_USE_INDEX: of the WAN port on side WAN, of
 * the host port on side LAN. */
#define PTRIG_USE_INDEX(side, proto_index, port)                                                                       \
	(((side) == PTRIG_SIDE_LAN ? 1U << 17 : 0U) | (proto_index) << 16 | (port))
#define PTRIG_USE_SIZE (4 * PTRIG_PORTS)

/*
 * pt_port_bits: array of __u64, a byte for each port of each protocol, eight to a word: what it is to rules and
 * sessions. A packet whose ports have none of the bits that matter is ordinary and costs these loads alone. The bits of
 * rules are there before their generation is in use and go after it: where one is set, the port tables decide. Those of
 * sessions follow pt_port_use; only a port's first and last session write them. Example: 113/tcp is byte 1 of word 14.
 */
#define PTRIG_PORT_TRIGGERS 0x01U /* a trigger port */
#define PTRIG_PORT_OPENS 0x02U    /* an open port, as the WAN sees it */
#define PTRIG_PORT_HOSTS 0x04U    /* an open port, as its host has it */
#define PTRIG_PORT_RULES (PTRIG_PORT_TRIGGERS | PTRIG_PORT_OPENS | PTRIG_PORT_HOSTS)
#define PTRIG_PORT_WAN_USED 0x08U /* the WAN port of sessions */
#define PTRIG_PORT_LAN_USED 0x10U /* the host port of sessions */
#define PTRIG_PORT_BITS_WORD(proto_index, port) (((proto_index) << 16 | (port)) / 8)
#define PTRIG_PORT_BITS_SHIFT(port) ((port) % 8 * 8)
#define PTRIG_PORT_BITS_SIZE (2 * PTRIG_PORTS / 8)

/*
 * pt_notes: LRU hash; what only LAN ingress knows of a flow that its host has begun, for WAN egress. pt_hints: array of
 * __u32; how many packets that egress is to look at may be under way, by PTRIG_HINTS hashes of the address, port and
 * protocol to which they go: those towards a WAN, then those towards the LAN. pt_known: array of __u64; a flow of a
 * host's own from or to a port of a rule's, of which nothing is to be looked at for a moment: a hash of its packets,
 * and below it the jiffies of when it was so.
 */
#define PTRIG_NOTES 16384U
#define PTRIG_KNOWN 16384U
#define PTRIG_HINTS 16384U
struct ptrig_flow_key {
	__be32 host;
	__be32 remote;
	__be16 host_port;
	__be16 remote_port;
	__u8 proto;
	__u8 pad[3];
};
#define PTRIG_NOTE_ONLINK 1U
#define PTRIG_NOTE_MAC 2U
#define PTRIG_NOTE_KNOWN 4U /* the neighbour table has this MAC address for the host */
#define PTRIG_NOTE_GIVEN 1U /* its SYN has been given back once */
#define PTRIG_NOTE_DONE 2U  /* WAN egress had nothing to do, or did it, at `done` */
struct ptrig_note {
	__u32 lan_ifindex;
	__u16 flags; /* ONLINK, MAC, KNOWN: who its sender is, said once */
	__u16 marks; /* GIVEN, DONE. Written when the element may be another flow's by now: that one is not harmed */
	__u32 noted; /* jiffies */
	__u32 done;  /* jiffies */
	__be32 wan;  /* the address by which it left last */
	__u8 mac[6];
	__u8 to_mac[6]; /* the gateway's, as the host has addressed it */
};

/* A trigger packet and who sent it. */
#define PTRIG_CAND_ONLINK PTRIG_NOTE_ONLINK
#define PTRIG_CAND_MAC PTRIG_NOTE_MAC
#define PTRIG_CAND_KNOWN PTRIG_NOTE_KNOWN
struct ptrig_cand {
	__be32 host;
	__be32 remote;
	__be16 host_port;
	__be16 remote_port;
	__u8 proto;
	__u8 tcp_flags;
	__u8 mac[6];
	__u32 lan_ifindex;
	__u32 flags;
};

/* pt_conns: hash; a trigger connection that holds a lease of a `close = "connection"` rule. */
struct ptrig_conn_key {
	__be32 host;
	__be32 remote;
	__be16 host_port;
	__be16 remote_port;
	__u32 rule; /* id */
	__u8 proto;
	__u8 pad[3];
};

/* A lease that a connection holds (close = "connection") lives at least so long after its last refresh: the daemon asks
 * conntrack in time. */
#define PTRIG_CONN_TIMEOUT_NS 10000000000ULL
#define PTRIG_CONN_FIN_LAN 2U
#define PTRIG_CONN_FIN_WAN 4U
#define PTRIG_CONN_COUNTED 8U /* in its lease's conns */
struct ptrig_conn {
	__u64 seen_ns; /* 0: being deleted */
	struct ptrig_cand cand;
	__u32 lease;
	__u32 flags;
	__be32 wan;
	__u32 wan_ifindex;
	__be16 wan_port; /* as the remote sees it */
	__u8 pad[6];
};

/* pt_over: array; what pt_admin has found, for pt_release: sessions that are over, connections to ask conntrack about.
 */
#define PTRIG_OVER_MAX 4096U
enum ptrig_listed { PTRIG_LISTED_SESSION, PTRIG_LISTED_HALFOPEN, PTRIG_LISTED_CONN };
struct ptrig_over {
	__u64 id;   /* a session's */
	__u32 kind; /* enum ptrig_listed */
	__u32 pad;
	union {
		struct ptrig_session_key key; /* of the LAN half */
		struct ptrig_conn_key conn;   /* conntrack is to be asked whether it lives */
	};
};

/* pt_pending: LRU hash; a trigger whose remote has yet to answer, of a `confirm` rule. A host has cfg_wait_slots places
 * and no more, so that one host's triggers put out its own and nobody else's. */
struct ptrig_wait_key {
	__be32 host;
	__u32 slot;
};
struct ptrig_wait {
	struct ptrig_conn_key key;
	__u32 pad;
	struct ptrig_conn conn;
};

/* pt_hosts: hash; what a host has in use, and under a rule's id what it has of that rule alone: its leases. leases and
 * sessions all ones: being deleted. */
struct ptrig_host_key {
	__be32 host;
	__u32 rule; /* id; 0: all */
};
struct ptrig_host {
	__u32 leases;
	__u32 sessions; /* half-open ones too */
	__u32 halfopen; /* of them: never more, so it is 0 where `sessions` is */
	__u32 conns;    /* in pt_conns */
};

/* pt_scratch: per-CPU array of one; what is being made, off the stack. Programs do not interrupt each other. */
struct ptrig_scratch {
	struct ptrig_pair pair;
	struct ptrig_lease lease;
	struct ptrig_wait wait;
	__u64 entry[6]; /* a struct pt_entry */
};

#define PTRIG_REFUSALS (PTRIG_BUSY - PTRIG_FLAGS + 1) /* the reasons of the REFUSE kind */

/* pt_hits: per-CPU array by slot. Counts since the rule got its id. */
struct ptrig_hits {
	__u32 id;
	__u32 pad;
	__u64 triggers;
	__u64 granted;
	__u64 refused[PTRIG_REFUSALS]; /* index: reason - PTRIG_FLAGS */
};

/* pt_last: array by slot; the last trigger that was decided on. */
struct ptrig_last {
	__u32 id;
	__u32 reason;
	__u64 time_ns;
	__be32 host;
	__be32 remote;
	__u64 event_ns;   /* when the last refusal was reported */
	__u64 grants_ns;  /* when the second began that `grants` is of */
	__u32 suppressed; /* refusals not reported since */
	__u32 untold;     /* changes of the rule's leases that no event told, since the last event of one */
	__u32 grants;     /* new leases in that second */
	__u32 pad;
};

enum ptrig_event_type {
	PTRIG_EVENT_GRANTED = 1,
	PTRIG_EVENT_REFUSED = 2,
	PTRIG_EVENT_TAKEOVER = 3,
	PTRIG_EVENT_MOVED = 4,
	PTRIG_EVENT_ENDED = 5,
	PTRIG_EVENT_LIBERAL = 6, /* for the daemon: a TCP session's entry, of remote:remote_port to wan:port, is to let
				    sequence numbers be: it has been made again, or will not see all packets */
};

/* pt_events: ring buffer records. */
struct ptrig_event {
	__u64 time_ns;
	__u32 type;
	__u32 reason;
	__u32 rule;      /* id */
	__u32 lease;     /* id; 0 for a refusal */
	__be32 host;     /* who holds, held or was refused */
	__be32 old_host; /* takeover, moved: who held it before; refused: who holds it */
	__be32 remote;
	__be32 wan;
	__be16 port; /* trigger port; LIBERAL: the WAN's */
	__u8 proto;
	__u8 pad;
	__u8 mac[6];
	__be16 remote_port; /* LIBERAL */
	__u32 suppressed; /* before this one and not told: refusals of this rule; if this is no refusal, changes of its
			     leases */
	__u32 sessions;   /* ended: sessions that go on */
};

/* Arguments of the SEC("syscall") program pt_admin. Sessions that are over it only lists, in pt_over; pt_release, a TC
 * program run by hand with skb->mark = as many as are listed, ends them: conntrack's entry first, then the session. */
enum ptrig_admin_op {
	PTRIG_ADMIN_SWEEP = 1,          /* delete what has ended by time */
	PTRIG_ADMIN_CLOSE_LEASES = 2,   /* end the live leases that match */
	PTRIG_ADMIN_CLOSE_SESSIONS = 3, /* end the sessions, half-open too, that match */
	PTRIG_ADMIN_SWEEP_LEASES = 5,   /* SWEEP, of leases alone */
	PTRIG_ADMIN_MEND = 6,           /* add `by` to the count that `book` names */
};
/* What is counted, and which of the arguments say where. */
enum ptrig_book {
	PTRIG_BOOK_SESSIONS = 1, /* established ones, of pt_usage, as the next three */
	PTRIG_BOOK_HALFOPEN,
	PTRIG_BOOK_LEASES,
	PTRIG_BOOK_CONNS,
	PTRIG_BOOK_HOST_LEASES, /* of pt_hosts[host, rule], as the next three */
	PTRIG_BOOK_HOST_SESSIONS,
	PTRIG_BOOK_HOST_HALFOPEN,
	PTRIG_BOOK_HOST_CONNS,
	PTRIG_BOOK_LEASE_SESSIONS, /* of pt_leases[rule, remote, wan], grant `lease`, as the next */
	PTRIG_BOOK_LEASE_CONNS,
	PTRIG_BOOK_PORT, /* pt_port_use[index] */
};
struct ptrig_admin {
	__u32 op;
	__u32 rule;    /* id; 0: any */
	__u32 lease;   /* id; 0: any */
	__be32 host;   /* 0: any */
	__be32 remote; /* 0: any */
	__be32 wan;    /* 0: any */
	__u32 reason;  /* enum ptrig_reason of the END kind, for events */
	__u32 most; /* in: list at most this many sessions (0: PTRIG_OVER_MAX); out: how many more would have fitted */
	/* results */
	__u32 leases;   /* ended */
	__u32 sessions; /* listed */
	__u32 halfopen; /* listed */
	__u32 conns;    /* removed, pending ones too */
	__u32 asked;    /* listed: connections of silent leases */
	/* MEND */
	__u32 book;
	__u32 index;
	__s32 by;
	__u32 mended; /* result: 0 if what was counted is gone */
};

#endif
