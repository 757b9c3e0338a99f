// What goes wrong with a gateway's own state: pins removed by hand, files unreadable.
#include "tests/lab/lab.h"

#include <filesystem>

namespace lab {

class Faults : public Lab {};
LAB_STORIES(Faults);

/// The daemon says so and ends, which systemd notices; nothing is left open, and `up` starts anew.
TEST_P(Faults, PinsRemovedByHand) {
	Process &daemon = run_daemon(game());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	std::filesystem::remove_all(kPins);
	const auto end = daemon.wait(30s);
	ASSERT_TRUE(end) << daemon.err();
	EXPECT_EQ(end->status, 1);
	EXPECT_NE(end->err.find("the gateway at " + kPins + " is gone: its pins have been removed"), std::string::npos)
		<< end->err;
	EXPECT_EQ(ptrig({"status"}).status, 3);
	const Output again = ptrig({"up"});
	EXPECT_EQ(again.status, 0) << again.err;
	EXPECT_EQ(who_gets_udp(6000), "gateway") << "the lease went with the maps";
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

/// A gateway that another process has started afresh is no longer this daemon's.
TEST_P(Faults, AnotherGatewayInTheSamePlace) {
	Process &daemon = run_daemon(game());
	std::filesystem::remove_all(kPins);
	EXPECT_EQ(ptrig({"up"}).status, 0);
	const auto end = daemon.wait(30s);
	ASSERT_TRUE(end) << daemon.err();
	EXPECT_EQ(end->status, 1);
	EXPECT_NE(end->err.find("the gateway at " + kPins + " is gone"), std::string::npos) << end->err;
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

} // namespace lab
