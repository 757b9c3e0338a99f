// Where a rule is written down, and writing it there: what `--save` needs. Touches only files.
#pragma once

#include <string>

#include "loader/result.h"
#include "loader/rule_file.h"

namespace ptrig::cli {

/// The file of rules.d beside `config_path` that belongs to a rule of this name.
std::string rule_file_path(const std::string &config_path, const std::string &name);

/// May `ptrig rule … --save` own this rule's file? kInput if the rule is written somewhere else, or its file
/// holds other rules; also if the configuration has errors. Changes nothing.
Done check_saveable(const std::string &config_path, const std::string &name);

/// A rule's new file, written beside its place and moved there by commit(), so that nobody ever reads half of it.
/// What can fail (directory, permissions, disk space) fails in prepare().
class RuleFile {
public:
	static Result<RuleFile> prepare(const std::string &path, const std::string &text);
	RuleFile(RuleFile &&other) noexcept;
	RuleFile &operator=(RuleFile &&) = delete;
	~RuleFile(); ///< without commit() everything is as before
	Done commit();

private:
	RuleFile(std::string path, std::string temporary) : path_(std::move(path)), temporary_(std::move(temporary)) {}
	std::string path_, temporary_;
};

/// Removes a rule's own file. Done if there is none.
Done remove_rule_file(const std::string &path);

} // namespace ptrig::cli
