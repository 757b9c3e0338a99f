// The host's own packets from an open port of its lease: ordinary packets of the kernel's, until one leaves by another
// port than the lease's. Then its entry is swapped, so that the port looks the same to every remote (RFC 4787 REQ-1).
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kOut = kFromHost / kHostToRemote / kReply / "out", kIn = kFromRemote / kRemoteToWan / kKnock / "in";
const Way kTun{.wan = "tunw", .wan_address = kTunWan};
constexpr std::uint32_t kSeenReply = 1U << 1, kHelper = 1U << 13;

/// From 5060 to 5060, which is also open.
Rule sip() {
	Rule rule = media();
	rule.open = {open(udp(5060))};
	return rule;
}
/// WAN 6000-6010/udp lead to the host's 7000-7010.
Rule mapped() {
	Rule rule = media();
	rule.open = {open(udp(6000, 6010), 7000)};
	return rule;
}
/// WAN 50000-50010/tcp lead to the host's 60000-60010.
Rule mapped_tcp() {
	Rule rule = ident();
	rule.open = {open(test::tcp(50000, 50010), 60000)};
	return rule;
}

class OwnPort : public DatapathTest {
protected:
	static Tuple tuple(const Packet &packet) { return *tuple_of(packet.bytes(), 14); }
	static test_entry entry(const Packet &packet) { return entry_of(tuple(packet)); }
	/// The entry by which the kernel would let this packet of the host's leave.
	static void leaves_by(const Packet &packet, std::uint16_t port, std::uint32_t status = 0) {
		const Tuple t = tuple(packet);
		ASSERT_TRUE(make_entry({.proto = t.proto,
					.tuple = t.tuple,
					.from = be(kWan),
					.from_port = htons(port),
					.status = status})
				    .found);
		ASSERT_EQ(entry(packet).status & status, status);
	}
	/// The same where the administrator has sent it to kRemote2 and another port.
	static void redirect(const Tuple &t, std::uint16_t port, std::uint16_t to_port) {
		ASSERT_TRUE(make_entry({.proto = t.proto,
					.tuple = t.tuple,
					.from = be(kWan),
					.to = be(kRemote2),
					.from_port = htons(port),
					.to_port = htons(to_port)})
				    .found);
	}
	/// One way only: as the packet is at WAN egress by the entry it has, or that masquerade makes.
	enum ptrig_reason once(const Packet &in, Packet *out) {
		EXPECT_EQ(run(Hook::kLanIn, "lan0", in), PTRIG_CANDIDATE);
		test_entry by = entry(in);
		if (!by.found)
			by = masquerade(tuple(in), kWan);
		const Bytes left = forwarded(in.bytes(), 14, by, true, false);
		return run(Hook::kWanOut, "wan0", Packet(left), out, "lan0");
	}
};

TEST_F(OwnPort, TheKernelKeepsThePortAndNothingIsMade) {
	granted({media()});
	forget_flows();
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kOut), PTRIG_CANDIDATE);
	EXPECT_FALSE(entry(kOut).found) << "LAN ingress makes no entry";
	Packet out;
	EXPECT_EQ(lan_in(kOut, &out), PTRIG_OWN_PORT);
	EXPECT_EQ(out, kToRemote / kWanToRemote / kReply / "out");
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(lease("media")->sessions, 0U);
	EXPECT_EQ(wan_in(kIn), PTRIG_FLOW_KNOWN) << "the answer is the kernel's";
}

TEST_F(OwnPort, TheSamePortToEveryRemote) {
	granted({mapped()});
	for (const std::string &remote : {kRemote, kRemote2, kFar}) {
		Packet out;
		EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = remote} / Udp{.sport = 7003, .dport = 9}, &out),
			  PTRIG_SWAPPED);
		EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = remote, .ttl = 63} / Udp{.sport = 6003, .dport = 9}));
	}
}

TEST_F(OwnPort, NothingTowardsAddressesThatAreNoMachines) {
	granted({media()});
	for (const char *to : {"224.0.0.251", "239.1.2.3", "255.255.255.255", "127.0.0.1", "0.1.2.3", "240.0.0.1"})
		EXPECT_EQ(lan_in(kFromHost / Ip4{.src = kHost, .dst = to} / kReply), PTRIG_NOT_TRIGGER) << to;
}

TEST_F(OwnPort, Mapped) {
	granted({mapped()});
	const Packet in = kFromHost / kHostToRemote / Udp{.sport = 7003, .dport = 9} / "payload",
		     wanted = kToRemote / kWanToRemote / Udp{.sport = 6003, .dport = 9} / "payload";
	Packet out;
	EXPECT_EQ(lan_in(in, &out), PTRIG_SWAPPED);
	EXPECT_EQ(out, wanted) << "the very first packet";
	EXPECT_EQ(ntohs(entry(in).reply.dport), 6003);
	EXPECT_EQ(lan_in(in, &out), PTRIG_OWN_PORT);
	EXPECT_EQ(out, wanted) << "by its entry";
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 6003, .dport = 9}), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 9, .dport = 6003}), PTRIG_FLOW_KNOWN);
}

TEST_F(OwnPort, ChecksumsOfASwappedPacket) {
	granted({mapped()});
	std::uint16_t port = 100;
	for (const Csum csum : {kRight, kZero, kWrong})
		for (std::size_t n = 0; n < 20; n++) {
			Udp before{.sport = 7003, .dport = ++port, .csum = csum}, after = before;
			after.sport = 6003;
			Packet out;
			EXPECT_EQ(lan_in(kFromHost / kHostToRemote / before / Fill{n}, &out), PTRIG_SWAPPED);
			EXPECT_EQ(out, kToRemote / kWanToRemote / after / Fill{n});
		}
}

TEST_F(OwnPort, ThePacketThatTriggersIsSwappedToo) {
	Rule rule = sip();
	rule.open = {open(udp(6000), 5060)};
	apply({rule});
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kInvite, &out), PTRIG_SWAPPED);
	EXPECT_EQ(out, (kToRemote / kWanToRemote / Udp{.sport = 6000, .dport = 5060} / "INVITE"));
	ASSERT_TRUE(lease("media"));
	EXPECT_EQ(lease("media")->info.state, PTRIG_LEASE_LIVE);
	EXPECT_EQ(hits("media").granted, 1U);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kInvite, &out), PTRIG_REFRESHED);
	EXPECT_EQ(out, (kToRemote / kWanToRemote / Udp{.sport = 6000, .dport = 5060} / "INVITE"));
}

TEST_F(OwnPort, ASynIsGivenBackAndLeavesByTheLeasesPort) {
	granted({mapped_tcp()});
	const Packet syn = kFromHost / kHostToRemote / test::Tcp{.sport = 60003, .dport = 9},
		     wanted = kToRemote / kWanToRemote / test::Tcp{.sport = 50003, .dport = 9};
	Packet out;
	EXPECT_EQ(once(syn, &out), PTRIG_SWAPPED_SYN);
	EXPECT_EQ(out, syn) << "as it came from its host, its time to live too";
	EXPECT_EQ(once(out, &out), PTRIG_OWN_PORT);
	EXPECT_EQ(out, wanted);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / test::Tcp{.sport = 60004, .dport = 9}, &out), PTRIG_SWAPPED_SYN);
	EXPECT_EQ(l3(out), (kWanToRemote / test::Tcp{.sport = 50004, .dport = 9})) << "both ways at once";
}

TEST_F(OwnPort, ASynIsNeverGivenBackTwice) {
	granted({mapped_tcp()});
	const Packet syn = kFromHost / kHostToRemote / test::Tcp{.sport = 60003, .dport = 9};
	Packet out;
	ASSERT_EQ(once(syn, &out), PTRIG_SWAPPED_SYN);
	forget_entry(tuple(syn)); // somebody gives it another port whatever is done
	EXPECT_EQ(once(syn, &out), PTRIG_NOT_SWAPPED);
	EXPECT_EQ(l3(out), (kWanToRemote / test::Tcp{.sport = 60003, .dport = 9})) << "it leaves as it is";
	EXPECT_EQ(once(syn, &out), PTRIG_NOT_SWAPPED);
}

TEST_F(OwnPort, ALaterConnectionOfTheSamePortsIsGivenBackToo) {
	granted({mapped_tcp()});
	const Packet syn = kFromHost / kHostToRemote / test::Tcp{.sport = 60003, .dport = 9};
	Packet out;
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(once(syn, &out), PTRIG_SWAPPED_SYN) << "connection " << i;
		ASSERT_EQ(once(out, &out), PTRIG_OWN_PORT);
		forget_entry(tuple(syn)); // the connection is long over
	}
}

TEST_F(OwnPort, OfTcpOnlyTheFirstSyn) {
	granted({mapped_tcp()});
	for (const std::uint8_t flags : {kAck, std::uint8_t(kSyn | kAck), std::uint8_t(kSyn | kFin)}) {
		const auto port = static_cast<std::uint16_t>(9 + flags);
		EXPECT_EQ(lan_in(kFromHost / kHostToRemote / test::Tcp{.sport = 60003, .dport = port, .flags = flags}),
			  PTRIG_NOT_SWAPPED);
	}
}

TEST_F(OwnPort, NeverAnAnsweredEntryOrOneWithAHelper) {
	granted({mapped(), mapped_tcp()});
	ASSERT_EQ(trigger(kA, test::Tcp{.dport = 6667}), PTRIG_GRANTED);
	std::uint16_t port = 100;
	for (const std::uint32_t status : {kSeenReply, kHelper}) {
		const Packet datagram = kFromHost / kHostToRemote / Udp{.sport = 7003, .dport = ++port},
			     syn = kFromHost / kHostToRemote / test::Tcp{.sport = 60003, .dport = port};
		leaves_by(datagram, 7003, status);
		leaves_by(syn, 60003, status);
		Packet out;
		EXPECT_EQ(lan_in(datagram, &out), PTRIG_NOT_SWAPPED);
		EXPECT_EQ(l3(out), (kWanToRemote / Udp{.sport = 7003, .dport = port}));
		EXPECT_EQ(lan_in(syn), PTRIG_NOT_SWAPPED);
		EXPECT_EQ(ntohs(entry(datagram).reply.dport), 7003) << "its entry is left alone";
	}
}

TEST_F(OwnPort, AnEarlierProbeOfTheRemotesIsForgotten) {
	granted({media()});
	const Tuple probe = tuple(kIn);
	ASSERT_TRUE(make_entry({.proto = probe.proto, .tuple = probe.tuple}).found);
	Packet out;
	EXPECT_EQ(lan_in(kOut, &out), PTRIG_SWAPPED) << "masquerade found the port taken";
	EXPECT_EQ(out, kToRemote / kWanToRemote / kReply / "out");
	EXPECT_TRUE(entry(kIn).is_reply);
}

TEST_F(OwnPort, WhatIsAnothersIsLeftAlone) {
	granted({media()});
	const Packet others = kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kReply;
	ASSERT_TRUE(masquerade(tuple(others), kWan).found);
	Packet out;
	EXPECT_EQ(lan_in(kOut, &out), PTRIG_NOT_SWAPPED) << "another host's flow";
	EXPECT_NE(l3(out), kWanToRemote / kReply / "out");
	EXPECT_EQ(ntohs(entry(others).reply.dport), 16384);
	apply({mapped()}, 1);
	ASSERT_EQ(trigger(kA, Udp{.dport = 5060}), PTRIG_GRANTED);
	const Fd socket = socket_at(Ns::kGateway, SOCK_DGRAM, kWan, 6003);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 7003, .dport = 9}), PTRIG_NOT_SWAPPED)
		<< "a socket of the gateway's";
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 7004, .dport = 9}), PTRIG_SWAPPED);
}

TEST_F(OwnPort, ADestinationThatTheAdministratorChangedStaysChanged) {
	granted({mapped()});
	const Packet in = kFromHost / kHostToRemote / Udp{.sport = 7003, .dport = 53} / "query";
	const Tuple t = tuple(in);
	redirect(t, 7003, 5353);
	Packet out;
	EXPECT_EQ(lan_in(in, &out), PTRIG_SWAPPED);
	EXPECT_EQ(l3(out),
		  (Ip4{.src = kWan, .dst = kRemote2, .ttl = 63} / Udp{.sport = 6003, .dport = 5353} / "query"));
	EXPECT_EQ(entry(in).reply.saddr, be(kRemote2));
	EXPECT_EQ(ntohs(entry(in).reply.sport), 5353);
	EXPECT_EQ(ntohs(entry(in).reply.dport), 6003);
	forget_entry(t);
}

TEST_F(OwnPort, ASynWhoseDestinationWasChangedIsGivenBackAsItCame) {
	granted({mapped_tcp()});
	const Packet syn = kFromHost / kHostToRemote / test::Tcp{.sport = 60003, .dport = 80};
	const Tuple t = tuple(syn);
	redirect(t, 60003, 3128);
	Packet out;
	EXPECT_EQ(once(syn, &out), PTRIG_SWAPPED_SYN);
	EXPECT_EQ(out, syn);
	EXPECT_EQ(once(out, &out), PTRIG_OWN_PORT);
	EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = kRemote2, .ttl = 63} / test::Tcp{.sport = 50003, .dport = 3128}));
	forget_entry(t);
}

TEST_F(OwnPort, ByAWanWithoutEthernetHeader) {
	apply({mapped(), mapped_tcp()});
	ASSERT_EQ(trigger(kA, kInvite, kTunRemote, kTun), PTRIG_GRANTED);
	ASSERT_EQ(trigger(kA, test::Tcp{.dport = 6667}, kTunRemote, kTun), PTRIG_GRANTED);
	const Ip4 from_host{.src = kHost, .dst = kTunRemote}, from_wan{.src = kTunWan, .dst = kTunRemote, .ttl = 63};
	Packet out;
	EXPECT_EQ(through(kFromHost / from_host / Udp{.sport = 7003, .dport = 9} / "payload", kTun, &out),
		  PTRIG_SWAPPED);
	EXPECT_EQ(out, (from_wan / Udp{.sport = 6003, .dport = 9} / "payload"));
	const Packet syn = kFromHost / from_host / test::Tcp{.sport = 60003, .dport = 9};
	EXPECT_EQ(through(syn, kTun, &out), PTRIG_SWAPPED_SYN) << "an Ethernet header has been put before it";
	EXPECT_EQ(out, (from_wan / test::Tcp{.sport = 50003, .dport = 9}));
	forget_entry(tuple(syn));
	EXPECT_EQ(through(syn, kTun), PTRIG_SWAPPED_SYN) << "a later connection";
}

TEST_F(OwnPort, AFirstFragment) {
	granted({mapped()});
	const Ip4 host{.src = kHost, .dst = kRemote, .df = false, .mf = true},
		wan{.src = kWan, .dst = kRemote, .ttl = 63, .df = false, .mf = true};
	Packet out;
	EXPECT_EQ(lan_in(kFromHost / host / (Udp{.sport = 7003, .dport = 9, .length = 4008} / Fill{1472}), &out),
		  PTRIG_SWAPPED);
	EXPECT_EQ(l3(out), wan / (Udp{.sport = 6003, .dport = 9, .length = 4008} / Fill{1472}));
}

TEST_F(OwnPort, NotWithoutALiveLeaseOfThisHost) {
	apply({mapped()});
	const auto from = [&](const Machine &who, std::uint16_t dport, std::uint16_t sport = 7003) {
		return trigger(who, Udp{.sport = sport, .dport = dport});
	};
	EXPECT_EQ(from(kA, 101), PTRIG_CANDIDATE) << "WAN egress has nothing to say";
	ASSERT_EQ(from(kA, 5060, 4000), PTRIG_GRANTED);
	EXPECT_EQ(from(kB, 102), PTRIG_CANDIDATE);
	EXPECT_EQ(from({kHost, kHost2Mac}, 103), PTRIG_SPOOFED) << "another machine under its address";
	EXPECT_EQ(from(kA, 104, 7011), PTRIG_NOT_TRIGGER);
	EXPECT_EQ(from(kA, 105), PTRIG_SWAPPED);
	age_lease("media", minutes(10));
	EXPECT_EQ(from(kA, 106), PTRIG_CANDIDATE);
}

TEST_F(OwnPort, NotByAnotherWanThanTheLeases) {
	granted({mapped()});
	const Way second{.wan_address = kWanSecond}, other{.wan = "wan1", .wan_address = kWan1};
	EXPECT_EQ(trigger(kA, Udp{.sport = 7003, .dport = 101}, kRemote, second), PTRIG_CANDIDATE);
	EXPECT_EQ(trigger(kA, Udp{.sport = 7003, .dport = 102}, kRemote, other), PTRIG_CANDIDATE);
	EXPECT_EQ(trigger(kA, Udp{.sport = 7003, .dport = 103}), PTRIG_SWAPPED);
}

TEST_F(OwnPort, RemotesThatMayNotComeInAreLeftToMasquerade) {
	config_.gateway.deny_remotes = {prefix(kRemote2)};
	Rule rule = mapped();
	rule.remotes = {Remotes::Kind::kSet, {prefix("203.0.113.0", 24)}};
	granted({rule});
	EXPECT_EQ(trigger(kA, Udp{.sport = 7003, .dport = 9}, kRemote), PTRIG_SWAPPED);
	EXPECT_EQ(trigger(kA, Udp{.sport = 7003, .dport = 9}, kRemote2), PTRIG_CANDIDATE);
	EXPECT_EQ(trigger(kA, Udp{.sport = 7003, .dport = 9}, kFar), PTRIG_CANDIDATE);
}

TEST_F(OwnPort, OfAContactedLeaseToItsRemoteOnly) {
	Rule rule = mapped();
	rule.remotes.kind = Remotes::Kind::kContacted;
	granted({rule});
	EXPECT_EQ(trigger(kA, Udp{.sport = 7003, .dport = 9}, kRemote), PTRIG_SWAPPED);
	EXPECT_EQ(trigger(kA, Udp{.sport = 7003, .dport = 9}, kRemote2), PTRIG_CANDIDATE);
}

TEST_F(OwnPort, TheTriggerPortIsATriggerStill) {
	granted({sip()});
	age_lease("media", minutes(5));
	const auto before = lease("media")->info.refreshed_ns;
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kInvite), PTRIG_REFRESHED);
	EXPECT_TRUE(is_later(lease("media")->info.refreshed_ns, before));
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kInvite), PTRIG_FRESH) << "a moment ago";
	EXPECT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}).leases, 1U);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / kInvite), PTRIG_GRANTED) << "not without a lease";
}

/// From 7003, which is open, to 9, a trigger of the other rule.
TEST_F(OwnPort, AnotherRulesTriggerGrants) {
	Rule other = ident();
	other.trigger = {udp(9)};
	granted({mapped(), other});
	EXPECT_EQ(trigger(kA, Udp{.sport = 7003, .dport = 9}), PTRIG_SWAPPED);
	ASSERT_TRUE(lease("ident"));
	EXPECT_EQ(lease("ident")->info.host, be(kHost));
}

/// Or whoever gets in by one rule's port would open another rule's by the port that it comes from.
TEST_F(OwnPort, NotInASessionThatTheRemoteHasBegun) {
	Rule other = ident();
	other.trigger = {udp(7000)};
	granted({media(), other});
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_FALSE(lease("ident"));
}

/// Of a session's packets LAN ingress notes nothing. Where conntrack has forgotten the session and its host sends
/// first, what was noted of that flow before is not this packet's.
TEST_F(OwnPort, ANoteOfAnEarlierMachineAtTheAddressIsNobodys) {
	Rule rule = mapped();
	rule.cooldown = seconds(0);
	apply({rule});
	const Packet flow = Udp{.sport = 7000, .dport = 5060} / "to the trigger port";
	neighbour(kHost, mac_bytes(kStrangerMac), "lan0");
	EXPECT_EQ(trigger({kHost, kStrangerMac}, flow), PTRIG_SWAPPED);
	ASSERT_TRUE(lease("media"));
	admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED});
	forget_flows();
	neighbour(kHost, mac_bytes(kHostMac), "lan0");
	ASSERT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	const ptrig_lease_info granted = lease("media")->info;
	ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 5060, .dport = 6000} / "in"), PTRIG_OPENED);
	ASSERT_EQ(lan_in(kFromHost / kHostToRemote / flow), PTRIG_ESTABLISHED);
	forget_flows();
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / flow), PTRIG_HEARD);
	EXPECT_EQ(lease("media")->info.id, granted.id) << "another machine's note has ended the lease";
	EXPECT_EQ(std::memcmp(lease("media")->info.mac, granted.mac, sizeof(granted.mac)), 0);
}

TEST_F(OwnPort, OnlyAnAnsweredFlowRefreshesByTraffic) {
	Rule rule = media();
	rule.open.push_back(open(test::tcp(16384)));
	rule.refresh = Refresh::kTraffic;
	granted({rule});
	age_lease("media", minutes(5));
	const auto refreshed = [&] { return lease("media")->info.refreshed_ns; };
	const auto before = refreshed();
	const auto from_open = [](std::uint16_t dport) {
		return kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = dport};
	};
	EXPECT_EQ(lan_in(from_open(101)), PTRIG_OWN_PORT);
	EXPECT_EQ(refreshed(), before) << "nobody has answered";
	EXPECT_EQ(wan_in(kIn), PTRIG_OPENED);
	EXPECT_EQ(lan_in(kOut), PTRIG_ESTABLISHED);
	EXPECT_EQ(lan_in(kOut), PTRIG_FORWARDED);
	EXPECT_EQ(refreshed(), before) << "its answers to a remote";
	leaves_by(from_open(102), 16384, kSeenReply);
	EXPECT_EQ(lan_in(from_open(102)), PTRIG_OWN_PORT);
	EXPECT_TRUE(is_later(refreshed(), before));
	const auto once = refreshed();
	const Packet bye = kFromHost / kHostToRemote / test::Tcp{.sport = 16384, .dport = 9, .flags = kFin | kAck};
	leaves_by(bye, 16384, kSeenReply);
	EXPECT_EQ(lan_in(bye), PTRIG_OWN_PORT);
	EXPECT_EQ(refreshed(), once) << "a FIN";
	rule.refresh = Refresh::kTrigger;
	apply({rule}, 1);
	leaves_by(from_open(103), 16384, kSeenReply);
	EXPECT_EQ(lan_in(from_open(103)), PTRIG_OWN_PORT);
	EXPECT_EQ(refreshed(), once) << "refresh = trigger";
}

TEST_F(OwnPort, WhatTheFirewallDropsRefreshesNothing) {
	Rule rule = sip();
	rule.refresh = Refresh::kTraffic;
	apply({rule});
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kFromHost / kHostToRemote / kInvite), PTRIG_CANDIDATE);
	EXPECT_FALSE(lease("media"));
	ASSERT_EQ(trigger(kA, Udp{.dport = 5060}), PTRIG_GRANTED);
	age_lease("media", minutes(5));
	const auto before = lease("media")->info.refreshed_ns;
	const Packet own = kFromHost / kHostToRemote / Udp{.sport = 5060, .dport = 9};
	leaves_by(own, 5060, kSeenReply);
	EXPECT_EQ(run(Hook::kLanIn, "lan0", own), PTRIG_CANDIDATE);
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kFromHost / kHostToRemote / kInvite), PTRIG_CANDIDATE);
	EXPECT_EQ(lease("media")->info.refreshed_ns, before);
}

} // namespace
} // namespace ptrig::test
