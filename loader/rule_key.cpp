// The keys of a rule: how each is read, written and, across keys, checked.
#include "loader/rule_key.h"

#include <algorithm>
#include <fmt/format.h>
#include <variant>

#include "include/ptrig/abi.h"
#include "loader/rule_text.h"

namespace ptrig {
namespace {

using text::in_quotes;

constexpr nanoseconds kShortestTime = seconds(1);
constexpr nanoseconds kShortestTrafficTime = seconds(2); // TC looks at a session once a second
constexpr nanoseconds kLongestTime = std::chrono::hours(7 * 24);
constexpr nanoseconds kLongestLifetime = std::chrono::hours(365 * 24);
constexpr std::uint32_t kMostSessions = 1U << 20;

constexpr std::string_view kPortExample = "21/tcp";
constexpr std::string_view kPrefixExample = "203.0.113.0/24";

/// An item of a list of prefixes; `words` are those that can only stand alone.
Result<Prefix> prefix_item(std::string_view item, std::initializer_list<std::string_view> words) {
	for (const std::string_view word : words)
		if (item == word)
			return fail(in_quotes(item) + " stands alone, not beside others", Status::kInput);
	return parse_prefix(item);
}

void read_trigger_remotes(Rule &rule, ValueReader &value) {
	if (value.lone_text() == "any") {
		rule.trigger_remotes.clear();
		return;
	}
	value.list(rule.trigger_remotes, [](std::string_view item) { return prefix_item(item, {"any"}); },
		   {.example = kPrefixExample, .words = "\"any\""});
}

void read_remotes(Rule &rule, ValueReader &value) {
	const auto word = value.lone_text();
	if (word == "any" || word == "contacted") {
		rule.remotes = {word == "any" ? Remotes::Kind::kAny : Remotes::Kind::kContacted, {}};
		return;
	}
	std::vector<Prefix> prefixes;
	const auto parse = [](std::string_view item) { return prefix_item(item, {"any", "contacted"}); };
	value.list(prefixes, parse, {.example = kPrefixExample, .words = "\"any\", \"contacted\""});
	if (!prefixes.empty())
		rule.remotes = {Remotes::Kind::kSet, std::move(prefixes)};
}

using Source = std::variant<Prefix, MacSource>;

Result<Source> source_item(std::string_view item) {
	if (item == "lan" || item == "routed")
		return fail(in_quotes(item) + " stands alone, not beside others", Status::kInput);
	auto prefix = parse_prefix(item);
	if (prefix)
		return Source(*prefix);
	const auto mac = parse_mac_source(item);
	if (mac)
		return Source(*mac);
	if (item.find('@') != std::string_view::npos)
		return tl::unexpected(mac.error());
	// What has the digits of a MAC address is one that is written in another way, not a name.
	std::string digits(item);
	if (std::count(item.begin(), item.end(), '.') != 3) // as in an address that is wrong
		std::erase_if(digits, [](char c) { return c == '-' || c == '.'; });
	const bool is_mac =
		digits.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos && digits.size() == 12;
	if (is_mac || (item.find(':') != std::string_view::npos && item.find("::") == std::string_view::npos))
		return tl::unexpected(mac.error());
	if (text::is_name(item))
		return fail(in_quotes(item) + " is a name, write an address: names are not looked up, write one as in "
					      "192.168.1.20 or 02:00:5e:10:00:01",
			    Status::kInput);
	if (item.find('.') == std::string_view::npos && item.find(':') == std::string_view::npos)
		return fail(in_quotes(item) + ": neither a prefix nor a MAC address: write one as in 192.168.1.0/24 or "
					      "02:00:5e:10:00:01",
			    Status::kInput);
	return tl::unexpected(prefix.error());
}

void read_sources(Rule &rule, ValueReader &value) {
	const auto word = value.lone_text();
	if (word == "lan" || word == "routed") {
		rule.sources = {word == "lan" ? Sources::Kind::kLan : Sources::Kind::kRouted, {}, {}};
		return;
	}
	std::vector<Source> items;
	value.list(items, source_item, {.example = "192.168.1.0/24", .words = "\"lan\", \"routed\""});
	if (items.empty())
		return;
	rule.sources = {Sources::Kind::kSet, {}, {}};
	for (const Source &item : items) {
		if (const auto *prefix = std::get_if<Prefix>(&item))
			rule.sources.prefixes.push_back(*prefix);
		else
			rule.sources.macs.push_back(std::get<MacSource>(item));
	}
}

std::string write_trigger_remotes(const Rule &rule) {
	return rule.trigger_remotes.empty() ? toml_value(std::string_view("any")) : toml_value(rule.trigger_remotes);
}

std::string write_remotes(const Rule &rule) {
	if (rule.remotes.kind == Remotes::Kind::kSet)
		return toml_value(rule.remotes.prefixes);
	return toml_value(std::string_view(rule.remotes.kind == Remotes::Kind::kAny ? "any" : "contacted"));
}

std::string write_sources(const Rule &rule) {
	if (rule.sources.kind != Sources::Kind::kSet)
		return toml_value(std::string_view(rule.sources.kind == Sources::Kind::kLan ? "lan" : "routed"));
	std::vector<std::string> items;
	for (const Prefix &prefix : rule.sources.prefixes)
		items.push_back(to_string(prefix));
	for (const MacSource &mac : rule.sources.macs)
		items.push_back(to_string(mac));
	return toml_value(items);
}

using R = Rule;
using V = ValueReader;

const std::vector<Key<Rule>> kKeys = {
	{"name", [](R &r, V &v) { v.parsed(r.name, parse_rule_name); }, [](const R &r) { return toml_value(r.name); }},
	{"enabled", [](R &r, V &v) { v.boolean(r.enabled); }, [](const R &r) { return toml_value(r.enabled); }},
	{"description", [](R &r, V &v) { v.line(r.description); },
	 [](const R &r) { return toml_value(r.description); }},
	{"trigger",
	 [](R &r, V &v) {
		 v.list(r.trigger, parse_port_range, {kPortExample, PTRIG_MAX_RANGES});
	 },
	 [](const R &r) { return toml_value(r.trigger); }},
	{"trigger_remotes", read_trigger_remotes, write_trigger_remotes},
	{"sources", read_sources, write_sources},
	{"open",
	 [](R &r, V &v) {
		 v.list(r.open, parse_open_range, {"50000-50010/tcp", PTRIG_MAX_RANGES});
	 },
	 [](const R &r) { return toml_value(r.open); }},
	{"remotes", read_remotes, write_remotes},
	{"timeout", [](R &r, V &v) { v.duration(r.timeout, kShortestTime, kLongestTime); },
	 [](const R &r) { return toml_value(r.timeout); }},
	{"refresh",
	 [](R &r, V &v) {
		 v.word(r.refresh, {Refresh::kTrigger, Refresh::kTraffic});
	 },
	 [](const R &r) { return toml_value(to_string(r.refresh)); }},
	{"conflict",
	 [](R &r, V &v) {
		 v.word(r.conflict, {Conflict::kHold, Conflict::kTakeover});
	 },
	 [](const R &r) { return toml_value(to_string(r.conflict)); }},
	{"yield_after", [](R &r, V &v) { v.duration_or_none(r.yield_after, kShortestTime, kLongestTime); },
	 [](const R &r) { return toml_value(r.yield_after); }},
	{"close",
	 [](R &r, V &v) {
		 v.word(r.close, {Close::kIdle, Close::kConnection});
	 },
	 [](const R &r) { return toml_value(to_string(r.close)); }},
	{"confirm", [](R &r, V &v) { v.boolean(r.confirm); }, [](const R &r) { return toml_value(r.confirm); }},
	{"max_lifetime", [](R &r, V &v) { v.duration_or_none(r.max_lifetime, kShortestTime, kLongestLifetime); },
	 [](const R &r) { return toml_value(r.max_lifetime); }},
	{"on_close",
	 [](R &r, V &v) {
		 v.word(r.on_close, {OnClose::kKeep, OnClose::kKill});
	 },
	 [](const R &r) { return toml_value(to_string(r.on_close)); }},
	{"session_limit", [](R &r, V &v) { v.number_or_none(r.session_limit, 1, kMostSessions); },
	 [](const R &r) { return toml_value(r.session_limit); }},
	{"cooldown", [](R &r, V &v) { v.duration(r.cooldown, nanoseconds(0), kLongestTime); },
	 [](const R &r) { return toml_value(r.cooldown); }},
	{"log", [](R &r, V &v) { v.boolean(r.log); }, [](const R &r) { return toml_value(r.log); }},
};

/// Two open ranges of one rule on one WAN port: where would it lead?
void check_open_twice(const Rule &rule, std::vector<KeyConflict> &out) {
	for (std::size_t i = 0; i < rule.open.size(); ++i) {
		for (std::size_t j = 0; j < i; ++j) {
			const PortRange &a = rule.open[j].wan, &b = rule.open[i].wan;
			if (!(a.protos & b.protos) || a.first > b.last || b.first > a.last)
				continue;
			out.push_back({"open", fmt::format("{} and {} overlap: write each port once",
							   in_quotes(to_string(rule.open[j])),
							   in_quotes(to_string(rule.open[i])))});
			return;
		}
	}
}

void check_ranges(const Rule &rule, std::vector<KeyConflict> &out) {
	const auto is_wrong = [](const PortRange &range) {
		return range.first == 0 || range.last < range.first || range.protos == 0 ||
		       (range.protos & ~(PTRIG_TCP | PTRIG_UDP));
	};
	for (const PortRange &range : rule.trigger)
		if (is_wrong(range))
			out.push_back(
				{"trigger", "there is a range that is none: ports are 1 to 65535 of tcp, udp or both"});
	for (const OpenRange &open : rule.open)
		if (is_wrong(open.wan) || open.host_first == 0 ||
		    open.host_first + (open.wan.last - open.wan.first) > 65535)
			out.push_back(
				{"open", "there is a range that is none: ports are 1 to 65535 of tcp, udp or both"});
}

} // namespace

const std::vector<Key<Rule>> &keys_of_rule() {
	return kKeys;
}

std::vector<KeyConflict> conflicts_of(const Rule &rule) {
	std::vector<KeyConflict> out;
	const auto count = [&](std::string_view key, std::size_t size, std::string_view example) {
		if (size == 0)
			out.push_back({key, fmt::format("is missing: write at least one, as in [\"{}\"]", example)});
		if (size > PTRIG_MAX_RANGES)
			out.push_back(
				{key, fmt::format("{} ranges are too many: write at most {}", size, PTRIG_MAX_RANGES)});
	};
	if (const auto name = parse_rule_name(rule.name); rule.name.empty())
		out.push_back(
			{"name",
			 "is missing: write name = \"...\", 1 to 31 of A-Z a-z 0-9 . _ -, not beginning with a dot"});
	else if (!name)
		out.push_back({"name", name.error().what});
	count("trigger", rule.trigger.size(), kPortExample);
	count("open", rule.open.size(), "50000-50010/tcp");
	check_ranges(rule, out);
	check_open_twice(rule, out);
	if (rule.timeout < kShortestTime || rule.timeout > kLongestTime)
		out.push_back({"timeout", fmt::format("{} is out of range: write {} to {}", to_string(rule.timeout),
						      to_string(kShortestTime), to_string(kLongestTime))});
	if (rule.yield_after && *rule.yield_after >= rule.timeout)
		out.push_back({"yield_after",
			       fmt::format("{} is not shorter than the timeout of {}: write a shorter time, or "
					   "\"none\"",
					   to_string(*rule.yield_after), to_string(rule.timeout))});
	if (rule.refresh == Refresh::kTraffic && rule.timeout < kShortestTrafficTime)
		out.push_back({"timeout",
			       fmt::format("{} is too short for refresh = \"traffic\", which is noticed once a second: "
					   "write {} or more",
					   to_string(rule.timeout), to_string(kShortestTrafficTime))});
	if (rule.sources.kind == Sources::Kind::kSet && rule.sources.prefixes.empty() && rule.sources.macs.empty())
		out.push_back({"sources", "the list is empty: write at least one, or \"lan\""});
	if (rule.remotes.kind == Remotes::Kind::kSet && rule.remotes.prefixes.empty())
		out.push_back({"remotes", "the list is empty: write at least one, or \"any\""});
	return out;
}

} // namespace ptrig
