// What is printed reads back the same: `export` is what `apply` accepts.
#include <gtest/gtest.h>

#include "tests/unit/samples.h"

namespace ptrig {
namespace {

using test::lines_of;

TEST(RoundTrip, RandomConfigurations) {
	for (unsigned seed = 0; seed < 300; ++seed) {
		const Config config = test::RandomConfig(seed).config(seed % 7);
		const std::string text = to_toml(config);
		const ParsedConfig parsed = parse_config(text, "f");
		ASSERT_EQ(lines_of(parsed.errors), "") << "seed " << seed << "\n" << text;
		ASSERT_EQ(parsed.config, config) << "seed " << seed << "\n" << text;
		EXPECT_EQ(to_toml(parsed.config), text);
	}
}

TEST(RoundTrip, OneRule) {
	for (unsigned seed = 0; seed < 100; ++seed) {
		const Rule rule = test::RandomConfig(seed).rule("r");
		const ParsedConfig parsed = parse_config(to_toml(rule), "f");
		ASSERT_EQ(parsed.config.rules.size(), 1U);
		EXPECT_EQ(parsed.config.rules[0], rule) << to_toml(rule);
	}
}

TEST(RoundTrip, ARuleSaysOnlyWhatIsNotDefault) {
	EXPECT_EQ(to_toml(test::rule("ftp-active", "21/tcp", "50000-50010/tcp")),
		  "[[rule]]\nname = \"ftp-active\"\ntrigger = [\"21/tcp\"]\nopen = [\"50000-50010/tcp\"]\n");
}

TEST(RoundTrip, AnEmptyConfigurationSaysItsDefaults) {
	const std::string text = to_toml(Config());
	EXPECT_NE(text.find("wan = \"auto\"\n"), std::string::npos);
	EXPECT_NE(text.find("tcp_established = \"2h4m\"\n"), std::string::npos);
	EXPECT_NE(text.find("leases_per_host = 128\n"), std::string::npos);
	EXPECT_EQ(parse_config(text, "f").config, Config());
}

} // namespace
} // namespace ptrig
