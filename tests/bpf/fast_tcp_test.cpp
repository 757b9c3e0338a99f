// TCP on the fast path: only once conntrack's entry lets sequence numbers be, for it misses packets then. Then it makes
// nothing of a RST, and takes any FIN, so a remote's are held against what its host has acknowledged.
#include <netinet/in.h>

#include <thread>

#include "loader/conntrack.h"
#include "loader/program.h"
#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

namespace ptrig::test {
namespace {

constexpr std::uint8_t kEstablished = 3, kCloseWait = 5; // enum tcp_conntrack
constexpr std::uint32_t kAcked = 70000;

/// Parameter: by XDP?
class FastTcp : public DatapathTest, public ::testing::WithParamInterface<bool> {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		with_fast(GetParam());
		granted({ident()});
		ASSERT_EQ(slow_in(kSyn), PTRIG_OPENED);
		ASSERT_EQ(slow_out(kSyn | kAck), PTRIG_ESTABLISHED);
		set_tcp_state(tuple(), kEstablished);
		ASSERT_EQ(slow_out(kAck), PTRIG_FORWARDED);
		ASSERT_EQ(session().lan.state, PTRIG_SESSION_ESTABLISHED);
	}
	void TearDown() override {
		without_xdp();
		DatapathTest::TearDown();
	}
	static Packet from_remote(int flags, std::uint32_t seq = 1000) {
		return kFromRemote / kRemoteToWan /
		       Tcp{.sport = 4000, .dport = 113, .flags = static_cast<std::uint8_t>(flags), .seq = seq};
	}
	static Packet from_host(int flags, std::uint32_t ack = kAcked) {
		return kFromHost / kHostToRemote /
		       Tcp{.sport = 113, .dport = 4000, .flags = static_cast<std::uint8_t>(flags), .ack = ack};
	}
	static Tuple tuple() {
		Tuple out{.proto = IPPROTO_TCP};
		out.tuple = {.saddr = be(kRemote), .daddr = be(kWan), .sport = htons(4000), .dport = htons(113)};
		return out;
	}
	/// By the kernel's way, seen leaving.
	enum ptrig_reason slow_in(int flags, std::uint32_t seq = 1000) { return to_host(from_remote(flags, seq)); }
	enum ptrig_reason slow_out(int flags, std::uint32_t ack = kAcked) { return lan_in(from_host(flags, ack)); }
	enum ptrig_reason fast_in(int flags, std::uint32_t seq = 1000) {
		return run(GetParam() ? Hook::kXdpWan : Hook::kWanIn, "wan0", from_remote(flags, seq));
	}
	enum ptrig_reason fast_out(int flags, std::uint32_t ack = kAcked) {
		return run(GetParam() ? Hook::kXdpLan : Hook::kLanIn, "lan0", from_host(flags, ack));
	}
	/// What the daemon does when it is asked.
	static void let_be() {
		ASSERT_TRUE(make_liberal({{.source = ptrig::Ip4{ntohl(be(kRemote))},
					   .destination = ptrig::Ip4{ntohl(be(kWan))},
					   .source_port = 4000,
					   .destination_port = 113}},
					 0));
	}
	/// Both directions have permission.
	void accelerate() {
		let_be();
		age_sessions(seconds(1));
		ASSERT_EQ(slow_out(kAck), PTRIG_FORWARDED) << "sees that the entry lets sequence numbers be";
		slow_out(kAck); // has permission at once, if it had it before
		ASSERT_EQ(slow_in(kAck), PTRIG_FORWARDED);
		ASSERT_EQ(fast_in(kAck), PTRIG_ACCELERATED);
		ASSERT_EQ(fast_out(kAck), PTRIG_ACCELERATED);
	}
	/// Its entry goes, and is made again by the remote's next packet.
	void flush() {
		forget_entry(tuple());
		EXPECT_EQ(fast_in(kAck), PTRIG_ACCELERATED);
		age_fast(seconds(1));
		EXPECT_EQ(slow_in(kAck), PTRIG_REMADE);
		EXPECT_EQ(asked(), 1U);
		set_tcp_state(tuple(), kEstablished);
	}
	unsigned asked() {
		unsigned n = 0;
		for (const ptrig_event &event : events())
			n += event.type == PTRIG_EVENT_LIBERAL && event.remote == be(kRemote) &&
			     event.remote_port == htons(4000) && event.wan == be(kWan) && event.port == htons(113);
		return n;
	}
};

TEST_P(FastTcp, NotWhileConntrackHoldsItAgainstItsWindows) {
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(slow_in(kAck), PTRIG_FORWARDED);
		EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	}
	EXPECT_NE(fast_in(kAck), PTRIG_ACCELERATED);
	EXPECT_NE(fast_out(kAck), PTRIG_ACCELERATED);
	EXPECT_TRUE(fast_ways().empty());
}

TEST_P(FastTcp, TheDaemonIsAskedOnceASecondForWhatIsWorthIt) {
	age_sessions(seconds(1));
	EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(asked(), 0U) << "of a few packets";
	for (int i = 0; i < 32; i++)
		EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(asked(), 0U) << "within the second";
	age_sessions(seconds(1));
	EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(asked(), 1U);
	let_be();
	age_sessions(seconds(1));
	EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(asked(), 0U) << "it has done so";
}

TEST_P(FastTcp, NobodyIsAskedWhereNothingIsFast) {
	dp().memory<ptrig_state>("pt_state")[0].fast = PTRIG_STATE_FAST_OFF;
	for (int i = 0; i < 33; i++)
		EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	age_sessions(seconds(1));
	EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(asked(), 0U);
}

TEST_P(FastTcp, BothDirections) {
	accelerate();
	Packet seen;
	const Hook in = GetParam() ? Hook::kXdpWan : Hook::kWanIn, out = GetParam() ? Hook::kXdpLan : Hook::kLanIn;
	for (const std::size_t n : {0, 1, 1400}) {
		const Tcp there{.sport = 4000, .dport = 113, .flags = kAck | kPsh},
			back{.sport = 113, .dport = 4000, .flags = kAck, .ack = kAcked};
		EXPECT_EQ(run(in, "wan0", kFromRemote / kRemoteToWan / there / Fill{n}, &seen), PTRIG_ACCELERATED);
		EXPECT_EQ(seen, kToHost / kRemoteToHost / there / Fill{n});
		EXPECT_EQ(run(out, "lan0", kFromHost / kHostToRemote / back / Fill{n}, &seen), PTRIG_ACCELERATED);
		EXPECT_EQ(seen, kToRemote / kWanToRemote / back / Fill{n});
	}
}

/// What the kernel has merged is larger than any MTU, and is cut again on its way out.
TEST_P(FastTcp, MergedPackets) {
	if (GetParam())
		return; // XDP comes before that
	accelerate();
	const auto accelerated = [&](std::uint32_t segment) {
		const Tcp tcp{.sport = 4000, .dport = 113, .flags = kAck, .options = Bytes(12, 1)};
		dp().marks = {.gso_size = segment};
		const auto reason = run(Hook::kWanIn, "wan0", kFromRemote / kRemoteToWan / tcp / Fill{2800});
		dp().marks = {};
		return reason == PTRIG_ACCELERATED;
	};
	EXPECT_TRUE(accelerated(1448)) << "1500 bytes each";
	EXPECT_FALSE(accelerated(1449));
	EXPECT_FALSE(accelerated(0)) << "one that is too big";
}

TEST_P(FastTcp, FlagsThatMeanGoByTheKernel) {
	accelerate();
	for (const int flags : {kSyn + 0, kSyn + kAck}) {
		EXPECT_NE(fast_in(flags), PTRIG_ACCELERATED) << flags;
		EXPECT_NE(fast_out(flags), PTRIG_ACCELERATED) << flags;
	}
	for (const int flags : {kAck + 0, kPsh + kAck, kPsh + kAck + kUrg, kAck + 0xc0})
		EXPECT_EQ(fast_in(flags), PTRIG_ACCELERATED) << flags;
}

/// Its new entry knows nothing of its windows: what came next would be invalid, and the gateway would reset it.
TEST_P(FastTcp, AFlushedConnectionWaitsForTheDaemonAgain) {
	accelerate();
	flush();
	EXPECT_EQ(slow_in(kAck), PTRIG_REMADE_WAITS);
	EXPECT_EQ(slow_out(kAck), PTRIG_REMADE_WAITS);
	let_be();
	EXPECT_EQ(slow_in(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(fast_in(kAck), PTRIG_ACCELERATED);
	EXPECT_EQ(fast_out(kAck), PTRIG_ACCELERATED);
	EXPECT_EQ(asked(), 0U);
}

TEST_P(FastTcp, AFlushedConnectionsOtherDirectionGoesOn) {
	accelerate();
	forget_entry(tuple());
	const std::uint32_t way = session().wan.fast - 1;
	dp().fast()[way / PTRIG_FAST_WAYS].way[way % PTRIG_FAST_WAYS].until -= 2 * tick_hz().value();
	EXPECT_EQ(slow_in(kAck), PTRIG_REMADE);
	EXPECT_EQ(fast_out(kAck), PTRIG_ACCELERATED);
}

TEST_P(FastTcp, AFlushedConnectionDoesNotWaitLongWhereNoDaemonIs) {
	accelerate();
	flush();
	for (const bool in : {true, false}) {
		SCOPED_TRACE(in);
		enum ptrig_reason reason = PTRIG_REMADE_WAITS;
		for (int i = 0; i < 1000 && reason == PTRIG_REMADE_WAITS; i++) {
			std::this_thread::sleep_for(std::chrono::milliseconds(10));
			reason = in ? slow_in(kAck) : slow_out(kAck);
		}
		EXPECT_EQ(reason, PTRIG_FORWARDED);
	}
	EXPECT_TRUE(fast_ways().empty()) << "in neither direction: its new entry would miss what goes by";
	EXPECT_NE(fast_in(kAck), PTRIG_ACCELERATED);
	EXPECT_NE(fast_out(kAck), PTRIG_ACCELERATED);
	accelerate();
}

/// What its host has acknowledged a moment ago is all that tells a forged RST.
TEST_P(FastTcp, ARemotesResetMustFitExactly) {
	accelerate();
	for (const std::uint32_t off : {kAcked - 1, kAcked + 65536, kAcked + 0x80000000U, 0U}) {
		EXPECT_EQ(slow_in(kRst, off), PTRIG_OUT_OF_WINDOW) << off;
		EXPECT_EQ(fast_in(kAck), PTRIG_ACCELERATED) << "it ends nothing";
	}
	for (const std::uint32_t in : {kAcked + 1, kAcked + 65535}) {
		EXPECT_EQ(slow_in(kRst, in), PTRIG_FORWARDED) << "the host may ask whether it was one (RFC 5961)";
		EXPECT_EQ(fast_in(kAck), PTRIG_ACCELERATED);
	}
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 0U);
	EXPECT_EQ(slow_in(kRst, kAcked), PTRIG_FORWARDED);
	EXPECT_TRUE(fast_ways().empty());
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 1U);
	EXPECT_TRUE(sessions().empty());
}

/// From the moment on in which conntrack lets sequence numbers be, and not only once ptrig has seen that it does.
TEST_P(FastTcp, AResetOrFinIsHeldToWhatTheHostAcknowledgedFromTheBeginning) {
	let_be();
	for (const std::uint32_t off : {kAcked - 2, kAcked + 65536, kAcked + 0x80000000U}) {
		EXPECT_EQ(slow_in(kRst, off), PTRIG_OUT_OF_WINDOW) << off;
		EXPECT_EQ(slow_in(kFin | kAck, off), PTRIG_OUT_OF_WINDOW) << off;
	}
	EXPECT_FALSE(session().lan.id & PTRIG_SESSION_ASK);
	EXPECT_EQ(slow_out(kRst), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_P(FastTcp, WhatTheHostAcknowledgesByTheFastPathCounts) {
	accelerate();
	EXPECT_EQ(fast_out(kAck, kAcked + 5000000), PTRIG_ACCELERATED);
	EXPECT_EQ(slow_in(kRst, kAcked), PTRIG_OUT_OF_WINDOW);
	EXPECT_EQ(slow_in(kFin | kAck, kAcked), PTRIG_OUT_OF_WINDOW);
	age_fast(seconds(1));
	EXPECT_EQ(slow_out(kAck, kAcked + 5000001), PTRIG_FORWARDED);
	EXPECT_EQ(slow_in(kRst, kAcked + 5000000), PTRIG_OUT_OF_WINDOW);
	EXPECT_EQ(slow_in(kRst, kAcked + 5000001), PTRIG_FORWARDED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 1U);
}

TEST_P(FastTcp, ARemotesFinMustBeInTheWindow) {
	accelerate();
	EXPECT_EQ(slow_in(kFin | kAck, kAcked - 2), PTRIG_OUT_OF_WINDOW);
	EXPECT_EQ(fast_in(kAck), PTRIG_ACCELERATED);
	EXPECT_FALSE(session().lan.id & PTRIG_SESSION_ASK);
	EXPECT_EQ(slow_in(kFin | kAck, kAcked + 1448), PTRIG_FORWARDED);
	EXPECT_TRUE(fast_ways().empty()) << "conntrack is to see how it ends";
	EXPECT_TRUE(session().lan.id & PTRIG_SESSION_ASK);
	EXPECT_EQ(slow_in(kFin | kAck, kAcked - 1), PTRIG_FORWARDED) << "once more: its acknowledgement was lost";
	set_tcp_state(tuple(), kCloseWait);
	EXPECT_EQ(slow_in(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(slow_out(kAck), PTRIG_FORWARDED);
	EXPECT_NE(fast_in(kAck), PTRIG_ACCELERATED);
	EXPECT_NE(fast_out(kAck), PTRIG_ACCELERATED);
}

TEST_P(FastTcp, AHostsResetIsItsOwn) {
	accelerate();
	EXPECT_EQ(slow_out(kRst), PTRIG_SESSION_ENDED) << "conntrack makes nothing of it";
	EXPECT_TRUE(sessions().empty());
	EXPECT_TRUE(fast_ways().empty());
}

TEST_P(FastTcp, AHostsFinEndsPermission) {
	accelerate();
	EXPECT_EQ(slow_out(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_TRUE(fast_ways().empty());
	EXPECT_TRUE(session().lan.id & PTRIG_SESSION_ASK);
}

INSTANTIATE_TEST_SUITE_P(By, FastTcp, ::testing::Bool(),
			 [](const auto &param) { return std::string(param.param ? "Xdp" : "Tc"); });

} // namespace
} // namespace ptrig::test
