// `firewall = "new"`: the forward chain sees each session that a lease lets in as `ct state new ct status dnat`, and
// decides. With "established" it sees an answer.
#include "tests/lab/policy.h"

namespace lab {

class PolicyNew : public PolicyLab {
protected:
	const std::string kNew = "firewall = 'new'";
	const std::string kAccept = "ct state new ct status dnat accept";
};
LAB_STORIES(PolicyNew);

TEST_P(PolicyNew, NothingComesInUnlessTheForwardChainAcceptsIt) {
	up(game(), kNew);
	trigger(lan1());
	ASSERT_EQ(leases("game").size(), 1U);
	EXPECT_EQ(who_gets_udp(6000), "nobody");
	EXPECT_EQ(who_gets_tcp(6000), "nobody");
	behind({kAccept});
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(who_gets_tcp(6000), "lan1");
	EXPECT_TRUE(run_both_ways(begin_sessions(lan1(), kRemote2, 6001)));
	behind({});
	EXPECT_EQ(who_gets_udp(6002), "nobody") << "without the rule again";
	EXPECT_EQ(who_gets_tcp(6002), "nobody");
}

/// The very place where a rule has no say with "established".
TEST_P(PolicyNew, ABlocklistBehindEstablishedHolds) {
	const std::string blocked = "ip saddr " + kRemote2 + " drop";
	up(game(), kNew);
	trigger(lan1());
	behind({blocked, kAccept});
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "nobody");
	EXPECT_EQ(who_gets_tcp(6000, {kRemote2, 0}), "nobody");
	EXPECT_EQ(who_gets_udp(6000, {kRemote3, 0}), "lan1") << "who is not on the list";
	EXPECT_EQ(who_gets_tcp(6000, {kRemote3, 0}), "lan1");
	behind({kAccept});
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "lan1") << "off the list again";
	EXPECT_EQ(who_gets_tcp(6000, {kRemote2, 0}), "lan1");
}

TEST_P(PolicyNew, ABlocklistBehindEstablishedHasNoSayWithEstablished) {
	up(game(), "firewall = 'established'");
	trigger(lan1());
	behind({"ip saddr " + kRemote2 + " drop"});
	EXPECT_EQ(who_gets_udp(6000, {kRemote2, 0}), "lan1");
	EXPECT_EQ(who_gets_tcp(6000, {kRemote2, 0}), "lan1");
	in_front({"ip saddr " + kRemote2 + " drop"});
	EXPECT_EQ(who_gets_udp(6001, {kRemote2, 0}), "nobody") << "in front of it the same rule holds";
	EXPECT_EQ(who_gets_tcp(6001, {kRemote2, 0}), "nobody");
}

TEST_P(PolicyNew, TheForwardChainCountsEachSession) {
	for (const std::string mode : {"new", "established"}) {
		SCOPED_TRACE(mode);
		up(game(), "firewall = '" + mode + "'");
		trigger(lan1());
		behind({kAccept});
		const PacketCount sessions(gw(), "forward priority filter - 1;", "ct state new ct status dnat");
		const PacketCount arrived(lan1(), "input priority filter;", "ip daddr " + host1());
		for (std::uint16_t port = 6000; port < 6003; port++)
			EXPECT_TRUE(run_both_ways(begin_sessions(lan1(), kRemote2, port)));
		if (mode == "new") {
			EXPECT_EQ(sessions.udp(), 3U);
			EXPECT_GE(sessions.tcp(), 3U) << "a SYN may have been sent twice";
		} else {
			EXPECT_EQ(sessions.udp(), 0U);
			EXPECT_EQ(sessions.tcp(), 0U);
		}
		EXPECT_GE(arrived.udp(), 6U) << "all of them came by the forward chain";
		EXPECT_GE(arrived.tcp(), 6U);
	}
}

} // namespace lab
