// The fixture's view of the maps: rules in, leases, sessions and counts out, timestamps moved by hand.
#include "tests/bpf/harness.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <map>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>

#include "loader/port_bits.h"
#include "loader/program.h"

namespace ptrig::test {

namespace {

PortRange range(std::uint16_t first, std::uint16_t last, Protos protos) {
	return {first, last ? last : first, protos};
}

template <typename T> T must(Result<T> result) {
	if (!result)
		throw std::runtime_error(result.error().what);
	return std::move(*result);
}
void must(Done done) {
	if (!done)
		throw std::runtime_error(done.error().what);
}

struct Bytewise {
	template <typename T> bool operator()(const T &a, const T &b) const {
		static_assert(std::has_unique_object_representations_v<T>);
		return std::memcmp(&a, &b, sizeof(T)) < 0;
	}
};

} // namespace

ptrig_session_key mirror(const ptrig_session_key &key, const ptrig_session &s) {
	ptrig_session_key other = key;
	const bool wan = key.side == PTRIG_SIDE_WAN;
	other.saddr = wan ? s.addr : s.peer, other.sport = wan ? s.port : s.peer_port;
	other.daddr = wan ? s.peer : s.addr, other.dport = wan ? s.peer_port : s.port;
	other.side = wan ? PTRIG_SIDE_LAN : PTRIG_SIDE_WAN;
	return other;
}

PortRange tcp(std::uint16_t first, std::uint16_t last) {
	return range(first, last, PTRIG_TCP);
}
PortRange udp(std::uint16_t first, std::uint16_t last) {
	return range(first, last, PTRIG_UDP);
}
OpenRange open(PortRange wan, std::uint16_t host_first) {
	return {wan, host_first ? host_first : wan.first};
}
Prefix prefix(const std::string &text, std::uint8_t bits) {
	return {ptrig::Ip4{ntohl(be(text))}, bits};
}

Mac mac(const std::string &text) {
	Mac out;
	const Bytes bytes = mac_bytes(text);
	std::copy(bytes.begin(), bytes.end(), out.bytes.begin());
	return out;
}

__be32 be(const std::string &address) {
	__be32 out;
	std::memcpy(&out, ip_bytes(address).data(), sizeof(out));
	return out;
}

std::uint64_t now_ns() {
	timespec now{};
	clock_gettime(CLOCK_BOOTTIME, &now);
	return static_cast<std::uint64_t>(now.tv_sec) * 1000000000U + static_cast<std::uint64_t>(now.tv_nsec);
}

Rule media() {
	return {.name = "media", .trigger = {udp(5060)}, .open = {open(udp(16384, 16390))}};
}
Rule ident() {
	return {.name = "ident", .trigger = {tcp(6667)}, .open = {open(tcp(113))}};
}

void DatapathTest::use_maps() {
	dp_->clear();
	identities_.clear();
	slot_counters_.clear();
	next_set_ = 1;
	const ptrig_state state{.abi = PTRIG_ABI, .nat_ready = 1};
	must(dp_->map<std::uint32_t, ptrig_state>("pt_state").update(0, state));
	interface("lan0", PTRIG_IFACE_LAN);
	interface("lan1", PTRIG_IFACE_LAN);
	interface("wan0", PTRIG_IFACE_WAN);
	interface("wan1", PTRIG_IFACE_WAN);
	interface("tunl", PTRIG_IFACE_LAN | PTRIG_IFACE_L3);
	interface("tunw", PTRIG_IFACE_WAN | PTRIG_IFACE_L3);
	wan_address("wan0", kWan);
	wan_address("wan0", kWanSecond);
	wan_address("wan1", kWan1);
	wan_address("tunw", kTunWan);
}

void DatapathTest::apply(std::vector<Rule> rules, unsigned generation, bool activate_it) {
	config_.rules = std::move(rules);
	config_.gateway.max_rules = dp_->sizes.rules;
	config_.gateway.max_port_lists = dp_->sizes.lists;
	const Tables tables = must(compile({&config_, identities_, slot_counters_, next_set_}));
	identities_ = tables.identities;
	const std::pair<const char *, const std::vector<std::uint32_t> &> port_tables[] = {
		{"pt_trig_ports", tables.trigger_ports},
		{"pt_open_ports", tables.open_ports},
		{"pt_host_ports", tables.host_ports},
	};
	for (const auto &[name, entries] : port_tables) {
		const auto memory = dp_->memory<std::uint32_t>(name);
		for (std::uint32_t i = 0; i < entries.size(); i++)
			memory[PTRIG_PORT_INDEX(generation, 0, i)] = entries[i];
	}
	const auto trigger = dp_->memory<std::uint32_t>("pt_trig_ports"),
		   open = dp_->memory<std::uint32_t>("pt_open_ports"),
		   host = dp_->memory<std::uint32_t>("pt_host_ports");
	const auto bits = dp_->memory<std::uint64_t>("pt_port_bits");
	set_rule_bits(trigger, open, host, bits, true, true);
	const auto lists = dp_->memory<ptrig_list>("pt_lists");
	for (std::size_t i = 0; i < tables.lists.size(); i++)
		lists[generation * dp_->sizes.lists + i] = tables.lists[i];
	const auto records = dp_->memory<ptrig_rule>("pt_rules");
	for (std::size_t i = 0; i < dp_->sizes.rules; i++)
		records[generation * dp_->sizes.rules + i] = i < tables.rules.size() ? tables.rules[i] : ptrig_rule{};
	slot_counters_.resize(std::max(slot_counters_.size(), tables.rules.size()));
	for (std::size_t i = 0; i < tables.rules.size(); i++)
		slot_counters_[i] = std::max(slot_counters_[i], tables.rules[i].id >> 16);
	auto prefixes = dp_->map<ptrig_prefix_key, std::uint32_t>("pt_prefixes");
	for (const auto &[set, p] : tables.prefixes) {
		must(prefixes.update({p.bits + 32U, set, htonl(p.address.value)}, 0));
		next_set_ = std::max(next_set_, set + 1);
	}
	auto macs = dp_->map<ptrig_mac_key, std::uint32_t>("pt_macs");
	for (const auto &[set, source] : tables.macs) {
		ptrig_mac_key key{.set = set};
		key.ifindex = source.interface.empty() ? 0 : ifindex(source.interface);
		std::copy(source.mac.bytes.begin(), source.mac.bytes.end(), key.mac);
		must(macs.update(key, 0));
		next_set_ = std::max(next_set_, set + 1);
	}
	must(dp_->map<std::uint32_t, ptrig_config>("pt_config").update(generation, tables.config));
	if (activate_it)
		activate(generation);
}

void DatapathTest::activate(unsigned generation) {
	auto states = dp_->map<std::uint32_t, ptrig_state>("pt_state");
	auto state = must(states.lookup(0)).value();
	state.active = generation;
	must(states.update(0, state));
}

std::uint32_t DatapathTest::rule_id(const std::string &name) const {
	return identities_.at(name).id;
}

void DatapathTest::interface(const std::string &name, std::uint32_t flags, std::uint32_t mtu) {
	must(dp_->map<std::uint32_t, ptrig_iface>("pt_ifaces").update(ifindex(name), {flags, mtu}));
}

void DatapathTest::wan_address(const std::string &dev, const std::string &address, bool there) {
	auto addresses = dp_->map<ptrig_wan_key, std::uint32_t>("pt_wan_addrs");
	const ptrig_wan_key key{ifindex(dev), be(address)};
	must(there ? addresses.update(key, 1) : addresses.erase(key));
}

std::optional<ptrig_lease> DatapathTest::lease(const std::string &rule, const std::string &remote,
					       const std::string &wan) const {
	const ptrig_lease_key key{rule_id(rule), remote.empty() ? 0 : be(remote), be(wan)};
	return must(dp_->map<ptrig_lease_key, ptrig_lease>("pt_leases").lookup(key));
}

void DatapathTest::edit_lease(const std::string &rule, const std::function<void(ptrig_lease &)> &edit,
			      const std::string &remote) {
	auto leases = dp_->map<ptrig_lease_key, ptrig_lease>("pt_leases");
	const ptrig_lease_key key{rule_id(rule), remote.empty() ? 0 : be(remote), be(kWan)};
	auto value = must(leases.lookup(key));
	ASSERT_TRUE(value) << "no lease of " << rule;
	edit(*value);
	must(leases.update(key, *value));
}

void DatapathTest::age_lease(const std::string &rule, nanoseconds by, const std::string &remote) {
	edit_lease(
		rule,
		[&](ptrig_lease &l) {
			l.info.refreshed_ns -= static_cast<std::uint64_t>(by.count());
			l.info.granted_ns -= static_cast<std::uint64_t>(by.count());
			l.info.ended_ns -= l.info.ended_ns ? static_cast<std::uint64_t>(by.count()) : 0;
			l.info.refreshed_tick -=
				static_cast<std::uint32_t>(by.count() / 1000000 * tick_hz().value() / 1000);
		},
		remote);
}

void DatapathTest::with_fast(bool xdp) {
	static const Fd pass = xdp_pass();
	auto state = dp_->memory<ptrig_state>("pt_state");
	state[0].fast = PTRIG_STATE_FAST_ON;
	state[0].followed_ns = ~0ULL;
	const std::uint32_t fast = PTRIG_IFACE_FAST_IN | PTRIG_IFACE_FAST_OUT;
	for (const std::string dev : {"lan0", "lan1", "wan0", "wan1", "tunl", "tunw"})
		interface(dev, (dev.find('l') == std::string::npos ? PTRIG_IFACE_WAN : PTRIG_IFACE_LAN) | fast |
				       (dev.starts_with("tun") ? PTRIG_IFACE_L3 : 0));
	if (!xdp)
		return;
	auto devs = dp_->map<std::uint32_t, std::uint32_t>("pt_devs");
	for (const std::string dev : {"lan0", "wan0"}) {
		interface(dev, (dev == "lan0" ? PTRIG_IFACE_LAN : PTRIG_IFACE_WAN) | fast | PTRIG_IFACE_XDP |
				       PTRIG_IFACE_XDP_IN);
		must(devs.update(ifindex(dev), ifindex(dev)));
		const int index = static_cast<int>(ifindex(dev));
		if (const int rc = bpf_xdp_attach(index, pass.get(), XDP_FLAGS_DRV_MODE, nullptr); rc < 0)
			throw std::runtime_error("attach XDP to " + dev + ": " + std::strerror(-rc));
	}
}

void DatapathTest::without_xdp() {
	for (const std::string dev : {"lan0", "wan0"})
		if (in_world())
			bpf_xdp_detach(static_cast<int>(ifindex(dev)), XDP_FLAGS_DRV_MODE, nullptr);
}

void DatapathTest::age_fast(nanoseconds by) {
	const auto ticks = static_cast<std::uint32_t>(by.count() / 1000000 * tick_hz().value() / 1000) + 1;
	const auto buckets = dp_->fast();
	for (std::size_t i = 0; i < buckets.size(); i++)
		for (ptrig_fast &way : buckets[i].way)
			way.until -= way.until ? ticks : 0;
	const auto hops = dp_->memory<ptrig_hop>("pt_hops");
	for (std::size_t i = 0; i < hops.size(); i++)
		hops[i].until -= hops[i].oif ? ticks : 0;
}

std::vector<ptrig_fast> DatapathTest::fast_ways() const {
	const auto buckets = dp_->fast();
	std::vector<ptrig_fast> used;
	for (std::size_t i = 0; i < buckets.size(); i++)
		for (const ptrig_fast &way : buckets[i].way)
			if (way.to)
				used.push_back(way);
	return used;
}

ptrig_session DatapathTest::with_counts(ptrig_session session) const {
	if (!session.fast)
		return session;
	const auto buckets = dp_->fast();
	const std::uint32_t way = session.fast - 1;
	const std::uint64_t more = buckets[way / PTRIG_FAST_WAYS].way[way % PTRIG_FAST_WAYS].count - session.folded;
	session.packets += more >> PTRIG_FAST_BYTES_BITS;
	session.bytes += more & ((std::uint64_t{1} << PTRIG_FAST_BYTES_BITS) - 1);
	return session;
}

std::vector<Pair> DatapathTest::sessions() const {
	std::vector<Pair> pairs;
	const auto all = dp_->entries<ptrig_session_key, ptrig_session>("pt_sessions");
	std::map<ptrig_session_key, const ptrig_session *, Bytewise> wan;
	for (const auto &[key, value] : all)
		if (key.side == PTRIG_SIDE_WAN)
			wan.emplace(key, &value);
	for (const auto &[key, value] : all) {
		if (key.side != PTRIG_SIDE_LAN)
			continue;
		const ptrig_session_key wan_key = mirror(key, value);
		const auto twin = wan.find(wan_key);
		EXPECT_NE(twin, wan.end()) << "a session without its WAN side";
		pairs.push_back({wan_key, key, twin != wan.end() ? *twin->second : ptrig_session{}, value, false});
	}
	EXPECT_EQ(all.size(), 2 * wan.size()) << "a session without its LAN side";
	for (const auto &[key, value] : dp_->entries<ptrig_session_key, ptrig_session>("pt_halfopen")) {
		EXPECT_EQ(key.side, PTRIG_SIDE_LAN);
		pairs.push_back({mirror(key, value), key, value, value, true});
		ptrig_session &other = pairs.back().wan;
		other.addr = key.saddr;
		other.port = key.sport;
		other.peer = key.daddr;
		other.peer_port = key.dport;
		other.via = 0;
		pairs.back().lan.packets = pairs.back().lan.bytes = 0; // it counted the other direction
	}
	return pairs;
}

Pair DatapathTest::session() const {
	const auto all = sessions();
	EXPECT_EQ(all.size(), 1U) << "sessions";
	return all.size() == 1 ? all[0] : Pair{};
}

void DatapathTest::edit_session(const std::function<void(Pair &)> &edit) {
	Pair pair = session();
	auto map = dp_->map<ptrig_session_key, ptrig_session>(pair.halfopen ? "pt_halfopen" : "pt_sessions");
	edit(pair);
	if (pair.halfopen) {
		pair.lan.packets = pair.wan.packets;
		pair.lan.bytes = pair.wan.bytes;
	} else {
		must(map.update(pair.wan_key, pair.wan, BPF_EXIST));
	}
	must(map.update(pair.lan_key, pair.lan, BPF_EXIST));
}

void DatapathTest::age_sessions(nanoseconds by) {
	const auto ticks = static_cast<std::uint32_t>(by.count() / 1000000 * tick_hz().value() / 1000) + 1;
	auto map = dp_->map<ptrig_session_key, ptrig_session>("pt_sessions");
	for (const auto &key : must(map.keys())) {
		auto value = must(map.lookup(key)).value();
		value.seen_ns -= static_cast<std::uint64_t>(by.count());
		value.checked -= ticks;
		must(map.update(key, value, BPF_EXIST));
	}
}

void DatapathTest::age_session(nanoseconds by) {
	const auto ticks = static_cast<std::uint32_t>(by.count() / 1000000 * tick_hz().value() / 1000) + 1;
	edit_session([&](Pair &pair) {
		for (ptrig_session *side : {&pair.lan, &pair.wan}) {
			side->seen_ns -= static_cast<std::uint64_t>(by.count());
			side->checked -= ticks;
			side->heard -= ticks;
		}
	});
}

ptrig_usage DatapathTest::usage() const {
	return must(dp_->map<std::uint32_t, ptrig_usage>("pt_usage").lookup(0)).value();
}

ptrig_hits DatapathTest::hits(const std::string &rule) const {
	const auto cpus = static_cast<std::size_t>(libbpf_num_possible_cpus());
	std::vector<ptrig_hits> values(cpus);
	const std::uint32_t slot = rule_id(rule) & 0xffff;
	if (bpf_map_lookup_elem(dp_->map_fd("pt_hits"), &slot, values.data()) < 0)
		throw std::runtime_error("read pt_hits");
	ptrig_hits sum{};
	for (const ptrig_hits &one : values) {
		sum.triggers += one.triggers;
		sum.granted += one.granted;
		for (unsigned i = 0; i < PTRIG_REFUSALS; i++)
			sum.refused[i] += one.refused[i];
	}
	return sum;
}

ptrig_last DatapathTest::last(const std::string &rule) const {
	return must(dp_->map<std::uint32_t, ptrig_last>("pt_last").lookup(rule_id(rule) & 0xffff)).value();
}

} // namespace ptrig::test
