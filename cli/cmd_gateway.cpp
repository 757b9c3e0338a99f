// ptrig up, run, down.
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <memory>
#include <sys/stat.h>
#include <syslog.h>

#include "cli/cli.h"
#include "loader/daemon.h"
#include "loader/usable_config.h"

namespace ptrig::cli {

namespace {

/// As it is to be remembered: other commands are run elsewhere.
std::string absolute(const std::string &path) {
	return path == "-" ? path : std::filesystem::absolute(path).lexically_normal().string();
}

/// Is this stream the journal's (systemd.exec(5), JOURNAL_STREAM)?
bool is_journal(FILE *file) {
	const char *stream = std::getenv("JOURNAL_STREAM");
	struct stat status {};
	if (stream == nullptr || fstat(fileno(file), &status) != 0)
		return false;
	return fmt::format("{}:{}", status.st_dev, status.st_ino) == stream;
}

Done up(Cli &cli, const std::string &path, bool if_needed) {
	std::vector<std::string> notes;
	const auto gateway = if_needed ? Gateway::open_or_up(cli.pin_dir, absolute(path), notes)
				       : read_usable_config(path).and_then([&](const Config &config) {
						 return Gateway::up(cli.pin_dir, config, absolute(path), notes);
					 });
	const std::string priority = is_journal(cli.err) ? fmt::format("<{}>", LOG_NOTICE) : "";
	for (const auto &note : notes)
		say(cli, priority + note);
	if (!gateway)
		return tl::unexpected(gateway.error());
	return {};
}

Done run(Cli &cli, const std::string &path) {
	const bool journal = is_journal(cli.err);
	const DaemonLog log = [&cli, journal](int priority, const std::string &line) {
		if (journal)
			fmt::print(cli.err, "<{}>{}\n", priority, printable(line));
		else if (priority <= LOG_WARNING)
			fmt::print(cli.err, "{}: {}\n", priority <= LOG_ERR ? "error" : "warning", printable(line));
		else
			say(cli, line);
		std::fflush(cli.err);
	};
	return run_daemon({.config_path = absolute(path), .pin_dir = cli.pin_dir}, log);
}

CLI::App *with_config(CLI::App &app, const char *name, const char *about, const char *example,
		      const std::shared_ptr<std::string> &path) {
	CLI::App *command = add_command(app, name, about, example);
	add_value(command, "-c,--config", *path, "The configuration", "FILE")->capture_default_str();
	return command;
}

} // namespace

void add_up(CLI::App &app, Cli &cli) {
	auto path = std::make_shared<std::string>(kDefaultConfig);
	CLI::App *command = with_config(app, "up", "Load, attach, pin and apply, then exit; adopts what is up already",
					"ptrig up -c /etc/ptrig/ptrig.toml", path);
	auto if_needed = std::make_shared<bool>(false);
	command->add_flag(
		"--if-needed", *if_needed,
		"Only if no gateway is up, or one that another version has started and this one cannot follow");
	on_command(cli, command, [&cli, path, if_needed] { return up(cli, *path, *if_needed); });
}

void add_run(CLI::App &app, Cli &cli) {
	auto path = std::make_shared<std::string>(kDefaultConfig);
	CLI::App *command = with_config(app, "run", "The daemon, in the foreground: up unless it is, then follow",
					"ptrig run -c /etc/ptrig/ptrig.toml", path);
	on_command(cli, command, [&cli, path] { return run(cli, *path); });
}

void add_down(CLI::App &app, Cli &cli) {
	CLI::App *command =
		add_command(app, "down", "Detach and remove everything; refused while a daemon runs", "ptrig down");
	on_command(cli, command, [&cli] { return Gateway::down(cli.pin_dir); });
}

} // namespace ptrig::cli
