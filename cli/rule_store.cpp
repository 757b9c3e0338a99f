// rules.d/NAME.toml: atomically written, and never one that somebody else wrote other rules into.
#include "cli/rule_store.h"

#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace ptrig::cli {

namespace {

std::string directory_of(const std::string &path) {
	return std::filesystem::path(path).parent_path().string();
}

Done write_all(int fd, const std::string &text, const std::string &path) {
	for (std::size_t done = 0; done < text.size();) {
		const ssize_t written = write(fd, text.data() + done, text.size() - done);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return system_error("write " + path);
		done += static_cast<std::size_t>(written);
	}
	if (fchmod(fd, 0644) != 0 || fsync(fd) != 0)
		return system_error("write " + path);
	return {};
}

/// A name in a directory lasts only once the directory is on disk.
Done sync_directory(const std::string &path) {
	const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return system_error("open " + path);
	const int failed = fsync(fd) != 0 ? errno : 0;
	close(fd);
	if (failed != 0 && failed != EINVAL) // some file systems cannot
		return system_error("sync " + path, failed);
	return {};
}

} // namespace

std::string rule_file_path(const std::string &config_path, const std::string &name) {
	const std::string directory = directory_of(config_path);
	return (directory.empty() ? "rules.d/" : directory + "/rules.d/") + name + ".toml";
}

Done check_saveable(const std::string &config_path, const std::string &name) {
	const std::string own = rule_file_path(config_path, name);
	const ParsedConfig parsed = load_config(config_path);
	if (!parsed.errors.empty())
		return fail("save: " + parsed.errors.front().text(), Status::kInput);
	for (std::size_t i = 0; i < parsed.config.rules.size(); ++i) {
		const bool named = parsed.config.rules[i].name == name;
		const RuleOrigin &origin = parsed.origins[i];
		if (named && origin.file != own)
			return fail(fmt::format("save: the rule is in {}:{}: change it there, then `ptrig apply`; or "
						"leave out --save",
						origin.file, origin.line),
				    Status::kInput);
		if (!named && origin.file == own)
			return fail(
				fmt::format(
					"save: {} holds other rules too (line {}): change it there, then `ptrig apply`",
					own, origin.line),
				Status::kInput);
	}
	return {};
}

Result<RuleFile> RuleFile::prepare(const std::string &path, const std::string &text) {
	const std::string directory = directory_of(path);
	if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST)
		return system_error("save: make " + directory);
	// No name that ends in .toml: nobody reads it before it is whole.
	std::string temporary = path + ".XXXXXX";
	const int fd = mkostemp(temporary.data(), O_CLOEXEC);
	if (fd < 0)
		return system_error("save: make a file in " + directory);
	RuleFile file(path, temporary);
	const Done written = write_all(fd, text, temporary);
	close(fd);
	if (!written)
		return within("save", written.error());
	return file;
}

RuleFile::RuleFile(RuleFile &&other) noexcept
    : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, {})) {}

RuleFile::~RuleFile() {
	if (!temporary_.empty())
		unlink(temporary_.c_str());
}

Done RuleFile::commit() {
	if (std::rename(temporary_.c_str(), path_.c_str()) != 0)
		return system_error("save: rename to " + path_);
	temporary_.clear();
	return sync_directory(directory_of(path_));
}

Done remove_rule_file(const std::string &path) {
	if (unlink(path.c_str()) != 0) {
		if (errno == ENOENT)
			return {};
		return system_error("save: remove " + path);
	}
	return sync_directory(directory_of(path));
}

} // namespace ptrig::cli
