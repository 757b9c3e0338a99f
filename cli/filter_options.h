// --rule, --host, --remote and --port, as lease and session commands take them.
#pragma once

#include <optional>
#include <string>

#include "cli/cli.h"

namespace ptrig::cli {

struct FilterOptions {
	std::string rule, host, remote, port;
};
void add_rule_option(CLI::App *command, FilterOptions &options);
void add_host_option(CLI::App *command, FilterOptions &options);
void add_remote_option(CLI::App *command, FilterOptions &options);
void add_port_option(CLI::App *command, FilterOptions &options);

/// The filter they stand for. Errors (kInput) name the option.
Result<Filter> to_filter(const FilterOptions &options);

} // namespace ptrig::cli
