// A gateway whose only firewall is iptables as it was before nftables (iptables-legacy): no table of nftables' but the
// one of ptrig's own.
#include "tests/lab/lab.h"

namespace lab {

class Iptables : public Lab {
protected:
	/// The network's firewall is gone; these tables of iptables-legacy take its place. Tells why not, if they
	/// cannot.
	std::string replace_firewall(bool masquerade);
	bool warns_of_no_masquerade() const;
};
LAB_STORIES(Iptables);

std::string Iptables::replace_firewall(bool masquerade) {
	nft("flush ruleset\n");
	ip(gw(), ""); // the network is no longer as it was
	const std::string rules = std::string("*filter\n"
					      ":INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n"
					      "-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT\n"
					      "-A FORWARD ! -i wan0 -o wan0 -j ACCEPT\n"
					      "COMMIT\n") +
				  (masquerade ? "*nat\n"
						":PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n"
						":POSTROUTING ACCEPT\n"
						"-A POSTROUTING -o wan0 -j MASQUERADE\n"
						"COMMIT\n"
					      : "");
	const Output output = run(gw(), {"iptables-legacy-restore"}, rules);
	return output.status == 0 ? "" : "iptables-legacy-restore: " + output.err;
}

bool Iptables::warns_of_no_masquerade() const {
	const Json status = json({"status"});
	for (const Json &warning : status.at("warnings"))
		if (warning.get<std::string>().find("no masquerade or snat rule found for wan0") != std::string::npos)
			return true;
	return false;
}

TEST_P(Iptables, AloneIsEnough) {
	if (const std::string why = replace_firewall(true); !why.empty())
		GTEST_SKIP() << "the kernel has no tables of iptables: " << why;
	up(rule("game", "4000/tcp+udp", "6000-6010=7000/tcp+udp"));
	EXPECT_FALSE(warns_of_no_masquerade());
	EXPECT_EQ(who_gets_udp(6000, {kRemote1, 0}, 7000), "gateway");
	EXPECT_EQ(who_gets_tcp(6000, {kRemote1, 0}, 7000), "gateway");
	EXPECT_EQ(trigger(lan1()).address, kWan);
	EXPECT_EQ(who_gets_udp(6000, {kRemote1, 0}, 7000), "lan1");
	EXPECT_EQ(who_gets_tcp(6000, {kRemote1, 0}, 7000), "lan1");
	const Fd remote = udp_socket(wan(), {kRemote2, 0});
	for (int i = 0; i < 3; i++)
		EXPECT_TRUE(talk(remote, udp_on(lan1(), 7001), {kWan, 6001}));
	const Connection in = tcp_connect(wan(), {kWan, 6000}, {kRemote2, 0});
	ASSERT_TRUE(in);
	const auto accepted = tcp_accept(tcp_on(lan1(), 7000));
	ASSERT_TRUE(accepted);
	EXPECT_TRUE(exchange(in.socket, *accepted, 1 << 16));
	// The host's own packets, and those of other hosts.
	EXPECT_EQ(try_trigger(lan1(), {kRemote3, 9}, {"0.0.0.0", 7002}), (Endpoint{kWan, 6002}));
	const auto own = connect_out(lan1(), {kRemote3, 8080}, 7003);
	ASSERT_TRUE(own);
	EXPECT_EQ(remote_end(own->second), (Endpoint{kWan, 6003}));
	EXPECT_TRUE(exchange(own->first, own->second, 1 << 16));
	EXPECT_TRUE(connect_out(lan2()));
	EXPECT_EQ(who_gets_udp(6011, {kRemote1, 0}, 7011), "gateway") << "a port that is not the rule's";
}

TEST_P(Iptables, StillHasToLetAnswersIn) {
	if (const std::string why = replace_firewall(true); !why.empty())
		GTEST_SKIP() << "the kernel has no tables of iptables: " << why;
	up(game());
	must(gw(), {"iptables-legacy", "-D", "FORWARD", "1"});
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "nobody") << "the forward chain decides";
}

TEST_P(Iptables, WithoutMasqueradeIsToldAndGrantsNothing) {
	if (const std::string why = replace_firewall(false); !why.empty())
		GTEST_SKIP() << "the kernel has no tables of iptables: " << why;
	up(game());
	EXPECT_TRUE(warns_of_no_masquerade());
	EXPECT_EQ(trigger(lan1()).address, host1()) << "it leaves as it came";
	EXPECT_EQ(leases(), Json::array());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
}

} // namespace lab
