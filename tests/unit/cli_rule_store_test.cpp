// --save: which files it may write, and that nobody ever sees half of one.
#include "cli/rule_store.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace ptrig::cli {
namespace {

namespace fs = std::filesystem;

class RuleStore : public testing::Test {
protected:
	RuleStore() {
		std::string pattern = testing::TempDir() + "ptrig-store-XXXXXX";
		dir_ = mkdtemp(pattern.data());
		write("ptrig.toml", "[gateway]\nwan = \"ppp0\"\nlan = [\"br0\"]\n" + rule("main"));
	}
	~RuleStore() override { fs::remove_all(dir_); }

	static std::string rule(const std::string &name) {
		return "[[rule]]\nname = \"" + name + "\"\ntrigger = [\"21/tcp\"]\nopen = [\"50000/tcp\"]\n";
	}
	void write(const std::string &name, const std::string &text) {
		fs::create_directories((dir_ / name).parent_path());
		std::ofstream(dir_ / name) << text;
	}
	static std::string read(const fs::path &path) {
		std::ifstream file(path);
		return {std::istreambuf_iterator<char>(file), {}};
	}
	std::string config() const { return dir_ / "ptrig.toml"; }
	std::size_t files() const {
		return static_cast<std::size_t>(std::distance(fs::directory_iterator(dir_ / "rules.d"), {}));
	}

	fs::path dir_;
};

TEST_F(RuleStore, ANewRuleHasItsOwnFile) {
	ASSERT_TRUE(check_saveable(config(), "x"));
	const std::string path = rule_file_path(config(), "x");
	EXPECT_EQ(path, (dir_ / "rules.d/x.toml").string());
	auto file = RuleFile::prepare(path, rule("x"));
	ASSERT_TRUE(file) << file.error().what;
	EXPECT_FALSE(fs::exists(path));
	ASSERT_TRUE(file->commit());
	EXPECT_EQ(read(path), rule("x"));
	EXPECT_EQ(files(), 1U);
	EXPECT_EQ(fs::status(path).permissions() & fs::perms::all, fs::perms{0644});
	const auto parsed = load_config(config());
	EXPECT_TRUE(parsed.errors.empty());
	EXPECT_EQ(parsed.config.rules.size(), 2U);
	EXPECT_TRUE(check_saveable(config(), "x")) << "its own file is written again";
}

TEST_F(RuleStore, GivenUpLeavesNothing) {
	write("rules.d/x.toml", rule("x"));
	{
		auto file = RuleFile::prepare(rule_file_path(config(), "x"), "something else");
		ASSERT_TRUE(file);
	}
	EXPECT_EQ(read(dir_ / "rules.d/x.toml"), rule("x"));
	EXPECT_EQ(files(), 1U);
}

TEST_F(RuleStore, ARuleOfTheMainFileIsNotOurs) {
	const Done done = check_saveable(config(), "main");
	ASSERT_FALSE(done);
	EXPECT_EQ(done.error().status, Status::kInput);
	EXPECT_NE(done.error().what.find(config() + ":4"), std::string::npos) << done.error().what;
}

TEST_F(RuleStore, AFileWithOtherRulesIsNotOurs) {
	write("rules.d/x.toml", rule("x") + rule("y"));
	EXPECT_FALSE(check_saveable(config(), "x"));
	EXPECT_FALSE(check_saveable(config(), "y"));
	EXPECT_TRUE(check_saveable(config(), "z"));
}

TEST_F(RuleStore, AWrongConfigurationIsSaid) {
	write("rules.d/broken.toml", "[[rule]\n");
	const Done done = check_saveable(config(), "x");
	ASSERT_FALSE(done);
	EXPECT_NE(done.error().what.find("broken.toml:1:"), std::string::npos) << done.error().what;
}

TEST_F(RuleStore, RemovingTwiceIsDone) {
	write("rules.d/x.toml", rule("x"));
	EXPECT_TRUE(remove_rule_file(rule_file_path(config(), "x")));
	EXPECT_FALSE(fs::exists(dir_ / "rules.d/x.toml"));
	EXPECT_TRUE(remove_rule_file(rule_file_path(config(), "x")));
}

TEST_F(RuleStore, AMissingDirectoryIsAnError) {
	EXPECT_FALSE(RuleFile::prepare((dir_ / "no/rules.d/x.toml").string(), "x"));
}

} // namespace
} // namespace ptrig::cli
