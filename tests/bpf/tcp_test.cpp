// TCP through an open port: what each packet makes of the session's state, and how long each state lasts idle.
#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

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
	void handshake() {
		ASSERT_EQ(from_wan(kSyn), PTRIG_OPENED);
		ASSERT_EQ(from_host(kSyn | kAck), PTRIG_ESTABLISHED);
		ASSERT_EQ(from_wan(kAck), PTRIG_FORWARDED);
		ASSERT_EQ(from_host(kAck), PTRIG_FORWARDED);
		ASSERT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
	}
	int state() const {
		const Pair pair = session();
		EXPECT_EQ(pair.lan.state, pair.wan.state);
		return pair.lan.state;
	}
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
	EXPECT_EQ(from_host(kSyn | kAck), PTRIG_ESTABLISHED);
	EXPECT_EQ(state(), PTRIG_SESSION_TRANSITORY);
	EXPECT_EQ(from_host(kSyn | kAck), PTRIG_FORWARDED) << "again";
	EXPECT_EQ(from_wan(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_TRANSITORY) << "the WAN promotes nothing";
	EXPECT_EQ(from_wan(kPsh | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_host(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
}

TEST_F(TcpState, SimultaneousOpen) {
	EXPECT_EQ(from_wan(kSyn), PTRIG_OPENED);
	EXPECT_EQ(from_host(kSyn), PTRIG_ESTABLISHED);
	EXPECT_EQ(from_wan(kSyn | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_host(kSyn | kAck), PTRIG_FORWARDED);
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
	EXPECT_EQ(from_host(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_FORWARDED) << "again";
	EXPECT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
	age_lease("ident", minutes(11));
	lives_for(minutes(124));
}

TEST_F(TcpState, FinBothWaysCloses) {
	handshake();
	EXPECT_EQ(from_host(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_CLOSING);
	EXPECT_EQ(from_host(kAck), PTRIG_FORWARDED) << "the last ACK";
	EXPECT_EQ(state(), PTRIG_SESSION_CLOSING);
	age_lease("ident", minutes(11));
	lives_for(seconds(10));
}

TEST_F(TcpState, ClosingBeginsWhenItBegins) {
	handshake();
	age_session(minutes(60));
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_host(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_host(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kAck), PTRIG_FORWARDED) << "an hour of silence before it does not count";
}

TEST_F(TcpState, NobodyHoldsItClosing) {
	handshake();
	EXPECT_EQ(from_host(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_FORWARDED);
	age_session(seconds(9));
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kRst), PTRIG_FORWARDED);
	EXPECT_EQ(from_host(kFin | kAck), PTRIG_FORWARDED);
	age_session(seconds(1));
	age_lease("ident", minutes(11));
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_SESSION_ENDED);
}

TEST_F(TcpState, ResetFromTheHost) {
	handshake();
	EXPECT_EQ(from_host(kRst | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_CLOSING);
	age_lease("ident", minutes(11));
	lives_for(seconds(10));
}

TEST_F(TcpState, ResetFromTheRemote) {
	handshake();
	EXPECT_EQ(from_wan(kRst), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_CLOSING);
	age_session(seconds(9));
	EXPECT_EQ(from_wan(kRst), PTRIG_FORWARDED) << "does not begin it anew";
	age_session(seconds(1));
	age_lease("ident", minutes(11));
	EXPECT_EQ(from_wan(kAck), PTRIG_SESSION_ENDED);
}

TEST_F(TcpState, AForgedResetDoesNotCutAHostThatGoesOn) {
	handshake();
	EXPECT_EQ(from_wan(kRst), PTRIG_FORWARDED);
	EXPECT_EQ(from_host(kPsh | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
}

/// Neither where the lease lives nor where it is over, when nothing could be opened again.
TEST_F(TcpState, AForgedResetAndSynDoNotCutAHostThatGoesOn) {
	handshake();
	for (const bool lease : {true, false}) {
		if (!lease) {
			EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}).leases, 1U);
		}
		EXPECT_EQ(from_wan(kRst), PTRIG_FORWARDED);
		EXPECT_EQ(from_wan(kSyn), PTRIG_FORWARDED) << "the host sends a challenge ACK, or a SYN-ACK";
		EXPECT_EQ(state(), PTRIG_SESSION_CLOSING);
		EXPECT_EQ(from_host(kSyn | kAck), PTRIG_FORWARDED);
		EXPECT_EQ(from_host(kPsh | kAck), PTRIG_FORWARDED);
		EXPECT_EQ(state(), PTRIG_SESSION_ESTABLISHED);
	}
}

TEST_F(TcpState, TheHostsSynBeginsANewConnectionAfterAReset) {
	handshake();
	EXPECT_EQ(from_wan(kRst), PTRIG_FORWARDED);
	EXPECT_EQ(from_host(kSyn), PTRIG_OPENED);
	EXPECT_EQ(state(), PTRIG_SESSION_TRANSITORY);
}

TEST_F(TcpState, ResetInTheHandshake) {
	ASSERT_EQ(from_wan(kSyn), PTRIG_OPENED);
	ASSERT_EQ(from_host(kSyn | kAck), PTRIG_ESTABLISHED);
	EXPECT_EQ(from_wan(kRst), PTRIG_FORWARDED);
	EXPECT_EQ(state(), PTRIG_SESSION_CLOSING);
}

TEST_F(TcpState, TheSamePortsAgain) {
	handshake();
	EXPECT_EQ(from_host(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_wan(kSyn), PTRIG_OPENED) << "a new connection before the 10 s are over";
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

TEST_F(TcpState, FinAndRstInASessionDoNotRefreshTheLease) {
	Rule rule = ident();
	rule.refresh = Refresh::kTraffic;
	apply({rule}, 1);
	handshake();
	age_lease("ident", minutes(5));
	const auto before = lease("ident")->info.refreshed_ns;
	EXPECT_EQ(from_host(kFin | kAck), PTRIG_FORWARDED);
	EXPECT_EQ(from_host(kRst), PTRIG_FORWARDED);
	EXPECT_EQ(lease("ident")->info.refreshed_ns, before);
}

} // namespace
} // namespace ptrig::test
