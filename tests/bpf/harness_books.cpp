// The books of the fixture: after every test, usage, hosts, leases and ports against the sessions that are there.
#include <algorithm>
#include <map>
#include <set>
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

void DatapathTest::check_hairpins(const std::vector<Pair> &pairs) const {
	const auto clients = dp_->map<ptrig_session_key, ptrig_hairpin>("pt_hairpins");
	std::size_t wanted = 0;
	for (const Pair &pair : pairs) {
		if (!((pair.lan.flags | pair.wan.flags) & PTRIG_SESSION_HAIRPIN))
			continue;
		wanted += 2;
		EXPECT_FALSE(pair.lan.fast || pair.wan.fast) << "XDP knows nothing of it";
		ptrig_session_key back = pair.lan_key;
		back.saddr = pair.lan.addr, back.sport = pair.lan.port, back.side = PTRIG_SIDE_WAN;
		const auto client = must(clients.lookup(back));
		ASSERT_TRUE(client) << "a hairpinned session without its client";
		const auto source = must(clients.lookup(mirror(back, {.addr = client->addr, .port = client->port})));
		ASSERT_TRUE(source) << "a client without its other direction";
		EXPECT_EQ(std::pair(source->addr, source->port), std::pair(back.daddr, back.dport));
	}
	EXPECT_EQ(must(clients.keys()).size(), wanted) << "clients without a session";
}

void DatapathTest::check_ports(const std::vector<Pair> &pairs) const {
	std::map<std::uint32_t, std::uint32_t> by_port;
	for (const Pair &pair : pairs) {
		const bool is_tcp = pair.lan_key.proto == IPPROTO_TCP;
		by_port[PTRIG_USE_INDEX(PTRIG_SIDE_LAN, is_tcp ? 0U : 1U, ntohs(pair.lan_key.sport))]++;
		by_port[PTRIG_USE_INDEX(PTRIG_SIDE_WAN, is_tcp ? 0U : 1U, ntohs(pair.lan.port))]++;
	}
	const auto ports = dp_->memory<std::uint32_t>("pt_port_use");
	const auto used_ports = dp_->memory<std::uint64_t>("pt_port_bits");
	for (std::uint32_t i = 0; i < ports.size(); i++)
		if (const bool bit = used_ports[i / 64] >> (i % 64) & 1; bit || ports[i]) {
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

void DatapathTest::check_books() const {
	const auto pairs = sessions();
	const auto leases = dp_->entries<ptrig_lease_key, ptrig_lease>("pt_leases");
	std::map<std::uint32_t, std::uint32_t> by_lease;
	std::map<__be32, ptrig_host> by_host;
	std::set<std::uint32_t> ways;
	for (const Pair &pair : pairs) {
		for (const ptrig_session *side : {&pair.lan, &pair.wan})
			EXPECT_TRUE(!side->fast || ways.insert(side->fast).second) << "two sessions, one way";
		by_lease[pair.lan.lease]++;
		by_host[pair.lan_key.saddr].sessions++;
		by_host[pair.lan_key.saddr].halfopen += pair.halfopen;
		EXPECT_EQ(pair.lan.lease, pair.wan.lease);
		EXPECT_EQ(pair.lan.rule, pair.wan.rule);
		EXPECT_EQ(pair.lan.state, pair.wan.state);
	}
	for (const auto &[key, value] : leases) {
		EXPECT_EQ(value.sessions, by_lease[value.info.id]) << "sessions of lease " << value.info.id;
		if (value.info.state == PTRIG_LEASE_LIVE)
			by_host[value.info.host].leases++;
	}
	EXPECT_EQ(fast_ways().size(), ways.size()) << "ways in use";
	for (const auto &[address, host] : dp_->entries<__be32, ptrig_host>("pt_hosts")) {
		EXPECT_EQ(host.sessions, by_host[address].sessions) << "sessions of a host";
		EXPECT_EQ(host.halfopen, by_host[address].halfopen) << "sessions that a host has not answered";
		EXPECT_EQ(host.leases, by_host[address].leases) << "leases of a host";
		by_host.erase(address);
	}
	for (const auto &[address, host] : by_host)
		EXPECT_EQ(host.sessions + host.leases, 0U) << "a host that is not counted";
	check_usage(pairs);
	check_ports(pairs);
	check_hairpins(pairs);
}

} // namespace ptrig::test
