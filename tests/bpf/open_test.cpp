// The remote's first packet to an open port: who gets in, and what each refusal is called.
#include <arpa/inet.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

const Packet kInvite = Udp{.sport = 5060, .dport = 5060} / "INVITE";
const Packet kKnocks = kFromRemote / kRemoteToWan / kKnock / "knock";

class Open : public DatapathTest {
protected:
	enum ptrig_reason knock(const std::string &remote, std::uint16_t sport, const Eth &eth = kFromRemote) {
		return wan_in(eth / Ip4{.src = remote, .dst = kWan} / Udp{.sport = sport, .dport = 16384});
	}
};

TEST_F(Open, SourcesThatAreNoRemoteMachinesOpenNothing) {
	granted({media()});
	for (const std::string &from :
	     {std::string("224.0.0.1"), std::string("255.255.255.255"), std::string("127.0.0.1"),
	      std::string("0.0.0.0"), std::string("240.0.0.1"), kWan})
		EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = from, .dst = kWan} / kKnock), PTRIG_REMOTE_DENIED) << from;
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Open, NobodyComesInInTheNameOfALan) {
	granted({media(), ident()});
	const Tcp syn{.sport = 7000, .dport = 113};
	for (const std::string &from : {kHost, kHost2, kRouted, kLanAddr, kWanSecond, kWan1, kTunWan, kTunHost}) {
		EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = from, .dst = kWan} / kKnock), PTRIG_REMOTE_DENIED) << from;
		EXPECT_NE(wan_in(kFromRemote / Ip4{.src = from, .dst = kWan} / syn), PTRIG_OPENED) << from;
	}
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote1, .dst = kWan} / kKnock), PTRIG_OPENED)
		<< "the other WAN's is a remote like another";
}

/// Several WANs, none of which has the default route of the main table.
TEST_F(Open, WhereOnlyTheWansOwnTableHasAWay) {
	ip_batch(Ns::kGateway, "route del default via 203.0.113.1 dev wan0\n"
			       "route add default via 203.0.113.1 dev wan0 table 77\n"
			       "rule add from " +
				       kWan + " table 77\n");
	granted({media()});
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kFar, .dst = kWan} / kKnock), PTRIG_OPENED);
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kHost2, .dst = kWan} / kKnock), PTRIG_REMOTE_DENIED);
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kLanAddr, .dst = kWan} / kKnock), PTRIG_REMOTE_DENIED);
	ip_batch(Ns::kGateway, "rule del from " + kWan + " table 77\n" +
				       "route del default via 203.0.113.1 dev wan0 table 77\n"
				       "route add default via 203.0.113.1 dev wan0\n");
}

TEST_F(Open, FirstPacketAfterTheTrigger) {
	granted({media()});
	Packet out;
	EXPECT_EQ(wan_in(kKnocks, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kRemoteToHost / kKnock / "knock");
	const Pair pair = session();
	EXPECT_TRUE(pair.halfopen);
	EXPECT_EQ(pair.lan.state, PTRIG_SESSION_HALFOPEN);
	EXPECT_EQ(pair.lan_key.saddr, be(kHost));
	EXPECT_EQ(pair.lan_key.sport, htons(16384));
	EXPECT_EQ(pair.wan_key.saddr, be(kRemote));
	EXPECT_EQ(pair.wan_key.daddr, be(kWan));
	EXPECT_EQ(pair.wan_key.dport, htons(16384));
	EXPECT_EQ(pair.lan.rule, rule_id("media"));
	EXPECT_EQ(pair.lan.lease, lease("media")->info.id);
	EXPECT_EQ(pair.wan.packets, 1U);
	EXPECT_EQ(pair.wan.bytes, 33U);
	EXPECT_EQ(lease("media")->sessions, 1U);
}

TEST_F(Open, Tcp) {
	granted({ident()});
	const Tcp syn{.sport = 7000, .dport = 113, .options = {2, 4, 5, 0xb4}};
	Packet out;
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / syn, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kRemoteToHost / syn);
}

TEST_F(Open, BeforeTheTriggerAndElsewhere) {
	apply({media(), ident()});
	EXPECT_EQ(wan_in(kKnocks), PTRIG_NO_LEASE);
	ASSERT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.dport = 16383}), PTRIG_NOT_OPEN);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.dport = 16391}), PTRIG_NOT_OPEN);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.dport = 16384}), PTRIG_NOT_OPEN);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.dport = 113}), PTRIG_NO_LEASE);
	EXPECT_TRUE(sessions().empty());
}

TEST_F(Open, EveryPortOfTheRangeAndItsEnds) {
	granted({media()});
	for (std::uint16_t port = 16384; port <= 16390; port++) {
		Packet out;
		EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = port}, &out), PTRIG_OPENED);
		EXPECT_EQ(l3(out), (kRemoteToHost / Udp{.sport = 7000, .dport = port}));
	}
}

TEST_F(Open, MappedRange) {
	Rule rule = media();
	rule.open = {open(udp(6000, 6010), 7000), open(udp(65535), 1), open(tcp(80), 8080)};
	granted({rule});
	const std::pair<std::uint16_t, std::uint16_t> maps[] = {{6000, 7000}, {6005, 7005}, {6010, 7010}, {65535, 1}};
	for (const auto &[wan, host] : maps) {
		Packet out;
		EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7000, .dport = wan} / "x", &out),
			  PTRIG_OPENED);
		EXPECT_EQ(l3(out), (kRemoteToHost / Udp{.sport = 7000, .dport = host} / "x"));
		EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = host, .dport = 7000} / "y", &out),
			  PTRIG_ESTABLISHED);
		EXPECT_EQ(l3(out), (kWanToRemote / Udp{.sport = wan, .dport = 7000} / "y"));
	}
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.dport = 7000}), PTRIG_NOT_OPEN)
		<< "the host's port is not open";
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.dport = 80}), PTRIG_NOT_OPEN);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.dport = 80}), PTRIG_OPENED);
}

TEST_F(Open, ExpiredAndEndedLeases) {
	granted({media()});
	age_lease("media", minutes(10));
	EXPECT_EQ(wan_in(kKnocks), PTRIG_NO_LEASE);
	age_lease("media", -seconds(2));
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
	admin({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED});
	EXPECT_EQ(knock(kRemote, 7001), PTRIG_NO_LEASE);
}

TEST_F(Open, NotAWanAddress) {
	granted({media()});
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = "203.0.113.77"} / kKnock), PTRIG_NO_LEASE);
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = kHost} / kKnock), PTRIG_NO_LEASE);
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan1} / kKnock), PTRIG_NO_LEASE)
		<< "the other WAN's";
	wan_address("wan0", kWan, false);
	EXPECT_EQ(wan_in(kKnocks), PTRIG_NO_LEASE) << "the address is gone";
}

TEST_F(Open, ALeaseBelongsToItsWan) {
	granted({media()});
	EXPECT_EQ(run(Hook::kWanIn, "wan1", kFromRemote1 / Ip4{.src = kRemote1, .dst = kWan1} / kKnock),
		  PTRIG_NO_LEASE);
}

TEST_F(Open, RemotesOfTheRule) {
	Rule rule = media();
	rule.remotes = {Remotes::Kind::kSet, {prefix("203.0.113.8", 30), prefix("198.51.100.7")}};
	granted({rule});
	EXPECT_EQ(knock(kRemote, 1), PTRIG_OPENED);
	EXPECT_EQ(knock(kFar, 1), PTRIG_OPENED);
	EXPECT_EQ(knock("203.0.113.12", 1), PTRIG_REMOTE_DENIED);
	EXPECT_EQ(knock("198.51.100.8", 1), PTRIG_REMOTE_DENIED);
}

TEST_F(Open, DeniedRemotes) {
	config_.gateway.deny_remotes = {prefix("203.0.113.10"), prefix("198.51.100.0", 24)};
	granted({media()});
	EXPECT_EQ(knock(kRemote, 1), PTRIG_REMOTE_DENIED);
	EXPECT_EQ(knock(kFar, 1), PTRIG_REMOTE_DENIED);
	EXPECT_EQ(knock(kRemote2, 1), PTRIG_OPENED);
}

TEST_F(Open, ContactedRemoteOnly) {
	Rule rule = media();
	rule.remotes.kind = Remotes::Kind::kContacted;
	apply({rule});
	ASSERT_EQ(trigger(kA, kInvite, kRemote), PTRIG_GRANTED);
	ASSERT_EQ(trigger(kB, kInvite, kRemote2), PTRIG_GRANTED);
	Packet out;
	EXPECT_EQ(wan_in(kKnocks, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), kRemoteToHost / kKnock / "knock");
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote2, .dst = kWan} / kKnock, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote2, .dst = kHost2, .ttl = 63} / kKnock))
		<< "the same port, the other host";
	EXPECT_EQ(knock("203.0.113.12", 1), PTRIG_NO_LEASE);
}

TEST_F(Open, FirstRuleInFileOrderWithALiveLease) {
	Rule first = media(), second = media();
	second.name = "second";
	second.trigger = {udp(5070)};
	apply({first, second});
	ASSERT_EQ(trigger(kB, Udp{.dport = 5070}), PTRIG_GRANTED);
	Packet out;
	EXPECT_EQ(wan_in(kKnocks, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kHost2, .ttl = 63} / kKnock / "knock"));
	ASSERT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 7001, .dport = 16384}, &out), PTRIG_OPENED);
	EXPECT_EQ(l3(out), (kRemoteToHost / Udp{.sport = 7001, .dport = 16384})) << "the first rule's host";
	EXPECT_EQ(wan_in(kKnocks, &out), PTRIG_HALF_OPEN);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kHost2, .ttl = 63} / kKnock / "knock")) << "the session stays";
}

TEST_F(Open, TcpBeginsWithAPlainSyn) {
	granted({ident()});
	for (const int flags : {0, kAck + 0, kFin + 0, kRst + 0, kSyn + kAck, kSyn + kFin, kSyn + kRst, kPsh + kAck})
		EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.flags = static_cast<std::uint8_t>(flags)}),
			  PTRIG_NOT_SYN)
			<< flags;
	EXPECT_TRUE(sessions().empty());
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Tcp{.flags = kSyn | 0xc0}), PTRIG_OPENED) << "ECN";
}

TEST_F(Open, RateLimit) {
	config_.limits.new_sessions_per_second = 3;
	granted({media()});
	for (std::uint16_t port = 1; port <= 3; port++)
		EXPECT_EQ(knock(kRemote, port), PTRIG_OPENED);
	EXPECT_EQ(knock(kRemote, 4), PTRIG_RATE_LIMITED);
	EXPECT_EQ(knock(kRemote, 1), PTRIG_HALF_OPEN) << "what is open stays open";
	edit_lease("media", [](ptrig_lease &l) { l.tokens_ns -= 340000000; });
	EXPECT_EQ(knock(kRemote, 4), PTRIG_OPENED) << "a third of a second is a token";
	EXPECT_EQ(knock(kRemote, 5), PTRIG_RATE_LIMITED);
	edit_lease("media", [](ptrig_lease &l) { l.tokens_ns -= 3600000000000; });
	for (std::uint16_t port = 5; port <= 7; port++)
		EXPECT_EQ(knock(kRemote, port), PTRIG_OPENED);
	EXPECT_EQ(knock(kRemote, 8), PTRIG_RATE_LIMITED) << "an hour is not 10,800 tokens";
	edit_lease("media", [](ptrig_lease &l) { l.tokens_ns -= 1900000000; });
	for (std::uint16_t port = 8; port <= 10; port++)
		EXPECT_EQ(knock(kRemote, port), PTRIG_OPENED);
	EXPECT_EQ(knock(kRemote, 11), PTRIG_RATE_LIMITED) << "nor does a full bucket overflow within the second";
}

/// Another CPU is just deciding about a trigger, and has been interrupted meanwhile.
TEST_F(Open, ALeaseThatIsBusyRefusesNobody) {
	config_.limits.new_sessions_per_second = 3;
	granted({media()});
	edit_lease("media", [](ptrig_lease &l) { l.lock = 1; });
	for (std::uint16_t port = 1; port <= 3; port++)
		EXPECT_EQ(knock(kRemote, port), PTRIG_OPENED);
	EXPECT_EQ(knock(kRemote, 4), PTRIG_RATE_LIMITED) << "the limit holds all the same";
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 1, .dport = 16384}), PTRIG_HALF_OPEN);
}

TEST_F(Open, AFloodDoesNotStopTheBucketFromFilling) {
	config_.limits.new_sessions_per_second = 20;
	granted({media()});
	std::uint16_t port = 1;
	const std::uint64_t end = now_ns() + 300000000;
	while (now_ns() < end)
		dp().run(Hook::kWanIn, "wan0",
			 (kFromRemote / kRemoteToWan / Udp{.sport = port++, .dport = 16384}).bytes(), "");
	EXPECT_GE(usage().halfopen, 20U + 3) << "20 at once and some 6 more in 300 ms";
	EXPECT_LE(usage().halfopen, 20U + 8);
}

TEST_F(Open, NoRateLimit) {
	config_.limits.new_sessions_per_second = 0;
	granted({media()});
	for (std::uint16_t port = 1; port <= 50; port++)
		EXPECT_EQ(knock(kRemote, port), PTRIG_OPENED);
}

/// A grant begins the count anew while another CPU holds a place of the old one, and then gives it back.
TEST_F(Open, ACountBelowZeroDoesNotLock) {
	Rule rule = media();
	rule.session_limit = 1;
	granted({rule});
	edit_lease("media", [](ptrig_lease &lease) { lease.sessions = ~0U; });
	EXPECT_EQ(knock(kRemote, 1), PTRIG_OPENED);
	edit_lease("media", [](ptrig_lease &lease) { lease.sessions++; });
	EXPECT_EQ(knock(kRemote, 2), PTRIG_SESSION_LIMIT);
}

TEST_F(Open, SessionLimitOfTheRule) {
	Rule rule = media();
	rule.session_limit = 2;
	granted({rule});
	EXPECT_EQ(knock(kRemote, 1), PTRIG_OPENED);
	EXPECT_EQ(knock(kRemote, 2), PTRIG_OPENED);
	EXPECT_EQ(knock(kRemote, 3), PTRIG_SESSION_LIMIT);
	admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS});
	EXPECT_EQ(knock(kRemote, 3), PTRIG_OPENED);
}

TEST_F(Open, SessionsPerHost) {
	config_.limits.sessions_per_host = 2;
	Rule second = media();
	second.name = "second";
	second.trigger = {udp(5070)};
	second.open = {open(udp(2000))};
	apply({media(), second});
	ASSERT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	ASSERT_EQ(trigger(kA, Udp{.dport = 5070}), PTRIG_GRANTED);
	EXPECT_EQ(knock(kRemote, 1), PTRIG_OPENED);
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / Udp{.sport = 1, .dport = 2000}), PTRIG_OPENED);
	EXPECT_EQ(knock(kRemote, 2), PTRIG_HOST_SESSIONS) << "over all its leases";
}

TEST_F(Open, NoHostTakesTheHalfOpenPlacesOfTheNext) {
	use({.halfopen = 12});
	config_.limits.new_sessions_per_second = 0;
	Rule second = media(), third = media();
	second.name = "second", third.name = "third";
	second.trigger = {udp(5070)}, third.trigger = {udp(5080)};
	second.open = {open(udp(2000))}, third.open = {open(udp(3000))};
	apply({media(), second, third});
	ASSERT_EQ(trigger(kA, kInvite), PTRIG_GRANTED);
	ASSERT_EQ(trigger(kB, Udp{.dport = 5070}), PTRIG_GRANTED);
	const auto fit = [&](std::uint16_t port) {
		unsigned opened = 0;
		for (std::uint16_t from = 1; from <= 20; from++) {
			const auto reason = wan_in(kFromRemote / kRemoteToWan / Udp{.sport = from, .dport = port});
			opened += reason == PTRIG_OPENED;
			EXPECT_TRUE(reason == PTRIG_OPENED || reason == PTRIG_HALF_OPEN ||
				    reason == PTRIG_HALFOPEN_FULL)
				<< name_of(reason);
		}
		return opened;
	};
	EXPECT_EQ(fit(16384), 6U) << "one host alone gets half";
	EXPECT_EQ(fit(2000), 3U) << "and the next as many as are left then";
	EXPECT_EQ(fit(16384), 0U);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = 1}), PTRIG_ESTABLISHED);
	EXPECT_EQ(fit(2000), 1U) << "each place that is free again raises the share";
	ASSERT_EQ(trigger(kA, Udp{.dport = 5080}), PTRIG_GRANTED);
	EXPECT_EQ(fit(3000), 0U) << "it is one share for all of a host's leases";
	ASSERT_EQ(admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS, .host = be(kHost2)}).halfopen, 4U);
	EXPECT_EQ(fit(3000), 1U);
}

TEST_F(Open, HalfOpenTableFull) {
	use({.sessions = 2, .halfopen = 4});
	granted({media()});
	EXPECT_EQ(knock(kRemote, 1), PTRIG_OPENED);
	EXPECT_EQ(knock(kRemote, 2), PTRIG_OPENED);
	EXPECT_EQ(knock(kRemote, 3), PTRIG_HALFOPEN_FULL);
	EXPECT_EQ(sessions().size(), 2U);
	Packet out;
	for (const std::uint16_t port : {1, 2})
		EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = port}), PTRIG_ESTABLISHED);
	EXPECT_EQ(knock(kRemote, 3), PTRIG_OPENED) << "answered sessions have left the half-open table";
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = 3}, &out), PTRIG_SESSIONS_FULL);
	EXPECT_EQ(sessions().size(), 2U) << "an established session is never evicted to make room";
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = 1}, &out), PTRIG_FORWARDED);
}

TEST_F(Open, NoRouteToTheHost) {
	Rule rule = media();
	rule.sources.kind = Sources::Kind::kRouted;
	apply({rule});
	ASSERT_EQ(trigger({kRouted, kSwitchMac}, kInvite), PTRIG_GRANTED);
	ip_batch(Ns::kGateway, "route del 10.77.0.0/16\n");
	EXPECT_EQ(wan_in(kKnocks), PTRIG_NO_ROUTE) << "it would go back to the WAN";
	ip_batch(Ns::kGateway, "route add blackhole 10.77.0.0/16\n");
	EXPECT_EQ(wan_in(kKnocks), PTRIG_NO_ROUTE);
	ip_batch(Ns::kGateway, "route del blackhole 10.77.0.0/16\n"
			       "route add 10.77.0.0/16 via " +
				       kSwitch + " dev lan0\n");
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
}

TEST_F(Open, TheRouteMustLeadToALanInterfaceOfOurs) {
	granted({media()});
	interface("lan0", 0);
	EXPECT_EQ(wan_in(kKnocks), PTRIG_NO_ROUTE);
}

TEST_F(Open, AnotherMachineHasTheHostsAddress) {
	granted({media()});
	ip_batch(Ns::kGateway, "neighbour replace " + kHost + " lladdr " + kStrangerMac + " nud permanent dev lan0\n");
	events();
	EXPECT_EQ(wan_in(kKnocks), PTRIG_STRANGER);
	ip_batch(Ns::kGateway, "neighbour replace " + kHost + " lladdr " + kHostMac + " nud permanent dev lan0\n");
	EXPECT_EQ(lease("media")->info.state, PTRIG_LEASE_LIVE) << "one forged ARP reply ends nothing";
	EXPECT_EQ(wan_in(kKnocks), PTRIG_OPENED);
}

TEST_F(Open, HostWhoseMacIsNotKnownYetGetsItsPacket) {
	granted({media()});
	ip_batch(Ns::kGateway, "neighbour del " + kHost + " dev lan0\n");
	Packet out;
	EXPECT_EQ(wan_in(kKnocks, &out), PTRIG_OPENED);
	ip_batch(Ns::kGateway, "neighbour replace " + kHost + " lladdr " + kHostMac + " nud permanent dev lan0\n");
	EXPECT_EQ(l3(out), kRemoteToHost / kKnock / "knock");
}

} // namespace
} // namespace ptrig::test
