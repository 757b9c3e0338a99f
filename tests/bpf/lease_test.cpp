// Who holds a rule's lease and for how long: refresh, hold, takeover, yield, cooldown, a lease per remote,
// hosts that DHCP renumbers, quotas and full tables. Time is moved by editing the stamps.
#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";

class Lease : public DatapathTest {
protected:
	/// A rule that A holds since `ago`.
	void held_by_a(const Rule &rule, nanoseconds ago = seconds(0)) {
		apply({rule});
		ASSERT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
		if (ago.count())
			age_lease(rule.name, ago);
		events();
	}
	/// How many changes of the rule's leases these tell of, with those that were left out.
	std::uint64_t changes(const std::vector<ptrig_event> &told) const {
		std::uint64_t all = told.size() + last("media").untold;
		for (const ptrig_event &event : told)
			all += event.suppressed;
		return all;
	}
	std::string holder(const std::string &rule = "media") const {
		const auto found = lease(rule);
		if (!found || found->info.state != PTRIG_LEASE_LIVE)
			return "nobody";
		return found->info.host == be(kHost) ? "A" : found->info.host == be(kHost2) ? "B" : "?";
	}
};

TEST_F(Lease, Refreshed) {
	held_by_a(media(), minutes(9));
	const auto before = *lease("media");
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_REFRESHED);
	const auto after = *lease("media");
	EXPECT_GT(after.info.refreshed_ns, before.info.refreshed_ns + 539000000000U);
	EXPECT_EQ(after.info.granted_ns, before.info.granted_ns);
	EXPECT_EQ(after.info.id, before.info.id);
	EXPECT_TRUE(events().empty());
}

TEST_F(Lease, FreshWithinTheSecond) {
	held_by_a(media());
	const auto before = *lease("media");
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_FRESH);
	EXPECT_EQ(lease("media")->info.refreshed_ns, before.info.refreshed_ns);
	EXPECT_EQ(hits("media").triggers, 2U);
	age_lease("media", seconds(1));
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_REFRESHED);
}

TEST_F(Lease, FreshIsForItsOwnHostOnly) {
	held_by_a(media());
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_HELD);
	EXPECT_EQ(trigger({kHost, kHost2Mac}, kInvite), PTRIG_SPOOFED);
}

TEST_F(Lease, HeldAndNotExtendedByTheOther) {
	held_by_a(media(), minutes(5));
	const auto before = *lease("media");
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_HELD);
	const auto after = *lease("media");
	EXPECT_EQ(after.info.host, before.info.host);
	EXPECT_EQ(after.info.refreshed_ns, before.info.refreshed_ns);
	EXPECT_EQ(after.info.refreshed_tick, before.info.refreshed_tick);
}

TEST_F(Lease, ExpiresAndGoesToTheNext) {
	held_by_a(media(), minutes(10));
	const auto before = *lease("media");
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(holder(), "B");
	EXPECT_NE(lease("media")->info.id, before.info.id);
	const auto told = events();
	ASSERT_EQ(told.size(), 2U);
	EXPECT_EQ(told[0].type, static_cast<unsigned>(PTRIG_EVENT_ENDED));
	EXPECT_EQ(told[0].reason, static_cast<unsigned>(PTRIG_EXPIRED));
	EXPECT_EQ(told[0].host, be(kHost)) << "the lease that ended was A's";
	EXPECT_EQ(told[0].lease, before.info.id);
	EXPECT_EQ(told[1].type, static_cast<unsigned>(PTRIG_EVENT_GRANTED));
	EXPECT_EQ(told[1].host, be(kHost2));
	EXPECT_EQ(told[1].lease, lease("media")->info.id);
}

TEST_F(Lease, JustNotExpired) {
	held_by_a(media(), minutes(10) - seconds(2));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_HELD);
}

TEST_F(Lease, ExpiredAndTakenAgainByItsHostIsANewGrant) {
	held_by_a(media(), minutes(11));
	const auto before = *lease("media");
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_NE(lease("media")->info.id, before.info.id);
}

TEST_F(Lease, ChangedTimeoutHoldsAtOnce) {
	held_by_a(media(), minutes(5));
	Rule shorter = media();
	shorter.timeout = minutes(4);
	apply({shorter}, 1);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
}

TEST_F(Lease, Takeover) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	held_by_a(rule);
	const auto before = *lease("media");
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	EXPECT_EQ(holder(), "B");
	EXPECT_NE(lease("media")->info.id, before.info.id);
	EXPECT_EQ(hits("media").granted, 2U);
	const auto told = events();
	ASSERT_EQ(told.size(), 1U);
	EXPECT_EQ(told[0].type, static_cast<unsigned>(PTRIG_EVENT_TAKEOVER));
	EXPECT_EQ(told[0].host, be(kHost2));
	EXPECT_EQ(told[0].old_host, be(kHost));
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_TAKEN_OVER);
}

// S17: two hosts, or one with two addresses, make changes of hands as fast as they can send.
TEST_F(Lease, TakeoversAreToldOnceASecond) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	held_by_a(rule);
	const auto begun = now_ns();
	for (int i = 0; i < 50; i++) {
		ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
		ASSERT_EQ(holder(), "B");
		ASSERT_EQ(trigger(kA, kInvite), PTRIG_TAKEN_OVER);
		ASSERT_EQ(holder(), "A");
	}
	EXPECT_EQ(hits("media").granted, 101U);
	const auto told = events();
	EXPECT_LE(told.size(), 1 + (now_ns() - begun) / 1000000000);
	ASSERT_FALSE(told.empty());
	EXPECT_EQ(told[0].host, be(kHost2)) << "the first is told at once";
	EXPECT_EQ(changes(told), 100U) << "and all are counted";
}

TEST_F(Lease, TheLastChangeThatWasLeftOutIsToldLater) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	held_by_a(rule);
	ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	edit_lease("media", [](ptrig_lease &l) { l.told_ns += 60000000000; }); // the second is a minute here
	ASSERT_EQ(trigger(kA, kInvite), PTRIG_TAKEN_OVER);
	ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	EXPECT_EQ(events().size(), 1U);
	EXPECT_EQ(last("media").untold, 2U);
	edit_lease("media", [](ptrig_lease &l) { l.told_ns -= 61000000000; });
	age_lease("media", seconds(1));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_REFRESHED);
	const auto told = events();
	ASSERT_EQ(told.size(), 1U);
	EXPECT_EQ(told[0].type, static_cast<unsigned>(PTRIG_EVENT_TAKEOVER));
	EXPECT_EQ(told[0].host, be(kHost2));
	EXPECT_EQ(told[0].old_host, be(kHost));
	EXPECT_EQ(told[0].suppressed, 1U) << "besides this one";
	EXPECT_EQ(last("media").untold, 0U);
	age_lease("media", seconds(1));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_REFRESHED);
	EXPECT_TRUE(events().empty()) << "once";
}

TEST_F(Lease, MovesAreToldOnceASecond) {
	held_by_a(media());
	knows(kStranger, kHostMac);
	const auto begun = now_ns();
	for (int i = 0; i < 50; i++) {
		ASSERT_EQ(trigger({kStranger, kHostMac}, kInvite), PTRIG_MOVED);
		ASSERT_EQ(trigger(kA, kInvite), PTRIG_MOVED);
	}
	EXPECT_EQ(holder(), "A");
	const auto told = events();
	EXPECT_LE(told.size(), 1 + (now_ns() - begun) / 1000000000);
	EXPECT_EQ(changes(told), 100U);
}

// By `contacted` a lease for each remote: of new ones that many a second are told.
TEST_F(Lease, NewLeasesOfARuleAreToldUpToANumberASecond) {
	Rule rule = media();
	rule.remotes.kind = Remotes::Kind::kContacted;
	config_.limits.leases_per_host = 0;
	use({.leases = 256});
	apply({rule});
	const auto begun = now_ns();
	for (int i = 1; i <= 200; i++)
		ASSERT_EQ(trigger(kA, kInvite, "198.51.100." + std::to_string(i)), PTRIG_GRANTED);
	const auto told = events();
	EXPECT_LE(told.size(), 64 * (1 + (now_ns() - begun) / 1000000000));
	EXPECT_GE(told.size(), 64U);
	EXPECT_EQ(changes(told), 200U);
	EXPECT_EQ(usage().leases, 200U);
}

TEST_F(Lease, YieldAfter) {
	Rule rule = media();
	rule.yield_after = minutes(2);
	held_by_a(rule, minutes(2) - seconds(2));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_HELD);
	age_lease("media", seconds(2));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	EXPECT_EQ(holder(), "B");
}

TEST_F(Lease, YieldCountsFromTheLastRefresh) {
	Rule rule = media();
	rule.yield_after = minutes(2);
	held_by_a(rule, minutes(3));
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_REFRESHED);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_HELD);
}

TEST_F(Lease, Cooldown) {
	Rule rule = media();
	rule.cooldown = minutes(2);
	held_by_a(rule, minutes(11)); // ended a minute ago
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_COOLDOWN);
	EXPECT_EQ(holder(), "nobody");
	EXPECT_EQ(lease("media")->info.end_reason, PTRIG_EXPIRED);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_COOLDOWN);
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED) << "never for the same host";
	EXPECT_EQ(holder(), "A");
}

TEST_F(Lease, CooldownIsOver) {
	Rule rule = media();
	rule.cooldown = minutes(2);
	held_by_a(rule, minutes(12) - seconds(2));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_COOLDOWN);
	age_lease("media", seconds(2));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
}

TEST_F(Lease, CooldownDoesNotSlowATakeover) {
	Rule rule = media();
	rule.cooldown = minutes(2);
	rule.conflict = Conflict::kTakeover;
	held_by_a(rule);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
}

TEST_F(Lease, MaxLifetime) {
	Rule rule = media();
	rule.max_lifetime = minutes(30);
	held_by_a(rule, minutes(5));
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(trigger(kA, kInvite), PTRIG_REFRESHED) << i;
		age_lease("media", minutes(5));
	}
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_REFRESHED);
	age_lease("media", minutes(5)); // granted 30 minutes ago, refreshed 5 minutes ago
	events();
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
	const auto told = events();
	ASSERT_EQ(told.size(), 2U);
	EXPECT_EQ(told[0].reason, static_cast<unsigned>(PTRIG_LIFETIME));
}

TEST_F(Lease, ContactedIsALeasePerRemote) {
	Rule rule = media();
	rule.remotes.kind = Remotes::Kind::kContacted;
	apply({rule});
	EXPECT_EQ(trigger(kA, kInvite, kRemote), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kInvite, kRemote2), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kInvite, kRemote), PTRIG_HELD);
	EXPECT_EQ(trigger(kA, kInvite, kRemote2), PTRIG_HELD);
	EXPECT_EQ(lease("media", kRemote)->info.host, be(kHost));
	EXPECT_EQ(lease("media", kRemote2)->info.host, be(kHost2));
	EXPECT_FALSE(lease("media"));
}

TEST_F(Lease, RenumberedHostTakesItsLeaseAlong) {
	held_by_a(media(), minutes(3));
	const auto before = *lease("media");
	EXPECT_EQ(trigger({kStranger, kHostMac}, kInvite), PTRIG_HELD) << "one frame proves nothing";
	events();
	knows(kStranger, kHostMac);
	EXPECT_EQ(trigger({"192.168.88.11", kHostMac}, kInvite, kRemote, {.lan = "lan1"}), PTRIG_HELD)
		<< "a MAC address is somebody on one LAN only";
	EXPECT_EQ(trigger({kStranger, kHostMac}, kInvite), PTRIG_MOVED);
	const auto after = *lease("media");
	EXPECT_EQ(after.info.host, be(kStranger));
	EXPECT_EQ(after.info.id, before.info.id);
	EXPECT_TRUE(is_later(after.info.refreshed_ns, before.info.refreshed_ns));
	const auto told = events();
	ASSERT_EQ(told.size(), 1U);
	EXPECT_EQ(told[0].type, static_cast<unsigned>(PTRIG_EVENT_MOVED));
	EXPECT_EQ(told[0].host, be(kStranger));
	EXPECT_EQ(told[0].old_host, be(kHost));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_HELD);
}

TEST_F(Lease, AnotherMachineAtTheAddressInheritsNothing) {
	held_by_a(media(), minutes(3));
	const auto before = *lease("media");
	ip_batch(Ns::kGateway, "neighbour del " + kHost + " dev lan0\n");
	EXPECT_EQ(trigger({kHost, kStrangerMac}, kInvite), PTRIG_GRANTED);
	ip_batch(Ns::kGateway, "neighbour replace " + kHost + " lladdr " + kHostMac + " nud permanent dev lan0\n");
	const auto after = *lease("media");
	EXPECT_NE(after.info.id, before.info.id);
	EXPECT_EQ(Bytes(after.info.mac, after.info.mac + 6), mac_bytes(kStrangerMac));
	const auto told = events();
	ASSERT_EQ(told.size(), 2U);
	EXPECT_EQ(told[0].reason, static_cast<unsigned>(PTRIG_HOST_CHANGED));
	EXPECT_EQ(told[0].lease, before.info.id);
	EXPECT_EQ(Bytes(told[0].mac, told[0].mac + 6), mac_bytes(kHostMac)) << "the old machine's lease ended";
}

TEST_F(Lease, AnotherMachineAtTheAddressWaitsForTheCooldown) {
	Rule rule = media();
	rule.cooldown = minutes(2);
	held_by_a(rule, minutes(3));
	ip_batch(Ns::kGateway, "neighbour del " + kHost + " dev lan0\n");
	EXPECT_EQ(trigger({kHost, kStrangerMac}, kInvite), PTRIG_COOLDOWN);
	ip_batch(Ns::kGateway, "neighbour replace " + kHost + " lladdr " + kHostMac + " nud permanent dev lan0\n");
	EXPECT_EQ(holder(), "nobody");
}

TEST_F(Lease, RoutedHostsAreKnownByTheirAddress) {
	Rule rule = media();
	rule.sources.kind = Sources::Kind::kRouted;
	apply({rule});
	EXPECT_EQ(trigger({kRouted, kSwitchMac}, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(trigger({"10.77.0.6", kSwitchMac}, kInvite), PTRIG_HELD) << "the same MAC is the switch's";
}

TEST_F(Lease, QuotaPerHost) {
	config_.limits.leases_per_host = 4;
	Rule rule = media();
	rule.remotes.kind = Remotes::Kind::kContacted;
	apply({rule});
	EXPECT_EQ(trigger(kA, kInvite, "203.0.113.20"), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, kInvite, "203.0.113.21"), PTRIG_GRANTED) << "half of them is one rule's";
	EXPECT_EQ(trigger(kA, kInvite, "203.0.113.22"), PTRIG_HOST_LEASES);
	EXPECT_EQ(trigger(kB, kInvite, "203.0.113.22"), PTRIG_GRANTED) << "another host's quota is its own";
	age_lease("media", minutes(1), "203.0.113.20");
	EXPECT_EQ(trigger(kA, kInvite, "203.0.113.20"), PTRIG_REFRESHED) << "at the limit one may keep what one has";
}

TEST_F(Lease, OneRulesManyRemotesLeaveTheHostsOtherRulesTheirs) {
	config_.limits.leases_per_host = 4;
	Rule peers = media(), phone = media(), other = media();
	peers.remotes.kind = Remotes::Kind::kContacted;
	phone.name = "phone";
	phone.trigger = {udp(5070)};
	phone.open = {open(udp(2000))};
	other.name = "other";
	other.trigger = {udp(5071)};
	other.open = {open(udp(2001))};
	apply({peers, phone, other});
	for (int i = 0; i < 20; i++)
		trigger(kA, kInvite, "203.0.113." + std::to_string(100 + i));
	EXPECT_EQ(trigger(kA, Udp{.dport = 5070}), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, Udp{.dport = 5071}), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, kInvite, "203.0.113.50"), PTRIG_HOST_LEASES);
	age_lease("media", minutes(11), "203.0.113.100");
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).leases, 1U);
	EXPECT_EQ(trigger(kA, kInvite, "203.0.113.50"), PTRIG_GRANTED) << "one of the rule's own has ended";
}

TEST_F(Lease, QuotaComesBackWhenALeaseEnds) {
	config_.limits.leases_per_host = 1;
	Rule one = media(), two = media();
	two.name = "two";
	two.trigger = {udp(5070)};
	two.open = {open(udp(2000))};
	apply({one, two});
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kA, Udp{.dport = 5070}), PTRIG_HOST_LEASES);
	age_lease("media", minutes(11));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED); // A's has ended with this at the latest
	EXPECT_EQ(trigger(kA, Udp{.dport = 5070}), PTRIG_GRANTED);
}

TEST_F(Lease, QuotaAtATakeover) {
	config_.limits.leases_per_host = 1;
	Rule one = media(), two = media();
	one.conflict = Conflict::kTakeover;
	two.name = "two";
	two.trigger = {udp(5070)};
	two.open = {open(udp(2000))};
	apply({one, two});
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, Udp{.dport = 5070}), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_HOST_LEASES) << "B has one already";
	EXPECT_EQ(holder(), "A") << "nothing may be lost by a refused takeover";
}

TEST_F(Lease, MovedAtTheQuota) {
	config_.limits.leases_per_host = 1;
	held_by_a(media(), minutes(1));
	knows(kStranger, kHostMac);
	EXPECT_EQ(trigger({kStranger, kHostMac}, kInvite), PTRIG_MOVED) << "the new address has none yet";
}

TEST_F(Lease, NoQuota) {
	config_.limits.leases_per_host = 0;
	Rule rule = media();
	rule.remotes.kind = Remotes::Kind::kContacted;
	apply({rule});
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(trigger(kA, kInvite, "203.0.113." + std::to_string(100 + i)), PTRIG_GRANTED);
}

TEST_F(Lease, TableFull) {
	use({.leases = 3});
	Rule rule = media();
	rule.remotes.kind = Remotes::Kind::kContacted;
	apply({rule, ident()});
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(trigger(kA, kInvite, "203.0.113." + std::to_string(100 + i)), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kInvite, kRemote2), PTRIG_LEASES_FULL);
	EXPECT_EQ(trigger(kB, Tcp{.dport = 6667}), PTRIG_LEASES_FULL);
	for (int i = 0; i < 3; i++)
		EXPECT_TRUE(lease("media", "203.0.113." + std::to_string(100 + i))) << "nothing living is evicted";
	age_lease("media", seconds(1), "203.0.113.100");
	EXPECT_EQ(trigger(kA, kInvite, "203.0.113.100"), PTRIG_REFRESHED);
}

TEST_F(Lease, BeingDeletedThisMoment) {
	books_ = false;
	held_by_a(media());
	edit_lease("media", [](ptrig_lease &l) { l.info.state = PTRIG_LEASE_DEAD; });
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_BUSY);
	EXPECT_EQ(lease("media")->info.state, PTRIG_LEASE_DEAD) << "never revived";
	EXPECT_EQ(hits("media").refused[PTRIG_BUSY - PTRIG_FLAGS], 1U);
}

TEST_F(Lease, ANewRuleInTheSlotInheritsNothing) {
	held_by_a(media());
	apply({ident()}, 1);
	Rule again = media();
	again.open = {open(tcp(1))};
	apply({again}, 0);
	EXPECT_FALSE(lease("media")) << "the id is another one";
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
}

} // namespace
} // namespace ptrig::test
