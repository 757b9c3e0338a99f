// The half-open session: it ends with its lease, and packets from the WAN neither promote nor extend it; only
// the host's answer makes it an established one.
#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kKnocks = kFromRemote / kRemoteToWan / kKnock / "knock";

class HalfOpen : public DatapathTest {};

TEST_F(HalfOpen, MorePacketsFromTheWan) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	const Pair before = session();
	Packet out;
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / kKnock / "again", &out), PTRIG_HALF_OPEN);
	EXPECT_EQ(l3(out), kRemoteToHost / kKnock / "again");
	const Pair after = session();
	EXPECT_TRUE(after.halfopen) << "the remote cannot promote its own session";
	EXPECT_EQ(after.lan.seen_ns, before.lan.seen_ns) << "nor extend it";
	EXPECT_EQ(after.wan.packets, 2U);
}

TEST_F(HalfOpen, APacketWhileTheHostAnswersGoesToTheHost) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	const auto id = session().lan.id;
	edit_session([](Pair &pair) { pair.lan.id = 0; }); // another CPU has taken it, and is not done yet
	EXPECT_EQ(wan_in(kKnocks), PTRIG_HALF_OPEN) << "not to the gateway itself";
	EXPECT_EQ(run(Hook::kWanOut, "wan0", kToRemote / kWanToRemote / kReply, nullptr, "lan0"), PTRIG_NO_CANDIDATE)
		<< "nor is it answered twice";
	edit_session([&](Pair &pair) { pair.lan.id = id; });
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply), PTRIG_ESTABLISHED);
}

TEST_F(HalfOpen, EndsAfterItsTime) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	age_session(seconds(29));
	EXPECT_EQ(wan_in(kKnocks), PTRIG_HALF_OPEN);
	age_session(seconds(1));
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED) << "made anew while the lease lives";
	EXPECT_EQ(lease("media")->sessions, 1U);
	age_session(seconds(30));
	age_lease("media", minutes(10));
	EXPECT_EQ(wan_in(kKnocks), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(HalfOpen, EndsWithItsLease) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	age_lease("media", minutes(10));
	EXPECT_EQ(wan_in(kKnocks), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(HalfOpen, TheHostsAnswerComesTooLate) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	age_lease("media", minutes(10));
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(HalfOpen, EndsAtATakeover) {
	Rule rule = media();
	rule.conflict = Conflict::kTakeover;
	granted({rule});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	ASSERT_EQ(trigger(kB, kInvite), PTRIG_TAKEN_OVER);
	Packet out;
	EXPECT_EQ(wan_in(kKnocks, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kHost2, .ttl = 63} / kKnock / "knock")) << "to the new holder";
}

TEST_F(HalfOpen, EndsWhenTheHostMoves) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	knows(kStranger, kHostMac);
	ASSERT_EQ(trigger({kStranger, kHostMac}, kInvite), PTRIG_MOVED);
	Packet out;
	EXPECT_EQ(wan_in(kKnocks, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kStranger, .ttl = 63} / kKnock / "knock"));
}

TEST_F(HalfOpen, EndsWithItsWanAddress) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	wan_address("wan0", kWan, false);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply), PTRIG_SESSION_ENDED);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(HalfOpen, EndsWhenTheRuleIsGone) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	Rule other = media();
	other.name = "other";
	apply({other}, 1);
	EXPECT_EQ(wan_in(kKnocks), PTRIG_SESSION_ENDED);
}

TEST_F(HalfOpen, AnsweredIsEstablished) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	age_session(seconds(20));
	const std::uint64_t before = now_ns();
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply / "yes", &out), PTRIG_ESTABLISHED);
	EXPECT_EQ(l3(out), kWanToRemote / kReply / "yes");
	const Pair pair = session();
	EXPECT_FALSE(pair.halfopen);
	EXPECT_EQ(pair.lan.state, PTRIG_SESSION_ESTABLISHED);
	EXPECT_GE(pair.lan.seen_ns, before);
	EXPECT_EQ(pair.wan.packets, 1U);
	EXPECT_EQ(pair.lan.packets, 1U);
	EXPECT_EQ(pair.lan.bytes, 31U);
	EXPECT_EQ(lease("media")->sessions, 1U);
}

TEST_F(HalfOpen, OnlyTheHostAnswers) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply), PTRIG_CANDIDATE);
	EXPECT_TRUE(session().halfopen);
}

TEST_F(HalfOpen, NobodyElseAnswersInTheHostsName) {
	granted({media()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	EXPECT_EQ(lan_in(Eth{.src = kStrangerMac, .dst = kLanMac} / kHostToRemote / kReply), PTRIG_SPOOFED);
	EXPECT_EQ(run(Hook::kLanIn, "lan1", Eth{.src = kHostMac, .dst = kLan1Mac} / kHostToRemote / kReply),
		  PTRIG_SPOOFED);
	EXPECT_TRUE(session().halfopen);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kReply), PTRIG_ESTABLISHED);
}

TEST_F(HalfOpen, ClosedPort) {
	granted({ident()});
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.sport = 7000}), PTRIG_OPENED);
	const Tcp rst{.sport = 113, .dport = 7000, .flags = kRst | kAck};
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / rst, &out), PTRIG_HALF_OPEN);
	EXPECT_EQ(l3(out), kWanToRemote / rst) << "the remote is told";
	EXPECT_TRUE(sessions().empty());
}

} // namespace
} // namespace ptrig::test
