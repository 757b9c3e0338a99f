// The configuration file: TOML to Config with every error at its line and column, and back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "loader/rule.h"

namespace ptrig {

/// One finding in a file. line and column count from 1; 0: none (the file as a whole).
struct Diagnostic {
	std::string file;
	unsigned line = 0;
	unsigned column = 0;
	std::string message;
	std::string text() const; ///< "FILE:LINE:COL: message", without the parts that there are not
};

/// Where a rule was written, for warnings that come later.
struct RuleOrigin {
	std::string file;
	unsigned line = 0;
	unsigned column = 0;
};

struct ParsedConfig {
	std::string file; ///< the main file's name
	Config config;
	std::vector<RuleOrigin> origins; ///< one per config.rules
	std::vector<Diagnostic> errors;  ///< all of them; config is to be used only if there are none
};

/// Parse a whole configuration from text; `file` is its name in messages.
ParsedConfig parse_config(std::string_view text, const std::string &file);
/// FILE, then (when FILE is the default path /etc/ptrig/ptrig.toml, or has a rules.d beside it) its
/// directory's rules.d/*.toml in name order (rules only). "-" reads standard input.
ParsedConfig load_config(const std::string &path);

/// One rule key from the command line, checked as in a file: key "timeout", values {"10m"}; "name" is a key too.
/// Several values for list keys; commas inside a value separate too. Errors name the key.
Done set_rule_key(Rule &rule, std::string_view key, const std::vector<std::string> &values);
/// What no single key can show: no trigger, no open port, yield_after >= timeout, too many ranges, ...
Done validate_rule(const Rule &rule);

std::string to_toml(const Config &config); ///< parse_config gives the same Config back
std::string to_toml(const Rule &rule);     ///< one [[rule]] table
/// The names of every rule key of the contract, in its order ("name", which stands before them, is not among them).
const std::vector<std::string> &rule_keys();

} // namespace ptrig
