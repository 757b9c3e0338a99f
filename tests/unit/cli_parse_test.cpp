// The command line without a gateway: what is the user's error (2), what is "no gateway" (3), help and version.
#include "cli/changes.h"
#include "cli/cli.h"
#include "cli/rule_options.h"
#include "loader/rule_file.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <regex>
#include <unistd.h>

namespace ptrig::cli {
namespace {

struct Outcome {
	int status = 0;
	std::string error, out, err;
};

Outcome ptrig(std::vector<std::string> arguments) {
	char *out_text = nullptr, *err_text = nullptr;
	std::size_t out_size = 0, err_size = 0;
	FILE *out = open_memstream(&out_text, &out_size), *err = open_memstream(&err_text, &err_size);
	arguments.insert(arguments.begin(), {"--pin-dir", "/nonexistent/ptrig"});
	const Done done = run_cli(arguments, out, err);
	std::fclose(out);
	std::fclose(err);
	Outcome outcome{done ? 0 : static_cast<int>(done.error().status),
			done ? "" : done.error().what,
			{out_text, out_size},
			{err_text, err_size}};
	std::free(out_text);
	std::free(err_text);
	return outcome;
}

std::string write_file(const std::string &text) {
	const std::string path = testing::TempDir() + "ptrig-cli-" + std::to_string(getpid()) + ".toml";
	std::ofstream(path) << text;
	return path;
}

constexpr const char *kGood = R"([gateway]
wan = "ppp0"
lan = ["br0"]
[[rule]]
name = "irc-ident"
trigger = ["6667/tcp"]
open = ["60000/tcp"]
remotes = "contacted"
)";

TEST(Cli, VersionAndHelpGoToStandardOutput) {
	EXPECT_TRUE(std::regex_match(ptrig({"--version"}).out, std::regex("ptrig [0-9]+\\.[0-9]+\\.[0-9]+\n")));
	for (const std::vector<std::string> &command : {std::vector<std::string>{},
							{"status"},
							{"check"},
							{"rule"},
							{"rule", "list"},
							{"rule", "show"},
							{"rule", "add"},
							{"rule", "set"},
							{"rule", "remove"},
							{"rule", "enable"},
							{"rule", "disable"},
							{"apply"},
							{"export"},
							{"lease", "list"},
							{"lease", "close"},
							{"session", "list"},
							{"session", "close"},
							{"monitor"},
							{"up"},
							{"run"},
							{"down"}}) {
		auto arguments = command;
		arguments.push_back("--help");
		const Outcome outcome = ptrig(arguments);
		EXPECT_EQ(outcome.status, 0) << outcome.error;
		EXPECT_NE(outcome.out.find("  ptrig "), std::string::npos) << "no example: " << outcome.out;
	}
}

TEST(Cli, WithoutAGatewayItIsThree) {
	for (const std::vector<std::string> &command :
	     {std::vector<std::string>{},
	      {"status", "-j"},
	      {"-j", "rule", "list"},
	      {"rule"},
	      {"rule", "ls"},
	      {"rule", "show", "x"},
	      {"rule", "add", "x", "--trigger", "21/tcp", "--open", "50000/tcp"},
	      {"rule", "add", "--trigger", "21/tcp", "x", "--open", "50000/tcp"},
	      {"rule", "set", "x", "--timeout", "5m"},
	      {"rule", "del", "x"},
	      {"rule", "delete", "x"},
	      {"rule", "remove", "status"},
	      {"rule", "enable", "x"},
	      {"rule", "disable", "x"},
	      {"lease", "list", "--rule", "x", "--port", "21/tcp", "-j"},
	      {"lease", "ls"},
	      {"lease", "close", "x"},
	      {"session", "list", "--host", "192.168.77.11"},
	      {"session", "close", "--all"},
	      {"apply"},
	      {"export"},
	      {"monitor"}}) {
		const Outcome outcome = ptrig(command);
		EXPECT_EQ(outcome.status, 3) << testing::PrintToString(command) << outcome.error;
		EXPECT_EQ(outcome.error.find('\n'), std::string::npos);
	}
}

TEST(Cli, WhatIsNotUnderstoodIsTwo) {
	for (const std::vector<std::string> &command :
	     {std::vector<std::string>{"frob"},
	      {"--frob"},
	      {"rule", "frob"},
	      {"lease", "list", "--hots", "1"},
	      {"--pin-dir"},
	      {"rule", "show"},
	      {"rule", "add"},
	      {"rule", "add", "x"},
	      {"rule", "add", "x", "y", "--trigger", "21/tcp"},
	      {"rule", "add", "x", "--trigger", "21/tcp"},
	      {"rule", "add", "a b", "--trigger", "21/tcp", "--open", "22/tcp"},
	      {"rule", "add", "x", "--trigger", "0/tcp", "--open", "22/tcp"},
	      {"rule", "set", "x"},
	      {"rule", "set", "x", "--timeout", "30"},
	      {"lease", "close"},
	      {"lease", "list", "--host", "1.2.3"},
	      {"lease", "list", "--port", "21"},
	      {"session", "close"},
	      {"session", "close", "--all", "--rule", "x"},
	      {"export", "-j"},
	      {"apply", "/nonexistent.toml"},
	      {"up", "-c", "/nonexistent.toml"},
	      {"check", "/nonexistent.toml"}}) {
		const Outcome outcome = ptrig(command);
		EXPECT_EQ(outcome.status, 2) << testing::PrintToString(command) << outcome.error;
		EXPECT_FALSE(outcome.error.empty());
		EXPECT_EQ(outcome.error.find('\n'), std::string::npos) << outcome.error;
	}
}

TEST(Cli, ErrorsNameTheCommandAndTheNearestWord) {
	EXPECT_EQ(ptrig({"statsu"}).error, "command line: \"statsu\" is not understood here: did you mean status?");
	EXPECT_EQ(ptrig({"lease", "lst"}).error, "lease: \"lst\" is not understood here: did you mean list?");
	EXPECT_EQ(ptrig({"lease", "list", "--hots", "1"}).error,
		  "lease list: \"--hots\" is not understood here: did you mean --host?");
	EXPECT_TRUE(ptrig({"rule", "add", "x", "--trigger", "0/tcp"}).error.starts_with("rule add: trigger: "));
	EXPECT_TRUE(ptrig({}).error.starts_with("status: "));
}

TEST(Cli, ListsAreRepeatedOrHaveCommas) {
	Cli cli;
	CLI::App app;
	RuleOptions options;
	add_rule_options(&app, options);
	app.parse("--trigger 9/tcp --open 113/tcp,6000-6010=7000/udp --trigger 7000/udp");
	Rule rule;
	ASSERT_TRUE(set_given_keys(rule, options));
	EXPECT_EQ(rule.trigger, (std::vector{*parse_port_range("9/tcp"), *parse_port_range("7000/udp")}));
	ASSERT_EQ(rule.open.size(), 2U);
}

TEST(Cli, EveryKeyIsAnOptionInBothSpellings) {
	const std::string help = ptrig({"rule", "add", "--help"}).out;
	for (const auto &key : rule_keys()) {
		if (key == "name")
			continue;
		std::string dashed = key;
		std::replace(dashed.begin(), dashed.end(), '_', '-');
		EXPECT_NE(help.find("--" + dashed + " "), std::string::npos) << key;
		for (const std::string &spelling : {key, dashed}) {
			const Outcome outcome = ptrig({"rule", "set", "x", "--" + spelling, "\1"});
			EXPECT_EQ(outcome.status, 2) << key;
			EXPECT_TRUE(outcome.error.starts_with("rule set: " + key + ": ")) << outcome.error;
		}
	}
}

TEST(Cli, CheckPrintsEveryError) {
	const std::string path = write_file("[gateway]\nwan = 7\nlan = [\"br0\"]\n[[rule]]\nname = \"x\"\n"
					    "trigger = [\"0/tcp\"]\nopen = [\"1-2/tcp\"]\n");
	const Outcome outcome = ptrig({"check", path});
	EXPECT_EQ(outcome.status, 2);
	EXPECT_NE(outcome.out.find(path + ":2:"), std::string::npos) << outcome.out;
	EXPECT_NE(outcome.out.find(path + ":6:"), std::string::npos) << outcome.out;
	const Json json = Json::parse(ptrig({"check", "-j", path}).out);
	ASSERT_EQ(json["errors"].size(), 2U);
	EXPECT_EQ(json["errors"][0]["file"], path);
	EXPECT_EQ(json["errors"][0]["line"], 2);
	EXPECT_TRUE(json["errors"][0]["column"].is_number());
	EXPECT_TRUE(json["errors"][0]["message"].is_string());
	unlink(path.c_str());
}

TEST(Cli, CheckFindsWhatOnlyTheWholeShows) {
	std::string text = kGood;
	for (int i = 0; i < 17; ++i)
		text += "[[rule]]\nname = \"r" + std::to_string(i) + "\"\ntrigger = [\"70/tcp\"]\nopen = [\"" +
			std::to_string(50000 + i) + "/tcp\"]\n";
	const std::string path = write_file(text);
	const Json json = Json::parse(ptrig({"check", "-j", path}).out);
	ASSERT_EQ(json["errors"].size(), 1U) << json;
	EXPECT_GT(json["errors"][0]["line"], 8);
	unlink(path.c_str());
}

TEST(Cli, CheckSaysWhatTheMapsTake) {
	const std::string path = write_file(kGood);
	const Outcome outcome = ptrig({"check", path});
	EXPECT_EQ(outcome.status, 0) << outcome.error << outcome.out;
	EXPECT_NE(outcome.out.find("the maps take "), std::string::npos) << outcome.out;
	EXPECT_GT(Json::parse(ptrig({"check", "-j", path}).out)["memory_bytes"], 1 << 20);
	unlink(path.c_str());
}

TEST(Changes, SettingsAndRulesThatDiffer) {
	Config before, after;
	Rule rule;
	rule.name = "a";
	rule.trigger = {*parse_port_range("21/tcp")};
	rule.open = {*parse_open_range("113/tcp")};
	before.rules = {rule};
	rule.timeout = seconds(300);
	after.rules = {rule};
	rule.name = "b";
	after.rules.push_back(rule);
	after.timeouts.udp = seconds(180);
	EXPECT_EQ(setting_changes(before, after), std::vector<std::string>{"~ [timeouts] udp = \"5m\" → \"3m\""});
	EXPECT_EQ(setting_changes(after, after), std::vector<std::string>{});
	EXPECT_EQ(rule_changes(before, after, diff_rules(before.rules, after.rules)),
		  (std::vector<std::string>{"~ a: timeout 10m → 5m", "+ b: trigger 21/tcp, open 113/tcp"}));
	EXPECT_EQ(rule_changes(after, before, diff_rules(after.rules, before.rules)).size(), 2U);
}

} // namespace
} // namespace ptrig::cli
