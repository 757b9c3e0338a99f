// What comes into a file by other programs: another encoding, the quotes and blanks of word processors and web pages.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "loader/toml_reader.h"

namespace ptrig {

struct ForeignText {
	FilePosition at;
	std::string what; ///< and what would be right
};
/// The first place that is not UTF-8, which TOML is.
std::optional<ForeignText> find_other_encoding(std::string_view text);
/// On this line (from 1), which TOML refuses: the first character that looks like one of TOML's and is none.
std::optional<ForeignText> find_foreign_mark(std::string_view text, unsigned line);

} // namespace ptrig
