// ptrig rule list, rule show.
#include <algorithm>
#include <fmt/format.h>
#include <memory>

#include "cli/cli.h"
#include "cli/rows.h"
#include "loader/rule_text.h"

namespace ptrig::cli {

namespace {

Result<std::vector<RuleView>> live_rules(const Cli &cli) {
	const auto gateway = Gateway::open(cli.pin_dir);
	if (!gateway)
		return tl::unexpected(gateway.error());
	return gateway->rules();
}

Done list(Cli &cli) {
	const auto rules = live_rules(cli);
	if (!rules)
		return tl::unexpected(rules.error());
	print_rows(cli.out, cli.json, cli.style, rule_fields(), *rules);
	if (rules->empty())
		say(cli, "no rules (ptrig rule add)");
	return {};
}

Done show(Cli &cli, const std::string &name) {
	const auto rules = live_rules(cli);
	if (!rules)
		return tl::unexpected(rules.error());
	std::vector<std::string_view> names;
	for (const auto &view : *rules) {
		names.push_back(view.rule.name);
		if (view.rule.name != name)
			continue;
		if (cli.json)
			fmt::print(cli.out, "{}\n", json_pretty(row_json(rule_fields(), view)));
		else
			print_rule(cli.out, view, cli.style);
		return {};
	}
	const auto near = text::nearest(name, names);
	return fail(fmt::format("there is no rule {}{}", text::in_quotes(name),
				near ? fmt::format(": did you mean {}?", *near) : ""),
		    Status::kInput);
}

} // namespace

void add_rule(CLI::App &app, Cli &cli) {
	CLI::App *rule = add_command(app, "rule", "The live rules", "ptrig rule list");
	on_command(cli, rule, [&cli] { return list(cli); });
	CLI::App *all = add_command(*rule, "list", "List the rules with their counters", "ptrig rule list -j");
	all->alias("ls");
	on_command(cli, all, [&cli] { return list(cli); });

	auto name = std::make_shared<std::string>();
	CLI::App *one = add_command(*rule, "show", "Every key and counter of a rule", "ptrig rule show ftp-active");
	one->add_option("NAME", *name, "The rule")->required()->type_name("");
	on_command(cli, one, [&cli, name] { return show(cli, *name); });
	add_rule_edit(*rule, cli);
}

} // namespace ptrig::cli
