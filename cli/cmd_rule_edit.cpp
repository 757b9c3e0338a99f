// ptrig rule add, set, remove, enable, disable: one change of the live configuration each, and with --save of
// the rule's own file, prepared before and put in place after the change.
#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <optional>

#include "cli/changes.h"
#include "cli/cli.h"
#include "cli/rows.h"
#include "cli/rule_options.h"
#include "cli/rule_store.h"
#include "loader/rule_text.h"

namespace ptrig::cli {

namespace {

using Options = std::shared_ptr<RuleOptions>;

Result<std::vector<Rule>::iterator> find_rule(Config &config, const std::string &name) {
	const auto found = std::find_if(config.rules.begin(), config.rules.end(),
					[&](const Rule &rule) { return rule.name == name; });
	if (found != config.rules.end())
		return found;
	std::vector<std::string_view> names;
	for (const auto &rule : config.rules)
		names.push_back(rule.name);
	const auto near = text::nearest(name, names);
	return fail(fmt::format("there is no rule {}{}", text::in_quotes(name),
				near ? fmt::format(": did you mean {}?", *near) : ""),
		    Status::kInput);
}

/// One edit. `change` makes the rule what it shall be (nullptr: remove it) under the writers' lock.
struct Edit {
	Cli &cli;
	const RuleOptions &options;
	std::optional<Rule> result;

	using Change = std::function<Result<std::optional<Rule>>(Config &)>;
	Done run(const Change &change);

private:
	Done save(const std::string &config_path, std::optional<RuleFile> &file);
	void echo(const ApplyResult &applied) const;
};

Done Edit::run(const Change &change) {
	auto gateway = Gateway::open(cli.pin_dir);
	if (!gateway)
		return tl::unexpected(gateway.error());
	std::string config_path;
	if (options.save) {
		auto path = config_path_of(*gateway);
		if (!path)
			return tl::unexpected(path.error());
		config_path = std::move(*path);
		if (auto ours = check_saveable(config_path, options.name); !ours)
			return ours;
	}
	std::optional<RuleFile> file;
	const auto applied = gateway->edit([&](Config &config) -> Done {
		auto changed = change(config);
		if (!changed)
			return tl::unexpected(changed.error());
		result = std::move(*changed);
		return options.save ? save(config_path, file) : Done{};
	});
	if (!applied)
		return tl::unexpected(applied.error());
	echo(*applied);
	if (!options.save) {
		say(cli, "live only: gone at the next apply or restart (--save keeps it)");
		return {};
	}
	const std::string path = rule_file_path(config_path, options.name);
	const Done saved = file ? file->commit() : remove_rule_file(path);
	if (!saved)
		return within("the change is live, but not saved", saved.error());
	say(cli, (file ? "saved in " : "saved: there is no ") + path + (file ? "" : " any more"));
	return {};
}

Done Edit::save(const std::string &config_path, std::optional<RuleFile> &file) {
	if (!result)
		return {};
	auto prepared = RuleFile::prepare(rule_file_path(config_path, options.name), to_toml(*result));
	if (!prepared)
		return tl::unexpected(prepared.error());
	file.emplace(std::move(*prepared));
	return {};
}

void Edit::echo(const ApplyResult &applied) const {
	if (cli.json)
		fmt::print(cli.out, "{}\n",
			   json_pretty(result ? row_json(rule_fields(), RuleView{.rule = *result})
					      : Json{{"removed", options.name}}));
	else if (result)
		print_rule_echo(cli.out, *result, cli.style);
	else
		fmt::print(cli.out, "removed {}\n", options.name);
	say_notes(cli, applied);
}

Done add(Cli &cli, const RuleOptions &options) {
	const auto name = parse_rule_name(options.name);
	if (!name)
		return tl::unexpected(name.error());
	Rule rule;
	rule.name = *name;
	if (auto set = set_given_keys(rule, options); !set)
		return set;
	if (auto valid = validate_rule(rule); !valid)
		return valid;
	return Edit{cli, options, {}}.run([&](Config &config) -> Result<std::optional<Rule>> {
		if (find_rule(config, rule.name))
			return fail(
				fmt::format("there is a rule {} already (ptrig rule set {} …)", rule.name, rule.name),
				Status::kInput);
		config.rules.push_back(rule);
		return rule;
	});
}

Done set(Cli &cli, const RuleOptions &options) {
	const bool given = std::any_of(options.values.begin(), options.values.end(),
				       [](const auto &value) { return !value.second.empty(); });
	if (!given)
		return fail("say what to change, for example --timeout 5m", Status::kInput);
	Rule trial; // wrong values are the user's error, gateway or not
	if (auto valid = set_given_keys(trial, options); !valid)
		return valid;
	return Edit{cli, options, {}}.run([&](Config &config) -> Result<std::optional<Rule>> {
		const auto rule = find_rule(config, options.name);
		if (!rule)
			return tl::unexpected(rule.error());
		if (auto changed = set_given_keys(**rule, options); !changed)
			return tl::unexpected(changed.error());
		if (auto valid = validate_rule(**rule); !valid)
			return tl::unexpected(valid.error());
		return **rule;
	});
}

Done remove(Cli &cli, const RuleOptions &options) {
	return Edit{cli, options, {}}.run([&](Config &config) -> Result<std::optional<Rule>> {
		const auto rule = find_rule(config, options.name);
		if (!rule)
			return tl::unexpected(rule.error());
		config.rules.erase(*rule);
		return std::optional<Rule>{};
	});
}

CLI::App *verb(CLI::App &rule, Cli &cli, const char *name, const char *about, const char *example,
	       const Options &options, Done (*action)(Cli &, const RuleOptions &)) {
	CLI::App *command = add_command(rule, name, about, example);
	command->add_option("NAME", options->name, "The rule")->required()->type_name("");
	on_command(cli, command, [&cli, options, action] { return action(cli, *options); });
	return command;
}

} // namespace

void add_rule_edit(CLI::App &rule, Cli &cli) {
	const auto fresh = [] { return std::make_shared<RuleOptions>(); };
	const char *save = "Change the rule's file in rules.d too";
	auto options = fresh();
	add_rule_options(verb(rule, cli, "add", "Add a rule",
			      "ptrig rule add ftp-active --trigger 21/tcp --open 50000-50010/tcp --timeout 10m --save",
			      options, add),
			 *options);
	options = fresh();
	add_rule_options(verb(rule, cli, "set", "Change keys of a rule; its leases stay where they can",
			      "ptrig rule set ftp-active --timeout 5m --remotes contacted", options, set),
			 *options);
	options = fresh();
	CLI::App *removal = verb(rule, cli, "remove", "Remove a rule and end its leases",
				 "ptrig rule remove ftp-active --save", options, remove);
	removal->alias("del")->alias("delete");
	removal->add_flag("--save", options->save, "Delete the rule's file in rules.d too");
	for (const bool enabled : {true, false}) {
		options = fresh();
		options->values["enabled"] = {enabled ? "true" : "false"};
		verb(rule, cli, enabled ? "enable" : "disable",
		     enabled ? "Enable a rule" : "Disable a rule and end its leases",
		     enabled ? "ptrig rule enable ftp-active" : "ptrig rule disable ftp-active", options, set)
			->add_flag("--save", options->save, save);
	}
}

} // namespace ptrig::cli
