// A compiled ruleset into the maps of one generation. The port tables, lists and rules are written as
// memory; prefixes and MAC addresses go under set numbers that no other generation uses.
#include <algorithm>
#include <fstream>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "loader/gateway_impl.h"
#include "loader/port_bits.h"

namespace ptrig {

namespace {

Done write_ports(const std::string &dir, const char *name, std::uint32_t generation,
		 const std::vector<std::uint32_t> &ports) {
	auto map = MappedArray<std::uint32_t>::open(dir, name);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	const std::size_t first = PTRIG_PORT_INDEX(generation, 0, 0);
	for (std::size_t i = 0; i < ports.size(); i++)
		(*map)[first + i] = ports[i];
	return {};
}

/// Of the port tables of both generations, or of one.
Done write_port_bits(const std::string &dir, bool of_first, bool of_second) {
	auto trigger = MappedArray<std::uint32_t>::open(dir, "pt_trig_ports");
	auto open = MappedArray<std::uint32_t>::open(dir, "pt_open_ports");
	auto host = MappedArray<std::uint32_t>::open(dir, "pt_host_ports");
	for (auto *map : {&trigger, &open, &host})
		if (!*map)
			return tl::unexpected(std::move(map->error()));
	auto bits = MappedArray<std::uint64_t>::open(dir, "pt_port_bits");
	if (!bits)
		return tl::unexpected(std::move(bits.error()));
	set_rule_bits(*trigger, *open, *host, *bits, of_first, of_second);
	return {};
}

/// `values` at generation * per_generation, and zeroes after them.
template <typename V>
Done write_slots(const std::string &dir, const char *name, std::uint32_t generation, std::size_t per_generation,
		 const std::vector<V> &values) {
	auto map = MappedArray<V>::open(dir, name);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	if (values.size() > per_generation || map->size() < 2 * per_generation)
		return fail(fmt::format("{} has no room for {} entries", name, values.size()));
	for (std::size_t i = 0; i < per_generation; i++)
		(*map)[generation * per_generation + i] = i < values.size() ? values[i] : V{};
	return {};
}

ptrig_prefix_key prefix_key(const PrefixEntry &entry) {
	ptrig_prefix_key key{};
	key.prefix_bits = 32U + entry.prefix.bits;
	key.set = entry.set;
	key.address = to_net(entry.prefix.address);
	return key;
}

ptrig_mac_key mac_key(const MacEntry &entry, std::uint32_t ifindex) {
	ptrig_mac_key key{};
	key.set = entry.set;
	key.ifindex = ifindex;
	std::copy(entry.source.mac.bytes.begin(), entry.source.mac.bytes.end(), key.mac);
	return key;
}

/// Without those of an interface that does not exist: follow_sources() adds them when it comes.
std::vector<ptrig_mac_key> mac_keys(const std::vector<MacEntry> &entries, const Network &network) {
	std::vector<ptrig_mac_key> keys;
	keys.reserve(entries.size());
	for (const MacEntry &entry : entries) {
		const std::string &name = entry.source.interface;
		const Link *link = name.empty() ? nullptr : network.find(name);
		if (link || name.empty())
			keys.push_back(mac_key(entry, link ? link->ifindex : 0));
	}
	return keys;
}

std::vector<ptrig_prefix_key> prefix_keys(const std::vector<PrefixEntry> &entries) {
	std::vector<ptrig_prefix_key> keys(entries.size());
	std::transform(entries.begin(), entries.end(), keys.begin(), prefix_key);
	return keys;
}

template <typename Key> Done insert_sets(const std::string &dir, const char *name, const std::vector<Key> &keys) {
	if (keys.empty())
		return {};
	auto map = Map<Key, std::uint32_t>::open(dir, name);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	return map->update_all(keys, std::vector<std::uint32_t>(keys.size(), 1));
}

template <typename Key> Done purge(const std::string &dir, const char *name, std::uint32_t first, std::uint32_t end) {
	auto map = Map<Key, std::uint32_t>::open(dir, name);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	auto keys = map->keys();
	if (!keys)
		return tl::unexpected(std::move(keys.error()));
	for (const Key &key : *keys)
		if (key.set < first || key.set >= end)
			if (auto erased = map->erase(key); !erased)
				return erased;
	return {};
}

/// Rules that are new to their slot begin to count at zero.
Done reset_counters(const std::string &dir, const Tables &tables, const Live &before) {
	auto hits = PerCpuMap<std::uint32_t, ptrig_hits>::open(dir, "pt_hits");
	auto last = Map<std::uint32_t, ptrig_last>::open(dir, "pt_last");
	if (!hits)
		return tl::unexpected(std::move(hits.error()));
	if (!last)
		return tl::unexpected(std::move(last.error()));
	for (const auto &[name, identity] : tables.identities) {
		if (before.id_of(name) == identity.id)
			continue;
		const std::uint32_t slot = identity.id & 0xffff;
		ptrig_hits fresh{};
		fresh.id = identity.id;
		auto done = hits->update(slot, fresh).and_then([&] { return last->update(slot, ptrig_last{}); });
		if (!done)
			return done;
	}
	return {};
}

/// Half-open sessions hold entries that the kernel cannot drop early: the datapath keeps them to a part of its table.
ptrig_config with_conntrack_max(ptrig_config config) {
	std::ifstream("/proc/sys/net/netfilter/nf_conntrack_max") >> config.conntrack_max;
	return config;
}

} // namespace

Done write_tables(const std::string &dir, const MapSizes &sizes, std::uint32_t generation, const Tables &tables,
		  const Network &network, const Live &before) {
	auto config = Map<std::uint32_t, ptrig_config>::open(dir, "pt_config");
	if (!config)
		return tl::unexpected(std::move(config.error()));
	return write_ports(dir, "pt_trig_ports", generation, tables.trigger_ports)
		.and_then([&] { return write_ports(dir, "pt_open_ports", generation, tables.open_ports); })
		.and_then([&] { return write_ports(dir, "pt_host_ports", generation, tables.host_ports); })
		.and_then([&] { return write_port_bits(dir, true, true); })
		.and_then([&] { return write_slots(dir, "pt_lists", generation, sizes.lists, tables.lists); })
		.and_then([&] { return write_slots(dir, "pt_rules", generation, sizes.rules, tables.rules); })
		.and_then([&] { return config->update(generation, with_conntrack_max(tables.config)); })
		.and_then([&] { return insert_sets(dir, "pt_prefixes", prefix_keys(tables.prefixes)); })
		.and_then([&] { return insert_sets(dir, "pt_macs", mac_keys(tables.macs, network)); })
		.and_then([&] { return reset_counters(dir, tables, before); });
}

Done forget_port_bits(const std::string &dir, std::uint32_t generation) {
	return write_port_bits(dir, generation != 0, generation == 0);
}

Done purge_sets(const std::string &dir, std::uint32_t first, std::uint32_t end) {
	return purge<ptrig_prefix_key>(dir, "pt_prefixes", first, end).and_then([&] {
		return purge<ptrig_mac_key>(dir, "pt_macs", first, end);
	});
}

Done follow_sources(const std::string &dir, const MapSizes &sizes, std::uint32_t generation, const Live &live,
		    const Network &network) {
	std::vector<MacEntry> bound; // to an interface
	auto rules = MappedArray<ptrig_rule>::open(dir, "pt_rules");
	if (!rules)
		return tl::unexpected(std::move(rules.error()));
	for (const auto &[id, rule] : live.by_id)
		for (const MacSource &source : rule->sources.macs) {
			const std::size_t slot = std::size_t{generation} * sizes.rules + (id & 0xffff);
			if (!source.interface.empty() && (*rules)[slot].id == id)
				bound.push_back({(*rules)[slot].sources_set, source});
		}
	if (bound.empty())
		return {};
	auto map = Map<ptrig_mac_key, std::uint32_t>::open(dir, "pt_macs");
	if (!map)
		return tl::unexpected(std::move(map.error()));
	auto keys = map->keys();
	if (!keys)
		return tl::unexpected(std::move(keys.error()));
	const auto bytes_of = [](const ptrig_mac_key &key) {
		return std::string_view(reinterpret_cast<const char *>(&key), sizeof(key));
	};
	std::set<std::string_view> wanted, there;
	const std::vector<ptrig_mac_key> now = mac_keys(bound, network);
	for (const ptrig_mac_key &key : now)
		wanted.insert(bytes_of(key));
	for (const ptrig_mac_key &key : *keys) {
		if (key.ifindex == 0 || key.set < live.first_set || key.set >= live.next_set)
			continue;
		there.insert(bytes_of(key));
		if (!wanted.contains(bytes_of(key)))
			if (auto erased = map->erase(key); !erased)
				return erased;
	}
	for (const ptrig_mac_key &key : now)
		if (!there.contains(bytes_of(key)))
			if (auto added = map->update(key, 1); !added)
				return added;
	return {};
}

std::uint32_t end_of_sets(const Tables &tables, std::uint32_t first) {
	std::uint32_t last = std::max(first - 1, tables.config.deny_set);
	for (const ptrig_rule &rule : tables.rules)
		last = std::max({last, rule.sources_set, rule.trigger_remotes_set, rule.remotes_set});
	for (const PrefixEntry &entry : tables.prefixes)
		last = std::max(last, entry.set);
	for (const MacEntry &entry : tables.macs)
		last = std::max(last, entry.set);
	return last + 1;
}

} // namespace ptrig
