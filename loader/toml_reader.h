// One TOML text into a ParsedConfig. The only part of ptrig that knows the TOML library is behind this.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loader/rule_file.h"

namespace ptrig {

struct FilePosition {
	unsigned line = 0;
	unsigned column = 0;
	auto operator<=>(const FilePosition &) const = default;
};

/// Where the parts of a rule were written, as long as its file is being read.
struct RulePlaces {
	std::map<std::string, std::vector<FilePosition>, std::less<>>
		items; ///< by key: of its items; of sources, its MAC addresses
	bool has_errors = false;
};

/// What has been read so far, over all files.
struct ReadState {
	ParsedConfig parsed;
	std::vector<std::string> files;                ///< in the order of reading
	std::vector<RulePlaces> places;                ///< one per rule
	std::map<std::string, std::size_t> rule_names; ///< to the index of the first rule of that name
};

/// Adds what `text` says. `rules_only`: nothing but [[rule]] may be in it.
void read_toml(std::string_view text, const std::string &file, bool rules_only, ReadState &state);
/// What only rules together can have wrong, once every file has been read.
void check_together(ReadState &state);

} // namespace ptrig
