// What is to be known of the gateway before one can warn: sysctls, sockets, UPnP leases, shaping, addresses.
#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <cstring>
#include <dirent.h>
#include <set>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include "include/ptrig/abi.h"
#include "loader/read_file.h"
#include "loader/system.h"
#include "loader/tc.h"

namespace ptrig {

namespace {

/// Of /proc, and of other programs. Those who may write there must not hold `status` and the daemon up.
std::optional<std::string> read_file(const std::string &path) {
	constexpr std::size_t kMost = 64U << 20;
	auto text = read_regular_file(path, kMost);
	return text ? std::optional(std::move(*text)) : std::nullopt;
}

/// The kernel prints addresses as 32-bit words of the machine, in hex: "0100007F:0035".
struct Endpoint {
	bool wildcard = false;
	std::optional<Ip4> address; ///< IPv4, also a mapped one (::ffff:a.b.c.d)
	std::uint16_t port = 0;
};

bool parse_hex(std::string_view text, std::uint32_t &value) {
	auto end = text.data() + text.size();
	auto parsed = std::from_chars(text.data(), end, value, 16);
	return !text.empty() && parsed.ec == std::errc() && parsed.ptr == end;
}

std::optional<Endpoint> parse_endpoint(std::string_view text) {
	auto colon = text.find(':');
	Endpoint endpoint;
	std::uint32_t port = 0;
	if ((colon != 8 && colon != 32) || !parse_hex(text.substr(colon + 1), port) || port > 65535) {
		return std::nullopt;
	}
	endpoint.port = static_cast<std::uint16_t>(port);
	std::uint32_t words[4] = {};
	for (std::size_t i = 0; i < colon / 8; ++i) {
		if (!parse_hex(text.substr(i * 8, 8), words[i])) {
			return std::nullopt;
		}
	}
	endpoint.wildcard = std::all_of(words, words + 4, [](std::uint32_t word) { return word == 0; });
	if (colon == 8) {
		endpoint.address = Ip4{ntohl(words[0])};
	} else if (words[0] == 0 && words[1] == 0 && ntohl(words[2]) == 0xFFFF) {
		endpoint.address = Ip4{ntohl(words[3])};
		endpoint.wildcard = words[3] == 0;
	}
	return endpoint;
}

/// A process of that name in this network namespace? One whose namespace may not be seen does not count.
bool runs_here(std::string_view name) {
	struct stat own;
	if (stat("/proc/thread-self/ns/net", &own) != 0) {
		return false;
	}
	bool found = false;
	DIR *proc = opendir("/proc");
	while (dirent *entry = proc == nullptr ? nullptr : readdir(proc)) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9') {
			continue;
		}
		auto base = std::string("/proc/") + entry->d_name;
		struct stat net;
		if (read_file(base + "/comm") == std::string(name) + "\n" &&
		    stat((base + "/ns/net").c_str(), &net) == 0 && net.st_ino == own.st_ino &&
		    net.st_dev == own.st_dev) {
			found = true;
			break;
		}
	}
	if (proc != nullptr) {
		closedir(proc);
	}
	return found;
}

/// lease_file of its configuration, then the places that distributions compile in.
std::vector<std::string> upnp_lease_files() {
	std::vector<std::string> files;
	std::istringstream config(read_file("/etc/miniupnpd/miniupnpd.conf").value_or(""));
	for (std::string line; std::getline(config, line);) {
		constexpr std::string_view kKey = "lease_file=";
		if (line.starts_with(kKey)) {
			files.push_back(line.substr(kKey.size()));
		}
	}
	for (const char *usual : {"/var/lib/misc/upnp.leases", "/var/lib/miniupnpd/upnp.leases", "/var/log/upnp.leases",
				  "/run/miniupnpd.leases", "/var/run/miniupnpd.leases"}) {
		files.emplace_back(usual);
	}
	return files;
}

void read_forwarding(GatewayFacts &facts) {
	auto look = [&](const std::string &name, const std::string &path) {
		if (auto text = read_file(path); text && !text->empty()) {
			facts.forwarding[name] = (*text)[0] != '0';
		}
	};
	look("all", "/proc/sys/net/ipv4/ip_forward");
	for (const auto *side : {&facts.wan, &facts.lan}) {
		for (const auto &name : *side) {
			look(name, "/proc/sys/net/ipv4/conf/" + name + "/forwarding");
		}
	}
}

} // namespace

std::vector<Listener> parse_proc_sockets(std::string_view text, Protos proto, const std::vector<Ip4> &wan) {
	std::vector<Listener> listeners;
	std::istringstream lines{std::string(text)};
	std::string line;
	std::getline(lines, line); // the heading
	while (std::getline(lines, line)) {
		std::istringstream fields(line);
		std::string slot, local, remote, state;
		fields >> slot >> local >> remote >> state;
		// TCP_LISTEN; an unconnected UDP socket is in TCP_CLOSE.
		if (state != (proto == PTRIG_TCP ? "0A" : "07")) {
			continue;
		}
		auto endpoint = parse_endpoint(local);
		if (!endpoint || endpoint->port == 0) {
			continue;
		}
		bool on_wan = endpoint->address && std::find(wan.begin(), wan.end(), *endpoint->address) != wan.end();
		if (endpoint->wildcard || on_wan) {
			listeners.push_back(Listener{endpoint->port, proto});
		}
	}
	return listeners;
}

Result<std::vector<Listener>> read_listeners(const std::vector<Ip4> &wan) {
	std::vector<Listener> listeners;
	struct File {
		const char *name;
		Protos proto;
	};
	for (const auto &[name, proto] :
	     {File{"tcp", PTRIG_TCP}, File{"tcp6", PTRIG_TCP}, File{"udp", PTRIG_UDP}, File{"udp6", PTRIG_UDP}}) {
		auto path = std::string("/proc/thread-self/net/") + name;
		auto text = read_file(path);
		if (!text && std::string_view(name).ends_with('6')) {
			continue; // a kernel without IPv6
		}
		if (!text) {
			return system_error("read " + path);
		}
		auto found = parse_proc_sockets(*text, proto, wan);
		listeners.insert(listeners.end(), found.begin(), found.end());
	}
	auto by_port = [](const Listener &a, const Listener &b) {
		return std::tie(a.port, a.proto) < std::tie(b.port, b.proto);
	};
	auto same = [](const Listener &a, const Listener &b) { return a.port == b.port && a.proto == b.proto; };
	std::sort(listeners.begin(), listeners.end(), by_port);
	listeners.erase(std::unique(listeners.begin(), listeners.end(), same), listeners.end());
	return listeners;
}

std::vector<UpnpLease> parse_upnp_leases(std::string_view text) {
	// "TCP:6881:192.168.1.10:6881:1700000000:description"
	std::vector<UpnpLease> leases;
	std::istringstream lines{std::string(text)};
	for (std::string line; std::getline(lines, line);) {
		std::istringstream fields(line);
		std::string proto, port, host;
		std::getline(fields, proto, ':');
		std::getline(fields, port, ':');
		std::getline(fields, host, ':');
		std::uint16_t number = 0;
		auto parsed = std::from_chars(port.data(), port.data() + port.size(), number);
		auto address = parse_ip4(host);
		if ((proto != "TCP" && proto != "UDP") || parsed.ec != std::errc() || number == 0 || !address) {
			continue;
		}
		Protos protos = proto == "TCP" ? PTRIG_TCP : PTRIG_UDP;
		leases.push_back(UpnpLease{PortRange{number, number, protos}, *address});
	}
	return leases;
}

std::vector<UpnpLease> read_upnp_leases() {
	for (const auto &path : upnp_lease_files()) {
		if (auto text = read_file(path)) {
			return parse_upnp_leases(*text);
		}
	}
	return {};
}

bool is_shaping(std::string_view qdisc_kind) {
	constexpr std::string_view kPlain[] = {"noqueue", "pfifo_fast", "pfifo", "bfifo",  "pfifo_head_drop", "mq",
					       "multiq",  "fq_codel",   "codel", "fq",     "fq_pie",          "pie",
					       "red",     "sfq",        "sfb",   "clsact", "ingress",         "noop"};
	return std::find(std::begin(kPlain), std::end(kPlain), qdisc_kind) == std::end(kPlain);
}

Result<Shaping> read_shaping(const Network &network, std::uint32_t ifindex) {
	Shaping shaping;
	auto qdiscs = read_qdiscs();
	if (!qdiscs) {
		return tl::unexpected(qdiscs.error());
	}
	for (const auto &qdisc : *qdiscs) {
		if (qdisc.ifindex == ifindex && shaping.egress.empty() && is_shaping(qdisc.kind)) {
			shaping.egress = qdisc.kind;
		}
	}
	auto filters = tc_filters(ifindex, TcSide::kIngress);
	if (!filters) {
		return tl::unexpected(filters.error());
	}
	for (const auto &filter : *filters) {
		const auto *target = filter.redirect == 0 ? nullptr : network.find(filter.redirect);
		if (target != nullptr && target->kind == "ifb") {
			shaping.ingress = target->name;
		}
	}
	return shaping;
}

bool is_private(Ip4 address) {
	return (address.value >> 24) == 10 || (address.value >> 20) == 0xAC1 || (address.value >> 16) == 0xC0A8;
}

bool is_shared_space(Ip4 address) {
	return (address.value >> 22) == (0x64400000 >> 22);
}

GatewayFacts read_gateway_facts(const Network &network, const std::vector<std::string> &wan,
				const std::vector<std::string> &lan) {
	GatewayFacts facts;
	facts.network = network;
	auto existing = [&](const std::string &name) { return network.find(name) != nullptr; };
	std::copy_if(wan.begin(), wan.end(), std::back_inserter(facts.wan), existing);
	std::copy_if(lan.begin(), lan.end(), std::back_inserter(facts.lan), existing);
	read_forwarding(facts);
	facts.firewall = read_firewall();
	std::vector<Ip4> addresses;
	for (const auto &name : facts.wan) {
		for (const auto &address : network.addresses_of(network.find(name)->ifindex)) {
			addresses.push_back(address.local);
		}
	}
	if (auto listeners = read_listeners(addresses)) {
		facts.listeners = std::move(*listeners);
	} else {
		facts.unread.push_back("the gateway's listening sockets: " + listeners.error().what);
	}
	facts.upnp = read_upnp_leases();
	facts.miniupnpd_runs = runs_here("miniupnpd");
	for (const auto *side : {&facts.wan, &facts.lan}) {
		for (const auto &name : *side) {
			auto shaping = read_shaping(network, network.find(name)->ifindex);
			if (!shaping) {
				facts.unread.push_back("the shaping of " + name + ": " + shaping.error().what);
			} else if (!shaping->egress.empty() || !shaping->ingress.empty()) {
				facts.shaping[name] = *shaping;
			}
		}
	}
	return facts;
}

CheckFacts check_facts(const GatewayFacts &facts, unsigned possible_cpus) {
	CheckFacts check;
	check.listeners = facts.listeners;
	check.possible_cpus = possible_cpus;
	std::set<PortRange> ports;
	for (const auto &name : facts.wan) {
		auto forwarded = facts.firewall.forwarded_ports(name);
		ports.insert(forwarded.begin(), forwarded.end());
	}
	for (const auto &lease : facts.upnp) {
		ports.insert(lease.port);
	}
	check.dnat.assign(ports.begin(), ports.end());
	return check;
}

} // namespace ptrig
