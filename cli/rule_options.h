// One option per key of a rule, for `rule add` and `rule set`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/cli.h"

namespace ptrig::cli {

/// What the command line says about a rule: key -> the values given, in order.
struct RuleOptions {
	std::string name;
	std::map<std::string, std::vector<std::string>> values;
	bool save = false;
};

/// "--trigger-remotes" for the key "trigger_remotes", and so on for every key.
void add_rule_options(CLI::App *command, RuleOptions &options);
/// The keys that were given, set in `rule`. Errors (kInput) name the option.
Done set_given_keys(Rule &rule, const RuleOptions &options);

} // namespace ptrig::cli
