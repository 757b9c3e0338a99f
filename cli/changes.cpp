// Differences between two configurations. Rules are compared by the loader; settings by their text.
#include "cli/changes.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>

#include "cli/rows.h"

namespace ptrig::cli {

namespace {

/// "[timeouts] udp" -> "\"5m\"" for everything outside the rules.
std::map<std::string, std::string> settings_of(Config config) {
	config.rules.clear();
	std::map<std::string, std::string> settings;
	const std::string text = to_toml(config);
	std::string section;
	for (std::size_t begin = 0; begin < text.size();) {
		const std::size_t end = std::min(text.find('\n', begin), text.size());
		const std::string line = text.substr(begin, end - begin);
		begin = end + 1;
		if (line.starts_with('['))
			section = line;
		else if (const std::size_t equals = line.find('=');
			 equals != std::string::npos && !line.starts_with('#'))
			settings[section + " " + line.substr(0, line.find_last_not_of(' ', equals - 1) + 1)] =
				line.substr(std::min(line.find_first_not_of(' ', equals + 1), line.size()));
	}
	return settings;
}

const Rule *find_rule(const Config &config, const std::string &name) {
	const auto found = std::find_if(config.rules.begin(), config.rules.end(),
					[&](const Rule &rule) { return rule.name == name; });
	return found == config.rules.end() ? nullptr : &*found;
}

std::string key_text(const Rule &rule, const std::string &key) {
	const RuleView view{.rule = rule};
	for (const auto &field : rule_fields())
		if (field.key == key)
			return text_of(field.json(view));
	return "?";
}

std::string ports_text(const Rule &rule) {
	return fmt::format("trigger {}, open {}", key_text(rule, "trigger"), key_text(rule, "open"));
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
	const auto old_settings = settings_of(before), new_settings = settings_of(after);
	std::vector<std::string> lines;
	for (const auto &[key, value] : new_settings) {
		const auto old = old_settings.find(key);
		if (old == old_settings.end())
			lines.push_back(fmt::format("~ {} = {}", key, value));
		else if (old->second != value)
			lines.push_back(fmt::format("~ {} = {} → {}", key, old->second, value));
	}
	for (const auto &[key, value] : old_settings)
		if (!new_settings.contains(key))
			lines.push_back(fmt::format("~ {} = {} → default", key, value));
	return lines;
}

std::vector<std::string> rule_changes(const Config &before, const Config &after, const std::vector<RuleDiff> &changes) {
	std::vector<std::string> lines;
	for (const auto &change : changes) {
		const Rule *old_rule = find_rule(before, change.name), *new_rule = find_rule(after, change.name);
		if (change.kind == RuleDiff::Kind::kAdd) {
			lines.push_back(
				fmt::format("+ {}{}", change.name, new_rule ? ": " + ports_text(*new_rule) : ""));
		} else if (change.kind == RuleDiff::Kind::kRemove) {
			lines.push_back(
				fmt::format("- {}{}", change.name, old_rule ? ": " + ports_text(*old_rule) : ""));
		} else {
			std::vector<std::string> keys;
			for (const auto &key : change.keys)
				keys.push_back(old_rule != nullptr && new_rule != nullptr
						       ? fmt::format("{} {} → {}", key, key_text(*old_rule, key),
								     key_text(*new_rule, key))
						       : key);
			lines.push_back(fmt::format("~ {}: {}{}", change.name, fmt::join(keys, "; "),
						    change.keeps_leases ? "" : " (its leases end)"));
		}
	}
	return lines;
}

void say_notes(Cli &cli, const ApplyResult &result) {
	for (const auto &note : result.notes)
		fmt::print(cli.err, "{}\n", printable(note));
	if (result.leases_ended > 0)
		fmt::print(cli.err, "{} leases ended\n", result.leases_ended);
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
		fmt::print(cli.err, "no difference\n");
	say_notes(cli, result);
}

Done usable(const ParsedConfig &parsed, const std::string &path) {
	if (parsed.errors.empty())
		return {};
	std::string what = parsed.errors.front().text();
	if (parsed.errors.size() > 1)
		what += fmt::format(" (and {} more: ptrig check {})", parsed.errors.size() - 1, path);
	return fail(what, Status::kInput);
}

} // namespace ptrig::cli
