// Which packets of the LAN trigger, whose, and that only what leaves by the WAN grants.
#include <arpa/inet.h>

#include "tests/bpf/harness.h"
#include "tests/bpf/kernel.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kIrcSyn = Tcp{.sport = 1025, .dport = 6667};

class Trigger : public DatapathTest {};

TEST_F(Trigger, NoRuleNoTrigger) {
	apply({media(), ident()});
	for (const std::uint16_t port : {1, 5059, 5061, 6666, 65535}) {
		EXPECT_EQ(trigger(kA, Udp{.dport = port}), PTRIG_NOT_TRIGGER);
		EXPECT_EQ(trigger(kA, Tcp{.dport = port}), PTRIG_NOT_TRIGGER);
	}
	EXPECT_EQ(trigger(kA, Tcp{.dport = 5060}), PTRIG_NOT_TRIGGER) << "the rule's trigger is udp";
	EXPECT_EQ(trigger(kA, Udp{.dport = 6667}), PTRIG_NOT_TRIGGER) << "the rule's trigger is tcp";
	EXPECT_EQ(trigger(kA, Udp{.sport = 5060, .dport = 99}), PTRIG_NOT_TRIGGER) << "a trigger port is a destination";
}

TEST_F(Trigger, Grants) {
	apply({media(), ident()});
	const std::uint64_t before = now_ns();
	EXPECT_EQ(trigger(kA, kIrcSyn), PTRIG_GRANTED);
	const auto granted = lease("ident");
	ASSERT_TRUE(granted);
	const ptrig_lease_info &info = granted->info;
	EXPECT_EQ(info.state, PTRIG_LEASE_LIVE);
	EXPECT_EQ(info.flags, PTRIG_LEASE_ONLINK);
	EXPECT_EQ(info.host, be(kHost));
	EXPECT_EQ(info.wan, be(kWan));
	EXPECT_EQ(info.trigger_remote, be(kRemote));
	EXPECT_EQ(info.trigger_port, htons(6667));
	EXPECT_EQ(info.trigger_proto, IPPROTO_TCP);
	EXPECT_EQ(Bytes(info.mac, info.mac + 6), mac_bytes(kHostMac));
	EXPECT_EQ(info.lan_ifindex, ifindex("lan0"));
	EXPECT_EQ(info.wan_ifindex, ifindex("wan0"));
	EXPECT_GE(info.granted_ns, before);
	EXPECT_LE(info.granted_ns, now_ns());
	EXPECT_EQ(info.refreshed_ns, info.granted_ns);
	EXPECT_FALSE(lease("media"));
}

/// A packet may wait between LAN ingress and WAN egress: for its neighbour, in a queue of an IPS, in a transformation.
/// What others send meanwhile, and the firewall drops, must not make it theirs.
TEST_F(Trigger, APacketThatWaitsIsItsSendersWhateverOthersSendMeanwhile) {
	apply({media()});
	const Packet waits = kFromHost2 / Ip4{.src = kHost2, .dst = kRemote} / kInvite;
	ASSERT_EQ(run(Hook::kLanIn, "lan0", waits), PTRIG_CANDIDATE);
	const Tuple tuple = *tuple_of(waits.bytes(), 14);
	const test_entry entry = masquerade(tuple, kWan);
	for (unsigned i = 0; i < 100; i++) // the same remote and ports, another sender
		dp().run(Hook::kLanIn, "lan0", (kFromHost / kHostToRemote / kInvite).bytes(), "");
	EXPECT_EQ(wan_out(Packet(forwarded(waits.bytes(), 14, entry, true, false))), PTRIG_GRANTED);
	ASSERT_TRUE(lease("media"));
	EXPECT_EQ(lease("media")->info.host, be(kHost2));
}

TEST_F(Trigger, IsCountedAndTold) {
	apply({media(), ident()});
	EXPECT_EQ(trigger(kA, kIrcSyn), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kIrcSyn), PTRIG_HELD);
	const ptrig_hits counted = hits("ident");
	EXPECT_EQ(counted.triggers, 2U);
	EXPECT_EQ(counted.granted, 1U);
	EXPECT_EQ(counted.refused[PTRIG_HELD - PTRIG_FLAGS], 1U);
	const ptrig_last seen = last("ident");
	EXPECT_EQ(seen.id, rule_id("ident"));
	EXPECT_EQ(seen.reason, static_cast<unsigned>(PTRIG_HELD));
	EXPECT_EQ(seen.host, be(kHost2));
	EXPECT_EQ(seen.remote, be(kRemote));

	const auto told = events();
	ASSERT_EQ(told.size(), 2U);
	EXPECT_EQ(told[0].type, static_cast<unsigned>(PTRIG_EVENT_GRANTED));
	EXPECT_EQ(told[0].reason, static_cast<unsigned>(PTRIG_GRANTED));
	EXPECT_EQ(told[0].rule, rule_id("ident"));
	EXPECT_EQ(told[0].lease, lease("ident")->info.id);
	EXPECT_EQ(told[0].host, be(kHost));
	EXPECT_EQ(told[0].remote, be(kRemote));
	EXPECT_EQ(told[0].wan, be(kWan));
	EXPECT_EQ(told[0].port, htons(6667));
	EXPECT_EQ(told[0].proto, IPPROTO_TCP);
	EXPECT_EQ(Bytes(told[0].mac, told[0].mac + 6), mac_bytes(kHostMac));
	EXPECT_EQ(told[1].type, static_cast<unsigned>(PTRIG_EVENT_REFUSED));
	EXPECT_EQ(told[1].reason, static_cast<unsigned>(PTRIG_HELD));
	EXPECT_EQ(told[1].host, be(kHost2));
	EXPECT_EQ(told[1].old_host, be(kHost));
}

TEST_F(Trigger, RefusalsAreToldOnceASecond) {
	apply({ident()});
	EXPECT_EQ(trigger(kA, kIrcSyn), PTRIG_GRANTED);
	events();
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(trigger(kB, kIrcSyn), PTRIG_HELD);
	EXPECT_EQ(events().size(), 1U);
	auto lasts = dp().map<std::uint32_t, ptrig_last>("pt_last");
	ptrig_last seen = last("ident");
	EXPECT_EQ(seen.suppressed, 9U);
	seen.event_ns -= 1000000000;
	ASSERT_TRUE(lasts.update(rule_id("ident") & 0xffff, seen));
	EXPECT_EQ(trigger(kB, kIrcSyn), PTRIG_HELD);
	const auto told = events();
	ASSERT_EQ(told.size(), 1U);
	EXPECT_EQ(told[0].suppressed, 9U);
	EXPECT_EQ(last("ident").suppressed, 0U);
}

TEST_F(Trigger, OnlyWhatLeavesByTheWanGrants) {
	apply({media()});
	const Packet in = kFromHost / kHostToRemote / kInvite, left = kToRemote / kWanToRemote / kInvite;
	EXPECT_EQ(run(Hook::kLanIn, "lan0", in), PTRIG_CANDIDATE);
	EXPECT_FALSE(lease("media")) << "seen on the LAN, perhaps dropped by the firewall";
	EXPECT_EQ(run(Hook::kWanOut, "wan0", left, nullptr, kOwn), PTRIG_NO_CANDIDATE) << "the gateway's own packet";
	EXPECT_EQ(wan_out(left), PTRIG_NO_CANDIDATE) << "nobody's flow";
	EXPECT_FALSE(lease("media"));
	EXPECT_EQ(lan_in(in), PTRIG_GRANTED);
}

TEST_F(Trigger, APacketOfAnotherHostsFlowGrantsItNothing) {
	apply({media()});
	// Both send to the same remote; only B's packet leaves.
	EXPECT_EQ(run(Hook::kLanIn, "lan0", kFromHost / kHostToRemote / kInvite), PTRIG_CANDIDATE);
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(lease("media")->info.host, be(kHost2));
}

TEST_F(Trigger, WithoutANoteOfItsOwnNothingIsGranted) {
	apply({media()});
	const Packet in = kFromHost / kHostToRemote / kInvite;
	EXPECT_EQ(run(Hook::kLanIn, "lan0", in), PTRIG_CANDIDATE);
	const Packet other = Ip4{.src = kHost2, .dst = kRemote} / kInvite;
	ASSERT_TRUE(masquerade(*tuple_of(other.bytes(), 0), kWan).found);
	EXPECT_EQ(wan_out(kToRemote / kWanToRemote / kInvite), PTRIG_NO_CANDIDATE) << "B's flow, which nobody noted";
	EXPECT_FALSE(lease("media"));
}

TEST_F(Trigger, FinAndRstNeitherGrantNorRefresh) {
	apply({ident()});
	for (const std::uint8_t flags :
	     {kFin, kRst, std::uint8_t(kFin | kAck), std::uint8_t(kRst | kAck), std::uint8_t(kSyn | kFin)})
		EXPECT_EQ(trigger(kA, Tcp{.sport = 1025, .dport = 6667, .flags = flags}), PTRIG_FLAGS);
	EXPECT_FALSE(lease("ident"));
	EXPECT_EQ(trigger(kA, kIrcSyn), PTRIG_GRANTED);
	age_lease("ident", seconds(60));
	const auto before = lease("ident")->info.refreshed_ns;
	EXPECT_EQ(trigger(kA, Tcp{.sport = 1025, .dport = 6667, .flags = kFin | kAck}), PTRIG_FLAGS);
	EXPECT_EQ(lease("ident")->info.refreshed_ns, before);
}

TEST_F(Trigger, AnyOtherTcpPacketGrants) {
	apply({ident()});
	EXPECT_EQ(trigger(kA, Tcp{.sport = 1025, .dport = 6667, .flags = kPsh | kAck} / "NICK"), PTRIG_GRANTED);
}

TEST_F(Trigger, SpoofedMac) {
	apply({media()});
	EXPECT_EQ(trigger({kHost, kHost2Mac}, kInvite), PTRIG_SPOOFED) << "the neighbour table knows better";
	EXPECT_EQ(trigger({kHost2, kHostMac}, kInvite), PTRIG_SPOOFED);
	EXPECT_EQ(trigger({kHost, kHostMac}, kInvite), PTRIG_GRANTED);
}

TEST_F(Trigger, NeighbourThatIsNotKnownYet) {
	apply({media()});
	EXPECT_EQ(trigger({kStranger, kStrangerMac}, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(lease("media")->info.flags, PTRIG_LEASE_ONLINK);
}

TEST_F(Trigger, ForeignSources) {
	Rule rule = media();
	rule.sources.kind = Sources::Kind::kRouted;
	apply({rule});
	for (const char *source : {"198.51.100.7", "8.0.77.11", "192.168.88.5", "203.0.113.10", "127.0.0.1", "0.0.0.0",
				   "224.0.0.1", "255.255.255.255", "192.168.77.255"})
		EXPECT_EQ(trigger({source, kHostMac}, kInvite), PTRIG_SPOOFED) << source;
}

TEST_F(Trigger, TheGatewaysOwnAddresses) {
	Rule rule = media();
	rule.sources.kind = Sources::Kind::kRouted;
	apply({rule});
	for (const std::string &source : {kLanAddr, kWan, kWanSecond, std::string("192.168.88.1")})
		EXPECT_EQ(trigger({source, kHostMac}, kInvite), PTRIG_SPOOFED) << source;
}

TEST_F(Trigger, OnlinkOnTheOtherLanInterface) {
	apply({media()});
	EXPECT_EQ(trigger({"192.168.88.5", kHostMac}, kInvite, kRemote, {.lan = "lan1"}), PTRIG_GRANTED);
	EXPECT_EQ(lease("media")->info.lan_ifindex, ifindex("lan1"));
}

TEST_F(Trigger, SourcesLanExcludesRouted) {
	apply({media()});
	EXPECT_EQ(trigger({kRouted, kSwitchMac}, kInvite), PTRIG_SOURCE);
	EXPECT_FALSE(lease("media"));
	EXPECT_EQ(trigger({kSwitch, kSwitchMac}, kInvite), PTRIG_GRANTED) << "the switch itself is on-link";
}

TEST_F(Trigger, SourcesRouted) {
	Rule rule = media();
	rule.sources.kind = Sources::Kind::kRouted;
	apply({rule});
	EXPECT_EQ(trigger({kRouted, kSwitchMac}, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(lease("media")->info.flags & PTRIG_LEASE_ONLINK, 0U) << "the MAC is the switch's, not the host's";
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_HELD) << "on-link hosts may, too";
}

TEST_F(Trigger, SourcesPrefixesAndMacs) {
	Rule rule = media();
	rule.sources = {Sources::Kind::kSet, {prefix("192.168.77.8", 30), prefix("10.77.0.0", 16)}, {mac(kHost2Mac)}};
	apply({rule});
	EXPECT_EQ(trigger({kStranger, kStrangerMac}, kInvite), PTRIG_SOURCE);
	EXPECT_EQ(trigger({kSwitch, kSwitchMac}, kInvite), PTRIG_SOURCE);
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED) << ".11 is in .8/30";
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_HELD) << ".12 is not, its MAC is";
	EXPECT_EQ(trigger({kRouted, kSwitchMac}, kInvite), PTRIG_HELD);
}

// S3: a guest on another LAN can take any MAC address.
TEST_F(Trigger, SourcesMacOnOneInterface) {
	Rule rule = media();
	rule.sources = {Sources::Kind::kSet, {}, {{mac(kHostMac), "lan0"}}};
	const Machine forged{"192.168.88.5", kHostMac};
	apply({rule});
	EXPECT_EQ(trigger(forged, kInvite, kRemote, {.lan = "lan1"}), PTRIG_SOURCE);
	EXPECT_FALSE(lease("media"));
	EXPECT_EQ(trigger(kB, kInvite), PTRIG_SOURCE);
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(trigger(forged, kInvite, kRemote, {.lan = "lan1"}), PTRIG_SOURCE);
	rule.name = "loose";
	rule.sources.macs = {mac(kHostMac)};
	apply({rule}, 1);
	EXPECT_EQ(trigger(forged, kInvite, kRemote, {.lan = "lan1"}), PTRIG_GRANTED)
		<< "without the interface, on each";
}

TEST_F(Trigger, TriggerRemotes) {
	Rule rule = media();
	rule.trigger_remotes = {prefix("203.0.113.11"), prefix("198.51.100.0", 24)};
	apply({rule});
	EXPECT_EQ(trigger(kA, kInvite, kRemote), PTRIG_TRIGGER_REMOTE);
	EXPECT_FALSE(lease("media"));
	EXPECT_EQ(trigger(kA, kInvite, kFar), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kInvite, kRemote2), PTRIG_HELD);
	EXPECT_EQ(hits("media").refused[PTRIG_TRIGGER_REMOTE - PTRIG_FLAGS], 1U);
}

TEST_F(Trigger, DisabledRule) {
	Rule rule = media();
	rule.enabled = false;
	apply({rule});
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_NOT_TRIGGER);
}

TEST_F(Trigger, AllRulesOfAPortFire) {
	Rule one = media(), two = media(), three = ident();
	two.name = "second";
	two.open = {open(tcp(2000))};
	three.name = "third";
	three.trigger = {udp(5000, 5100), tcp(6667)};
	apply({one, two, three});
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	for (const char *name : {"media", "second", "third"}) {
		EXPECT_TRUE(lease(name)) << name;
		EXPECT_EQ(hits(name).granted, 1U);
	}
	EXPECT_EQ(trigger(kB, Udp{.dport = 5100}), PTRIG_HELD);
}

TEST_F(Trigger, AGrantSpeaksLouderThanARefusal) {
	Rule held = media(), free = media();
	free.name = "per-remote";
	free.open = {open(tcp(2000))};
	free.remotes.kind = Remotes::Kind::kContacted;
	apply({held, free});
	EXPECT_EQ(trigger(kA, kInvite, kRemote), PTRIG_GRANTED);
	EXPECT_EQ(trigger(kB, kInvite, kRemote2), PTRIG_GRANTED) << "by the second rule; the first refuses";
	EXPECT_EQ(hits("media").refused[PTRIG_HELD - PTRIG_FLAGS], 1U);
}

TEST_F(Trigger, SixteenRulesOnOnePort) {
	std::vector<Rule> rules;
	for (std::uint16_t i = 0; i < 16; i++) {
		rules.push_back(media());
		rules.back().name = "r" + std::to_string(i);
		rules.back().open = {open(tcp(static_cast<std::uint16_t>(2000 + i)))};
	}
	apply(rules);
	EXPECT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	for (const Rule &rule : rules)
		EXPECT_TRUE(lease(rule.name)) << rule.name;
}

TEST_F(Trigger, FromAnAddressThatIsOnlyRoutedHere) {
	apply({media()});
	EXPECT_EQ(trigger(kA, kInvite, kRemote, {.wan_address = "203.0.113.99"}), PTRIG_GRANTED);
	const auto granted = lease("media", "", "203.0.113.99");
	ASSERT_TRUE(granted);
	EXPECT_TRUE(granted->info.flags & PTRIG_LEASE_ROUTED);
	admin({.op = PTRIG_ADMIN_SWEEP});
	EXPECT_TRUE(lease("media", "", "203.0.113.99")) << "it is nobody's to lose";
}

TEST_F(Trigger, WithItsOwnAddressItGrantsNothing) {
	apply({media()});
	EXPECT_EQ(trigger(kA, kInvite, kRemote, {.wan_address = kHost}), PTRIG_UNTRANSLATED);
	EXPECT_EQ(usage().leases, 0U);
}

TEST_F(Trigger, ByTheSecondWan) {
	apply({media()});
	EXPECT_EQ(trigger(kA, kInvite, kRemote1, {.wan = "wan1", .wan_address = kWan1}), PTRIG_GRANTED);
	EXPECT_EQ(lease("media", "", kWan1)->info.wan, be(kWan1));
	EXPECT_EQ(lease("media", "", kWan1)->info.wan_ifindex, ifindex("wan1"));
}

TEST_F(Trigger, FirstFragmentOfALargeTrigger) {
	apply({media()});
	EXPECT_EQ(lan_in(kFromHost / Ip4{.df = false, .mf = true} / Udp{.sport = 5060, .dport = 5060, .length = 3000} /
			 Fill{1472}),
		  PTRIG_GRANTED);
}

} // namespace
} // namespace ptrig::test
