// What the maps of bpf/*.h cost in kernel memory, by the kernel's own arithmetic (map_mem_usage of
// kernel/bpf/hashtab.c and arraymap.c).
#include <bit>

#include "include/ptrig/abi.h"
#include "include/ptrig/reasons.h"
#include "loader/check.h"
#include "loader/program.h"

namespace ptrig {
namespace {

constexpr std::uint64_t kBucket = 16;        // struct bucket
constexpr std::uint64_t kElement = 48;       // struct htab_elem without key and value
constexpr std::uint64_t kEvents = 256 << 10; // pt_events
constexpr std::uint64_t kDevices = 256 * 8;  // pt_devs: the heads of its lists
constexpr std::uint64_t kMostMacs = 1 << 16; // pt_macs: only its buckets are allocated at once, as of pt_expected

std::uint64_t rounded(std::uint64_t size) {
	return (size + 7) & ~std::uint64_t{7};
}

template <typename Value> std::uint64_t array(std::uint64_t entries) {
	return rounded(sizeof(Value)) * entries;
}

template <typename Value> std::uint64_t per_cpu_array(std::uint64_t entries, unsigned cpus) {
	return (rounded(sizeof(Value)) * cpus + sizeof(void *)) * entries;
}

std::uint64_t buckets(std::uint64_t entries) {
	return kBucket * std::bit_ceil(entries);
}

template <typename Key, typename Value> std::uint64_t hash(std::uint64_t entries, unsigned cpus) {
	// Each CPU has one element in reserve.
	return buckets(entries) + (kElement + rounded(sizeof(Key)) + rounded(sizeof(Value))) * (entries + cpus);
}

} // namespace

std::vector<MapMemory> memory_by_map(const GatewayConfig &gateway, unsigned cpus) {
	const std::uint64_t rules = gateway.max_rules, leases = gateway.max_leases;
	const std::uint64_t sessions = 2ULL * gateway.max_sessions, halfopen = gateway.max_halfopen;
	return {
		{"pt_state", array<ptrig_state>(1)},
		{"pt_usage", array<ptrig_usage>(1)},
		{"pt_config", array<ptrig_config>(2)},
		{"pt_trig_ports", array<__u32>(PTRIG_PORT_TABLE_SIZE)},
		{"pt_open_ports", array<__u32>(PTRIG_PORT_TABLE_SIZE)},
		{"pt_host_ports", array<__u32>(PTRIG_PORT_TABLE_SIZE)},
		{"pt_lists", array<ptrig_list>(2ULL * gateway.max_port_lists)},
		{"pt_rules", array<ptrig_rule>(2 * rules)},
		{"pt_prefixes", 0},
		{"pt_macs", buckets(kMostMacs)},
		{"pt_wan_addrs", hash<ptrig_wan_key, __u32>(1024, cpus)},
		{"pt_expected", buckets(PTRIG_EXPECTED)},
		{"pt_ifaces", hash<__u32, ptrig_iface>(256, cpus)},
		{"pt_leases", hash<ptrig_lease_key, ptrig_lease>(leases, cpus)},
		{"pt_sessions", hash<ptrig_session_key, ptrig_session>(sessions, cpus)},
		{"pt_scratch", per_cpu_array<ptrig_scratch>(1, cpus)},
		{"pt_over", array<ptrig_over>(PTRIG_OVER_MAX)},
		{"pt_fast", array<ptrig_fast_bucket>(2ULL * fast_buckets(gateway.max_sessions))},
		{"pt_acks", array<__u32>(std::size_t{PTRIG_ACKS_OF(fast_buckets(gateway.max_sessions))})},
		{"pt_hops", array<ptrig_hop>(PTRIG_HOPS)},
		{"pt_port_use", array<__u32>(PTRIG_USE_SIZE)},
		{"pt_port_bits", array<__u64>(PTRIG_PORT_BITS_SIZE)},
		{"pt_halfopen", hash<ptrig_session_key, ptrig_session>(halfopen, cpus)},
		{"pt_notes", hash<ptrig_flow_key, ptrig_note>(PTRIG_NOTES, cpus)},
		{"pt_hints", array<__u32>(2ULL * PTRIG_HINTS)},
		{"pt_known", array<__u64>(PTRIG_KNOWN)},
		{"pt_conns", hash<ptrig_conn_key, ptrig_conn>(leases, cpus)},
		{"pt_pending", hash<ptrig_wait_key, ptrig_wait>(leases, cpus)},
		{"pt_hosts", hash<ptrig_host_key, ptrig_host>(3 * leases, cpus)},
		{"pt_hits", per_cpu_array<ptrig_hits>(rules, cpus)},
		{"pt_last", array<ptrig_last>(rules)},
		{"pt_counters", per_cpu_array<__u64>(PTRIG_REASON_COUNT, cpus)},
		{"pt_devs", kDevices},
		{"pt_events", kEvents},
	};
}

std::uint64_t map_memory(const GatewayConfig &gateway, unsigned possible_cpus) {
	std::uint64_t total = 0;
	for (const MapMemory &map : memory_by_map(gateway, possible_cpus))
		total += map.bytes;
	return total;
}

} // namespace ptrig
