// ptrig lease list, lease close.
#include <fmt/format.h>
#include <memory>

#include "cli/filter_options.h"
#include "cli/rows.h"

namespace ptrig::cli {

namespace {

Done list(Cli &cli, const FilterOptions &options) {
	const auto filter = to_filter(options);
	if (!filter)
		return tl::unexpected(filter.error());
	const auto gateway = Gateway::open(cli.pin_dir);
	if (!gateway)
		return tl::unexpected(gateway.error());
	const auto leases = gateway->leases(*filter);
	if (!leases)
		return tl::unexpected(leases.error());
	print_rows(cli.out, cli.json, cli.style, lease_fields(), *leases);
	if (!leases->empty())
		return {};
	const auto rules = gateway->rules();
	if (!rules)
		return tl::unexpected(rules.error());
	for (const auto &line : explain_no_leases(*rules, *filter))
		say(cli, line);
	// What would keep every lease away: no interface yet, forwarding off, ...
	if (const auto status = gateway->status())
		for (const auto &warning : status->warnings)
			say(cli, "warning: " + warning);
	return {};
}

Done close(Cli &cli, const FilterOptions &options, bool all, bool kill) {
	const bool chosen = !options.rule.empty() || !options.host.empty() || !options.remote.empty();
	if (!chosen && !all)
		return fail("say which: RULE, --host, --remote or --all", Status::kInput);
	if (chosen && all)
		return fail("--all does not go with RULE, --host or --remote", Status::kInput);
	const auto filter = to_filter(options);
	if (!filter)
		return tl::unexpected(filter.error());
	auto gateway = Gateway::open(cli.pin_dir);
	if (!gateway)
		return tl::unexpected(gateway.error());
	const auto result = gateway->close_leases(*filter, kill);
	if (!result)
		return tl::unexpected(result.error());
	if (cli.json) {
		Json object{{"closed", Json::array()}};
		for (const auto &lease : result->closed)
			object["closed"].push_back(row_json(lease_fields(), lease));
		object["sessions_closed"] = result->sessions_closed;
		object["sessions_left"] = result->sessions_left;
		fmt::print(cli.out, "{}\n", json_pretty(object));
	} else {
		for (const auto &lease : result->closed)
			fmt::print(cli.out, "closed {} of {}{}\n", lease.rule, to_string(lease.host),
				   lease.remote ? " towards " + to_string(*lease.remote) : "");
		if (!result->closed.empty())
			fmt::print(cli.out, "{} cut, {} go on{}\n", counted(result->sessions_closed, "session"),
				   result->sessions_left,
				   result->sessions_left > 0 && !kill ? " (--kill cuts them)" : "");
	}
	if (result->closed.empty())
		return fail(options.rule.empty() ? "no lease matches" : "no lease of " + options.rule + " matches");
	return {};
}

} // namespace

void add_lease(CLI::App &app, Cli &cli) {
	CLI::App *lease = add_command(app, "lease", "Ports that are open now, and for whom", "ptrig lease list");
	auto options = std::make_shared<FilterOptions>();
	auto all = std::make_shared<bool>(false), kill = std::make_shared<bool>(false);
	on_command(cli, lease, [&cli, options] { return list(cli, *options); });

	CLI::App *show =
		add_command(*lease, "list", "List the leases", "ptrig lease list --rule ftp-active --port 50000/tcp");
	show->alias("ls");
	add_rule_option(show, *options);
	add_host_option(show, *options);
	add_remote_option(show, *options);
	add_port_option(show, *options);
	on_command(cli, show, [&cli, options] { return list(cli, *options); });

	CLI::App *end = add_command(*lease, "close", "End leases now; their sessions go on unless --kill is given",
				    "ptrig lease close ftp-active --host 192.168.77.11 --kill");
	end->alias("del")->alias("delete");
	end->add_option("RULE", options->rule, "The rule")->type_name("");
	add_host_option(end, *options);
	add_remote_option(end, *options);
	end->add_flag("--all", *all, "Every lease");
	end->add_flag("--kill", *kill, "Cut their sessions too");
	on_command(cli, end, [&cli, options, all, kill] { return close(cli, *options, *all, *kill); });
}

} // namespace ptrig::cli
