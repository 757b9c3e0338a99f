// First fragments: which of them leave conntrack an entry with the session's translation, and what it is like. All go
// on untouched; that the kernel then does its part is seen in tests/lab/story_fragment.cpp.
#include <sstream>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Ip4 kFirstIn{.src = kRemote, .dst = kWan, .df = false, .mf = true},
	kFirstOut{.src = kHost, .dst = kRemote, .df = false, .mf = true};

/// WAN 6000-6010 lead to 7000-7010 on the host, udp and tcp, sessions with the remote's port 4000.
class Fragment : public DatapathTest {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		granted({rule()});
		forget_flows();
	}
	void TearDown() override {
		DatapathTest::TearDown();
		if (in_world())
			forget_flows();
	}
	static Rule rule() {
		Rule rule = media();
		rule.open = {open(udp(6000, 6010), 7000), open(tcp(6000, 6010), 7000)};
		return rule;
	}
	static Packet udp_first(std::uint16_t sport, std::uint16_t dport) {
		return Udp{.sport = sport, .dport = dport, .length = 4008} / Fill{1472};
	}
	enum ptrig_reason first_in(std::uint16_t sport = 4000) {
		return wan_in(kFromRemote / kFirstIn / udp_first(sport, 6000));
	}
	enum ptrig_reason first_out() { return lan_in(kFromHost / kFirstOut / udp_first(7000, 4000)); }
	enum ptrig_reason whole_in() {
		return wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 4000, .dport = 6000} / "x");
	}
	enum ptrig_reason whole_out() {
		return lan_in(kFromHost / kHostToRemote / Udp{.sport = 7000, .dport = 4000} / "x");
	}
	void establish() {
		ASSERT_EQ(whole_in(), PTRIG_OPENED);
		ASSERT_EQ(whole_out(), PTRIG_ESTABLISHED);
	}
	/// A direction of a flow as /proc/net/nf_conntrack has it.
	static std::string tuple(const std::string &src, const std::string &dst, std::uint16_t sport,
				 std::uint16_t dport) {
		return "src=" + src + " dst=" + dst + " sport=" + std::to_string(sport) +
		       " dport=" + std::to_string(dport);
	}
	/// What conntrack knows of the remote's port and the WAN's, a line each.
	static std::vector<std::string> entries(std::uint16_t sport = 4000) {
		const std::string wanted = tuple(kRemote, kWan, sport, 6000) + " ";
		std::vector<std::string> found;
		std::istringstream all(flows());
		for (std::string line; std::getline(all, line);)
			if (line.find(wanted) != std::string::npos)
				found.push_back(line);
		return found;
	}
	/// One entry, with the translation to the host, as a firewall lets it pass, for some seconds.
	static void translated(const std::string &proto = "udp", std::uint16_t sport = 4000,
			       std::uint16_t host_port = 7000) {
		const auto all = entries(sport);
		ASSERT_EQ(all.size(), 1U) << flows();
		EXPECT_NE(all[0].find(tuple(kRemote, kWan, sport, 6000) + " " +
				      tuple(kHost, kRemote, host_port, sport) + " [ASSURED]"),
			  std::string::npos)
			<< all[0];
		std::istringstream words(all[0]);
		std::string family, family_number, name, number;
		int seconds_left = 0;
		words >> family >> family_number >> name >> number >> seconds_left;
		EXPECT_EQ(name, proto);
		EXPECT_GE(seconds_left, 3);
		EXPECT_LE(seconds_left, 5);
	}
};

TEST_F(Fragment, OfASessionBothWays) {
	establish();
	EXPECT_NE(entries().at(0).find("[UNREPLIED]"), std::string::npos) << "what keeps the tuple from masquerade";
	EXPECT_EQ(first_in(), PTRIG_FRAGMENT_PASSED);
	translated();
	forget_flows();
	EXPECT_EQ(first_out(), PTRIG_FRAGMENT_PASSED);
	translated();
	EXPECT_EQ(first_in(), PTRIG_FRAGMENT_PASSED) << "there already";
	EXPECT_EQ(first_out(), PTRIG_FRAGMENT_PASSED);
	translated();
	EXPECT_EQ(session().wan.packets, 3U);
	EXPECT_EQ(session().lan.packets, 3U);
}

TEST_F(Fragment, OpensASessionThatTheAnswerEstablishes) {
	EXPECT_EQ(first_in(), PTRIG_FRAGMENT_PASSED);
	translated();
	EXPECT_TRUE(session().halfopen);
	EXPECT_EQ(lease("media")->sessions, 1U);
	EXPECT_EQ(first_in(), PTRIG_FRAGMENT_PASSED);
	EXPECT_TRUE(session().halfopen);
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 7000, .dport = 4000} / "yes?", &out),
		  PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), (kWanToRemote / Udp{.sport = 6000, .dport = 4000} / "yes?"));
	translated();
}

TEST_F(Fragment, OfTheHostsIsAnAnswerToo) {
	ASSERT_EQ(whole_in(), PTRIG_OPENED);
	EXPECT_EQ(first_out(), PTRIG_FRAGMENT_PASSED);
	EXPECT_FALSE(session().halfopen);
	translated();
	EXPECT_EQ(whole_in(), PTRIG_FORWARDED);
}

TEST_F(Fragment, WithoutASessionOrLease) {
	age_lease("media", minutes(11));
	EXPECT_EQ(first_in(), PTRIG_NO_LEASE);
	EXPECT_EQ(wan_in(kFromRemote / kFirstIn / udp_first(4000, 5999)), PTRIG_NOT_OPEN);
	EXPECT_EQ(first_out(), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(entries().size(), 0U) << flows();
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Fragment, IsHeldToTheLimits) {
	Rule limited = rule();
	limited.session_limit = 1;
	apply({limited}, 1);
	EXPECT_EQ(first_in(4001), PTRIG_FRAGMENT_PASSED);
	EXPECT_EQ(first_in(), PTRIG_SESSION_LIMIT);
	Rule refused = rule();
	refused.remotes.prefixes = {prefix(kFar)};
	refused.remotes.kind = Remotes::Kind::kSet;
	apply({refused}, 0);
	EXPECT_EQ(first_in(), PTRIG_REMOTE_DENIED);
	EXPECT_EQ(entries().size(), 0U) << flows();
}

TEST_F(Fragment, FromAnOpenPortOpensNothing) {
	EXPECT_EQ(first_out(), PTRIG_NOT_TRIGGER);
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(whole_out(), PTRIG_OPENED) << "which a whole packet does";
}

TEST_F(Fragment, OfASessionThatHasEnded) {
	establish();
	age_lease("media", minutes(11));
	age_session(minutes(6));
	forget_flows();
	EXPECT_EQ(first_in(), PTRIG_SESSION_ENDED);
	EXPECT_EQ(entries().size(), 0U) << flows();
}

TEST_F(Fragment, InTheHostsName) {
	establish();
	forget_flows();
	EXPECT_EQ(lan_in(kFromHost2 / kFirstOut / udp_first(7000, 4000)), PTRIG_SPOOFED);
	EXPECT_EQ(entries().size(), 0U) << flows();
}

TEST_F(Fragment, OfTcp) {
	const Tcp syn{.sport = 4000, .dport = 6000}, answer{.sport = 7000, .dport = 4000, .flags = kSyn | kAck};
	Tcp data = syn;
	data.flags = kAck;
	EXPECT_EQ(wan_in(kFromRemote / kFirstIn / syn / Fill{40}), PTRIG_NOT_SYN) << "a SYN is never fragmented";
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / syn), PTRIG_OPENED);
	ASSERT_EQ(lan_in(kFromHost / kHostToRemote / answer), PTRIG_ESTABLISHED);
	EXPECT_EQ(wan_in(kFromRemote / kFirstIn / data / Fill{40}), PTRIG_FRAGMENT_PASSED);
	translated("tcp");
}

TEST_F(Fragment, WithoutItsWholeHeader) {
	establish();
	Tcp cut{.sport = 4000, .dport = 6000, .flags = kAck};
	cut.offset = 6;
	EXPECT_EQ(wan_in(kFromRemote / kFirstIn / cut), PTRIG_MALFORMED);
	cut.dport = 6667;
	EXPECT_EQ(lan_in(kFromHost / kFirstOut / cut), PTRIG_MALFORMED) << "and is no trigger";
	Ip4 tiny = kFirstIn;
	tiny.proto = 17;
	EXPECT_EQ(wan_in(kFromRemote / tiny / Bytes{0x0f, 0xa0, 0x17, 0x70}), PTRIG_MALFORMED);
	EXPECT_EQ(session().wan.packets, 1U);
}

TEST_F(Fragment, AnEarlierProbesEntryIsReplaced) {
	const Fd remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 4000);
	send_to(remote, kWan, 6000, "anybody there?");
	ASSERT_EQ(entries().size(), 1U) << flows();
	EXPECT_EQ(first_in(), PTRIG_FRAGMENT_PASSED);
	translated();
}

TEST_F(Fragment, AnothersFlowIsLeftAlone) {
	ASSERT_EQ(whole_in(), PTRIG_OPENED);
	const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, 6000),
		 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 4000);
	send_to(host, kRemote, 4000, "hello");
	ASSERT_EQ(receive(remote), kWan + ":6000") << "a half-open session's tuple is not kept from masquerade";
	const std::string before = flows();
	EXPECT_EQ(first_in(), PTRIG_FLOW_KNOWN);
	EXPECT_EQ(flows().find("dport=6000 src=" + kHost), std::string::npos) << flows();
	EXPECT_NE(flows().find("dst=" + kWan + " sport=4000 dport=6000"), std::string::npos) << before;
}

TEST_F(Fragment, WhatMasqueradeHasMadeOfTheHostsIsReplaced) {
	// By the same port as the session's and by another.
	for (const std::uint16_t port : {6000, 7000}) {
		Rule mine = rule();
		mine.open = {open(udp(6000), port)};
		granted({mine});
		forget_flows();
		ASSERT_EQ(whole_in(), PTRIG_OPENED);
		{
			const Fd host = socket_at(Ns::kLan, SOCK_DGRAM, kHost, port),
				 remote = socket_at(Ns::kWan, SOCK_DGRAM, kRemote, 4000);
			send_to(host, kRemote, 4000, "fragments, when there was no entry");
			ASSERT_EQ(receive(remote), kWan + ":" + std::to_string(port));
		}
		EXPECT_EQ(first_in(), PTRIG_FRAGMENT_PASSED);
		translated("udp", 4000, port);
		EXPECT_EQ(flows().find(tuple(kHost, kRemote, port, 4000) + " src="), std::string::npos) << flows();
		EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).halfopen, 1U);
	}
}

TEST_F(Fragment, TheEntryIsNoOtherFlow) {
	establish();
	ASSERT_EQ(first_in(), PTRIG_FRAGMENT_PASSED);
	EXPECT_EQ(whole_in(), PTRIG_FORWARDED);
	look_due();
	EXPECT_EQ(whole_out(), PTRIG_FORWARDED);
	translated();
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).sessions, 1U);
	EXPECT_EQ(whole_in(), PTRIG_OPENED) << "by the same lease, to the same host";
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS}).halfopen, 1U);
	EXPECT_EQ(whole_out(), PTRIG_OPENED);
	translated();
}

TEST_F(Fragment, TheEntryOfAnotherHostIs) {
	Rule yielding = rule();
	yielding.conflict = Conflict::kTakeover;
	apply({yielding}, 1);
	ASSERT_EQ(first_in(), PTRIG_FRAGMENT_PASSED);
	ASSERT_EQ(trigger(kB, Udp{.sport = 5060, .dport = 5060} / "mine"), PTRIG_TAKEN_OVER);
	EXPECT_EQ(whole_in(), PTRIG_FLOW_KNOWN) << "until it ends";
	forget_flows();
	EXPECT_EQ(whole_in(), PTRIG_OPENED);
}

TEST_F(Fragment, IsNotSentByAnotherWan) {
	establish();
	forget_flows();
	ip_batch(Ns::kGateway, "route add 203.0.113.10/32 dev wan1\n");
	EXPECT_EQ(first_out(), PTRIG_NO_ROUTE) << "the kernel would";
	EXPECT_EQ(entries().size(), 0U) << flows();
	ip_batch(Ns::kGateway, "route del 203.0.113.10/32 dev wan1\n");
	EXPECT_EQ(first_out(), PTRIG_FRAGMENT_PASSED);
}

TEST_F(Fragment, WithoutEthernetHeaders) {
	apply({media()});
	const Way way{.lan = "tunl", .wan = "tunw", .wan_address = kTunWan};
	ASSERT_EQ(trigger({kTunHost, ""}, Udp{.dport = 5060} / "trigger", kTunRemote, way), PTRIG_GRANTED);
	Ip4 in = kFirstIn, out = kFirstOut;
	in.src = out.dst = kTunRemote;
	in.dst = kTunWan;
	out.src = kTunHost;
	EXPECT_EQ(run(Hook::kWanIn, "tunw", in / udp_first(7000, 16384)), PTRIG_FRAGMENT_PASSED);
	EXPECT_EQ(run(Hook::kLanIn, "tunl", out / udp_first(16384, 7000)), PTRIG_FRAGMENT_PASSED);
	EXPECT_NE(flows().find("sport=7000 dport=16384 src=" + kTunHost), std::string::npos) << flows();
}

} // namespace
} // namespace ptrig::test
