// Small tools for the texts of rules: quoting for messages, splitting, whole numbers, the nearest word.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ptrig::text {

/// The text in double quotes, fit for one line of a terminal: control characters escaped, cut when long.
std::string in_quotes(std::string_view text);
/// As in_quotes(), but whole and without the quotes.
std::string one_line(std::string_view text);
/// A TOML basic string that reads back as `text`, which must be UTF-8.
std::string toml_string(std::string_view text);
/// Valid UTF-8 without control characters, so that it can be printed as it is.
bool is_printable(std::string_view text);

/// Bytes of the first character; 0: it is not UTF-8. The text must not be empty.
std::size_t character_size(std::string_view text);

std::string_view trimmed(std::string_view text);
std::vector<std::string_view> split(std::string_view text, char separator);
std::string replaced(std::string_view text, char from, char to);
/// The letters of ASCII as small ones; all else stays.
std::string lowered(std::string_view text);

/// A host's name as people write it: letters, and nothing but digits, dots, dashes and underscores beside them.
bool is_name(std::string_view text);

/// Decimal digits only, no sign, no leading zero, at most 18 of them.
std::optional<std::uint64_t> whole_number(std::string_view text);

/// The known word with the fewest typing mistakes, if there are few enough to guess.
std::optional<std::string_view> nearest(std::string_view word, const std::vector<std::string_view> &known);
/// "a", "a or b", "a, b or c".
std::string alternatives(const std::vector<std::string_view> &words);

} // namespace ptrig::text
