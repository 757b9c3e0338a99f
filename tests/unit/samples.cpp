// What the unit tests build configurations from.
#include "tests/unit/samples.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace ptrig::test {
namespace {

template <typename T> T value_of(Result<T> result) {
	EXPECT_TRUE(result) << (result ? "" : result.error().what);
	return result.value_or(T{});
}

} // namespace

PortRange ports(std::string_view text) {
	return value_of(parse_port_range(text));
}
OpenRange open_ports(std::string_view text) {
	return value_of(parse_open_range(text));
}
Prefix prefix(std::string_view text) {
	return value_of(parse_prefix(text));
}
Mac mac(std::string_view text) {
	return value_of(parse_mac(text));
}

Rule rule(std::string name, std::string_view trigger, std::string_view open) {
	Rule out;
	out.name = std::move(name);
	out.trigger = {ports(trigger)};
	out.open = {open_ports(open)};
	return out;
}

Config config_of(std::vector<Rule> rules) {
	Config out;
	out.gateway.lan = {"br0"};
	out.rules = std::move(rules);
	return out;
}

std::uint32_t RandomConfig::number(std::uint32_t least, std::uint32_t most) {
	return std::uniform_int_distribution<std::uint32_t>(least, most)(random_);
}

nanoseconds RandomConfig::time(nanoseconds least, nanoseconds most) {
	using std::chrono::milliseconds;
	const auto ms = [](nanoseconds t) { return std::chrono::duration_cast<milliseconds>(t).count(); };
	const milliseconds exact(std::uniform_int_distribution<long>(ms(least), ms(most))(random_));
	if (coin())
		return exact;
	// Round times are those that people write.
	return std::max<nanoseconds>(least, exact / 60'000 * 60'000);
}

PortRange RandomConfig::ports() {
	const auto first = static_cast<std::uint16_t>(number(1, 65535));
	const auto last =
		static_cast<std::uint16_t>(coin() ? first : std::min<std::uint32_t>(65535, first + number(0, 300)));
	return {first, last, static_cast<Protos>(number(PTRIG_TCP, PTRIG_TCP | PTRIG_UDP))};
}

OpenRange RandomConfig::open() {
	const PortRange wan = ports();
	const std::uint32_t highest = 65535U - (wan.last - wan.first);
	return {wan, coin() ? wan.first : static_cast<std::uint16_t>(number(1, highest))};
}

Prefix RandomConfig::prefix() {
	const std::uint32_t bits = number(0, 32);
	const std::uint32_t mask = bits == 0 ? 0 : ~0U << (32 - bits);
	return {Ip4{number(0, UINT32_MAX) & mask}, static_cast<std::uint8_t>(bits)};
}

Mac RandomConfig::mac() {
	Mac out;
	for (auto &byte : out.bytes)
		byte = static_cast<std::uint8_t>(number(1, 255));
	out.bytes[0] &= 0xFE;
	return out;
}

std::string RandomConfig::text() {
	static const char *const kPieces[] = {"a", "Z",  " ", "\"", "\\", "'",       "#",
					      "é", "漢", "😀", "]",  "=",  "\\u0041", "//"};
	std::string out;
	for (std::uint32_t left = number(0, 12); left > 0; --left)
		out += kPieces[number(0, std::size(kPieces) - 1)];
	return out;
}

Rule RandomConfig::rule(const std::string &name) {
	const auto some = [&](auto &list, auto make, std::uint32_t most) {
		for (std::uint32_t left = number(1, most); left > 0; --left)
			list.push_back(make());
	};
	Rule r;
	r.name = name;
	r.enabled = number(0, 9) > 0;
	r.description = text();
	some(
		r.trigger, [&] { return ports(); }, 4);
	for (std::uint32_t left = number(1, 4); left > 0 || r.open.empty(); left -= left > 0) {
		r.open.push_back(open());
		// Ports that are opened twice are an error.
		if (!validate_rule(r))
			r.open.pop_back();
	}
	if (coin())
		some(
			r.trigger_remotes, [&] { return prefix(); }, 3);
	r.sources.kind = static_cast<Sources::Kind>(number(0, 2));
	if (r.sources.kind == Sources::Kind::kSet) {
		some(
			r.sources.prefixes, [&] { return prefix(); }, 3);
		if (coin())
			some(
				r.sources.macs, [&] { return MacSource(mac(), coin() ? "br0" : ""); }, 3);
	}
	r.remotes.kind = static_cast<Remotes::Kind>(number(0, 2));
	if (r.remotes.kind == Remotes::Kind::kSet)
		some(
			r.remotes.prefixes, [&] { return prefix(); }, 3);
	r.timeout = time(seconds(2), std::chrono::hours(7 * 24));
	r.refresh = coin() ? Refresh::kTraffic : Refresh::kTrigger;
	r.conflict = coin() ? Conflict::kTakeover : Conflict::kHold;
	if (coin())
		r.yield_after = time(seconds(1), r.timeout - std::chrono::milliseconds(1));
	r.close = coin() ? Close::kConnection : Close::kIdle;
	r.confirm = coin();
	if (coin())
		r.max_lifetime = time(seconds(1), std::chrono::hours(365 * 24));
	r.on_close = coin() ? OnClose::kKill : OnClose::kKeep;
	if (coin())
		r.session_limit = number(1, 1U << 20);
	r.cooldown = coin() ? nanoseconds(0) : time(nanoseconds(0), std::chrono::hours(24));
	r.log = coin();
	return r;
}

Config RandomConfig::config(std::size_t rules) {
	const auto idle = [&] { return time(seconds(1), std::chrono::hours(7 * 24)); };
	Config c;
	if (coin())
		c.gateway.wan =
			coin() ? std::vector<std::string>{"ppp0"} : std::vector<std::string>{"eth0", "wwan-0", "a.42"};
	if (coin())
		c.gateway.lan = {"br0", "wlan0"};
	c.gateway.datapath = static_cast<Datapath>(number(0, 2));
	for (std::uint32_t left = number(0, 2); left > 0; --left)
		c.gateway.deny_remotes.push_back(prefix());
	c.gateway.conntrack_zone = number(0, 65535);
	c.gateway.max_sessions = number(1, 1U << 20);
	c.gateway.max_leases = number(1, 65536);
	c.gateway.max_rules = number(static_cast<std::uint32_t>(rules), 65536);
	c.gateway.max_halfopen = number(1, 1U << 20);
	c.gateway.max_port_lists = number(5000, 393216);
	c.timeouts = {idle(), idle(), idle(), idle(), idle()};
	c.limits = {number(0, 65536), number(0, 1U << 20), number(0, 1'000'000)};
	for (std::size_t i = 0; i < rules; ++i)
		c.rules.push_back(rule(fmt::format("r{}", i)));
	return c;
}

std::string lines_of(const std::vector<Diagnostic> &diagnostics) {
	std::string out;
	for (const Diagnostic &d : diagnostics)
		out += fmt::format("{}:{}: {}\n", d.line, d.column, d.message);
	return out;
}

} // namespace ptrig::test
