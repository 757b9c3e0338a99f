// The trigger's own connection, seen at LAN egress: `confirm` waits for the remote's answer, `close = "connection"`
// ends the lease with the connections that triggered it.
#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Tcp kSynOut{.sport = 1025, .dport = 6667}, kSynAck{.sport = 6667, .dport = 1025, .flags = kSyn | kAck};
const Tcp kAckOut{.sport = 1025, .dport = 6667, .flags = kAck}, kAckIn{.sport = 6667, .dport = 1025, .flags = kAck};
const Tcp kFinOut{.sport = 1025, .dport = 6667, .flags = kFin | kAck},
	kFinIn{.sport = 6667, .dport = 1025, .flags = kFin | kAck};
const Tcp kRstOut{.sport = 1025, .dport = 6667, .flags = kRst},
	kRstIn{.sport = 6667, .dport = 1025, .flags = kRst | kAck};

Rule confirming() {
	Rule rule = ident();
	rule.confirm = true;
	return rule;
}
Rule closing() {
	Rule rule = ident();
	rule.close = Close::kConnection;
	return rule;
}

class Connection : public DatapathTest {
protected:
	bool live() const {
		const auto found = lease("ident");
		return found && found->info.state == PTRIG_LEASE_LIVE;
	}
	std::uint64_t conns() const { return usage().conns; }
};

class Confirm : public Connection {
protected:
	std::size_t pending() const { return dp().map<ptrig_wait_key, ptrig_wait>("pt_pending").keys().value().size(); }
	void age_pending(nanoseconds by) {
		auto map = dp().map<ptrig_wait_key, ptrig_wait>("pt_pending");
		const auto keys = map.keys();
		ASSERT_TRUE(keys && keys->size() == 1);
		auto wait = map.lookup((*keys)[0])->value();
		wait.conn.seen_ns -= static_cast<std::uint64_t>(by.count());
		ASSERT_TRUE(map.update((*keys)[0], wait));
	}
};

// S17: a host that opens and resets its trigger connection as fast as it can.
TEST_F(Connection, ShortGrantsAreToldOnceASecond) {
	apply({closing()});
	const auto begun = now_ns();
	for (int i = 0; i < 50; i++) {
		ASSERT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
		ASSERT_TRUE(live());
		trigger(kA, kRstOut);
		ASSERT_FALSE(live());
	}
	const auto told = events();
	EXPECT_LE(told.size(), 4 + 2 * ((now_ns() - begun) / 1000000000))
		<< "the first grant, the next, and their ends";
	std::uint64_t all = told.size() + last("ident").untold;
	for (const ptrig_event &event : told)
		all += event.suppressed;
	EXPECT_EQ(all, 100U);
}

TEST_F(Confirm, WaitsForTheAnswer) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_FALSE(lease("ident"));
	EXPECT_EQ(pending(), 1U);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_GRANTED);
	const auto granted = lease("ident");
	ASSERT_TRUE(granted);
	EXPECT_EQ(granted->info.host, be(kHost));
	EXPECT_EQ(granted->info.wan, be(kWan));
	EXPECT_EQ(granted->info.wan_ifindex, ifindex("wan0"));
	EXPECT_EQ(granted->info.lan_ifindex, ifindex("lan0"));
	EXPECT_EQ(granted->info.flags, PTRIG_LEASE_ONLINK);
	EXPECT_EQ(Bytes(granted->info.mac, granted->info.mac + 6), mac_bytes(kHostMac));
	EXPECT_EQ(granted->info.trigger_port, htons(6667));
	EXPECT_EQ(pending(), 0U);
	EXPECT_EQ(hits("ident").granted, 1U);
	EXPECT_EQ(answer(kA, kAckIn), PTRIG_NO_ANSWER);
}

TEST_F(Confirm, Udp) {
	Rule rule = media();
	rule.confirm = true;
	apply({rule});
	EXPECT_EQ(trigger(kA, Udp{.sport = 5060, .dport = 5060} / "INVITE"), PTRIG_PENDING);
	EXPECT_EQ(answer(kA, Udp{.sport = 5060, .dport = 5060} / "100 Trying"), PTRIG_GRANTED);
	EXPECT_TRUE(lease("media"));
}

TEST_F(Confirm, OnlyTheRemoteThatWasAsked) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(answer(kA, kSynAck, kRemote2), PTRIG_NO_ANSWER);
	EXPECT_EQ(answer(kB, kSynAck), PTRIG_NO_ANSWER) << "to another host";
	EXPECT_EQ(answer(kA, Tcp{.sport = 6667, .dport = 1026, .flags = kSyn | kAck}), PTRIG_NO_ANSWER);
	EXPECT_EQ(answer(kA, Tcp{.sport = 6668, .dport = 1025, .flags = kSyn | kAck}), PTRIG_NO_ANSWER);
	EXPECT_EQ(answer(kA, Udp{.sport = 6667, .dport = 1025}), PTRIG_NO_ANSWER);
	EXPECT_FALSE(lease("ident"));
}

TEST_F(Confirm, ARefusalIsNoAnswer) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(answer(kA, kRstIn), PTRIG_FLAGS);
	EXPECT_FALSE(lease("ident"));
	EXPECT_EQ(pending(), 0U);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_NO_ANSWER);
}

TEST_F(Confirm, AskedTwiceAnsweredOnce) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(pending(), 1U);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_GRANTED);
}

TEST_F(Confirm, RefreshNeedsNoFurtherAnswer) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_GRANTED);
	age_lease("ident", minutes(5));
	EXPECT_EQ(trigger(kA, kAckOut), PTRIG_REFRESHED);
}

TEST_F(Confirm, TwoWaitTheFirstAnsweredGets) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(answer(kB, kSynAck), PTRIG_GRANTED);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_HELD);
	EXPECT_EQ(lease("ident")->info.host, be(kHost2));
	EXPECT_EQ(pending(), 0U);
}

TEST_F(Confirm, AfterTheLeaseHasExpired) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_GRANTED);
	const auto first = lease("ident")->info.id;
	age_lease("ident", minutes(11));
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_GRANTED);
	EXPECT_NE(lease("ident")->info.id, first);
}

TEST_F(Confirm, RefusalsComeAtOnce) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_HELD);
	EXPECT_EQ(pending(), 0U);
}

TEST_F(Confirm, TakeoverWaitsToo) {
	Rule rule = confirming();
	rule.conflict = Conflict::kTakeover;
	apply({rule});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(lease("ident")->info.host, be(kHost));
	EXPECT_EQ(answer(kB, kSynAck), PTRIG_TAKEN_OVER);
}

TEST_F(Confirm, AFullTableForgetsWhoWaitsLongest) {
	use({.conns = 64});
	apply({confirming()});
	const auto syn = [](unsigned n) { return Tcp{.sport = static_cast<std::uint16_t>(2000 + n), .dport = 6667}; };
	for (unsigned n = 0; n < 1000; n++)
		EXPECT_EQ(trigger(kB, syn(n)), PTRIG_PENDING);
	EXPECT_LE(pending(), 64U);
	EXPECT_EQ(answer(kB, Tcp{.sport = 6667, .dport = 2000, .flags = kSyn | kAck}), PTRIG_NO_ANSWER);
	EXPECT_EQ(answer(kB, Tcp{.sport = 6667, .dport = 2999, .flags = kSyn | kAck}), PTRIG_GRANTED);
}

TEST_F(Confirm, AFloodPutsOutItsOwnHostsTriggersOnly) {
	use({.conns = 64, .wait_slots = 16});
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	for (unsigned n = 0; n < 1000; n++)
		trigger(kB, Tcp{.sport = static_cast<std::uint16_t>(2000 + n), .dport = 6667});
	EXPECT_LE(pending(), 17U);
	EXPECT_GT(pending(), 8U) << "and B has waiting ones, too";
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_GRANTED);
}

TEST_F(Confirm, AnsweredTooLate) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	age_pending(seconds(30));
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_NO_ANSWER) << "though no sweep came by";
	EXPECT_EQ(pending(), 0U);
}

TEST_F(Confirm, GivenUpByItsHost) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(trigger(kA, Tcp{.sport = 1025, .dport = 6667, .flags = kRst}), PTRIG_FLAGS);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_NO_ANSWER);
}

TEST_F(Confirm, ForgottenBySweepAfterHalfopen) {
	apply({confirming()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).conns, 0U);
	age_pending(seconds(30));
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).conns, 1U);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_NO_ANSWER);
}

using CloseConnection = Connection;

TEST_F(CloseConnection, OnlyASynGrants) {
	apply({closing()});
	EXPECT_EQ(trigger(kA, kAckOut), PTRIG_FLAGS);
	EXPECT_EQ(trigger(kA, Tcp{.sport = 1025, .dport = 6667, .flags = kSyn | kAck}), PTRIG_FLAGS);
	EXPECT_FALSE(lease("ident"));
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(lease("ident")->info.conns, 1U);
	EXPECT_EQ(lease("ident")->info.flags, PTRIG_LEASE_ONLINK | PTRIG_LEASE_CONN);
	age_lease("ident", minutes(5));
	EXPECT_EQ(trigger(kA, kAckOut), PTRIG_REFRESHED);
	EXPECT_EQ(trigger(kB, kAckOut), PTRIG_FLAGS);
}

TEST_F(CloseConnection, FinBothWaysEnds) {
	apply({closing()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_NO_ANSWER);
	EXPECT_EQ(trigger(kA, kFinOut), PTRIG_FLAGS);
	EXPECT_TRUE(live()) << "half closed";
	events();
	EXPECT_EQ(answer(kA, kFinIn), PTRIG_FLAGS);
	EXPECT_FALSE(live());
	EXPECT_EQ(lease("ident")->info.end_reason, PTRIG_CONNECTION_CLOSED);
	EXPECT_EQ(conns(), 0U);
	const auto told = events();
	ASSERT_EQ(told.size(), 1U);
	EXPECT_EQ(told[0].type, static_cast<unsigned>(PTRIG_EVENT_ENDED));
	EXPECT_EQ(told[0].reason, static_cast<unsigned>(PTRIG_CONNECTION_CLOSED));
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_GRANTED);
}

TEST_F(CloseConnection, TheRemoteClosesFirst) {
	apply({closing()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(answer(kA, kFinIn), PTRIG_FLAGS);
	EXPECT_EQ(answer(kA, kFinIn), PTRIG_FLAGS) << "again";
	EXPECT_TRUE(live());
	EXPECT_EQ(trigger(kA, kFinOut), PTRIG_FLAGS);
	EXPECT_FALSE(live());
}

/// Another CPU is just deciding about a trigger, and has been interrupted meanwhile.
TEST_F(CloseConnection, ABusyLeaseForgetsNoConnection) {
	apply({closing()});
	ASSERT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	edit_lease("ident", [](ptrig_lease &l) { l.lock = 1; });
	EXPECT_EQ(trigger(kA, kRstOut), PTRIG_FLAGS);
	EXPECT_TRUE(live());
	EXPECT_EQ(conns(), 1U) << "it is still there to be ended";
	edit_lease("ident", [](ptrig_lease &l) { l.lock = 0; });
	EXPECT_EQ(trigger(kA, kRstOut), PTRIG_FLAGS);
	EXPECT_FALSE(live()) << "the last connection has ended";
	EXPECT_EQ(conns(), 0U);
}

TEST_F(CloseConnection, ResetFromEitherSideEnds) {
	apply({closing()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, kRstOut), PTRIG_FLAGS);
	EXPECT_FALSE(live());
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(answer(kA, kRstIn), PTRIG_FLAGS);
	EXPECT_FALSE(live());
}

TEST_F(CloseConnection, AStrangersFinEndsNothing) {
	apply({closing()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kRstOut), PTRIG_FLAGS);
	EXPECT_EQ(trigger(kA, Tcp{.sport = 1026, .dport = 6667, .flags = kRst}), PTRIG_FLAGS);
	EXPECT_EQ(answer(kA, kRstIn, kRemote2), PTRIG_NO_ANSWER);
	EXPECT_TRUE(live());
}

TEST_F(CloseConnection, LastOfSeveral) {
	apply({closing()});
	const Tcp second{.sport = 1026, .dport = 6667};
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_REFRESHED) << "the SYN again is no second connection";
	EXPECT_EQ(lease("ident")->info.conns, 1U);
	EXPECT_EQ(trigger(kA, second), PTRIG_REFRESHED);
	EXPECT_EQ(lease("ident")->info.conns, 2U);
	EXPECT_EQ(trigger(kA, kRstOut), PTRIG_FLAGS);
	EXPECT_TRUE(live());
	EXPECT_EQ(trigger(kA, Tcp{.sport = 1026, .dport = 6667, .flags = kRst}), PTRIG_FLAGS);
	EXPECT_FALSE(live());
}

TEST_F(CloseConnection, ASynAgainBeginsAnew) {
	apply({closing()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, kFinOut), PTRIG_FLAGS);
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_REFRESHED) << "the same ports for another connection";
	EXPECT_EQ(answer(kA, kFinIn), PTRIG_FLAGS);
	EXPECT_TRUE(live()) << "only half closed";
	EXPECT_EQ(trigger(kA, kFinOut), PTRIG_FLAGS);
	EXPECT_FALSE(live());
}

TEST_F(CloseConnection, StillEndsByTimeout) {
	apply({closing()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	age_lease("ident", minutes(11));
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, kRstOut), PTRIG_FLAGS) << "A's old connection";
	EXPECT_TRUE(live()) << "is none of B's lease";
	EXPECT_EQ(lease("ident")->info.conns, 1U);
}

TEST_F(CloseConnection, TheCooldownOfALeaseThatWasOverAlreadyRunsFromThen) {
	Rule rule = closing();
	rule.cooldown = seconds(30);
	apply({rule});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	age_lease("ident", minutes(10) + seconds(20));
	EXPECT_EQ(trigger(kA, kRstOut), PTRIG_FLAGS);
	EXPECT_EQ(lease("ident")->info.end_reason, PTRIG_EXPIRED);
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_COOLDOWN);
	age_lease("ident", seconds(15));
	EXPECT_EQ(trigger(kB, kSynOut), PTRIG_GRANTED);
}

TEST_F(CloseConnection, OneHostsConnectionsLeaveAnotherAPlace) {
	use({.conns = 8});
	Rule other = closing();
	other.name = "other";
	other.trigger = {tcp(7000)};
	other.open = {open(tcp(8000))};
	apply({closing(), other});
	for (unsigned n = 0; n < 20; n++)
		trigger(kA, Tcp{.sport = static_cast<std::uint16_t>(2000 + n), .dport = 6667});
	EXPECT_LT(conns(), 8U);
	EXPECT_EQ(trigger(kB, Tcp{.sport = 1025, .dport = 7000}), PTRIG_GRANTED);
	EXPECT_EQ(hits("other").refused[PTRIG_CONNS_FULL - PTRIG_FLAGS], 0U);
	EXPECT_EQ(trigger(kB, Tcp{.sport = 1025, .dport = 7000, .flags = kRst}), PTRIG_FLAGS);
	EXPECT_EQ(lease("other")->info.state, PTRIG_LEASE_ENDED) << "with its connection";
}

// Leases that have ended are in no quota: one host's must not fill the table until the next sweep, or for a cooldown.
TEST_F(CloseConnection, LeasesThatHaveEndedLeaveOthersAPlace) {
	use({.leases = 8});
	Rule each = closing();
	each.remotes.kind = Remotes::Kind::kContacted;
	each.cooldown = minutes(10);
	apply({each, media()});
	const auto leases = [this] { return dp().entries<ptrig_lease_key, ptrig_lease>("pt_leases").size(); };
	for (unsigned n = 1; n <= 20; n++) {
		const std::string remote = "198.51.100." + std::to_string(n);
		ASSERT_EQ(trigger(kA, kSynOut, remote), PTRIG_GRANTED) << n;
		ASSERT_EQ(n % 2 ? trigger(kA, kRstOut, remote) : answer(kA, kRstIn, remote), PTRIG_FLAGS) << n;
		EXPECT_EQ(leases(), std::min(n, 4U));
	}
	EXPECT_EQ(usage().leases, 4U);
	EXPECT_EQ(trigger(kB, Udp{.sport = 5060, .dport = 5060}), PTRIG_GRANTED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).leases, 0U);
	EXPECT_EQ(leases(), 4U) << "the sweep makes room, too, but no more than is needed";
}

TEST_F(CloseConnection, UdpTriggersCloseByIdleness) {
	Rule rule = media();
	rule.close = Close::kConnection;
	apply({rule});
	EXPECT_EQ(trigger(kA, Udp{.sport = 5060, .dport = 5060}), PTRIG_GRANTED);
	EXPECT_EQ(lease("media")->info.flags & PTRIG_LEASE_CONN, 0U);
	EXPECT_EQ(conns(), 0U);
}

TEST_F(CloseConnection, TableFullFallsBackToIdle) {
	use({.conns = 1});
	apply({closing()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, Tcp{.sport = 1026, .dport = 6667}), PTRIG_REFRESHED);
	EXPECT_EQ(hits("ident").refused[PTRIG_CONNS_FULL - PTRIG_FLAGS], 1U) << "counted";
	EXPECT_EQ(trigger(kA, kRstOut), PTRIG_FLAGS);
	EXPECT_TRUE(live()) << "a connection that could not be followed may still be open";
}

TEST_F(CloseConnection, WithConfirm) {
	Rule rule = closing();
	rule.confirm = true;
	apply({rule});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_PENDING);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_GRANTED);
	EXPECT_EQ(lease("ident")->info.conns, 1U);
	EXPECT_EQ(conns(), 1U);
	EXPECT_EQ(trigger(kA, kFinOut), PTRIG_FLAGS);
	EXPECT_EQ(answer(kA, kFinIn), PTRIG_FLAGS);
	EXPECT_FALSE(live());
}

TEST_F(CloseConnection, PerRemote) {
	Rule rule = closing();
	rule.remotes.kind = Remotes::Kind::kContacted;
	apply({rule});
	EXPECT_EQ(trigger(kA, kSynOut, kRemote), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, kSynOut, kRemote2), PTRIG_GRANTED);
	EXPECT_EQ(answer(kA, kRstIn, kRemote2), PTRIG_FLAGS);
	EXPECT_EQ(lease("ident", kRemote)->info.state, PTRIG_LEASE_LIVE);
	EXPECT_EQ(lease("ident", kRemote2)->info.state, PTRIG_LEASE_ENDED);
}

TEST_F(Connection, NoAnswerIsLookedForWithoutSuchRules) {
	apply({ident()});
	EXPECT_EQ(trigger(kA, kSynOut), PTRIG_GRANTED);
	EXPECT_EQ(answer(kA, kSynAck), PTRIG_NO_ANSWER);
	EXPECT_EQ(answer(kA, Udp{.sport = 53, .dport = 1025}), PTRIG_NO_ANSWER);
	EXPECT_EQ(answer(kA, kRstIn), PTRIG_NO_ANSWER);
}

} // namespace
} // namespace ptrig::test
