// Warnings about a valid configuration: rules that expose more than meant, get in each other's way, or
// are against the RFCs, and maps that cost much memory.
#include "loader/check.h"

#include <algorithm>
#include <fmt/format.h>

#include "include/ptrig/abi.h"
#include "loader/port_index.h"
#include "loader/rule_text.h"

namespace ptrig {
namespace {

using text::in_quotes;

constexpr unsigned kFirstUnprivileged = 1024;
constexpr nanoseconds kShortestUdp = std::chrono::minutes(2); // RFC 4787 REQ-5
constexpr std::uint64_t kMuchMemory = 256ULL << 20;

bool overlap(const PortRange &a, const PortRange &b) {
	return (a.protos & b.protos) && a.first <= b.last && b.first <= a.last;
}

class Checker {
public:
	Checker(const ParsedConfig &parsed, const CheckFacts &facts)
	    : parsed_(parsed), facts_(facts), indexes_(index_ports(parsed.config)) {}

	std::vector<Diagnostic> run() {
		check_gateway();
		for (std::size_t i = 0; i < parsed_.config.rules.size(); ++i)
			if (parsed_.config.rules[i].enabled)
				check_rule(i);
		return std::move(out_);
	}

private:
	void warn(std::string message) { out_.push_back({parsed_.file, 0, 0, std::move(message)}); }
	void warn(std::size_t rule, std::string_view message) {
		const RuleOrigin at = rule < parsed_.origins.size() ? parsed_.origins[rule] : RuleOrigin{parsed_.file};
		out_.push_back({at.file, at.line, at.column,
				fmt::format("rule {}: {}", in_quotes(parsed_.config.rules[rule].name), message)});
	}

	void check_gateway() {
		const GatewayConfig &gateway = parsed_.config.gateway;
		if (gateway.lan.empty())
			warn("[gateway] lan names no interface: nothing can trigger");
		if (parsed_.config.timeouts.udp < kShortestUdp)
			warn(fmt::format(
				"[timeouts] udp = \"{}\" is under 2 minutes, which RFC 4787 (REQ-5) asks for: programs "
				"that are silent for a while lose their session",
				to_string(parsed_.config.timeouts.udp)));
		const std::uint64_t memory = map_memory(gateway, facts_.possible_cpus);
		if (memory > kMuchMemory)
			warn(fmt::format("the maps take {} MiB of kernel memory (max_sessions {}, max_halfopen {}, "
					 "max_leases {}, "
					 "max_rules {})",
					 memory >> 20, gateway.max_sessions, gateway.max_halfopen, gateway.max_leases,
					 gateway.max_rules));
	}

	void check_rule(std::size_t i) {
		const Rule &rule = parsed_.config.rules[i];
		check_shared(i, indexes_.open, "opens",
			     "the first of them in file order with a live lease gets the packet");
		check_shared(i, indexes_.trigger, "triggers on", "one packet triggers all of them");
		check_privileged(i, rule);
		check_dhcp(i, rule);
		check_gateway_uses(i, rule);
		check_web(i, rule);
		check_macs(i, rule);
		const bool opens_udp = std::any_of(rule.open.begin(), rule.open.end(),
						   [](const OpenRange &o) { return o.wan.protos & PTRIG_UDP; });
		if (opens_udp && rule.timeout < kShortestUdp)
			warn(i, fmt::format("opens udp ports with a timeout of {}, under the 2 minutes of RFC 4787 "
					    "(REQ-5): they "
					    "close on programs that are silent for a while",
					    to_string(rule.timeout)));
		if (rule.yield_after && rule.conflict == Conflict::kTakeover)
			warn(i, "yield_after does nothing with conflict = \"takeover\", which never waits");
	}

	/// Ports that rules have in common, and which rules.
	struct Shared {
		PortRange ports;
		std::vector<std::uint16_t> rules;
	};

	/// Ports that this rule shares with rules before it; one warning however many there are, with the first
	/// ports that each of them really has.
	void check_shared(std::size_t rule, const PortIndex &index, std::string_view does, std::string_view then) {
		std::vector<std::pair<std::uint16_t, PortRange>> found; // in the order of the ports
		const bool by_open = &index == &indexes_.open;
		const Rule &r = parsed_.config.rules[rule];
		const std::size_t count = by_open ? r.open.size() : r.trigger.size();
		for (std::size_t i = 0; i < count; ++i)
			collect_shared(rule, index, by_open ? r.open[i].wan : r.trigger[i], found);
		if (found.empty())
			return;
		std::vector<Shared> groups;
		for (const auto &[other, ports] : found) {
			const auto same =
				std::find_if(groups.begin(), groups.end(),
					     [&, p = ports](const Shared &group) { return group.ports == p; });
			if (same == groups.end())
				groups.push_back({ports, {other}});
			else
				same->rules.push_back(other);
		}
		warn(rule, fmt::format("{} {}: {}", does, shared_text(groups), then));
	}

	/// "6000/tcp like "a", "b"; 7000/tcp like "c"".
	std::string shared_text(const std::vector<Shared> &groups) const {
		constexpr std::size_t kMost = 4;
		std::string out;
		std::size_t left = 0;
		for (std::size_t i = 0; i < groups.size(); ++i) {
			if (i >= kMost) {
				left += groups[i].rules.size();
				continue;
			}
			std::vector<std::string> names;
			for (const std::uint16_t other : groups[i].rules)
				names.push_back(in_quotes(parsed_.config.rules[other].name));
			out += fmt::format("{}{} like {}", i == 0 ? "" : "; ", to_string(groups[i].ports),
					   listed(names));
		}
		return left > 0 ? out + fmt::format("; others like {} more", left) : out;
	}

	static void collect_shared(std::size_t rule, const PortIndex &index, const PortRange &range,
				   std::vector<std::pair<std::uint16_t, PortRange>> &found) {
		constexpr std::array<Protos, 2> kProtos{PTRIG_TCP, PTRIG_UDP};
		for (unsigned proto = 0; proto < kProtos.size(); ++proto) {
			for (unsigned port = range.first; (range.protos & kProtos[proto]) && port <= range.last;
			     ++port) {
				const auto p = static_cast<std::uint16_t>(port);
				for (const std::uint16_t other : index.at(PortIndex::place(proto, port))) {
					if (other >= rule)
						break;
					const auto known = std::find_if(found.begin(), found.end(), [&](const auto &f) {
						return f.first == other;
					});
					if (known == found.end())
						found.emplace_back(other, PortRange{p, p, kProtos[proto]});
					else if (known->second.protos == kProtos[proto] &&
						 known->second.last + 1U == port)
						known->second.last = p;
				}
			}
		}
	}

	void check_privileged(std::size_t i, const Rule &rule) {
		for (const OpenRange &open : rule.open) {
			if (open.wan.first >= kFirstUnprivileged)
				continue;
			warn(i,
			     fmt::format(
				     "opens {}: ports below 1024 are those of system services, the gateway's own too",
				     to_string(open)));
			return;
		}
	}

	void check_dhcp(std::size_t i, const Rule &rule) {
		constexpr PortRange kDhcp{67, 68, PTRIG_UDP};
		if (std::any_of(rule.open.begin(), rule.open.end(),
				[&](const OpenRange &open) { return overlap(open.wan, kDhcp); }))
			warn(i, "opens 67/udp or 68/udp, which stay the gateway's own, for its DHCP");
	}

	void check_gateway_uses(std::size_t i, const Rule &rule) {
		std::vector<PortRange> listening, forwarded;
		const auto collect = [&](const PortRange &used, std::vector<PortRange> &out) {
			const bool is_opened =
				std::any_of(rule.open.begin(), rule.open.end(),
					    [&](const OpenRange &open) { return overlap(open.wan, used); });
			if (is_opened && std::find(out.begin(), out.end(), used) == out.end())
				out.push_back(used);
		};
		for (const Listener &listener : facts_.listeners)
			collect({listener.port, listener.port, listener.proto}, listening);
		for (const PortRange &dnat : facts_.dnat)
			collect(dnat, forwarded);
		if (!listening.empty())
			warn(i, fmt::format(
					"opens {}, but there programs of the gateway itself listen and get the packets",
					names_of(listening)));
		if (!forwarded.empty())
			warn(i,
			     fmt::format(
				     "opens {}, which nftables dnats too, but not while there is a lease: put it into "
				     "[gateway] reserved",
				     names_of(forwarded)));
	}

	static std::string names_of(const std::vector<PortRange> &ranges) {
		std::vector<std::string> names(ranges.size());
		std::transform(ranges.begin(), ranges.end(), names.begin(),
			       [](const PortRange &range) { return to_string(range); });
		return listed(names);
	}

	/// The first few of them, and how many more there are.
	static std::string listed(const std::vector<std::string> &names) {
		constexpr std::size_t kMost = 4;
		std::string out;
		for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i)
			out += (i == 0 ? "" : ", ") + names[i];
		return names.size() > kMost ? out + fmt::format(" and {} more", names.size() - kMost) : out;
	}

	/// The first trigger port that a web page can make a browser send to, or the first that is `wanted`.
	static std::optional<PortRange> web_port(const Rule &rule, bool (*wanted)(std::uint16_t, Protos)) {
		for (const PortRange &range : rule.trigger)
			for (unsigned port = range.first; port <= range.last; ++port)
				for (const Protos proto : {PTRIG_TCP, PTRIG_UDP})
					if (const auto p = static_cast<std::uint16_t>(port);
					    (range.protos & proto) && wanted(p, proto))
						return PortRange{p, p, proto};
		return std::nullopt;
	}

	/// Whoever lures somebody on the LAN to a page can make that host trigger, and then come in: anybody where
	/// `remotes` says so, and the page's own server where it says "contacted", for it is contacted.
	void check_web(std::size_t i, const Rule &rule) {
		if (rule.sources.kind == Sources::Kind::kSet || rule.remotes.kind == Remotes::Kind::kSet)
			return;
		const bool any = rule.remotes.kind == Remotes::Kind::kAny;
		const auto is_web = [](std::uint16_t port, Protos) { return port == 80 || port == 443; };
		if (const auto web = web_port(rule, is_web); web && any && rule.trigger_remotes.empty()) {
			warn(i, fmt::format("every web page triggers it ({}), so the first host that opens one gets "
					    "the ports: "
					    "name the machine that it is for, by its MAC address or prefix, as in "
					    "sources = [\"02:00:5e:10:00:01\"]",
					    to_string(*web)));
			return;
		}
		const auto port = web_port(rule, is_reached_by_pages);
		if (!port)
			return;
		if (any && !rule.trigger_remotes.empty())
			warn(i,
			     fmt::format("any web page can make a browser trigger it (port {}) by naming one of "
					 "trigger_remotes, and remotes = \"any\" then lets everybody in: set remotes = "
					 "\"contacted\", or name in sources the machine that it is for",
					 to_string(*port)));
		else if (any)
			warn(i,
			     fmt::format(
				     "any web page can make a browser trigger it (port {}), and remotes = \"any\" then "
				     "lets everybody in: name its servers in trigger_remotes, or in sources the "
				     "machine that it is for",
				     to_string(*port)));
		else if (rule.trigger_remotes.empty())
			warn(i, fmt::format(
					"any web page can make a browser trigger it (port {}) towards the page's own "
					"server, "
					"which is then the contacted remote and may come in: name its servers in "
					"trigger_remotes, or in sources the machine that it is for, and open few ports",
					to_string(*port)));
	}

	/// Whoever is on another LAN can take a MAC address that counts on all of them.
	void check_macs(std::size_t i, const Rule &rule) {
		const std::vector<std::string> &lan = parsed_.config.gateway.lan;
		const auto &macs = rule.sources.macs;
		const auto any = std::find_if(macs.begin(), macs.end(),
					      [](const MacSource &source) { return source.interface.empty(); });
		if (lan.size() > 1 && any != macs.end())
			warn(i, fmt::format("{} may trigger from each LAN ({}), and whoever is on another one can take "
					    "that MAC address: name the interface that it is on, as in {}",
					    to_string(*any), listed(lan),
					    in_quotes(to_string(MacSource{any->mac, lan.front()}))));
	}

	const ParsedConfig &parsed_;
	const CheckFacts &facts_;
	const PortIndexes indexes_;
	std::vector<Diagnostic> out_;
};

} // namespace

std::vector<Diagnostic> check_warnings(const ParsedConfig &parsed, const CheckFacts &facts) {
	return Checker(parsed, facts).run();
}

bool is_reached_by_pages(std::uint16_t port, Protos proto) {
	// WebRTC's TURN client (TurnPort::AllowedTurnPort of libwebrtc) asks servers at any port from 1024 on and at
	// these, by UDP and by TCP; the Fetch standard's bad ports are not its own.
	if (port >= 1024 || port == 53 || port == 80 || port == 443)
		return true;
	return proto == PTRIG_TCP && !is_bad_port(port);
}

bool is_bad_port(std::uint16_t port) {
	// https://fetch.spec.whatwg.org/#port-blocking, without its port 0.
	static constexpr std::uint16_t kBadPorts[] = {
		1,    7,    9,    11,   13,   15,   17,   19,   20,   21,   22,   23,   25,   37,    42,   43,   53,
		69,   77,   79,   87,   95,   101,  102,  103,  104,  109,  110,  111,  113,  115,   117,  119,  123,
		135,  137,  139,  143,  161,  179,  389,  427,  465,  512,  513,  514,  515,  526,   530,  531,  532,
		540,  548,  554,  556,  563,  587,  601,  636,  989,  990,  993,  995,  1719, 1720,  1723, 2049, 3659,
		4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
	};
	static_assert(std::is_sorted(std::begin(kBadPorts), std::end(kBadPorts)));
	return std::binary_search(std::begin(kBadPorts), std::end(kBadPorts), port);
}

} // namespace ptrig
