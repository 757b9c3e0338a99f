// What the loader reads from and does to a real kernel's network: links, TC filters, XDP links, changes.
#include <algorithm>
#include <bpf/bpf.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include "loader/bpf_link.h"
#include "loader/classifier.h"
#include "loader/netlink.h"
#include "loader/system.h"
#include "loader/tc.h"
#include "loader/xdp.h"
#include "tests/bpf/isolated.h"

namespace ptrig {
namespace {

using Attach = IsolatedTest;

/// A program that does nothing but return `verdict`.
int program(bpf_prog_type type, const char *name, int verdict) {
	const bpf_insn code[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = verdict},
		{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
	};
	return bpf_prog_load(type, name, "GPL", code, 2, nullptr);
}
int tc_program(const char *name) {
	return program(BPF_PROG_TYPE_SCHED_CLS, name, -1);
}
int xdp_program(const char *name) {
	return program(BPF_PROG_TYPE_XDP, name, 2);
}

std::uint32_t index_of(const char *name) {
	return if_nametoindex(name);
}

std::uint32_t prog_id(int fd) {
	bpf_prog_info info{};
	std::uint32_t size = sizeof info;
	return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.id : 0;
}

std::string clsact(std::uint32_t ifindex) {
	auto qdiscs = read_qdiscs();
	if (!qdiscs) {
		return qdiscs.error().what;
	}
	for (const auto &qdisc : *qdiscs) {
		if (qdisc.ifindex == ifindex && qdisc.parent == 0xFFFFFFF1) {
			return qdisc.kind;
		}
	}
	return "none";
}

TEST_F(Attach, LinksAndAddresses) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1 && ip link add br0 type bridge && ip link set v0 master br0 "
		   "&& "
		   "ip addr add 192.168.77.1/24 dev br0 && ip link set br0 up && ip tuntap add dev tun0 mode tun && "
		   "ip addr add 10.1.1.1 peer 10.9.9.9/32 dev tun0 && ip addr add 10.2.2.2/24 dev tun0 && "
		   "ip addr add 10.2.2.3/24 dev tun0 && ip link set tun0 up mtu 1400");
		auto network = read_network();
		ASSERT_TRUE(network) << network.error().what;
		auto member = network->require("v0");
		ASSERT_TRUE(member) << member.error().what;
		EXPECT_EQ(member->kind, "veth");
		EXPECT_EQ(member->slave_kind, "bridge");
		EXPECT_EQ(member->master, index_of("br0"));
		EXPECT_EQ(member->lower, index_of("v1"));
		EXPECT_TRUE(member->ethernet && member->mac && !member->up);
		auto tun = network->require("tun0");
		ASSERT_TRUE(tun);
		EXPECT_FALSE(tun->ethernet || tun->mac);
		EXPECT_TRUE(tun->up);
		EXPECT_EQ(tun->mtu, 1400U);
		auto addresses = network->addresses_of(tun->ifindex);
		ASSERT_EQ(addresses.size(), 3U);
		EXPECT_EQ(to_string(addresses[0].local), "10.1.1.1");
		EXPECT_EQ(to_string(addresses[0].on_link.address), "10.9.9.9");
		EXPECT_FALSE(addresses[1].secondary);
		EXPECT_TRUE(addresses[2].secondary);
		auto unknown = network->require("eth9");
		ASSERT_FALSE(unknown);
		EXPECT_EQ(unknown.error().status, Status::kInput);
		EXPECT_NE(unknown.error().what.find("br0 192.168.77.1/24"), std::string::npos) << unknown.error().what;
		EXPECT_FALSE(bridge_member_warning(*network, "br0"));
		EXPECT_NE(bridge_member_warning(*network, "v0").value_or("").find("br0"), std::string::npos);
		auto gone = read_link(9999);
		ASSERT_TRUE(gone) << gone.error().what;
		EXPECT_FALSE(*gone);
	});
}

TEST_F(Attach, DefaultRouteIsTheOneOfTheLowestMetric) {
	isolated([] {
		EXPECT_TRUE(read_default_route().value().empty()) << "no table yet";
		sh("ip link add br0 type bridge && ip addr add 10.0.0.1/24 dev br0 && ip link set br0 up && "
		   "ip tuntap add dev tap0 mode tap && ip addr add 10.2.2.2/24 dev tap0 && ip link set tap0 up");
		auto interfaces = [] { return read_default_route().value(); };
		using List = std::vector<std::uint32_t>;
		EXPECT_EQ(interfaces(), List{});
		sh("ip route add 0.0.0.0/8 dev br0 && ip route add default via 10.2.2.9 metric 100");
		EXPECT_EQ(interfaces(), List{index_of("tap0")});
		sh("ip route add default dev br0 metric 50 && ip route add default dev tap0 metric 1 table 7");
		EXPECT_EQ(interfaces(), List{index_of("br0")});
		sh("ip route add unreachable default metric 2 && ip route add default metric 7 nexthop via 10.2.2.9 "
		   "nexthop dev "
		   "br0");
		EXPECT_EQ(interfaces(), (List{index_of("tap0"), index_of("br0")}));
	});
}

/// Waits until a change of that kind has come; the others seen meanwhile go to `seen`.
bool await(NetworkMonitor &monitor, Change::Kind kind, std::vector<Change> &seen) {
	pollfd poller{.fd = monitor.fd(), .events = POLLIN, .revents = 0};
	while (poll(&poller, 1, 5000) == 1) {
		auto changes = monitor.drain();
		if (!changes) {
			return false;
		}
		seen.insert(seen.end(), changes->begin(), changes->end());
		for (const auto &change : *changes) {
			if (change.kind == kind) {
				return true;
			}
		}
	}
	return false;
}

TEST_F(Attach, MonitorTellsChanges) {
	isolated([] {
		auto monitor = NetworkMonitor::open();
		ASSERT_TRUE(monitor) << monitor.error().what;
		EXPECT_TRUE(monitor->drain().value().empty());
		std::vector<Change> seen;
		sh("ip link add v0 type veth peer name v1");
		EXPECT_TRUE(await(*monitor, Change::Kind::kLink, seen));
		sh("ip link set v0 up && ip link set v1 up && ip addr add 10.0.0.1/24 dev v0");
		EXPECT_TRUE(await(*monitor, Change::Kind::kAddress, seen));
		EXPECT_TRUE(std::any_of(seen.begin(), seen.end(), [](const Change &change) {
			return change.address == Ip4{0x0A000001} && change.ifindex == index_of("v0");
		}));
		sh("ip route add 10.5.0.0/16 dev v0 && ip route add default dev v0");
		EXPECT_TRUE(await(*monitor, Change::Kind::kRoute, seen));
		EXPECT_EQ(std::count_if(seen.begin(), seen.end(),
					[](const Change &change) { return change.kind == Change::Kind::kRoute; }),
			  1);
		sh("ip addr del 10.0.0.1/24 dev v0");
		EXPECT_TRUE(await(*monitor, Change::Kind::kAddressGone, seen));
		for (const char *change :
		     {"qdisc add dev v0 ingress", "filter add dev v0 parent ffff: protocol ip pref 7 u32 match u32 0 0",
		      "filter del dev v0 parent ffff: pref 7", "qdisc del dev v0 ingress",
		      "qdisc add dev v0 root tbf "
		      "rate 1mbit burst 10k latency 10ms"}) {
			monitor->drain().value();
			sh(std::string("tc ") + change);
			EXPECT_TRUE(await(*monitor, Change::Kind::kTc, seen)) << change;
			EXPECT_EQ(seen.back().ifindex, index_of("v0")) << change;
		}
		auto index = index_of("v0");
		sh("ip link add br0 type bridge && ip link set v0 master br0 && ip link set v0 nomaster && ip link set "
		   "br0 mtu 1400");
		EXPECT_TRUE(await(*monitor, Change::Kind::kLink, seen));
		auto rest = monitor->drain().value();
		seen.insert(seen.end(), rest.begin(), rest.end());
		EXPECT_TRUE(std::none_of(seen.begin(), seen.end(),
					 [](const Change &change) { return change.kind == Change::Kind::kLinkGone; }));
		seen.clear();
		sh("ip link del v0");
		EXPECT_TRUE(await(*monitor, Change::Kind::kLinkGone, seen));
		EXPECT_TRUE(std::any_of(seen.begin(), seen.end(), [&](const Change &change) {
			return change.kind == Change::Kind::kLinkGone && change.ifindex == index && change.name == "v0";
		}));
	});
}

TEST_F(Attach, LostMessagesAreAResync) {
	isolated([] {
		auto monitor = NetworkMonitor::open();
		ASSERT_TRUE(monitor);
		int small = 1; // the kernel makes it its least: a few KiB
		ASSERT_EQ(setsockopt(monitor->fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
		sh("ip link add v0 type veth peer name v1; for i in $(seq 20); do ip link set v0 up; ip link set v0 "
		   "down; done");
		auto changes = monitor->drain();
		ASSERT_TRUE(changes) << changes.error().what;
		EXPECT_TRUE(std::any_of(changes->begin(), changes->end(),
					[](const Change &change) { return change.kind == Change::Kind::kResync; }));
		std::vector<Change> seen;
		sh("ip link del v0");
		EXPECT_TRUE(await(*monitor, Change::Kind::kLinkGone, seen)) << "it goes on after a resync";
	});
}

TEST_F(Attach, TcAttachReplaceDetach) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1");
		auto v0 = index_of("v0");
		int first = tc_program("pt_first"), second = tc_program("pt_second");
		ASSERT_GE(first, 0);
		EXPECT_EQ(tc_query(v0, TcSide::kIngress).value(), std::nullopt);
		auto in = tc_attach(v0, TcSide::kIngress, first);
		ASSERT_TRUE(in) << in.error().what;
		EXPECT_TRUE(in->created_clsact && !in->replaced);
		auto out = tc_attach(v0, TcSide::kEgress, second);
		ASSERT_TRUE(out) << out.error().what;
		EXPECT_TRUE(!out->created_clsact && !out->replaced);
		EXPECT_EQ(tc_query(v0, TcSide::kIngress).value(), prog_id(first));
		EXPECT_EQ(tc_query(v0, TcSide::kEgress).value(), prog_id(second));
		auto again = tc_attach(v0, TcSide::kIngress, second);
		ASSERT_TRUE(again) << again.error().what;
		EXPECT_TRUE(!again->created_clsact && again->replaced);
		EXPECT_EQ(tc_query(v0, TcSide::kIngress).value(), prog_id(second));
		auto filters = tc_filters(v0, TcSide::kIngress).value();
		ASSERT_EQ(filters.size(), 1U);
		EXPECT_TRUE(filters[0].is_ptrig() && filters[0].direct_action);
		EXPECT_TRUE(tc_detach(v0, TcSide::kIngress, true));
		EXPECT_EQ(clsact(v0), "clsact") << "the egress filter is still there";
		EXPECT_TRUE(tc_detach(v0, TcSide::kEgress, true));
		EXPECT_EQ(clsact(v0), "none");
		EXPECT_TRUE(tc_detach(v0, TcSide::kEgress, true)) << "nothing to remove";
		EXPECT_TRUE(tc_detach(9999, TcSide::kEgress, true)) << "no such device";
		EXPECT_FALSE(tc_attach(9999, TcSide::kEgress, first));
		EXPECT_FALSE(tc_attach(v0, TcSide::kIngress, tc_program("other"))) << "not a ptrig name";
		EXPECT_EQ(clsact(v0), "none");
	});
}

TEST_F(Attach, TcLeavesOthersAlone) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1 && tc qdisc add dev v0 clsact && "
		   "tc filter add dev v0 ingress pref 10 protocol ip u32 match u32 0 0 action mirred egress redirect "
		   "dev v1");
		auto v0 = index_of("v0");
		int own = tc_program("pt_own");
		auto in = tc_attach(v0, TcSide::kIngress, own);
		ASSERT_TRUE(in) << in.error().what;
		EXPECT_FALSE(in->created_clsact);
		auto filters = tc_filters(v0, TcSide::kIngress).value();
		ASSERT_GE(filters.size(), 2U);
		EXPECT_TRUE(std::any_of(filters.begin(), filters.end(),
					[](const TcFilter &filter) { return filter.redirect == index_of("v1"); }));
		EXPECT_TRUE(tc_detach(v0, TcSide::kIngress, true));
		EXPECT_EQ(clsact(v0), "clsact");
		EXPECT_EQ(tc_query(v0, TcSide::kIngress).value(), std::nullopt);
		EXPECT_EQ(tc_filters(v0, TcSide::kIngress).value().size(), filters.size() - 1);
	});
}

TEST_F(Attach, TcTakesTheFirstPriorityThatIsFree) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1 && tc qdisc add dev v0 clsact && "
		   "tc filter add dev v0 ingress pref 1 protocol ip u32 match u32 0 0 flowid 1:1 && "
		   "tc filter add dev v0 ingress pref 3 protocol ip u32 match u32 0 0 flowid 1:1 && "
		   "tc filter add dev v0 ingress pref 2 chain 7 protocol ip u32 match u32 0 0 flowid 1:1");
		auto v0 = index_of("v0");
		int own = tc_program("pt_own"), second = tc_program("pt_second"), other = tc_program("other");
		const auto priorities = [&](TcSide side) {
			std::vector<std::uint32_t> found;
			const auto filters = tc_filters(v0, side).value();
			for (const auto &filter : filters) {
				if (filter.is_ptrig()) {
					found.push_back(filter.priority);
				}
			}
			return found;
		};
		using List = std::vector<std::uint32_t>;
		ASSERT_TRUE(tc_attach(v0, TcSide::kIngress, own));
		EXPECT_EQ(priorities(TcSide::kIngress), List{2}) << "chain 7 is not in the way";
		sh("tc filter del dev v0 ingress pref 1");
		auto moved = tc_attach(v0, TcSide::kIngress, second);
		ASSERT_TRUE(moved) << moved.error().what;
		EXPECT_TRUE(moved->replaced);
		EXPECT_EQ(priorities(TcSide::kIngress), List{1}) << "one, and before the others";
		EXPECT_EQ(tc_query(v0, TcSide::kIngress).value(), prog_id(second));

		ASSERT_EQ(bpf_obj_pin(other, "/sys/fs/bpf/other"), 0);
		sh("tc filter add dev v0 egress pref 1 handle 1 bpf da object-pinned /sys/fs/bpf/other");
		ASSERT_TRUE(tc_attach(v0, TcSide::kEgress, own));
		EXPECT_EQ(priorities(TcSide::kEgress), List{2});
		EXPECT_TRUE(tc_detach(v0, TcSide::kEgress, true));
		EXPECT_TRUE(tc_detach(v0, TcSide::kIngress, true));
		EXPECT_EQ(tc_query(v0, TcSide::kEgress).value(), std::nullopt);
		EXPECT_EQ(tc_filters(v0, TcSide::kEgress).value().size(), 1U) << "not ours to remove";
		EXPECT_EQ(clsact(v0), "clsact");
	});
}

TEST_F(Attach, TcIngressQdiscHasNoEgress) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1 && tc qdisc add dev v0 ingress");
		auto v0 = index_of("v0");
		int own = tc_program("pt_own");
		auto in = tc_attach(v0, TcSide::kIngress, own);
		ASSERT_TRUE(in) << in.error().what;
		EXPECT_FALSE(in->created_clsact);
		EXPECT_EQ(tc_query(v0, TcSide::kIngress).value(), prog_id(own));
		EXPECT_EQ(tc_query(v0, TcSide::kEgress).value(), std::nullopt);
		auto out = tc_attach(v0, TcSide::kEgress, own);
		ASSERT_FALSE(out);
		EXPECT_NE(out.error().what.find("ingress qdisc"), std::string::npos) << out.error().what;
		EXPECT_TRUE(tc_detach(v0, TcSide::kEgress, false));
		EXPECT_EQ(tc_query(v0, TcSide::kIngress).value(), prog_id(own)) << "the ingress filter is not egress'";
		EXPECT_TRUE(tc_detach(v0, TcSide::kIngress, true));
		EXPECT_EQ(clsact(v0), "ingress") << "not ours to remove";
	});
}

bool has_tcx() {
	return tcx_programs(index_of("lo"), TcSide::kIngress).value().has_value();
}
std::vector<std::uint32_t> linked(const ClassifierPlace &place) {
	return tcx_programs(place.ifindex, place.side).value().value_or(std::vector<std::uint32_t>());
}

TEST_F(Attach, ClassifierStandsBeforeOthersFilters) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1");
		const ClassifierPlace place("/sys/fs/bpf", index_of("v0"), TcSide::kIngress);
		std::filesystem::create_directory("/sys/fs/bpf/link");
		const int first = tc_program("pt_first"), second = tc_program("pt_second");
		const bool tcx = has_tcx();
		const auto there = [&] { return classifier_query(place).value(); };
		EXPECT_FALSE(there().prog_id);
		ASSERT_TRUE(classifier_attach(place, first));
		EXPECT_EQ(linked(place).size(), tcx ? 1U : 0U);
		EXPECT_EQ(tc_query(place.ifindex, place.side).value().has_value(), !tcx);
		EXPECT_EQ(clsact(place.ifindex), tcx ? "none" : "clsact") << "no qdisc where none is needed";
		EXPECT_TRUE(there().settled);
		EXPECT_EQ(there().prog_id, prog_id(first));
		EXPECT_TRUE(classifier_attach(place, second)->replaced);
		EXPECT_EQ(there().prog_id, prog_id(second));

		sh("tc qdisc replace dev v0 clsact && tc filter add dev v0 ingress pref 10 u32 match u32 0 0");
		EXPECT_TRUE(there().settled);
		EXPECT_EQ(there().ahead, "");
		ASSERT_TRUE(classifier_attach(place, first)->replaced);
		EXPECT_EQ(linked(place).size(), tcx ? 1U : 0U) << "it stays where it is";
		sh("tc filter del dev v0 ingress pref 10");
		EXPECT_TRUE(there().settled);
		ASSERT_TRUE(classifier_detach(place, false));
		EXPECT_FALSE(there().prog_id);
		EXPECT_TRUE(linked(place).empty());

		sh("tc filter add dev v0 ingress pref 1 protocol ip u32 match u32 0 0");
		ASSERT_TRUE(classifier_attach(place, first));
		EXPECT_TRUE(there().settled);
		EXPECT_EQ(there().ahead, tcx ? "" : "a u32 filter of priority 1");
		sh("tc filter del dev v0 ingress pref 1");
		EXPECT_EQ(there().settled, tcx) << "there is a better place now";
		EXPECT_TRUE(classifier_attach(place, second)->replaced);
		EXPECT_TRUE(there().settled);
		EXPECT_EQ(there().ahead, "");
		ASSERT_TRUE(classifier_detach(place, true));
		EXPECT_TRUE(classifier_detach(place, true)) << "nothing to remove";
		EXPECT_EQ(clsact(place.ifindex), "none");
	});
}

TEST_F(Attach, ClassifierRunsBeforeOthersTcxPrograms) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1");
		std::filesystem::create_directory("/sys/fs/bpf/link");
		if (!has_tcx())
			return;
		const int other = tc_program("other"), own = tc_program("pt_own"), later = tc_program("later");
		for (const TcSide side : {TcSide::kIngress, TcSide::kEgress}) {
			const ClassifierPlace place("/sys/fs/bpf", index_of("v0"), side);
			ASSERT_TRUE(link_attach(place.ifindex, hook_of(side), other, "/sys/fs/bpf/other"));
			ASSERT_TRUE(classifier_attach(place, own));
			EXPECT_EQ(linked(place), (std::vector{prog_id(own), prog_id(other)}));
			EXPECT_EQ(classifier_query(place).value().ahead, "");
			ASSERT_TRUE(link_attach(place.ifindex, hook_of(side), later, "/sys/fs/bpf/later"));
			EXPECT_EQ(linked(place).front(), prog_id(later))
				<< "whoever comes later and wants to be first is";
			auto there = classifier_query(place).value();
			EXPECT_EQ(there.ahead, "a tcx program (id " + std::to_string(prog_id(later)) + ")");
			EXPECT_TRUE(there.settled) << "it is told, and not fought over";
			ASSERT_TRUE(link_detach("/sys/fs/bpf/later"));
			EXPECT_EQ(classifier_query(place).value().ahead, "");
			ASSERT_TRUE(classifier_detach(place, true));
			EXPECT_EQ(linked(place), std::vector{prog_id(other)});
			ASSERT_TRUE(link_detach("/sys/fs/bpf/other"));
		}
		EXPECT_FALSE(classifier_attach({"/sys/fs/bpf", 9999, TcSide::kIngress}, own)) << "no such device";
	});
}

TEST_F(Attach, ClassifierBesideAnIngressQdisc) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1 && tc qdisc add dev v0 handle ffff: ingress && "
		   "tc filter add dev v0 parent ffff: protocol ip u32 match u32 0 0 action mirred egress redirect dev "
		   "v1");
		std::filesystem::create_directory("/sys/fs/bpf/link");
		const ClassifierPlace in("/sys/fs/bpf", index_of("v0"), TcSide::kIngress);
		const ClassifierPlace out("/sys/fs/bpf", index_of("v0"), TcSide::kEgress);
		const int own = tc_program("pt_own");
		const bool tcx = has_tcx();
		ASSERT_TRUE(classifier_attach(in, own));
		EXPECT_TRUE(classifier_query(in).value().settled);
		EXPECT_EQ(classifier_query(in).value().ahead, "");
		EXPECT_EQ(classifier_query(out).value().blocked, !tcx);
		EXPECT_EQ(classifier_attach(out, own).has_value(), tcx);
		EXPECT_EQ(classifier_query(out).value().prog_id.has_value(), tcx);
		sh("tc qdisc del dev v0 ingress");
		EXPECT_FALSE(classifier_query(out).value().blocked);
		for (const auto &place : {in, out}) {
			ASSERT_TRUE(classifier_attach(place, own));
			EXPECT_TRUE(classifier_query(place).value().settled);
		}
		sh("tc qdisc replace dev v0 clsact");
		for (const auto &place : {in, out})
			EXPECT_TRUE(classifier_detach(place, true));
		EXPECT_EQ(clsact(in.ifindex), "none");
	});
}

TEST_F(Attach, ClassifierLeavesNoFilterOfAnEarlierVersion) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1");
		const ClassifierPlace place("/sys/fs/bpf", index_of("v0"), TcSide::kIngress);
		std::filesystem::create_directory("/sys/fs/bpf/link");
		const int old = tc_program("pt_old"), own = tc_program("pt_own");
		ASSERT_EQ(bpf_obj_pin(old, "/sys/fs/bpf/pt_old"), 0);
		sh("tc qdisc add dev v0 clsact && tc filter add dev v0 ingress pref 28788 handle 1 bpf da "
		   "object-pinned "
		   "/sys/fs/bpf/pt_old");
		const auto filters = tc_filters(place.ifindex, place.side).value();
		ASSERT_EQ(filters.size(), 1U);
		ASSERT_TRUE(filters[0].is_ptrig()) << filters[0].name;
		EXPECT_FALSE(classifier_query(place).value().settled);
		EXPECT_EQ(classifier_query(place).value().prog_id, prog_id(old));
		EXPECT_TRUE(classifier_attach(place, own)->replaced);
		EXPECT_TRUE(classifier_query(place).value().settled);
		EXPECT_EQ(tc_filters(place.ifindex, place.side).value().size(), has_tcx() ? 0U : 1U);
	});
}

TEST_F(Attach, XdpLink) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1 && ip link add v2 type veth peer name v3");
		auto v0 = index_of("v0");
		const std::string pin = "/sys/fs/bpf/v0";
		int first = xdp_program("pt_first"), second = xdp_program("pt_second");
		ASSERT_GE(first, 0);
		EXPECT_EQ(link_query(pin).value(), std::nullopt);
		auto attached = link_attach(v0, LinkHook::kXdp, first, pin);
		ASSERT_TRUE(attached) << attached.error().what;
		EXPECT_FALSE(attached->replaced);
		EXPECT_EQ(link_query(pin).value().value().prog_id, prog_id(first));
		EXPECT_EQ(link_query(pin).value().value().ifindex, v0);
		EXPECT_EQ(read_link(v0).value().value().xdp.mode, XdpSlot::Mode::kNative);
		auto again = link_attach(v0, LinkHook::kXdp, second, pin);
		ASSERT_TRUE(again) << again.error().what;
		EXPECT_TRUE(again->replaced);
		EXPECT_EQ(read_link(v0).value().value().xdp.prog_id, prog_id(second));
		// The pin of a device that is gone, or another, is taken along.
		sh("ip link del v0");
		EXPECT_EQ(link_query(pin).value().value().ifindex, 0U);
		auto moved = link_attach(index_of("v2"), LinkHook::kXdp, first, pin);
		ASSERT_TRUE(moved) << moved.error().what;
		EXPECT_FALSE(moved->replaced);
		EXPECT_EQ(link_query(pin).value().value().ifindex, index_of("v2"));
		EXPECT_TRUE(link_detach(pin));
		EXPECT_EQ(link_query(pin).value(), std::nullopt);
		EXPECT_EQ(read_link(index_of("v2")).value().value().xdp.mode, XdpSlot::Mode::kNone);
		EXPECT_TRUE(link_detach(pin)) << "nothing to remove";
	});
}

TEST_F(Attach, XdpSlotTaken) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1 && ip link add v2 type veth peer name v3 && ip link add br0 "
		   "type bridge");
		int own = xdp_program("pt_own"), other = xdp_program("other");
		ASSERT_EQ(bpf_obj_pin(other, "/sys/fs/bpf/other"), 0);
		sh("ip link set v0 xdpdrv pinned /sys/fs/bpf/other && ip link set v2 xdpgeneric pinned "
		   "/sys/fs/bpf/other");
		auto taken = link_attach(index_of("v0"), LinkHook::kXdp, own, "/sys/fs/bpf/v0");
		ASSERT_FALSE(taken);
		EXPECT_EQ(taken.error().what.find("attach XDP to v0: its XDP slot is taken by program id " +
						  std::to_string(prog_id(other))),
			  0U)
			<< taken.error().what;
		auto generic = link_attach(index_of("v2"), LinkHook::kXdp, own, "/sys/fs/bpf/v2");
		ASSERT_FALSE(generic);
		EXPECT_NE(generic.error().what.find("(generic mode)"), std::string::npos) << generic.error().what;
		EXPECT_EQ(read_link(index_of("v0")).value().value().xdp.prog_id, prog_id(other));
		auto bridge = link_attach(index_of("br0"), LinkHook::kXdp, own, "/sys/fs/bpf/br0");
		ASSERT_FALSE(bridge);
		EXPECT_NE(bridge.error().what.find("does not take a native XDP program"), std::string::npos)
			<< bridge.error().what;
		EXPECT_EQ(read_link(index_of("br0")).value().value().xdp.mode, XdpSlot::Mode::kNone) << "never generic";
		EXPECT_EQ(link_query("/sys/fs/bpf/br0").value(), std::nullopt);
	});
}

TEST_F(Attach, XdpRedirectsIntoVethNeedItsPeersNapi) {
	isolated([] {
		sh("ip link add v0 type veth peer name v1 && ip link add br0 type bridge");
		auto v0 = index_of("v0");
		auto takes = [&](const char *name) {
			auto link = read_link(index_of(name)).value().value();
			return xdp_takes_redirects(link, XdpContext{.features = xdp_features(link.ifindex).value()});
		};
		auto features = xdp_features(v0);
		ASSERT_TRUE(features) << features.error().what;
		if (!*features) {
			EXPECT_FALSE(takes("v0")) << "a kernel that cannot tell";
			return;
		}
		EXPECT_TRUE((*features)->native());
		EXPECT_FALSE(takes("v0"));
		EXPECT_FALSE(takes("br0"));
		sh("ethtool -K v1 gro on && ip link set v0 up && ip link set v1 up");
		EXPECT_TRUE(takes("v0"));
		EXPECT_FALSE(xdp_auto(read_link(v0).value().value(), XdpContext{.features = **features}).use);
		EXPECT_EQ(xdp_features(9999).value(), std::nullopt);
	});
}

} // namespace
} // namespace ptrig
