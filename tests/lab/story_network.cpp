// The network changes under the gateway, and other people's programs live beside it.
#include "tests/lab/lab.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <net/if.h>

#include <fcntl.h>
#include <sys/file.h>

namespace lab {

class Network : public Lab {
protected:
	/// Somebody else's XDP program, which passes everything, on a device of the gateway.
	Fd attach_foreign_xdp(const std::string &device);
	/// Somebody else's filter, which drops everything that arrives.
	void add_dropping_filter(const std::string &device);
	void remake_lan();
	/// The interface comes back under another index, and a trigger by it opens the port.
	void expect_served_by_a_lan_made_again(const Process &daemon);
	void remake_wan();
};
LAB_STORIES(Network);

/// Somebody else's program, which says the same of every packet.
Fd load_foreign(bpf_prog_type type, int verdict) {
	const bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict},
				 {.code = BPF_JMP | BPF_EXIT}};
	Fd program(bpf_prog_load(type, "foreign", "GPL", code, 2, nullptr));
	if (program.get() < 0)
		throw std::runtime_error("load the foreign program");
	return program;
}

Fd Network::attach_foreign_xdp(const std::string &device) {
	Fd program = load_foreign(BPF_PROG_TYPE_XDP, XDP_PASS);
	const int error = gw().inside([&] {
		return bpf_xdp_attach(int(if_nametoindex(device.c_str())), program.get(), XDP_FLAGS_DRV_MODE, nullptr);
	});
	if (error != 0)
		throw std::runtime_error("attach the foreign XDP program");
	return program;
}

void Network::add_dropping_filter(const std::string &device) {
	tc({"qdisc", "replace", "dev", device, "clsact"});
	const Fd program = load_foreign(BPF_PROG_TYPE_SCHED_CLS, TC_ACT_SHOT);
	const int error = gw().inside([&] {
		DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = int(if_nametoindex(device.c_str())),
				    .attach_point = BPF_TC_INGRESS);
		DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = program.get(), .handle = 1, .priority = 777);
		return bpf_tc_attach(&hook, &opts);
	});
	if (error != 0)
		throw std::runtime_error("attach the foreign filter");
}

void Network::remake_lan() {
	if (xdp()) {
		ip(gw(), "link del lan1if\n"
			 "link add lan1if address 02:00:00:00:77:01 type veth peer name eth0 address 02:00:00:00:77:11 "
			 "netns lan1\n"
			 "addr add 192.168.77.1/24 dev lan1if\nlink set lan1if up\n");
		ip(lan1(),
		   "addr add 192.168.77.11/24 dev eth0\nlink set eth0 up\nroute add default via 192.168.77.1\n");
		must(lan1(), {"ethtool", "-K", "eth0", "tx", "off", "gro", "on"});
	} else {
		ip(gw(), "link del br0\nlink add br0 address 02:00:00:00:77:01 type bridge mcast_snooping 0\n"
			 "addr add 192.168.77.1/24 dev br0\n"
			 "link set lan1if master br0\nlink set lan2if master br0\nlink set br0 up\n");
	}
}

void Network::remake_wan() {
	ip(gw(),
	   "link del wan0\n"
	   "link add wan0 address 02:00:00:00:00:02 type veth peer name eth0 address 02:00:00:00:00:10 netns wan\n"
	   "addr add 203.0.113.2/24 dev wan0\nlink set wan0 up\nroute add default via 203.0.113.10\n");
	ip(wan(), "addr add 203.0.113.10/24 dev eth0\naddr add 203.0.113.11/24 dev eth0\n"
		  "addr add 203.0.113.12/24 dev eth0\nlink set eth0 up\n");
	if (xdp())
		must(wan(), {"ethtool", "-K", "eth0", "tx", "off", "gro", "on"});
}

void Network::expect_served_by_a_lan_made_again(const Process &daemon) {
	remake_lan();
	EXPECT_TRUE(eventually(15s, [&] {
		return try_trigger(lan1(), {kRemote1, 4000}, {}, 100ms) && who_gets_udp(6000) == "lan1";
	})) << daemon.err();
}

TEST_P(Network, NewWanAddressWorks) {
	run_daemon(game());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	ip(gw(), "addr del 203.0.113.2/24 dev wan0\naddr add 203.0.113.3/24 dev wan0\n"
		 "route replace default via 203.0.113.10\n");
	const Fd &host = udp_on(lan1(), 6000);
	EXPECT_TRUE(eventually(15s, [&] {
		const auto seen = try_trigger(lan1(), {kRemote1, 4000}, {}, 100ms);
		const Fd remote = udp_socket(wan(), {kRemote2, 0});
		return seen && seen->address == "203.0.113.3" && talk(remote, host, {"203.0.113.3", 6000}, 100ms);
	}));
	EXPECT_TRUE(eventually(15s, [&] {
		trigger(lan1());
		return leases("game").at(0).at("wan") == "203.0.113.3";
	})) << leases();
}

TEST_P(Network, LanInterfaceRemovedAndMadeAgain) {
	Process &daemon = run_daemon(game());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	expect_served_by_a_lan_made_again(daemon);
	// TC serves it a moment before XDP is attached.
	EXPECT_TRUE(eventually(15s, [&] { return datapath_of(lan_device()) == GetParam(); })) << daemon.err();
	EXPECT_TRUE(talk(udp_socket(wan(), {kRemote2, 0}), udp_on(lan1(), 6000)));
}

TEST_P(Network, SourcesOnAnInterfaceFollowIt) {
	Process &daemon = run_daemon(game("sources = ['" + mac_of(lan1()) + "@" + lan_device() + "']"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	expect_served_by_a_lan_made_again(daemon);
}

TEST_P(Network, WanInterfaceRemovedAndMadeAgain) {
	Process &daemon = run_daemon(game());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	remake_wan();
	EXPECT_TRUE(eventually(15s, [&] {
		return try_trigger(lan1(), {kRemote1, 4000}, {}, 100ms) && who_gets_udp(6000) == "lan1";
	})) << daemon.err();
	EXPECT_TRUE(eventually(15s, [&] { return datapath_of("wan0") == GetParam(); })) << daemon.err();
}

TEST_P(Network, LinkDownAndUp) {
	run_daemon(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	ip(gw(), "link set wan0 down\nlink set wan0 up\nroute replace default via 203.0.113.10\n");
	EXPECT_TRUE(eventually(15s, [&] {
		return talk(remote, udp_on(lan1(), 6000), {kWan, 6000}, 100ms);
	})) << "the session did not survive";
}

// A session belongs to its WAN: its answers leave by it, whatever the default route says.
TEST_P(Network, WithTwoWansAnswersLeaveByTheirOwn) {
	NetNs wanb("wanb");
	ip(gw(),
	   "link add wan1 type veth peer name eth0 netns wanb\naddr add 198.18.0.2/24 dev wan1\nlink set wan1 up\n"
	   "rule add from 198.18.0.2 lookup 101\nroute add default via 198.18.0.10 dev wan1 table 101\n");
	ip(wanb, "addr add 198.18.0.10/24 dev eth0\naddr add 192.0.2.7/32 dev lo\nlink set eth0 up\nroute add default "
		 "via 198.18.0.2\n");
	if (xdp())
		must(wanb, {"ethtool", "-K", "eth0", "tx", "off", "gro", "on"});
	nft("add rule inet lab forward oifname wan1 accept\nadd rule ip lab_nat postrouting oifname wan1 masquerade\n");
	up(game("remotes = 'contacted'") + rule("second", "4001/udp", "6100/udp"), "wan = ['wan0', 'wan1']");
	const Fd sink = udp_socket(wanb, {"198.18.0.10", 4001});
	ASSERT_TRUE(eventually(15s, [&] {
		udp_send(udp_socket(lan1(), {}), {"198.18.0.10", 4001}, "trigger");
		return udp_receive(sink, 100ms).has_value();
	}));
	trigger(lan1());
	EXPECT_EQ(leases("second").at(0).at("wan"), "198.18.0.2");
	EXPECT_EQ(leases("game").at(0).at("wan"), kWan);
	for (const std::string &address : {std::string("198.18.0.10"), std::string("192.0.2.7")})
		EXPECT_TRUE(talk(udp_socket(wanb, {address, 0}), udp_on(lan1(), 6100), {"198.18.0.2", 6100}))
			<< address;
	EXPECT_TRUE(talk(udp_socket(wan(), {kRemote1, 0}), udp_on(lan1(), 6000)));
	EXPECT_EQ(who_gets_udp(6100), "gateway") << "the other WAN's lease is not this one's";
}

TEST_P(Network, InterfaceThatAppearsLaterIsAttached) {
	run_daemon(game(), xdp() ? "lan = ['lan1if', 'lan2if', 'lan9if']" : "lan = ['br0', 'lan9if']");
	EXPECT_EQ(datapath_of("lan9if"), "waiting");
	NetNs lan9("lan9");
	ip(gw(), "link add lan9if type veth peer name eth0 netns lan9\naddr add 192.168.79.1/24 dev lan9if\nlink set "
		 "lan9if up\n");
	ip(lan9, "addr add 192.168.79.9/24 dev eth0\nlink set eth0 up\nroute add default via 192.168.79.1\n");
	must(lan9, {"ethtool", "-K", "eth0", "tx", "off", "gro", "on"});
	nft("add rule inet lab forward iifname lan9if oifname wan0 accept\n");
	EXPECT_TRUE(eventually(15s, [&] { return datapath_of("lan9if") == GetParam(); })) << datapath_of("lan9if");
	ASSERT_TRUE(eventually(15s, [&] { return try_trigger(lan9, {kRemote1, 4000}, {}, 100ms).has_value(); }));
	EXPECT_EQ(leases("game").at(0).at("host"), "192.168.79.9");
	EXPECT_TRUE(talk(udp_socket(wan(), {kRemote2, 0}), udp_on(lan9, 6000)));
}

TEST_P(Network, WithoutAnyLanItIsWaitedFor) {
	start_afresh();
	ip(gw(), xdp() ? "link set lan1if down\nlink set lan1if name later\n"
		       : "link set br0 down\nlink set br0 name later\n");
	write(kConfig, config(game(), "lan = ['" + lan_device() + "']"));
	ASSERT_EQ(ptrig({"up"}).status, 0);
	Process &daemon = run_daemon();
	EXPECT_EQ(datapath_of(lan_device()), "waiting");
	EXPECT_EQ(datapath_of("wan0"), GetParam());
	ip(gw(), "link set later name " + lan_device() + "\nlink set " + lan_device() + " up\n");
	EXPECT_TRUE(eventually(20s, [&] { return datapath_of(lan_device()) == GetParam(); })) << daemon.err();
	EXPECT_TRUE(eventually(20s, [&] {
		return try_trigger(lan1(), {kRemote1, 4000}, {}, 100ms) && who_gets_udp(6000) == "lan1";
	})) << daemon.err();
}

TEST_P(Network, TheDaemonWaitsForNoOtherWriter) {
	start_afresh(); // no event is left of another story
	Process &daemon = run_daemon(game("timeout = '60s'"));
	const Fd writer(open(kPins.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	ASSERT_EQ(flock(writer.get(), LOCK_EX), 0);
	ip(gw(), "addr add 203.0.113.3/24 dev wan0\n");
	trigger(lan1());
	for (int i = 0; i < 3; i++) { // while the address is not taken up yet, all else goes on
		ASSERT_EQ(ptrig({"lease", "close", "game"}).status, 0);
		ASSERT_TRUE(eventually(20s, [&] {
			const std::string said = daemon.err();
			std::size_t granted = 0;
			for (auto at = said.find("game: lease granted"); at != std::string::npos;
			     at = said.find("game: lease granted", at + 1))
				granted++;
			return granted == std::size_t(i) + 1;
		})) << daemon.err();
		trigger(lan1());
	}
	EXPECT_EQ(daemon.err().find("203.0.113.3"), std::string::npos) << daemon.err();
	ASSERT_EQ(flock(writer.get(), LOCK_UN), 0);
	EXPECT_TRUE(eventually(20s, [&] { return daemon.err().find("203.0.113.3") != std::string::npos; }))
		<< daemon.err();
}

TEST_P(Network, RenamedInterfaceIsFollowedOrWaitedFor) {
	run_daemon(game());
	ip(gw(), "link set wan0 down\nlink set wan0 name wan9\nlink set wan9 up\n");
	EXPECT_TRUE(eventually(15s, [&] { return datapath_of("wan0") == "waiting"; })) << datapath_of("wan0");
	ip(gw(),
	   "link set wan9 down\nlink set wan9 name wan0\nlink set wan0 up\nroute replace default via 203.0.113.10\n");
	EXPECT_TRUE(eventually(15s, [&] { return datapath_of("wan0") == GetParam(); }));
	EXPECT_TRUE(eventually(15s, [&] {
		return try_trigger(lan1(), {kRemote1, 4000}, {}, 100ms) && who_gets_udp(6000) == "lan1";
	}));
}

TEST_P(Network, ForeignFilterAndClsactSurvive) {
	start_afresh();
	tc({"qdisc", "add", "dev", "wan0", "clsact"});
	tc({"filter", "add", "dev", "wan0", "ingress", "pref", "777", "protocol", "ip", "u32", "match", "u32", "0",
	    "0"});
	const auto foreign = [&] {
		return must(gw(), {"tc", "filter", "show", "dev", "wan0", "ingress"}).find("pref 777 u32") !=
		       std::string::npos;
	};
	ASSERT_TRUE(foreign());
	up(game());
	EXPECT_EQ(datapath_of("wan0"), "kernel") << "the fast path would pass over it";
	EXPECT_TRUE(foreign());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(ptrig({"up"}).status, 0);
	EXPECT_EQ(ptrig({"down"}).status, 0);
	EXPECT_TRUE(foreign());
	EXPECT_NE(must(gw(), {"tc", "qdisc", "show", "dev", "wan0"}).find("clsact"), std::string::npos);
}

/// ptrig sees packets first, and what it passes on the others still see, whenever their filter came.
TEST_P(Network, AForeignFilterThatComesLaterHasItsSay) {
	up(game());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(who_gets_udp(7000), "gateway") << "a port of no rule";
	add_dropping_filter("wan0");
	EXPECT_EQ(who_gets_udp(7000), "nobody");
	EXPECT_EQ(ptrig({"up"}).status, 0);
	EXPECT_EQ(who_gets_udp(7000), "nobody") << "the filter was displaced";
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 0);
	trigger(lan1());
	EXPECT_EQ(leases("game").size(), 1U) << "what leaves is not its business";
	tc({"filter", "del", "dev", "wan0", "ingress", "pref", "777"});
	EXPECT_EQ(who_gets_udp(6001), "lan1");
	EXPECT_EQ(who_gets_udp(7000), "gateway");
}

TEST_P(Network, AProgramThatWasDetachedIsPutBack) {
	up(game());
	const std::string pin =
		kPins + "/link/tc_" + std::to_string(gw().inside([] { return if_nametoindex("wan0"); })) + "_ingress";
	if (std::filesystem::exists(pin))
		must(gw(), {"bpftool", "link", "detach", "pinned", pin});
	else
		tc({"filter", "del", "dev", "wan0", "ingress"});
	const std::string warned = ptrig({"status"}).out;
	EXPECT_NE(warned.find("wan0: ptrig's program has been removed from it"), std::string::npos) << warned;
	const Output again = ptrig({"up"});
	EXPECT_EQ(again.status, 0) << again.err;
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Network, TakenXdpSlotIsRefusedOrLeftToTc) {
	start_afresh();
	const Fd program = attach_foreign_xdp("wan0");
	if (xdp()) {
		write(kConfig, config(game()));
		const Output output = ptrig({"up"});
		EXPECT_EQ(output.status, 1);
		EXPECT_NE(output.err.find("wan0"), std::string::npos) << output.err;
		EXPECT_NE(output.err.find("XDP"), std::string::npos) << output.err;
		EXPECT_EQ(ptrig({"status"}).status, 3) << "nothing half up";
	} else {
		up(game(), "datapath = 'auto'");
		EXPECT_EQ(datapath_of("wan0"), "tc");
		trigger(lan1());
		EXPECT_EQ(who_gets_udp(6000), "lan1");
		EXPECT_EQ(ptrig({"down"}).status, 0);
	}
	EXPECT_NE(must(gw(), {"ip", "-d", "link", "show", "dev", "wan0"}).find("name foreign"), std::string::npos)
		<< "the foreign program was displaced";
}

TEST_P(Network, AutoDoesNotChooseXdpOnVeth) {
	up(game(), "datapath = 'auto'");
	for (const std::string &device : {std::string("wan0"), lan_device()})
		EXPECT_EQ(datapath_of(device), "tc") << device << ": its checksums are unfinished";
}

TEST_P(Network, RpFilterMakesNoDifference) {
	for (const char *mode : {"1", "2"}) {
		sysctl("ipv4/conf/all/rp_filter", mode);
		up(game());
		trigger(lan1());
		EXPECT_EQ(who_gets_udp(6000), "lan1") << mode;
		EXPECT_EQ(who_gets_udp(6000, {kFar, 0}), "lan1") << mode;
		EXPECT_EQ(ptrig({"down"}).status, 0);
	}
}

} // namespace lab
