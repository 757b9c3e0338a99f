// Changing the rules of a living gateway: apply, rule …, export; under traffic, and with as many rules as there can be.
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "include/ptrig/abi.h"
#include "loader/map.h"
#include "tests/lab/flow.h"
#include "tests/lab/lab.h"

namespace lab {

class Apply : public Lab {
protected:
	std::string read(const std::string &path) const;
	/// Rules that let lan1 trigger no more are applied, by a process that is killed at the switch; whether it was,
	/// and lan1's lease is still there for somebody else to end.
	bool kill_at_switch(const std::string &rules);
};
LAB_STORIES(Apply);

bool Apply::kill_at_switch(const std::string &rules) {
	auto state = ptrig::MappedArray<ptrig_state>::open(kPins, "pt_state");
	const std::atomic_ref<std::uint32_t> active((*state)[0].active);
	const std::uint32_t before = active;
	write("/run/fewer.toml", config(rules));
	Process writer(gw(), {PTRIG_BIN, "apply", "/run/fewer.toml"});
	const auto deadline = Clock::now() + patient(20s);
	while (active == before && Clock::now() < deadline)
		continue;
	writer.signal(SIGKILL);
	EXPECT_NE(active, before) << writer.err();
	const auto ended = writer.wait(10s);
	return ended && ended->status == 128 + SIGKILL && (*state)[0].settled != (*state)[0].generation;
}

std::string Apply::read(const std::string &path) const {
	std::ostringstream text;
	text << std::ifstream(path).rdbuf();
	return text.str();
}

namespace {

/// PTRIG_PORT_* bits of a port.
unsigned port_bits(unsigned proto_index, unsigned port) {
	auto bits = ptrig::MappedArray<std::uint64_t>::open(kPins, "pt_port_bits");
	return (*bits)[PTRIG_PORT_BITS_WORD(proto_index, port)] >> PTRIG_PORT_BITS_SHIFT(port) & 0xff;
}

std::string numbered_rules(unsigned count) {
	std::string rules;
	rules.reserve(count * 100);
	for (unsigned i = 0; i < count; i++) {
		const std::string n = std::to_string(i);
		const std::string proto = i < 32768 ? "tcp" : "udp";
		const std::string trigger = std::to_string(1024 + i % 32768),
				  open = std::to_string(32768 + i % 32768 - (i % 32768 == 32767 ? 1 : 0));
		rules += "[[rule]]\nname = 'r" + n + "'\ntrigger = ['" + trigger + "/" + proto + "']\nopen = ['" +
			 open + "/" + proto + "']\ntimeout = '60s'\n";
	}
	return rules;
}

} // namespace

/// What a packet asks of its ports: only what the rules in use and sessions say.
TEST_P(Apply, PortsOfARuleThatHasGoneAreOrdinary) {
	constexpr unsigned kTcp = PTRIG_PROTO_INDEX_TCP, kUdp = PTRIG_PROTO_INDEX_UDP;
	up(game() + rule("other", "4001/udp", "6100-6101/udp"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	EXPECT_EQ(port_bits(kUdp, 4000), PTRIG_PORT_TRIGGERS);
	EXPECT_EQ(port_bits(kUdp, 6100), PTRIG_PORT_OPENS | PTRIG_PORT_HOSTS);
	EXPECT_EQ(port_bits(kTcp, 6100), 0U);
	EXPECT_EQ(port_bits(kUdp, 6102), 0U);
	for (const char *trigger : {"4002/udp", "4003/udp"}) { // either generation is the one that goes
		apply(game() + rule("another", trigger, "6200=7200/tcp"));
		EXPECT_EQ(port_bits(kUdp, 4001) | port_bits(kUdp, 6100) | port_bits(kUdp, 6101), 0U);
		EXPECT_EQ(port_bits(kTcp, 6200), PTRIG_PORT_OPENS);
		EXPECT_EQ(port_bits(kTcp, 7200), PTRIG_PORT_HOSTS);
		EXPECT_EQ(port_bits(kUdp, 6000),
			  PTRIG_PORT_OPENS | PTRIG_PORT_HOSTS | PTRIG_PORT_WAN_USED | PTRIG_PORT_LAN_USED);
	}
	EXPECT_EQ(port_bits(kUdp, 4002), 0U);
	EXPECT_EQ(port_bits(kUdp, 4003), PTRIG_PORT_TRIGGERS);
	apply(rule("last", "4004/udp", "6300/udp"));
	EXPECT_EQ(port_bits(kUdp, 6000), PTRIG_PORT_WAN_USED | PTRIG_PORT_LAN_USED) << "the session lives on";
	EXPECT_EQ(ptrig({"session", "close", "--all"}).status, 0);
	EXPECT_EQ(port_bits(kUdp, 6000), 0U);
}

TEST_P(Apply, UnderFiftyThousandPacketsASecondLosesNone) {
	if (is_slow())
		GTEST_SKIP() << "needs a machine that carries 50,000 packets a second";
	up(game() + rule("other", "4001/udp", "6100/udp"));
	trigger(lan1());
	trigger(lan1(), {kRemote1, 4001});
	const Fd remote = start_talk(lan1(), {kRemote2, 5555}); // established: answered once
	const auto since = Clock::now();
	Flow flow(remote, {kWan, 6000}, udp_on(lan1(), 6000), 50000);
	int applied = 0;
	EXPECT_TRUE(eventually(20s, [&] {
		apply(game() +
		      rule("other", "4001/udp", "6100/udp", "timeout = '" + std::to_string(61 + applied) + "s'") +
		      rule("new" + std::to_string(applied), "4002/udp", "6200/udp"));
		applied++;
		return flow.sent() >= 100000;
	}));
	const double seconds = std::chrono::duration<double>(Clock::now() - since).count();
	const auto [sent, lost] = flow.finish();
	EXPECT_EQ(lost, 0U) << "of " << sent << " while applying " << applied << " times";
	std::cout << static_cast<unsigned>(sent / seconds) << " packets/s, applied " << applied << " times\n";
	EXPECT_GE(applied, 5);
	EXPECT_EQ(leases("game").size(), 1U);
	EXPECT_EQ(leases("other").size(), 1U);
	EXPECT_EQ(who_gets_udp(6100), "lan1");
}

TEST_P(Apply, NewSessionsOfUnchangedRulesAreNeverRefused) {
	up(game());
	trigger(lan1());
	for (int i = 0; i < 10; i++) {
		apply(game() + rule("n" + std::to_string(i), "4002/udp", "6200/udp"));
		EXPECT_EQ(who_gets_udp(6000), "lan1") << "round " << i;
		EXPECT_EQ(who_gets_tcp(6001), "lan1") << "round " << i;
	}
	EXPECT_EQ(leases("game").size(), 1U);
	EXPECT_EQ(leases("game").at(0).at("host"), host1());
}

TEST_P(Apply, InvalidFileChangesNothing) {
	up(game());
	trigger(lan1());
	const std::string before = ptrig({"export"}).out;
	for (const std::string bad :
	     {"[[rule]]\nname = 'x'\n", "[[rule]\n", "[[rule]]\nname = 'x'\ntrigger = ['0/tcp']\nopen = ['5/tcp']\n",
	      "[[rule]]\nname = 'x'\ntriger = ['1/tcp']\nopen = ['5/tcp']\n",
	      "[[rule]]\nname = 'x'\ntrigger = ['1:2/tcp']\nopen = ['5/tcp']\n"}) {
		write("/run/bad.toml", config(bad));
		const Output output = ptrig({"apply", "/run/bad.toml"});
		EXPECT_EQ(output.status, 2) << bad << output.err;
		EXPECT_EQ(output.out, "");
		EXPECT_EQ(output.err.rfind("ptrig: ", 0), 0U) << output.err;
	}
	EXPECT_EQ(ptrig({"export"}).out, before);
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Apply, RuleThatIsGoneLosesItsLease) {
	up(game() + rule("other", "4001/udp", "6100/udp"));
	trigger(lan1());
	trigger(lan1(), {kRemote1, 4001});
	const Fd kept = start_talk(lan1(), {kRemote1, 0}, 6100);
	apply(game());
	EXPECT_EQ(who_gets_udp(6100), "gateway");
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(leases().size(), 1U);
	// A rule of the same name later is another one and inherits nothing.
	apply(game() + rule("other", "4001/udp", "6100/udp"));
	EXPECT_EQ(who_gets_udp(6100), "gateway");
}

TEST_P(Apply, OtherOpenPortsEndTheLease) {
	up(game());
	trigger(lan1());
	apply(rule("game", "4000/tcp+udp", "6000-6020/tcp+udp"));
	EXPECT_EQ(leases(), Json::array());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6020), "lan1");
}

TEST_P(Apply, ChangedPoliciesHoldForTheLivingLease) {
	up(game());
	trigger(lan1());
	EXPECT_EQ(ptrig({"rule", "set", "game", "--timeout", "1s"}).status, 0);
	expect_closed_between(Clock::now(), 0ms, 10s);
	trigger(lan1());
	EXPECT_EQ(ptrig({"rule", "set", "game", "--timeout", "60s"}).status, 0);
	EXPECT_EQ(ptrig({"rule", "set", "game", "--sources", host2() + "/32"}).status, 0);
	EXPECT_EQ(who_gets_udp(6000), "gateway") << "the host is no longer allowed";
	EXPECT_EQ(leases(), Json::array());
}

TEST_P(Apply, WhatAKilledOneWouldHaveEndedEnds) {
	const std::string others_only = game("sources = ['192.168.77.99']");
	for (const bool by_daemon : {false, true}) {
		bool killed = false;
		for (int i = 0; i < 20 && !killed; i++) {
			if (i == 0)
				up(game());
			else
				apply(game());
			trigger(lan1());
			killed = kill_at_switch(others_only);
		}
		ASSERT_TRUE(killed) << "it was never killed between the two";
		EXPECT_EQ(leases("game").size(), 1U);
		if (by_daemon) {
			const Process &daemon = background(gw(), {PTRIG_BIN, "run"});
			EXPECT_TRUE(eventually(10s, [&] { return leases("game").empty(); })) << daemon.err();
			EXPECT_NE(daemon.err().find("1 leases ended that the rules do not allow any more"),
				  std::string::npos)
				<< daemon.err();
		} else {
			apply(others_only);
		}
		EXPECT_EQ(leases("game"), Json::array());
		EXPECT_EQ(who_gets_udp(6000), "gateway");
	}
}

TEST_P(Apply, DryRunOnlyPrints) {
	up(game());
	const std::string before = ptrig({"export"}).out;
	const Output output =
		ptrig({"apply", "-n", "-"}, config(game("timeout = '61s'") + rule("other", "4001/udp", "6100/udp")));
	EXPECT_EQ(output.status, 0) << output.err;
	EXPECT_NE(output.out.find("other"), std::string::npos) << output.out;
	EXPECT_NE(output.out.find("timeout"), std::string::npos) << output.out;
	EXPECT_EQ(ptrig({"export"}).out, before);
}

TEST_P(Apply, ExportAppliesWithoutADifference) {
	up(rule("all", "21/tcp', '4000-4010/tcp+udp", "6000-6010=7000/udp', '113/tcp",
		"description = 'every \"key\"'\ntrigger_remotes = ['203.0.113.0/24']\n"
		"sources = ['192.168.77.0/24', '02:00:00:00:77:11']\nremotes = ['203.0.113.0/24', '198.51.100.7/32']\n"
		"timeout = '2h4m'\nrefresh = 'traffic'\nconflict = 'hold'\nyield_after = '90s'\nclose = 'connection'\n"
		"confirm = true\nmax_lifetime = '1d'\non_close = 'kill'\nsession_limit = 77\ncooldown = '1500ms'\nlog "
		"= false\n"
		"enabled = false\n") +
		   rule("second", "5000/udp", "5001/udp",
			"remotes = 'contacted'\nsources = 'routed'\nconflict = 'takeover'"),
	   "reserved = ['443/tcp']\ndeny_remotes = ['192.0.2.0/24']",
	   "[timeouts]\nudp = '3m'\n[limits]\nleases_per_host = 5\n");
	const Output exported = ptrig({"export"});
	ASSERT_EQ(exported.status, 0) << exported.err;
	const Output plan = ptrig({"apply", "-n", "-j", "-"}, exported.out);
	ASSERT_EQ(plan.status, 0) << plan.err;
	EXPECT_EQ(Json::parse(plan.out).at("changes"), Json::array());
	EXPECT_EQ(ptrig({"apply", "-"}, exported.out).status, 0);
	EXPECT_EQ(ptrig({"export"}).out, exported.out);
	const Json row = rule_row("all");
	for (const char *key : {"name",     "enabled",       "description", "trigger", "trigger_remotes",
				"sources",  "open",          "remotes",     "timeout", "refresh",
				"conflict", "yield_after",   "close",       "confirm", "max_lifetime",
				"on_close", "session_limit", "cooldown",    "log",     "timeout_s",
				"leases",   "triggers_seen", "granted",     "refused", "last_trigger"})
		EXPECT_TRUE(row.contains(key)) << key;
	EXPECT_EQ(row.at("remotes"), Json({"203.0.113.0/24", "198.51.100.7"}));
	EXPECT_EQ(row.at("last_trigger"), nullptr);
	EXPECT_EQ(row.at("session_limit"), 77);
	EXPECT_EQ(row.at("cooldown_s"), 1.5);
	EXPECT_EQ(row.at("description"), "every \"key\"");
}

TEST_P(Apply, RuleAddSetRemove) {
	up("");
	const Output added = ptrig({"rule", "add", "irc", "--trigger", "6660-6669/tcp", "--open",
				    "113/tcp,6000-6010=7000/udp", "--timeout", "90s", "--description", "ident"});
	EXPECT_EQ(added.status, 0) << added.err;
	EXPECT_NE((added.out + added.err).find("WAN 6000-6010 → host 7000-7010 udp"), std::string::npos)
		<< added.out << added.err;
	EXPECT_NE(added.err.find("--save"), std::string::npos)
		<< "must say that the change is live only: " << added.err;
	EXPECT_EQ(rule_row("irc").at("timeout_s"), 90);
	EXPECT_EQ(ptrig({"rule", "add", "irc", "--trigger", "1/tcp", "--open", "2/tcp"}).status, 2)
		<< "a second of that name";
	const Fd &server = tcp_on(wan(), 6667);
	ASSERT_TRUE(tcp_connect(lan1(), {kRemote1, 6667}));
	ASSERT_TRUE(tcp_accept(server));
	EXPECT_EQ(who_gets_udp(6001, {kRemote1, 0}, 7001), "lan1");
	EXPECT_EQ(ptrig({"rule", "set", "irc", "--timeout", "2m", "--conflict", "takeover"}).status, 0);
	EXPECT_EQ(rule_row("irc").at("timeout_s"), 120);
	EXPECT_EQ(rule_row("irc").at("conflict"), "takeover");
	EXPECT_EQ(leases("irc").size(), 1U) << "set keeps the lease";
	EXPECT_EQ(json({"rule", "show", "irc"}).is_null(), false);
	EXPECT_EQ(ptrig({"rule", "remove", "irc"}).status, 0);
	EXPECT_EQ(json({"rule", "list"}), Json::array());
	EXPECT_EQ(who_gets_udp(6001, {kRemote1, 0}, 7001), "gateway");
	EXPECT_EQ(ptrig({"rule", "remove", "irc"}).status, 2) << "there is none";
}

TEST_P(Apply, SavedRulesSurviveDownAndUp) {
	up(game());
	EXPECT_EQ(ptrig({"rule", "add", "saved", "--trigger", "4001/udp", "--open", "6100/udp", "--save"}).status, 0);
	EXPECT_TRUE(std::filesystem::exists("/etc/ptrig/rules.d/saved.toml"));
	EXPECT_EQ(ptrig({"rule", "add", "live", "--trigger", "4002/udp", "--open", "6200/udp"}).status, 0);
	const auto warned = [&] {
		const Json status = json({"status"});
		for (const Json &warning : status.at("warnings"))
			if (warning.get<std::string>().find("differ") != std::string::npos)
				return true;
		return false;
	};
	EXPECT_TRUE(warned()) << "live rules differ from the config: " << json({"status"}).at("warnings");
	EXPECT_EQ(ptrig({"apply"}).status, 0);
	EXPECT_FALSE(warned()) << json({"status"}).at("warnings");
	EXPECT_EQ(json({"rule", "list"}).size(), 2U) << "the live one is gone";
	EXPECT_EQ(ptrig({"down"}).status, 0);
	EXPECT_EQ(ptrig({"up"}).status, 0);
	EXPECT_EQ(rule_row("saved").at("open"), Json({"6100/udp"}));
	EXPECT_EQ(ptrig({"rule", "remove", "saved", "--save"}).status, 0);
	EXPECT_FALSE(std::filesystem::exists("/etc/ptrig/rules.d/saved.toml"));
}

TEST_P(Apply, SixtyFiveThousandRules) {
	up("", "max_rules = 65536");
	write(kConfig, config(numbered_rules(65536), "max_rules = 65536"));
	const auto since = Clock::now();
	const Output output = ptrig({"apply"}, "", 60s);
	const double seconds = std::chrono::duration<double>(Clock::now() - since).count();
	EXPECT_EQ(output.status, 0) << output.err;
	RecordProperty("seconds", std::to_string(seconds));
	std::cout << "apply of 65,536 rules: " << seconds << " s, processor " << output.cpu_s << " s\n";
	trigger(lan1(), {kRemote1, 1024 + 4000}); // r36768 and no other: udp, numbers from 32768
	EXPECT_EQ(who_gets_udp(32768 + 4000), "lan1");
	EXPECT_EQ(leases().at(0).at("rule"), "r36768");
	EXPECT_EQ(json({"status"}).at("rules"), 65536);
}

TEST_P(Apply, SeventeenthRuleOnAPortIsRefusedByName) {
	up("");
	std::string rules;
	for (int i = 0; i < 17; i++)
		rules += rule("r" + std::to_string(i), "4000/udp", std::to_string(6000 + i) + "/udp");
	const Output output = ptrig({"apply", "-"}, config(rules));
	EXPECT_EQ(output.status, 2);
	EXPECT_NE(output.err.find("r16"), std::string::npos) << output.err;
	EXPECT_EQ(json({"rule", "list"}), Json::array());
}

} // namespace lab
