// The gateway's forward chain has the last word on triggered traffic: schedules, forbidden destinations and blocklists
// hold for sessions and for a host's own packets from an open port, and what they drop keeps no lease alive.
#include <cstdio>

#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/lab/policy.h"

namespace lab {

class Policy : public PolicyLab {
protected:
	std::string from_host() const { return "ip saddr " + host1() + " drop"; }
	std::string to_host() const { return "ip daddr " + host1() + " drop"; }
	/// What `send` sends keeps the lease of "game", whose timeout is 2 s, alive for longer than that; it no longer
	/// does once the forward chain drops it.
	void keeps_the_lease_until_dropped(const std::function<void()> &send);
	/// A datagram to the trigger port, which the remote answers.
	void question_and_answer();
};
LAB_STORIES(Policy);

void Policy::keeps_the_lease_until_dropped(const std::function<void()> &send) {
	ASSERT_EQ(leases("game").size(), 1U);
	ASSERT_TRUE(eventually(30s,
			       [&] {
				       send();
				       const Json rows = leases("game");
				       return rows.size() == 1 && rows.at(0).at("age_s") > 4.0;
			       }))
		<< "it does not keep the lease alive: " << leases("game");
	in_front({from_host()});
	EXPECT_TRUE(eventually(15s, [&] {
		send();
		return leases("game").empty();
	})) << "what the firewall drops keeps the lease alive";
	in_front({});
	trigger(lan1());
	EXPECT_EQ(leases("game").size(), 1U) << "it can be granted again";
	EXPECT_TRUE(reaches_udp({kWan, 6009}, lan1()));
}

void Policy::question_and_answer() {
	const Fd client = udp_socket(lan1());
	const Fd &server = udp_on(wan(), 4000);
	udp_send(client, {kRemote1, 4000}, "question");
	const auto question = udp_receive(server, patient(5s));
	ASSERT_TRUE(question) << "the trigger leaves";
	udp_send(server, question->from, "answer");
	udp_receive(client, short_wait());
}

TEST_P(Policy, WhatAHostSendsEndsWithItsBedtime) {
	up(game());
	trigger(lan1());
	const Sessions sessions = begin_sessions(lan1(), kRemote2);
	ASSERT_TRUE(run_both_ways(sessions)) << "before bedtime";
	ASSERT_TRUE(own_udp(lan1(), 6005, {kRemote3, 7777}));
	ASSERT_TRUE(own_tcp(lan1(), 6005, {kRemote3, 7777}));

	in_front({from_host()});
	EXPECT_TRUE(ends([&] { return udp_goes_out(sessions, short_wait()); }));
	EXPECT_TRUE(ends([&] { return tcp_goes_out(sessions, short_wait()); }));
	EXPECT_TRUE(udp_comes_in(sessions)) << "which no rule forbids";
	EXPECT_FALSE(own_udp(lan1(), 6005, {kRemote3, 7777}, short_wait())) << "a flow of the host's own";
	EXPECT_FALSE(own_udp(lan1(), 6006, {kRemote3, 7777}, short_wait())) << "a new one";
	EXPECT_FALSE(own_tcp(lan1(), 6006, {kRemote3, 7777}, short_wait()));

	in_front({});
	EXPECT_TRUE(run_both_ways(sessions)) << "the next morning";
	EXPECT_TRUE(own_udp(lan1(), 6005, {kRemote3, 7777}));
	EXPECT_TRUE(own_tcp(lan1(), 6007, {kRemote3, 7777}));
}

TEST_P(Policy, WhatARemoteSendsEndsWithTheHostsBedtime) {
	up(game());
	trigger(lan1());
	const Sessions sessions = begin_sessions(lan1(), kRemote2);
	ASSERT_TRUE(run_both_ways(sessions)) << "before bedtime";

	in_front({to_host()});
	EXPECT_TRUE(ends([&] { return udp_comes_in(sessions, short_wait()); }));
	EXPECT_TRUE(ends([&] { return tcp_comes_in(sessions, short_wait()); }));
	EXPECT_EQ(who_gets_udp(6001, {kRemote3, 0}), "nobody") << "a new session";
	EXPECT_EQ(who_gets_tcp(6001, {kRemote3, 0}), "nobody");

	in_front({});
	EXPECT_TRUE(run_both_ways(sessions)) << "the next morning";
	EXPECT_EQ(who_gets_udp(6001, {kRemote3, 0}), "lan1");
	EXPECT_EQ(who_gets_tcp(6001, {kRemote3, 0}), "lan1");
}

TEST_P(Policy, DroppedTriggersRefreshNothing) {
	up(game("timeout = '2s'"));
	trigger(lan1());
	keeps_the_lease_until_dropped([&] { try_trigger(lan1(), {kRemote1, 4000}, {}, 50ms); });
}

TEST_P(Policy, DroppedPacketsOfATriggersConnectionRefreshNothing) {
	up(game("timeout = '2s'"));
	const auto connection = connect_out(lan1(), {kRemote1, 4000});
	ASSERT_TRUE(connection);
	keeps_the_lease_until_dropped([&] { line_arrives(connection->first, connection->second, 50ms); });
}

TEST_P(Policy, DroppedTrafficRefreshesNothing) {
	up(game("timeout = '2s'\nrefresh = 'traffic'"));
	trigger(lan1());
	const Fd remote = udp_socket(wan(), {kRemote2, 7777});
	const Fd &host = udp_on(lan1(), 6005);
	ASSERT_TRUE(answers(host, remote, {kRemote2, 7777}));
	ASSERT_TRUE(answers(remote, host, {kWan, 6005}));
	keeps_the_lease_until_dropped([&] { answers(host, remote, {kRemote2, 7777}, 50ms); });
}

TEST_P(Policy, DroppedTrafficOfAConnectionRefreshesNothing) {
	up(game("timeout = '2s'\nrefresh = 'traffic'"));
	trigger(lan1());
	const auto connection = connect_out(lan1(), {kRemote2, 7777}, 6005);
	ASSERT_TRUE(connection);
	keeps_the_lease_until_dropped([&] { line_arrives(connection->first, connection->second, 50ms); });
}

TEST_P(Policy, DroppedTriggersGrantNothing) {
	up(game());
	in_front({from_host()});
	EXPECT_FALSE(try_trigger(lan1(), {kRemote1, 4000}, {}, short_wait()));
	EXPECT_FALSE(own_tcp(lan1(), 0, {kRemote1, 4000}, short_wait()));
	EXPECT_EQ(leases("game"), Json::array());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(who_gets_tcp(6000), "gateway");
	in_front({});
	EXPECT_TRUE(own_tcp(lan1(), 0, {kRemote1, 4000}));
	EXPECT_EQ(leases("game").size(), 1U);
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(who_gets_tcp(6000), "lan1");
}

TEST_P(Policy, AnAnswerThatIsDroppedConfirmsNothing) {
	up(game("confirm = true"));
	in_front({to_host()});
	question_and_answer();
	EXPECT_EQ(leases("game"), Json::array());
	in_front({});
	question_and_answer();
	EXPECT_EQ(leases("game").size(), 1U);
}

TEST_P(Policy, AConnectionWhoseAnswerIsDroppedConfirmsNothing) {
	up(game("confirm = true"));
	in_front({to_host()});
	EXPECT_FALSE(own_tcp(lan1(), 0, {kRemote1, 4000}, short_wait()));
	EXPECT_EQ(leases("game"), Json::array());
	in_front({});
	EXPECT_TRUE(own_tcp(lan1(), 0, {kRemote1, 4000}));
	EXPECT_EQ(leases("game").size(), 1U);
}

/// A console may talk to its game and to nobody else, from whatever port.
TEST_P(Policy, AnOpenPortDoesNotReachWhatTheForwardChainForbids) {
	up(rule("xbox", "3074/tcp+udp", "3074-3079/tcp+udp"));
	const std::string only_the_game =
		"iifname " + lan_device() + " meta l4proto { tcp, udp } th dport != 3074 drop";
	in_front({only_the_game});
	EXPECT_FALSE(own_udp(lan1(), 3074, {kRemote1, 9999}, short_wait())) << "before the trigger";
	EXPECT_FALSE(own_tcp(lan1(), 3074, {kRemote1, 9999}, short_wait()));
	EXPECT_TRUE(own_udp(lan1(), 3074, {kRemote1, 3074})) << "what is allowed";
	EXPECT_TRUE(own_tcp(lan1(), 3074, {kRemote1, 3074}));
	ASSERT_EQ(leases("xbox").size(), 1U);
	EXPECT_FALSE(own_udp(lan1(), 3074, {kRemote1, 9999}, short_wait())) << "after it";
	EXPECT_FALSE(own_tcp(lan1(), 3075, {kRemote1, 9999}, short_wait()));
	EXPECT_FALSE(own_udp(lan1(), 3076, {kRemote2, 9998}, short_wait())) << "to whom it has not talked";
	EXPECT_FALSE(own_tcp(lan1(), 3076, {kRemote2, 9998}, short_wait()));
	EXPECT_TRUE(own_udp(lan1(), 3077, {kRemote2, 3074}));
	EXPECT_TRUE(own_tcp(lan1(), 3077, {kRemote2, 3074}));
	in_front({});
	EXPECT_TRUE(own_udp(lan1(), 3074, {kRemote1, 9999})) << "without the rule";
	EXPECT_TRUE(own_tcp(lan1(), 3078, {kRemote1, 9999}));
}

/// The host's connections come from ports that its first lease has opened.
TEST_P(Policy, AWideOpenRangeDoesNotStopTheHostsOtherRules) {
	up(rule("web", "80/tcp", "32768-60999/tcp") + rule("irc", "6667/tcp", "113/tcp"));
	ASSERT_TRUE(own_tcp(lan1(), 40000, {kRemote1, 80}));
	EXPECT_EQ(leases("web").size(), 1U);
	EXPECT_EQ(who_gets_tcp(40005), "lan1") << "the range is open";
	EXPECT_EQ(leases("irc"), Json::array());
	EXPECT_EQ(who_gets_tcp(113), "gateway");
	ASSERT_TRUE(own_tcp(lan1(), 40001, {kRemote1, 6667}));
	EXPECT_EQ(leases("irc").size(), 1U);
	EXPECT_EQ(who_gets_tcp(113), "lan1");
	EXPECT_EQ(leases("web").size(), 1U);
}

TEST_P(Policy, AWideOpenRangeOfUdpDoesNotStopTheHostsOtherRules) {
	up(rule("wide", "4000/udp", "32768-60999/udp") + rule("other", "4001/udp", "113/udp"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(40005), "lan1") << "the range is open";
	const Fd remote = start_talk(lan1(), {kRemote1, 4001}, 40000);
	EXPECT_TRUE(answers(udp_on(lan1(), 40000), remote, {kRemote1, 4001}));
	EXPECT_EQ(leases("other"), Json::array()) << "an answer in a remote's session is no trigger";
	EXPECT_EQ(who_gets_udp(113), "gateway");
	const Fd another = udp_socket(wan(), {kRemote2, 4001});
	EXPECT_TRUE(answers(udp_on(lan1(), 40000), another, {kRemote2, 4001})) << "from the port of that session";
	EXPECT_EQ(leases("other").size(), 1U);
	EXPECT_EQ(who_gets_udp(113), "lan1");
}

/// As fail2ban or a threat feed does it: an element of a set, under running sessions.
TEST_P(Policy, ABlocklistHoldsForRunningSessions) {
	up(game());
	trigger(lan1());
	const Sessions bad = begin_sessions(lan1(), kRemote2), good = begin_sessions(lan1(), kRemote3);
	nft("add set inet lab bad { type ipv4_addr; }\n");
	in_front({"ip saddr @bad drop"});
	ASSERT_TRUE(run_both_ways(bad)) << "nobody is on the list";
	ASSERT_TRUE(run_both_ways(good));

	nft("add element inet lab bad { " + kRemote2 + " }\n");
	EXPECT_TRUE(ends([&] { return udp_comes_in(bad, short_wait()); }));
	EXPECT_TRUE(ends([&] { return tcp_comes_in(bad, short_wait()); }));
	EXPECT_EQ(who_gets_udp(6001, {kRemote2, 0}), "nobody") << "a new session";
	EXPECT_EQ(who_gets_tcp(6001, {kRemote2, 0}), "nobody");
	EXPECT_TRUE(run_both_ways(good)) << "who is not on the list";
	EXPECT_EQ(who_gets_udp(6001, {kRemote3, 0}), "lan1");
	EXPECT_EQ(who_gets_tcp(6001, {kRemote3, 0}), "lan1");

	nft("delete element inet lab bad { " + kRemote2 + " }\n");
	EXPECT_TRUE(run_both_ways(bad)) << "off the list again";
	EXPECT_EQ(who_gets_udp(6001, {kRemote2, 0}), "lan1");
}

/// A classful scheduler at the WAN or the LAN goes by it, as for every packet that the kernel forwards.
TEST_P(Policy, AClassfulSchedulerSeesThePriorityOfASessionsPackets) {
	constexpr unsigned kPackets = 5;
	start_afresh();
	for (const std::string &device : {std::string("wan0"), lan_device()}) {
		tc({"qdisc", "replace", "dev", device, "root", "handle", "1:", "htb", "default", "1"});
		for (const char *id : {"1:1", "1:2"})
			tc({"class", "add", "dev", device, "parent", "1:", "classid", id, "htb", "rate", "1gbit"});
	}
	const auto seen = [&](const std::string &device, const std::string &id) {
		const std::string shown = must(gw(), {"tc", "-s", "class", "show", "dev", device});
		unsigned bytes = 0, packets = 0;
		const std::size_t at = shown.find(" Sent ", shown.find("class htb " + id + " "));
		if (at == std::string::npos || std::sscanf(&shown[at], " Sent %u bytes %u pkt", &bytes, &packets) != 2)
			ADD_FAILURE() << "no class " << id << " in " << shown;
		return packets;
	};
	up(game());
	trigger(lan1());
	const Sessions sessions = begin_sessions(lan1(), kRemote2);
	const auto of_class = [&](const std::string &id) {
		const unsigned wan_before = seen("wan0", id), lan_before = seen(lan_device(), id);
		for (unsigned i = 0; i < kPackets; i++)
			EXPECT_TRUE(run_both_ways(sessions));
		return std::pair(seen("wan0", id) - wan_before, seen(lan_device(), id) - lan_before);
	};
	ASSERT_TRUE(run_both_ways(sessions));
	EXPECT_EQ(of_class("1:2"), std::pair(0U, 0U));
	in_front({"meta priority set 1:2"});
	let_permissions_end(); // they repeat what was before
	const auto [by_wan, by_lan] = of_class("1:2");
	EXPECT_GE(by_wan, 2 * kPackets) << "UDP and TCP";
	EXPECT_GE(by_lan, 2 * kPackets);
	EXPECT_GT(counter("accelerated"), 0U) << "and some of them went by the fast path";
}

} // namespace lab
