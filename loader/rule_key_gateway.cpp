// The keys of [gateway], [timeouts] and [limits]: how each is read, written and, across keys, checked.
#include <algorithm>
#include <fmt/format.h>

#include "loader/rule_key.h"
#include "loader/rule_text.h"

namespace ptrig {
namespace {

using text::in_quotes;

constexpr std::string_view kAuto = "auto";
constexpr std::size_t kMostInterfaces = 120; // of each side: pt_ifaces holds 256
constexpr std::uint32_t kMostSessions = 1U << 20;
constexpr std::uint32_t kMostLeases = 65536;
constexpr std::uint32_t kMostRules = 65536;
constexpr std::uint32_t kMostPortLists = 6 * 65536; // each port of each table its own
// The token bucket counts thousandths in 32 bits.
constexpr std::uint32_t kMostNewSessions = 1'000'000;
constexpr nanoseconds kShortestTime = seconds(1);
constexpr nanoseconds kLongestTime = std::chrono::hours(7 * 24);

bool check_once(const std::vector<std::string> &names, ValueReader &value) {
	for (std::size_t i = 0; i < names.size(); ++i) {
		if (std::find(names.begin(), names.begin() + static_cast<long>(i), names[i]) ==
		    names.begin() + static_cast<long>(i))
			continue;
		value.problem(-1, fmt::format("{} is there twice: write it once", in_quotes(names[i])));
		return false;
	}
	return true;
}

void read_wan(GatewayConfig &gateway, ValueReader &value) {
	std::vector<std::string> names;
	if (const auto name = value.lone_text())
		value.parsed_item(names, parse_interface(*name));
	else
		value.list(names, parse_interface, {.example = "eth0", .most = kMostInterfaces, .words = "a name"});
	if (names.empty() || !check_once(names, value))
		return;
	if (names.size() > 1 && std::find(names.begin(), names.end(), kAuto) != names.end())
		value.problem(-1, "\"auto\" stands alone, not beside others");
	else
		gateway.wan = std::move(names);
}

void read_lan(GatewayConfig &gateway, ValueReader &value) {
	std::vector<std::string> names;
	value.list(names, parse_interface, {"br0", kMostInterfaces});
	if (!names.empty() && check_once(names, value))
		gateway.lan = std::move(names);
}

std::string write_wan(const GatewayConfig &gateway) {
	return gateway.wan.size() == 1 ? toml_value(gateway.wan[0]) : toml_value(gateway.wan);
}

using G = GatewayConfig;
using T = Timeouts;
using L = Limits;
using V = ValueReader;

const std::vector<Key<GatewayConfig>> kGatewayKeys = {
	{"wan", read_wan, write_wan},
	{"lan", read_lan, [](const G &g) { return toml_value(g.lan); }},
	{"datapath",
	 [](G &g, V &v) {
		 v.word(g.datapath, {Datapath::kAuto, Datapath::kXdp, Datapath::kTc, Datapath::kKernel});
	 },
	 [](const G &g) { return toml_value(to_string(g.datapath)); }},
	{"firewall",
	 [](G &g, V &v) {
		 v.word(g.firewall, {FirewallMode::kEstablished, FirewallMode::kNew});
	 },
	 [](const G &g) { return toml_value(to_string(g.firewall)); }},
	{"reserved",
	 [](G &g, V &v) { v.list(g.reserved, parse_port_range, {.example = "443/tcp", .may_be_empty = true}); },
	 [](const G &g) { return toml_value(g.reserved); }},
	{"deny_remotes",
	 [](G &g, V &v) { v.list(g.deny_remotes, parse_prefix, {.example = "203.0.113.0/24", .may_be_empty = true}); },
	 [](const G &g) { return toml_value(g.deny_remotes); }},
	{"conntrack_zone", [](G &g, V &v) { v.number(g.conntrack_zone, 0, 65535); },
	 [](const G &g) { return toml_value(g.conntrack_zone); }},
	{"max_sessions", [](G &g, V &v) { v.number(g.max_sessions, 1, kMostSessions); },
	 [](const G &g) { return toml_value(g.max_sessions); }},
	{"max_leases", [](G &g, V &v) { v.number(g.max_leases, 1, kMostLeases); },
	 [](const G &g) { return toml_value(g.max_leases); }},
	{"max_rules", [](G &g, V &v) { v.number(g.max_rules, 1, kMostRules); },
	 [](const G &g) { return toml_value(g.max_rules); }},
	{"max_halfopen", [](G &g, V &v) { v.number(g.max_halfopen, 1, kMostSessions); },
	 [](const G &g) { return toml_value(g.max_halfopen); }},
	{"max_port_lists", [](G &g, V &v) { v.number(g.max_port_lists, 1, kMostPortLists); },
	 [](const G &g) { return toml_value(g.max_port_lists); }},
};

void read_time(nanoseconds &out, V &value) {
	value.duration(out, kShortestTime, kLongestTime);
}

const std::vector<Key<Timeouts>> kTimeoutKeys = {
	{"tcp_established", [](T &t, V &v) { read_time(t.tcp_established, v); },
	 [](const T &t) { return toml_value(t.tcp_established); }},
	{"tcp_transitory", [](T &t, V &v) { read_time(t.tcp_transitory, v); },
	 [](const T &t) { return toml_value(t.tcp_transitory); }},
	{"udp", [](T &t, V &v) { read_time(t.udp, v); }, [](const T &t) { return toml_value(t.udp); }},
	{"halfopen", [](T &t, V &v) { read_time(t.halfopen, v); }, [](const T &t) { return toml_value(t.halfopen); }},
	{"icmp", [](T &t, V &v) { read_time(t.icmp, v); }, [](const T &t) { return toml_value(t.icmp); }},
};

const std::vector<Key<Limits>> kLimitKeys = {
	{"leases_per_host", [](L &l, V &v) { v.number(l.leases_per_host, 0, kMostLeases); },
	 [](const L &l) { return toml_value(l.leases_per_host); }},
	{"sessions_per_host", [](L &l, V &v) { v.number(l.sessions_per_host, 0, kMostSessions); },
	 [](const L &l) { return toml_value(l.sessions_per_host); }},
	{"new_sessions_per_second", [](L &l, V &v) { v.number(l.new_sessions_per_second, 0, kMostNewSessions); },
	 [](const L &l) { return toml_value(l.new_sessions_per_second); }},
};

} // namespace

const std::vector<Key<GatewayConfig>> &keys_of_gateway() {
	return kGatewayKeys;
}
const std::vector<Key<Timeouts>> &keys_of_timeouts() {
	return kTimeoutKeys;
}
const std::vector<Key<Limits>> &keys_of_limits() {
	return kLimitKeys;
}

std::vector<KeyConflict> conflicts_of(const GatewayConfig &gateway) {
	std::vector<KeyConflict> out;
	for (const std::string &name : gateway.lan) {
		if (name == kAuto)
			out.push_back({"lan", "\"auto\" is only for wan: write the LAN interfaces, as in [\"br0\"]"});
		else if (std::find(gateway.wan.begin(), gateway.wan.end(), name) != gateway.wan.end())
			out.push_back(
				{"lan", fmt::format("{} is in wan too: an interface is on one side", in_quotes(name))});
	}
	return out;
}

std::string toml_value(bool value) {
	return value ? "true" : "false";
}
std::string toml_value(std::uint32_t value) {
	return fmt::format("{}", value);
}
std::string toml_value(std::string_view text) {
	return text::toml_string(text);
}
std::string toml_value(nanoseconds time) {
	return toml_value(std::string_view(to_string(time)));
}

} // namespace ptrig
