// Stories that count, of the network under a living gateway: links that flap, interfaces that go and come back, more
// events than the daemon can read, other people's programs.
#include <bpf/bpf.h>
#include <net/if.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "tests/lab/flow.h"
#include "tests/lab/soak.h"

namespace lab {

namespace {

/// How long it took to work again, in each of many rounds.
struct Outages {
	unsigned rounds = 0, within_second = 0;
	milliseconds longest{0};
	void add(Clock::time_point since) {
		const auto took = std::chrono::duration_cast<milliseconds>(Clock::now() - since);
		rounds++;
		within_second += took <= 1s;
		longest = std::max(longest, took);
	}
	std::string say() const {
		return text(rounds) + " times, " + text(within_second) +
		       " of them again within a second, the longest outage " + text(std::uint64_t(longest.count())) +
		       " ms";
	}
};

} // namespace

TEST_P(Soak, LinkFlaps) {
	const unsigned rounds = count(3, 100);
	const Process &daemon = run_daemon(game("timeout = '2h'"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	const auto at_first = lease_views();
	Outages outages[2];
	const std::string devices[2] = {"wan0", lan_device()};
	for (unsigned i = 0; i < rounds && !HasFailure(); i++)
		for (unsigned side = 0; side < 2; side++) {
			ip(gw(), "link set " + devices[side] + " down\n");
			EXPECT_FALSE(talk(remote, udp_on(lan1(), 6000), {kWan, 6000}, 20ms))
				<< devices[side] << " is down";
			ip(gw(), "link set " + devices[side] + " up\nroute replace default via 203.0.113.10\n");
			const auto since = Clock::now();
			EXPECT_TRUE(eventually(15s,
					       [&] {
						       return talk(remote, udp_on(lan1(), 6000), {kWan, 6000}, 50ms);
					       }))
				<< devices[side] << ", round " << i << ": the session did not survive";
			EXPECT_TRUE(eventually(15s, [&] {
				return try_trigger(lan1(), {kRemote1, 4000}, {}, 50ms).has_value();
			}));
			outages[side].add(since);
		}
	EXPECT_EQ(who_gets_udp(6001), "lan1");
	const auto now = lease_views();
	ASSERT_EQ(now.size(), 1U);
	EXPECT_EQ(now[0].lease_id, at_first.at(0).lease_id);
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid()) << daemon.err();
	report("WAN down and up " + outages[0].say() + "; LAN " + outages[1].say());
}

namespace {

/// Whether any program of ptrig's is attached to a device, by tcx, as a filter, or as XDP.
bool has_programs(const NetNs &where, const std::string &device) {
	const bool by_tcx = where.inside([&] {
		const auto ifindex = static_cast<int>(if_nametoindex(device.c_str()));
		std::uint32_t programs = 0;
		for (const int side : {46, 47}) { // BPF_TCX_INGRESS, BPF_TCX_EGRESS
			std::uint32_t ids[8], count = 8;
			if (bpf_prog_query(ifindex, static_cast<bpf_attach_type>(side), 0, nullptr, ids, &count) == 0)
				programs += count;
		}
		return programs > 0;
	});
	std::string shown = must(where, {"ip", "-d", "link", "show", "dev", device});
	for (const char *side : {"ingress", "egress"})
		shown += run(where, {"tc", "filter", "show", "dev", device, side}).out;
	return by_tcx || shown.find("pt_") != std::string::npos;
}

} // namespace

TEST_P(Soak, InterfacesComeAndGo) {
	const unsigned rounds = count(3, 60);
	const NetNs elsewhere("elsewhere");
	const Process &daemon = run_daemon(game("timeout = '2h'"));
	ASSERT_TRUE(has_programs(gw(), "wan0"));
	const auto datapath = [&] { return json({"status"}).at("wan").at(0).at("datapath").get<std::string>(); };
	const std::string again =
		"addr replace 203.0.113.2/24 dev wan0\nlink set wan0 up\nroute replace default via 203.0.113.10\n";
	const auto await = [&](const std::string &wanted) {
		EXPECT_TRUE(eventually(15s, [&] { return datapath() == wanted; })) << datapath() << ", not " << wanted;
	};
	const std::pair<const char *, std::function<void()>> ways[] = {
		{"renamed",
		 [&] {
			 ip(gw(), "link set wan0 down\nlink set wan0 name other\nlink set other up\n");
			 await("waiting");
			 EXPECT_TRUE(eventually(15s, [&] { return !has_programs(gw(), "other"); }))
				 << "another name, and still ptrig's programs";
			 ip(gw(), "link set other down\nlink set other name wan0\n" + again);
		 }},
		{"in another namespace",
		 [&] {
			 ip(gw(), "link set wan0 netns elsewhere\n");
			 await("waiting");
			 EXPECT_TRUE(eventually(15s, [&] { return !has_programs(elsewhere, "wan0"); }))
				 << "somebody else's device, and still ptrig's programs";
			 ip(elsewhere, "link set wan0 netns gw\n");
			 ip(gw(), again);
		 }},
		{"deleted and made anew", [&] {
			 ip(gw(),
			    "link del wan0\nlink add wan0 address 02:00:00:00:00:02 type veth peer name eth0 address "
			    "02:00:00:00:00:10 netns wan\n" +
				    again);
			 ip(wan(), "addr add 203.0.113.10/24 dev eth0\naddr add 203.0.113.11/24 dev eth0\n"
				   "addr add 203.0.113.12/24 dev eth0\nlink set eth0 up\n");
			 if (xdp())
				 must(wan(), {"ethtool", "-K", "eth0", "tx", "off", "gro", "on"});
		 }}};
	std::string told;
	for (const auto &[name, leave_and_return] : ways) {
		Outages outages;
		for (unsigned i = 0; i < std::max(1U, rounds / 3) && !HasFailure(); i++) {
			trigger(lan1());
			EXPECT_EQ(who_gets_udp(6000), "lan1");
			leave_and_return();
			const auto since = Clock::now();
			EXPECT_TRUE(eventually(15s,
					       [&] {
						       return try_trigger(lan1(), {kRemote1, 4000}, {}, 100ms) &&
							      who_gets_udp(6001) == "lan1";
					       }))
				<< name << ", round " << i << ": " << daemon.err();
			outages.add(since);
			await(GetParam());
		}
		told += std::string(told.empty() ? "" : "; ") + name + " " + outages.say();
	}
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid()) << daemon.err();
	report("WAN interface " + told);
}

namespace {

/// Messages that the kernel had no room for, of all netlink sockets of a process.
std::uint64_t netlink_drops(const NetNs &where, pid_t pid) {
	return where.inside([&] {
		std::uint64_t sum = 0;
		std::ifstream file("/proc/thread-self/net/netlink");
		std::string line;
		std::getline(file, line);
		while (std::getline(file, line)) {
			std::istringstream fields(line);
			std::string socket, protocol, groups, received, sent, dump, locks;
			std::uint64_t owner = 0, drops = 0;
			fields >> socket >> protocol >> owner >> groups >> received >> sent >> dump >> locks >> drops;
			if (owner == std::uint64_t(pid) ||
			    owner > (1U << 22)) // a second socket has a number of its own
				sum += drops;
		}
		return sum;
	});
}

std::size_t open_files(pid_t pid) {
	const std::filesystem::directory_iterator files("/proc/" + std::to_string(pid) + "/fd");
	return std::size_t(std::distance(begin(files), end(files)));
}

} // namespace

TEST_P(Soak, MoreEventsThanTheDaemonReads) {
	const unsigned events = count(3000, 100000), most = 10000;
	Process &daemon = run_daemon(game("timeout = '2h'"));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	ip(gw(), "link add noise type bridge\n");
	const std::size_t files = open_files(daemon.pid());
	std::uint64_t dropped = 0;
	unsigned rounds = 0;
	std::string address = kWan;
	for (unsigned done = 0; done < events && !HasFailure(); done += most, rounds++) {
		daemon.signal(SIGSTOP);
		std::string storm;
		for (unsigned i = 0; i < std::min(most, events - done); i++)
			storm.append("link set noise mtu ").append(std::to_string(1000 + i % 400)).append("\n");
		ip(gw(), storm);
		const std::string next = address == kWan ? "203.0.113.3" : kWan; // the daemon is not told of it
		std::string renumber = "addr del " + address;
		renumber.append("/24 dev wan0\naddr add ").append(next).append("/24 dev wan0\n");
		ip(gw(), renumber.append("route replace default via 203.0.113.10\n"));
		address = next;
		dropped = netlink_drops(gw(), daemon.pid());
		daemon.signal(SIGCONT);
		const Fd &host = udp_on(lan1(), 6000);
		EXPECT_TRUE(eventually(15s,
				       [&] {
					       return try_trigger(lan1(), {kRemote1, 4000}, {}, 100ms) &&
						      talk(udp_socket(wan(), {kRemote2, 0}), host, {address, 6000},
							   100ms);
				       }))
			<< "the new address does not work: " << daemon.err();
	}
	report("events " + text(events) + " in " + text(rounds) + " storms that a stopped daemon did not read, " +
	       text(dropped) + " messages lost for want of room; the new WAN address worked after each");
	EXPECT_GT(dropped, 0U) << "nothing was lost: the story shows nothing";
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid()) << daemon.err();
	EXPECT_EQ(open_files(daemon.pid()), files) << "open files of the daemon";
}

/// Where ptrig's programs are attached by tcx, other people's filters and their clsact come and go without a packet
/// lost.
TEST_P(Soak, OthersProgramsComeAndGo) {
	const unsigned rounds = count(4, 20);
	const Process &daemon = run_daemon(game("timeout = '2h'"));
	trigger(lan1());
	const bool by_tcx = std::filesystem::exists(
		kPins + "/link/tc_" + std::to_string(gw().inside([] { return if_nametoindex("wan0"); })) + "_ingress");
	const Fd talker = start_talk(lan1(), {kRemote2, 5555}, 6001);
	const std::uint64_t drops_before = device_drops();
	Flow in(talker, {kWan, 6001}, udp_on(lan1(), 6001), 1000);
	Flow back(udp_on(lan1(), 6001), {kRemote2, 5555}, talker, 1000);
	for (unsigned i = 0; i < rounds && !HasFailure(); i++) {
		for (const std::string &device : {std::string("wan0"), lan_device()}) {
			tc({"qdisc", "replace", "dev", device, "clsact"});
			for (const char *side : {"ingress", "egress"})
				tc({"filter", "add", "dev", device, side, "pref", "777", "protocol", "ip", "u32",
				    "match", "u32", "0", "0"});
		}
		EXPECT_EQ(who_gets_udp(6000), "lan1") << "beside others' filters";
		for (const std::string &device : {std::string("wan0"), lan_device()}) {
			tc({"filter", "del", "dev", device, "ingress", "pref", "777"});
			if (by_tcx)
				tc({"qdisc", "del", "dev", device, "clsact"});
			else
				tc({"filter", "del", "dev", device, "egress", "pref", "777"});
		}
		EXPECT_EQ(who_gets_udp(6000), "lan1") << "without them";
	}
	const auto [sent_in, lost_in] = in.finish();
	const auto [sent_back, lost_back] = back.finish();
	const std::uint64_t drops = device_drops() - drops_before;
	report("filters and clsact of others on two devices added and removed " + text(rounds) + " times (" +
	       (by_tcx ? "tcx" : "clsact") + "), datagrams lost " + text(lost_in + lost_back) + " of " +
	       text(sent_in + sent_back) + " (devices dropped " + text(drops) + ")");
	EXPECT_LE(lost_in + lost_back, share_of(drops, sent_in + sent_back, sent_in + sent_back));
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid()) << daemon.err();
}

} // namespace lab
