// A ruleset compiled into the tables of one generation: rule records, their identities, their sets.
// Host order becomes network order nowhere here: the tables hold ports as numbers.
#include "loader/compile.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "loader/compile_ports.h"
#include "loader/port_index.h"
#include "loader/rule_file.h"
#include "loader/rule_text.h"

namespace ptrig {
namespace {

using text::in_quotes;

constexpr std::uint32_t kSlotMask = 0xFFFF;
// Half of what pt_prefixes and pt_macs hold: two generations are in them while one replaces the other.
constexpr std::size_t kMostPrefixes = 1U << 19;
constexpr std::size_t kMostMacs = 1U << 15;

std::uint32_t slot_of(std::uint32_t id) {
	return id & kSlotMask;
}
std::uint16_t counter_of(std::uint32_t id) {
	return static_cast<std::uint16_t>(id >> 16);
}

std::uint64_t to_ns(nanoseconds time) {
	return static_cast<std::uint64_t>(time.count());
}

bool same_open_ports(const std::vector<OpenRange> &a, const std::vector<OpenRange> &b) {
	return a == b || (a.size() == b.size() && std::is_permutation(a.begin(), a.end(), b.begin()));
}

/// Gives out ids: the old one to a rule that keeps its name and open ports, else a new one.
class Identities {
public:
	explicit Identities(const CompileInput &input) : input_(input), is_taken_(input.config->gateway.max_rules) {}

	/// One id per rule of the configuration. There are enough slots.
	std::vector<std::uint32_t> give() {
		const std::vector<Rule> &rules = input_.config->rules;
		std::vector<std::uint32_t> ids(rules.size());
		for (std::size_t i = 0; i < rules.size(); ++i)
			ids[i] = kept_id(rules[i]);
		for (std::size_t i = 0; i < rules.size(); ++i)
			if (ids[i] == 0)
				ids[i] = new_id();
		return ids;
	}

private:
	std::uint32_t kept_id(const Rule &rule) {
		const auto old = input_.previous.find(rule.name);
		if (old == input_.previous.end() || !same_leases(old->second, identity_of(rule, 0)))
			return 0;
		const std::uint32_t id = old->second.id, slot = slot_of(id);
		if (counter_of(id) == 0 || slot >= is_taken_.size() || is_taken_[slot])
			return 0;
		is_taken_[slot] = true;
		return id;
	}

	std::uint32_t new_id() {
		while (is_taken_[next_free_])
			++next_free_;
		const std::uint32_t slot = next_free_++;
		is_taken_[slot] = true;
		std::uint16_t counter = slot < input_.slot_counters.size()
						? static_cast<std::uint16_t>(input_.slot_counters[slot])
						: std::uint16_t{0};
		if (counter == 0)
			counter = previous_counter(slot);
		if (++counter == 0)
			counter = 1;
		return static_cast<std::uint32_t>(counter) << 16 | slot;
	}

	/// Of the live rule in this slot, should nobody have told its counter.
	std::uint16_t previous_counter(std::uint32_t slot) {
		if (previous_counters_.empty()) {
			previous_counters_.resize(is_taken_.size());
			for (const auto &[name, identity] : input_.previous)
				if (slot_of(identity.id) < previous_counters_.size())
					previous_counters_[slot_of(identity.id)] = counter_of(identity.id);
		}
		return previous_counters_[slot];
	}

	const CompileInput &input_;
	std::vector<bool> is_taken_;
	std::vector<std::uint16_t> previous_counters_;
	std::uint32_t next_free_ = 0;
};

/// Numbers for sets of prefixes and MAC addresses: equal sets share one.
class Sets {
public:
	Sets(std::uint32_t first, Tables &tables) : next_(std::max<std::uint32_t>(first, 1)), tables_(tables) {}

	std::uint32_t number(std::vector<Prefix> prefixes, std::vector<MacSource> macs = {}) {
		sort_unique(prefixes);
		sort_unique(macs);
		if (prefixes.empty() && macs.empty())
			return 0;
		const auto [entry, is_new] =
			numbers_.try_emplace(std::pair(std::move(prefixes), std::move(macs)), next_);
		if (is_new) {
			for (const Prefix &prefix : entry->first.first)
				tables_.prefixes.push_back({next_, prefix});
			for (const MacSource &mac : entry->first.second)
				tables_.macs.push_back({next_, mac});
			++next_;
		}
		return entry->second;
	}

private:
	template <typename T> static void sort_unique(std::vector<T> &items) {
		std::sort(items.begin(), items.end());
		items.erase(std::unique(items.begin(), items.end()), items.end());
	}

	std::uint32_t next_;
	Tables &tables_;
	std::map<std::pair<std::vector<Prefix>, std::vector<MacSource>>, std::uint32_t> numbers_;
};

std::uint32_t flags_of(const Rule &rule) {
	std::uint32_t flags = 0;
	switch (rule.sources.kind) {
	case Sources::Kind::kLan:
		flags = PTRIG_RULE_SOURCE_LAN;
		break;
	case Sources::Kind::kRouted:
		flags = PTRIG_RULE_SOURCE_LAN | PTRIG_RULE_SOURCE_ROUTED;
		break;
	case Sources::Kind::kSet:
		flags = PTRIG_RULE_SOURCE_SET;
		break;
	}
	const auto set = [&](bool is_on, std::uint32_t flag) { flags |= is_on ? flag : 0; };
	set(rule.remotes.kind == Remotes::Kind::kContacted, PTRIG_RULE_CONTACTED);
	set(rule.refresh == Refresh::kTraffic, PTRIG_RULE_REFRESH_TRAFFIC);
	set(rule.conflict == Conflict::kTakeover, PTRIG_RULE_TAKEOVER);
	set(rule.close == Close::kConnection, PTRIG_RULE_CLOSE_CONNECTION);
	set(rule.confirm, PTRIG_RULE_CONFIRM);
	set(rule.on_close == OnClose::kKill, PTRIG_RULE_KILL);
	set(rule.log, PTRIG_RULE_LOG);
	return flags;
}

ptrig_rule record_of(const Rule &rule, std::uint32_t id, Sets &sets) {
	ptrig_rule out{};
	out.id = id;
	out.flags = flags_of(rule);
	out.timeout_ns = to_ns(rule.timeout);
	out.held_timeout_ns = rule.close == Close::kConnection
				      ? std::max<std::uint64_t>(out.timeout_ns, PTRIG_CONN_TIMEOUT_NS)
				      : out.timeout_ns;
	out.yield_after_ns = to_ns(rule.yield_after.value_or(nanoseconds(0)));
	out.cooldown_ns = to_ns(rule.cooldown);
	out.max_lifetime_ns = to_ns(rule.max_lifetime.value_or(nanoseconds(0)));
	if (rule.sources.kind == Sources::Kind::kSet)
		out.sources_set = sets.number(rule.sources.prefixes, rule.sources.macs);
	out.trigger_remotes_set = sets.number(rule.trigger_remotes);
	if (rule.remotes.kind == Remotes::Kind::kSet)
		out.remotes_set = sets.number(rule.remotes.prefixes);
	out.session_limit = rule.session_limit.value_or(0);
	out.open_count = static_cast<std::uint32_t>(rule.open.size());
	for (std::size_t i = 0; i < rule.open.size(); ++i)
		out.open[i] = {rule.open[i].wan.first, rule.open[i].wan.last, rule.open[i].host_first,
			       rule.open[i].wan.protos};
	std::memcpy(out.name, rule.name.data(), std::min<std::size_t>(rule.name.size(), PTRIG_NAME_SIZE - 1));
	return out;
}

ptrig_config record_of(const Config &config, Sets &sets) {
	ptrig_config out{};
	out.tcp_established_ns = to_ns(config.timeouts.tcp_established);
	out.tcp_transitory_ns = to_ns(config.timeouts.tcp_transitory);
	out.udp_ns = to_ns(config.timeouts.udp);
	out.halfopen_ns = to_ns(config.timeouts.halfopen);
	out.icmp_ns = to_ns(config.timeouts.icmp);
	out.flags = config.gateway.firewall == FirewallMode::kNew ? PTRIG_CONFIG_NEW : 0;
	out.leases_per_host = config.limits.leases_per_host;
	out.sessions_per_host = config.limits.sessions_per_host;
	out.new_sessions_per_second = config.limits.new_sessions_per_second;
	out.deny_set = sets.number(config.gateway.deny_remotes);
	return out;
}

Done check_rules(const std::vector<Rule> &rules) {
	for (const Rule &rule : rules)
		if (auto valid = validate_rule(rule); !valid)
			return within("rule " + in_quotes(rule.name), std::move(valid.error()));
	return {};
}

Done check_sizes(const Tables &tables) {
	if (tables.prefixes.size() > kMostPrefixes)
		return fail(fmt::format("{} prefixes in all are too many: {} is the most", tables.prefixes.size(),
					kMostPrefixes),
			    Status::kInput);
	if (tables.macs.size() > kMostMacs)
		return fail(fmt::format("{} MAC addresses in all are too many: {} is the most", tables.macs.size(),
					kMostMacs),
			    Status::kInput);
	return {};
}

} // namespace

RuleIdentity identity_of(const Rule &rule, std::uint32_t id) {
	return {id, rule.open, rule.remotes.kind == Remotes::Kind::kContacted};
}

bool same_leases(const RuleIdentity &a, const RuleIdentity &b) {
	return a.per_remote == b.per_remote && same_open_ports(a.open, b.open);
}

Result<Tables> compile(const CompileInput &input) {
	const Config &config = *input.config;
	if (auto valid = check_rules(config.rules); !valid)
		return tl::unexpected(std::move(valid.error()));
	const PortIndexes indexes = index_ports(config);
	if (!indexes.conflicts.empty())
		return fail(indexes.conflicts.front().message, Status::kInput);

	Tables tables;
	const std::vector<std::uint32_t> ids = Identities(input).give();
	Sets sets(input.first_set, tables);
	tables.config = record_of(config, sets);
	tables.rules.resize(config.gateway.max_rules);
	std::vector<std::uint16_t> slots(ids.size());
	for (std::size_t i = 0; i < ids.size(); ++i) {
		const Rule &rule = config.rules[i];
		if (!tables.identities.try_emplace(rule.name, identity_of(rule, ids[i])).second)
			return fail(fmt::format("two rules are named {}", in_quotes(rule.name)), Status::kInput);
		slots[i] = static_cast<std::uint16_t>(slot_of(ids[i]));
		if (!rule.enabled)
			continue;
		tables.rules[slots[i]] = record_of(rule, ids[i], sets);
		tables.needs_lan_egress |= rule.confirm || rule.close == Close::kConnection;
	}
	if (auto fits = check_sizes(tables); !fits)
		return tl::unexpected(std::move(fits.error()));
	if (auto done = write_port_tables(indexes, slots, config.gateway.max_port_lists, tables); !done)
		return tl::unexpected(std::move(done.error()));
	return tables;
}

} // namespace ptrig
