// ptrig monitor: the daemon's events, as they come.
#include <fmt/format.h>

#include "cli/cli.h"
#include "cli/rows.h"
#include "loader/monitor.h"

namespace ptrig::cli {

namespace {

Result<MonitorClient> connect(const Cli &cli) {
	auto client = MonitorClient::connect(monitor_path(cli.pin_dir));
	if (client)
		return client;
	// With no gateway at all that is the better answer.
	if (const auto gateway = Gateway::open(cli.pin_dir); !gateway && gateway.error().status == Status::kNoGateway)
		return tl::unexpected(gateway.error());
	return client;
}

Done monitor(Cli &cli) {
	auto client = connect(cli);
	if (!client)
		return tl::unexpected(client.error());
	for (;;) {
		const auto event = client->next();
		if (!event)
			return tl::unexpected(event.error());
		if (!*event)
			return fail("the daemon has ended");
		if (cli.json)
			fmt::print(cli.out, "{}\n", json_line(row_json(event_fields(), **event)));
		else
			fmt::print(cli.out, "{}\n", event_line(**event, cli.style));
		if (std::fflush(cli.out) != 0)
			return system_error("write the output");
	}
}

} // namespace

void add_monitor(CLI::App &app, Cli &cli) {
	CLI::App *command = add_command(app, "monitor", "Stream of events: granted, refused, taken over, moved, ended",
					"ptrig monitor -j | jq -c 'select(.event == \"refused\")'");
	on_command(cli, command, [&cli] { return monitor(cli); });
}

} // namespace ptrig::cli
