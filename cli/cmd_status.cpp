// ptrig status, and ptrig alone.
#include "cli/cli.h"
#include "cli/rows.h"

namespace ptrig::cli {

namespace {

Done status(Cli &cli) {
	const auto gateway = Gateway::open(cli.pin_dir);
	if (!gateway)
		return tl::unexpected(gateway.error());
	const auto view = gateway->status();
	if (!view)
		return tl::unexpected(view.error());
	if (cli.json)
		std::fprintf(cli.out, "%s\n", json_pretty(status_json(*view, PTRIG_VERSION)).c_str());
	else
		print_status(cli.out, *view, PTRIG_VERSION, cli.style);
	return {};
}

} // namespace

void add_status(CLI::App &app, Cli &cli) {
	CLI::App *command =
		add_command(app, "status", "Interfaces, totals, counters by reason, warnings", "ptrig status -j");
	on_command(cli, command, [&cli] { return status(cli); });
	on_command(cli, &app, [&cli] { return status(cli); });
}

} // namespace ptrig::cli
