// The configuration's files: the main one, rules.d in name order, standard input, and what cannot be read.
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/samples.h"

namespace ptrig {
namespace {

namespace fs = std::filesystem;
using test::lines_of;

std::string rule_text(const std::string &name, int port) {
	return "[[rule]]\nname = \"" + name + "\"\ntrigger = [\"" + std::to_string(port) + "/tcp\"]\nopen = [\"" +
	       std::to_string(port + 2000) + "/tcp\"]\n";
}

class ConfigFiles : public testing::Test {
protected:
	void SetUp() override {
		std::string pattern = (fs::temp_directory_path() / "ptrig-unit-XXXXXX").string();
		ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
		dir_ = pattern;
	}
	void TearDown() override { fs::remove_all(dir_); }

	void write(const std::string &name, const std::string &text) {
		fs::create_directories((dir_ / name).parent_path());
		std::ofstream(dir_ / name) << text;
	}
	ParsedConfig load() { return load_config(main_file()); }
	std::string main_file() const { return (dir_ / "ptrig.toml").string(); }

	fs::path dir_;
};

TEST_F(ConfigFiles, RulesOfTheDirectoryFollowInNameOrder) {
	write("ptrig.toml", "[gateway]\nlan = [\"br0\"]\n" + rule_text("main", 1));
	write("rules.d/20-b.toml", rule_text("b", 2));
	write("rules.d/10-a.toml", rule_text("a2", 3) + rule_text("a1", 4));
	const ParsedConfig parsed = load();
	EXPECT_EQ(lines_of(parsed.errors), "");
	EXPECT_EQ(parsed.file, main_file());
	std::vector<std::string> names;
	for (const Rule &rule : parsed.config.rules)
		names.push_back(rule.name);
	EXPECT_EQ(names, (std::vector<std::string>{"main", "a2", "a1", "b"}));
	ASSERT_EQ(parsed.origins.size(), 4U);
	EXPECT_EQ(parsed.origins[2].file, (dir_ / "rules.d/10-a.toml").string());
	EXPECT_EQ(parsed.origins[2].line, 5U);
}

TEST_F(ConfigFiles, OnlyTomlFilesOfTheDirectoryCount) {
	write("ptrig.toml", "");
	write("rules.d/a.toml~", "wrong");
	write("rules.d/.a.toml.swp", "wrong");
	write("rules.d/README", "wrong");
	write("rules.d/.toml", "wrong");
	fs::create_symlink("nobody@host.1", dir_ / "rules.d/.#a.toml");
	EXPECT_EQ(lines_of(load().errors), "");
	write("rules.d/.x.toml", rule_text("x", 1));
	EXPECT_EQ(load().config.rules.size(), 1U);
}

TEST_F(ConfigFiles, TheDirectoryHoldsOnlyRules) {
	write("ptrig.toml", "");
	write("rules.d/a.toml", "[gateway]\nlan = [\"br0\"]\n[limit]\n");
	const ParsedConfig parsed = load();
	ASSERT_EQ(parsed.errors.size(), 2U);
	EXPECT_EQ(parsed.errors[0].text(),
		  (dir_ / "rules.d/a.toml").string() +
			  ":1:2: [gateway] belongs into the main file: here can only be [[rule]]");
	EXPECT_NE(parsed.errors[1].message.find("unknown \"limit\": here can be [[rule]]"), std::string::npos);
	EXPECT_TRUE(parsed.config.gateway.lan.empty());
}

TEST_F(ConfigFiles, OneNameInTwoFiles) {
	write("ptrig.toml", "\n" + rule_text("r", 1));
	write("rules.d/a.toml", rule_text("r", 2));
	const ParsedConfig parsed = load();
	ASSERT_EQ(parsed.errors.size(), 1U);
	EXPECT_EQ(parsed.errors[0].text(), (dir_ / "rules.d/a.toml").string() +
						   ":2:8: name: there is already a rule \"r\", at " + main_file() +
						   ":2:1");
}

TEST_F(ConfigFiles, ErrorsOfAllFilesInReadingOrder) {
	write("ptrig.toml", "[gateway]\nreserved = [\"2002/tcp\"]\nlan = 5\n" + rule_text("m", 2));
	write("rules.d/b.toml", "wrong");
	write("rules.d/a.toml", "x = 1\n" + rule_text("a", 2));
	std::vector<std::string> places;
	for (const Diagnostic &error : load().errors)
		places.push_back(fs::path(error.file).filename().string() + ":" + std::to_string(error.line));
	EXPECT_EQ(places,
		  (std::vector<std::string>{"ptrig.toml:3", "ptrig.toml:7", "a.toml:1", "a.toml:5", "b.toml:1"}));
}

TEST_F(ConfigFiles, WhatCannotBeRead) {
	ParsedConfig parsed = load();
	ASSERT_EQ(parsed.errors.size(), 1U);
	EXPECT_EQ(parsed.errors[0].text(), main_file() + ": cannot be read: No such file or directory");
	write("ptrig.toml", "");
	fs::create_directories(dir_ / "rules.d/dir.toml");
	parsed = load();
	ASSERT_EQ(parsed.errors.size(), 1U);
	EXPECT_EQ(parsed.errors[0].text(),
		  (dir_ / "rules.d/dir.toml").string() + ": is a directory: a regular file is wanted");
}

// Whatever lies there: one error, and nobody waits for it.
TEST_F(ConfigFiles, WhatIsNoFile) {
	const auto error_of = [&] {
		const ParsedConfig parsed = load();
		EXPECT_EQ(parsed.errors.size(), 1U) << lines_of(parsed.errors);
		return parsed.errors.empty() ? "" : parsed.errors[0].text();
	};
	write("ptrig.toml", "");
	fs::create_directories(dir_ / "rules.d");
	const std::string path = (dir_ / "rules.d/a.toml").string();
	const auto put = [&](mode_t kind, dev_t device = 0) {
		fs::remove_all(path);
		return ::mknod(path.c_str(), kind | 0600, device) == 0;
	};
	ASSERT_TRUE(put(S_IFIFO));
	EXPECT_EQ(error_of(), path + ": is a pipe (FIFO): a regular file is wanted");
	ASSERT_TRUE(put(S_IFSOCK));
	EXPECT_EQ(error_of(), path + ": is a socket or a device without its hardware: a regular file is wanted");
	fs::remove_all(path);
	fs::create_symlink("/dev/zero", path);
	EXPECT_EQ(error_of(), path + ": is a device: a regular file is wanted");
	fs::remove_all(path);
	fs::create_symlink("a.toml", path);
	EXPECT_EQ(error_of(), path + ": cannot be read: Too many levels of symbolic links");
	// In the place of the main file, and of the directory.
	fs::remove_all(dir_ / "rules.d");
	fs::remove_all(dir_ / "ptrig.toml");
	ASSERT_EQ(::mkfifo(main_file().c_str(), 0600), 0);
	EXPECT_EQ(error_of(), main_file() + ": is a pipe (FIFO): a regular file is wanted");
	fs::remove_all(dir_ / "ptrig.toml");
	write("ptrig.toml", "");
	ASSERT_EQ(::mkfifo((dir_ / "rules.d").c_str(), 0600), 0);
	EXPECT_EQ(error_of(), (dir_ / "rules.d").string() + ": cannot be read: Not a directory");
	// A link to a file is a file.
	fs::remove_all(dir_ / "rules.d");
	write("elsewhere", rule_text("r", 1));
	fs::create_directories(dir_ / "rules.d");
	fs::create_symlink("../elsewhere", path);
	EXPECT_EQ(load().config.rules.size(), 1U);
	EXPECT_EQ(lines_of(load().errors), "");
}

TEST_F(ConfigFiles, StandardInput) {
	write("in", rule_text("r", 1) + "zorglub = 1\n");
	write("rules.d/a.toml", rule_text("a", 2));
	const int kept = ::dup(STDIN_FILENO);
	ASSERT_NE(::freopen((dir_ / "in").c_str(), "r", stdin), nullptr);
	const ParsedConfig parsed = load_config("-");
	::dup2(kept, STDIN_FILENO);
	::close(kept);
	EXPECT_EQ(parsed.config.rules.size(), 1U);
	ASSERT_EQ(parsed.errors.size(), 1U);
	EXPECT_EQ(parsed.errors[0].text().find("<stdin>:5:1: unknown key"), 0U) << parsed.errors[0].text();
}

} // namespace
} // namespace ptrig
