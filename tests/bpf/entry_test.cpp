// The conntrack entries of sessions: what they say when they are made, how long they last, that each end of a session
// takes its entry along and nobody else's, and what becomes of a session whose entry is gone. And leases by WAN
// address, whose sessions' entries lead to different hosts.
#include <cstdio>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kIn = kFromRemote / kRemoteToWan / kKnock / "in", kOut = kFromHost / kHostToRemote / kReply / "out";
const Packet kSynIn = kFromRemote / kRemoteToWan / Tcp{.sport = 7000, .dport = 113},
	     kAckIn = kFromRemote / kRemoteToWan / Tcp{.sport = 7000, .dport = 113, .flags = kAck},
	     kSynAckOut = kFromHost / kHostToRemote / Tcp{.sport = 113, .dport = 7000, .flags = kSyn | kAck};
const std::string kRoutedHere = "198.51.100.200";
constexpr std::uint32_t kSeenReply = 1U << 1, kAssured = 1U << 2, kSrcNat = 1U << 4, kDstNat = 1U << 5;

Tuple tuple(const Packet &packet) {
	return *tuple_of(packet.bytes(), 14);
}
test_entry entry(const Packet &packet) {
	return entry_of(tuple(packet));
}
/// Seconds that the packet's entry has left; -1: there is none.
int seconds_left(const Packet &packet) {
	const Tuple t = tuple(packet);
	char from[INET_ADDRSTRLEN], to[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &t.tuple.saddr, from, sizeof(from));
	inet_ntop(AF_INET, &t.tuple.daddr, to, sizeof(to));
	const std::string all = flows(), key = std::string("src=") + from + " dst=" + to +
					       " sport=" + std::to_string(ntohs(t.tuple.sport)) +
					       " dport=" + std::to_string(ntohs(t.tuple.dport));
	const std::size_t at = all.find(key);
	int left = -1;
	if (at != all.npos)
		std::sscanf(all.c_str() + (at ? all.rfind('\n', at) + 1 : 0), "%*s %*d %*s %*d %d", &left);
	return left;
}
void expect_left(const Packet &packet, int wanted, const char *what) {
	const int left = seconds_left(packet);
	EXPECT_TRUE(left == wanted || left == wanted - 1) << what << ": " << left << " s";
}

class Entry : public DatapathTest {
protected:
	void establish() {
		ASSERT_EQ(wan_in(kIn), PTRIG_OPENED);
		ASSERT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	}
	void edit_state(const std::function<void(ptrig_state &)> &edit) {
		auto states = dp().map<std::uint32_t, ptrig_state>("pt_state");
		ptrig_state state = states.lookup(0).value().value();
		edit(state);
		ASSERT_TRUE(states.update(0, state));
	}
	/// What the daemon writes into the configuration of generation 0.
	void conntrack_max(std::uint32_t most) {
		auto configs = dp().map<std::uint32_t, ptrig_config>("pt_config");
		ptrig_config config = configs.lookup(0).value().value();
		config.conntrack_max = most;
		ASSERT_TRUE(configs.update(0, config));
	}
	enum ptrig_reason knock(std::uint16_t sport) {
		return wan_in(kFromRemote / kRemoteToWan / Udp{.sport = sport, .dport = 16384});
	}
};

TEST_F(Entry, HoldsTheTranslation) {
	Rule rule = media();
	rule.open = {open(udp(6000, 6010), 7000)};
	granted({rule});
	const Packet in = kFromRemote / kRemoteToWan / Udp{.sport = 9, .dport = 6003} / "x";
	Packet out;
	EXPECT_EQ(wan_in(in, &out), PTRIG_OPENED);
	EXPECT_EQ(out, (kToHost / kRemoteToHost / Udp{.sport = 9, .dport = 7003} / "x"));
	const test_entry made = entry(in);
	EXPECT_FALSE(made.is_reply);
	EXPECT_EQ(made.status & (kSrcNat | kDstNat | kAssured), kDstNat);
	EXPECT_EQ(made.reply.saddr, be(kHost));
	EXPECT_EQ(ntohs(made.reply.sport), 7003);
	EXPECT_EQ(made.reply.daddr, be(kRemote));
	EXPECT_EQ(ntohs(made.reply.dport), 9);
}

TEST_F(Entry, IsSeenAsAnAnswerByDefault) {
	granted({media(), ident()});
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_TRUE(entry(kIn).status & kSeenReply);
	ASSERT_EQ(trigger(kA, Tcp{.dport = 6667}), PTRIG_GRANTED);
	EXPECT_EQ(wan_in(kSynIn), PTRIG_OPENED);
	EXPECT_TRUE(entry(kSynIn).status & kSeenReply);
}

TEST_F(Entry, IsNewWhereTheFirewallIsToDecide) {
	config_.gateway.firewall = FirewallMode::kNew;
	granted({media()});
	establish();
	EXPECT_EQ(entry(kIn).status & (kSeenReply | kDstNat), kDstNat);
	forget_flows();
	look_due();
	EXPECT_EQ(wan_in(kIn), PTRIG_REMADE);
	EXPECT_EQ(entry(kIn).status & (kSeenReply | kDstNat), kDstNat) << "when it is made again, too";
}

/// Without a nat chain an answer's look would let packets past the input chain.
TEST_F(Entry, IsNewWhileNoChainRegistersTheNatHooks) {
	granted({media()});
	edit_state([](ptrig_state &state) { state.nat_ready = 0; });
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_EQ(entry(kIn).status & (kSeenReply | kDstNat), kDstNat);
	edit_state([](ptrig_state &state) { state.nat_ready = 1; });
	EXPECT_EQ(knock(7001), PTRIG_OPENED);
	EXPECT_TRUE(entry(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}).status & kSeenReply);
}

TEST_F(Entry, LastsAsLongAsItsSession) {
	granted({media()});
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	expect_left(kIn, 30, "half-open");
	age_session(seconds(10));
	EXPECT_EQ(wan_in(kIn), PTRIG_HALF_OPEN);
	expect_left(kIn, 20, "whatever arrives");
	EXPECT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	expect_left(kIn, 300, "answered");
	age_session(seconds(100));
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_LE(seconds_left(kIn), 300);
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	expect_left(kIn, 300, "its host's packet");
}

TEST_F(Entry, OfAnAnsweredSessionIsMadeAgain) {
	granted({media(), ident()});
	ASSERT_EQ(trigger(kA, Tcp{.dport = 6667}), PTRIG_GRANTED);
	establish();
	const std::uint64_t id = session().lan.id;
	forget_entry(tuple(kIn));
	Packet out;
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_REMADE);
	EXPECT_EQ(out, (kToHost / kRemoteToHost / kKnock / "in"));
	EXPECT_EQ(session().lan.id, id);
	EXPECT_TRUE(entry(kIn).status & kSeenReply);
	expect_left(kIn, 300, "the session's time");
	EXPECT_EQ(wan_in(kIn), PTRIG_FORWARDED);
	EXPECT_EQ(wan_in(kSynIn), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kSynAckOut), PTRIG_ESTABLISHED);
	forget_flows();
	EXPECT_EQ(wan_in(kAckIn, &out), PTRIG_REMADE) << "in mid-stream";
	EXPECT_EQ(l3(out), (kRemoteToHost / Tcp{.sport = 7000, .dport = 113, .flags = kAck}));
	EXPECT_EQ(wan_in(kIn), PTRIG_REMADE);
}

TEST_F(Entry, OfAnAnsweredSessionIsMadeAgainInPlaceOfNobodys) {
	granted({media()});
	establish();
	forget_flows();
	const Tuple probe = tuple(kIn);
	ASSERT_TRUE(make_entry({.proto = probe.proto, .tuple = probe.tuple}).found);
	EXPECT_EQ(wan_in(kIn), PTRIG_REMADE);
	EXPECT_EQ(entry(kIn).reply.saddr, be(kHost));
}

TEST_F(Entry, IsNotMadeAgainForAHalfOpenSession) {
	granted({media()});
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	const std::uint64_t id = session().lan.id;
	forget_flows();
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED) << "anew";
	EXPECT_NE(session().lan.id, id);
	forget_flows();
	age_lease("media", minutes(10));
	EXPECT_EQ(wan_in(kIn), PTRIG_NO_LEASE) << "nothing leads to it any more";
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).halfopen, 1U);
}

/// It is not counted twice, though its place is taken anew.
TEST_F(Entry, OfAHalfOpenSessionThatIsGoneTakesNoOtherPlace) {
	Rule one = media();
	one.session_limit = 1;
	granted({one});
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
		forget_flows();
	}
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
}

/// A RST or FIN came by, and conntrack has thrown the entry away: so it was one.
TEST_F(Entry, IsNotMadeAgainAfterItsConnectionsEnd) {
	granted({ident()});
	EXPECT_EQ(wan_in(kSynIn), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kSynAckOut), PTRIG_ESTABLISHED);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.sport = 7000, .dport = 113, .flags = kRst}),
		  PTRIG_FORWARDED);
	EXPECT_EQ(sessions().size(), 1U) << "conntrack has not said so";
	forget_flows();
	EXPECT_EQ(wan_in(kAckIn), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
	EXPECT_FALSE(entry(kAckIn).found);
}

TEST_F(Entry, TheSweepAsksForIt) {
	granted({ident()});
	EXPECT_EQ(wan_in(kSynIn), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kSynAckOut), PTRIG_ESTABLISHED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Tcp{.sport = 113, .dport = 7000, .flags = kFin | kAck}),
		  PTRIG_FORWARDED);
	admin({.op = PTRIG_ADMIN_SWEEP});
	EXPECT_EQ(sessions().size(), 1U) << "conntrack still has the connection";
	forget_flows();
	admin({.op = PTRIG_ADMIN_SWEEP});
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Entry, IsRefusedWhereTheHostsOwnFlowIsInTheWay) {
	Rule rule = media();
	rule.open = {open(udp(20000), 30000)};
	granted({rule});
	const Packet in = kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = 20000},
		     out = kFromHost / kHostToRemote / Udp{.sport = 30000, .dport = 7000};
	EXPECT_EQ(wan_in(in), PTRIG_OPENED);
	EXPECT_EQ(lan_in(out), PTRIG_ESTABLISHED);
	forget_flows();
	ASSERT_TRUE(masquerade(tuple(out), kWan).found);
	EXPECT_EQ(wan_in(in), PTRIG_ENTRY_REFUSED);
	EXPECT_EQ(ntohs(entry(out).reply.dport), 30000) << "his flow goes on";
	forget_flows();
	EXPECT_EQ(wan_in(in), PTRIG_REMADE);
}

TEST_F(Entry, AnothersInItsPlaceEndsTheSessionAndStays) {
	granted({media()});
	for (const bool answered : {false, true}) {
		EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
		if (answered) {
			EXPECT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
		}
		forget_flows();
		const Tuple in = tuple(kIn);
		ASSERT_TRUE(
			make_entry({.proto = in.proto, .tuple = in.tuple, .to = be(kHost2), .to_port = htons(16384)})
				.found);
		EXPECT_EQ(wan_in(kIn), PTRIG_FLOW_KNOWN) << "the administrator's, to another host";
		if (!answered) { // nothing leads to it any more
			EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).halfopen, 1U);
		}
		EXPECT_TRUE(sessions().empty());
		EXPECT_EQ(entry(kIn).reply.saddr, be(kHost2)) << "it is left alone";
		forget_flows();
	}
	establish();
	forget_flows();
	ASSERT_TRUE(masquerade(tuple(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), kWan).found);
	EXPECT_EQ(wan_in(kIn), PTRIG_FLOW_KNOWN) << "a flow that began inside";
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(entry(kIn).orig.saddr, be(kHost2));
}

TEST_F(Entry, AnothersInItsPlaceStaysWhenTheSessionIsClosed) {
	granted({media()});
	establish();
	forget_flows();
	const Tuple in = tuple(kIn);
	ASSERT_TRUE(make_entry({.proto = in.proto, .tuple = in.tuple, .to = be(kHost2), .to_port = htons(80)}).found);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 1U);
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(entry(kIn).reply.saddr, be(kHost2));
	forget_flows();
}

/// Sessions end in every way that there is; a masqueraded flow and a port forward of the administrator's stay.
class EntryEnds : public Entry {
protected:
	const Packet flow_ = kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / Udp{.sport = 16385, .dport = 9},
		     forward_ = kFromRemote / kRemoteToWan / Udp{.sport = 9, .dport = 8080};

	void begin(const Rule &rule) {
		granted({rule});
		const Tuple forward = tuple(forward_);
		ASSERT_TRUE(masquerade(tuple(flow_), kWan).found);
		ASSERT_TRUE(make_entry({.proto = forward.proto,
					.tuple = forward.tuple,
					.to = be(kHost2),
					.to_port = htons(80)})
				    .found);
	}
	void TearDown() override {
		if (!IsSkipped()) {
			EXPECT_TRUE(sessions().empty());
			EXPECT_FALSE(entry(kIn).found);
			EXPECT_FALSE(entry(kSynIn).found);
			EXPECT_TRUE(entry(flow_).found) << "a masqueraded flow";
			EXPECT_TRUE(entry(forward_).found) << "the administrator's own";
			forget_entry(tuple(forward_));
		}
		Entry::TearDown();
	}
};

TEST_F(EntryEnds, ClosedByTheAdministrator) {
	begin(media());
	establish();
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 1U);
	EXPECT_FALSE(entry(kIn).found);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).halfopen, 1U);
}

TEST_F(EntryEnds, MarkedByUserSpaceAndNotReleasedYet) {
	begin(media());
	const auto mark = [](Pair &pair) {
		pair.lan.id |= PTRIG_SESSION_OVER;
		pair.wan.id |= PTRIG_SESSION_OVER;
	};
	establish();
	edit_session(mark);
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED);
	EXPECT_FALSE(entry(kIn).found);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	edit_session(mark);
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED) << "nor is it promoted";
	EXPECT_FALSE(entry(kIn).found);
	establish();
	edit_session(mark);
	age_lease("media", minutes(10));
	EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED);
}

TEST_F(EntryEnds, TheLeaseIsClosedAndTheRuleKills) {
	Rule rule = media();
	rule.on_close = OnClose::kKill;
	begin(rule);
	for (const bool by_packet : {true, false}) {
		if (!by_packet) {
			ASSERT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
		}
		establish();
		EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}).leases, 1U);
		look_due();
		if (by_packet) {
			EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED);
		} else {
			EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 1U);
		}
		EXPECT_FALSE(entry(kIn).found);
	}
}

TEST_F(EntryEnds, AHalfOpenOneWithItsLease) {
	begin(media());
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}).leases, 1U);
	look_due();
	EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED);
}

TEST_F(EntryEnds, ByTime) {
	begin(media());
	establish();
	age_session(minutes(5));
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 1U);
	EXPECT_FALSE(entry(kIn).found);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	age_session(seconds(30));
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).halfopen, 1U);
	EXPECT_FALSE(entry(kIn).found);
	establish();
	age_session(minutes(5));
	age_lease("media", minutes(10));
	EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED) << "without a daemon, too";
}

TEST_F(EntryEnds, ByTimeWhenItsHostSpeaksTooLate) {
	begin(media());
	establish();
	age_session(minutes(5));
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kOut), PTRIG_HEARD);
	EXPECT_EQ(wan_out(kToRemote / kWanToRemote / kReply / "out"), PTRIG_SESSION_ENDED);
}

TEST_F(EntryEnds, TheWanAddressIsGone) {
	begin(media());
	establish();
	wan_address("wan0", kWan, false);
	look_due();
	EXPECT_EQ(wan_in(kIn), PTRIG_SESSION_ENDED);
	EXPECT_FALSE(entry(kIn).found);
	wan_address("wan0", kWan);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	wan_address("wan0", kWan, false);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).halfopen, 1U);
}

TEST_F(EntryEnds, TheRemoteIsBanned) {
	begin(media());
	for (const bool answered : {true, false})
		for (const bool host_first : {true, false}) {
			EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
			if (answered) {
				EXPECT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
			}
			config_.gateway.deny_remotes = {prefix(kRemote)};
			apply({media()});
			look_due();
			if (host_first) {
				EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED);
			} else {
				EXPECT_EQ(wan_in(kIn), PTRIG_REMOTE_DENIED);
			}
			EXPECT_FALSE(entry(kIn).found);
			config_.gateway.deny_remotes = {};
			apply({media()});
		}
}

TEST_F(EntryEnds, AHalfOpenOneThatItsHostAnswersTooLate) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	begin(rule);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	age_session(seconds(30));
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED) << "its time is up";
	EXPECT_FALSE(entry(kIn).found);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED) << "the lease is another's";
	EXPECT_FALSE(entry(kIn).found);
	ASSERT_EQ(trigger(kA, kInvite), PTRIG_TAKEN_OVER);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	wan_address("wan0", kWan, false);
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED) << "the address is gone";
	EXPECT_FALSE(entry(kIn).found);
	wan_address("wan0", kWan);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	age_lease("media", minutes(10));
	EXPECT_EQ(lan_in(kOut), PTRIG_SESSION_ENDED) << "the lease has run out";
}

TEST_F(EntryEnds, AResetOfTheHost) {
	begin(ident());
	EXPECT_EQ(wan_in(kSynIn), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Tcp{.sport = 113, .dport = 7000, .flags = kRst | kAck}),
		  PTRIG_HALF_OPEN);
}

TEST_F(EntryEnds, ATakeoverOfAHalfOpenOne) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	begin(rule);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	look_due();
	Packet out;
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_OPENED) << "to the new host";
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kHost2, .ttl = 63} / kKnock / "in"));
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).halfopen, 1U);
}

TEST_F(Entry, HostsBehindDifferentAddressesHoldOneRule) {
	const Way second{.wan_address = kWanSecond};
	granted({media()});
	ASSERT_EQ(trigger(kB, kInvite, kRemote, second), PTRIG_GRANTED) << "not HELD";
	EXPECT_EQ(lease("media")->info.host, be(kHost));
	EXPECT_EQ(lease("media", "", kWanSecond)->info.host, be(kHost2));
	Packet out;
	EXPECT_EQ(wan_in(kIn, &out), PTRIG_OPENED);
	EXPECT_EQ(out, (kToHost / kRemoteToHost / kKnock / "in"));
	const Packet to_second = kFromRemote / Ip4{.src = kRemote, .dst = kWanSecond} / kKnock;
	EXPECT_EQ(wan_in(to_second, &out), PTRIG_OPENED);
	EXPECT_EQ(out, (kToHost2 / Ip4{.src = kRemote, .dst = kHost2, .ttl = 63} / kKnock));
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), (Ip4{.src = kWanSecond, .dst = kRemote, .ttl = 63} / kReply));
	wan_address("wan0", kWanSecond, false);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).leases, 1U);
	EXPECT_EQ(lease("media")->info.state, PTRIG_LEASE_LIVE);
	EXPECT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
}

TEST_F(Entry, AnAddressThatIsOnlyRoutedHere) {
	apply({media()});
	ASSERT_EQ(trigger(kA, kInvite, kRemote, {.wan_address = kRoutedHere}), PTRIG_GRANTED);
	EXPECT_TRUE(lease("media", "", kRoutedHere)->info.flags & PTRIG_LEASE_ROUTED);
	const Packet in = kFromRemote / Ip4{.src = kRemote, .dst = kRoutedHere} / kKnock;
	EXPECT_EQ(wan_in(kIn), PTRIG_NO_LEASE) << "on that address alone";
	EXPECT_EQ(wan_in(in), PTRIG_OPENED);
	look_due();
	EXPECT_EQ(wan_in(in), PTRIG_HALF_OPEN);
	Packet out;
	EXPECT_EQ(lan_in(kOut, &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRoutedHere, .dst = kRemote, .ttl = 63} / kReply / "out"));
	look_due();
	EXPECT_EQ(wan_in(in), PTRIG_FORWARDED);
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	const ptrig_admin swept = admin({.op = PTRIG_ADMIN_SWEEP});
	EXPECT_EQ(swept.leases + swept.sessions, 0U) << "it is on no WAN interface, and need not be";
}

TEST_F(Entry, WhatLeavesWithItsOwnAddressGrantsNothing) {
	apply({media()});
	const Packet in = kFromHost / kHostToRemote / kInvite;
	const Tuple t = tuple(in);
	ASSERT_TRUE(make_entry({.proto = t.proto, .tuple = t.tuple}).found);
	EXPECT_EQ(lan_in(in), PTRIG_UNTRANSLATED);
	EXPECT_FALSE(lease("media", "", kHost));
	EXPECT_FALSE(lease("media"));
}

TEST_F(Entry, HalfOpenSessionsAreAtMostAnEighthOfConntracksTable) {
	granted({media()});
	conntrack_max(32);
	EXPECT_EQ(knock(1), PTRIG_OPENED);
	EXPECT_EQ(knock(2), PTRIG_OPENED);
	EXPECT_EQ(knock(3), PTRIG_HALFOPEN_FULL) << "one host, half of the four";
	EXPECT_FALSE(entry(kFromRemote / kRemoteToWan / Udp{.sport = 3, .dport = 16384}).found);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = 1}), PTRIG_ESTABLISHED);
	EXPECT_EQ(knock(3), PTRIG_OPENED) << "an answered one is none";
	conntrack_max(0);
	EXPECT_EQ(knock(4), PTRIG_OPENED) << "not known";
}

TEST_F(Entry, SessionsAreAtMostHalfOfConntracksTable) {
	granted({media()});
	conntrack_max(8);
	for (std::uint16_t port = 1; port <= 4; port++) {
		EXPECT_EQ(knock(port), PTRIG_OPENED);
		EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = port}), PTRIG_ESTABLISHED);
	}
	EXPECT_EQ(knock(5), PTRIG_SESSIONS_FULL);
	EXPECT_EQ(knock(4), PTRIG_FORWARDED);
}

} // namespace
} // namespace ptrig::test
