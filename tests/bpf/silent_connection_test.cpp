// close = "connection": the connection that holds a lease may be silent for as long as conntrack knows it. The daemon's
// sweep asks; without a daemon the lease's timeout ends it.
#include <netinet/in.h>

#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

namespace ptrig::test {
namespace {

const Tcp kSynOut{.sport = 1025, .dport = 6667};

/// A silent connection of A's, of which conntrack says this.
class SilentConnection : public DatapathTest {
protected:
	void connected(std::uint8_t state, seconds timeout = minutes(10)) {
		Rule rule = ident();
		rule.close = Close::kConnection;
		rule.timeout = timeout;
		apply({rule});
		ASSERT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
		set_tcp_state(tuple(), state);
	}
	static Tuple tuple() {
		return {{.saddr = be(kHost), .daddr = be(kRemote), .sport = htons(1025), .dport = htons(6667)},
			IPPROTO_TCP};
	}
	/// So much time without a packet; the daemon sweeps when it is over.
	void silent_for(nanoseconds time) {
		age_lease("ident", time);
		auto map = dp().map<ptrig_conn_key, ptrig_conn>("pt_conns");
		const auto keys = map.keys().value();
		for (const auto &key : keys) {
			auto conn = map.lookup(key)->value();
			conn.seen_ns -= static_cast<std::uint64_t>(time.count());
			ASSERT_TRUE(map.update(key, conn));
		}
		asked_ = admin({.op = PTRIG_ADMIN_SWEEP}).asked;
	}
	bool live() const {
		const auto found = lease("ident");
		return found && found->info.state == PTRIG_LEASE_LIVE;
	}
	std::uint32_t asked_ = 0; ///< connections, by the last sweep
};
constexpr std::uint8_t kEstablished = 3, kTimeWait = 7; // enum tcp_conntrack

TEST_F(SilentConnection, KeepsItsLease) {
	connected(kEstablished);
	for (int i = 0; i < 5; i++) {
		silent_for(minutes(5));
		EXPECT_EQ(asked_, 1U);
		ASSERT_TRUE(live()) << "after " << 5 * (i + 1) << " minutes";
	}
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_HELD);
}

TEST_F(SilentConnection, IsAskedForOnlyWhereTheLeaseIsSilentToo) {
	connected(kEstablished);
	silent_for(minutes(2));
	EXPECT_EQ(asked_, 0U);
	silent_for(minutes(1));
	EXPECT_EQ(asked_, 1U);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).asked, 0U) << "just now";
}

TEST_F(SilentConnection, ThatConntrackHasForgottenLeavesTheTimeout) {
	connected(kEstablished);
	forget_entry(tuple());
	silent_for(minutes(5));
	EXPECT_EQ(asked_, 1U);
	EXPECT_TRUE(live());
	silent_for(minutes(5));
	EXPECT_FALSE(live());
	EXPECT_EQ(usage().conns, 0U);
}

TEST_F(SilentConnection, ThatConntrackHasSeenClosedEnds) {
	connected(kTimeWait);
	silent_for(minutes(5));
	EXPECT_FALSE(live());
	EXPECT_EQ(lease("ident")->info.end_reason, PTRIG_CONNECTION_CLOSED);
	EXPECT_EQ(usage().conns, 0U);
}

/// The daemon looks once a second and may be late.
TEST_F(SilentConnection, KeepsAShortLeaseForTenSecondsBetweenTwoLooks) {
	connected(kEstablished, seconds(1));
	age_lease("ident", seconds(9));
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_HELD);
	silent_for(std::chrono::milliseconds(500));
	EXPECT_TRUE(live());
	age_lease("ident", seconds(10));
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_GRANTED) << "without a daemon it ends";
}

} // namespace
} // namespace ptrig::test
