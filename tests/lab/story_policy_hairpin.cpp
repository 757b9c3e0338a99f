// Guests stay out by the WAN address, too: a forward chain that keeps one LAN from another holds for a hairpin,
// wherever the rule stands.
#include "tests/lab/policy.h"

namespace lab {

/// Where the LANs are two interfaces.
class PolicyHairpin : public PolicyLab {
protected:
	const std::string kIsolation = "iifname lan2if oifname lan1if drop";
	bool hairpin_udp(const NetNs &client, milliseconds deadline = patient(5s)) {
		return answers(udp_socket(client), udp_on(lan1(), 6000), {kWan, 6000}, deadline);
	}
	bool hairpin_tcp(const NetNs &client, milliseconds deadline = patient(5s)) {
		const Fd &listener = tcp_on(lan1(), 6000);
		const Connection connection = tcp_connect(client, {kWan, 6000}, {}, deadline);
		return connection && tcp_accept(listener, deadline).has_value();
	}
	/// Nothing of the guests' comes in any more, and the host still reaches itself.
	void guests_stay_out() {
		EXPECT_FALSE(hairpin_udp(lan2(), short_wait()));
		EXPECT_FALSE(hairpin_tcp(lan2(), short_wait()));
		EXPECT_TRUE(hairpin_udp(lan1())) << "the host itself";
		EXPECT_TRUE(hairpin_tcp(lan1()));
		EXPECT_EQ(who_gets_udp(6001), "lan1") << "the internet";
		EXPECT_EQ(who_gets_tcp(6001), "lan1");
	}
	void SetUp() override {
		PolicyLab::SetUp();
		if (!why_not.empty())
			return;
		up(game());
		trigger(lan1());
		EXPECT_TRUE(hairpin_udp(lan2())) << "without isolation";
		EXPECT_TRUE(hairpin_tcp(lan2()));
	}
};
LAB_STORIES_OF(PolicyHairpin, "xdp");

TEST_P(PolicyHairpin, IsolationInFrontOfEstablishedHolds) {
	const Fd client = udp_socket(lan2());
	const Fd &host = udp_on(lan1(), 6000);
	ASSERT_TRUE(talk(client, host, {kWan, 6000}));
	in_front({kIsolation});
	guests_stay_out();
	EXPECT_FALSE(answers(client, host, {kWan, 6000}, short_wait())) << "nor by a session that ran before";
	in_front({});
	EXPECT_TRUE(hairpin_udp(lan2())) << "without isolation again";
	EXPECT_TRUE(hairpin_tcp(lan2()));
	EXPECT_TRUE(talk(client, host, {kWan, 6000}));
}

TEST_P(PolicyHairpin, IsolationBehindEstablishedHolds) {
	behind({kIsolation});
	guests_stay_out();
	behind({});
	EXPECT_TRUE(hairpin_udp(lan2())) << "without isolation again";
	EXPECT_TRUE(hairpin_tcp(lan2()));
}

TEST_P(PolicyHairpin, NothingComesInWhereLansMayNotTalkToEachOther) {
	in_front({"iifname { lan1if, lan2if } oifname { lan1if, lan2if } ct state new drop"});
	EXPECT_FALSE(hairpin_udp(lan2(), short_wait()));
	EXPECT_FALSE(hairpin_tcp(lan2(), short_wait()));
	EXPECT_FALSE(hairpin_udp(lan1(), short_wait())) << "the host itself, by the same rule";
	EXPECT_FALSE(hairpin_tcp(lan1(), short_wait()));
	in_front({});
	EXPECT_TRUE(hairpin_udp(lan2()));
	EXPECT_TRUE(hairpin_tcp(lan1()));
}

} // namespace lab
