// What comes into a file by other programs: another encoding, the quotes and blanks of word processors and web pages.
#include "loader/toml_foreign.h"

#include <array>
#include <fmt/format.h>

#include "loader/rule_text.h"

namespace ptrig {
namespace {

/// Goes on by one character, in the columns of the TOML library.
void advance(FilePosition &at, std::string_view character) {
	if (character == "\n")
		at = {at.line + 1, 1};
	else
		++at.column;
}

bool starts_with_any(std::string_view text, const auto &marks) {
	for (const std::string_view mark : marks)
		if (text.starts_with(mark))
			return true;
	return false;
}

std::string_view line_of(std::string_view text, unsigned line) {
	for (unsigned i = 1; i < line; ++i) {
		const std::size_t end = text.find('\n');
		if (end == std::string_view::npos)
			return {};
		text.remove_prefix(end + 1);
	}
	return text.substr(0, text.find('\n'));
}

} // namespace

std::optional<ForeignText> find_other_encoding(std::string_view text) {
	using namespace std::string_view_literals;
	if (text.starts_with("\xff\xfe"sv) || text.starts_with("\xfe\xff"sv))
		return ForeignText{{1, 1}, "the file is UTF-16: save it as UTF-8"};
	FilePosition at{1, 1};
	while (!text.empty()) {
		const std::size_t size = text::character_size(text);
		if (size == 0)
			return ForeignText{at,
					   fmt::format("the file is not UTF-8 (here is the byte {:02x}): save it as "
						       "UTF-8",
						       static_cast<unsigned char>(text[0]))};
		advance(at, text.substr(0, size));
		text.remove_prefix(size);
	}
	return std::nullopt;
}

std::optional<ForeignText> find_foreign_mark(std::string_view text, unsigned line) {
	constexpr std::array<std::string_view, 9> kQuotes{"\u201c", "\u201d", "\u201e", "\u201f", "\u2018",
							  "\u2019", "\u201a", "\u00ab", "\u00bb"};
	constexpr std::array<std::string_view, 3> kBlanks{"\u00a0", "\u202f", "\u2007"};
	FilePosition at{line, 1};
	for (std::string_view rest = line_of(text, line); !rest.empty();) {
		const std::size_t size = text::character_size(rest);
		const std::string_view mark = rest.substr(0, size);
		if (starts_with_any(rest, kQuotes))
			return ForeignText{at,
					   fmt::format("{} is a typographic quote: write the straight \", as in name = "
						       "\"ftp\"",
						       mark)};
		if (starts_with_any(rest, kBlanks))
			return ForeignText{
				at, "here is a blank that cannot be broken (U+00A0 or the like): write a plain one"};
		if (size == 0)
			break;
		advance(at, mark);
		rest.remove_prefix(size);
	}
	return std::nullopt;
}

} // namespace ptrig
