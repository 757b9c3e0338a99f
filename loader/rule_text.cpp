// Small tools for the texts of rules: quoting for messages, splitting, whole numbers, the nearest word.
#include "loader/rule_text.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

namespace ptrig::text {
namespace {

constexpr std::size_t kLongestQuote = 80;

struct CodePoint {
	char32_t value = 0;
	std::size_t size = 0; ///< bytes; 0: not valid UTF-8
};

CodePoint first_code_point(std::string_view text) {
	const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
	const unsigned lead = byte(0);
	if (lead < 0x80)
		return {lead, 1};
	const std::size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
	if (lead < 0xC2 || lead > 0xF4 || text.size() < size)
		return {};
	char32_t value = lead & (0xFFU >> (size + 1));
	for (std::size_t i = 1; i < size; ++i) {
		if ((byte(i) & 0xC0) != 0x80)
			return {};
		value = value << 6 | (byte(i) & 0x3F);
	}
	// Overlong forms, surrogates and what lies beyond Unicode (RFC 3629).
	constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
	if (value < kSmallest[size] || (value >= 0xD800 && value <= 0xDFFF) || value > 0x10FFFF)
		return {};
	return {value, size};
}

/// Control characters of ASCII and Latin-1, line separators, and what turns the direction of the text around it.
bool is_control(char32_t c) {
	return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

std::size_t typing_mistakes(std::string_view a, std::string_view b) {
	// Optimal string alignment: insert, delete, replace, or swap two neighbours.
	std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
	for (std::size_t i = 0; i <= a.size(); ++i)
		cost[i][0] = i;
	for (std::size_t j = 0; j <= b.size(); ++j)
		cost[0][j] = j;
	for (std::size_t i = 1; i <= a.size(); ++i) {
		for (std::size_t j = 1; j <= b.size(); ++j) {
			const std::size_t replace = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
			cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replace});
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
		}
	}
	return cost[a.size()][b.size()];
}

} // namespace

std::string one_line(std::string_view text) {
	std::string out;
	while (!text.empty()) {
		const CodePoint c = first_code_point(text);
		if (c.size == 0)
			out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
		else if (is_control(c.value))
			out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c.value));
		else
			out += text.substr(0, c.size);
		text.remove_prefix(std::max<std::size_t>(c.size, 1));
	}
	return out;
}

std::string in_quotes(std::string_view text) {
	std::size_t end = std::min(text.size(), kLongestQuote);
	// Not in the middle of a character.
	while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
		--end;
	return fmt::format("\"{}{}\"", one_line(text.substr(0, end)), end < text.size() ? "..." : "");
}

std::string toml_string(std::string_view text) {
	std::string out = "\"";
	for (const char c : text) {
		const auto byte = static_cast<unsigned char>(c);
		if (c == '"' || c == '\\')
			out += {'\\', c};
		else if (byte < 0x20 || byte == 0x7F)
			out += fmt::format("\\u{:04X}", byte);
		else
			out += c;
	}
	return out + "\"";
}

bool is_printable(std::string_view text) {
	while (!text.empty()) {
		const CodePoint c = first_code_point(text);
		if (c.size == 0 || is_control(c.value))
			return false;
		text.remove_prefix(c.size);
	}
	return true;
}

std::size_t character_size(std::string_view text) {
	return first_code_point(text).size;
}

std::string_view trimmed(std::string_view text) {
	const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
	while (!text.empty() && is_space(text.front()))
		text.remove_prefix(1);
	while (!text.empty() && is_space(text.back()))
		text.remove_suffix(1);
	return text;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
	std::vector<std::string_view> parts;
	for (;;) {
		const std::size_t at = text.find(separator);
		parts.push_back(text.substr(0, at));
		if (at == std::string_view::npos)
			return parts;
		text.remove_prefix(at + 1);
	}
}

std::string replaced(std::string_view text, char from, char to) {
	std::string out(text);
	std::replace(out.begin(), out.end(), from, to);
	return out;
}

std::string lowered(std::string_view text) {
	std::string out(text);
	for (char &c : out)
		if (c >= 'A' && c <= 'Z')
			c = static_cast<char>(c - 'A' + 'a');
	return out;
}

bool is_name(std::string_view text) {
	const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
	const auto is_other = [](char c) { return (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'; };
	const std::string_view last = text.substr(text.rfind('.') + 1); // of an address that is wrong it is a number
	return std::any_of(last.begin(), last.end(), is_letter) &&
	       std::all_of(text.begin(), text.end(), [&](char c) { return is_letter(c) || is_other(c); });
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
	constexpr std::size_t kMostDigits = 18;
	if (text.empty() || text.size() > kMostDigits || (text.size() > 1 && text[0] == '0'))
		return std::nullopt;
	std::uint64_t value = 0;
	const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
	if (error != std::errc() || end != text.data() + text.size())
		return std::nullopt;
	return value;
}

std::optional<std::string_view> nearest(std::string_view word, const std::vector<std::string_view> &known) {
	constexpr std::size_t kLongestWord = 40;
	if (word.size() > kLongestWord)
		return std::nullopt;
	std::optional<std::string_view> best;
	std::size_t fewest = std::max<std::size_t>(2, word.size() / 3) + 1;
	for (const std::string_view candidate : known) {
		const std::size_t mistakes = typing_mistakes(word, candidate);
		// A guess that shares no letter is none.
		if (mistakes < fewest && mistakes < std::max(word.size(), candidate.size())) {
			fewest = mistakes;
			best = candidate;
		}
	}
	return best;
}

std::string alternatives(const std::vector<std::string_view> &words) {
	std::string out;
	for (std::size_t i = 0; i < words.size(); ++i) {
		if (i > 0)
			out += i + 1 == words.size() ? " or " : ", ";
		out += words[i];
	}
	return out;
}

} // namespace ptrig::text
