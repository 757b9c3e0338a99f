// The kernel's connection table belongs to all hosts, and what ptrig puts there cannot be dropped early. So half-open
// sessions are at most an eighth of it, and all at most half. The table's size is the whole machine's: here it stays as
// it is, and ptrig is told another.
#include <algorithm>

#include "tests/lab/frames.h"
#include "tests/lab/lab.h"
#include "tests/lab/table_size.h"

namespace lab {

namespace {

constexpr unsigned kFlood = 400; ///< half-open sessions that are tried with each host
constexpr unsigned kLarge = 1 << 20;

} // namespace

class SmallTable : public Lab {
protected:
	static std::string rules() { return game() + rule("second", "4001/udp", "6100/tcp+udp"); }
	/// Applied, with the table's size as it is told now.
	void apply_all() { apply(rules(), "", kNoLimit); }
	/// A remote begins as many sessions with either host as it can; the hosts say nothing.
	void flood(bool tcp);
	unsigned half_open() const { return json({"status"}).at("limits").at("halfopen").at("used"); }
	/// Conntrack's entries of them.
	unsigned entries(bool tcp) const;

	static constexpr const char *kNoLimit = "[limits]\nnew_sessions_per_second = 0\n";
};
// Both stories do the same work.
LAB_STORIES_OF(SmallTable, "tc");

void SmallTable::flood(bool tcp) {
	FrameSender sender(wan(), "eth0", to_mac("02:00:00:00:00:02"));
	const MacBytes from = to_mac(mac_of(wan()));
	for (unsigned i = 0; i < kFlood; i++)
		for (const std::uint16_t port : {std::uint16_t(6000), std::uint16_t(6100)})
			sender.add(from, {to_number(kRemote1), to_number(kWan), std::uint16_t(20000 + i), port, tcp});
	sender.send();
}

unsigned SmallTable::entries(bool tcp) const {
	const std::string list = must(gw(), {"conntrack", "-L", "--dst-nat", "-p", tcp ? "tcp" : "udp", "--orig-src",
					     kRemote1, "--orig-dst", kWan});
	return static_cast<unsigned>(std::count(list.begin(), list.end(), '\n'));
}

TEST_P(SmallTable, HalfOpenSessionsAreAtMostAnEighth) {
	nft("insert rule inet lab forward iifname wan0 tcp dport { 6000, 6100 } drop\n");
	up(rules(), "", kNoLimit);
	trigger(lan1());
	trigger(lan2(), {kRemote1, 4001});
	udp_on(lan1(), 6000);
	udp_on(lan2(), 6100);
	for (const bool tcp : {false, true})
		for (const bool small : {true, false}) {
			SCOPED_TRACE(std::string(tcp ? "tcp" : "udp") + (small ? ", a small table" : ", a large one"));
			const ToldTableSize told(gw(), small ? 800 : kLarge);
			apply_all();
			const std::uint64_t refused = counter("halfopen_full");
			flood(tcp);
			if (small)
				EXPECT_TRUE(eventually(5s, [&] { return counter("halfopen_full") > refused; }));
			else
				EXPECT_TRUE(eventually(5s, [&] { return half_open() == 2 * kFlood; })) << half_open();
			EXPECT_GT(half_open(), 50U);
			EXPECT_LE(half_open(), small ? 100U : 2 * kFlood);
			EXPECT_EQ(entries(tcp), half_open());
			EXPECT_TRUE(try_trigger(lan2(), {kRemote2, 9})) << "another host's own flow";
			EXPECT_TRUE(connect_out(lan2(), {kRemote2, 8080})) << "another host's own flow";
			EXPECT_EQ(ptrig({"session", "close", "--all"}).status, 0);
			EXPECT_EQ(entries(tcp), 0U);
		}
}

TEST_P(SmallTable, SessionsAreAtMostHalf) {
	up(rules(), "", kNoLimit);
	trigger(lan1());
	for (const bool small : {true, false}) {
		const ToldTableSize told(gw(), small ? 64 : kLarge);
		apply_all();
		std::vector<Fd> remotes;
		unsigned came_about = 0;
		for (unsigned i = 0; i < 40; i++) {
			remotes.push_back(udp_socket(wan(), {kRemote1, 0}));
			came_about += talk(remotes.back(), udp_on(lan1(), 6000), {kWan, 6000},
					   came_about < 32 || !small ? patient(1s) : 50ms);
		}
		EXPECT_EQ(came_about, small ? 32U : 40U);
		EXPECT_EQ(json({"session", "list"}).size(), came_about);
		EXPECT_EQ(counter("sessions_full"), 8U);
		EXPECT_EQ(ptrig({"session", "close", "--all"}).status, 0);
	}
}

} // namespace lab
