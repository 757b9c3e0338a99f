// One TOML text into a ParsedConfig, with every error at the value or key that it is about.
#include "loader/toml_reader.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

// toml++ 3.3.0 asserts on some malformed input, such as "[.a]" (mended upstream by its pull request 301), and in
// a release build by clang even assumes that it never comes. Without its assertions it reports an error.
#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_ASSERT(expr) static_assert(true)
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

#include "loader/rule_key.h"
#include "loader/rule_text.h"
#include "loader/toml_depth.h"
#include "loader/toml_foreign.h"

namespace ptrig {
namespace {

using text::in_quotes;

FilePosition position_of(const toml::source_region &region) {
	return {region.begin.line, region.begin.column};
}

std::string_view kind_of(const toml::node &node) {
	switch (node.type()) {
	case toml::node_type::table:
		return "a table";
	case toml::node_type::array:
		return "a list";
	case toml::node_type::floating_point:
		return "a number with a fraction";
	case toml::node_type::date:
	case toml::node_type::time:
	case toml::node_type::date_time:
		return "a date or time of day";
	default:
		return "this value";
	}
}

Scalar to_scalar(const toml::node &node) {
	Scalar scalar;
	if (const auto *string = node.as_string()) {
		scalar.text = string->get();
	} else if (const auto *integer = node.as_integer()) {
		scalar.type = Scalar::Type::kInteger;
		scalar.integer = integer->get();
	} else if (const auto *boolean = node.as_boolean()) {
		scalar.type = Scalar::Type::kBoolean;
		scalar.boolean = boolean->get();
	} else {
		scalar.type = Scalar::Type::kOther;
		scalar.text = kind_of(node);
	}
	return scalar;
}

/// A value and where its items are.
struct Located {
	KeyValue value;
	std::vector<FilePosition> items;
};
Located to_value(const toml::node &node) {
	Located located;
	const auto add = [&](const toml::node &item) {
		located.value.items.push_back(to_scalar(item));
		located.items.push_back(position_of(item.source()));
	};
	const toml::array *array = node.as_array();
	located.value.list = array != nullptr;
	if (!array)
		add(node);
	else
		for (const toml::node &item : *array)
			add(item);
	return located;
}

/// Of a right list of sources.
std::vector<FilePosition> places_of_macs(const Located &sources) {
	std::vector<FilePosition> places;
	for (std::size_t i = 0; i < sources.items.size(); ++i)
		if (parse_mac_source(sources.value.items[i].text))
			places.push_back(sources.items[i]);
	return places;
}

/// The table that has this key, as it is written in a file.
std::string_view home_of(std::string_view key) {
	const auto has = [&](const auto &keys) {
		return std::any_of(keys.begin(), keys.end(), [&](const auto &k) { return k.name == key; });
	};
	return has(keys_of_gateway())    ? "[gateway]"
	       : has(keys_of_timeouts()) ? "[timeouts]"
	       : has(keys_of_limits())   ? "[limits]"
	       : has(keys_of_rule())     ? "[[rule]]"
					 : "";
}

class TomlReader {
public:
	TomlReader(const std::string &file, bool rules_only, ReadState &state)
	    : file_(file), rules_only_(rules_only), state_(state) {}

	void read(std::string_view text) {
		if (const auto deep = find_deep_key(text)) {
			error(*deep, fmt::format("TOML: a key of more than {} parts", kMostKeyParts));
			return;
		}
		if (const auto other = find_other_encoding(text)) {
			error(other->at, "TOML: " + other->what);
			return;
		}
		try {
			const toml::table root = toml::parse(text, std::string_view(file_));
			read_root(root);
		} catch (const toml::parse_error &e) {
			const FilePosition at = position_of(e.source());
			if (const auto foreign = find_foreign_mark(text, at.line))
				error(foreign->at, "TOML: " + foreign->what);
			else
				error(at, "TOML: " + text::one_line(e.description()));
		}
	}

private:
	void error(FilePosition at, std::string message) {
		state_.parsed.errors.push_back({file_, at.line, at.column, std::move(message)});
	}

	void read_root(const toml::table &root) {
		Config &config = state_.parsed.config;
		for (const auto &[key, node] : root) {
			const std::string_view name = key.str();
			const FilePosition at = position_of(key.source());
			const bool is_section = name == "gateway" || name == "timeouts" || name == "limits";
			if (name == "rule")
				read_rules(node, at);
			else if (is_section && rules_only_)
				error(at,
				      fmt::format("[{}] belongs into the main file: here can only be [[rule]]", name));
			else if (is_section && !node.is_table())
				error(at,
				      fmt::format("{0} is a table: write [{0}] on a line of its own, its keys below",
						  name));
			else if (name == "gateway")
				read_gateway(*node.as_table());
			else if (name == "timeouts")
				read_table(*node.as_table(), "[timeouts]", config.timeouts, keys_of_timeouts());
			else if (name == "limits")
				read_table(*node.as_table(), "[limits]", config.limits, keys_of_limits());
			else
				unknown_at_root(name, at);
		}
	}

	void unknown_at_root(std::string_view name, FilePosition at) {
		if (const std::string_view home = home_of(name); !home.empty()) {
			error(at, fmt::format("{} stands in no table: write it below {}", in_quotes(name), home));
			return;
		}
		const auto near = text::nearest(name, {"gateway", "timeouts", "limits", "rule"});
		const std::string tables = rules_only_ ? "[[rule]]" : "[gateway], [timeouts], [limits] and [[rule]]";
		if (near && !(rules_only_ && *near != "rule"))
			error(at, fmt::format("unknown {}: did you mean {}?", in_quotes(name),
					      *near == "rule" ? "[[rule]]" : fmt::format("[{}]", *near)));
		else
			error(at, fmt::format("unknown {}: here can be {}", in_quotes(name), tables));
	}

	void read_gateway(const toml::table &table) {
		GatewayConfig &gateway = state_.parsed.config.gateway;
		const auto wrong = read_table(table, "[gateway]", gateway, keys_of_gateway());
		for (const KeyConflict &conflict : conflicts_of(gateway))
			if (const toml::node *node = table.get(conflict.key); node && !wrong.contains(conflict.key))
				error(position_of(node->source()),
				      fmt::format("{}: {}", conflict.key, conflict.message));
	}

	/// Reads the keys of one table; returns those that have errors.
	template <typename Owner>
	std::set<std::string_view> read_table(const toml::table &table, std::string_view table_name, Owner &owner,
					      const std::vector<Key<Owner>> &keys, RulePlaces *places = nullptr) {
		std::set<std::string_view> wrong;
		for (const auto &[name, node] : table) {
			const auto key = std::find_if(keys.begin(), keys.end(),
						      [&, n = name.str()](const auto &k) { return k.name == n; });
			if (key == keys.end()) {
				unknown_key(name.str(), table_name, names_of(keys), position_of(name.source()));
				continue;
			}
			Located located = to_value(node);
			ValueReader reader(located.value);
			key->read(owner, reader);
			for (const KeyProblem &problem : reader.take_problems()) {
				const auto item = static_cast<std::size_t>(problem.item);
				error(problem.item >= 0 && item < located.items.size() ? located.items[item]
										       : position_of(node.source()),
				      fmt::format("{}: {}", key->name, problem.message));
				wrong.insert(key->name);
			}
			if (places && key->name == "sources")
				places->items.emplace(key->name, places_of_macs(located));
			if (places && (key->name == "open" || key->name == "trigger"))
				places->items.emplace(key->name, std::move(located.items));
		}
		return wrong;
	}

	void unknown_key(std::string_view name, std::string_view table, const std::vector<std::string_view> &known,
			 FilePosition at) {
		const std::string_view home = home_of(name);
		if (const auto near = text::nearest(name, known); near && home.empty())
			error(at, fmt::format("unknown key {} in {}: did you mean {}?", in_quotes(name), table, *near));
		else if (!home.empty())
			error(at,
			      fmt::format("{} is not a key of {}: it belongs into {}", in_quotes(name), table, home));
		else
			error(at, fmt::format("unknown key {} in {}: its keys are {}", in_quotes(name), table,
					      fmt::join(known, ", ")));
	}

	void read_rules(const toml::node &node, FilePosition key_at) {
		const toml::array *array = node.as_array();
		if (!array) {
			error(key_at,
			      node.is_table()
				      ? "there can be several rules: write [[rule]], with two brackets"
				      : "a rule is a table: write [[rule]] on a line of its own, its keys below");
			return;
		}
		for (const toml::node &item : *array) {
			if (const toml::table *table = item.as_table())
				read_rule(*table);
			else
				error(position_of(item.source()),
				      "a rule is a table: write [[rule]] on a line of its own, its "
				      "keys below");
		}
	}

	void read_rule(const toml::table &table) {
		const FilePosition at = position_of(table.source());
		Rule rule;
		RulePlaces places;
		const std::size_t errors_before = state_.parsed.errors.size();
		const auto wrong = read_table(table, "[[rule]]", rule, keys_of_rule(), &places);
		for (const KeyConflict &conflict : conflicts_of(rule)) {
			if (wrong.contains(conflict.key) ||
			    (conflict.key == "yield_after" && wrong.contains("timeout")))
				continue;
			const toml::node *node = table.get(conflict.key);
			error(node ? position_of(node->source()) : at,
			      fmt::format("{}: {}", conflict.key, conflict.message));
		}
		const toml::node *name = table.get("name");
		check_name(rule.name, name ? position_of(name->source()) : at);
		places.has_errors = state_.parsed.errors.size() != errors_before;
		state_.parsed.config.rules.push_back(std::move(rule));
		state_.parsed.origins.push_back({file_, at.line, at.column});
		state_.places.push_back(std::move(places));
	}

	void check_name(const std::string &name, FilePosition at) {
		if (name.empty())
			return;
		const auto [first, is_new] = state_.rule_names.try_emplace(name, state_.parsed.config.rules.size());
		if (is_new)
			return;
		const RuleOrigin &other = state_.parsed.origins[first->second];
		error(at, fmt::format("name: there is already a rule {}, at {}:{}:{}", in_quotes(name), other.file,
				      other.line, other.column));
	}

	const std::string &file_;
	const bool rules_only_;
	ReadState &state_;
};

} // namespace

void read_toml(std::string_view text, const std::string &file, bool rules_only, ReadState &state) {
	state.files.push_back(file);
	TomlReader(file, rules_only, state).read(text);
}

} // namespace ptrig
