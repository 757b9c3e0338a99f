// Differences between two configurations. Rules are compared by the loader; settings by their text.
#include "cli/changes.h"

#include <algorithm>
#include <fmt/format.h>
#include <unordered_map>

#include "cli/rows.h"
#include "loader/rule_key.h"

namespace ptrig::cli {

namespace {

/// "~ [timeouts] udp = "5m" → "3m"" for every key of a section that differs.
template <typename Owner>
void compare(const char *section, const std::vector<Key<Owner>> &keys, const Owner &before, const Owner &after,
	     std::vector<std::string> &lines) {
	for (const auto &key : keys)
		if (const std::string old = key.write(before), now = key.write(after); old != now)
			lines.push_back(fmt::format("~ [{}] {} = {} → {}", section, key.name, old, now));
}

using RulesByName = std::unordered_map<std::string_view, const Rule *>;

RulesByName by_name(const Config &config) {
	RulesByName rules(config.rules.size());
	for (const auto &rule : config.rules)
		rules.emplace(rule.name, &rule);
	return rules;
}

const Rule *find_rule(const RulesByName &rules, const std::string &name) {
	const auto found = rules.find(name);
	return found == rules.end() ? nullptr : found->second;
}

std::string key_text(const RuleView &view, const std::string &key) {
	for (const auto &field : rule_fields())
		if (field.key == key)
			return text_of(field.json(view));
	return "?";
}

template <typename Range> std::string joined(const std::vector<Range> &ranges) {
	std::string text;
	for (const auto &range : ranges)
		text += (text.empty() ? "" : ", ") + to_string(range);
	return text;
}

std::string ports_text(const Rule &rule) {
	return fmt::format("trigger {}, open {}", joined(rule.trigger), joined(rule.open));
}

std::string change_text(const RuleDiff &change, const Rule &before, const Rule &after) {
	const RuleView old_view{.rule = before}, new_view{.rule = after};
	std::vector<std::string> keys;
	for (const auto &key : change.keys)
		keys.push_back(fmt::format("{} {} → {}", key, key_text(old_view, key), key_text(new_view, key)));
	const bool keeps = change.keeps_leases && after.enabled;
	return fmt::format("{}{}", fmt::join(keys, "; "), keeps ? "" : " (its leases end)");
}

const char *kind_name(RuleDiff::Kind kind) {
	switch (kind) {
	case RuleDiff::Kind::kAdd:
		return "add";
	case RuleDiff::Kind::kRemove:
		return "remove";
	case RuleDiff::Kind::kChange:
		break;
	}
	return "change";
}

Json changes_json(const ApplyResult &result, const std::vector<std::string> &settings, bool dry_run) {
	Json object{{"dry_run", dry_run}, {"changes", Json::array()}};
	for (const auto &change : result.changes)
		object["changes"].push_back({{"change", kind_name(change.kind)},
					     {"rule", change.name},
					     {"keys", change.keys},
					     {"keeps_leases", change.keeps_leases}});
	object["settings"] = settings;
	object["notes"] = result.notes;
	object["leases_ended"] = result.leases_ended;
	return object;
}

Color color_of(const std::string &line) {
	return line.starts_with('+') ? Color::kGreen : line.starts_with('-') ? Color::kRed : Color::kYellow;
}

} // namespace

std::vector<std::string> setting_changes(const Config &before, const Config &after) {
	std::vector<std::string> lines;
	compare("gateway", keys_of_gateway(), before.gateway, after.gateway, lines);
	compare("timeouts", keys_of_timeouts(), before.timeouts, after.timeouts, lines);
	compare("limits", keys_of_limits(), before.limits, after.limits, lines);
	return lines;
}

std::vector<std::string> rule_changes(const Config &before, const Config &after, const std::vector<RuleDiff> &changes) {
	const RulesByName old_rules = by_name(before), new_rules = by_name(after);
	std::vector<std::string> lines;
	for (const auto &change : changes) {
		const Rule *was = find_rule(old_rules, change.name), *is = find_rule(new_rules, change.name);
		if (was != nullptr && is != nullptr)
			lines.push_back(fmt::format("~ {}: {}", change.name, change_text(change, *was, *is)));
		else if (is != nullptr)
			lines.push_back(fmt::format("+ {}: {}", change.name, ports_text(*is)));
		else if (was != nullptr)
			lines.push_back(fmt::format("- {}: {}", change.name, ports_text(*was)));
	}
	return lines;
}

void say_notes(Cli &cli, const ApplyResult &result) {
	for (const auto &note : result.notes)
		say(cli, note);
	if (result.leases_ended > 0)
		say(cli, counted(result.leases_ended, "lease") + " ended");
}

void print_changes(Cli &cli, const Config &before, const Config &after, const ApplyResult &result, bool dry_run) {
	const auto settings = setting_changes(before, after);
	if (cli.json) {
		fmt::print(cli.out, "{}\n", json_pretty(changes_json(result, settings, dry_run)));
		return;
	}
	auto lines = settings;
	for (auto &line : rule_changes(before, after, result.changes))
		lines.push_back(std::move(line));
	for (const auto &line : lines)
		fmt::print(cli.out, "{}\n", paint(printable(line), color_of(line), cli.style));
	if (lines.empty())
		say(cli, "no difference");
	say_notes(cli, result);
}

} // namespace ptrig::cli
