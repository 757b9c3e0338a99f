// ptrig apply, ptrig export.
#include <fmt/format.h>
#include <memory>

#include "cli/changes.h"
#include "cli/cli.h"
#include "loader/rule_file.h"
#include "loader/usable_config.h"

namespace ptrig::cli {

namespace {

struct ApplyOptions {
	std::string file;
	bool dry_run = false;
};

Done apply(Cli &cli, const ApplyOptions &options) {
	// A wrong file is said even where there is no gateway.
	Result<Config> wanted = Config{};
	if (!options.file.empty())
		wanted = read_usable_config(options.file);
	if (!wanted)
		return tl::unexpected(wanted.error());
	auto gateway = Gateway::open(cli.pin_dir);
	if (!gateway)
		return tl::unexpected(gateway.error());
	const auto config_path = config_path_of(*gateway);
	const auto before = gateway->config();
	if (!config_path || !before)
		return tl::unexpected(config_path ? before.error() : config_path.error());
	if (options.file.empty())
		wanted = read_usable_config(*config_path);
	if (!wanted)
		return tl::unexpected(wanted.error());
	const auto result = options.dry_run ? gateway->plan(*wanted) : gateway->apply(*wanted, *config_path);
	if (!result)
		return tl::unexpected(result.error());
	print_changes(cli, **before, *wanted, *result, options.dry_run);
	return {};
}

Done print_config(Cli &cli) {
	if (cli.json)
		return fail("prints TOML only; rules as JSON: ptrig rule list -j", Status::kInput);
	const auto gateway = Gateway::open(cli.pin_dir);
	if (!gateway)
		return tl::unexpected(gateway.error());
	const auto config = gateway->config();
	if (!config)
		return tl::unexpected(config.error());
	fmt::print(cli.out, "{}", to_toml(**config));
	return {};
}

} // namespace

void add_apply(CLI::App &app, Cli &cli) {
	auto options = std::make_shared<ApplyOptions>();
	CLI::App *command =
		add_command(app, "apply", "Replace the live rules by the file's, atomically, and print the difference",
			    "ptrig apply -n /etc/ptrig/ptrig.toml");
	command->add_option("FILE", options->file,
			    "The file; - is standard input (default: the gateway's configuration)")
		->type_name("");
	command->add_flag("-n,--dry-run", options->dry_run, "Only print the difference");
	on_command(cli, command, [&cli, options] { return apply(cli, *options); });
}

void add_export(CLI::App &app, Cli &cli) {
	CLI::App *command = add_command(app, "export", "The live configuration as TOML that apply accepts",
					"ptrig export > /root/ptrig.toml");
	on_command(cli, command, [&cli] { return print_config(cli); });
}

} // namespace ptrig::cli
