// The fast path, by TC and by XDP: it repeats what was seen leaving, byte for byte, for a second, and nothing else.
// Permission comes from packets that leave by the kernel's way alone.
#include <chrono>
#include <netinet/in.h>

#include <linux/pkt_cls.h>

#include "loader/program.h"
#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

using std::chrono::milliseconds;

const Packet kIn = kFromRemote / kRemoteToWan / kKnock / "in", kOut = kFromHost / kHostToRemote / kReply / "out";

/// Parameter: by XDP?
class Fast : public DatapathTest, public ::testing::WithParamInterface<bool> {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		with_fast(GetParam());
		Rule rule = media();
		rule.open = {open(udp(16384, 16385)), open(udp(6000), 7000), open(tcp(113))};
		granted({rule});
		establish(kKnock, kReply);
	}
	void TearDown() override {
		without_xdp();
		DatapathTest::TearDown();
	}
	/// A session of which one packet of each direction has just been seen leaving.
	void establish(const Packet &in, const Packet &out) {
		ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / in), PTRIG_OPENED);
		ASSERT_EQ(lan_in(kFromHost / kHostToRemote / out), PTRIG_ESTABLISHED);
		ASSERT_EQ(to_host(kFromRemote / kRemoteToWan / in), PTRIG_FORWARDED);
		ASSERT_EQ(lan_in(kFromHost / kHostToRemote / out), PTRIG_FORWARDED);
	}
	/// Permissions are as if given this moment, however long the test has run.
	void renew() {
		age_fast(seconds(1));
		ASSERT_EQ(slow_in(kIn), PTRIG_FORWARDED);
		ASSERT_EQ(slow_out(kOut), PTRIG_FORWARDED);
	}
	/// By the kernel's way, seen leaving: with permission only XDP lets a packet come so far.
	enum ptrig_reason slow_in(const Packet &in) { return to_host(in); }
	enum ptrig_reason slow_out(const Packet &in) { return lan_in(in); }
	enum ptrig_reason none() const { return GetParam() ? PTRIG_TO_TC : PTRIG_FORWARDED; }

	/// The fast path alone: ACCELERATED, or what its program says else.
	enum ptrig_reason in(const Packet &packet, Packet *out = nullptr) {
		return run(GetParam() ? Hook::kXdpWan : Hook::kWanIn, "wan0", packet, out);
	}
	enum ptrig_reason out(const Packet &packet, Packet *out = nullptr) {
		return run(GetParam() ? Hook::kXdpLan : Hook::kLanIn, "lan0", packet, out);
	}
	/// Neither takes it.
	void expect_not_in(const Packet &packet, const std::string &why = "") {
		EXPECT_NE(in(packet), PTRIG_ACCELERATED) << why;
	}
	void expect_not_out(const Packet &packet, const std::string &why = "") {
		EXPECT_NE(out(packet), PTRIG_ACCELERATED) << why;
	}
	Pair of_port(std::uint16_t port) const {
		for (const Pair &pair : sessions())
			if (pair.wan_key.dport == htons(port))
				return pair;
		ADD_FAILURE() << "no session of port " << port;
		return {};
	}
};

/// While it rests, nothing is repeated, and nothing waits for the program at LAN egress, which is not there.
TEST_P(Fast, NothingWhileItRests) {
	dp().memory<ptrig_state>("pt_state")[0].fast = PTRIG_STATE_FAST_RESTS;
	for (int i = 0; i < 2; i++) {
		expect_not_in(kIn);
		expect_not_out(kOut);
		EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	}
	for (const auto &[number, waiting] : dp().entries<std::uint32_t, std::uint32_t>("pt_hints"))
		EXPECT_TRUE(number < PTRIG_HINTS || !waiting) << number;
}

TEST_P(Fast, BothDirections) {
	Packet seen;
	EXPECT_EQ(in(kIn, &seen), PTRIG_ACCELERATED);
	EXPECT_EQ(seen, kToHost / kRemoteToHost / kKnock / "in");
	EXPECT_EQ(out(kOut, &seen), PTRIG_ACCELERATED);
	EXPECT_EQ(seen, kToRemote / kWanToRemote / kReply / "out");
}

TEST_P(Fast, Mapped) {
	const Udp there{.sport = 4000, .dport = 6000}, back{.sport = 7000, .dport = 4000};
	establish(there, back);
	Packet seen;
	EXPECT_EQ(in(kFromRemote / kRemoteToWan / there / "x", &seen), PTRIG_ACCELERATED);
	EXPECT_EQ(seen, (kToHost / kRemoteToHost / Udp{.sport = 4000, .dport = 7000} / "x"));
	EXPECT_EQ(out(kFromHost / kHostToRemote / back / "y", &seen), PTRIG_ACCELERATED);
	EXPECT_EQ(seen, (kToRemote / kWanToRemote / Udp{.sport = 6000, .dport = 4000} / "y"));
}

TEST_P(Fast, OnlyWhatWasSeenLeavingByTheKernelsWay) {
	const Udp there{.sport = 4000, .dport = 16385}, back{.sport = 16385, .dport = 4000};
	const Packet ask = kFromRemote / kRemoteToWan / there, answer = kFromHost / kHostToRemote / back;
	ASSERT_EQ(wan_in(ask), PTRIG_OPENED);
	expect_not_in(ask, "half-open");
	ASSERT_EQ(lan_in(answer), PTRIG_ESTABLISHED);
	expect_not_in(ask, "none has left to the host");
	expect_not_out(answer, "the first answer tells nothing");
	expect_not_in(ask, "what the firewall has dropped gives nothing");
	ASSERT_EQ(to_host(ask), PTRIG_FORWARDED);
	EXPECT_EQ(in(ask), PTRIG_ACCELERATED);
	expect_not_out(answer, "each direction for itself");
	ASSERT_EQ(lan_in(answer), PTRIG_FORWARDED);
	EXPECT_EQ(out(answer), PTRIG_ACCELERATED);
}

TEST_P(Fast, ForASecond) {
	age_fast(milliseconds(700));
	EXPECT_EQ(in(kIn), PTRIG_ACCELERATED);
	EXPECT_EQ(out(kOut), PTRIG_ACCELERATED);
	age_fast(milliseconds(301));
	expect_not_in(kIn);
	expect_not_out(kOut);
	expect_not_in(kIn, "until one is seen leaving");
	EXPECT_EQ(slow_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(in(kIn), PTRIG_ACCELERATED);
	expect_not_out(kOut, "each direction for itself");
	EXPECT_EQ(slow_out(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(out(kOut), PTRIG_ACCELERATED);
}

/// A packet that TC has sent on passes egress, too, and may meet the look that another one has been given.
TEST_P(Fast, WhatTookTheFastPathGivesNoPermission) {
	if (GetParam())
		return; // XDP's frames pass no egress program
	Packet fast;
	EXPECT_EQ(in(kIn, &fast), PTRIG_ACCELERATED);
	age_fast(seconds(1));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED) << "asks, and is dropped by the firewall";
	EXPECT_EQ(dp().run(Hook::kLanOut, "lan0", fast.bytes(), "wan0", true).action, TC_ACT_UNSPEC);
	expect_not_in(kIn);
}

/// A queueing discipline may go by them, as it does for every packet that the kernel forwards.
TEST_P(Fast, MarkAndPriorityAreRepeated) {
	if (GetParam())
		return; // XDP's frames have none, and pass no such discipline
	const auto of = [&](Hook hook, const std::string &dev, const Packet &packet) {
		const auto result = dp().run(hook, dev, packet.bytes(), "");
		EXPECT_EQ(result.action, TC_ACT_REDIRECT);
		return result.marks;
	};
	using Marks = Datapath::Marks;
	EXPECT_EQ(of(Hook::kWanIn, "wan0", kIn), Marks());
	age_fast(seconds(1));
	dp().marks = {.mark = 7, .priority = 0x10002};
	EXPECT_EQ(slow_in(kIn), PTRIG_FORWARDED);
	dp().marks = {.mark = 8, .priority = 6};
	EXPECT_EQ(slow_out(kOut), PTRIG_FORWARDED);
	dp().marks = {};
	EXPECT_EQ(of(Hook::kWanIn, "wan0", kIn), (Marks{.mark = 7, .priority = 0x10002}));
	EXPECT_EQ(of(Hook::kLanIn, "lan0", kOut), (Marks{.mark = 8, .priority = 6}));
}

TEST_P(Fast, MoreSessionsLongerPermission) {
	const auto permitted = [&](std::uint64_t sessions) {
		books_ = false;
		auto map = dp().map<std::uint32_t, ptrig_usage>("pt_usage");
		ptrig_usage used = usage();
		used.sessions = sessions;
		EXPECT_TRUE(map.update(0, used));
		age_fast(seconds(1));
		EXPECT_EQ(slow_in(kIn), PTRIG_FORWARDED);
		std::uint32_t until = 0;
		for (const ptrig_fast &way : fast_ways())
			until = std::max(until, way.until);
		const auto hops = dp().memory<ptrig_hop>("pt_hops");
		std::uint32_t now = 0;
		for (std::size_t i = 0; i < hops.size(); i++)
			now = std::max(now, hops[i].until); // a second from then
		return until - now;
	};
	const std::uint32_t hz = tick_hz().value();
	EXPECT_EQ(permitted(10), 0U);
	EXPECT_EQ(permitted(10000), 0U);
	EXPECT_EQ(permitted(40000), 3 * hz) << "four seconds: 20,000 looks a second";
	EXPECT_EQ(permitted(80000), 7 * hz);
	EXPECT_EQ(permitted(10000000), 7 * hz) << "never more than eight";

	auto state = dp().memory<ptrig_state>("pt_state");
	state[0].followed_ns = 0;
	EXPECT_EQ(permitted(80000), 0U) << "nobody would shorten it when the firewall changes";
	state[0].followed_ns = ~0ULL;

	config_.timeouts.udp = seconds(4);
	apply(config_.rules, 1);
	EXPECT_EQ(permitted(80000), hz) << "two seconds: half of the time after which it would be over";
	config_.timeouts.udp = minutes(5);

	Rule rule = config_.rules[0];
	rule.on_close = OnClose::kKill;
	apply({rule}, 0);
	EXPECT_EQ(permitted(80000), 0U) << "a second, where it must end with its lease";
	rule.on_close = OnClose::kKeep;
	rule.max_lifetime = minutes(60);
	apply({rule}, 1);
	EXPECT_EQ(permitted(80000), 0U);
}

TEST_P(Fast, Counts) {
	const auto before = session();
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(in(kIn), PTRIG_ACCELERATED);
	EXPECT_EQ(session().wan.packets, before.wan.packets) << "the kernel's way alone";
	EXPECT_EQ(with_counts(session().wan).packets, before.wan.packets + 3);
	EXPECT_EQ(with_counts(session().wan).bytes, before.wan.bytes + 3 * 30U);
	age_fast(seconds(1));
	EXPECT_EQ(slow_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(session().wan.packets, before.wan.packets + 4) << "the next look adds what was counted";
	EXPECT_EQ(session().wan.bytes, before.wan.bytes + 4 * 30U);
	EXPECT_EQ(with_counts(session().wan).packets, before.wan.packets + 4);
	EXPECT_EQ(slow_out(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(out(kOut), PTRIG_ACCELERATED);
	const auto all = session();
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 1U);
	EXPECT_EQ(lease("media")->packets, all.wan.packets + all.lan.packets + 1)
		<< "an ended session's packets are its lease's";
}

TEST_P(Fast, Checksums) {
	for (const Csum csum : {kRight, kZero, kWrong})
		for (const std::size_t n : {0, 1, 2, 63, 64, 1400}) {
			Packet seen;
			const Udp there{.sport = 7000, .dport = 16384, .csum = csum},
				back{.sport = 16384, .dport = 7000, .csum = csum};
			renew();
			EXPECT_EQ(in(kFromRemote / kRemoteToWan / there / Fill{n}, &seen), PTRIG_ACCELERATED);
			EXPECT_EQ(seen, kToHost / kRemoteToHost / there / Fill{n});
			EXPECT_EQ(out(kFromHost / kHostToRemote / back / Fill{n}, &seen), PTRIG_ACCELERATED);
			EXPECT_EQ(seen, kToRemote / kWanToRemote / back / Fill{n});
		}
	Ip4 from = kRemoteToWan, to = kRemoteToHost;
	from.csum = to.csum = kWrong;
	Packet seen;
	EXPECT_EQ(in(kFromRemote / from / kKnock, &seen), PTRIG_ACCELERATED);
	EXPECT_EQ(seen, kToHost / to / kKnock);
}

TEST_P(Fast, UdpResultZeroIsWrittenAsAllOnes) {
	for (unsigned i = 0; i <= 0xffff; i++) {
		const Packet payload = Bytes{static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)};
		const Bytes after = (kToHost / kRemoteToHost / kKnock / payload).bytes();
		if (after[40] != 0xff || after[41] != 0xff)
			continue;
		Packet seen;
		renew();
		EXPECT_EQ(in(kFromRemote / kRemoteToWan / kKnock / payload, &seen), PTRIG_ACCELERATED);
		EXPECT_EQ(seen, Packet(after));
		return;
	}
	FAIL() << "no payload gives that sum";
}

TEST_P(Fast, AsTheKernelDoes) {
	for (std::size_t n = 0; n < 1473; n += 49)
		for (const int ttl : {2, 64, 255}) {
			Ip4 ip = kRemoteToWan;
			ip.ttl = static_cast<std::uint8_t>(ttl), ip.tos = static_cast<std::uint8_t>(n), ip.df = n % 2;
			const Packet packet = kFromRemote / ip / kKnock / Fill{n};
			Packet fast, slow;
			age_fast(seconds(1));
			EXPECT_EQ(to_host(packet, &slow), PTRIG_FORWARDED);
			EXPECT_EQ(in(packet, &fast), PTRIG_ACCELERATED);
			EXPECT_EQ(fast, slow);
		}
}

TEST_P(Fast, EthernetPaddingStays) {
	Packet seen;
	const Packet padding = Fill{16}, packet = Packet(kIn.bytes()) / padding;
	EXPECT_EQ(in(packet, &seen), PTRIG_ACCELERATED);
	EXPECT_EQ(seen, Packet((kToHost / kRemoteToHost / kKnock / "in").bytes()) / padding);
}

TEST_P(Fast, NoSession) {
	expect_not_in(kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = 53});
	expect_not_in(kFromRemote / Ip4{.src = kRemote, .dst = kWanSecond} / kKnock);
	expect_not_in(kFromRemote / Ip4{.src = kRemote2, .dst = kWan} / Udp{.sport = 7000, .dport = 53});
	expect_not_out(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply);
	expect_not_out(kFromHost / kHostToRemote / Tcp{.sport = 16384, .dport = 7000, .flags = kAck});
}

TEST_P(Fast, ASideIsASide) {
	expect_not_out(kFromHost / kRemoteToWan / kKnock, "a LAN host that plays the remote");
	expect_not_in(kFromRemote / kHostToRemote / kReply, "a remote that plays the host");
}

TEST_P(Fast, AnEndedSessionHasNoneAtOnce) {
	EXPECT_EQ(fast_ways().size(), 2U);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 1U);
	EXPECT_TRUE(fast_ways().empty());
	expect_not_in(kIn);
	expect_not_out(kOut);
}

TEST_P(Fast, WhoeverElseSendsIt) {
	for (const Eth &eth : {Eth{.src = kStrangerMac, .dst = kLanMac}, Eth{.src = kHostMac, .dst = kHost2Mac},
			       Eth{.src = kHostMac, .dst = "ff:ff:ff:ff:ff:ff"}})
		expect_not_out(eth / kHostToRemote / kReply / "out");
	expect_not_in(Eth{.src = kRemoteMac, .dst = kHostMac} / kRemoteToWan / kKnock, "a promiscuous interface");
	EXPECT_EQ(in(Eth{.src = kRouterMac, .dst = kWanMac} / kRemoteToWan / kKnock), PTRIG_ACCELERATED)
		<< "by whichever router";
	EXPECT_NE(run(GetParam() ? Hook::kXdpLan : Hook::kLanIn, "lan1", kOut), PTRIG_ACCELERATED)
		<< "by another interface";
	EXPECT_NE(run(GetParam() ? Hook::kXdpWan : Hook::kWanIn, "wan1", kIn), PTRIG_ACCELERATED);
}

/// Permission is of the pair of devices by which a packet came and left.
TEST_P(Fast, WhatCameByAnotherWanGivesNone) {
	age_fast(seconds(1));
	EXPECT_EQ(from_wan("wan1", kFromRemote1 / kRemoteToWan / kKnock / "in"), PTRIG_FORWARDED);
	Packet left;
	EXPECT_EQ(to_host(kFromRemote1 / kRemoteToWan / kKnock / "in", &left, "wan1"), PTRIG_FORWARDED);
	EXPECT_NE(run(GetParam() ? Hook::kXdpWan : Hook::kWanIn, "wan1", kFromRemote1 / kRemoteToWan / kKnock),
		  PTRIG_ACCELERATED);
	expect_not_in(kIn, "none of its own WAN was seen");
}

TEST_P(Fast, FragmentsOptionsVlanIcmp) {
	expect_not_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .df = false, .mf = true} / kKnock);
	expect_not_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .df = false, .offset = 8} / kKnock);
	expect_not_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .options = Bytes(4, 1)} / kKnock);
	expect_not_in(kFromRemote / Vlan{5} / kRemoteToWan / kKnock);
	expect_not_in(kFromRemote / kRemoteToWan / Icmp{});
	expect_not_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .proto = 47} / kKnock);
	expect_not_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .version = 6} / kKnock);
}

TEST_P(Fast, CutShort) {
	for (std::size_t n = 34; n < kIn.bytes().size(); n++)
		expect_not_in(kIn.cut(n), std::to_string(n));
}

TEST_P(Fast, LengthsThatLie) {
	for (const std::uint16_t total : {0, 19, 20, 27, 31, 65535})
		expect_not_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .total = total} / kKnock / "in",
			      std::to_string(total));
	for (const std::uint16_t length : {0, 7, 11, 65535})
		expect_not_in(kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = 16384, .length = length} / "in",
			      std::to_string(length));
}

TEST_P(Fast, TtlUsedUp) {
	for (const std::uint8_t ttl : {0, 1}) {
		expect_not_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .ttl = ttl} / kKnock);
		expect_not_out(kFromHost / Ip4{.src = kHost, .dst = kRemote, .ttl = ttl} / kReply);
	}
}

TEST_P(Fast, TooBig) {
	Packet seen;
	EXPECT_EQ(in(kFromRemote / kRemoteToWan / kKnock / Fill{1472}, &seen), PTRIG_ACCELERATED) << "1500 bytes fit";
	EXPECT_EQ(seen, kToHost / kRemoteToHost / kKnock / Fill{1472});
	expect_not_in(kFromRemote / kRemoteToWan / kKnock / Fill{1473});
	const auto hops = dp().memory<ptrig_hop>("pt_hops");
	for (std::size_t i = 0; i < hops.size(); i++)
		hops[i].mtu = 1280;
	EXPECT_EQ(in(kFromRemote / kRemoteToWan / kKnock / Fill{1252}), PTRIG_ACCELERATED);
	expect_not_in(kFromRemote / kRemoteToWan / kKnock / Fill{1253});
}

/// The route's MTU, where the kernel holds what it forwards against it.
TEST_P(Fast, TheRoutesMtu) {
	ip_batch(Ns::kGateway, "route add " + kHost + "/32 dev lan0 mtu lock 1300");
	age_fast(seconds(20)); // the hop that there was may be forgotten
	EXPECT_EQ(slow_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(in(kFromRemote / kRemoteToWan / kKnock / Fill{1272}), PTRIG_ACCELERATED);
	expect_not_in(kFromRemote / kRemoteToWan / kKnock / Fill{1273});
	ip_batch(Ns::kGateway, "route del " + kHost + "/32 dev lan0");
}

TEST_P(Fast, NotPastOthersPrograms) {
	const auto permitted = [&](std::uint32_t lan, std::uint32_t wan) {
		const std::uint32_t xdp = GetParam() ? PTRIG_IFACE_XDP | PTRIG_IFACE_XDP_IN : 0U;
		interface("lan0", PTRIG_IFACE_LAN | lan | xdp);
		interface("wan0", PTRIG_IFACE_WAN | wan | xdp);
		age_fast(seconds(1));
		EXPECT_EQ(slow_in(kIn), PTRIG_FORWARDED);
		EXPECT_EQ(slow_out(kOut), PTRIG_FORWARDED);
		return std::pair(in(kIn) == PTRIG_ACCELERATED, out(kOut) == PTRIG_ACCELERATED);
	};
	const std::uint32_t both = PTRIG_IFACE_FAST_IN | PTRIG_IFACE_FAST_OUT;
	EXPECT_EQ(permitted(both, both), std::pair(true, true));
	EXPECT_EQ(permitted(PTRIG_IFACE_FAST_IN, both), std::pair(false, true)) << "a filter at LAN egress";
	EXPECT_EQ(permitted(PTRIG_IFACE_FAST_OUT, both), std::pair(true, false)) << "at LAN ingress";
	EXPECT_EQ(permitted(both, PTRIG_IFACE_FAST_IN), std::pair(true, false)) << "at WAN egress";
	EXPECT_EQ(permitted(both, PTRIG_IFACE_FAST_OUT), std::pair(false, true)) << "at WAN ingress";
	EXPECT_EQ(permitted(0, 0), std::pair(false, false));
}

TEST_P(Fast, OffWhereNothingIsFast) {
	dp().memory<ptrig_state>("pt_state")[0].fast = 0;
	age_fast(seconds(1));
	EXPECT_EQ(slow_in(kIn), PTRIG_FORWARDED);
	expect_not_in(kIn);
}

TEST_P(Fast, AHostWithAnotherMac) {
	age_fast(milliseconds(500));
	EXPECT_EQ(in(kIn), PTRIG_ACCELERATED);
	knows(kHost, kStrangerMac);
	age_fast(milliseconds(501));
	expect_not_in(kIn, "nothing renews the old way");
	knows(kHost, kHostMac);
}

INSTANTIATE_TEST_SUITE_P(By, Fast, ::testing::Bool(),
			 [](const auto &param) { return std::string(param.param ? "Xdp" : "Tc"); });

/// XDP only: TC takes what XDP cannot.
class FastXdp : public Fast {};

TEST_P(FastXdp, OnlyTowardsDevicesThatTakeRedirectedFrames) {
	interface("lan0", PTRIG_IFACE_LAN | PTRIG_IFACE_FAST_IN | PTRIG_IFACE_FAST_OUT | PTRIG_IFACE_XDP_IN);
	age_fast(seconds(1));
	EXPECT_EQ(slow_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(slow_out(kOut), PTRIG_FORWARDED);
	expect_not_in(kIn, "lan0 takes none");
	EXPECT_EQ(wan_in(kIn), PTRIG_ACCELERATED) << "so TC does it";
	EXPECT_EQ(out(kOut), PTRIG_ACCELERATED) << "wan0 does";
}

/// So the rest of a burst waits for nothing, once its first packet was let out.
TEST_P(FastXdp, WhatXdpHasPassedOnTcTakesIfThereIsPermissionByThen) {
	EXPECT_EQ(wan_in(kIn), PTRIG_ACCELERATED);
	EXPECT_EQ(lan_in(kOut), PTRIG_ACCELERATED);
}

TEST_P(FastXdp, ADeviceThatIsGoneLosesNothing) {
	ASSERT_TRUE((dp().map<std::uint32_t, std::uint32_t>("pt_devs").erase(ifindex("lan0"))));
	EXPECT_EQ(in(kIn), PTRIG_TO_TC) << "the kernel still knows the way";
}

INSTANTIATE_TEST_SUITE_P(By, FastXdp, ::testing::Values(true));

/// Devices without an Ethernet header, which only TC serves.
class FastL3 : public DatapathTest {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (!IsSkipped() && !HasFatalFailure())
			with_fast(false);
	}
};

TEST_F(FastL3, FromEthernetToATunnelAndBack) {
	const Way way{.lan = "lan0", .wan = "tunw", .wan_address = kTunWan};
	const Packet load = Fill{64};
	apply({media()});
	ASSERT_EQ(trigger(kA, Packet(Udp{.dport = 5060}) / load, kTunRemote, way), PTRIG_GRANTED);
	const Packet in = Ip4{.src = kTunRemote, .dst = kTunWan} / kKnock / load,
		     out = Ip4{.src = kHost, .dst = kTunRemote} / kReply / load;
	ASSERT_EQ(from_wan("tunw", in), PTRIG_OPENED);
	ASSERT_EQ(through(kFromHost / out, way), PTRIG_ESTABLISHED);
	ASSERT_EQ(to_host(in, nullptr, "tunw"), PTRIG_FORWARDED);
	ASSERT_EQ(through(kFromHost / out, way), PTRIG_FORWARDED);
	Packet seen;
	EXPECT_EQ(run(Hook::kWanIn, "tunw", in, &seen), PTRIG_ACCELERATED);
	EXPECT_EQ(seen, (kToHost / Ip4{.src = kTunRemote, .dst = kHost, .ttl = 63} / kKnock / load));
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kFromHost / out, &seen), PTRIG_ACCELERATED);
	EXPECT_EQ(l3(seen), (Ip4{.src = kTunWan, .dst = kTunRemote, .ttl = 63} / kReply / load));
}

} // namespace
} // namespace ptrig::test
