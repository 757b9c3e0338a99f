// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sends frames through the programs under test, one after the other in one test run, so that two CPUs are in them
 * nearly all the time. Between two frames it does what the kernel would do: it masquerades, answers, forgets entries.
 * It looks at each frame after its program has run: who would have received it?
 */
#include <linux/pkt_cls.h>

#include "conntrack.h"
#include "race_abi.h"

extern int bpf_ct_change_status(struct nf_conn *ct, __u32 status) __ksym;

/* Set before load. */
const volatile __be32 race_wan_address = 0;
const volatile struct race_machine race_machines[RACE_MACHINES] = {};
const volatile __u8 race_lan_mac[6] = {};
const volatile __u8 race_wan_mac[6] = {};
const volatile __u32 race_stall_ns = 60000;

#define RACE_MAP(name, map_type, value_type, entries)                                                                  \
	struct {                                                                                                       \
		__uint(type, map_type);                                                                                \
		__uint(max_entries, entries);                                                                          \
		__type(key, __u32);                                                                                    \
		__type(value, value_type);                                                                             \
	} name SEC(".maps")

RACE_MAP(race_lan_draws, BPF_MAP_TYPE_ARRAY, struct race_frame, RACE_DRAWS);
RACE_MAP(race_wan_draws, BPF_MAP_TYPE_ARRAY, struct race_frame, RACE_DRAWS);
RACE_MAP(race_ports, BPF_MAP_TYPE_ARRAY, struct race_port, 65536);
RACE_MAP(race_receivers, BPF_MAP_TYPE_ARRAY, __u16, 65536); /* [host port]: as `hosts` of race_port */
RACE_MAP(race_cpus, BPF_MAP_TYPE_PERCPU_ARRAY, struct race_cpu, 1);
RACE_MAP(race_faults, BPF_MAP_TYPE_ARRAY, struct race_fault, 1);
RACE_MAP(race_hooks, BPF_MAP_TYPE_PROG_ARRAY, __u32, RACE_HOOKS);

static const __u32 race_zero = 0;

#define RACE_SYN 0x02
#define RACE_RST 0x04
#define RACE_ACK 0x10
#define RACE_FIN 0x01
#define RACE_BRIEF_MS 8 /* of entries that are not ours: a flow soon begins anew */

struct race_bytes {
	struct ethhdr eth;
	struct iphdr ip;
	union {
		struct tcphdr tcp;
		struct udphdr udp;
	};
} __attribute__((packed));

#define RACE_SENT_ON 3 /* PACKET_OTHERHOST: so the fast path marks what it sends on */

/* xorshift64 */
static __always_inline __u32 race_random(struct race_cpu *c) {
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random >> 32;
}
/* Once in `n` times; n is a power of two. */
static __always_inline bool race_once_in(struct race_cpu *c, __u32 n) {
	return !(race_random(c) & (n - 1));
}

/* A full queue loses the frame, as a queue of the kernel's would. */
static __always_inline void race_push(struct race_queue *q, const struct race_frame *f) {
	if (q->in - q->out >= RACE_WAITING)
		return;
	q->frame[q->in % RACE_WAITING] = *f;
	q->in++;
}
static __always_inline bool race_pop(struct race_queue *q, struct race_frame *f) {
	if (q->in == q->out)
		return false;
	*f = q->frame[q->out % RACE_WAITING];
	q->out++;
	return true;
}

static __always_inline struct pt_tuple race_pt_tuple(const struct race_tuple *t) {
	struct pt_tuple out = {t->saddr, t->daddr, t->sport, t->dport};

	return out;
}
static __always_inline struct race_tuple race_tuple_of(const struct pt_tuple *t) {
	struct race_tuple out = {t->saddr, t->daddr, t->sport, t->dport};

	return out;
}
static __always_inline bool race_same(const struct race_tuple *a, const struct race_tuple *b) {
	return a->saddr == b->saddr && a->daddr == b->daddr && a->sport == b->sport && a->dport == b->dport;
}

static __noinline void race_tell(const struct race_frame *sent, enum race_wrong wrong, const struct race_tuple *seen) {
	struct race_fault *fault = bpf_map_lookup_elem(&race_faults, &race_zero);

	if (!fault || __sync_fetch_and_add(&fault->count, 1))
		return;
	fault->wrong = wrong;
	fault->sent = *sent;
	fault->seen = *seen;
}

/* May this host have this WAN port, and does it lead to this port of its? */
static __noinline enum race_wrong race_led(__be32 host, __be16 host_port, __be16 wan_port) {
	__u32 index = bpf_ntohs(wan_port);
	struct race_port *port = bpf_map_lookup_elem(&race_ports, &index);

	if (!port || port->host_port != host_port)
		return RACE_WRONG_PORT;
	for (__u32 i = 0; i < RACE_MACHINES; i++)
		if (race_machines[i].address == host && port->hosts >> i & 1)
			return RACE_RIGHT;
	return RACE_WRONG_HOST;
}

/* What a host sends in answer to a packet. */
static __always_inline __u8 race_answer_flags(struct race_cpu *c) {
	switch (race_random(c) & 7) {
	case 0:
	case 1:
	case 2:
		return RACE_RST;
	case 3:
		return RACE_FIN | RACE_ACK;
	case 4:
		return RACE_ACK;
	default:
		return RACE_SYN | RACE_ACK;
	}
}

/* Conntrack has seen the remote's answer of a flow that its host has begun. */
static __noinline void race_answered(struct __sk_buff *skb, const struct pt_tuple *t, __u8 proto) {
	struct bpf_ct_opts opts = {};
	struct nf_conn *ct = pt_conntrack_find(skb, t, proto, &opts);

	if (!ct)
		return;
	if (opts.dir == PT_CT_DIR_REPLY)
		bpf_ct_change_status(ct, ct->status | PT_IPS_SEEN_REPLY);
	bpf_ct_release(ct);
}

/* A packet from the WAN, or from a client of the LAN to the WAN address, has been through its program: to whom does its
 * entry lead? Other CPUs may have changed the entry since, but no entry may ever lead to a host that did not ask. */
static __noinline void race_arrived(struct __sk_buff *skb, struct race_cpu *c) {
	const struct race_frame *sent = &c->sent;
	struct pt_tuple t = race_pt_tuple(&sent->t);
	struct race_frame next = {.proto = sent->proto}, leaves = next;
	struct pt_entry e;

	if (!pt_entry_look(skb, &t, sent->proto, &e)) {
		struct pt_wanted nobodys = {.orig = t, .time_ms = RACE_BRIEF_MS, .proto = sent->proto};

		if (race_once_in(c, 32)) /* the kernel keeps the remote's probe in mind */
			pt_entry_make(skb, &nobodys);
		return;
	}
	if (e.is_reply) {
		if (sent->hook != RACE_WAN_IN || !race_once_in(c, 4))
			return;
		if (race_once_in(c, 4))
			race_answered(skb, &t, sent->proto);
		next.t.saddr = e.orig.daddr;
		next.t.sport = e.orig.dport;
		next.t.daddr = e.orig.saddr;
		next.t.dport = e.orig.sport;
		next.flags = sent->flags;
		next.hook = RACE_LAN_OUT;
		race_push(&c->to_lan, &next);
		return;
	}
	if (!(e.status & PT_IPS_DST_NAT))
		return;
	c->led++;
	next.t = race_tuple_of(&e.reply);
	enum race_wrong wrong = race_led(e.reply.saddr, e.reply.sport, sent->t.dport);

	if (wrong != RACE_RIGHT)
		race_tell(sent, wrong, &next.t);
	if (sent->hook == RACE_WAN_IN && race_once_in(c, 2)) { /* it leaves to its host */
		leaves.t.saddr = e.reply.daddr;
		leaves.t.sport = e.reply.dport;
		leaves.t.daddr = e.reply.saddr;
		leaves.t.dport = e.reply.sport;
		leaves.flags = sent->flags;
		leaves.hook = RACE_LAN_OUT;
		race_push(&c->to_lan, &leaves);
	}
	next.flags = race_answer_flags(c);
	next.hook = RACE_LAN_IN;
	race_push(&c->to_lan, &next);
}

/* WAN egress has changed this packet: by a swap of its own entry, and in no other way. */
static __noinline void race_swapped(struct race_cpu *c, const struct race_tuple *now) {
	struct race_frame *sent = &c->sent, again = *sent;

	c->swapped++;
	if (sent->proto == IPPROTO_TCP) { /* given back as it came from its host */
		if (!race_same(now, &sent->t))
			race_tell(sent, RACE_CHANGED, now);
		again.hook = RACE_LAN_IN;
		race_push(&c->to_lan, &again);
		return;
	}
	if (now->saddr != c->left.saddr || now->daddr != c->left.daddr || now->dport != c->left.dport)
		race_tell(sent, RACE_CHANGED, now);
	else if (race_led(sent->t.saddr, sent->t.sport, now->sport) != RACE_RIGHT)
		race_tell(sent, RACE_WRONG_SOURCE, now);
}

/* The fast path has sent this packet on: as its session's, to or from a host that asked for its port. */
static __noinline void race_accelerated(struct race_cpu *c, const struct race_tuple *now) {
	struct race_frame *sent = &c->sent;
	enum race_wrong wrong;

	c->accelerated++;
	if (sent->hook == RACE_WAN_IN)
		wrong = now->saddr != sent->t.saddr || now->sport != sent->t.sport
				? RACE_CHANGED
				: race_led(now->daddr, now->dport, sent->t.dport);
	else
		wrong = sent->hook != RACE_LAN_IN || now->daddr != sent->t.daddr || now->dport != sent->t.dport ||
					now->saddr != race_wan_address
				? RACE_CHANGED
				: race_led(sent->t.saddr, sent->t.sport, now->sport);
	if (wrong != RACE_RIGHT)
		race_tell(sent, wrong, now);
}

/* The last frame, after its program. */
static __noinline void race_judge(struct __sk_buff *skb, struct race_cpu *c) {
	struct race_tuple now = {};
	__u32 ports = 0;

	if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), &now, 8) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct iphdr), &ports, 4))
		return;
	now.sport = ports & 0xffff;
	now.dport = ports >> 16;
	if (!race_same(&now, &c->left)) {
		if (c->sent.hook == RACE_WAN_OUT)
			race_swapped(c, &now);
		else if (skb->pkt_type == RACE_SENT_ON)
			race_accelerated(c, &now);
		else
			race_tell(&c->sent, RACE_CHANGED, &now);
		return;
	}
	if (c->sent.hook == RACE_WAN_IN || (c->sent.hook == RACE_LAN_IN && now.daddr == race_wan_address))
		race_arrived(skb, c);
}

/* The frame to be sent, on the skb that is used again and again. */
static __noinline void race_write(struct __sk_buff *skb, const struct race_frame *f, const struct race_tuple *t) {
	struct race_bytes b = {};
	bool lan = f->hook == RACE_LAN_IN || f->hook == RACE_LAN_OUT;

	for (int i = 0; i < 6; i++)
		b.eth.h_dest[i] = lan ? race_lan_mac[i] : race_wan_mac[i];
	for (__u32 n = 0; f->hook == RACE_LAN_IN && n < RACE_MACHINES; n++)
		for (int i = 0; race_machines[n].address == t->saddr && i < 6; i++)
			b.eth.h_source[i] = race_machines[n].mac[i];
	b.eth.h_proto = bpf_htons(ETH_P_IP);
	b.ip.version = 4;
	b.ip.ihl = 5;
	b.ip.ttl = 64;
	b.ip.tot_len = bpf_htons(sizeof(b) - sizeof(b.eth));
	b.ip.protocol = f->proto;
	b.ip.saddr = t->saddr;
	b.ip.daddr = t->daddr;
	b.tcp.source = t->sport; /* the ports of UDP are in the same place */
	b.tcp.dest = t->dport;
	if (f->proto == IPPROTO_TCP) {
		b.tcp.doff = 5;
		((__u8 *)&b.tcp)[13] = f->flags;
	} else {
		b.udp.len = bpf_htons(sizeof(b) - sizeof(b.eth) - sizeof(b.ip));
	}
	bpf_skb_store_bytes(skb, 0, &b, sizeof(b), 0);
}

/* A host's packet on its way to the WAN, as its entry translates it; masqueraded if it has none. */
static __noinline bool race_translate(struct __sk_buff *skb, const struct race_frame *f, struct race_tuple *left) {
	struct pt_tuple t = race_pt_tuple(&f->t);
	struct pt_entry e;

	if (!pt_entry_look(skb, &t, f->proto, &e)) {
		struct pt_wanted w = {
			.orig = t,
			.from = race_wan_address,
			.time_ms = RACE_BRIEF_MS,
			.proto = f->proto,
		};

		if (f->proto == IPPROTO_TCP && f->flags != RACE_SYN && f->flags != RACE_ACK)
			return false;   /* nothing begins by it */
		pt_entry_make(skb, &w); /* if another CPU was quicker, then it is there */
		if (!pt_entry_look(skb, &t, f->proto, &e))
			return false;
	}
	const struct pt_tuple *other = e.is_reply ? &e.orig : &e.reply;

	left->saddr = other->daddr;
	left->daddr = other->saddr;
	left->sport = other->dport;
	left->dport = other->sport;
	return left->saddr == race_wan_address;
}

static __always_inline bool race_draw(struct race_cpu *c, void *draws, struct race_frame *f) {
	__u32 index = race_random(c) % RACE_DRAWS;
	const struct race_frame *drawn = bpf_map_lookup_elem(draws, &index);

	if (drawn)
		*f = *drawn;
	return drawn && f->proto;
}

static __noinline bool race_next_lan(struct __sk_buff *skb, struct race_cpu *c) {
	struct race_frame f, on;

	if ((race_once_in(c, 2) || !race_pop(&c->to_lan, &f)) && !race_draw(c, &race_lan_draws, &f))
		return false;
	c->sent = f;
	c->left = f.t;
	if (f.hook == RACE_LAN_IN && f.t.daddr != race_wan_address) {
		on = f;
		on.hook = RACE_WAN_OUT;
		race_push(&c->to_wan, &on);
	}
	return true;
}
static __noinline bool race_next_wan(struct __sk_buff *skb, struct race_cpu *c) {
	struct race_frame f;

	if (race_once_in(c, 2) && race_pop(&c->to_wan, &f) && race_translate(skb, &f, &c->left)) {
		c->sent = f;
		return true;
	}
	if (!race_draw(c, &race_wan_draws, &f))
		return false;
	c->sent = f;
	c->left = f.t;
	return true;
}

/* skb->cb[0]: frames yet to be sent; cb[1]: one has been sent and is to be judged. */
static __always_inline int race_step(struct __sk_buff *skb, bool lan) {
	struct race_cpu *c = bpf_map_lookup_elem(&race_cpus, &race_zero);

	if (!c)
		return 0;
	c->busy = 0;
	if (skb->cb[1])
		race_judge(skb, c);
	skb->cb[1] = 0;
	if (!skb->cb[0])
		return 0;
	skb->cb[0]--;
	if (lan ? !race_next_lan(skb, c) : !race_next_wan(skb, c))
		return 0;
	struct pt_tuple t = race_pt_tuple(&c->sent.t);

	if (c->sent.flush && race_once_in(c, 32)) /* a flush, an early drop, its time is over */
		pt_entry_forget(skb, &t, c->sent.proto);
	race_write(skb, &c->sent, &c->left);
	bpf_skb_change_type(skb, 0); /* PACKET_HOST: the fast path changes it */
	skb->cb[1] = 1;
	__u32 hook = c->sent.hook;

	if (hook < RACE_HOOKS)
		c->frames[hook]++;
	c->busy = 1;
	bpf_tail_call(skb, &race_hooks, hook);
	race_tell(&c->sent, RACE_NO_CALL, &c->left);
	return 0;
}

SEC("tc")
int race_lan(struct __sk_buff *skb) {
	return race_step(skb, true);
}
SEC("tc")
int race_wan(struct __sk_buff *skb) {
	return race_step(skb, false);
}

/* At the device to the hosts, behind everything: what knocked at a WAN port goes to a host that asked for it. */
SEC("tc")
int race_receiver(struct __sk_buff *skb) {
	struct race_cpu *c = bpf_map_lookup_elem(&race_cpus, &race_zero);
	struct race_frame got = {.hook = RACE_LAN_OUT};
	__u32 ports = 0, host_port;
	__u16 *hosts;

	if (!c || skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, protocol), &got.proto, 1) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), &got.t, 8) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct iphdr), &ports, 4))
		return TC_ACT_UNSPEC;
	got.t.sport = ports & 0xffff;
	got.t.dport = ports >> 16;
	if ((got.proto != IPPROTO_TCP && got.proto != IPPROTO_UDP) || !RACE_IS_KNOCK(bpf_ntohs(got.t.sport)))
		return TC_ACT_UNSPEC;
	host_port = bpf_ntohs(got.t.dport);
	hosts = bpf_map_lookup_elem(&race_receivers, &host_port);
	c->led++;
	if (!hosts || !*hosts) {
		race_tell(&got, RACE_WRONG_PORT, &got.t);
		return TC_ACT_UNSPEC;
	}
	for (__u32 i = 0; i < RACE_MACHINES; i++)
		if (race_machines[i].address == got.t.daddr && *hosts >> i & 1)
			return TC_ACT_UNSPEC;
	race_tell(&got, RACE_WRONG_HOST, &got.t);
	return TC_ACT_UNSPEC;
}

/* The tuple of the entry that race_forget makes and takes away, while race_refresh gives it time. */
static __always_inline struct pt_tuple race_entry_tuple(void) {
	struct pt_tuple t = {race_wan_address, race_wan_address, bpf_htons(4001), bpf_htons(6001)};

	return t;
}
SEC("tc")
int race_refresh(struct __sk_buff *skb) {
	struct pt_tuple t = race_entry_tuple();

	pt_entry_time(skb, &t, IPPROTO_UDP, 10000000000ULL);
	return 0;
}
SEC("tc")
int race_forget(struct __sk_buff *skb) {
	struct race_cpu *c = bpf_map_lookup_elem(&race_cpus, &race_zero);
	struct pt_wanted w = {.orig = race_entry_tuple(), .time_ms = 10000, .proto = IPPROTO_UDP};
	struct pt_entry e;

	if (!c)
		return 0;
	c->made += pt_entry_make(skb, &w); /* it is there if it has stayed the last time */
	pt_entry_forget(skb, &w.orig, w.proto);
	c->stayed += pt_entry_look(skb, &w.orig, w.proto, &e);
	return 0;
}

/* An interrupt that takes its time, wherever a program under test is just then: so the moments between a look-up and
 * what is done with it are long enough for the other CPU. */
SEC("perf_event")
int race_stall(void *ctx) {
	struct race_cpu *c = bpf_map_lookup_elem(&race_cpus, &race_zero);
	__u64 began = bpf_ktime_get_ns(), wait = bpf_get_prandom_u32() % race_stall_ns;

	if (!c || !c->busy)
		return 0;
	for (int i = 0; i < 4000 && bpf_ktime_get_ns() - began < wait; i++)
		;
	c->stalls++;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
