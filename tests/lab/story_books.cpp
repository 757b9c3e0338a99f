// What the datapath has counted is held against what its tables have in them.
#include "loader/gateway.h"
#include "loader/map.h"
#include "tests/lab/lab.h"

namespace lab {

class Books : public Lab {
protected:
	/// Every entry of a hash, changed.
	template <typename K, typename V, typename F> static void change(const char *name, F &&edit) {
		auto map = ptrig::Map<K, V>::open(kPins, name, ptrig::Access::kWrite);
		std::vector<std::pair<K, V>> all;
		ASSERT_TRUE(map->each([&](const K &key, const V &value) { all.emplace_back(key, value); }));
		ASSERT_FALSE(all.empty()) << name;
		for (auto &[key, value] : all) {
			edit(value);
			ASSERT_TRUE(map->update(key, value));
		}
	}
	std::vector<std::string> audit(ptrig::Gateway &gateway) const {
		auto lines = gw().inside([&] { return gateway.audit(); });
		EXPECT_TRUE(lines) << lines.error().what;
		return lines.value_or(std::vector<std::string>{});
	}
	ptrig::Gateway open() const {
		return std::move(gw().inside([] { return ptrig::Gateway::open(kPins); }).value());
	}
};
LAB_STORIES(Books);

TEST_P(Books, WhatIsRightStays) {
	up(game("close = 'connection'") + rule("second", "4001/tcp", "6100/tcp", "close = 'connection'"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "lan1");
	const auto out = connect_out(lan1(), {kRemote1, 4001});
	ASSERT_TRUE(out);
	ptrig::Gateway gateway = open();
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(audit(gateway), std::vector<std::string>{});
	EXPECT_EQ(json({"status"}).at("mended"), 0);
}

TEST_P(Books, WhatIsWrongThreeTimesIsPutRight) {
	up(game("session_limit = 3"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	const Json before = leases("game"), limits = json({"status"}).at("limits");
	change<ptrig_host_key, ptrig_host>("pt_hosts", [](ptrig_host &host) {
		host.sessions += 7;
		host.halfopen += 7;
		host.leases--;
	});
	change<ptrig_lease_key, ptrig_lease>("pt_leases", [](ptrig_lease &lease) { lease.sessions += 2; });
	change<std::uint32_t, ptrig_usage>("pt_usage", [](ptrig_usage &usage) {
		usage.sessions += 5;
		usage.halfopen--;
		usage.leases += 3;
		usage.conns += 4;
	});
	{
		auto ports = ptrig::MappedArray<std::uint32_t>::open(kPins, "pt_port_use");
		ASSERT_TRUE(ports);
		(*ports)[PTRIG_USE_INDEX(PTRIG_SIDE_WAN, PTRIG_PROTO_INDEX_UDP, 6000U)]++;
		(*ports)[PTRIG_USE_INDEX(PTRIG_SIDE_LAN, PTRIG_PROTO_INDEX_TCP, 6001U)]++;
	}
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "gateway") << "the wrong count refuses";
	ptrig::Gateway gateway = open();
	EXPECT_EQ(audit(gateway).size(), 0U);
	EXPECT_EQ(audit(gateway).size(), 0U) << "packets may have changed it meanwhile";
	const auto lines = audit(gateway);
	EXPECT_EQ(lines.size(), 10U);
	EXPECT_NE(std::find(lines.begin(), lines.end(),
			    "the count of sessions of host " + host1() + " was wrong by 7 and has been put right"),
		  lines.end());
	EXPECT_EQ(json({"status"}).at("mended"), 10);
	EXPECT_EQ(json({"status"}).at("limits"), limits);
	EXPECT_EQ(leases("game").at(0).at("sessions"), before.at(0).at("sessions"));
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "lan1");
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(audit(gateway).size(), 0U);
	EXPECT_EQ(ptrig({"session", "close", "--all"}).status, 0);
	EXPECT_EQ(ptrig({"lease", "close", "--all"}).status, 0);
	EXPECT_EQ(json({"status"}).at("limits").at("sessions").at("used"), 0);
	const auto bits = ptrig::MappedArray<std::uint64_t>::open(kPins, "pt_port_bits");
	ASSERT_TRUE(bits);
	constexpr std::uint64_t kUsed = 0x0101010101010101U * (PTRIG_PORT_WAN_USED | PTRIG_PORT_LAN_USED);
	for (std::uint32_t word = 0; word < PTRIG_PORT_BITS_SIZE; word++)
		EXPECT_EQ((*bits)[word] & kUsed, 0U) << "no port is in use, word " << word;
}

/// The daemon does it by itself, and says so.
TEST_P(Books, TheDaemonPutsThemRight) {
	up(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	change<ptrig_lease_key, ptrig_lease>("pt_leases", [](ptrig_lease &lease) { lease.sessions += 2; });
	const Process &daemon = run_daemon();
	EXPECT_TRUE(eventually(60s, [&] { return json({"status"}).at("mended") == 1; }));
	EXPECT_TRUE(eventually(5s, [&] {
		return daemon.err().find("was wrong by 2 and has been put right") != std::string::npos;
	})) << daemon.err();
}

} // namespace lab
