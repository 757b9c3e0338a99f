// What a wrong file gets: every error, each at its line and column, each with what would be right.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/unit/samples.h"

namespace ptrig {
namespace {

using test::lines_of;

/// The file's errors are exactly these "LINE:COL: text" in this order; each message contains the text.
void expect_errors(const std::string &file, const std::vector<std::string> &expected) {
	const ParsedConfig parsed = parse_config(file, "f.toml");
	ASSERT_EQ(parsed.errors.size(), expected.size()) << lines_of(parsed.errors) << "\nof\n" << file;
	for (std::size_t i = 0; i < expected.size(); ++i) {
		const Diagnostic &error = parsed.errors[i];
		const std::string place = fmt::format("{}:{}: ", error.line, error.column);
		ASSERT_GT(expected[i].size(), place.size());
		EXPECT_EQ(expected[i].substr(0, place.size()), place) << error.text() << "\nof\n" << file;
		EXPECT_NE(error.message.find(expected[i].substr(place.size())), std::string::npos) << error.text();
		EXPECT_EQ(error.file, "f.toml");
	}
}

/// One wrong line in the table `table`, which is on line 2.
struct WrongLine {
	const char *line;
	std::vector<std::string> errors;
};
void expect_wrong(const std::string &table, const std::vector<WrongLine> &cases, const std::string &rest = "") {
	for (const WrongLine &c : cases)
		expect_errors(fmt::format("[{}]\n{}\n{}", table, c.line, rest), c.errors);
}

TEST(ConfigErrors, AMacAddressOnWhatIsNoLan) {
	const auto with = [](const std::string &gateway, const std::string &more) {
		return "[[rule]]\nname = \"r\"\ntrigger = [\"1/tcp\"]\nopen = [\"2/tcp\"]\n" + more +
		       "\nsources = [\"10.0.0.0/8\", \"02:00:5e:10:00:01\", \"02:00:5e:10:00:01@lan0\",\n"
		       "\"02:00:5e:10:00:02@eth9\"]\n" +
		       gateway;
	};
	// Its place is found in whatever order the file is.
	expect_errors(
		with("[gateway]\nlan = [\"br0\", \"lan0\"]\n", ""),
		{"7:1: sources: rule \"r\" has \"02:00:5e:10:00:02@eth9\", and eth9 is none of [gateway] lan: write "
		 "one of br0, lan0"});
	expect_errors(with("[gateway]\nlan = [\"eth9\"]\n", ""),
		      {"6:47: \"02:00:5e:10:00:01@lan0\", and lan0 is none"});
	expect_errors(with("[gateway]\nlan = [\"eth9\", \"lan0\"]\n", ""), {});
	expect_errors(with("", ""), {});
	expect_errors(with("[gateway]\nlan = [\"br0\"]\n", "enabled = false"), {});
}

TEST(ConfigErrors, Syntax) {
	expect_errors("[gateway]\nlan = [\"br0\"\nwan = \"x\"\n", {"3:1: TOML: "});
	expect_errors("[gateway]\nlan = [\"br0]\n", {"2:13: TOML: "});
	expect_errors("lan\n", {"1:4: TOML: "});
	expect_errors("[gateway]\nwan = \"a\"\nwan = \"b\"\n", {"3:7: TOML: "});
	expect_errors("[gateway]\n[gateway]\n", {"2:1: TOML: "});
	expect_errors("\xff\xfe", {"1:1: TOML: "});
	// Characters beyond ASCII outside of texts.
	expect_errors("é = 1\n", {"1:1: TOML: "});
	expect_errors("[gateway]\nwan = é\n", {"2:7: TOML: "});
	expect_errors("[gateway]\nwan = [\"é\"é\n", {"2:11: TOML: "});
	// toml++ 3.3.0 would assert on these.
	expect_errors("[.a]\n", {"1:2: TOML: "});
	expect_errors("[[[a]]]\n", {"1:3: TOML: "});
	expect_errors("[[=\n", {"1:3: TOML: "});
}

// The library frees nested tables by recursion: a file must not be able to use up the stack.
TEST(ConfigErrors, KeysOfVeryManyParts) {
	const auto dotted = [](int parts) {
		std::string key = "a";
		for (int i = 1; i < parts; ++i)
			key += i % 2 ? ".a" : " . \"a.b\"";
		return key;
	};
	expect_errors("# .................\n  " + dotted(17) + " = 1\n", {"2:3: TOML: a key of more than 16 parts"});
	expect_errors("[" + dotted(1000000) + "]\n", {"1:2: TOML: a key of more than 16 parts"});
	expect_errors("[[rule]]\nname = { " + dotted(17) + " = 1 }\n", {"2:10: TOML: a key of more than 16 parts"});
	expect_errors("\"é\"." + dotted(16) + " = 1\n", {"1:1: TOML: a key of more than 16 parts"});
	expect_errors(dotted(16) + " = 1\n", {"1:1: unknown \"a\""});
	// Dots in texts are no keys.
	const std::vector<std::string> texts{"\"................. \\\" .................\"", "'................. \"'",
					     "\"\"\"................\\\n \"\".................\"\"\"",
					     "'''................. ''.'''"};
	for (const std::string &text : texts)
		expect_errors("[[rule]]\nname = \"r\"\ndescription = " + text +
				      "\ntrigger = [\"1/tcp\"]\nopen = [\"2000/tcp\"]\n",
			      {});
}

TEST(ConfigErrors, UnknownTablesAndKeysWithTheNearest) {
	expect_errors("[gatway]\n", {"1:2: unknown \"gatway\": did you mean [gateway]?"});
	expect_errors("[[rules]]\n", {"1:3: unknown \"rules\": did you mean [[rule]]?"});
	expect_errors("[zorglub]\n",
		      {"1:2: unknown \"zorglub\": here can be [gateway], [timeouts], [limits] and [[rule]]"});
	expect_errors("name = \"x\"\n", {"1:1: \"name\" stands in no table: write it below [[rule]]"});
	expect_wrong("gateway",
		     {
			     {"wann = \"x\"", {"2:1: unknown key \"wann\" in [gateway]: did you mean wan?"}},
			     {"  zorglub = 1", {"2:3: unknown key \"zorglub\" in [gateway]: its keys are wan, lan, "}},
			     {"udp = \"5m\"", {"2:1: \"udp\" is not a key of [gateway]: it belongs into [timeouts]"}},
			     {"timeout = \"5m\"", {"2:1: it belongs into [[rule]]"}},
			     {"\"a\\nb\" = 1", {"2:1: unknown key \"a\\u000ab\""}},
		     });
	expect_wrong("limits", {{"max_sessions = 5", {"2:1: it belongs into [gateway]"}}});
	expect_errors("[[rule]]\nname = \"r\"\ntriger = [\"1/tcp\"]\ntrigger = [\"1/tcp\"]\nopen = [\"2000/tcp\"]\n",
		      {"3:1: unknown key \"triger\" in [[rule]]: did you mean trigger?"});
}

TEST(ConfigErrors, TablesOfTheWrongKind) {
	expect_errors("gateway = 3\n", {"1:1: gateway is a table: write [gateway]"});
	expect_errors("[[limits]]\n", {"1:3: limits is a table: write [limits]"});
	expect_errors("[rule]\nname = \"x\"\n", {"1:2: write [[rule]], with two brackets"});
	expect_errors("rule = 1\n", {"1:1: a rule is a table: write [[rule]]"});
	expect_errors("rule = [1]\n", {"1:9: a rule is a table"});
}

TEST(ConfigErrors, GatewayValues) {
	expect_wrong(
		"gateway",
		{
			{"wan = 5", {"2:7: wan: 5 cannot be here: write a name or a list, as in [\"eth0\"]"}},
			{"wan = []", {"2:7: wan: the list is empty: write at least one, as in [\"eth0\"]"}},
			{"wan = \"\"", {"2:7: wan: \"\": an interface's name is missing"}},
			{"wan = \"sixteen-letters-\"", {"2:7: longer than 15 characters"}},
			{"wan = [\"eth0\", \"a b\"]", {"2:16: wan: \"a b\": no interface can have this name"}},
			{"wan = [\"eth0\", \"eth0\"]", {"2:7: wan: \"eth0\" is there twice"}},
			{"wan = [\"eth0\", \"auto\"]", {"2:7: wan: \"auto\" stands alone"}},
			{"lan = \"br0\"", {"2:7: lan: a list is wanted: write [\"br0\"]"}},
			{"lan = []", {"2:7: lan: the list is empty"}},
			{"lan = [\"../x\", 3]", {"2:8: no interface can have this name", "2:16: 3 is not text"}},
			{"lan = [\"auto\"]", {"2:7: lan: \"auto\" is only for wan"}},
			{"datapath = \"fast\"",
			 {"2:12: datapath: \"fast\" is none of the words that can be here: write "
			  "auto, xdp, tc or kernel"}},
			{"datapath = true", {"2:12: true is none of the words"}},
			{"reserved = [\"443\"]", {"2:13: reserved: \"443\": the protocol is missing"}},
			{"reserved = [\"1=2/tcp\"]", {"2:13: only open ports are mapped"}},
			{"reserved = \"443/tcp\"", {"2:12: a list is wanted: write [\"443/tcp\"]"}},
			{"deny_remotes = [\"10.0.0.1/8\"]", {"2:17: write 10.0.0.0/8 for the whole prefix"}},
			{"max_sessions = 0", {"2:16: max_sessions: 0 is not a whole number from 1 to 1048576"}},
			{"max_sessions = 1048577", {"2:16: 1048577 is not a whole number"}},
			{"max_leases = 65537", {"2:14: from 1 to 65536"}},
			{"max_rules = 65537", {"2:13: from 1 to 65536"}},
			{"max_rules = \"5\"", {"2:13: max_rules: write 5 without quotes"}},
			{"max_rules = 1.5", {"2:13: a number with a fraction is not a whole number"}},
			{"max_rules = -1", {"2:13: -1 is not a whole number"}},
			{"max_rules = [1]", {"2:13: one value is wanted, without brackets"}},
			{"max_halfopen = 9223372036854775807", {"2:16: 9223372036854775807 is not a whole number"}},
			{"max_port_lists = 393217", {"2:18: from 1 to 393216"}},
			{"conntrack_zone = 65536", {"2:18: from 0 to 65535"}},
		});
	expect_errors("[gateway]\nwan = [\"eth0\"]\nlan = [\"br0\", \"eth0\"]\n",
		      {"3:7: lan: \"eth0\" is in wan too: an interface is on one side"});
}

TEST(ConfigErrors, TimeoutsAndLimits) {
	expect_wrong(
		"timeouts",
		{
			{"udp = 300",
			 {"2:7: udp: \"300\": a unit is required: write \"300s\" for seconds or \"300m\" for minutes"}},
			{"udp = \"300\"",
			 {"2:7: a unit is required: write \"300s\" for seconds or \"300m\" for minutes"}},
			{"udp = 1.5", {"2:7: not a time: write one in double quotes, as in \"10m\""}},
			{"udp = 07:32:00", {"2:7: a date or time of day is not a time"}},
			{"udp = \"0s\"", {"2:7: udp: \"0s\" is out of range: write 1s to 7d"}},
			{"icmp = \"8d\"", {"2:8: icmp: \"8d\" is out of range"}},
			{"halfopen = [\"1s\"]", {"2:12: one value is wanted, without brackets"}},
		});
	expect_wrong("limits", {
				       {"leases_per_host = -1", {"2:19: from 0 to 65536"}},
				       {"sessions_per_host = 1048577", {"2:21: from 0 to 1048576"}},
				       {"new_sessions_per_second = 1000001", {"2:27: from 0 to 1000000"}},
			       });
}

TEST(ConfigErrors, RuleValues) {
	const std::string rest = "name = \"r\"\ntrigger = [\"21/tcp\"]\nopen = [\"50000-50010/tcp\"]\n";
	expect_wrong(
		"[rule]",
		{
			{"enabled = 1", {"2:11: enabled: 1 is neither true nor false"}},
			{"enabled = \"false\"", {"2:11: enabled: write false without quotes"}},
			{"description = 5", {"2:15: description: 5 is not text"}},
			{"description = \"a\\nb\"", {"2:15: one line of text without control characters"}},
			{"description = \"\\u001b[2J\"", {"2:15: without control characters"}},
			{"trigger_remotes = []", {"2:19: the list is empty"}},
			{"trigger_remotes = \"all\"", {"2:19: write \"any\" or a list, as in [\"203.0.113.0/24\"]"}},
			{"trigger_remotes = \"10.0.0.0/8\"", {"2:19: write \"any\" or a list, as in [\"10.0.0.0/8\"]"}},
			{"trigger_remotes = [\"any\", \"10.0.0.0/8\"]", {"2:20: \"any\" stands alone"}},
			{"sources = \"wan\"", {"2:11: write \"lan\", \"routed\" or a list"}},
			{"sources = [\"lan\", \"10.0.0.0/8\"]", {"2:12: \"lan\" stands alone"}},
			{"sources = [\"10.0.0.1/8\", \"zz\"]",
			 {"2:12: write 10.0.0.0/8", "2:26: \"zz\" is a name, write an address"}},
			{"sources = [\"xbox\", \"my-xbox.lan\"]",
			 {"2:12: sources: \"xbox\" is a name, write an address", "2:20: \"my-xbox.lan\" is a name"}},
			{"sources = [\"192.168.100.300\"]", {"2:12: not an IPv4 prefix"}},
			{"sources = [\"AABBCCDDEEF0\", \"AA-BB-CC-DD-EE-F0\"]",
			 {"2:12: write aa:bb:cc:dd:ee:f0", "2:28: write aa:bb:cc:dd:ee:f0"}},
			{"sources = [\"2001:db8::1\", \"1:2:3\", \"\"]",
			 {"2:12: no IPv6", "2:27: not a MAC address", "2:36: neither a prefix nor a MAC"}},
			{"trigger_remotes = [\"stun.example.net\"]", {"2:20: is a name, write an address"}},
			{"remotes = [\"friend.example.net\"]", {"2:12: is a name, write an address"}},
			{"remotes = [\"10.0.0.0/8, 192.0.2.1\"]",
			 {"2:12: write them as separate items, as in [\"10.0.0.0/8\", \"192.0.2.1\"]"}},
			{"sources = [\"01:00:5e:00:00:01\"]", {"2:12: group address"}},
			{"sources = [\"02:00:5e:10:00:01@\", \"10.0.0.1@br0\", \"xbox@br0\"]",
			 {"2:12: an interface's name is missing", "2:34: not a MAC address",
			  "2:50: not a MAC address"}},
			{"sources = []", {"2:11: the list is empty"}},
			{"remotes = []", {"2:11: the list is empty"}},
			{"remotes = \"none\"", {"2:11: write \"any\", \"contacted\" or a list"}},
			{"remotes = [\"contacted\", \"10.0.0.0/8\"]", {"2:12: \"contacted\" stands alone"}},
			{"timeout = 600",
			 {"2:11: timeout: \"600\": a unit is required: write \"600s\" for seconds or \"600m\" for "
			  "minutes"}},
			{"timeout = 20",
			 {"2:11: a unit is required: write \"20s\" for seconds or \"20m\" for minutes"}},
			{"timeout = \"20\"", {"2:11: write \"20s\" for seconds or \"20m\" for minutes"}},
			{"timeout = \"500ms\"", {"2:11: timeout: \"500ms\" is out of range: write 1s to 7d"}},
			{"timeout = \"7d1s\"", {"2:11: is out of range"}},
			{"timeout = \"none\"", {"2:11: not a time"}},
			{"refresh = \"trafic\"", {"2:11: write trigger or traffic"}},
			{"conflict = \"steal\"", {"2:12: write hold or takeover"}},
			{"yield_after = \"10m\"", {"2:15: yield_after: 10m is not shorter than the timeout of 10m"}},
			{"refresh = \"traffic\"\ntimeout = \"1s\"",
			 {"3:11: timeout: 1s is too short for refresh = \"traffic\", which is noticed once a second: "
			  "write 2s or more"}},
			{"yield_after = \"0s\"", {"2:15: yield_after: \"0s\" is out of range"}},
			{"close = \"fin\"", {"2:9: write idle or connection"}},
			{"confirm = \"yes\"", {"2:11: \"yes\" is neither true nor false"}},
			{"max_lifetime = \"366d\"", {"2:16: is out of range: write 1s to 365d"}},
			{"on_close = \"drop\"", {"2:12: write keep or kill"}},
			{"session_limit = 0", {"2:17: from 1 to 1048576, or \"none\""}},
			{"session_limit = \"many\"", {"2:17: or \"none\""}},
			{"cooldown = \"none\"", {"2:12: not a time"}},
			{"cooldown = \"8d\"", {"2:12: is out of range: write 0s to 7d"}},
			{"log = \"true\"", {"2:7: log: write true without quotes"}},
		},
		rest);
}

TEST(ConfigErrors, RulePortsAtTheirItem) {
	expect_errors("[[rule]]\nname = \"r\"\ntrigger = [\"1/tcp\", \"0/tcp\", 21]\nopen = [\n  \"2000/tcp\",\n  "
		      "\"3000:4000/udp\",\n"
		      "  \"65536/tcp\" ]\n",
		      {"3:21: trigger: \"0/tcp\": there is no port 0", "3:30: trigger: 21 is not text",
		       "6:3: open: \"3000:4000/udp\": \":\" could mean two things",
		       "7:3: open: \"65536/tcp\": no port is above"});
	expect_errors(
		"[[rule]]\nname = \"r\"\ntrigger = \"21/tcp\"\nopen = [\"1/tcp\", \"1/tcp\"]\n",
		{"3:11: trigger: a list is wanted: write [\"21/tcp\"]", "4:8: open: \"1/tcp\" and \"1/tcp\" overlap"});
	std::string seventeen;
	for (int i = 1; i <= 17; ++i)
		seventeen += fmt::format("\"{}/tcp\", ", 1000 + i);
	expect_errors("[[rule]]\nname = \"r\"\ntrigger = [\"1/tcp\"]\nopen = [" + seventeen + "]\n",
		      {"4:201: open: 17 are too many: write at most 16"});
}

TEST(ConfigErrors, SeveralPortsInOneText) {
	const auto open = [](const std::string &value) {
		return "[[rule]]\nname = \"r\"\ntrigger = [\"1/tcp\"]\nopen = " + value + "\n";
	};
	expect_errors(open("[\"5000,5001/udp\"]"),
		      {"4:9: open: \"5000,5001/udp\": several in one text: write them as separate "
		       "items, as in [\"5000/udp\", \"5001/udp\"]"});
	expect_errors(open("[\"1/tcp\", \"5000-5010/tcp; 6000=7000/udp\"]"),
		      {"4:18: as in [\"5000-5010/tcp\", \"6000=7000/udp\"]"});
	expect_errors(open("\"5000,5001/udp\""), {"4:8: as in [\"5000/udp\", \"5001/udp\"]"});
	expect_errors(open("[\"5000,x/udp\"]"), {"4:9: as separate items, as in [\"50000-50010/tcp\", \"...\"]"});
	expect_errors(open("[\"5000,5001\"]"), {"4:9: as separate items, as in [\"50000-50010/tcp\", \"...\"]"});
}

TEST(ConfigErrors, WhatWordProcessorsAndOtherEncodingsLeave) {
	expect_errors("[gateway]\nwan = \u201ceth0\u201d\n",
		      {"2:7: TOML: \u201c is a typographic quote: write the straight \", as in name = \"ftp\""});
	expect_errors("[gateway]\nwan = \"eth0\u201d\n", {"2:12: TOML: \u201d is a typographic quote"});
	expect_errors("[gateway]\nlan = [\n  \u2018br0\u2019\n]\n", {"3:3: TOML: \u2018 is a typographic quote"});
	expect_errors("[gateway]\nwan =\u00a0\"eth0\"\n", {"2:6: TOML: here is a blank that cannot be broken"});
	// Where they are text they stay.
	expect_errors("[[rule]]\nname = \"r\"\ndescription = \"\u201cx\u201d\" # \u201ey\u201c\ntrigger = "
		      "[\"1/tcp\"]\nopen = "
		      "[\"2000/tcp\"]\n",
		      {});
	expect_errors("# caf\xe9\n", {"1:6: TOML: the file is not UTF-8 (here is the byte e9): save it as UTF-8"});
	expect_errors("[gateway]\nwan = \"\u00e9\xfc\"\n", {"2:9: TOML: the file is not UTF-8 (here is the byte fc)"});
	expect_errors(std::string("\xff\xfe[\0", 4), {"1:1: TOML: the file is UTF-16: save it as UTF-8"});
}

TEST(ConfigErrors, WhatARuleMustHave) {
	expect_errors("[[rule]]\n",
		      {"1:1: name: is missing: write name = ", "1:1: trigger: is missing: write at least one",
		       "1:1: open: is missing: write at least one"});
	expect_errors("[[rule]]\nname = \"\"\ntrigger = []\nopen = []\n",
		      {"2:8: name: \"\": a rule needs a name",
		       "3:11: trigger: the list is empty: write at least one, as in [\"21/tcp\"]",
		       "4:8: open: the list is empty"});
	expect_errors("[[rule]]\nname = \"a b\"\ntrigger = [\"1/tcp\"]\nopen = [\"2000/tcp\"]\n",
		      {"2:8: name: \"a b\": a rule's name is 1 to 31 of A-Z a-z 0-9 . _ -, not beginning with a dot: "
		       "write \"a-b\""});
}

TEST(ConfigErrors, TwoRulesOfOneName) {
	const std::string body = "trigger = [\"1/tcp\"]\nopen = [\"2000/tcp\"]\n";
	expect_errors("[[rule]]\nname = \"r\"\n" + body + "\n[[rule]]\n" + body + "name = \"r\"\n",
		      {"9:8: name: there is already a rule \"r\", at f.toml:1:1"});
}

TEST(ConfigErrors, RulesTogether) {
	const auto rule = [](const std::string &name, const std::string &trigger, const std::string &open) {
		return fmt::format("[[rule]]\nname = \"{}\"\ntrigger = [\"{}\"]\nopen = [\"3000/udp\", \"{}\"]\n", name,
				   trigger, open);
	};
	expect_errors("[gateway]\nreserved = [\"440-450/tcp\"]\n" + rule("r", "1/tcp", "400-441/tcp+udp"),
		      {"6:21: open: rule \"r\" opens \"400-441/tcp+udp\", and 440/tcp is reserved by \"440-450/tcp\""});
	expect_errors("[gateway]\nmax_rules = 1\n" + rule("a", "1/tcp", "1000/tcp") + rule("b", "2/tcp", "1001/tcp"),
		      {"7:1: 2 rules are more than max_rules (1): raise max_rules in [gateway]"});
	std::string many;
	for (int i = 1; i <= 17; ++i)
		many += fmt::format(
			"[[rule]]\nname = \"r{0}\"\ntrigger = [\"{0}/udp\", \"21/tcp\"]\nopen = [\"{1}/tcp\"]\n",
			100 + i, 1000 + i);
	expect_errors(many, {"67:23: trigger: rule \"r117\" is the 17th that triggers on 21/tcp, and 16 is the most: "
			     "r101, r102, "});
}

TEST(ConfigErrors, AllOfThemInOrderAndRulesTogetherDespiteOthers) {
	expect_errors("[gateway]\nreserved = [\"80/tcp\"]\nlan = []\n[[rule]]\nname = \"a\"\ntrigger = [\"1/tcp\"]\n"
		      "open = [\"80/tcp\"]\ntimeout = 5\n[[rule]]\nname = \"b\"\ntrigger = [\"1/tcp\"]\nopen = "
		      "[\"79-81/tcp\"]\n"
		      "[[rule]]\nname = \"b\"\ntrigger = [\"1/tcp\"]\nopen = [\"x\"]\n",
		      {"3:7: lan: the list is empty",
		       "8:11: timeout: ", "12:9: open: rule \"b\" opens \"79-81/tcp\", and 80/tcp is",
		       "14:8: name: there is already a rule \"b\", at f.toml:9:1", "16:9: open: \"x\": not a port"});
}

TEST(ConfigErrors, ADisabledRuleOpensNothing) {
	expect_errors(
		"[gateway]\nreserved = [\"80/tcp\"]\n[[rule]]\nname = \"a\"\nenabled = false\ntrigger = [\"1/tcp\"]\n"
		"open = [\"80/tcp\"]\n",
		{});
}

// S16: what a file says cannot put more than text on the terminal.
TEST(ConfigErrors, MessagesAreOneLineOfPrintableText) {
	const std::string nasty = "\\n\\u001b]0;x\\u0007\\u0080";
	for (const std::string &line : std::vector<std::string>{
		     "name = \"" + nasty + "\"", "trigger = [\"" + nasty + "\"]", "timeout = \"" + nasty + "\"",
		     "remotes = \"" + nasty + "\"", "sources = [\"" + nasty + "\"]", "refresh = \"" + nasty + "\"",
		     "\"" + nasty + "\" = 1", "session_limit = \"" + nasty + "\"",
		     "open = [\"1=" + nasty + "-1/tcp\"]"})
		for (const Diagnostic &error : parse_config("[[rule]]\n" + line + "\n", "f").errors)
			for (const char c : error.text())
				EXPECT_GE(static_cast<unsigned char>(c), 0x20) << error.text();
}

TEST(Diagnostic, TextLeavesOutWhatThereIsNot) {
	EXPECT_EQ((Diagnostic{"f", 2, 3, "m"}.text()), "f:2:3: m");
	EXPECT_EQ((Diagnostic{"f", 0, 0, "m"}.text()), "f: m");
	EXPECT_EQ((Diagnostic{"", 0, 0, "m"}.text()), "m");
}

} // namespace
} // namespace ptrig
