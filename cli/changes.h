// What an apply or edit did or would do, as +, -, ~ lines and as JSON.
#pragma once

#include <string>
#include <vector>

#include "cli/cli.h"
#include "loader/gateway.h"

namespace ptrig::cli {

/// The settings outside the rules that differ: "~ [timeouts] udp = \"5m\" → \"3m\"". Pure.
std::vector<std::string> setting_changes(const Config &before, const Config &after);
/// The rules that differ, a line each. Pure.
std::vector<std::string> rule_changes(const Config &before, const Config &after, const std::vector<RuleDiff> &changes);
/// Prints the difference on cli.out and what else is to be known on cli.err.
void print_changes(Cli &cli, const Config &before, const Config &after, const ApplyResult &result, bool dry_run);
/// Notes and ended leases, on cli.err.
void say_notes(Cli &cli, const ApplyResult &result);

} // namespace ptrig::cli
