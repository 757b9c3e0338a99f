// Every key of the configuration, once: how it is read and how it is written. Files, the command
// line, printing and comparing all go by these tables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "loader/rule.h"
#include "loader/rule_value.h"

namespace ptrig {

template <typename Owner> struct Key {
	std::string_view name;
	void (*read)(Owner &, ValueReader &);
	std::string (*write)(const Owner &); ///< a TOML value; two owners differ in the key if and only if this differs
};

/// name, then the keys of the contract in its order.
const std::vector<Key<Rule>> &keys_of_rule();
const std::vector<Key<GatewayConfig>> &keys_of_gateway();
const std::vector<Key<Timeouts>> &keys_of_timeouts();
const std::vector<Key<Limits>> &keys_of_limits();

template <typename Owner> std::vector<std::string_view> names_of(const std::vector<Key<Owner>> &keys) {
	std::vector<std::string_view> names;
	names.reserve(keys.size());
	for (const Key<Owner> &key : keys)
		names.push_back(key.name);
	return names;
}

/// What no single key can show, by key.
struct KeyConflict {
	std::string_view key;
	std::string message;
};
std::vector<KeyConflict> conflicts_of(const Rule &rule);
std::vector<KeyConflict> conflicts_of(const GatewayConfig &gateway);

// TOML values.
std::string toml_value(bool value);
std::string toml_value(std::uint32_t value);
std::string toml_value(std::string_view text);
std::string toml_value(nanoseconds time);
inline std::string toml_value(const std::string &text) {
	return toml_value(std::string_view(text));
}
template <typename T> std::string toml_value(const std::optional<T> &value) {
	return value ? toml_value(*value) : toml_value(std::string_view("none"));
}
inline const std::string &to_string(const std::string &text) {
	return text;
}
template <typename T> std::string toml_value(const std::vector<T> &items) {
	std::string out;
	for (const T &item : items)
		out += (out.empty() ? "" : ", ") + toml_value(std::string_view(to_string(item)));
	return "[" + out + "]";
}

} // namespace ptrig
