// ICMP errors that quote a session's packet: outer and inner, both directions, and the gateway's own; what they must
// leave alone; and that no error changes anything but itself.
#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Icmp kPortClosed{.type = 3, .code = 3}, kHostUnreachable{.type = 3, .code = 1},
	kFragmentationNeeded{.type = 3, .code = 4, .rest = 1280}, kTtlUsedUp{.type = 11},
	kBadParameter{.type = 12, .rest = 0x14000000};
constexpr std::size_t kAll = 10000;

/// The beginning of a packet, as an error quotes it: the IP header and `keep` bytes.
Packet quote(const Ip4 &ip, const Packet &l4, std::size_t keep = kAll) {
	return (ip / l4).cut(20 + (ip.options.size() + 3) / 4 * 4 + keep);
}

/// WAN 6000-6010 lead to 7000-7010 on the host, udp and tcp, sessions with the remote's port 4000.
class IcmpError : public DatapathTest {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		Rule rule = media();
		rule.open = {open(udp(6000, 6010), 7000), open(tcp(6000, 6010), 7000)};
		granted({rule});
	}
	static Packet to_remote(bool tcp, std::uint16_t sport, Csum csum = kRight) {
		return tcp ? Packet(Tcp{.sport = sport, .dport = 4000, .flags = kSyn | kAck, .csum = csum})
			   : Packet(Udp{.sport = sport, .dport = 4000, .csum = csum});
	}
	static Packet from_remote(bool tcp, std::uint16_t dport, Csum csum = kRight) {
		return tcp ? Packet(Tcp{.sport = 4000, .dport = dport, .csum = csum})
			   : Packet(Udp{.sport = 4000, .dport = dport, .csum = csum});
	}
	void half_open(bool tcp) {
		ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / from_remote(tcp, 6000)), PTRIG_OPENED);
	}
	void establish(bool tcp) {
		half_open(tcp);
		ASSERT_EQ(lan_in(kFromHost / kHostToRemote / to_remote(tcp, 7000)), PTRIG_ESTABLISHED);
	}
	/// A router on the way, about what the host has sent; it is translated like that.
	void inward(const Icmp &icmp, const Packet &before, const Packet &after) {
		Packet out;
		EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kFar, .dst = kWan} / icmp / before, &out),
			  PTRIG_ICMP_FORWARDED);
		EXPECT_EQ(l3(out), (Ip4{.src = kFar, .dst = kHost, .ttl = 63} / icmp / after));
	}
	/// The host, about what it has got.
	void outward(const Icmp &icmp, const Packet &before, const Packet &after) {
		Packet out;
		EXPECT_EQ(lan_in(kFromHost / kHostToRemote / icmp / before, &out), PTRIG_ICMP_FORWARDED);
		EXPECT_EQ(l3(out), kWanToRemote / icmp / after);
	}
	/// Both, of a packet with this payload and these checksums, of which so much is quoted.
	void both_ways(bool tcp, const Icmp &icmp, const Packet &payload, std::size_t keep = kAll, Csum csum = kRight) {
		const Ip4 quoted_in{.src = kWan, .dst = kRemote, .ttl = 50},
			real_in{.src = kHost, .dst = kRemote, .ttl = 50};
		inward(icmp, quote(quoted_in, to_remote(tcp, 6000, csum) / payload, keep),
		       quote(real_in, to_remote(tcp, 7000, csum) / payload, keep));
		outward(icmp, quote(kRemoteToHost, from_remote(tcp, 7000, csum) / payload, keep),
			quote({.src = kRemote, .dst = kWan, .ttl = 63}, from_remote(tcp, 6000, csum) / payload, keep));
	}
	/// Passed on as it is, and for that reason.
	void wan_passes(const Packet &ip, enum ptrig_reason reason = PTRIG_ICMP) {
		EXPECT_EQ(wan_in(kFromRemote / ip), reason);
	}
	void lan_passes(const Packet &ip, enum ptrig_reason reason = PTRIG_ICMP) {
		EXPECT_EQ(lan_in(kFromHost / ip), reason);
	}
	static const Packet kIn, kOut; ///< good errors of either direction about the UDP session
};
const Packet IcmpError::kIn = Ip4{.src = kFar, .dst = kWan} / kPortClosed /
			      (Ip4{.src = kWan, .dst = kRemote} / Udp{.sport = 6000, .dport = 4000} / "payload");
const Packet IcmpError::kOut =
	kHostToRemote / kPortClosed / (kRemoteToHost / Udp{.sport = 4000, .dport = 7000} / "payload");

TEST_F(IcmpError, EveryKindBothWays) {
	for (const bool tcp : {false, true}) {
		establish(tcp);
		for (const Icmp &icmp :
		     {kPortClosed, kHostUnreachable, kFragmentationNeeded, kTtlUsedUp, kBadParameter})
			both_ways(tcp, icmp, Fill{100});
	}
}

TEST_F(IcmpError, OfAHalfOpenSession) {
	for (const bool tcp : {false, true}) {
		half_open(tcp);
		both_ways(tcp, kPortClosed, Fill{20});
	}
	for (const Pair &pair : sessions())
		EXPECT_TRUE(pair.halfopen);
}

TEST_F(IcmpError, QuotesOfEveryLength) {
	for (const bool tcp : {false, true}) {
		establish(tcp);
		for (std::size_t keep = 8; keep <= 150; keep++) {
			if (tcp && keep == 17)
				continue; // half a checksum cannot be right or wrong
			both_ways(tcp, kTtlUsedUp, Fill{120}, keep);
		}
		for (const std::size_t n : {500, 1399})
			both_ways(tcp, kTtlUsedUp, Fill{n});
	}
}

TEST_F(IcmpError, TheQuotedChecksumIsNobodysBusiness) {
	for (const bool tcp : {false, true}) {
		establish(tcp);
		both_ways(tcp, kPortClosed, Fill{33}, kAll, kWrong);
	}
	both_ways(false, kPortClosed, Fill{33}, kAll, kZero);
}

TEST_F(IcmpError, AQuotedUdpChecksumIsNeverMadeZero) {
	establish(false);
	for (unsigned i = 0; i <= 0xffff; i++) {
		const Packet payload = Bytes{static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)};
		const Bytes after =
			(Ip4{.src = kHost, .dst = kRemote, .ttl = 50} / to_remote(false, 7000) / payload).bytes();
		if (after[26] == 0xff && after[27] == 0xff)
			return both_ways(false, kPortClosed, payload);
	}
	FAIL() << "some payload must have that checksum";
}

TEST_F(IcmpError, OptionsInEitherHeader) {
	establish(false);
	for (const std::size_t n : {4, 20, 40}) {
		const Bytes options(n, 1);
		const Packet l4 = to_remote(false, 6000) / Fill{30}, host_l4 = to_remote(false, 7000) / Fill{30};
		for (const std::size_t keep : {std::size_t{8}, kAll})
			inward(kTtlUsedUp, quote({.src = kWan, .dst = kRemote, .options = options}, l4, keep),
			       quote({.src = kHost, .dst = kRemote, .options = options}, host_l4, keep));
		Packet out;
		EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kFar, .dst = kWan, .options = options} / kTtlUsedUp /
					 (kWanToRemote / l4),
				 &out),
			  PTRIG_ICMP_FORWARDED);
		EXPECT_EQ(l3(out), (Ip4{.src = kFar, .dst = kHost, .ttl = 63, .options = options} / kTtlUsedUp /
				    (Ip4{.src = kHost, .dst = kRemote, .ttl = 63} / host_l4)));
	}
}

TEST_F(IcmpError, ExtensionsTravelAlong) {
	establish(false);
	// RFC 4884: 32 words of quote, zero-padded; then version 2, its checksum and an MPLS label stack object.
	const Icmp icmp{.type = 11, .rest = 32 << 16};
	const Bytes extension{0x20, 0, 0x8e, 0x3c, 0, 8, 1, 1, 0, 0x64, 0x01, 0x01};
	const auto padded = [&](const Packet &whole) {
		Bytes bytes = whole.bytes();
		bytes.resize(128);
		return Packet(bytes) / Packet(extension);
	};
	inward(icmp, padded({Ip4{.src = kWan, .dst = kRemote} / to_remote(false, 6000) / "short"}),
	       padded({Ip4{.src = kHost, .dst = kRemote} / to_remote(false, 7000) / "short"}));
	outward(icmp, padded({kRemoteToHost / from_remote(false, 7000) / "short"}),
		padded({Ip4{.src = kRemote, .dst = kWan, .ttl = 63} / from_remote(false, 6000) / "short"}));
}

TEST_F(IcmpError, QuotedFragments) {
	establish(false);
	Ip4 before{.src = kWan, .dst = kRemote, .df = false, .mf = true}, after = before;
	after.src = kHost;
	inward(kTtlUsedUp, quote(before, to_remote(false, 6000) / Fill{40}),
	       quote(after, to_remote(false, 7000) / Fill{40}));
	before.offset = 8;
	wan_passes(Ip4{.src = kFar, .dst = kWan} / kTtlUsedUp / (before / to_remote(false, 6000) / Fill{40}));
}

TEST_F(IcmpError, ChangesNothing) {
	establish(false);
	const Pair before = session();
	const ptrig_lease held = *lease("media");
	age_lease("media", minutes(1));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(wan_in(kFromRemote / kIn), PTRIG_ICMP_FORWARDED);
		EXPECT_EQ(lan_in(kFromHost / kOut), PTRIG_ICMP_FORWARDED);
	}
	const Pair after = session();
	EXPECT_EQ(after.lan.seen_ns, before.lan.seen_ns);
	EXPECT_EQ(after.lan.packets, before.lan.packets);
	EXPECT_EQ(after.wan.packets, before.wan.packets);
	EXPECT_EQ(after.lan.state, before.lan.state);
	EXPECT_EQ(lease("media")->info.refreshed_ns + 60'000'000'000U, held.info.refreshed_ns);
	EXPECT_EQ(lease("media")->sessions, held.sessions);
}

TEST_F(IcmpError, OfNoSession) {
	wan_passes(kIn);
	lan_passes(kOut);
	EXPECT_TRUE(sessions().empty()) << "an error opens nothing, lease or not";
	establish(false);
	wan_passes(Ip4{.src = kFar, .dst = kWan} / kPortClosed / (kWanToRemote / to_remote(false, 6001)));
	wan_passes(Ip4{.src = kFar, .dst = kWan} / kPortClosed / (kWanToRemote / to_remote(true, 6000)));
	wan_passes(Ip4{.src = kFar, .dst = kWan} / kPortClosed /
		   (Ip4{.src = kWan, .dst = kRemote2} / to_remote(false, 6000)));
	wan_passes(Ip4{.src = kFar, .dst = kWanSecond} / kPortClosed / (kWanToRemote / to_remote(false, 6000)));
	lan_passes(kHostToRemote / kPortClosed / (kRemoteToHost / from_remote(false, 6000)));
	lan_passes(Ip4{.src = kHost, .dst = kRemote2} / kPortClosed / (kRemoteToHost / from_remote(false, 7000)));
}

TEST_F(IcmpError, OnTheWrongSide) {
	establish(false);
	wan_passes(Ip4{.src = kHost, .dst = kRemote} / kPortClosed / (kRemoteToHost / from_remote(false, 7000)));
	lan_passes(Ip4{.src = kFar, .dst = kWan} / kPortClosed / (kWanToRemote / to_remote(false, 6000)));
	// What the host itself had sent, quoted to it, and the remote's packet as it came to the WAN.
	wan_passes(Ip4{.src = kFar, .dst = kHost} / kPortClosed / (kHostToRemote / to_remote(false, 7000)));
	wan_passes(Ip4{.src = kFar, .dst = kRemote} / kPortClosed / (kRemoteToWan / from_remote(false, 6000)));
}

TEST_F(IcmpError, OtherTypesAreLeftAlone) {
	establish(false);
	for (const int type : {0, 4, 5, 8, 9, 10, 13, 14, 17, 18, 40})
		wan_passes(Ip4{.src = kFar, .dst = kWan} / Icmp{.type = static_cast<std::uint8_t>(type)} /
			   (kWanToRemote / to_remote(false, 6000)));
}

TEST_F(IcmpError, WithWrongChecksums) {
	establish(false);
	for (const Csum wrong : {kWrong, kZero}) {
		Icmp icmp = kPortClosed;
		icmp.csum = wrong;
		wan_passes(Ip4{.src = kFar, .dst = kWan} / icmp / (kWanToRemote / to_remote(false, 6000)));
		lan_passes(kHostToRemote / icmp / (kRemoteToHost / from_remote(false, 7000)));
		Ip4 quoted{.src = kWan, .dst = kRemote, .csum = wrong};
		wan_passes(Ip4{.src = kFar, .dst = kWan} / kPortClosed / (quoted / to_remote(false, 6000)));
	}
}

TEST_F(IcmpError, Malformed) {
	establish(false);
	const Ip4 outer{.src = kFar, .dst = kWan};
	const Packet l4 = to_remote(false, 6000) / Fill{40};
	for (std::size_t keep = 0; keep < 8; keep++)
		wan_passes(outer / kPortClosed / quote(kWanToRemote, l4, keep));
	wan_passes(outer / kPortClosed / (kWanToRemote / l4).cut(10));
	wan_passes(outer / kPortClosed / Fill{0});
	wan_passes(outer / kPortClosed / Fill{100});
	wan_passes(outer / kPortClosed / (Ip4{.src = kWan, .dst = kRemote, .ihl = 4} / l4));
	wan_passes(outer / kPortClosed / (Ip4{.src = kWan, .dst = kRemote, .ihl = 15} / to_remote(false, 6000)));
	wan_passes(outer / kPortClosed / (Ip4{.src = kWan, .dst = kRemote, .version = 6} / l4));
	wan_passes(outer / kPortClosed / (Ip4{.src = kWan, .dst = kRemote, .proto = 1} / l4));
	wan_passes(Ip4{.src = kFar, .dst = kWan, .mf = true} / kPortClosed / (kWanToRemote / l4));
	wan_passes(Ip4{.src = kFar, .dst = kWan, .offset = 8} / kPortClosed / (kWanToRemote / l4));
}

TEST_F(IcmpError, WithItsOwnTimeToLiveUsedUp) {
	establish(false);
	for (const std::uint8_t ttl : {0, 1}) {
		wan_passes(Ip4{.src = kFar, .dst = kWan, .ttl = ttl} / kTtlUsedUp /
				   (kWanToRemote / to_remote(false, 6000)),
			   PTRIG_TTL_EXPIRED);
		lan_passes(Ip4{.src = kHost, .dst = kRemote, .ttl = ttl} / kTtlUsedUp /
				   (kRemoteToHost / from_remote(false, 7000)),
			   PTRIG_TTL_EXPIRED);
	}
}

TEST_F(IcmpError, InAnotherMachinesName) {
	establish(false);
	EXPECT_EQ(lan_in(Eth{.src = kStrangerMac, .dst = kLanMac} / kOut), PTRIG_SPOOFED);
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kPortClosed /
			 (kRemoteToHost / from_remote(false, 7000))),
		  PTRIG_SPOOFED);
}

TEST_F(IcmpError, OfARoutedHostComesFromItsRouterToo) {
	Rule rule = media();
	rule.name = "routed";
	rule.sources.kind = Sources::Kind::kRouted;
	apply({rule});
	const Machine routed{kRouted, kSwitchMac};
	ASSERT_EQ(trigger(routed, Udp{.dport = 5060}), PTRIG_GRANTED);
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / kKnock), PTRIG_OPENED);
	const Packet quoted = Ip4{.src = kRemote, .dst = kRouted, .ttl = 62} / kKnock;
	Packet out;
	EXPECT_EQ(lan_in(kFromSwitch / Ip4{.src = kSwitch, .dst = kRemote} / kHostUnreachable / quoted, &out),
		  PTRIG_ICMP_FORWARDED);
	EXPECT_EQ(l3(out), kWanToRemote / kHostUnreachable / (Ip4{.src = kRemote, .dst = kWan, .ttl = 62} / kKnock));
}

TEST_F(IcmpError, OfASessionThatIsOver) {
	establish(false);
	age_session(minutes(5));
	wan_passes(kIn);
	lan_passes(kOut);
	EXPECT_EQ(sessions().size(), 1U) << "an error does not end it either";
}

TEST_F(IcmpError, OfAHalfOpenSessionThatIsOver) {
	half_open(false);
	age_session(seconds(30));
	wan_passes(kIn);
	age_session(seconds(-30));
	EXPECT_EQ(wan_in(kFromRemote / kIn), PTRIG_ICMP_FORWARDED);
	age_lease("media", minutes(10));
	wan_passes(kIn);
	lan_passes(kOut);
	EXPECT_EQ(sessions().size(), 1U);
}

TEST_F(IcmpError, OfASessionWhoseWanAddressIsGone) {
	establish(false);
	wan_address("wan0", kWan, false);
	lan_passes(kOut);
	wan_passes(kIn);
}

TEST_F(IcmpError, TooBigForTheWayOn) {
	establish(false);
	ip_batch(Ns::kGateway, "link set lan0 mtu 1280\n");
	wan_passes(Ip4{.src = kFar, .dst = kWan} / kPortClosed / (kWanToRemote / to_remote(false, 6000) / Fill{1300}),
		   PTRIG_TOO_BIG);
	ip_batch(Ns::kGateway, "link set lan0 mtu 1500\n");
}

TEST_F(IcmpError, TheGatewaysOwn) {
	for (const bool tcp : {false, true}) {
		half_open(tcp);
		for (const bool established : {false, true}) {
			if (established) {
				ASSERT_EQ(lan_in(kFromHost / kHostToRemote / to_remote(tcp, 7000)), PTRIG_ESTABLISHED);
			}
			for (const Icmp &icmp : {kTtlUsedUp, kFragmentationNeeded}) {
				const Packet before = quote({.src = kRemote, .dst = kHost, .ttl = 1},
							    from_remote(tcp, 7000) / Fill{600}, 548);
				const Packet after = quote({.src = kRemote, .dst = kWan, .ttl = 1},
							   from_remote(tcp, 6000) / Fill{600}, 548);
				Packet out;
				EXPECT_EQ(run(Hook::kWanOut, "wan0",
					      kToRemote / Ip4{.src = kWanSecond, .dst = kRemote} / icmp / before, &out,
					      kOwn),
					  PTRIG_ICMP_QUOTED);
				EXPECT_EQ(out, (kToRemote / Ip4{.src = kWan, .dst = kRemote} / icmp / after))
					<< "from the address that the session has, its time to live as it was";
			}
		}
	}
}

TEST_F(IcmpError, OthersAtTheWan) {
	establish(false);
	const Packet error = kToRemote / kWanToRemote / kPortClosed / (kRemoteToHost / from_remote(false, 7000));
	EXPECT_EQ(wan_out(error), PTRIG_NO_CANDIDATE) << "somebody else's, which was judged where it came in";
	for (const Packet &packet :
	     {Packet(kToRemote / kWanToRemote / Icmp{} / "ping"), Packet(kToRemote / kWanToRemote / kKnock),
	      Packet(kToRemote / kWanToRemote / kPortClosed / (kRemoteToHost / from_remote(false, 7001))),
	      Packet(kToRemote / kWanToRemote / kPortClosed / (kRemoteToWan / from_remote(false, 6000)))})
		EXPECT_EQ(run(Hook::kWanOut, "wan0", packet, nullptr, kOwn), PTRIG_NO_CANDIDATE);
}

TEST_F(IcmpError, WithoutEthernetHeaders) {
	apply({media()});
	const Way way{.lan = "tunl", .wan = "tunw", .wan_address = kTunWan};
	ASSERT_EQ(trigger({kTunHost, ""}, Udp{.dport = 5060} / "trigger", kTunRemote, way), PTRIG_GRANTED);
	const Ip4 to_wan{.src = kTunRemote, .dst = kTunWan}, to_host{.src = kTunRemote, .dst = kTunHost, .ttl = 63},
		out_host{.src = kTunHost, .dst = kTunRemote}, out_wan{.src = kTunWan, .dst = kTunRemote, .ttl = 63};
	ASSERT_EQ(run(Hook::kWanIn, "tunw", to_wan / kKnock / "payload"), PTRIG_OPENED);
	Packet out;
	EXPECT_EQ(run(Hook::kLanIn, "tunl", out_host / kPortClosed / (to_host / kKnock), &out), PTRIG_ICMP_FORWARDED);
	Ip4 quoted = to_wan;
	quoted.ttl = 63;
	EXPECT_EQ(out, out_wan / kPortClosed / (quoted / kKnock));
	EXPECT_EQ(run(Hook::kWanIn, "tunw", to_wan / kTtlUsedUp / (out_wan / kReply), &out), PTRIG_ICMP_FORWARDED);
	Ip4 real = out_host;
	real.ttl = 63;
	EXPECT_EQ(out, to_host / kTtlUsedUp / (real / kReply));
	EXPECT_EQ(run(Hook::kWanOut, "tunw", out_wan / kTtlUsedUp / (to_host / kKnock), &out, kOwn), PTRIG_ICMP_QUOTED);
	EXPECT_EQ(out, out_wan / kTtlUsedUp / (quoted / kKnock));
}

} // namespace
} // namespace ptrig::test
