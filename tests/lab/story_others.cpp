// Other people's filters, qdiscs and tcx programs beside ptrig's: it sees packets first, they see them after it,
// whoever came first, and whatever comes and goes later.
#include "tests/lab/lab.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <net/if.h>

#include "loader/bpf_link.h"

namespace lab {

namespace {

/// Somebody's TC program that counts, drops one packet of `drop_one_of` (a power of two; 0: none), and lets the others
/// through for good: with TC_ACT_OK no later filter runs.
class Counting {
public:
	explicit Counting(std::int32_t drop_one_of)
	    : map_(bpf_map_create(BPF_MAP_TYPE_ARRAY, "foreign", 4, 8, 1, nullptr)) {
		const std::int32_t mask = drop_one_of > 0 ? drop_one_of - 1 : -1; // -1: when the count is 0 again
		const auto insn = [](std::uint8_t code, std::uint8_t dst, std::uint8_t src, std::int16_t off,
				     std::int32_t imm) {
			return bpf_insn{.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm};
		};
		const bpf_insn code[] = {
			insn(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0),
			insn(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0),
			insn(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -4),
			insn(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map_.get()),
			insn(0, 0, 0, 0, 0),
			insn(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem),
			insn(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 5, 0),
			insn(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_1, 0, 0, 1),
			insn(BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_0, BPF_REG_1, 0, BPF_ADD),
			insn(BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_1, BPF_REG_0, 0, 0),
			insn(BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_1, 0, 0, mask),
			insn(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 2, 0),
			insn(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, TC_ACT_OK),
			insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
			insn(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, TC_ACT_SHOT),
			insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
		};
		program_ = Fd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "foreign", "GPL", code, std::size(code), nullptr));
		if (program_.get() < 0)
			throw std::runtime_error("load the foreign program");
	}
	int program() const { return program_.get(); }
	std::uint64_t seen() const {
		const std::uint32_t key = 0;
		std::uint64_t count = 0;
		if (bpf_map_lookup_elem(map_.get(), &key, &count) != 0)
			throw std::runtime_error("read the foreign program's count");
		return count;
	}

private:
	Fd map_, program_;
};

} // namespace

class Others : public Lab {
protected:
	bool has_tcx() const;
	/// As sqm-scripts: what comes in goes through an ifb, whose tbf shapes it.
	void add_ifb();
	void shape_ingress(const std::string &device);
	std::uint64_t through_ifb() const;
	void add_filter(const Counting &filter, const std::string &device, bpf_tc_attach_point side);
	std::string warnings() const { return json({"status"}).at("warnings").dump(); }
	/// A trigger grants a lease anew, at once or within so long.
	testing::AssertionResult grants_within(milliseconds deadline);
	/// Where an ifb stands on the LAN: what one gives back to a bridge itself is not masqueraded, with ptrig or
	/// without.
	std::string lan_ingress() const { return xdp() ? lan_device() : "lan1if"; }
	/// Closed before the trigger; after it both protocols reach the host. Each may need another try, if packets are
	/// lost on the way.
	void expect_served();
};
LAB_STORIES(Others);

bool Others::has_tcx() const {
	return gw().inside([] {
		const auto programs = ptrig::tcx_programs(if_nametoindex("wan0"), ptrig::TcSide::kIngress);
		return programs && *programs;
	});
}

void Others::add_ifb() {
	ip(gw(), "link add ifb7 type ifb\nlink set ifb7 up\n");
	tc({"qdisc", "add", "dev", "ifb7", "root", "tbf", "rate", "100mbit", "burst", "100k", "latency", "50ms"});
}

void Others::shape_ingress(const std::string &device) {
	tc({"qdisc", "add", "dev", device, "handle", "ffff:", "ingress"});
	tc({"filter", "add", "dev",    device, "parent", "ffff:",  "protocol", "all",      "u32", "match", "u32",
	    "0",      "0",   "flowid", "1:1",  "action", "mirred", "egress",   "redirect", "dev", "ifb7"});
}

std::uint64_t Others::through_ifb() const {
	const Json shown = Json::parse(must(gw(), {"ip", "-s", "-j", "link", "show", "dev", "ifb7"}));
	return shown.at(0).at("stats64").at("tx").at("packets");
}

void Others::add_filter(const Counting &filter, const std::string &device, bpf_tc_attach_point side) {
	tc({"qdisc", "replace", "dev", device, "clsact"});
	const int error = gw().inside([&] {
		DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = int(if_nametoindex(device.c_str())),
				    .attach_point = side);
		DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = filter.program(), .handle = 1, .priority = 777);
		return bpf_tc_attach(&hook, &opts);
	});
	if (error != 0)
		throw std::runtime_error("attach the foreign filter");
}

testing::AssertionResult Others::grants_within(milliseconds deadline) {
	ptrig({"lease", "close", "game"});
	const bool granted = eventually(deadline, [&] {
		try_trigger(lan1(), {kRemote1, 4000}, {}, 50ms);
		return !leases("game").empty();
	});
	return granted ? testing::AssertionSuccess()
		       : testing::AssertionFailure() << "nothing triggers: " << warnings();
}

void Others::expect_served() {
	EXPECT_NE(who_gets_udp(6000), "lan1") << "before the trigger";
	EXPECT_NE(who_gets_tcp(6000), "lan1") << "before the trigger";
	ASSERT_TRUE(grants_within(5s));
	EXPECT_TRUE(eventually(10s, [&] { return who_gets_udp(6001) == "lan1"; }));
	EXPECT_TRUE(eventually(10s, [&] { return who_gets_tcp(6002) == "lan1"; }));
}

TEST_P(Others, AnIfbOnTheWan) {
	start_afresh();
	add_ifb();
	shape_ingress("wan0");
	run_daemon(game());
	if (has_tcx()) {
		EXPECT_EQ(warnings().find("ptrig does not see"), std::string::npos) << warnings();
		EXPECT_EQ(warnings().find("nothing triggers"), std::string::npos) << warnings();
	} else {
		EXPECT_NE(warnings().find("wan0: nothing triggers towards it: an ingress qdisc"), std::string::npos)
			<< warnings();
		EXPECT_TRUE(try_trigger(lan1())) << "ordinary traffic goes on";
		EXPECT_TRUE(leases("game").empty());
		tc({"qdisc", "del", "dev", "wan0", "ingress"});
		EXPECT_TRUE(grants_within(5s)) << "and once the qdisc is gone, it is attached";
		EXPECT_EQ(warnings().find("nothing triggers"), std::string::npos) << warnings();
		ptrig({"lease", "close", "game"});
		return;
	}
	expect_served();
	std::uint64_t before = through_ifb();
	EXPECT_EQ(who_gets_udp(7000), "gateway") << "a port of no rule";
	EXPECT_GT(through_ifb(), before) << "ordinary packets go by the ifb";
	before = through_ifb();
	const auto own = connect_out(lan1());
	ASSERT_TRUE(own);
	EXPECT_TRUE(exchange(own->first, own->second, 1 << 16)) << "a host's own connection, through the ifb";
	EXPECT_GT(through_ifb(), before);
	EXPECT_NE(must(gw(), {"tc", "qdisc", "show", "dev", "wan0"}).find("ingress ffff:"), std::string::npos);
}

TEST_P(Others, AnIfbOnTheLan) {
	start_afresh();
	add_ifb();
	shape_ingress(lan_ingress());
	up(game());
	const std::uint64_t before = through_ifb();
	expect_served();
	EXPECT_GT(through_ifb(), before) << "ordinary packets go by the ifb";
	EXPECT_EQ(warnings().find("ptrig does not see"), std::string::npos) << warnings();
}

TEST_P(Others, APolicerOnTheWan) {
	start_afresh();
	const Counting policer(4);
	add_filter(policer, "wan0", BPF_TC_INGRESS);
	up(game());
	const std::uint64_t before = policer.seen();
	EXPECT_TRUE(eventually(5s, [&] { return who_gets_udp(7000) == "gateway"; })) << "a port of no rule";
	EXPECT_GT(policer.seen(), before);
	expect_served();
	EXPECT_EQ(warnings().find("ptrig does not see"), std::string::npos) << warnings();
}

TEST_P(Others, AFilterThatEndsTheChainWhereItLeaves) {
	const Counting filter(0);
	start_afresh();
	add_filter(filter, "wan0", BPF_TC_EGRESS);
	up(game());
	const std::uint64_t before = filter.seen();
	expect_served();
	EXPECT_GT(filter.seen(), before) << "it sees what ptrig has seen";
}

/// `flowid` overwrites skb->tc_index.
TEST_P(Others, AnOkFilterOnTheLan) {
	start_afresh();
	tc({"qdisc", "add", "dev", lan_device(), "clsact"});
	tc({"filter", "add", "dev", lan_device(), "ingress", "protocol", "ip", "u32", "match", "ip", "src", "0.0.0.0/0",
	    "flowid", "1:77"});
	up(game());
	expect_served();
}

TEST_P(Others, ThatComeAndGoStopNoTrigger) {
	run_daemon(game());
	add_ifb();
	const bool tcx = has_tcx();
	const Counting filter(0);
	for (int i = 0; i < 3; i++) {
		if (tcx) {
			shape_ingress("wan0");
			shape_ingress(lan_ingress());
			EXPECT_TRUE(grants_within(2s)) << "beside ingress qdiscs, " << i;
			tc({"qdisc", "del", "dev", "wan0", "ingress"});
			tc({"qdisc", "del", "dev", lan_ingress(), "ingress"});
			EXPECT_TRUE(grants_within(2s)) << "after them, " << i;
		}
		add_filter(filter, "wan0", BPF_TC_INGRESS);
		EXPECT_TRUE(grants_within(2s)) << "beside a filter, " << i;
		tc({"qdisc", "del", "dev", "wan0", "clsact"}); // before 6.6 ptrig's filters go with it
		EXPECT_TRUE(grants_within(2s)) << "after it, " << i;
		EXPECT_TRUE(eventually(2s, [&] { return who_gets_udp(6001) == "lan1"; })) << i;
	}
}

TEST_P(Others, TheDaemonPutsBackWhatSomebodyDetached) {
	const Process &daemon = run_daemon(game());
	for (const char *side : {"ingress", "egress"}) {
		if (has_tcx()) {
			const auto ifindex = gw().inside([] { return if_nametoindex("wan0"); });
			must(gw(), {"bpftool", "link", "detach", "pinned",
				    kPins + "/link/tc_" + std::to_string(ifindex) + "_" + side});
		} else {
			tc({"filter", "del", "dev", "wan0", side});
		}
		EXPECT_TRUE(eventually(3s, [&] {
			return daemon.err().find("wan0: the " + std::string(side) + " program was gone") !=
			       std::string::npos;
		})) << daemon.err();
		EXPECT_TRUE(grants_within(2s));
		EXPECT_TRUE(eventually(2s, [&] { return who_gets_udp(6001) == "lan1"; }));
	}
}

TEST_P(Others, WhoStandsBeforePtrigIsTold) {
	start_afresh();
	const Counting first(0);
	const std::string before = "sees what comes in before ptrig";
	if (has_tcx()) {
		run_daemon(game());
		EXPECT_EQ(warnings().find(before), std::string::npos) << warnings();
		const auto attached = gw().inside([&] {
			return ptrig::link_attach(if_nametoindex("wan0"), ptrig::LinkHook::kTcIngress, first.program(),
						  "/sys/fs/bpf/foreign");
		});
		ASSERT_TRUE(attached) << attached.error().what;
	} else {
		tc({"qdisc", "add", "dev", "wan0", "clsact"});
		tc({"filter", "add", "dev", "wan0", "ingress", "pref", "1", "protocol", "ip", "u32", "match", "u32",
		    "0", "0"});
		run_daemon(game());
	}
	EXPECT_TRUE(eventually(2s, [&] { return warnings().find("wan0: a ") != std::string::npos; })) << warnings();
	EXPECT_NE(warnings().find(before), std::string::npos) << warnings();
	if (has_tcx())
		ASSERT_TRUE(ptrig::link_detach("/sys/fs/bpf/foreign"));
	else
		tc({"filter", "del", "dev", "wan0", "ingress", "pref", "1"});
	EXPECT_TRUE(eventually(2s, [&] { return warnings().find(before) == std::string::npos; })) << warnings();
	EXPECT_TRUE(grants_within(2s));
	EXPECT_EQ(who_gets_udp(6001), "lan1");
}

} // namespace lab
