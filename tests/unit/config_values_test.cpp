// Every key of the configuration: what it takes and what it means, from a file.
#include <gtest/gtest.h>

#include "tests/unit/samples.h"

namespace ptrig {
namespace {

using test::lines_of;
using test::mac;
using test::ports;
using test::prefix;

constexpr std::string_view kLan = "[gateway]\nlan = [\"br0\"]\n";
constexpr std::string_view kRule = "[[rule]]\nname = \"r\"\ntrigger = [\"21/tcp\"]\nopen = [\"50000-50010/tcp\"]\n";

Config parsed(const std::string &text) {
	ParsedConfig out = parse_config(text, "f");
	EXPECT_EQ(lines_of(out.errors), "") << text;
	return out.config;
}
Rule rule_with(const std::string &line) {
	const Config config = parsed(std::string(kRule) + line + "\n");
	EXPECT_EQ(config.rules.size(), 1U);
	return config.rules.empty() ? Rule() : config.rules[0];
}
GatewayConfig gateway_with(const std::string &line) {
	return parsed(std::string(kLan) + line + "\n").gateway;
}

TEST(Config, AnEmptyFileHasTheDefaults) {
	EXPECT_EQ(parsed(""), Config());
	EXPECT_EQ(parsed("# nothing\n[gateway]\n[timeouts]\n[limits]\n"), Config());
}

TEST(Config, TheExampleOfTheContract) {
	const Config c = parsed(R"([gateway]
wan = "auto"
lan = ["br0", "wlan0"]
datapath = "auto"
reserved = ["443/tcp"]
deny_remotes = []
max_sessions = 65536
max_leases = 8192
max_rules = 4096

[timeouts]
tcp_established = "2h4m"
tcp_transitory  = "4m"
udp = "5m"
halfopen = "30s"
icmp = "60s"

[limits]
leases_per_host = 128
sessions_per_host = 16384
new_sessions_per_second = 1000

[[rule]]
name = "ftp-active"
trigger = ["21/tcp"]
open = ["50000-50010/tcp"]
timeout = "10m"
)");
	Config expected = test::config_of({test::rule("ftp-active", "21/tcp", "50000-50010/tcp")});
	expected.gateway.lan = {"br0", "wlan0"};
	expected.gateway.reserved = {ports("443/tcp")};
	EXPECT_EQ(c, expected);
}

TEST(Config, GatewayKeys) {
	EXPECT_EQ(gateway_with("wan = \"ppp0\"").wan, std::vector<std::string>{"ppp0"});
	EXPECT_EQ(gateway_with("wan = [\"ppp0\", \"eth1.42\"]").wan, (std::vector<std::string>{"ppp0", "eth1.42"}));
	EXPECT_EQ(gateway_with("wan = [\"auto\"]").wan, std::vector<std::string>{"auto"});
	EXPECT_EQ(gateway_with("datapath = \"xdp\"").datapath, Datapath::kXdp);
	EXPECT_EQ(gateway_with("datapath = \"tc\"").datapath, Datapath::kTc);
	EXPECT_EQ(gateway_with("reserved = [\"443/tcp\", \"1-9/tcp+udp\"]").reserved,
		  (std::vector<PortRange>{ports("443/tcp"), ports("1-9/tcp+udp")}));
	EXPECT_EQ(gateway_with("deny_remotes = [\"203.0.113.0/24\", \"10.0.0.1\"]").deny_remotes,
		  (std::vector<Prefix>{prefix("203.0.113.0/24"), prefix("10.0.0.1")}));
	EXPECT_EQ(gateway_with("").conntrack_zone, 0U);
	EXPECT_EQ(gateway_with("conntrack_zone = 65535").conntrack_zone, 65535U);
	EXPECT_EQ(gateway_with("max_sessions = 1048576").max_sessions, 1048576U);
	EXPECT_EQ(gateway_with("max_leases = 1").max_leases, 1U);
	EXPECT_EQ(gateway_with("max_rules = 65_536").max_rules, 65536U);
	EXPECT_EQ(gateway_with("max_halfopen = 0x100").max_halfopen, 256U);
	EXPECT_EQ(gateway_with("max_port_lists = 393216").max_port_lists, 393216U);
}

TEST(Config, TimeoutsAndLimits) {
	const Config c =
		parsed("[timeouts]\ntcp_established = \"1h\"\ntcp_transitory = \"10s\"\nudp = \"2m\"\n"
		       "halfopen = \"1s\"\nicmp = \"7d\"\n[limits]\nleases_per_host = 0\nsessions_per_host = 1\n"
		       "new_sessions_per_second = 1000000\n");
	const Timeouts timeouts{std::chrono::hours(1), seconds(10), std::chrono::minutes(2), seconds(1),
				std::chrono::hours(168)};
	EXPECT_EQ(c.timeouts, timeouts);
	EXPECT_EQ(c.limits, (Limits{0, 1, 1000000}));
}

TEST(Config, RuleKeys) {
	EXPECT_FALSE(rule_with("enabled = false").enabled);
	EXPECT_EQ(rule_with("description = \"a \\\"b\\\" é\"").description, "a \"b\" é");
	EXPECT_EQ(rule_with("description = \"\"\"\\\n  §\"\"\"").description, "§");
	EXPECT_EQ(rule_with("timeout = \"1s\"").timeout, seconds(1));
	EXPECT_EQ(rule_with("timeout = \"7d\"").timeout, std::chrono::hours(168));
	EXPECT_EQ(rule_with("refresh = \"traffic\"").refresh, Refresh::kTraffic);
	EXPECT_EQ(rule_with("conflict = \"takeover\"").conflict, Conflict::kTakeover);
	EXPECT_EQ(rule_with("close = \"connection\"").close, Close::kConnection);
	EXPECT_TRUE(rule_with("confirm = true").confirm);
	EXPECT_EQ(rule_with("on_close = \"kill\"").on_close, OnClose::kKill);
	EXPECT_EQ(rule_with("cooldown = \"30s\"").cooldown, seconds(30));
	EXPECT_EQ(rule_with("cooldown = \"0s\"").cooldown, seconds(0));
	EXPECT_FALSE(rule_with("log = false").log);
}

TEST(Config, RuleKeysThatCanBeNone) {
	EXPECT_EQ(rule_with("yield_after = \"1m\"").yield_after, std::chrono::minutes(1));
	EXPECT_EQ(rule_with("yield_after = \"none\"").yield_after, std::nullopt);
	EXPECT_EQ(rule_with("max_lifetime = \"1h\"").max_lifetime, std::chrono::hours(1));
	EXPECT_EQ(rule_with("max_lifetime = \"none\"").max_lifetime, std::nullopt);
	EXPECT_EQ(rule_with("session_limit = 1").session_limit, 1U);
	EXPECT_EQ(rule_with("session_limit = \"none\"").session_limit, std::nullopt);
}

TEST(Config, RemotesAndTriggerRemotes) {
	EXPECT_EQ(rule_with("remotes = \"any\"").remotes.kind, Remotes::Kind::kAny);
	EXPECT_EQ(rule_with("remotes = [\"any\"]").remotes.kind, Remotes::Kind::kAny);
	EXPECT_EQ(rule_with("remotes = \"contacted\"").remotes.kind, Remotes::Kind::kContacted);
	EXPECT_EQ(rule_with("remotes = [\"contacted\"]").remotes.kind, Remotes::Kind::kContacted);
	EXPECT_EQ(rule_with("remotes = [\"203.0.113.0/24\"]").remotes,
		  (Remotes{Remotes::Kind::kSet, {prefix("203.0.113.0/24")}}));
	EXPECT_TRUE(rule_with("trigger_remotes = \"any\"").trigger_remotes.empty());
	EXPECT_TRUE(rule_with("trigger_remotes = [\"any\"]").trigger_remotes.empty());
	EXPECT_EQ(rule_with("trigger_remotes = [\"198.51.100.1\"]").trigger_remotes,
		  std::vector<Prefix>{prefix("198.51.100.1")});
}

TEST(Config, Sources) {
	EXPECT_EQ(rule_with("sources = \"lan\"").sources.kind, Sources::Kind::kLan);
	EXPECT_EQ(rule_with("sources = [\"lan\"]").sources.kind, Sources::Kind::kLan);
	EXPECT_EQ(rule_with("sources = \"routed\"").sources.kind, Sources::Kind::kRouted);
	const Sources set{Sources::Kind::kSet, {prefix("192.168.1.0/24")}, {mac("02:00:5e:10:00:01")}};
	EXPECT_EQ(rule_with("sources = [\"02:00:5e:10:00:01\", \"192.168.1.0/24\"]").sources, set);
	const Sources on_br0{Sources::Kind::kSet, {}, {{mac("02:00:5e:10:00:01"), "br0"}}};
	EXPECT_EQ(rule_with("sources = [\"02:00:5e:10:00:01@br0\"]").sources, on_br0);
}

TEST(Config, ARuleHasUpToSixteenRangesASide) {
	std::string trigger, open;
	for (int i = 0; i < 16; ++i) {
		trigger += (i ? ", \"" : "\"") + std::to_string(1000 + i) + "/tcp\"";
		open += (i ? ", \"" : "\"") + std::to_string(2000 + i) + "=" + std::to_string(3000 + i) + "/udp\"";
	}
	const Config c = parsed("[[rule]]\nname = \"r\"\ntrigger = [" + trigger + "]\nopen = [" + open + "]\n");
	EXPECT_EQ(c.rules[0].trigger.size(), 16U);
	EXPECT_EQ(c.rules[0].open[15], test::open_ports("2015=3015/udp"));
}

TEST(Config, RulesKeepTheOrderOfTheFile) {
	const Config c = parsed("[[rule]]\nname = \"z\"\ntrigger = [\"1/tcp\"]\nopen = [\"2001/tcp\"]\n"
				"[[rule]]\nname = \"a\"\ntrigger = [\"2/tcp\"]\nopen = [\"2002/tcp\"]\n"
				"[[rule]]\nname = \"m\"\ntrigger = [\"3/tcp\"]\nopen = [\"2003/tcp\"]\n");
	ASSERT_EQ(c.rules.size(), 3U);
	EXPECT_EQ(c.rules[0].name + c.rules[1].name + c.rules[2].name, "zam");
}

TEST(Config, EveryRuleHasItsOrigin) {
	const ParsedConfig p = parse_config("\n\n" + std::string(kRule) +
						    "\n  [[rule]]\nname = \"x\"\ntrigger = [\"1/tcp\"]\n"
						    "open = [\"2001/tcp\"]\n",
					    "some.toml");
	ASSERT_EQ(p.origins.size(), 2U);
	EXPECT_EQ(p.origins[0].file, "some.toml");
	EXPECT_EQ(p.origins[0].line, 3U);
	EXPECT_EQ(p.origins[0].column, 1U);
	EXPECT_EQ(p.origins[1].line, 8U);
	EXPECT_EQ(p.origins[1].column, 3U);
}

} // namespace
} // namespace ptrig
