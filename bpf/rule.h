/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Rules: which of them a port belongs to, whom they concern. Reads the active generation only. */
#ifndef PT_RULE_H
#define PT_RULE_H

#include "maps.h"
#include "packet.h"

static const __u32 pt_zero = 0;

/* Does this element still stand under its key? A function of its own, or else the compiler goes on with what the
 * look-up has returned, which kernel 6.1 does not know to be no NULL. */
static __noinline bool pt_stands(void *map, const void *key, const void *element) {
	return bpf_map_lookup_elem(map, key) == element;
}

static __always_inline __u32 pt_generation(void) {
	struct ptrig_state *state = bpf_map_lookup_elem(&pt_state, &pt_zero);

	return state ? (*(volatile __u32 *)&state->active) & 1 : 0;
}
static __always_inline struct ptrig_config *pt_config_get(__u32 gen) {
	return bpf_map_lookup_elem(&pt_config, &gen);
}
static __always_inline struct ptrig_usage *pt_usage_get(void) {
	return bpf_map_lookup_elem(&pt_usage, &pt_zero);
}

/* An entry of a port table: 0 if no rule has this port (in host order). */
static __always_inline __u32 pt_port_entry(void *table, __u32 gen, __u32 proto_index, __u16 port) {
	__u32 index = PTRIG_PORT_INDEX(gen, proto_index, port);
	__u32 *entry = bpf_map_lookup_elem(table, &index);

	return entry ? *entry : 0;
}

static __always_inline struct ptrig_rule *pt_rule_at(__u32 gen, __u32 slot) {
	__u32 index = gen * cfg_rules_max + slot;

	return bpf_map_lookup_elem(&pt_rules, &index);
}
/* The live rule with this id, or NULL: removed, disabled or replaced. */
static __always_inline struct ptrig_rule *pt_rule_by_id(__u32 gen, __u32 id) {
	struct ptrig_rule *rule = pt_rule_at(gen, id & 0xffff);

	return rule && rule->id == id ? rule : NULL;
}

/* The nth rule of a port table entry, or NULL after the last one. */
static __always_inline struct ptrig_rule *pt_rule_nth(__u32 gen, __u32 entry, __u32 n) {
	if (!(entry & PTRIG_PORT_LIST))
		return n == 0 && entry ? pt_rule_at(gen, entry - 1) : NULL;
	__u32 index = gen * cfg_lists_max + (entry & ~PTRIG_PORT_LIST);
	struct ptrig_list *list = bpf_map_lookup_elem(&pt_lists, &index);

	if (!list || n >= list->count || n >= PTRIG_MAX_RULES_PER_PORT)
		return NULL;
	return pt_rule_at(gen, list->slot[n]);
}

static __always_inline bool pt_set_has_address(__u32 set, __be32 address) {
	struct ptrig_prefix_key key = {.prefix_bits = 64, .set = set, .address = address};

	return bpf_map_lookup_elem(&pt_prefixes, &key) != NULL;
}
/* On this interface, or on any. */
static __always_inline bool pt_set_has_mac(__u32 set, const __u8 *mac, __u32 ifindex) {
	struct ptrig_mac_key key = {.set = set, .ifindex = ifindex};

	__builtin_memcpy(key.mac, mac, sizeof(key.mac));
	if (bpf_map_lookup_elem(&pt_macs, &key))
		return true;
	key.ifindex = 0;
	return bpf_map_lookup_elem(&pt_macs, &key) != NULL;
}

/* May this LAN host trigger the rule? */
static __always_inline bool pt_rule_allows_source(const struct ptrig_rule *rule, const struct ptrig_cand *c) {
	if (rule->flags & PTRIG_RULE_SOURCE_SET)
		return pt_set_has_address(rule->sources_set, c->host) ||
		       (c->flags & PTRIG_CAND_MAC && pt_set_has_mac(rule->sources_set, c->mac, c->lan_ifindex));
	return rule->flags & PTRIG_RULE_SOURCE_ROUTED || c->flags & PTRIG_CAND_ONLINK;
}
/* May this remote open a session? `contacted` is decided by the lease's key. */
static __always_inline bool pt_rule_allows_remote(const struct ptrig_rule *rule, const struct ptrig_config *config,
						  __be32 remote) {
	if (config->deny_set && pt_set_has_address(config->deny_set, remote))
		return false;
	return !rule->remotes_set || pt_set_has_address(rule->remotes_set, remote);
}
static __always_inline struct ptrig_lease_key pt_rule_lease_key(const struct ptrig_rule *rule, __be32 remote,
								__be32 wan) {
	struct ptrig_lease_key key = {
		.rule = rule->id,
		.remote = rule->flags & PTRIG_RULE_CONTACTED ? remote : 0,
		.wan = wan,
	};

	return key;
}

/* DHCP of the gateway's own: its client may read a packet socket, which sees nothing that was redirected, and which
 * no look for sockets finds. */
static __always_inline bool pt_rule_is_dhcp(__u8 proto_bit, __u16 wan_port) {
	return proto_bit == PTRIG_UDP && (wan_port == 67 || wan_port == 68);
}

/* The WAN port (side LAN) or host port (side WAN) that an open range maps `port` to; 0 if none does.
 * Ports are in host order. Global, so that the verifier walks its loop once and not once per caller's. */
__noinline __u16 pt_rule_map_port(const struct ptrig_rule *rule, __u32 side, __u8 proto_bit, __u16 port) {
	if (!rule)
		return 0;
	for (int i = 0; i < PTRIG_MAX_RANGES; i++) {
		const struct ptrig_range *range = &rule->open[i];

		if ((__u32)i >= rule->open_count)
			break;
		__u16 first = side == PTRIG_SIDE_WAN ? range->first : range->host_first;
		__u16 to = side == PTRIG_SIDE_WAN ? range->host_first : range->first;

		if (!(range->protos & proto_bit) || port < first || port - first > range->last - range->first)
			continue;
		to += port - first;
		if (!pt_rule_is_dhcp(proto_bit, side == PTRIG_SIDE_WAN ? port : to))
			return to;
	}
	return 0;
}

static __always_inline void pt_rule_count(const struct ptrig_rule *rule, enum ptrig_reason reason) {
	__u32 slot = rule->id & 0xffff;
	struct ptrig_hits *hits = bpf_map_lookup_elem(&pt_hits, &slot);

	if (!hits)
		return;
	hits->triggers++;
	if (reason == PTRIG_GRANTED || reason == PTRIG_TAKEN_OVER)
		hits->granted++;
	__u32 refusal = reason - PTRIG_FLAGS;

	if (refusal < PTRIG_REFUSALS)
		hits->refused[refusal]++;
}

#endif
