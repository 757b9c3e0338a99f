// The books of the fixture: after every test, usage, hosts, leases and ports against the sessions that are there.
#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>

#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {

namespace {

template <typename T> T must(Result<T> result) {
	if (!result)
		throw std::runtime_error(result.error().what);
	return std::move(*result);
}

} // namespace

namespace {

/// The values of one key in a line of conntrack's list: of the original tuple, then of the reply's.
std::vector<std::string> values(const std::string &line, const std::string &key) {
	std::vector<std::string> out;
	for (std::size_t at = line.find(" " + key + "="); at != std::string::npos;
	     at = line.find(" " + key + "=", at + 1)) {
		const std::size_t from = at + key.size() + 2;
		out.push_back(line.substr(from, line.find(' ', from) - from));
	}
	return out;
}

} // namespace

/// Each translation of a destination in conntrack is a session's: nothing is left behind.
void DatapathTest::check_entries(const std::vector<Pair> &pairs) const {
	std::set<std::string> known;
	for (const Pair &pair : pairs) {
		char remote[INET_ADDRSTRLEN];
		inet_ntop(AF_INET, &pair.wan_key.saddr, remote, sizeof(remote));
		known.insert(remote + std::string(":") + std::to_string(ntohs(pair.wan_key.sport)) + ">" +
			     std::to_string(ntohs(pair.wan_key.dport)));
	}
	std::istringstream all(flows());
	for (std::string line; std::getline(all, line);) {
		const auto from = values(line, "src"), to = values(line, "dst"), sport = values(line, "sport"),
			   dport = values(line, "dport");
		if (from.size() < 2 || sport.empty() || from[1] == to[0])
			continue;
		EXPECT_TRUE(known.count(from[0] + ":" + sport[0] + ">" + dport[0]))
			<< "an entry of no session: " << line;
	}
}

void DatapathTest::check_ways(const std::vector<Pair> &pairs) const {
	std::set<std::uint32_t> ways;
	for (const Pair &pair : pairs)
		for (const ptrig_session *half : {&pair.lan, &pair.wan}) {
			EXPECT_TRUE(!half->fast || ways.insert(half->fast).second) << "two directions, one way";
			EXPECT_FALSE(half->fast && pair.halfopen) << "permission before an answer";
		}
	EXPECT_EQ(fast_ways().size(), ways.size()) << "ways in use";
}

void DatapathTest::check_ports(const std::vector<Pair> &pairs) const {
	std::map<std::uint32_t, std::uint32_t> by_port;
	for (const Pair &pair : pairs) {
		const bool is_tcp = pair.lan_key.proto == IPPROTO_TCP;
		by_port[PTRIG_USE_INDEX(PTRIG_SIDE_LAN, is_tcp ? 0U : 1U, ntohs(pair.lan_key.sport))]++;
		by_port[PTRIG_USE_INDEX(PTRIG_SIDE_WAN, is_tcp ? 0U : 1U, ntohs(pair.lan.port))]++;
	}
	const auto ports = dp_->memory<std::uint32_t>("pt_port_use");
	const auto bits = dp_->memory<std::uint64_t>("pt_port_bits");
	const auto used = [&](std::uint32_t i) {
		const std::uint64_t mark = i < 2 * PTRIG_PORTS ? PTRIG_PORT_WAN_USED : PTRIG_PORT_LAN_USED;
		const std::uint32_t port = i % (2 * PTRIG_PORTS);
		return bits[PTRIG_PORT_BITS_WORD(0U, port)] >> PTRIG_PORT_BITS_SHIFT(port) & mark;
	};
	for (std::uint32_t i = 0; i < ports.size(); i++)
		if (const bool bit = used(i); bit || ports[i]) {
			EXPECT_EQ(ports[i], by_port[i]) << "sessions by port, index " << i;
			EXPECT_TRUE(bit && ports[i]) << "bit of index " << i;
			by_port.erase(i);
		}
	EXPECT_TRUE(by_port.empty()) << "a port that is not counted";
}

void DatapathTest::check_usage(const std::vector<Pair> &pairs) const {
	const auto halfopen = std::count_if(pairs.begin(), pairs.end(), [](const Pair &p) { return p.halfopen; });
	const ptrig_usage used = usage();
	EXPECT_EQ(used.halfopen, static_cast<std::uint64_t>(halfopen));
	EXPECT_EQ(used.sessions, pairs.size() - static_cast<std::size_t>(halfopen));
	EXPECT_EQ(used.leases, (dp_->entries<ptrig_lease_key, ptrig_lease>("pt_leases").size()));
	EXPECT_EQ(used.conns, (dp_->entries<ptrig_conn_key, ptrig_conn>("pt_conns").size()));
}

using HostKey = std::pair<__be32, std::uint32_t>; ///< address; a rule's id, or 0: all

void DatapathTest::check_books() const {
	const auto pairs = sessions();
	const auto leases = dp_->entries<ptrig_lease_key, ptrig_lease>("pt_leases");
	std::map<std::uint32_t, std::uint32_t> by_lease;
	std::map<HostKey, ptrig_host> by_host;
	for (const Pair &pair : pairs) {
		EXPECT_EQ(pair.lan.id & PTRIG_SESSION_NUMBER, pair.wan.id & PTRIG_SESSION_NUMBER);
		by_lease[pair.lan.lease]++;
		const __be32 payer = pair.lan.flags & PTRIG_SESSION_HAIRPIN ? pair.lan.peer : pair.lan_key.saddr;
		by_host[{payer, 0}].sessions++;
		by_host[{payer, 0}].halfopen += pair.halfopen;
		EXPECT_EQ(pair.lan.lease, pair.wan.lease);
		EXPECT_EQ(pair.lan.rule, pair.wan.rule);
	}
	for (const auto &[key, value] : leases) {
		EXPECT_EQ(value.grant, value.info.id) << "whose sessions a lease counts";
		EXPECT_EQ(value.sessions, by_lease[value.info.id]) << "sessions of lease " << value.info.id;
		if (value.info.state != PTRIG_LEASE_LIVE)
			continue;
		by_host[{value.info.host, 0}].leases++;
		if (key.remote) // of a rule with `contacted`
			by_host[{value.info.host, key.rule}].leases++;
	}
	for (const auto &[key, value] : dp_->entries<ptrig_conn_key, ptrig_conn>("pt_conns"))
		by_host[{key.host, 0}].conns++;
	for (const auto &[key, host] : dp_->entries<ptrig_host_key, ptrig_host>("pt_hosts")) {
		const ptrig_host &seen = by_host[{key.host, key.rule}];
		EXPECT_EQ(host.sessions, seen.sessions) << "sessions of a host";
		EXPECT_EQ(host.halfopen, seen.halfopen) << "sessions that a host has not answered";
		EXPECT_EQ(host.leases, seen.leases) << "leases of a host, rule " << key.rule;
		EXPECT_EQ(host.conns, seen.conns) << "connections of a host";
		by_host.erase({key.host, key.rule});
	}
	for (const auto &[key, host] : by_host)
		EXPECT_EQ(host.sessions + host.leases + host.conns, 0U) << "a host that is not counted";
	check_usage(pairs);
	check_ports(pairs);
	check_ways(pairs);
	check_entries(pairs);
}

} // namespace ptrig::test
