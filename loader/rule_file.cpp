// The configuration as a whole: its files one after the other, and what its rules have wrong together.
#include "loader/rule_file.h"

#include <algorithm>
#include <dirent.h>
#include <fmt/format.h>
#include <map>
#include <memory>
#include <tuple>
#include <unistd.h>

#include "loader/port_index.h"
#include "loader/read_file.h"
#include "loader/toml_reader.h"

namespace ptrig {
namespace {

constexpr std::size_t kLargestFile = 256U << 20;

/// The files of a rules.d in name order. Emacs leaves dangling links ".#NAME.toml" beside what it edits.
Result<std::vector<std::string>> rule_files_in(const std::string &directory) {
	std::vector<std::string> files;
	const std::unique_ptr<DIR, int (*)(DIR *)> dir(::opendir(directory.c_str()), ::closedir);
	if (!dir && errno == ENOENT)
		return files;
	if (!dir)
		return system_error("cannot be read");
	while (const dirent *entry = ::readdir(dir.get())) {
		const std::string_view name = entry->d_name;
		if (name.ends_with(".toml") && name != ".toml" && !name.starts_with(".#"))
			files.push_back(directory + "/" + std::string(name));
	}
	std::sort(files.begin(), files.end());
	return files;
}

void add_file(const std::string &path, bool rules_only, ReadState &state) {
	const auto text = read_regular_file(path, kLargestFile);
	if (text)
		read_toml(*text, path, rules_only, state);
	else
		state.parsed.errors.push_back({path, 0, 0, text.error().what});
}

/// In the order in which a person goes through the files.
void sort_errors(ReadState &state) {
	std::map<std::string_view, std::size_t> order;
	for (const std::string &file : state.files)
		order.try_emplace(file, order.size());
	const auto place = [&](const Diagnostic &d) {
		const auto file = order.find(d.file);
		return std::tuple(file == order.end() ? order.size() : file->second, d.line, d.column);
	};
	std::vector<Diagnostic> &errors = state.parsed.errors;
	std::stable_sort(errors.begin(), errors.end(),
			 [&](const Diagnostic &a, const Diagnostic &b) { return place(a) < place(b); });
}

ParsedConfig finish(ReadState state) {
	check_together(state);
	sort_errors(state);
	return std::move(state.parsed);
}

} // namespace

std::string Diagnostic::text() const {
	if (file.empty())
		return message;
	if (line == 0)
		return fmt::format("{}: {}", file, message);
	return fmt::format("{}:{}:{}: {}", file, line, column, message);
}

void check_together(ReadState &state) {
	ParsedConfig &parsed = state.parsed;
	PortIndexes indexes;
	if (parsed.errors.empty()) {
		indexes = index_ports(parsed.config);
	} else {
		// Rules that are wrong by themselves have had their say.
		Config right = parsed.config;
		for (std::size_t i = 0; i < right.rules.size(); ++i)
			right.rules[i].enabled &= !state.places[i].has_errors;
		indexes = index_ports(right);
	}
	for (const RuleConflict &conflict : indexes.conflicts) {
		const RuleOrigin &origin = parsed.origins[conflict.rule];
		FilePosition at{origin.line, origin.column};
		const auto &items = state.places[conflict.rule].items;
		if (const auto places = items.find(conflict.key); conflict.item >= 0 && places != items.end())
			at = places->second[static_cast<std::size_t>(conflict.item)];
		std::string message = conflict.key.empty() ? "" : conflict.key + ": ";
		message += conflict.message;
		parsed.errors.push_back({origin.file, at.line, at.column, std::move(message)});
	}
}

ParsedConfig parse_config(std::string_view text, const std::string &file) {
	ReadState state;
	state.parsed.file = file;
	read_toml(text, file, false, state);
	return finish(std::move(state));
}

ParsedConfig load_config(const std::string &path) {
	ReadState state;
	if (path == "-") {
		state.parsed.file = "<stdin>";
		if (const auto text = read_all(STDIN_FILENO, kLargestFile))
			read_toml(*text, state.parsed.file, false, state);
		else
			state.parsed.errors.push_back({state.parsed.file, 0, 0, text.error().what});
		return finish(std::move(state));
	}
	state.parsed.file = path;
	add_file(path, false, state);
	const std::size_t slash = path.rfind('/');
	const std::string directory = (slash == std::string::npos ? "" : path.substr(0, slash + 1)) + "rules.d";
	if (const auto files = rule_files_in(directory))
		for (const std::string &file : *files)
			add_file(file, true, state);
	else
		state.parsed.errors.push_back({directory, 0, 0, files.error().what});
	return finish(std::move(state));
}

} // namespace ptrig
