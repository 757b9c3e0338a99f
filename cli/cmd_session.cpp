// ptrig session list, session close.
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
	RowWriter<SessionView> writer(cli.out, cli.json, cli.style, session_fields());
	Done done = gateway->sessions(*filter, [&](const SessionView &session) { writer.add(session); });
	if (writer.finish() == 0 && done)
		say(cli, "no sessions");
	return done;
}

Done close(Cli &cli, const FilterOptions &options, bool all) {
	const bool chosen = !options.rule.empty() || !options.host.empty() || !options.remote.empty();
	if (!chosen && !all)
		return fail("say which: --rule, --host, --remote or --all", Status::kInput);
	if (chosen && all)
		return fail("--all does not go with --rule, --host or --remote", Status::kInput);
	const auto filter = to_filter(options);
	if (!filter)
		return tl::unexpected(filter.error());
	auto gateway = Gateway::open(cli.pin_dir);
	if (!gateway)
		return tl::unexpected(gateway.error());
	const auto closed = gateway->close_sessions(*filter);
	if (!closed)
		return tl::unexpected(closed.error());
	if (cli.json)
		fmt::print(cli.out, "{}\n", json_pretty({{"sessions_closed", *closed}}));
	else if (*closed > 0)
		fmt::print(cli.out, "{} closed\n", counted(*closed, "session"));
	if (*closed == 0)
		return fail("no session matches");
	return {};
}

} // namespace

void add_session(CLI::App &app, Cli &cli) {
	CLI::App *session = add_command(app, "session", "Conversations through open ports", "ptrig session list");
	auto options = std::make_shared<FilterOptions>();
	auto all = std::make_shared<bool>(false);
	on_command(cli, session, [&cli, options] { return list(cli, *options); });

	CLI::App *show = add_command(*session, "list", "List the sessions", "ptrig session list --host 192.168.77.11");
	show->alias("ls");
	add_rule_option(show, *options);
	add_host_option(show, *options);
	add_remote_option(show, *options);
	add_port_option(show, *options);
	on_command(cli, show, [&cli, options] { return list(cli, *options); });

	CLI::App *end = add_command(*session, "close", "Cut sessions", "ptrig session close --remote 203.0.113.10");
	end->alias("del")->alias("delete");
	add_rule_option(end, *options);
	add_host_option(end, *options);
	add_remote_option(end, *options);
	end->add_flag("--all", *all, "Every session");
	on_command(cli, end, [&cli, options, all] { return close(cli, *options, *all); });
}

} // namespace ptrig::cli
