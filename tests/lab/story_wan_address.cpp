// The WAN address is replaced under hosts that go on sending: nothing leaves with the old one any more.
#include <algorithm>
#include <csignal>

#include "tests/lab/flow.h"
#include "tests/lab/soak.h"

namespace lab {

namespace {

const std::string kNew = "203.0.113.3";
const std::string kAdd = "addr add " + kNew + "/24 dev wan0\n", kDelete = "addr del " + kWan + "/24 dev wan0\n",
		  kRoute = "route replace default via " + kRemote1 + "\n";
constexpr unsigned kSecond = 1000; ///< of a flow's datagrams

/// Counts at the internet's end what comes from either address.
const std::string kSources = R"(
table inet soak {
	counter old { }
	counter new { }
	chain arriving {
		type filter hook prerouting priority -450;
		ip saddr )" + kWan +
			     R"( counter name old
		ip saddr )" + kNew +
			     R"( counter name new
	}
}
)";

} // namespace

class WanAddress : public Lab {
protected:
	void SetUp() override;
	/// A host talks through a session and its lease is refreshed while the address is replaced by these commands.
	void replaced_by(const std::string &commands, bool triggers_go_on);
	/// None comes from the old address while a flow sends for a second.
	bool old_one_rests(const Flow &flow) const;
};
LAB_STORIES(WanAddress);

void WanAddress::SetUp() {
	Lab::SetUp();
	if (!why_not.empty())
		return;
	sysctl("ipv4/conf/all/promote_secondaries", "1"); // the new address stays when the old one is deleted
	must(wan(), {"nft", "-f", "-"}, kSources);
}

bool WanAddress::old_one_rests(const Flow &flow) const {
	const std::uint64_t before = counted_by(wan(), "old");
	const unsigned sent = flow.sent();
	return eventually(5s, [&] { return flow.sent() >= sent + kSecond; }) && counted_by(wan(), "old") == before;
}

void WanAddress::replaced_by(const std::string &commands, bool triggers_go_on) {
	const Process &daemon = run_daemon(game("timeout = '2h'"));
	const Process &monitor = start_monitor();
	trigger(lan1());
	const Fd remote = start_talk(lan1(), {kRemote2, 5555});
	const Flow flow(udp_on(lan1(), 6000), {kRemote2, 5555}, remote, kSecond);
	const Fd triggers_from = udp_socket(lan1());
	std::optional<Flow> triggers;
	triggers.emplace(triggers_from, Endpoint{kRemote1, 4000}, udp_on(wan(), 4000), kSecond);
	ASSERT_TRUE(eventually(10s, [&] { return triggers->sent() > 200 && counted_by(wan(), "old") > 300; }));
	if (!triggers_go_on)
		triggers->finish();
	ip(gw(), commands + kRoute);
	EXPECT_TRUE(eventually(15s, [&] { return old_one_rests(flow); }))
		<< "the old address is still used: " << daemon.err();
	EXPECT_TRUE(eventually(5s, [&] { return counted_by(wan(), "new") > 0; })) << "nor is the new one";
	for (const Json &session : json({"session", "list"}))
		EXPECT_NE(session.at("wan"), kWan) << session;
	if (triggers_go_on) { // the lease may have gone along with one of them
		EXPECT_TRUE(eventually(10s, [&] {
			const Json rows = leases("game");
			return rows.size() == 1 && rows.at(0).at("state") == "live" && rows.at(0).at("wan") == kNew;
		})) << leases();
	} else {
		EXPECT_TRUE(eventually(10s, [&] {
			const auto told = events(monitor);
			return std::any_of(told.begin(), told.end(), [&](const Json &event) {
				return event.at("event") == "ended" && event.at("rule") == "game" &&
				       event.at("host") == host1() && event.at("reason") == "wan_changed";
			});
		})) << monitor.out();
		EXPECT_EQ(who_gets_udp(6001, {kRemote3, 0}), "nobody") << "to the address that is gone";
		EXPECT_EQ(trigger(lan1()).address, kNew);
	}
	EXPECT_TRUE(talk(udp_socket(wan(), {kRemote3, 0}), udp_on(lan1(), 6001), {kNew, 6001}));
	EXPECT_EQ(leases("game").at(0).at("wan"), kNew);
}

TEST_P(WanAddress, AddedAndThenTheOldOneDeleted) {
	replaced_by(kAdd + kDelete, false);
}

TEST_P(WanAddress, DeletedAndThenTheNewOneAdded) {
	replaced_by(kDelete + kAdd, false);
}

TEST_P(WanAddress, AddedAndThenDeletedWhileTriggersGoOn) {
	replaced_by(kAdd + kDelete, true);
}

TEST_P(WanAddress, DeletedAndThenAddedWhileTriggersGoOn) {
	replaced_by(kDelete + kAdd, true);
}

/// Nobody follows the network then; who comes next ends what was left of the old address.
TEST_P(WanAddress, ReplacedWithoutADaemonAndEndedByTheNext) {
	Process &dead = run_daemon(game("timeout = '2h'"));
	trigger(lan1());
	const Fd remote = start_talk(lan1(), {kRemote2, 5555});
	const Flow flow(udp_on(lan1(), 6000), {kRemote2, 5555}, remote, kSecond);
	ASSERT_TRUE(eventually(10s, [&] { return counted_by(wan(), "old") > 300; }));
	dead.signal(SIGKILL);
	ASSERT_TRUE(dead.wait(10s));
	ip(gw(), kAdd + kDelete + kRoute);
	const Process &next = run_daemon();
	EXPECT_TRUE(eventually(15s, [&] { return old_one_rests(flow); }))
		<< "the old address is still used: " << next.err();
	EXPECT_EQ(json({"session", "list"}), Json::array());
	EXPECT_EQ(leases("game"), Json::array());
	EXPECT_EQ(trigger(lan1()).address, kNew);
	EXPECT_TRUE(talk(udp_socket(wan(), {kRemote3, 0}), udp_on(lan1(), 6001), {kNew, 6001}));
}

} // namespace lab
