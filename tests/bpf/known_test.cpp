// A host's own flow from or to a port of a rule's: once it has been looked at, its packets are passed on for a quarter
// of a second. Nothing else is.
#include <arpa/inet.h>
#include <bpf/bpf.h>

#include "loader/program.h"
#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

namespace ptrig::test {
namespace {

const Packet kOut = kFromHost / kHostToRemote / kReply / "out", kIn = kFromRemote / kRemoteToWan / kKnock / "in";

class Known : public DatapathTest {
protected:
	/// What is known was found out that much longer ago.
	void age(std::uint32_t milliseconds) const {
		const auto known = dp().memory<std::uint64_t>("pt_known");
		const auto ticks = static_cast<std::uint32_t>(tick_hz().value() * milliseconds / 1000);
		for (std::uint32_t i = 0; i < PTRIG_KNOWN; i++)
			if (known[i])
				known[i] = known[i] >> 32 << 32 | (static_cast<std::uint32_t>(known[i]) - ticks);
	}
	/// The host has begun the flow, and each side has sent.
	void begun() {
		granted({media()});
		ASSERT_EQ(lan_in(kOut), PTRIG_OWN_PORT);
		ASSERT_EQ(wan_in(kIn), PTRIG_FLOW_KNOWN);
	}
};

TEST_F(Known, FromTheWanUntilAQuarterOfASecondIsOver) {
	begun();
	forget_flows();
	EXPECT_EQ(wan_in(kIn), PTRIG_FLOW_KNOWN) << "conntrack was not asked";
	age(200);
	EXPECT_EQ(wan_in(kIn), PTRIG_FLOW_KNOWN) << "which made it no younger";
	age(60);
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
}

TEST_F(Known, FromTheLanUntilAQuarterOfASecondIsOver) {
	begun();
	ASSERT_EQ(run(Hook::kLanIn, "lan0", kOut), PTRIG_OWN_PORT);
	for (const auto &[key, note] : dp().entries<ptrig_flow_key, ptrig_note>("pt_notes"))
		ASSERT_EQ(bpf_map_delete_elem(dp().map_fd("pt_notes"), &key), 0);
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kOut), PTRIG_OWN_PORT) << "its note was not asked for";
	age(260);
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kOut), PTRIG_CANDIDATE);
}

TEST_F(Known, NobodyElsesPackets) {
	begun();
	ASSERT_EQ(run(Hook::kLanIn, "lan0", kOut), PTRIG_OWN_PORT);
	EXPECT_EQ(run(Hook::kLanIn, "lan0", Eth{.src = kStrangerMac, .dst = kLanMac} / kHostToRemote / kReply / "out"),
		  PTRIG_SPOOFED)
		<< "another machine in the host's name";
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kFromHost / kHostToRemote / Udp{.sport = 16385, .dport = 7000} / "out"),
		  PTRIG_CANDIDATE)
		<< "another port of the host's";
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384} / "in"), PTRIG_OPENED)
		<< "another port of the remote's";
}

TEST_F(Known, NoTrigger) {
	begun();
	ASSERT_EQ(run(Hook::kLanIn, "lan0", kOut), PTRIG_OWN_PORT);
	Rule other = ident();
	other.trigger = {udp(7000)};
	apply({media(), other}, 1);
	EXPECT_EQ(lan_in(kOut), PTRIG_GRANTED) << "a rule is new, and its trigger port that of the flow";
}

TEST_F(Known, NothingThatBeginsOrEnds) {
	granted({ident()});
	const auto out = [](std::uint8_t flags) {
		return kFromHost / kHostToRemote / Tcp{.sport = 113, .dport = 9, .flags = flags};
	};
	const auto in = [](std::uint8_t flags) {
		return kFromRemote / kRemoteToWan / Tcp{.sport = 9, .dport = 113, .flags = flags};
	};
	ASSERT_EQ(lan_in(out(kSyn)), PTRIG_OWN_PORT);
	ASSERT_EQ(wan_in(in(kSyn | kAck)), PTRIG_NOT_SYN);
	ASSERT_EQ(lan_in(out(kAck)), PTRIG_OWN_PORT);
	ASSERT_EQ(wan_in(in(kAck)), PTRIG_NOT_SYN);
	ASSERT_EQ(run(Hook::kLanIn, "lan0", out(kAck)), PTRIG_OWN_PORT);
	for (const std::uint8_t flags : {kSyn, kFin, kRst})
		EXPECT_EQ(run(Hook::kLanIn, "lan0", out(flags)), PTRIG_CANDIDATE) << unsigned{flags};
	forget_flows();
	EXPECT_EQ(wan_in(in(kAck)), PTRIG_NOT_SYN);
	EXPECT_EQ(wan_in(in(kSyn)), PTRIG_OPENED) << "the remote begins anew";
	EXPECT_EQ(wan_in(in(kAck)), PTRIG_HALF_OPEN) << "a session's packet is its own";
}

TEST_F(Known, NoForwardOfTheAdministrators) {
	granted({media()});
	const Tuple t = *tuple_of(kIn.bytes(), 14);
	ASSERT_TRUE(make_entry({.proto = t.proto, .tuple = t.tuple, .to = be(kHost2), .to_port = htons(9)}).found);
	ASSERT_EQ(wan_in(kIn), PTRIG_FLOW_KNOWN);
	forget_flows();
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED) << "asked each time: it may have been one of ours that was just beginning";
}

} // namespace
} // namespace ptrig::test
