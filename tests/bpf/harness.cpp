// Running a frame and what every run must satisfy; see harness.h.
#include "tests/bpf/harness.h"

#include <cstdlib>

#include <arpa/inet.h>
#include <linux/pkt_cls.h>

namespace ptrig::test {

namespace {

std::int32_t wanted_action(Hook hook, Kind kind) {
	const bool xdp = is_xdp(hook);
	if (kind == Kind::AGAIN)
		return TC_ACT_REDIRECT;
	if (kind == Kind::REDIRECT)
		return xdp ? XDP_REDIRECT : TC_ACT_REDIRECT;
	if (kind == Kind::DROP)
		return xdp ? XDP_DROP : TC_ACT_SHOT;
	return xdp ? XDP_PASS : TC_ACT_UNSPEC;
}

/// Loaded once for the whole suite.
Datapath &shared() {
	static Datapath datapath;
	return datapath;
}

} // namespace

void DatapathTest::SetUp() {
	if (!in_world()) {
		if (const char *ci = std::getenv("CI"); ci && std::string(ci) == "true")
			FAIL() << "needs root and network namespaces, and CI=true forbids to skip";
		GTEST_SKIP() << "needs root and network namespaces";
	}
	if (sizes_)
		return use(*sizes_);
	own_.reset();
	dp_ = &shared();
	use_maps();
}

void DatapathTest::use(const Sizes &sizes) {
	own_ = std::make_unique<Datapath>(sizes);
	dp_ = own_.get();
	use_maps();
}

void DatapathTest::TearDown() {
	if (dp_ && books_)
		check_books();
}

enum ptrig_reason DatapathTest::moved(const std::vector<std::uint64_t> &before) const {
	const auto after = dp_->counters();
	std::string what;
	unsigned reason = PTRIG_REASON_COUNT;
	std::uint64_t moves = 0;
	for (unsigned i = 0; i < after.size(); i++) {
		if (after[i] == before[i])
			continue;
		moves += after[i] - before[i];
		reason = i;
		what += std::string(" ") + name_of(i) + "+" + std::to_string(after[i] - before[i]);
	}
	EXPECT_EQ(moves, 1U) << "one packet, one reason; counted:" << what;
	return static_cast<enum ptrig_reason>(reason);
}

void DatapathTest::check_run(Hook hook, enum ptrig_reason reason, const Bytes &in, const Datapath::Run &result) {
	const Kind kind = kind_of(reason);
	EXPECT_NE(kind, Kind::END) << name_of(reason) << " is no packet's reason";
	EXPECT_EQ(result.action, wanted_action(hook, kind)) << "the action for " << name_of(reason);
	if (kind == Kind::UP || kind == Kind::REDIRECT || kind == Kind::DROP)
		return;
	EXPECT_TRUE(result.packet == in) << name_of(reason)
					 << " must leave the packet as it is: " << ::testing::PrintToString(Packet(in))
					 << "\nis now " << ::testing::PrintToString(Packet(result.packet));
}

enum ptrig_reason DatapathTest::run(Hook hook, const std::string &dev, const Packet &in, Packet *out,
				    const std::string &from, std::uint16_t tc_index) {
	const auto before = dp_->counters();
	const Bytes frame = in.bytes();
	const auto result = dp_->run(hook, dev, frame, from, tc_index);
	const auto reason = moved(before);
	if (out)
		*out = Packet(result.packet);
	if (reason == PTRIG_REASON_COUNT)
		return reason;
	check_run(hook, reason, frame, result);
	produced().insert(reason);
	return reason;
}

std::uint16_t DatapathTest::candidate(const Packet &in, const std::string &dev) {
	const auto before = dp_->counters();
	const auto tc_index = dp_->run_lan_in_for_tc_index(dev, in.bytes());
	EXPECT_EQ(moved(before), PTRIG_CANDIDATE);
	return tc_index;
}

enum ptrig_reason DatapathTest::trigger(const Machine &who, const Packet &l4, const std::string &remote,
					const Way &way) {
	const bool from_l3 = way.lan.starts_with("tun"), to_l3 = way.wan.starts_with("tun");
	const Packet ip = Ip4{.src = who.address, .dst = remote} / l4;
	const Packet in = from_l3 ? ip : Eth{.src = who.mac, .dst = way.lan == "lan1" ? kLan1Mac : kLanMac} / ip;
	const auto before = dp_->counters();
	const auto tc_index = dp_->run_lan_in_for_tc_index(way.lan, in.bytes());
	const auto reason = moved(before);
	if (reason == PTRIG_REASON_COUNT)
		return reason;
	produced().insert(reason);
	if (reason != PTRIG_CANDIDATE) {
		EXPECT_EQ(tc_index, 0) << "only a candidate carries a slot";
		return reason;
	}
	const Packet left = Ip4{.src = way.wan_address, .dst = remote, .ttl = 63} / l4;
	return run(Hook::kWanOut, way.wan, to_l3 ? left : Eth{} / left, nullptr, way.lan, tc_index);
}

void DatapathTest::granted(const std::vector<Rule> &rules) {
	apply(rules);
	const PortRange port = rules.at(0).trigger.at(0);
	const Packet l4 = port.protos & PTRIG_TCP ? Packet(Tcp{.dport = port.first}) : Packet(Udp{.dport = port.first});
	ASSERT_EQ(trigger(kA, l4), PTRIG_GRANTED);
}

enum ptrig_reason DatapathTest::answer(const Machine &to, const Packet &l4, const std::string &remote) {
	return lan_out(Eth{.src = kLanMac, .dst = to.mac} / Ip4{.src = remote, .dst = to.address, .ttl = 63} / l4);
}

Packet l3(const Packet &frame) {
	const Bytes bytes = frame.bytes();
	return bytes.size() < 14 ? frame : Packet(Bytes(bytes.begin() + 14, bytes.end()));
}

} // namespace ptrig::test
