// pt_admin: what the sweep deletes and what it must leave, and leases and sessions that an administrator ends.
#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kIn = kFromRemote / kRemoteToWan / kKnock / "in", kOut = kFromHost / kHostToRemote / kReply / "out";

class Admin : public DatapathTest {
protected:
	ptrig_admin sweep() { return admin({.op = PTRIG_ADMIN_SWEEP}); }
	void established() {
		ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
		ASSERT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	}
	std::size_t hosts() const { return dp().map<ptrig_host_key, ptrig_host>("pt_hosts").keys()->size(); }
};

TEST_F(Admin, SweepLeavesWhatLives) {
	granted({media()});
	established();
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}), PTRIG_OPENED);
	const ptrig_admin done = sweep();
	EXPECT_EQ(done.leases + done.sessions + done.halfopen + done.conns, 0U);
	EXPECT_EQ(sessions().size(), 2U);
	EXPECT_EQ(lease("media")->info.state, PTRIG_LEASE_LIVE);
	EXPECT_EQ(hosts(), 1U);
}

TEST_F(Admin, NoMoreSessionsACallThanAsked) {
	granted({media()});
	for (std::uint16_t port = 1; port <= 5; port++)
		ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = port, .dport = 16384}), PTRIG_OPENED);
	established();
	const ptrig_admin two{.op = PTRIG_ADMIN_CLOSE_SESSIONS, .most = 2};
	EXPECT_EQ(admin(two).halfopen, 2U);
	EXPECT_EQ(admin(two).halfopen, 2U);
	const ptrig_admin last = admin(two);
	EXPECT_EQ(last.halfopen, 1U);
	EXPECT_EQ(last.sessions, 1U) << "what is left is for the other table";
	EXPECT_EQ(admin(two).sessions, 0U);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Admin, SweepOnNothing) {
	apply({});
	const ptrig_admin done = sweep();
	EXPECT_EQ(done.leases + done.sessions + done.halfopen + done.conns, 0U);
}

TEST_F(Admin, SweepEndsAndForgetsLeases) {
	granted({media()});
	const auto id = lease("media")->info.id;
	age_lease("media", minutes(10));
	events();
	EXPECT_EQ(sweep().leases, 1U);
	const auto told = events();
	ASSERT_EQ(told.size(), 1U);
	EXPECT_EQ(told[0].type, static_cast<unsigned>(PTRIG_EVENT_ENDED));
	EXPECT_EQ(told[0].reason, static_cast<unsigned>(PTRIG_EXPIRED));
	EXPECT_EQ(told[0].lease, id);
	EXPECT_EQ(told[0].host, be(kHost));
	EXPECT_EQ(told[0].rule, rule_id("media"));
	sweep();
	EXPECT_FALSE(lease("media"));
	EXPECT_EQ(usage().leases, 0U);
	EXPECT_EQ(hosts(), 0U) << "hosts that have nothing are forgotten";
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
}

TEST_F(Admin, SweepOfLeasesLeavesSessionsForLater) {
	granted({media()});
	established();
	age_sessions(minutes(6));
	age_lease("media", minutes(10));
	const ptrig_admin leases = admin({.op = PTRIG_ADMIN_SWEEP_LEASES});
	EXPECT_EQ(leases.leases, 1U);
	EXPECT_EQ(leases.sessions, 0U);
	EXPECT_EQ(sessions().size(), 1U);
	admin({.op = PTRIG_ADMIN_SWEEP_LEASES});
	EXPECT_FALSE(lease("media")) << "forgotten, too";
	EXPECT_EQ(sweep().sessions, 1U);
	sweep();
	EXPECT_EQ(hosts(), 0U);
}

TEST_F(Admin, SweepKeepsAnEndedLeaseThroughItsCooldown) {
	Rule rule = media();
	rule.cooldown = minutes(2);
	granted({rule});
	age_lease("media", minutes(11)); // ended a minute ago
	EXPECT_EQ(sweep().leases, 1U);
	EXPECT_EQ(sweep().leases, 0U);
	ASSERT_TRUE(lease("media"));
	EXPECT_EQ(lease("media")->info.state, PTRIG_LEASE_ENDED);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_COOLDOWN);
	age_lease("media", minutes(1));
	sweep();
	EXPECT_FALSE(lease("media"));
}

TEST_F(Admin, SweepTellsALifetimeFromIdleness) {
	Rule rule = media();
	rule.max_lifetime = minutes(5);
	granted({rule});
	age_lease("media", minutes(5));
	events();
	EXPECT_EQ(sweep().leases, 1U);
	EXPECT_EQ(events().at(0).reason, static_cast<unsigned>(PTRIG_LIFETIME));
}

TEST_F(Admin, SweepEndsLeasesOfRulesThatAreGone) {
	granted({media()});
	established();
	const auto old = rule_id("media");
	events();
	apply({ident()}, 1);
	EXPECT_EQ(sweep().leases, 1U);
	const auto told = events();
	ASSERT_EQ(told.size(), 1U);
	EXPECT_EQ(told[0].reason, static_cast<unsigned>(PTRIG_RULE_GONE));
	EXPECT_EQ(told[0].rule, old);
	EXPECT_EQ(told[0].sessions, 1U) << "goes on: on_close = keep";
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	sweep();
	EXPECT_EQ(usage().leases, 0U);
}

TEST_F(Admin, SweepEndsLeasesWhoseWanAddressIsGone) {
	granted({media()});
	EXPECT_EQ(sweep().leases, 0U);
	wan_address("wan0", kWan, false);
	events();
	EXPECT_EQ(sweep().leases, 1U);
	EXPECT_EQ(events().at(0).reason, static_cast<unsigned>(PTRIG_WAN_CHANGED));
	wan_address("wan0", kWan);
}

/// What is masqueraded to it leaves for a moment still. It is no address that is only routed here.
TEST_F(Admin, NothingIsGrantedByAWanAddressThatHasJustGone) {
	granted({media()});
	const ptrig_wan_key key{ifindex("wan0"), be(kWan)};
	auto addresses = dp().map<ptrig_wan_key, std::uint32_t>("pt_wan_addrs");
	ASSERT_TRUE(addresses.update(key, PTRIG_WAN_GONE | 1U));
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_CANDIDATE) << "nothing comes of it, nor is the old one refreshed";
	EXPECT_EQ(sweep().leases, 1U);
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_CANDIDATE);
	EXPECT_EQ(usage().leases, 0U);
	ASSERT_TRUE(addresses.erase(key));
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED) << "routed here, as far as anybody knows";
	EXPECT_EQ(lease("media")->info.flags & PTRIG_LEASE_ROUTED, PTRIG_LEASE_ROUTED);
	wan_address("wan0", kWan);
}

TEST_F(Admin, SweepSessions) {
	granted({media()});
	established();
	age_session(minutes(5));
	EXPECT_EQ(sweep().sessions, 1U);
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(lease("media")->sessions, 0U);
	ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
	age_session(seconds(30));
	EXPECT_EQ(sweep().halfopen, 1U);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Admin, SweepHalfOpenSessionsOfEndedLeases) {
	granted({media()});
	ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
	age_lease("media", minutes(10));
	EXPECT_EQ(sweep().halfopen, 1U);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Admin, SweepKillsWhereTheRuleSaysSo) {
	Rule rule = media();
	rule.on_close = OnClose::kKill;
	granted({rule});
	established();
	EXPECT_EQ(sweep().sessions, 0U);
	age_lease("media", minutes(10));
	EXPECT_EQ(sweep().sessions, 1U);
}

TEST_F(Admin, SweepKeepsEstablishedSessionsOfAnEndedLease) {
	granted({media()});
	established();
	age_lease("media", minutes(10));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(sweep().sessions, 0U);
	EXPECT_FALSE(lease("media"));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS});
	EXPECT_EQ(hosts(), 1U);
	sweep();
	EXPECT_EQ(hosts(), 0U);
}

TEST_F(Admin, ClosingALeaseKeepsItsSessions) {
	granted({media()});
	established();
	events();
	const ptrig_admin done =
		admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .rule = rule_id("media"), .reason = PTRIG_CLOSED});
	EXPECT_EQ(done.leases, 1U);
	EXPECT_EQ(done.sessions, 0U);
	EXPECT_EQ(lease("media")->info.state, PTRIG_LEASE_ENDED);
	EXPECT_EQ(lease("media")->info.end_reason, PTRIG_CLOSED);
	const auto told = events();
	ASSERT_EQ(told.size(), 1U);
	EXPECT_EQ(told[0].reason, static_cast<unsigned>(PTRIG_CLOSED));
	EXPECT_EQ(told[0].sessions, 1U);
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
}

TEST_F(Admin, CloseLeasesThatMatch) {
	Rule one = media(), two = media();
	one.remotes.kind = Remotes::Kind::kContacted;
	two.name = "two";
	two.trigger = {udp(5070)};
	two.open = {open(udp(2000))};
	const auto fresh = [&] {
		admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED});
		apply({one, two});
		ASSERT_EQ(trigger(kA, kInvite, kRemote), PTRIG_GRANTED);
		ASSERT_EQ(trigger(kB, kInvite, kRemote2), PTRIG_GRANTED);
		ASSERT_EQ(trigger(kA, Udp{.dport = 5070}, kRemote1, {.wan = "wan1", .wan_address = kWan1}),
			  PTRIG_GRANTED);
	};
	const auto closed = [&](ptrig_admin what) {
		fresh();
		what.op = PTRIG_ADMIN_CLOSE_LEASES;
		what.reason = PTRIG_CLOSED;
		return admin(what).leases;
	};
	EXPECT_EQ(closed({}), 3U);
	EXPECT_EQ(closed({.rule = rule_id("media")}), 2U);
	EXPECT_EQ(closed({.host = be(kHost)}), 2U);
	EXPECT_EQ(closed({.remote = be(kRemote2)}), 1U);
	EXPECT_EQ(closed({.remote = be(kRemote1)}), 1U) << "the trigger's remote, where the lease is for any";
	EXPECT_EQ(closed({.wan = be(kWan1)}), 1U);
	EXPECT_EQ(closed({.wan = be(kWan)}), 2U);
	EXPECT_EQ(closed({.rule = rule_id("media"), .host = be(kHost), .remote = be(kRemote2)}), 0U);
	EXPECT_EQ(closed({.host = be(kStranger)}), 0U);
	fresh();
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES,
			 .lease = lease("two", "", kWan1)->info.id,
			 .reason = PTRIG_CLOSED})
			  .leases,
		  1U);
}

TEST_F(Admin, ALeaseIsClosedOnce) {
	granted({media()});
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}).leases, 1U);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_RULE_GONE}).leases, 0U);
	EXPECT_EQ(lease("media")->info.end_reason, PTRIG_CLOSED);
}

TEST_F(Admin, ALeaseThatIsOverHasEndedThenNotWhenItIsClosed) {
	Rule rule = media();
	rule.cooldown = seconds(30);
	granted({rule});
	age_lease("media", minutes(10) + seconds(20));
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}).leases, 1U);
	EXPECT_EQ(lease("media")->info.end_reason, PTRIG_EXPIRED);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_COOLDOWN);
	age_lease("media", seconds(15));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
}

TEST_F(Admin, CloseSessionsThatMatch) {
	Rule kept = media(), other = media();
	other.name = "other";
	other.trigger = {udp(5070)};
	other.open = {open(udp(2000))};
	const auto closed = [&](ptrig_admin what) {
		admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS});
		admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED});
		apply({kept, other});
		EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
		EXPECT_EQ(trigger(kB, Udp{.dport = 5070}), PTRIG_GRANTED);
		EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
		EXPECT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
		EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote2, .dst = kWan} / Udp{.dport = 2000}), PTRIG_OPENED);
		what.op = PTRIG_ADMIN_CLOSE_SESSIONS;
		const ptrig_admin done = admin(what);
		return std::pair(done.sessions, done.halfopen);
	};
	using Closed = std::pair<std::uint32_t, std::uint32_t>;
	EXPECT_EQ(closed({}), Closed(1, 1));
	EXPECT_EQ(closed({.rule = rule_id("media")}), Closed(1, 0));
	EXPECT_EQ(closed({.host = be(kHost2)}), Closed(0, 1));
	EXPECT_EQ(closed({.remote = be(kRemote)}), Closed(1, 0));
	EXPECT_EQ(closed({.remote = be(kRemote2)}), Closed(0, 1));
	EXPECT_EQ(closed({.wan = be(kWan)}), Closed(1, 1));
	EXPECT_EQ(closed({.wan = be(kWanSecond)}), Closed(0, 0));
	EXPECT_EQ(closed({.rule = rule_id("media"), .host = be(kHost2)}), Closed(0, 0));
}

TEST_F(Admin, ClosedSessionsAreGoneForPackets) {
	granted({media()});
	established();
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED});
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 1U);
	EXPECT_EQ(wan_in(kIn), PTRIG_NO_LEASE);
	EXPECT_EQ(lan_in(kOut), PTRIG_CANDIDATE) << "nothing but an ordinary packet from a rule's port";
}

TEST_F(Admin, NothingThatWasRenewedIsDeleted) {
	granted({media()});
	established();
	age_session(minutes(5) - seconds(1));
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	age_lease("media", minutes(10) - seconds(1));
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_REFRESHED);
	const ptrig_admin done = sweep();
	EXPECT_EQ(done.leases + done.sessions, 0U);
}

} // namespace
} // namespace ptrig::test
