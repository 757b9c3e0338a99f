// Rule keys from the command line, checked as in a file; and what only a whole rule can show.
#include <gtest/gtest.h>

#include "tests/unit/samples.h"

namespace ptrig {
namespace {

using test::open_ports;
using test::ports;
using test::prefix;

Rule changed(std::string_view key, const std::vector<std::string> &values) {
	Rule rule = test::rule("r", "21/tcp", "50000/tcp");
	const Done done = set_rule_key(rule, key, values);
	EXPECT_TRUE(done) << key << ": " << (done ? "" : done.error().what);
	return rule;
}

TEST(SetRuleKey, ListsTakeSeveralValuesAndCommas) {
	const std::vector<PortRange> expected{ports("21/tcp"), ports("80-90/udp"), ports("5/tcp")};
	EXPECT_EQ(changed("trigger", {"21/tcp", "80-90/udp", "5/tcp"}).trigger, expected);
	EXPECT_EQ(changed("trigger", {"21/tcp, 80-90/udp", "5/tcp,"}).trigger, expected);
	EXPECT_EQ(changed("open", {"6000-6010=7000/udp"}).open,
		  std::vector<OpenRange>{open_ports("6000-6010=7000/udp")});
	EXPECT_EQ(changed("remotes", {"10.0.0.0/8,192.0.2.1"}).remotes,
		  (Remotes{Remotes::Kind::kSet, {prefix("10.0.0.0/8"), prefix("192.0.2.1")}}));
	EXPECT_EQ(changed("sources", {"10.0.0.0/8", "02:00:5e:10:00:01"}).sources.macs.size(), 1U);
}

TEST(SetRuleKey, WordsNumbersAndText) {
	EXPECT_EQ(changed("name", {"other"}).name, "other");
	EXPECT_FALSE(changed("enabled", {"false"}).enabled);
	EXPECT_TRUE(changed("confirm", {"true"}).confirm);
	EXPECT_EQ(changed("description", {"one, two"}).description, "one, two");
	EXPECT_EQ(changed("description", {""}).description, "");
	EXPECT_EQ(changed("timeout", {"90s"}).timeout, seconds(90));
	EXPECT_EQ(changed("session_limit", {"12"}).session_limit, 12U);
	EXPECT_EQ(changed("session_limit", {"none"}).session_limit, std::nullopt);
	EXPECT_EQ(changed("yield_after", {"1m"}).yield_after, std::chrono::minutes(1));
	EXPECT_EQ(changed("remotes", {"contacted"}).remotes.kind, Remotes::Kind::kContacted);
	EXPECT_EQ(changed("sources", {"routed"}).sources.kind, Sources::Kind::kRouted);
	EXPECT_EQ(changed("conflict", {"takeover"}).conflict, Conflict::kTakeover);
}

TEST(SetRuleKey, EveryKeyCanBeSetAsItIsPrinted) {
	for (unsigned seed = 0; seed < 50; ++seed) {
		const Rule rule = test::RandomConfig(seed).rule("r");
		const std::string text = to_toml(rule);
		Rule copy;
		copy.name = "r";
		for (const std::string &key : rule_keys()) {
			const std::size_t at = text.find("\n" + key + " = ");
			if (at == std::string::npos || key == "description")
				continue;
			const std::size_t begin = at + key.size() + 4;
			std::string value = text.substr(begin, text.find('\n', begin) - begin);
			std::erase_if(value, [](char c) { return c == '"' || c == '[' || c == ']'; });
			const Done done = set_rule_key(copy, key, {value});
			ASSERT_TRUE(done) << key << " " << value << ": " << done.error().what;
		}
		copy.description = rule.description;
		EXPECT_EQ(copy, rule);
	}
}

TEST(SetRuleKey, ErrorsNameTheKeyAndChangeNothing) {
	const struct {
		const char *key;
		std::vector<std::string> values;
		const char *says;
	} cases[] = {
		{"timeot", {"10m"}, "unknown key \"timeot\": did you mean timeout?"},
		{"zorglub", {"1"}, "unknown key \"zorglub\": a rule's keys are name, enabled, "},
		{"timeout",
		 {"600"},
		 "timeout: \"600\": a unit is required: write \"600s\" for seconds or \"600m\" for minutes"},
		{"timeout", {"1m", "2m"}, "timeout: only one value is wanted"},
		{"timeout", {}, "timeout: a value is missing"},
		{"timeout", {""}, "timeout: a value is missing"},
		{"trigger", {"21"}, "trigger: \"21\": the protocol is missing"},
		{"trigger", {}, "trigger: the list is empty"},
		{"trigger", {"21/tcp", "6000:6010/tcp"}, "trigger: \"6000:6010/tcp\": a range is written with \"-\""},
		{"open", {"8080:80/tcp"}, "write \"8080=80/tcp\""},
		{"enabled", {"yes"}, "enabled: \"yes\" is neither true nor false"},
		{"session_limit", {"-1"}, "session_limit: \"-1\" is not a whole number from 1 to 1048576, or \"none\""},
		{"remotes", {"contacted", "10.0.0.0/8"}, "remotes: \"contacted\" stands alone"},
		{"conflict",
		 {"none"},
		 "conflict: \"none\" is none of the words that can be here: write hold or takeover"},
		{"name", {"a b"}, "name: \"a b\""},
		{"description", {"a\xff"}, "description: one line of text"},
	};
	for (const auto &c : cases) {
		Rule rule = test::rule("r", "21/tcp", "50000/tcp");
		const Rule before = rule;
		const Done done = set_rule_key(rule, c.key, c.values);
		ASSERT_FALSE(done) << c.key;
		EXPECT_EQ(done.error().status, Status::kInput);
		EXPECT_NE(done.error().what.find(c.says), std::string::npos) << done.error().what;
		EXPECT_EQ(rule, before);
	}
}

TEST(RuleKeys, AreThoseOfTheContractInItsOrder) {
	EXPECT_EQ(rule_keys(), (std::vector<std::string>{"enabled", "description", "trigger", "trigger_remotes",
							 "sources", "open", "remotes", "timeout", "refresh", "conflict",
							 "yield_after", "close", "confirm", "max_lifetime", "on_close",
							 "session_limit", "cooldown", "log"}));
}

TEST(ValidateRule, SeesWhatNoSingleKeyShows) {
	const auto wrong = [](auto change, std::string_view says) {
		Rule rule = test::rule("r", "21/tcp", "50000-50010/tcp");
		ASSERT_TRUE(validate_rule(rule));
		change(rule);
		const Done done = validate_rule(rule);
		ASSERT_FALSE(done) << says;
		EXPECT_EQ(done.error().status, Status::kInput);
		EXPECT_NE(done.error().what.find(says), std::string::npos) << done.error().what;
	};
	wrong([](Rule &r) { r.name.clear(); }, "name: is missing");
	wrong([](Rule &r) { r.name = std::string(32, 'a'); }, "name: ");
	wrong([](Rule &r) { r.trigger.clear(); }, "trigger: is missing: write at least one");
	wrong([](Rule &r) { r.open.clear(); }, "open: is missing: write at least one");
	wrong([](Rule &r) { r.trigger.resize(17, ports("21/tcp")); }, "trigger: 17 ranges are too many");
	wrong([](Rule &r) { r.open.push_back(open_ports("50010-50020=1/tcp+udp")); },
	      "open: \"50000-50010/tcp\" and \"50010-50020=1/tcp+udp\" overlap");
	wrong([](Rule &r) { r.trigger[0].first = 0; }, "trigger: there is a range that is none");
	wrong([](Rule &r) { r.trigger[0].protos = 4; }, "trigger: there is a range that is none");
	wrong([](Rule &r) { r.open[0].host_first = 65530; }, "open: there is a range that is none");
	wrong([](Rule &r) { r.open[0].wan.last = 5; }, "open: there is a range that is none");
	wrong([](Rule &r) { r.timeout = seconds(0); }, "timeout: 0s is out of range");
	wrong([](Rule &r) { r.timeout = std::chrono::hours(169); }, "timeout: 7d1h is out of range");
	wrong([](Rule &r) { r.yield_after = r.timeout; }, "yield_after: 10m is not shorter than the timeout of 10m");
	wrong([](Rule &r) { r.sources.kind = Sources::Kind::kSet; }, "sources: the list is empty");
	wrong([](Rule &r) { r.remotes.kind = Remotes::Kind::kSet; }, "remotes: the list is empty");
}

TEST(ValidateRule, OnePortMayOpenForBothProtocolsAndSeveralMayLeadToOne) {
	Rule rule = test::rule("r", "21/tcp", "50000=80/tcp");
	rule.open.push_back(open_ports("50000=81/udp"));
	rule.open.push_back(open_ports("50001=80/tcp"));
	EXPECT_TRUE(validate_rule(rule));
}

} // namespace
} // namespace ptrig
