// Warnings of `ptrig check`: each risk once, at its rule, and none for a rule that is fine.
#include <gtest/gtest.h>

#include "loader/check.h"
#include "tests/unit/samples.h"

namespace ptrig {
namespace {

constexpr std::string_view kHead = "[gateway]\nlan = [\"br0\"]\n";

std::string rule_text(const std::string &name, const std::string &trigger, const std::string &open,
		      const std::string &more = "sources = [\"192.168.77.20\"]") {
	return "[[rule]]\nname = \"" + name + "\"\ntrigger = [\"" + trigger + "\"]\nopen = [\"" + open + "\"]\n" +
	       more + "\n";
}

std::vector<std::string> warnings(const std::string &text, const CheckFacts &facts = {}) {
	const ParsedConfig parsed = parse_config(text, "f");
	EXPECT_EQ(test::lines_of(parsed.errors), "");
	std::vector<std::string> out;
	for (const Diagnostic &warning : check_warnings(parsed, facts))
		out.push_back(warning.text());
	return out;
}
/// Exactly one warning, which begins and continues so.
void expect_one(const std::string &text, std::string_view begins, std::string_view contains,
		const CheckFacts &facts = {}) {
	const auto all = warnings(std::string(kHead) + text, facts);
	ASSERT_EQ(all.size(), 1U) << text << (all.empty() ? "" : all[0] + "\n" + all.back());
	EXPECT_EQ(all[0].substr(0, begins.size()), begins);
	EXPECT_NE(all[0].find(contains), std::string::npos) << all[0];
}
void expect_none(const std::string &text, const CheckFacts &facts = {}) {
	const auto all = warnings(std::string(kHead) + text, facts);
	EXPECT_TRUE(all.empty()) << all[0];
}

TEST(Check, NothingToSayAboutACarefulRule) {
	expect_none(rule_text("r", "21/tcp", "50000-50010/tcp"));
	expect_none(rule_text("a", "21/tcp", "50000/tcp+udp") + rule_text("b", "22/tcp", "50001/tcp+udp"));
	expect_none(rule_text("a", "21/tcp", "50000/tcp") + rule_text("b", "21/udp", "50000/udp"));
}

TEST(Check, OverlappingOpenPorts) {
	expect_one(rule_text("a", "21/tcp", "50000-50010/tcp") + rule_text("b", "22/tcp", "50005-50020=1/tcp+udp"),
		   "f:8:1: ",
		   "rule \"b\": opens 50005-50010/tcp like \"a\": the first of them in file order with a live lease");
	std::string many;
	for (int i = 0; i < 7; ++i)
		many += rule_text("r" + std::to_string(i), std::to_string(100 + i) + "/tcp", "5000/udp");
	const auto all = warnings(std::string(kHead) + many);
	EXPECT_EQ(all.size(), 6U) << "one for each rule but the first";
	EXPECT_NE(all.back().find("like \"r0\", \"r1\", \"r2\", \"r3\" and 2 more"), std::string::npos) << all.back();
}

TEST(Check, EachOverlapWithThePortsThatItIs) {
	const std::string a = rule_text("a", "21/tcp", "6000/tcp"), b = rule_text("b", "22/tcp", "7000/tcp");
	const auto with = [&](const std::string &open) {
		const auto all = warnings(std::string(kHead) + a + b + rule_text("c", "23/tcp", open));
		EXPECT_EQ(all.size(), 1U);
		return all.empty() ? "" : all.back();
	};
	EXPECT_NE(with("6000-7000/tcp").find("rule \"c\": opens 6000/tcp like \"a\"; 7000/tcp like \"b\": the first"),
		  std::string::npos);
	EXPECT_NE(with("6500-7000/tcp").find("rule \"c\": opens 7000/tcp like \"b\": the first"), std::string::npos);
	std::string many;
	for (int i = 0; i < 7; ++i)
		many += rule_text("r" + std::to_string(i), std::to_string(100 + i) + "/tcp",
				  std::to_string(5000 + 2 * i) + "/udp");
	const auto all = warnings(std::string(kHead) + many + rule_text("last", "99/tcp", "5000-6000/udp"));
	ASSERT_EQ(all.size(), 1U);
	EXPECT_NE(all[0].find("opens 5000/udp like \"r0\"; 5002/udp like \"r1\"; 5004/udp like \"r2\"; 5006/udp like "
			      "\"r3\"; others like 3 more: the first"),
		  std::string::npos)
		<< all[0];
}

TEST(Check, SharedTriggerPorts) {
	expect_one(rule_text("a", "20-21/tcp", "50000/tcp") + rule_text("b", "21-22/tcp", "50001/tcp"),
		   "f:8:1: ", "rule \"b\": triggers on 21/tcp like \"a\": one packet triggers all of them");
	expect_one(rule_text("a", "20/tcp", "50000/tcp") + rule_text("b", "22/tcp", "50001/tcp") +
			   rule_text("c", "20-22/tcp", "50002/tcp"),
		   "f:13:1: ", "rule \"c\": triggers on 20/tcp like \"a\"; 22/tcp like \"b\": one packet");
}

// S3: on another LAN anybody can take a MAC address.
TEST(Check, MacAddressesOnEachOfSeveralLans) {
	const std::string two = "[gateway]\nlan = [\"br0\", \"guests\"]\n";
	const std::string any = rule_text("r", "21/tcp", "50000/tcp", "sources = [\"02:00:5e:10:00:01\"]");
	expect_none(any);
	const auto all = warnings(two + any);
	ASSERT_EQ(all.size(), 1U);
	EXPECT_EQ(all[0],
		  "f:3:1: rule \"r\": 02:00:5e:10:00:01 may trigger from each LAN (br0, guests), and whoever is on "
		  "another one can take that MAC address: name the interface that it is on, as in "
		  "\"02:00:5e:10:00:01@br0\"");
	EXPECT_TRUE(
		warnings(two + rule_text("r", "21/tcp", "50000/tcp", "sources = [\"02:00:5e:10:00:01@br0\"]")).empty());
	EXPECT_TRUE(warnings(two + rule_text("r", "21/tcp", "50000/tcp", "sources = [\"10.0.0.0/8\"]")).empty());
}

TEST(Check, PrivilegedOpenPorts) {
	expect_one(rule_text("r", "21/tcp", "1023/tcp"), "f:3:1: ", "opens 1023/tcp: ports below 1024");
	expect_none(rule_text("r", "21/tcp", "1024/tcp"));
	expect_none(rule_text("r", "21/tcp", "8080=80/tcp"));
}

TEST(Check, DhcpStaysTheGatewaysOwn) {
	for (const char *open : {"67/udp", "60-67/udp", "68=5000/tcp+udp", "1-65535/udp"}) {
		const auto all = warnings(std::string(kHead) + rule_text("r", "21/tcp", open));
		ASSERT_EQ(all.size(), 2U) << open;
		EXPECT_NE(all[1].find("opens 67/udp or 68/udp, which stay the gateway's own"), std::string::npos)
			<< all[1];
	}
	expect_one(rule_text("r", "21/tcp", "67-68/tcp"), "f:3:1: ", "ports below 1024");
	expect_none(rule_text("r", "21/tcp", "5000-5001=67/udp"));
}

TEST(Check, PortsThatTheGatewayUsesItself) {
	CheckFacts facts;
	facts.listeners = {{5353, PTRIG_UDP}, {5353, PTRIG_UDP}, {8080, PTRIG_TCP}, {9, PTRIG_TCP}};
	facts.dnat = {test::ports("6000-6100/tcp")};
	expect_none(rule_text("r", "21/tcp", "5353/tcp"), facts);
	expect_one(rule_text("r", "21/tcp", "5000-9000/udp"),
		   "f:3:1: ", "opens 5353/udp, but there programs of the gateway itself listen", facts);
	expect_one(rule_text("r", "21/tcp", "6100-6200/tcp+udp"),
		   "f:3:1: ", "opens 6000-6100/tcp, which nftables dnats too", facts);
	EXPECT_EQ(warnings(std::string(kHead) + rule_text("r", "21/tcp", "5000-9000/tcp+udp"), facts).size(), 2U);
}

// S1: a web page can make the browser of anybody on the LAN trigger.
TEST(Check, TriggersThatAnyWebPageReaches) {
	const std::string any = "remotes = \"any\"";
	expect_one(rule_text("r", "6969/tcp", "50000/tcp", any), "f:3:1: ",
		   "any web page can make a browser trigger it (port 6969/tcp), and remotes = \"any\" then lets");
	// The bad ports of the Fetch standard are not those of WebRTC's TURN client, which uses TCP, too.
	expect_one(rule_text("r", "6665-6669/tcp", "50000/tcp", any), "f:3:1: ", "(port 6665/tcp)");
	for (const char *port : {"6667", "5060", "2049", "10080", "1024", "53", "1000-1023", "554-570"})
		expect_one(rule_text("r", std::string(port) + "/tcp", "50000/tcp", any), "f:3:1: ", "any web page");
	for (const char *port : {"21", "22", "25", "123", "161", "554", "989-990"})
		expect_none(rule_text("r", std::string(port) + "/tcp", "50000/tcp", any));
	expect_none(rule_text("r", "6969/tcp", "50000/tcp", "remotes = [\"203.0.113.0/24\"]"));
	// Also towards one remote only: the page names it. There it is not the page's own server.
	expect_one(rule_text("r", "6969/tcp", "50000/tcp", any + "\ntrigger_remotes = [\"203.0.113.1\"]"), "f:3:1: ",
		   "by naming one of trigger_remotes, and remotes = \"any\" then lets everybody in: set remotes = "
		   "\"contacted\"");
	// UDP: what a page reaches by WebRTC is not what it reaches by TCP.
	for (const char *port : {"6969", "6667", "5060", "10080", "1024", "53"})
		expect_one(rule_text("r", std::string(port) + "/udp", "50000/tcp", any),
			   "f:3:1: ", std::string("(port ") + port + "/udp)");
	for (const char *port : {"69", "123", "1000-1023", "161"})
		expect_none(rule_text("r", std::string(port) + "/udp", "50000/tcp", any));
}

// The page's own server is a remote that was contacted: `contacted` keeps out all others, not that one.
TEST(Check, ContactedLetsThePagesOwnServerIn) {
	const std::string contacted = "remotes = \"contacted\"";
	expect_one(rule_text("r", "6969/tcp", "50000/tcp", contacted), "f:3:1: ",
		   "any web page can make a browser trigger it (port 6969/tcp) towards the page's own server");
	expect_one(rule_text("r", "6667/udp", "50000/udp", contacted), "f:3:1: ", "and open few ports");
	expect_one(rule_text("r", "6667/tcp", "50000/udp", contacted), "f:3:1: ", "own server");
	expect_none(rule_text("r", "21/tcp", "50000/udp", contacted));
	expect_none(rule_text("r", "6969/tcp", "50000/tcp", contacted + "\ntrigger_remotes = [\"203.0.113.1\"]"));
	expect_none(rule_text("r", "6969/tcp", "50000/tcp", contacted + "\nsources = [\"02:00:5e:10:00:01\"]"));
	expect_one(rule_text("r", "6969/tcp", "50000/tcp", contacted + "\nsources = \"routed\""),
		   "f:3:1: ", "own server");
	// No advice against a page's server may name what lets it in.
	for (const char *port : {"6969/tcp", "6969/udp", "443/tcp"})
		for (const std::string &remotes : {contacted, std::string("remotes = \"any\"")}) {
			const auto all = warnings(std::string(kHead) + rule_text("r", port, "50000/tcp", remotes));
			ASSERT_EQ(all.size(), 1U) << port;
			EXPECT_EQ(all[0].find("set remotes"), std::string::npos) << all[0];
		}
}

TEST(Check, TriggersOfEverybodysBrowsing) {
	const std::string any = "remotes = \"any\"";
	for (const char *port : {"443/tcp", "80/tcp", "80-90/tcp", "443/udp", "3074/udp\", \"443/tcp"})
		expect_one(rule_text("r", port, "50000/tcp", any),
			   "f:3:1: ", "by its MAC address or prefix, as in sources = [\"02:00:5e:10:00:01\"]");
	expect_none(rule_text("r", "443/tcp", "50000/tcp", any + "\nsources = [\"02:00:5e:10:00:01\"]"));
	expect_none(rule_text("r", "443/tcp", "50000/tcp", any + "\nsources = [\"192.168.77.20\"]"));
}

TEST(Check, ShortUdpTimeouts) {
	const std::string contacted = "remotes = \"contacted\"\n";
	expect_one(rule_text("r", "21/tcp", "50000/tcp+udp", contacted + "timeout = \"119s\""),
		   "f:3:1: ", "opens udp ports with a timeout of 119s, under the 2 minutes of RFC 4787");
	expect_none(rule_text("r", "21/tcp", "50000/udp", contacted + "timeout = \"2m\""));
	expect_none(rule_text("r", "21/tcp", "50000/tcp", contacted + "timeout = \"1s\""));
	expect_one("[timeouts]\nudp = \"90s\"\n", "f: ", "[timeouts] udp = \"90s\" is under 2 minutes");
}

TEST(Check, YieldAfterWithTakeover) {
	expect_one(rule_text("r", "21/tcp", "50000/tcp",
			     "remotes = \"contacted\"\nconflict = \"takeover\"\nyield_after = \"1m\""),
		   "f:3:1: ", "yield_after does nothing with conflict = \"takeover\"");
}

TEST(Check, NoLanInterface) {
	const auto all = warnings(rule_text("r", "21/tcp", "50000/tcp"));
	ASSERT_EQ(all.size(), 1U);
	EXPECT_EQ(all[0], "f: [gateway] lan names no interface: nothing can trigger");
}

TEST(Check, MapsOfMoreThan256MiB) {
	expect_one("max_sessions = 1048576\n", "f: ", "MiB of kernel memory (max_sessions 1048576, ");
	expect_none("max_sessions = 458752\n");
	CheckFacts many_cpus;
	many_cpus.possible_cpus = 256;
	expect_one("max_rules = 65536\n", "f: ", "max_rules 65536)", many_cpus);
}

TEST(Check, DisabledRulesAreLeftAlone) {
	expect_none(rule_text("a", "6969/tcp", "80/udp", "enabled = false\ntimeout = \"1s\"") +
		    rule_text("b", "6969/tcp", "50000/tcp"));
}

TEST(Check, WorksWithoutOrigins) {
	ParsedConfig live;
	live.config = test::config_of({test::rule("r", "21/tcp", "80/tcp")});
	const auto all = check_warnings(live, {});
	ASSERT_EQ(all.size(), 1U);
	EXPECT_EQ(all[0].text().find("rule \"r\": opens 80/tcp"), 0U) << all[0].text();
}

TEST(BadPorts, AreThoseOfTheFetchStandard) {
	for (const std::uint16_t port :
	     {1,    21,   22,   25,   69,   137,  161,  554,  989,  990,  1719, 1720, 1723, 2049,
	      4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080})
		EXPECT_TRUE(is_bad_port(port)) << port;
	for (const std::uint16_t port : {0, 2, 80, 443, 1024, 3478, 5062, 6660, 6664, 6670, 6969, 8080, 10081, 65535})
		EXPECT_FALSE(is_bad_port(port)) << port;
	int count = 0;
	for (unsigned port = 0; port <= 65535; ++port)
		count += is_bad_port(static_cast<std::uint16_t>(port));
	EXPECT_EQ(count, 82);
}

} // namespace
} // namespace ptrig
