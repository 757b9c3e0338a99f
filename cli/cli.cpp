// The parser: options of all commands, aliases, and parse errors as our own one-line errors with status 2.
#include "cli/cli.h"

#include <algorithm>
#include <fmt/format.h>

#include "loader/rule_text.h"

namespace ptrig::cli {

namespace {

/// Options are spelled with '-'; the keys of the configuration have '_', and that is understood too.
std::string dashed(const std::string &argument) {
	if (!argument.starts_with("--"))
		return argument;
	std::string text = argument;
	const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(text.find('='), text.size()));
	std::replace(text.begin(), end, '_', '-');
	return text;
}

CLI::App *deepest(CLI::App *app) {
	for (auto chosen = app->get_subcommands(); !chosen.empty(); chosen = app->get_subcommands())
		app = chosen.front();
	return app;
}

std::string path_of(const CLI::App *app) {
	std::string path;
	for (; app->get_parent() != nullptr; app = app->get_parent())
		path.insert(0, path.empty() ? app->get_name() : app->get_name() + ' ');
	return path;
}

std::string one_line(std::string text) {
	while (!text.empty() && (text.back() == '\n' || text.back() == '.'))
		text.pop_back();
	std::replace(text.begin(), text.end(), '\n', ' ');
	return printable(text);
}

/// What cannot be understood, with the nearest that can.
std::string unexpected_text(CLI::App &root, CLI::App &at) {
	const auto extras = root.remaining(true);
	const std::string word = extras.empty() ? "" : extras.front();
	std::vector<std::string> names;
	for (CLI::App *app = &at; app != nullptr; app = app->get_parent())
		for (const auto *option : app->get_options())
			for (const auto &name : option->get_lnames())
				names.push_back("--" + name);
	if (!word.starts_with('-')) {
		names.clear();
		for (const auto *command : at.get_subcommands([](CLI::App *) { return true; }))
			names.push_back(command->get_name());
	}
	const auto near = text::nearest(word, {names.begin(), names.end()});
	const std::string help = path_of(&at).empty() ? "ptrig --help" : "ptrig " + path_of(&at) + " --help";
	return fmt::format("{} is not understood here: {}", text::in_quotes(word),
			   near ? fmt::format("did you mean {}?", *near) : "see " + help);
}

/// Help and version are printed; anything else is the user's error.
Done parse_failure(CLI::App &app, Cli &cli, const CLI::ParseError &error) {
	CLI::App *at = deepest(&app);
	if (dynamic_cast<const CLI::CallForVersion *>(&error) != nullptr) {
		fmt::print(cli.out, "{}\n", error.what());
		return {};
	}
	if (error.get_exit_code() == 0) {
		fmt::print(cli.out, "{}", app.help());
		return {};
	}
	std::string what = one_line(error.what());
	if (dynamic_cast<const CLI::ExtrasError *>(&error) != nullptr)
		what = unexpected_text(app, *at);
	const std::string doing = path_of(at);
	return fail((doing.empty() ? "command line" : doing) + ": " + what, Status::kInput);
}

void set_up(CLI::App &app, Cli &cli) {
	app.name("ptrig");
	app.fallthrough();
	app.require_subcommand(0, 1);
	app.set_help_flag("-h,--help", "Print this help");
	app.set_version_flag("--version", "ptrig " PTRIG_VERSION, "Print the version");
	app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
	add_value(&app, "--pin-dir", cli.pin_dir, "Where the gateway's maps are pinned", "DIR")->capture_default_str();
	app.add_flag("-j,--json", cli.json, "JSON instead of tables");
	app.footer("Every command has its own --help. A first rule:\n"
		   "  ptrig rule add ftp-active --trigger 21/tcp --open 50000-50010/tcp --save");
	for (const auto add : {add_status, add_rule, add_lease, add_session, add_monitor, add_check, add_apply,
			       add_export, add_up, add_run, add_down})
		add(app, cli);
}

} // namespace

void say(const Cli &cli, const std::string &line) {
	std::fflush(cli.out);
	fmt::print(cli.err, "{}\n", printable(line));
}

Result<std::string> config_path_of(const Gateway &gateway) {
	return gateway.config_path().map(
		[](const std::string &path) { return path.empty() || path == "-" ? kDefaultConfig : path; });
}

CLI::App *add_command(CLI::App &parent, const std::string &name, const std::string &about, const std::string &example) {
	CLI::App *command = parent.add_subcommand(name, about);
	command->require_subcommand(0, 1);
	command->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
	command->footer("Example:\n  " + example);
	return command;
}

void on_command(Cli &cli, CLI::App *command, std::function<Done()> action) {
	command->parse_complete_callback([&cli, command, action = std::move(action)] {
		// Of a chain "rule list" the last one counts; "rule" alone has its own.
		if (command->get_subcommands().empty() && action) {
			cli.action = action;
			cli.doing = command->get_parent() != nullptr ? path_of(command) : "status";
		}
	});
}

CLI::Option *add_value(CLI::App *command, const std::string &name, std::string &value, const std::string &about,
		       const std::string &placeholder) {
	return command->add_option(name, value, about)->type_name(placeholder);
}

CLI::Option *add_list(CLI::App *command, const std::string &name, std::vector<std::string> &values,
		      const std::string &about, const std::string &placeholder) {
	return command->add_option(name, values, about)
		->type_name(placeholder)
		->expected(1)
		->allow_extra_args(false)
		->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

Done run_cli(const std::vector<std::string> &arguments, FILE *out, FILE *err) {
	Cli cli;
	cli.out = out;
	cli.err = err;
	cli.style = style_of(out);
	CLI::App app{"Port triggering for Linux gateways: ports that open while a LAN host asks for it"};
	set_up(app, cli);
	std::vector<std::string> reversed;
	bool literal = false;
	for (const auto &argument : arguments) {
		reversed.push_back(literal ? argument : dashed(argument));
		literal = literal || argument == "--";
	}
	std::reverse(reversed.begin(), reversed.end());
	try {
		app.parse(reversed);
	} catch (const CLI::ParseError &error) {
		return parse_failure(app, cli, error);
	}
	Done done = cli.action();
	if (std::fflush(out) != 0 && done)
		done = system_error("write the output");
	if (!done)
		return within(cli.doing, done.error());
	return {};
}

} // namespace ptrig::cli
