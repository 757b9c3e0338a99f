// Rules and configuration as plain values in host byte order, and the text of their parts
// (ports, durations, prefixes). Pure: no files, no kernel.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "loader/result.h"

namespace ptrig {

using std::chrono::nanoseconds;
using std::chrono::seconds;

/// Protocol mask of a port range: PTRIG_TCP, PTRIG_UDP or both.
using Protos = std::uint8_t;

/// first..last of one or both protocols; 1 <= first <= last <= 65535.
struct PortRange {
	std::uint16_t first = 0;
	std::uint16_t last = 0;
	Protos protos = 0;
	auto operator<=>(const PortRange &) const = default;
};

/// WAN ports and where they lead: wan.first + i leads to host_first + i. Unmapped: host_first == wan.first.
struct OpenRange {
	PortRange wan;
	std::uint16_t host_first = 0;
	auto operator<=>(const OpenRange &) const = default;
};

/// An IPv4 address in host byte order.
struct Ip4 {
	std::uint32_t value = 0;
	auto operator<=>(const Ip4 &) const = default;
};
/// address/bits with all host bits zero; bits 0..32.
struct Prefix {
	Ip4 address;
	std::uint8_t bits = 32;
	auto operator<=>(const Prefix &) const = default;
	bool contains(Ip4 a) const;
	bool overlaps(const Prefix &other) const;
};
struct Mac {
	std::array<std::uint8_t, 6> bytes{};
	auto operator<=>(const Mac &) const = default;
};
/// A MAC address in `sources`: it says who somebody is on one LAN, and on the others is forged.
struct MacSource {
	Mac mac;
	std::string interface; ///< one of [gateway] lan; empty: whichever it comes in by
	MacSource() = default;
	MacSource(Mac address, std::string name = "") : mac(address), interface(std::move(name)) {}
	auto operator<=>(const MacSource &) const = default;
	bool operator==(const MacSource &) const = default;
};

/// Which LAN hosts may trigger. kLan and kRouted stand alone; kSet uses the lists.
struct Sources {
	enum class Kind { kLan, kRouted, kSet } kind = Kind::kLan;
	std::vector<Prefix> prefixes;
	std::vector<MacSource> macs;
	bool operator==(const Sources &) const = default;
};
/// Who may come in.
struct Remotes {
	enum class Kind { kAny, kContacted, kSet } kind = Kind::kAny;
	std::vector<Prefix> prefixes;
	bool operator==(const Remotes &) const = default;
};

enum class Refresh { kTrigger, kTraffic };
enum class Conflict { kHold, kTakeover };
enum class Close { kIdle, kConnection };
enum class OnClose { kKeep, kKill };

/// One rule; the members are the keys of the configuration file, with their defaults.
struct Rule {
	std::string name;
	bool enabled = true;
	std::string description;
	std::vector<PortRange> trigger;
	std::vector<Prefix> trigger_remotes; ///< empty: any
	Sources sources;
	std::vector<OpenRange> open;
	Remotes remotes;
	nanoseconds timeout = std::chrono::minutes(10);
	Refresh refresh = Refresh::kTrigger;
	Conflict conflict = Conflict::kHold;
	std::optional<nanoseconds> yield_after;
	Close close = Close::kIdle;
	bool confirm = false;
	std::optional<nanoseconds> max_lifetime;
	OnClose on_close = OnClose::kKeep;
	std::optional<std::uint32_t> session_limit;
	nanoseconds cooldown{0};
	bool log = true;
	bool operator==(const Rule &) const = default;
};

enum class Datapath { kAuto, kXdp, kTc, kKernel };
/// How a forward chain sees the first packet of what a lease lets in: as an answer, or as new.
enum class FirewallMode { kEstablished, kNew };

struct GatewayConfig {
	std::vector<std::string> wan{"auto"};
	std::vector<std::string> lan;
	Datapath datapath = Datapath::kAuto;
	FirewallMode firewall = FirewallMode::kEstablished;
	std::vector<PortRange> reserved;
	std::vector<Prefix> deny_remotes;
	std::uint32_t conntrack_zone = 0;    ///< 0..65535
	std::uint32_t max_sessions = 65536;  ///< 1..2^20
	std::uint32_t max_leases = 8192;     ///< 1..65536
	std::uint32_t max_rules = 4096;      ///< 1..65536
	std::uint32_t max_halfopen = 32768;  ///< 1..2^20
	std::uint32_t max_port_lists = 4096; ///< distinct sets of rules that share a port; 1..393216
	bool operator==(const GatewayConfig &) const = default;
};
struct Timeouts {
	nanoseconds tcp_established = std::chrono::minutes(124); ///< RFC 5382 REQ-5
	nanoseconds tcp_transitory = std::chrono::minutes(4);    ///< RFC 5382 REQ-5
	nanoseconds udp = std::chrono::minutes(5);               ///< RFC 4787 REQ-5
	nanoseconds halfopen = seconds(30);
	nanoseconds icmp = seconds(60);
	bool operator==(const Timeouts &) const = default;
};
struct Limits { ///< 0: none
	std::uint32_t leases_per_host = 128;
	std::uint32_t sessions_per_host = 16384;
	std::uint32_t new_sessions_per_second = 1000;
	bool operator==(const Limits &) const = default;
};
struct Config {
	GatewayConfig gateway;
	Timeouts timeouts;
	Limits limits;
	std::vector<Rule> rules; ///< in file order
	bool operator==(const Config &) const = default;
};

// Text. Parsers return Status::kInput errors that say what would be right; printers are their inverse.
Result<PortRange> parse_port_range(std::string_view text); ///< "21/tcp", "6000-6010/tcp+udp"
Result<OpenRange> parse_open_range(std::string_view text); ///< also "6000-6010=7000/udp"
Result<nanoseconds>
parse_duration(std::string_view text);              ///< "10m", "2h4m", "0s"; units d h m s ms; a unit is required
Result<Prefix> parse_prefix(std::string_view text); ///< "203.0.113.0/24" or an address
Result<Ip4> parse_ip4(std::string_view text);
Result<Mac> parse_mac(std::string_view text);
Result<std::string> parse_interface(std::string_view text); ///< the name of one
Result<MacSource> parse_mac_source(std::string_view text);  ///< "02:00:5e:10:00:01", also with "@br0"
Result<std::string> parse_rule_name(std::string_view text); ///< 1-31 of A-Z a-z 0-9 . _ -, not beginning with a dot

std::string to_string(const PortRange &);
std::string to_string(const OpenRange &);
std::string to_string(const Prefix &);
std::string to_string(Ip4);
std::string to_string(const Mac &);
std::string to_string(const MacSource &);
std::string to_string(nanoseconds);      ///< shortest exact form: "10m", "2h4m", "1500ms"
std::string describe(const OpenRange &); ///< for people: "WAN 6000-6010 → host 7000-7010 udp"
std::string_view to_string(Refresh);
std::string_view to_string(Conflict);
std::string_view to_string(Close);
std::string_view to_string(OnClose);
std::string_view to_string(Datapath);
std::string_view to_string(FirewallMode firewall);

} // namespace ptrig
