// Running a frame and what every run must satisfy; see harness.h.
#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

#include <cstdlib>

#include <arpa/inet.h>
#include <linux/pkt_cls.h>

namespace ptrig::test {

namespace {

std::int32_t wanted_action(Hook hook, Kind kind) {
	const bool xdp = is_xdp(hook);
	if (kind == Kind::FAST && xdp)
		return XDP_REDIRECT;
	if (kind == Kind::AGAIN || kind == Kind::REDIRECT || kind == Kind::FAST)
		return TC_ACT_REDIRECT;
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
	forget_flows();
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
	for (const std::string &address : known_)
		neighbour(address, {}, "lan0");
	known_.clear();
}

void DatapathTest::knows(const std::string &address, const std::string &mac) {
	neighbour(address, mac_bytes(mac), "lan0");
	known_.push_back(address);
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
	if (kind == Kind::FAST || kind == Kind::REWRITE || kind == Kind::REDIRECT || kind == Kind::DROP ||
	    reason == PTRIG_SWAPPED_SYN)
		return;
	EXPECT_TRUE(result.packet == in) << name_of(reason)
					 << " must leave the packet as it is: " << ::testing::PrintToString(Packet(in))
					 << "\nis now " << ::testing::PrintToString(Packet(result.packet));
}

enum ptrig_reason DatapathTest::run(Hook hook, const std::string &dev, const Packet &in, Packet *out,
				    const std::string &from) {
	const auto before = dp_->counters();
	const Bytes frame = in.bytes();
	const auto result = dp_->run(hook, dev, frame, from);
	const auto reason = moved(before);
	if (out)
		*out = Packet(result.packet);
	if (reason == PTRIG_REASON_COUNT)
		return reason;
	check_run(hook, reason, frame, result);
	produced().insert(reason);
	return reason;
}

namespace {

constexpr std::size_t header_of(const std::string &dev) {
	return dev.starts_with("tun") ? 0 : 14;
}

/// The packet as it leaves by its entry; as it came if it has none.
Packet by_entry(const Packet &in, const std::string &from, bool to_wan, const std::string &to) {
	const Bytes frame = in.bytes();
	const auto tuple = tuple_of(frame, header_of(from));
	const test_entry entry = tuple ? entry_of(*tuple) : test_entry{};
	return entry.found ? Packet(forwarded(frame, header_of(from), entry, to_wan, header_of(to) == 0)) : in;
}

} // namespace

enum ptrig_reason DatapathTest::from_wan(const std::string &wan, const Packet &in, Packet *out,
					 const std::string &lan) {
	const auto reason = run(Hook::kWanIn, wan, in, out);
	if (out && reason != PTRIG_REASON_COUNT && kind_of(reason) == Kind::ENTRY)
		*out = by_entry(in, wan, false, lan);
	return reason;
}

enum ptrig_reason DatapathTest::to_host(const Packet &in, Packet *out, const std::string &wan, const std::string &lan) {
	Packet left;
	const auto reason = from_wan(wan, in, &left, lan);
	if (reason != PTRIG_REASON_COUNT && kind_of(reason) == Kind::ENTRY) {
		EXPECT_EQ(run(Hook::kLanOut, lan, left, nullptr, wan), PTRIG_NO_ANSWER);
	}
	if (out)
		*out = left;
	return reason;
}

enum ptrig_reason DatapathTest::through(const Packet &in, const Way &way, Packet *out) {
	const auto reason = run(Hook::kLanIn, way.lan, in, out);
	if (reason == PTRIG_REASON_COUNT)
		return reason;
	if (reason == PTRIG_HAIRPIN_OPENED) {
		EXPECT_EQ(run(Hook::kLanIn, way.lan, in, out), PTRIG_HALF_OPEN) << "the second time";
	}
	if (reason == PTRIG_HAIRPIN_OPENED || kind_of(reason) == Kind::ENTRY) {
		if (out)
			*out = by_entry(in, way.lan, false, way.lan);
		return reason;
	}
	if (reason != PTRIG_HEARD && reason != PTRIG_CANDIDATE)
		return reason;
	const Bytes frame = in.bytes();
	const auto tuple = tuple_of(frame, header_of(way.lan));
	if (!tuple)
		return reason;
	test_entry entry = entry_of(*tuple);
	if (!entry.found)
		entry = masquerade(*tuple, way.wan_address, way.port);
	EXPECT_TRUE(entry.found) << "no entry for " << ::testing::PrintToString(in);
	Packet left(forwarded(frame, header_of(way.lan), entry, true, header_of(way.wan) == 0));
	const auto then = run(Hook::kWanOut, way.wan, left, &left, way.lan);
	if (then == PTRIG_SWAPPED_SYN) {
		EXPECT_EQ(run(Hook::kLanIn, way.lan, left), PTRIG_CANDIDATE) << "the second time";
		entry = entry_of(*tuple);
		left = Packet(forwarded(left.bytes(), header_of(way.lan), entry, true, header_of(way.wan) == 0));
		EXPECT_NE(run(Hook::kWanOut, way.wan, left, &left, way.lan), PTRIG_SWAPPED_SYN) << "once";
	}
	if (out)
		*out = left;
	return then == PTRIG_NO_CANDIDATE ? reason : then;
}

enum ptrig_reason DatapathTest::trigger(const Machine &who, const Packet &l4, const std::string &remote,
					const Way &way) {
	const Packet ip = Ip4{.src = who.address, .dst = remote} / l4;
	const bool from_l3 = way.lan.starts_with("tun");
	return through(from_l3 ? ip : Eth{.src = who.mac, .dst = way.lan == "lan1" ? kLan1Mac : kLanMac} / ip, way);
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
