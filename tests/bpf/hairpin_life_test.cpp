// Hairpinned sessions: limits, full tables, time, ends; packets that cannot be sent on; ICMP errors; XDP.
#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Ip4 kClientToWan{.src = kHost2, .dst = kWan}, kWanToHost{.src = kWan, .dst = kHost, .ttl = 63},
	kHostToWan{.src = kHost, .dst = kWan}, kWanToClient{.src = kWan, .dst = kHost2, .ttl = 63};
const Packet kAsk = kFromHost2 / kClientToWan / kKnock / "ask", kTell = kFromHost / kHostToWan / kReply / "tell";
const Icmp kPortClosed{.type = 3, .code = 3};

class HairpinLife : public DatapathTest {
protected:
	enum ptrig_reason ask(std::uint16_t sport) {
		return lan_in(kFromHost2 / kClientToWan / Udp{.sport = sport, .dport = 16384});
	}
	void establish() {
		ASSERT_EQ(lan_in(kAsk), PTRIG_OPENED);
		ASSERT_EQ(lan_in(kTell), PTRIG_ESTABLISHED);
	}
};

TEST_F(HairpinLife, LimitsHold) {
	Rule rule = media();
	rule.session_limit = 1;
	granted({rule});
	EXPECT_EQ(ask(1), PTRIG_OPENED);
	EXPECT_EQ(ask(2), PTRIG_SESSION_LIMIT);
	EXPECT_EQ(ask(1), PTRIG_HALF_OPEN);
	config_.limits.sessions_per_host = 1;
	apply({media()}, 1);
	EXPECT_EQ(ask(3), PTRIG_HOST_SESSIONS) << "the host's, not the client's";
	config_.limits.sessions_per_host = 0;
	config_.limits.new_sessions_per_second = 1;
	apply({media()});
	enum ptrig_reason last = PTRIG_OPENED;
	for (std::uint16_t port = 10; port < 20 && last == PTRIG_OPENED; port++)
		last = ask(port);
	EXPECT_EQ(last, PTRIG_RATE_LIMITED);
}

TEST_F(HairpinLife, FullTables) {
	use({.sessions = 1, .halfopen = 4, .hairpins = 3});
	granted({media()});
	establish();
	EXPECT_EQ(ask(1), PTRIG_OPENED);
	EXPECT_EQ(ask(2), PTRIG_OPENED);
	EXPECT_EQ(ask(3), PTRIG_SESSIONS_FULL) << "no more clients";
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 16384, .dport = 1}), PTRIG_SESSIONS_FULL);
	EXPECT_EQ(sessions().size(), 2U) << "that could not be established is gone, its client too";
	EXPECT_EQ(ask(4), PTRIG_OPENED);
}

TEST_F(HairpinLife, FullTableOfHalfOpenSessions) {
	use({.halfopen = 1});
	granted({media()});
	EXPECT_EQ(ask(1), PTRIG_OPENED);
	EXPECT_EQ(ask(2), PTRIG_HALFOPEN_FULL);
	EXPECT_EQ(ask(1), PTRIG_HALF_OPEN);
}

TEST_F(HairpinLife, OnlyTheHostKeepsItAlive) {
	granted({media()});
	establish();
	age_session(minutes(4));
	const auto seen = session().lan.seen_ns;
	EXPECT_EQ(lan_in(kAsk), PTRIG_FORWARDED);
	EXPECT_EQ(session().lan.seen_ns, seen);
	age_session(minutes(1));
	age_lease("media", minutes(10));
	EXPECT_EQ(lan_in(kAsk), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(HairpinLife, TheHostKeepsItAlivePastItsLease) {
	granted({media()});
	establish();
	age_lease("media", minutes(10));
	for (int i = 0; i < 3; i++) {
		age_session(minutes(4));
		EXPECT_EQ(lan_in(kTell), PTRIG_FORWARDED);
		EXPECT_EQ(lan_in(kAsk), PTRIG_FORWARDED);
	}
}

TEST_F(HairpinLife, HalfOpenEndsWithItsTimeOrItsLease) {
	granted({media()});
	EXPECT_EQ(lan_in(kAsk), PTRIG_OPENED);
	age_session(seconds(30));
	EXPECT_EQ(lan_in(kAsk), PTRIG_OPENED) << "anew";
	age_lease("media", minutes(10));
	EXPECT_EQ(lan_in(kAsk), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(HairpinLife, NeverExtendsALeaseUnlessTheHostsTrafficDoes) {
	Rule rule = media();
	granted({rule});
	const auto refreshed = [&] { return lease("media")->info.refreshed_ns; };
	age_lease("media", minutes(5));
	const auto before = refreshed();
	// From a trigger port: the answers go to it, and leave by no WAN.
	const Packet ask = kFromHost2 / kClientToWan / Udp{.sport = 5060, .dport = 16384},
		     tell = kFromHost / kHostToWan / Udp{.sport = 16384, .dport = 5060};
	EXPECT_EQ(lan_in(ask), PTRIG_OPENED);
	EXPECT_EQ(lan_in(tell), PTRIG_ESTABLISHED);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(lan_in(ask), PTRIG_FORWARDED);
		EXPECT_EQ(lan_in(tell), PTRIG_FORWARDED);
		look_due();
	}
	EXPECT_EQ(refreshed(), before);
	rule.refresh = Refresh::kTraffic;
	apply({rule}, 1);
	EXPECT_EQ(lan_in(ask), PTRIG_FORWARDED);
	EXPECT_EQ(refreshed(), before);
	EXPECT_EQ(lan_in(tell), PTRIG_FORWARDED);
	EXPECT_TRUE(is_later(refreshed(), before));
}

TEST_F(HairpinLife, OnCloseKill) {
	Rule rule = media();
	rule.on_close = OnClose::kKill;
	granted({rule});
	establish();
	age_lease("media", minutes(10));
	look_due();
	EXPECT_EQ(lan_in(kTell), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(HairpinLife, EndsWithTheWanAddress) {
	granted({media()});
	establish();
	wan_address("wan0", kWan, false);
	look_due();
	EXPECT_EQ(lan_in(kAsk), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(HairpinLife, SweptAndClosed) {
	granted({media()});
	establish();
	EXPECT_EQ(ask(1), PTRIG_OPENED);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 0U);
	age_sessions(minutes(5));
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_SWEEP}).sessions, 1U);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS, .remote = be(kRemote)}).halfopen, 0U);
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS, .remote = be(kWan)}).halfopen, 1U);
	EXPECT_TRUE(sessions().empty());
	establish();
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS, .wan = be(kWan)}).sessions, 1U);
	EXPECT_EQ(lan_in(kTell), PTRIG_NOT_TRIGGER);
}

TEST_F(HairpinLife, GoesOnWithTheOldHostAfterATakeover) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	granted({rule});
	establish();
	ASSERT_EQ(trigger(kB, Udp{.dport = 5060}), PTRIG_TAKEN_OVER);
	Packet out;
	EXPECT_EQ(lan_in(kAsk, &out), PTRIG_FORWARDED);
	EXPECT_EQ(l3(out), kWanToHost / kKnock / "ask");
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / Udp{.sport = 7001, .dport = 16384}, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = kHost2, .ttl = 63} / Udp{.sport = 7001, .dport = 16384}));
}

TEST_F(HairpinLife, WhatCannotBeSentOnIsDropped) {
	granted({media()});
	establish();
	Ip4 dying = kClientToWan;
	dying.ttl = 1;
	EXPECT_EQ(lan_in(kFromHost2 / dying / kKnock), PTRIG_FAILED);
	dying = kHostToWan;
	dying.ttl = 1;
	EXPECT_EQ(lan_in(kFromHost / dying / kReply), PTRIG_FAILED);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / kKnock / Fill{1473}), PTRIG_FAILED);
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / kReply / Fill{1473}), PTRIG_FAILED);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / kKnock / Fill{1472}), PTRIG_FORWARDED);
}

TEST_F(HairpinLife, ChecksumsBothWays) {
	granted({media()});
	establish();
	for (const Csum csum : {kRight, kZero, kWrong}) {
		Udp question = kKnock, answer = kReply;
		question.csum = answer.csum = csum;
		for (std::size_t n = 0; n < 40; n++) {
			Packet out;
			EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / question / Fill{n}, &out), PTRIG_FORWARDED);
			EXPECT_EQ(l3(out), kWanToHost / question / Fill{n});
			EXPECT_EQ(lan_in(kFromHost / kHostToWan / answer / Fill{n}, &out), PTRIG_FORWARDED);
			EXPECT_EQ(l3(out), kWanToClient / answer / Fill{n});
		}
	}
}

TEST_F(HairpinLife, IcmpErrorsFromEitherEnd) {
	Rule rule = media();
	rule.open = {open(udp(6000, 6010), 7000)};
	granted({rule});
	const Udp ask{.sport = 9, .dport = 6003}, asked{.sport = 9, .dport = 7003}, told{.sport = 7003, .dport = 9},
		tell{.sport = 6003, .dport = 9};
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / ask), PTRIG_OPENED);
	for (const bool established : {false, true}) {
		if (established) {
			ASSERT_EQ(lan_in(kFromHost / kHostToWan / told), PTRIG_ESTABLISHED);
		}
		Packet out;
		EXPECT_EQ(lan_in(kFromHost / kHostToWan / kPortClosed / (kWanToHost / asked / "x"), &out),
			  PTRIG_ICMP_FORWARDED);
		EXPECT_EQ(l3(out),
			  kWanToClient / kPortClosed / (Ip4{.src = kHost2, .dst = kWan, .ttl = 63} / ask / "x"))
			<< "the client's own packet, as it was but for the time to live";
		EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / kPortClosed / (kWanToClient / tell / "x"), &out),
			  PTRIG_ICMP_FORWARDED);
		EXPECT_EQ(l3(out), kWanToHost / kPortClosed / (Ip4{.src = kHost, .dst = kWan, .ttl = 63} / told / "x"));
	}
	EXPECT_EQ(session().lan.packets, 1U);
}

TEST_F(HairpinLife, IcmpErrorsThatAreNobodys) {
	granted({media()});
	establish();
	const Packet quoted = kWanToHost / kKnock / "x";
	EXPECT_EQ(lan_in(Eth{.src = kStrangerMac, .dst = kLanMac} / kHostToWan / kPortClosed / quoted), PTRIG_SPOOFED);
	Icmp wrong = kPortClosed;
	wrong.csum = kWrong;
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / wrong / quoted), PTRIG_ICMP);
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / kPortClosed / (kWanToHost / Udp{.sport = 1, .dport = 16384})),
		  PTRIG_ICMP);
	Ip4 dying = kHostToWan;
	dying.ttl = 1;
	EXPECT_EQ(lan_in(kFromHost / dying / kPortClosed / quoted), PTRIG_TTL_EXPIRED);
	age_session(minutes(5));
	EXPECT_EQ(lan_in(kFromHost / kHostToWan / kPortClosed / quoted), PTRIG_ICMP);
	EXPECT_EQ(lan_in(kFromHost2 / kClientToWan / kPortClosed / (kWanToClient / kReply)), PTRIG_ICMP);
}

TEST_F(HairpinLife, XdpLeavesItToTc) {
	interface("lan0", PTRIG_IFACE_LAN | PTRIG_IFACE_XDP);
	granted({media()});
	establish();
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(lan_in(kAsk), PTRIG_FORWARDED);
		EXPECT_EQ(lan_in(kTell), PTRIG_FORWARDED);
		look_due();
	}
	EXPECT_TRUE(fast_ways().empty());
	EXPECT_EQ(run(Hook::kXdpLan, "lan0", kAsk), PTRIG_TO_TC);
	EXPECT_EQ(run(Hook::kXdpLan, "lan0", kTell), PTRIG_TO_TC);
}

TEST_F(HairpinLife, FirstFragmentsOpenNothing) {
	granted({media()});
	Ip4 first = kClientToWan;
	first.df = false;
	first.mf = true;
	EXPECT_EQ(lan_in(kFromHost2 / first / kKnock / Fill{64}), PTRIG_NOT_TRIGGER);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(HairpinLife, WithoutEthernetHeader) {
	granted({media()});
	const Ip4 from_tunnel{.src = kTunHost, .dst = kWan};
	Packet out;
	EXPECT_EQ(run(Hook::kLanIn, "tunl", from_tunnel / kKnock / "payload", &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kWanToHost / kKnock / "payload") << "a header has been put in front";
	EXPECT_EQ(lan_in(kTell, &out), PTRIG_ESTABLISHED);
}

} // namespace
} // namespace ptrig::test
