// TCP through an open port: the session's state is conntrack's of its entry, and how long each state lasts idle. A test
// run passes no packet through conntrack, so the tests set its state by hand.
#include <netinet/in.h>

#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

namespace ptrig::test {
namespace {

/// enum tcp_conntrack
constexpr std::uint8_t kSynRecv = 2, kEstablished = 3, kCloseWait = 5, kTimeWait = 7, kClose = 8;

class TcpState : public DatapathTest {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		granted({ident()});
	}
	enum ptrig_reason from_wan(int flags) {
		const Tcp tcp{.sport = 4000, .dport = 113, .flags = static_cast<std::uint8_t>(flags)};
		return wan_in(kFromRemote / kRemoteToWan / tcp);
	}
	enum ptrig_reason from_host(int flags) {
		const Tcp tcp{.sport = 113, .dport = 4000, .flags = static_cast<std::uint8_t>(flags)};
		return lan_in(kFromHost / kHostToRemote / tcp);
	}
	static Tuple tuple() {
		Tuple out{.proto = IPPROTO_TCP};
		out.tuple = {.saddr = be(kRemote), .daddr = be(kWan), .sport = htons(4000), .dport = htons(113)};
		return out;
	}
	static void conntrack_says(std::uint8_t state) { set_tcp_state(tuple(), state); }
	void handshake() {
		ASSERT_EQ(from_wan(kSyn), PTRIG_OPENED);
		conntrack_says(kSynRecv);
		ASSERT_EQ(from_host(kSyn | kAck), PTRIG_ESTABLISHED);
		ASSERT_EQ(from_wan(kAck), PTRIG_FORWARDED);
		conntrack_says(kEstablished);
		ASSERT_EQ(from_host(kAck), PTRIG_FORWARDED);
		ASSERT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
	}
	int state() const { return session().lan.state; }
	bool asks() const { return session().lan.id & PTRIG_SESSION_ASK; }
	ptrig_admin sweep() { return admin({.op = PTRIG_ADMIN_SWEEP}); }
	/// The session lives for just `time` after the host's last packet, as the WAN sees it.
	void lives_for(nanoseconds time) {
		age_session(time - seconds(1));
		EXPECT_EQ(from_wan(kAck), PTRIG_FORWARDED);
		age_session(seconds(1));
		EXPECT_EQ(from_wan(kAck), PTRIG_SESSION_ENDED);
		EXPECT_TRUE(sessions().empty());
	}
};

TEST_F(TcpState, Handshake) {
	EXPECT_EQ(from_wan(kSyn), PTRIG_OPENED);
	EXPECT_EQ(state(), PTRIG_SESSION_HALFOPEN);
	EXPECT_EQ(from_wan(kSyn), PTRIG_HALF_OPEN) << "the SYN again";
	conntrack_says(kSynRecv);
	EXPECT_EQ(from_host(kSyn | kAck), PTRIG_ESTABLISHED);
	EXPECT_EQ(state(), PTRIG_SESSION_TRANSITORY);
	EXPECT_EQ(from_host(kSyn | kAck), PTRIG_FORWARDED) << "again";
	EXPECT_EQ(from_wan(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_TRANSITORY) << "the WAN promotes nothing";
	conntrack_says(kEstablished);
	EXPECT_EQ(from_host(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
}

TEST_F(TcpState, TransitoryLastsFourMinutes) {
	ASSERT_EQ(from_wan(kSyn), PTRIG_OPENED);
	ASSERT_EQ(from_host(kSyn | kAck), PTRIG_ESTABLISHED);
	age_lease("ident", minutes(11));
	lives_for(minutes(4));
}

TEST_F(TcpState, EstablishedLastsTwoHoursAndFourMinutes) {
	handshake();
	age_lease("ident", minutes(11));
	lives_for(minutes(124));
}

TEST_F(TcpState, TimeoutsAreSettings) {
	config_.timeouts.tcp_established = minutes(7);
	apply({ident()}, 1);
	handshake();
	age_lease("ident", minutes(11));
	lives_for(minutes(7));
}

TEST_F(TcpState, HalfClosedIsStillEstablished) {
	handshake();
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_FORWARDED);
	conntrack_says(kCloseWait);
	EXPECT_EQ(from_host(kAck), PTRIG_FORWARDED);
	look_due();
	EXPECT_EQ(from_host(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
	EXPECT_EQ(sweep().sessions, 1U) << "conntrack is asked";
	EXPECT_EQ(sessions().size(), 1U);
	age_lease("ident", minutes(11));
	lives_for(minutes(124));
}

TEST_F(TcpState, EndsWithItsConnection) {
	handshake();
	EXPECT_EQ(from_host(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_FORWARDED);
	conntrack_says(kTimeWait);
	sweep();
	EXPECT_EQ(state(), PTRIG_SESSION_CLOSING);
	EXPECT_EQ(from_host(kAck), PTRIG_FORWARDED) << "the last ACK, and whatever comes again";
	sweep();
	EXPECT_EQ(sessions().size(), 1U) << "as long as conntrack remembers it";
	forget_entry(tuple());
	sweep();
	EXPECT_TRUE(sessions().empty());
}

TEST_F(TcpState, AResetThatConntrackRefusesEndsNothing) {
	handshake();
	EXPECT_EQ(from_wan(kRst), PTRIG_FORWARDED) << "conntrack holds it against the window";
	EXPECT_TRUE(asks());
	EXPECT_EQ(from_wan(kSyn), PTRIG_FORWARDED) << "the host sends a challenge ACK (RFC 5961)";
	sweep();
	EXPECT_FALSE(asks());
	EXPECT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
	age_lease("ident", minutes(11));
	lives_for(minutes(124));
}

TEST_F(TcpState, AResetThatConntrackBelievesEndsIt) {
	for (const bool by_host : {true, false}) {
		handshake();
		EXPECT_EQ(by_host ? from_host(kRst | kAck) : from_wan(kRst), PTRIG_FORWARDED);
		conntrack_says(kClose);
		sweep();
		EXPECT_EQ(state(), PTRIG_SESSION_CLOSING);
		forget_entry(tuple());
		sweep();
		EXPECT_TRUE(sessions().empty()) << by_host;
	}
}

TEST_F(TcpState, WithoutItsEntryAConnectionThatEndedIsNotMadeAgain) {
	handshake();
	EXPECT_EQ(from_wan(kRst), PTRIG_FORWARDED);
	forget_entry(tuple());
	EXPECT_EQ(from_wan(kAck), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(TcpState, TheSamePortsAgain) {
	handshake();
	EXPECT_EQ(from_host(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_FORWARDED);
	conntrack_says(kTimeWait);
	EXPECT_EQ(from_wan(kSyn), PTRIG_OPENED) << "a new connection while conntrack remembers the old one";
	EXPECT_TRUE(session().halfopen);
}

TEST_F(TcpState, ASynInsideAnEstablishedSessionIsTheHostsToAnswer) {
	handshake();
	EXPECT_EQ(from_wan(kSyn), PTRIG_FORWARDED) << "RFC 5961: the host sends a challenge ACK";
	EXPECT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
}

TEST_F(TcpState, AfterTheEndOnlyASynOpens) {
	handshake();
	age_session(minutes(124));
	EXPECT_EQ(from_wan(kAck), PTRIG_SESSION_ENDED);
	EXPECT_EQ(from_wan(kAck), PTRIG_NOT_SYN);
	EXPECT_EQ(from_wan(kSyn), PTRIG_OPENED);
}

} // namespace
} // namespace ptrig::test
