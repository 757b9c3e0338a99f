// Stories that count, of one host that wants everything: triggers without end, and in the name of others.
#include <poll.h>

#include <algorithm>
#include <random>
#include <thread>

#include "tests/lab/flow.h"
#include "tests/lab/frames.h"
#include "tests/lab/soak.h"

namespace lab {

namespace {

constexpr unsigned kLeasesPerHost = 128, ///< of the one rule: half of what the host may have
	kMostLeases = 1024, kRemotes = 4096;

/// What the greedy host sends: triggers from an address to many remotes.
class Greed {
public:
	Greed(const NetNs &host, const std::string &gateway) : sender_(host, "eth0", to_mac(gateway)) {}

	/// So many triggers of `port`, each from what `from` says, to one remote after the other.
	template <typename From> void send(unsigned total, const MacBytes &mac, std::uint16_t port, From &&from) {
		for (unsigned sent = 0; sent < total;) {
			for (unsigned i = 0; i < 32 && sent < total; i++, sent++)
				sender_.add(mac, {from(sent), to_number("10.99.0.0") + sent % kRemotes, 5000, port});
			sender_.send();
		}
	}

private:
	FrameSender sender_;
};

} // namespace

TEST_P(Soak, OneHostTriggersWithoutEnd) {
	const unsigned triggers = count(30000, 1000000), spoofed = count(8192, 65536);
	std::mt19937 random(seed());
	const Process &daemon = run_daemon(game("remotes = 'contacted'\ntimeout = '2h'") +
						   rule("second", "4001/udp", "6100-6101/udp", "timeout = '2h'"),
					   "max_leases = " + text(kMostLeases) + "\n",
					   "[limits]\nleases_per_host = " + text(2 * kLeasesPerHost) + "\n");
	trigger(lan2(), {kRemote1, 4001});
	const Fd talker = start_talk(lan2(), {kRemote2, 5555}, 6100);
	const auto at_first = lease_views();
	ASSERT_EQ(at_first.size(), 1U);
	const std::uint64_t drops_before = device_drops(), conntrack_before = conntrack_count();
	Flow in(talker, {kWan, 6100}, udp_on(lan2(), 6100), 1000);
	Flow back(udp_on(lan2(), 6100), {kRemote2, 5555}, talker, 1000);

	Greed greed(lan1(), "02:00:00:00:77:01");
	const MacBytes own = to_mac(mac_of(lan1()));
	const auto start = Clock::now();
	greed.send(triggers, own, 4000, [&](unsigned) { return to_number(host1()); });
	const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
	const auto leases_of = [&](const std::string &host) {
		const auto all = leases();
		return std::count_if(all.begin(), all.end(), [&](const Json &row) { return row.at("host") == host; });
	};
	EXPECT_EQ(leases_of(host1()), kLeasesPerHost);
	const std::uint64_t quota = refused("game", "host_leases");

	trigger(lan2(), {kRemote3, 4000});
	EXPECT_EQ(leases_of(host2()), 2) << "another host gets none beside it";
	EXPECT_EQ(who_gets_udp(6000, {kRemote3, 0}), "lan2");

	// In the names of others: of another network, and of neighbours that do not exist.
	greed.send(spoofed, own, 4000, [&](unsigned n) { return to_number("172.16.0.0") + n; });
	const std::size_t before_neighbours = lease_views().size();
	EXPECT_EQ(before_neighbours, kLeasesPerHost + 2) << "addresses of another network got leases";
	greed.send(spoofed, own, 4000, [&](unsigned n) { return to_number("192.168.77.100") + n % 100; });
	const std::size_t leases_then = lease_views().size();
	EXPECT_LE(leases_then, kMostLeases);
	EXPECT_GT(refused("game", "leases_full"), 0U) << "the table is full, and nobody is told";
	const auto idle = [&] { return leases("second").at(0).at("idle_s").get<double>(); };
	EXPECT_TRUE(eventually(10s, [&] { return idle() > 0.2; }));
	const double before_refresh = idle();
	trigger(lan2(), {kRemote1, 4001});
	EXPECT_LT(idle(), before_refresh) << "a lease cannot be refreshed while the table is full";

	const auto [sent_in, lost_in] = in.finish();
	const auto [sent_back, lost_back] = back.finish();
	const std::uint64_t drops = device_drops() - drops_before;
	report("triggers " + text(triggers) + " of one host at " + text(std::uint64_t(triggers / seconds)) +
	       "/s: " + text(kLeasesPerHost) + " leases, " + text(quota) +
	       " refused for its limit; in the name of another network " + text(spoofed) + ": " +
	       text(counter("spoofed")) + " spoofed, no lease; of 100 neighbours that do not exist " + text(spoofed) +
	       ": " + text(leases_then - before_neighbours) + " leases; datagrams of another host lost " +
	       text(lost_in + lost_back) + " of " + text(sent_in + sent_back) + " (devices dropped " + text(drops) +
	       "), conntrack " + text(conntrack_before) + " before, " + text(conntrack_count()) + " after");
	const std::uint64_t of_flows = sent_in + sent_back, all = triggers + 2 * spoofed + of_flows;
	EXPECT_LE(lost_in + lost_back, share_of(drops, of_flows, all));
	EXPECT_GT(quota, 0U);
	EXPECT_GE(counter("spoofed"), spoofed - share_of(drops, spoofed, all));
	const auto now = lease_views();
	EXPECT_TRUE(std::any_of(now.begin(), now.end(), [&](const auto &lease) {
		return lease.lease_id == at_first[0].lease_id;
	})) << "another host's lease went";
	EXPECT_EQ(who_gets_udp(6101), "lan2");
	EXPECT_EQ(who_gets_udp(6001, {kRemote3, 0}), "lan2");
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid()) << daemon.err();
}

} // namespace lab
