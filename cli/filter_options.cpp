// Text of the filter options to a Filter.
#include "cli/filter_options.h"

namespace ptrig::cli {

void add_rule_option(CLI::App *command, FilterOptions &options) {
	add_value(command, "--rule", options.rule, "Only of this rule", "RULE");
}
void add_host_option(CLI::App *command, FilterOptions &options) {
	add_value(command, "--host", options.host, "Only of this LAN host", "ADDRESS");
}
void add_remote_option(CLI::App *command, FilterOptions &options) {
	add_value(command, "--remote", options.remote, "Only with this remote", "ADDRESS");
}
void add_port_option(CLI::App *command, FilterOptions &options) {
	add_value(command, "--port", options.port, "Only with this WAN port", "PORT/PROTO");
}

Result<Filter> to_filter(const FilterOptions &options) {
	Filter filter;
	if (!options.rule.empty())
		filter.rule = options.rule;
	if (!options.host.empty()) {
		const auto host = parse_ip4(options.host);
		if (!host)
			return within("--host", host.error());
		filter.host = *host;
	}
	if (!options.remote.empty()) {
		const auto remote = parse_ip4(options.remote);
		if (!remote)
			return within("--remote", remote.error());
		filter.remote = *remote;
	}
	if (!options.port.empty()) {
		const auto port = parse_port_range(options.port);
		if (!port)
			return within("--port", port.error());
		filter.port = *port;
	}
	return filter;
}

} // namespace ptrig::cli
