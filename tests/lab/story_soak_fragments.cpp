// A flood of fragments that belong to nothing: of whole packets nothing may be lost, nobody gets what is not for an
// open port, and fragmented datagrams arrive again once the flood is over.
#include <poll.h>

#include <algorithm>
#include <random>

#include "tests/lab/barrage.h"
#include "tests/lab/flow.h"
#include "tests/lab/soak.h"

namespace lab {

namespace {

constexpr unsigned kPerSecond = 100000, kNewSessions = 1000; ///< the lease's limit, per second
const Endpoint kForged{kRemote2, 5555};                      ///< somebody sends in its name

/// Counts what a host gets that is for none of its open ports, and the first and later pieces of the flood's datagrams.
std::string counting(const std::string &open) {
	return R"(
table inet soak {
	counter heads { }
	counter tails { }
	counter stray { }
	chain arriving {
		type filter hook prerouting priority -450;
		iifname != eth0 accept
		ip saddr )" +
	       kRemote3 + R"( accept
		ip frag-off & 0x1fff != 0 counter name tails accept
		ip frag-off & 0x2000 != 0 counter name heads
		meta l4proto { tcp, udp } th dport )" +
	       open + R"( accept
		counter name stray
	}
}
)";
}

/// Fragments as an attacker makes them, of which few ever make a whole datagram.
class Shards {
public:
	explicit Shards(std::mt19937 &random) : random_(random) {}

	Shot next() {
		if (waiting_.empty())
			make();
		const Shot shot = waiting_.back();
		waiting_.pop_back();
		return shot;
	}
	/// Datagrams to open ports that were sent in two pieces.
	unsigned whole() const { return whole_; }

private:
	void make() {
		Shot shot{any_remote(random_), to_number(kWan), any_port(), open_port(), random_() % 2 == 0};
		const std::uint16_t id = any_port();
		const auto send = [&](unsigned offset, unsigned bytes, bool more) {
			shot.piece = Piece{id, offset, bytes, more};
			waiting_.insert(waiting_.begin(), shot);
		};
		switch (random_() % 10) {
		case 0: // to an open port
			return send(0, 24, true);
		case 1: // to any other, or one of another host's lease
			shot.to_port = random_() % 8 == 0 ? 6101 : any_port();
			return send(0, 24, true);
		case 2: // from the middle, or the end of a datagram that is larger than any
			return send(8 + random_() % 8190 * 8, 24, random_() % 2 == 0);
		case 3: // nothing but the ports
			return send(0, 8, true);
		case 4: // more follow, at a place that there is not
			return send(0, 21, true);
		case 5: // another header over the first one
			send(0, 24, true);
			shot.to_port = any_port();
			return send(0, 24, true);
		case 6: // and over a part of it, which would make the datagram whole
			send(0, 16, true);
			shot.to_port = any_port();
			return send(8, 24, false);
		case 7: // whole, to any port
			shot.to_port = any_port();
			send(0, 24, true);
			return send(24, 16, false);
		case 8: // whole, to an open one
			whole_++;
			shot.tcp = false;
			send(0, 24, true);
			return send(24, 16, false);
		default: // in the name of a remote that has a session
			shot = {to_number(kForged.address), to_number(kWan), kForged.port, 6001};
			return send(0, 24, true);
		}
	}
	std::uint16_t any_port() { return static_cast<std::uint16_t>(1024 + random_() % 60000); }
	std::uint16_t open_port() { return static_cast<std::uint16_t>(6002 + random_() % 9); }

	std::mt19937 &random_;
	std::vector<Shot> waiting_;
	unsigned whole_ = 0;
};

/// Datagrams of three fragments, each way of a session of their own.
class LargeDatagrams {
public:
	LargeDatagrams(const Fd &remote, const Fd &host) : remote_(remote), host_(host) {}

	/// One from the remote, and the host's answer.
	bool pass(milliseconds deadline) {
		const std::string data = std::string(4000, char('a' + tried_ % 26)) + std::to_string(tried_);
		tried_++;
		udp_send(remote_, {kWan, 6000}, data);
		const auto there = gets(host_, data, deadline);
		if (!there)
			return false;
		udp_send(host_, there->from, data);
		const bool both = gets(remote_, data, deadline).has_value();
		passed_ += both;
		return both;
	}
	unsigned tried() const { return tried_; }
	unsigned passed() const { return passed_; }

private:
	static std::optional<Datagram> gets(const Fd &socket, const std::string &data, milliseconds deadline) {
		const auto end = Clock::now() + deadline;
		do
			if (auto got = udp_receive(socket, 20ms); got && got->data == data)
				return got;
		while (Clock::now() < end);
		return std::nullopt;
	}
	const Fd &remote_, &host_;
	unsigned tried_ = 0, passed_ = 0;
};

} // namespace

TEST_P(Soak, FragmentFlood) {
	if (is_slow())
		GTEST_SKIP() << "sends " << kPerSecond << " packets a second";
	const unsigned shots = count(30000, 1000000);
	std::mt19937 random(seed());
	nft("add rule inet lab input iifname wan0 ct state new drop\n"); // as gateways do
	sysctl("ipv4/ipfrag_time", "1"); // seconds; for so long the kernel keeps what belongs to nothing
	run_daemon(game() + rule("second", "4001/udp", "6100-6101/tcp+udp"), "max_sessions = 65536\n",
		   "[limits]\nnew_sessions_per_second = " + text(kNewSessions) + "\n");
	trigger(lan1());
	trigger(lan2(), {kRemote1, 4001});
	const auto [remote, host] = connect_in(6000, lan1());
	const Fd talker1 = start_talk(lan1(), kForged, 6001), talker2 = start_talk(lan2(), {kRemote2, 6666}, 6100);
	const Fd talker3 = start_talk(lan1(), {kRemote3, 0}, 6000);
	udp_on(lan1(), 6002); // takes it and says nothing; at the others nobody is there
	LargeDatagrams during(talker3, udp_on(lan1(), 6000));
	ASSERT_TRUE(during.pass(10s));
	must(lan1(), {"nft", "-f", "-"}, counting("6000-6010"));
	must(lan2(), {"nft", "-f", "-"}, counting("6100-6101"));
	Stream stream(remote, host);
	Flow first(talker1, {kWan, 6001}, udp_on(lan1(), 6001), 1000);
	Flow back(udp_on(lan1(), 6001), kForged, talker1, 1000);
	Flow second(talker2, {kWan, 6100}, udp_on(lan2(), 6100), 1000);

	const std::uint64_t drops_before = device_drops(), conntrack_before = conntrack_count();
	std::uint64_t conntrack_most = 0;
	Shards shards(random);
	Barrage flood(wan(), shots, kPerSecond, [&] { return shards.next(); });
	while (!flood.over()) {
		during.pass(100ms);
		conntrack_most = std::max(conntrack_most, conntrack_count());
	}
	const auto [bytes_sent, bytes_lost, resets] = stream.finish();
	unsigned sent = 0, lost = 0;
	for (Flow *flow : {&first, &back, &second}) {
		const auto [flow_sent, flow_lost] = flow->finish();
		sent += flow_sent;
		lost += flow_lost;
	}
	const std::uint64_t drops = device_drops() - drops_before;
	LargeDatagrams after(talker3, udp_on(lan1(), 6000));
	EXPECT_TRUE(eventually(15s, [&] { return after.pass(500ms); }))
		<< "fragmented datagrams do not arrive any more";
	LargeDatagrams later(talker3, udp_on(lan1(), 6000));
	while (later.tried() < 50)
		later.pass(5s);
	const std::uint64_t stray1 = counted_by(lan1(), "stray"), stray2 = counted_by(lan2(), "stray"),
			    heads = counted_by(lan1(), "heads"), tails = counted_by(lan1(), "tails");
	report("flood " + text(shots) + " fragments at " + text(flood.rate()) + "/s (" + text(flood.refused()) +
	       " refused by the device), " + text(counter("rate_limited")) +
	       " over the lease's limit; datagrams lost " + text(lost) + " of " + text(sent) + " (devices dropped " +
	       text(drops) + "), bytes lost " + text(bytes_lost) + " of " + text(bytes_sent) + ", resets " +
	       text(resets) + "; fragmented datagrams " + text(during.passed()) + " of " + text(during.tried()) +
	       " meanwhile, " + text(later.passed()) + " of " + text(later.tried()) + " afterwards; for no open port " +
	       text(stray1 + stray2) + ", whole ones sent " + text(shards.whole()) + ", reached the host " +
	       text(heads) + "; conntrack " + text(conntrack_before) + " before, at most " + text(conntrack_most));
	EXPECT_LE(lost, share_of(drops, sent, shots + sent)) << "lost, and not for want of room in a device";
	EXPECT_EQ(bytes_lost, 0U);
	EXPECT_EQ(resets, 0U);
	EXPECT_EQ(later.passed(), later.tried());
	EXPECT_EQ(stray1, 0U);
	EXPECT_EQ(stray2, 0U);
	EXPECT_EQ(counted_by(lan2(), "heads") + counted_by(lan2(), "tails"), 0U);
	EXPECT_LE(tails, heads + share_of(drops, heads, shots + sent)) << "the host got what does not make a datagram";
	EXPECT_LE(heads, shards.whole());
	EXPECT_GT(heads, 0U) << "what is whole and for an open port arrives";
	// A first fragment opens a session, whether the others follow or not: so many at each of the two leases.
	EXPECT_LE(double(conntrack_most), double(conntrack_before) + 2 * kNewSessions * (flood.seconds() + 2) + 64)
		<< "conntrack grows with the flood";
	EXPECT_GT(counter("rate_limited"), 0U);
	EXPECT_GT(counter("opened"), 0U);
	for (const NetNs *where : {&lan1(), &lan2()})
		must(*where, {"nft", "delete", "table", "inet", "soak"});
}

} // namespace lab
