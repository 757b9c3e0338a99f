// The commands' other promises: exit statuses, what runs twice, status and its warnings, monitors, closing.
#include "tests/lab/lab.h"

#include <csignal>
#include <filesystem>

namespace lab {

class Cli : public Lab {
protected:
	bool warned(const std::string &about) const;
};
LAB_STORIES(Cli);

bool Cli::warned(const std::string &about) const {
	const Json status = json({"status"});
	for (const Json &warning : status.at("warnings"))
		if (warning.get<std::string>().find(about) != std::string::npos)
			return true;
	return false;
}

TEST_P(Cli, StatusTellsInterfacesTotalsAndLimits) {
	start_afresh();
	up(game());
	trigger(lan1());
	start_talk(lan1());
	const Json status = json({"status"});
	EXPECT_FALSE(status.at("version").get<std::string>().empty());
	EXPECT_EQ(status.at("daemon"), nullptr);
	EXPECT_EQ(status.at("config"), kConfig);
	EXPECT_EQ(status.at("pin_dir"), kPins);
	ASSERT_EQ(status.at("wan").size(), 1U);
	EXPECT_EQ(status.at("wan").at(0).at("name"), "wan0");
	EXPECT_EQ(status.at("wan").at(0).at("addresses").at(0).get<std::string>().rfind(kWan, 0), 0U);
	EXPECT_GT(status.at("wan").at(0).at("ifindex"), 0);
	EXPECT_EQ(status.at("lan").size(), xdp() ? 2U : 1U);
	EXPECT_EQ(status.at("rules"), 1);
	EXPECT_EQ(status.at("leases"), 1);
	EXPECT_EQ(status.at("sessions"), 1);
	for (const char *limit : {"sessions", "leases", "rules"}) {
		EXPECT_EQ(status.at("limits").at(limit).at("used"), 1) << limit;
		EXPECT_GE(status.at("limits").at(limit).at("max"), 1024) << limit;
	}
	EXPECT_EQ(status.at("counters").at("granted"), 1);
	EXPECT_EQ(status.at("counters").at("opened"), 1);
	// a frame may come between them, and be counted
	EXPECT_TRUE(eventually(5s, [&] { return ptrig({}).out == ptrig({"status"}).out; })) << "bare ptrig is status";
	EXPECT_EQ(Json::parse(ptrig({"-j", "lease", "list"}).out).size(), 1U) << "-j before the object";
}

TEST_P(Cli, DaemonIsShownAndSecondOneRefused) {
	Process &daemon = run_daemon(game());
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid());
	const Output second = ptrig({"run"}, "", 5s);
	EXPECT_EQ(second.status, 1) << second.err;
	EXPECT_NE(second.err, "");
	const Output down = ptrig({"down"});
	EXPECT_EQ(down.status, 1) << "down while a daemon runs: " << down.err;
	trigger(lan1());
	daemon.signal(SIGTERM);
	const auto ended = daemon.wait(5s);
	ASSERT_TRUE(ended);
	EXPECT_EQ(ended->status, 0) << ended->err;
	EXPECT_EQ(who_gets_udp(6000), "lan1") << "the datapath stays";
	EXPECT_EQ(json({"status"}).at("daemon"), nullptr);
	run_daemon(); // and takes over what is up
	EXPECT_EQ(leases("game").size(), 1U);
}

TEST_P(Cli, DaemonReloadsOnSighup) {
	Process &daemon = run_daemon(game());
	write(kConfig, config(game() + rule("other", "4001/udp", "6100/udp")));
	daemon.signal(SIGHUP);
	EXPECT_TRUE(eventually(15s, [&] { return json({"rule", "list"}).size() == 2; }));
	write(kConfig, "[[rule]\n");
	daemon.signal(SIGHUP);
	EXPECT_TRUE(eventually(15s, [&] { return daemon.err().find("ptrig.toml:1") != std::string::npos; }))
		<< daemon.err();
	EXPECT_EQ(json({"rule", "list"}).size(), 2U);
}

TEST_P(Cli, UpAndDownTwice) {
	up(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	const Output again = ptrig({"up"});
	EXPECT_EQ(again.status, 0) << again.err;
	EXPECT_EQ(leases("game").size(), 1U) << "adopted, not started anew";
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
	EXPECT_EQ(ptrig({"down"}).status, 0);
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(ptrig({"down"}).status, 0) << "succeeds when there is nothing";
	EXPECT_FALSE(std::filesystem::exists(kPins));
	EXPECT_EQ(must(gw(), {"tc", "qdisc", "show", "dev", "wan0"}).find("pt_"), std::string::npos);
	EXPECT_EQ(must(gw(), {"ip", "-d", "link", "show"}).find("prog/xdp"), std::string::npos) << "XDP is left";
	EXPECT_EQ(trigger(lan1()).address, kWan) << "the masquerade goes on";
	EXPECT_EQ(ptrig({"up"}).status, 0);
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Cli, ExitStatuses) {
	start_afresh();
	for (const Words &words : {Words{"status"},
				   {"lease", "list"},
				   {"session", "list"},
				   {"rule", "list"},
				   {"export"},
				   {"rule", "add", "x", "--trigger", "1/tcp", "--open", "2/tcp"},
				   {"lease", "close", "x"},
				   {"session", "close", "--all"}})
		EXPECT_EQ(ptrig(words).status, 3) << words.front() << ": there is no gateway";
	up(game());
	for (const Words &words : {Words{"nonsense"},
				   {"lease", "nonsense"},
				   {"lease", "list", "--nonsense"},
				   {"lease", "list", "--port", "0/tcp"},
				   {"lease", "list", "--host", "nowhere"},
				   {"rule", "add", "x", "--trigger", "70000/tcp", "--open", "2/tcp"},
				   {"rule", "set", "game", "--timeout", "5"},
				   {"rule", "show", "nobody"},
				   {"apply", "/run/no-such-file"},
				   {"check", "/run/no-such-file"},
				   {"session", "close"}}) {
		const Output output = ptrig(words);
		EXPECT_EQ(output.status, 2) << words.front() << " " << words.back() << ": " << output.err;
		EXPECT_NE(output.err, "") << words.front() << " " << words.back();
	}
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 1) << "nothing matched";
	EXPECT_EQ(ptrig({"session", "close", "--all"}).status, 1) << "nothing matched";
	EXPECT_EQ(ptrig({"monitor"}, "", 5s).status, 1) << "no daemon";
	EXPECT_EQ(ptrig({"--help"}).status, 0);
	EXPECT_EQ(ptrig({"--version"}).status, 0);
	EXPECT_EQ(ptrig({"--pin-dir", "/sys/fs/bpf/elsewhere", "status"}).status, 3);
	const std::string for_all = "/run/ptrig-for-all"; // it may have been built where only root may look
	std::filesystem::copy_file(PTRIG_BIN, for_all, std::filesystem::copy_options::overwrite_existing);
	EXPECT_EQ(run(gw(), {for_all, "status"}, "", 5s, 65534).status, 1) << "no permission is not 3";
}

TEST_P(Cli, WrongInterfacesAreAnsweredWithTheOnesThatExist) {
	start_afresh();
	write(kConfig, config(game(), "lan = ['nosuch0']"));
	const Output output = ptrig({"up"});
	EXPECT_EQ(output.status, 0) << "it may come yet: " << output.err;
	const std::string said = output.out + output.err;
	EXPECT_NE(said.find("nosuch0 does not exist yet"), std::string::npos) << said;
	EXPECT_NE(said.find("lan1if"), std::string::npos) << said;
	EXPECT_EQ(json({"status"}).at("lan").at(0).at("datapath"), "waiting");
	EXPECT_TRUE(warned("nosuch0: waiting for this interface (there are:")) << json({"status"}).at("warnings");
}

TEST_P(Cli, WanAuto) {
	up(game(), "wan = 'auto'");
	EXPECT_EQ(json({"status"}).at("wan").at(0).at("name"), "wan0");
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Cli, AnotherPinDirectoryOfItsOwn) {
	start_afresh();
	write(kConfig, config(game()));
	ASSERT_EQ(ptrig({"--pin-dir", "/sys/fs/bpf/other", "up"}).status, 0);
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(ptrig({"status"}).status, 3);
	const Output foreign = run(lan1(), {PTRIG_BIN, "--pin-dir", "/sys/fs/bpf/other", "status"});
	EXPECT_EQ(foreign.status, 1) << "another namespace's gateway: " << foreign.err;
	EXPECT_EQ(ptrig({"--pin-dir", "/sys/fs/bpf/other", "down"}).status, 0);
	const Output plain = ptrig({"--pin-dir", "/run/not-bpf", "up"});
	EXPECT_EQ(plain.status, 1);
	EXPECT_NE(plain.err.find("bpf"), std::string::npos) << plain.err;
}

TEST_P(Cli, ASecondGatewayOnTheSameInterfacesIsRefused) {
	up(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	const auto filters = [&] {
		std::string text;
		for (const std::string &device : {std::string("wan0"), lan_device()})
			for (const char *side : {"ingress", "egress"})
				text += must(gw(), {"tc", "filter", "show", "dev", device, side});
		return text + must(gw(), {"ip", "-d", "link", "show", "wan0"});
	};
	const std::string before = filters();
	const Words second = {"--pin-dir", "/sys/fs/bpf/other"};
	const Output refused = ptrig({second[0], second[1], "up"});
	EXPECT_EQ(refused.status, 1) << refused.out << refused.err;
	EXPECT_NE(refused.err.find("belongs to the gateway at " + kPins), std::string::npos) << refused.err;
	EXPECT_EQ(std::count(refused.err.begin(), refused.err.end(), '\n'), 1) << refused.err;
	EXPECT_EQ(filters(), before);
	EXPECT_EQ(ptrig({second[0], second[1], "status"}).status, 3) << "nothing half up";
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
	EXPECT_EQ(who_gets_udp(6001), "lan1");
	EXPECT_EQ(ptrig({"up"}).status, 0) << "its own it takes over as ever";
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
}

TEST_P(Cli, FiltersOfAGatewayThatIsGoneAreTakenOver) {
	start_afresh();
	write(kConfig, config(game()));
	ASSERT_EQ(ptrig({"--pin-dir", "/sys/fs/bpf/other", "up"}).status, 0);
	std::filesystem::remove_all("/sys/fs/bpf/other"); // its XDP links go with it, its filters stay
	const Output taken = ptrig({"up"});
	EXPECT_EQ(taken.status, 0) << taken.err;
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	must(gw(), {PTRIG_BIN, "down"});
}

TEST_P(Cli, LeaseCloseTellsAndKills) {
	up(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	const Output closed = ptrig({"lease", "close", "game", "-j"});
	EXPECT_EQ(closed.status, 0) << closed.err;
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000))) << "the session goes on";
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 1) << "nothing left to close";
	trigger(lan1());
	const Fd second = start_talk(lan1());
	EXPECT_EQ(ptrig({"lease", "close", "game", "--host", host2()}).status, 1);
	EXPECT_EQ(ptrig({"lease", "close", "game", "--host", host1(), "--kill"}).status, 0);
	EXPECT_FALSE(talk(second, udp_on(lan1(), 6000), {kWan, 6000}, 200ms)) << "--kill cuts it";
}

TEST_P(Cli, LeaseCloseTakesAHostARemoteOrAll) {
	up(game() + rule("second", "4001/udp", "6100/udp"));
	const auto both = [&] {
		trigger(lan1());
		trigger(lan1(), {kRemote1, 4001});
	};
	both();
	EXPECT_EQ(ptrig({"lease", "close"}).status, 2) << "which?";
	EXPECT_EQ(ptrig({"lease", "close", "game", "--all"}).status, 2);
	EXPECT_EQ(leases().size(), 2U);
	EXPECT_EQ(ptrig({"lease", "close", "--host", host2()}).status, 1);
	EXPECT_EQ(ptrig({"lease", "close", "--host", host1()}).status, 0);
	EXPECT_EQ(leases(), Json::array());
	both();
	EXPECT_EQ(ptrig({"lease", "close", "--all"}).status, 0);
	EXPECT_EQ(leases(), Json::array());
	EXPECT_EQ(ptrig({"lease", "close", "--all"}).status, 1) << "nothing left to close";
}

TEST_P(Cli, SessionClose) {
	up(game());
	trigger(lan1());
	const Fd first = start_talk(lan1(), {kRemote1, 0}), second = start_talk(lan1(), {kRemote2, 0});
	EXPECT_EQ(ptrig({"session", "close", "--remote", kRemote3}).status, 1);
	EXPECT_EQ(ptrig({"session", "close", "--remote", kRemote1}).status, 0);
	EXPECT_EQ(json({"session", "list"}).size(), 1U);
	EXPECT_TRUE(talk(second, udp_on(lan1(), 6000)));
	EXPECT_TRUE(talk(first, udp_on(lan1(), 6000))) << "the lease lives: it is made anew";
	EXPECT_EQ(ptrig({"session", "close", "--rule", "game", "--host", host1()}).status, 0);
	EXPECT_EQ(json({"session", "list"}), Json::array());
}

TEST_P(Cli, EveryMonitorSeesEveryEvent) {
	run_daemon(game("timeout = '1s'\nconflict = 'hold'") +
		   rule("take", "4001/udp", "6100/udp", "conflict = 'takeover'"));
	const Process &first = start_monitor(), &second = start_monitor();
	trigger(lan1());
	trigger(lan2());
	trigger(lan1(), {kRemote1, 4001});
	trigger(lan2(), {kRemote1, 4001});
	const auto has = [&](const Process &monitor, const std::string &event, const std::string &rule,
			     const std::string &host, const std::string &reason) {
		for (const Json &e : events(monitor))
			if (e.at("event") == event && e.at("rule") == rule && e.at("host") == host &&
			    e.at("reason") == reason)
				return e.contains("time") && e.contains("remote");
		return false;
	};
	for (const Process *monitor : {&first, &second})
		EXPECT_TRUE(eventually(15s, [&] {
			return has(*monitor, "granted", "game", host1(), "granted") &&
			       has(*monitor, "refused", "game", host2(), "held") &&
			       has(*monitor, "granted", "take", host1(), "granted") &&
			       has(*monitor, "takeover", "take", host2(), "taken_over") &&
			       has(*monitor, "ended", "game", host1(), "expired");
		})) << monitor->out();
	EXPECT_EQ(events(first), events(second));
}

TEST_P(Cli, EventsThatADaemonMissedAreCounted) {
	// More than the ring holds, and of no rule more than are told in a second.
	constexpr int kPorts = 5, kRulesAPort = 16, kRemotes = 62, kLeases = kPorts * kRulesAPort * kRemotes;
	std::string per_remote;
	for (int i = 0; i < kPorts * kRulesAPort; i++)
		per_remote += rule("r" + std::to_string(i), std::to_string(4000 + i % kPorts) + "/udp",
				   std::to_string(6000 + i) + "/udp", "timeout = '10m'\nremotes = 'contacted'");
	const std::string limits = "[limits]\nleases_per_host = 0\n";
	Process &daemon = run_daemon(per_remote, "max_leases = 8192", limits);
	const Process &monitor = start_monitor();
	daemon.signal(SIGSTOP);
	const Fd host = udp_socket(lan1(), {host1(), 0});
	for (int i = 0; i < kRemotes * kPorts; i++)
		udp_send(host,
			 {"198.18.0." + std::to_string(1 + i / kPorts), static_cast<std::uint16_t>(4000 + i % kPorts)},
			 "x");
	EXPECT_TRUE(eventually(15s, [&] { return leases().size() == kLeases; })) << leases().size();
	const Json usage = Json::parse(must(gw(), {"bpftool", "-j", "map", "dump", "pinned", kPins + "/pt_usage"}));
	EXPECT_GT(usage.at(0).at("formatted").at("value").at("events_lost"), 0) << usage;
	daemon.signal(SIGCONT);
	std::uint64_t lost = 0, told = 0;
	const auto all_accounted = [&] {
		lost = told = 0;
		for (const Json &e : events(monitor)) {
			if (e.at("event") == "lost")
				lost += e.at("count").get<std::uint64_t>();
			told += e.at("event") == "granted" ? 1 : 0;
		}
		return lost + told == kLeases;
	};
	EXPECT_TRUE(eventually(15s, all_accounted)) << lost << " lost, " << told << " told";
	EXPECT_GT(lost, 0U);
	EXPECT_GT(told, 0U);
}

TEST_P(Cli, LogKeySaysWhichRulesAreLogged) {
	const Process &daemon = run_daemon(game() + rule("quiet", "4001/udp", "6100/udp", "log = false"));
	trigger(lan1(), {kRemote1, 4001});
	trigger(lan1());
	EXPECT_TRUE(eventually(15s, [&] { return daemon.err().find("game") != std::string::npos; })) << daemon.err();
	EXPECT_EQ(daemon.err().find("quiet"), std::string::npos) << daemon.err();
}

TEST_P(Cli, CheckTellsEveryErrorAndWarning) {
	write("/run/check.toml",
	      "[gateway]\nlan = ['br0']\nwun = 'x'\n[[rule]]\nname = 'a'\ntrigger = ['0/tcp']\nopen = []\n");
	const Output wrong = ptrig({"check", "/run/check.toml", "-j"});
	EXPECT_EQ(wrong.status, 2);
	const Json found = Json::parse(wrong.out);
	EXPECT_GE(found.at("errors").size(), 3U) << found;
	for (const Json &error : found.at("errors")) {
		EXPECT_EQ(error.at("file"), "/run/check.toml");
		EXPECT_GT(error.at("line"), 0) << error;
		EXPECT_GT(error.at("column"), 0) << error;
		EXPECT_NE(error.at("message"), "") << error;
	}
	EXPECT_NE(ptrig({"check", "/run/check.toml"}).out.find("/run/check.toml:6:"), std::string::npos);
	write("/run/check.toml", config(rule("low", "6969/tcp", "22/tcp", "timeout = '10m'")));
	const Output risky = ptrig({"check", "/run/check.toml", "-j"});
	EXPECT_EQ(risky.status, 0) << risky.err;
	EXPECT_FALSE(Json::parse(risky.out).at("warnings").empty());
	EXPECT_EQ(Json::parse(risky.out).at("errors"), Json::array());
}

TEST_P(Cli, MonitorEndsWithTheDaemon) {
	Process &daemon = run_daemon(game());
	Process &watching = start_monitor();
	daemon.signal(SIGTERM);
	ASSERT_TRUE(daemon.wait(5s));
	EXPECT_TRUE(watching.wait(5s));
}

TEST_P(Cli, WarningsExplainAnEmptyLeaseList) {
	up(game());
	EXPECT_EQ(json({"status"}).at("warnings").size(), 1U)
		<< "only the missing daemon: " << json({"status"}).at("warnings");
	sysctl("ipv4/ip_forward", "0");
	EXPECT_TRUE(warned("forward")) << json({"status"}).at("warnings");
	sysctl("ipv4/ip_forward", "1");
	EXPECT_FALSE(warned("ip_forward"));
	nft("delete table ip lab_nat\n");
	EXPECT_TRUE(warned("masquerade")) << json({"status"}).at("warnings");
	const Fd own = tcp_listener(gw(), {"0.0.0.0", 6001});
	EXPECT_TRUE(warned("6001")) << json({"status"}).at("warnings");
	nft("add table ip forwards\nadd chain ip forwards pre { type nat hook prerouting priority dstnat; }\n"
	    "add rule ip forwards pre iifname wan0 udp dport 6004 dnat to 192.168.77.12\n");
	EXPECT_TRUE(warned("6004")) << json({"status"}).at("warnings");
}

TEST_P(Cli, WarnsOfAPrivateWanAddress) {
	ip(gw(), "addr add 100.64.1.2/24 dev wan0\naddr del 203.0.113.2/24 dev wan0\n");
	up(game());
	EXPECT_TRUE(warned("100.64.1.2")) << json({"status"}).at("warnings");
}

TEST_P(Cli, WarnsOfABridgeMemberAndAShaper) {
	if (xdp()) {
		tc({"qdisc", "add", "dev", "wan0", "root", "tbf", "rate", "100mbit", "burst", "64k", "latency",
		    "50ms"});
		up(game());
		EXPECT_TRUE(warned("wan0 is shaped by tbf: sessions towards it stay in TC"))
			<< json({"status"}).at("warnings");
	} else {
		up(game(), "lan = ['lan1if']");
		EXPECT_TRUE(warned("br0")) << json({"status"}).at("warnings");
	}
}

TEST_P(Cli, BpftoolShowsLeasesWithTheirFields) {
	up(game());
	trigger(lan1());
	const Json dump = Json::parse(must(gw(), {"bpftool", "-j", "map", "dump", "pinned", kPins + "/pt_leases"}));
	ASSERT_EQ(dump.size(), 1U);
	const Json &value = dump.at(0).at("formatted").at("value");
	for (const char *name : {"state", "host", "mac", "granted_ns", "refreshed_ns", "trigger_port"})
		EXPECT_NE(value.dump().find("\"" + std::string(name) + "\""), std::string::npos)
			<< name << " in " << value;
	EXPECT_NE(must(gw(), {"bpftool", "map", "dump", "pinned", kPins + "/pt_leases"}).find("\"refreshed_ns\""),
		  std::string::npos);
}

} // namespace lab
