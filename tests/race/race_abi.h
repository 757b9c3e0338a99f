/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What tests/race/race.bpf.c is told, and what it tells. Addresses and ports are in packet order. */
#ifndef PTRIG_RACE_ABI_H
#define PTRIG_RACE_ABI_H

#include <linux/types.h>

#define RACE_DRAWS 256  /* frames to draw from, on each side */
#define RACE_WAITING 64 /* frames on their way to the other side; a power of two */
#define RACE_MACHINES 3

/* The programs under test, as tail calls. */
enum race_hook { RACE_LAN_IN, RACE_LAN_OUT, RACE_WAN_IN, RACE_WAN_OUT, RACE_HOOKS };

struct race_tuple {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
};
struct race_frame {
	struct race_tuple t;
	__u8 proto;
	__u8 flags; /* of TCP */
	__u8 hook;  /* enum race_hook */
	__u8 flush; /* 1: its conntrack entry is taken away now and then */
};

struct race_machine {
	__be32 address;
	__u8 mac[6];
	__u8 pad[2];
};

/* race_ports[WAN port]: where the rules lead it. `hosts` has a bit for each machine that ever triggers such a rule. */
struct race_port {
	__be16 host_port;
	__u16 hosts;
};

/* Source ports of remotes and clients that knock at WAN ports; nobody answers a trigger from one of them. */
#define RACE_IS_KNOCK(sport) (((sport) >= 3000 && (sport) < 3010) || ((sport) >= 4000 && (sport) < 4010))

struct race_queue {
	__u32 in;
	__u32 out;
	struct race_frame frame[RACE_WAITING];
};

/* race_cpus[0], of each CPU. */
struct race_cpu {
	__u64 random;
	__u64 frames[RACE_HOOKS]; /* sent through this program */
	__u64 led;                /* entries looked at that lead a remote's packet to a host */
	__u64 accelerated;        /* packets that the fast path has sent on */
	__u64 swapped;            /* packets that left by another port than they came with */
	__u64 stalls;             /* interrupts that took their time */
	__u64 made;               /* by race_forget: entries made, to be forgotten */
	__u64 stayed;             /* of them: were there afterwards */
	__u32 busy;               /* 1: in a program under test */
	__u32 pad;
	struct race_frame sent; /* the last one */
	struct race_tuple left; /* how it was handed to the program */
	struct race_queue to_lan;
	struct race_queue to_wan;
};

/* What is wrong with a packet. */
enum race_wrong {
	RACE_RIGHT,
	RACE_WRONG_HOST,   /* its entry leads to a machine that never asked for this port */
	RACE_WRONG_PORT,   /* its entry leads to a port that no rule names */
	RACE_CHANGED,      /* a program that leaves packets alone has changed it */
	RACE_WRONG_SOURCE, /* it left by a port that is not its host's */
	RACE_NO_CALL,      /* the tail call did not happen */
};
/* race_faults[0]: the first one, and how many there were. */
struct race_fault {
	__u32 count;
	__u32 wrong; /* enum race_wrong */
	struct race_frame sent;
	struct race_tuple seen;
};

#endif
