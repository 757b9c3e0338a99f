// Configuration and rules as TOML, and one rule key or rule from the command line checked as in a file.
#include <algorithm>
#include <fmt/format.h>

#include "loader/rule_file.h"
#include "loader/rule_key.h"
#include "loader/rule_text.h"

namespace ptrig {
namespace {

template <typename Owner>
std::string table_text(std::string_view header, const Owner &owner, const std::vector<Key<Owner>> &keys) {
	std::string out = fmt::format("{}\n", header);
	for (const Key<Owner> &key : keys)
		// An empty list is what is meant by leaving the key out.
		if (const std::string value = key.write(owner); value != "[]")
			out += fmt::format("{} = {}\n", key.name, value);
	return out;
}

/// Text of a key holds one value; of all others a comma separates.
bool is_text_key(std::string_view key) {
	return key == "description";
}

KeyValue command_line_value(std::string_view key, const std::vector<std::string> &values) {
	KeyValue value;
	value.command_line = true;
	for (const std::string &each : values) {
		if (is_text_key(key)) {
			value.items.push_back({Scalar::Type::kText, each});
			continue;
		}
		for (const std::string_view part : text::split(each, ','))
			if (const std::string_view item = text::trimmed(part); !item.empty())
				value.items.push_back({Scalar::Type::kText, std::string(item)});
	}
	return value;
}

} // namespace

std::string to_toml(const Rule &rule) {
	static const std::vector<std::string> kDefaults = [] {
		std::vector<std::string> values;
		for (const Key<Rule> &key : keys_of_rule())
			values.push_back(key.write(Rule()));
		return values;
	}();
	const auto &keys = keys_of_rule();
	std::string out = "[[rule]]\n";
	for (std::size_t i = 0; i < keys.size(); ++i)
		if (const std::string value = keys[i].write(rule); value != kDefaults[i])
			out += fmt::format("{} = {}\n", keys[i].name, value);
	return out;
}

std::string to_toml(const Config &config) {
	std::string out = table_text("[gateway]", config.gateway, keys_of_gateway());
	out += "\n" + table_text("[timeouts]", config.timeouts, keys_of_timeouts());
	out += "\n" + table_text("[limits]", config.limits, keys_of_limits());
	for (const Rule &rule : config.rules)
		out += "\n" + to_toml(rule);
	return out;
}

const std::vector<std::string> &rule_keys() {
	static const std::vector<std::string> kNames = [] {
		const auto all = names_of(keys_of_rule());
		return std::vector<std::string>(all.begin() + 1, all.end());
	}();
	return kNames;
}

Done set_rule_key(Rule &rule, std::string_view key, const std::vector<std::string> &values) {
	const auto &keys = keys_of_rule();
	const auto found = std::find_if(keys.begin(), keys.end(), [&](const auto &k) { return k.name == key; });
	if (found == keys.end()) {
		const auto near = text::nearest(key, names_of(keys));
		return fail(near ? fmt::format("unknown key {}: did you mean {}?", text::in_quotes(key), *near)
				 : fmt::format("unknown key {}: a rule's keys are {}", text::in_quotes(key),
					       fmt::join(names_of(keys), ", ")),
			    Status::kInput);
	}
	const KeyValue value = command_line_value(key, values);
	ValueReader reader(value);
	Rule changed = rule;
	found->read(changed, reader);
	const auto problems = reader.take_problems();
	if (!problems.empty())
		return fail(fmt::format("{}: {}", key, problems.front().message), Status::kInput);
	rule = std::move(changed);
	return {};
}

Done validate_rule(const Rule &rule) {
	const auto conflicts = conflicts_of(rule);
	if (conflicts.empty())
		return {};
	return fail(fmt::format("{}: {}", conflicts.front().key, conflicts.front().message), Status::kInput);
}

} // namespace ptrig
