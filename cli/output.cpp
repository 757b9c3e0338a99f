// The text of numbers, times and tables. No row type is known here: see rows.cpp.
#include "cli/output.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fmt/format.h>
#include <unistd.h>

namespace ptrig::cli {

Style style_of(FILE *file) {
	const bool terminal = isatty(fileno(file)) == 1;
	const char *no_color = std::getenv("NO_COLOR");
	const char *term = std::getenv("TERM");
	const bool dumb = term == nullptr || std::string_view(term) == "dumb";
	return {.color = terminal && !dumb && (no_color == nullptr || *no_color == '\0'), .units = terminal};
}

std::string paint(std::string_view text, Color color, const Style &style) {
	static constexpr std::array<const char *, 6> kCodes{"", "31", "32", "33", "1", "2"};
	if (!style.color || color == Color::kNone)
		return std::string(text);
	return fmt::format("\033[{}m{}\033[0m", kCodes[static_cast<std::size_t>(color)], text);
}

std::string duration_text(double seconds, const Style &style) {
	const auto whole = static_cast<long long>(std::llround(std::max(seconds, 0.0)));
	if (!style.units)
		return std::to_string(whole);
	const long long days = whole / 86400, hours = whole / 3600 % 24, minutes = whole / 60 % 60, rest = whole % 60;
	if (days > 0)
		return fmt::format("{}d{:02}h", days, hours);
	if (hours > 0)
		return fmt::format("{}h{:02}m", hours, minutes);
	if (minutes > 0)
		return fmt::format("{}m{:02}s", minutes, rest);
	return fmt::format("{}s", rest);
}

std::string bytes_text(std::uint64_t bytes, const Style &style) {
	static constexpr std::array<const char *, 6> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	if (!style.units)
		return std::to_string(bytes);
	if (bytes < 1024)
		return fmt::format("{} B", bytes);
	double value = static_cast<double>(bytes) / 1024;
	std::size_t unit = 0;
	for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit)
		value /= 1024;
	return fmt::format("{:.{}f} {}", value, value < 10 ? 1 : 0, kUnits[unit]);
}

Json seconds_json(double seconds) {
	const double rounded = std::round(seconds * 1000) / 1000;
	if (rounded == std::floor(rounded) && std::abs(rounded) < 1e15)
		return static_cast<std::int64_t>(rounded);
	return rounded;
}

std::string rfc3339(double seconds) {
	const auto ms = static_cast<std::int64_t>(std::llround(seconds * 1000));
	const auto whole = static_cast<std::time_t>(ms / 1000);
	std::tm tm{};
	gmtime_r(&whole, &tm);
	return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
			   tm.tm_hour, tm.tm_min, tm.tm_sec, ms % 1000);
}

std::string printable(std::string_view text) {
	std::string clean(text);
	for (std::size_t i = 0; i < clean.size(); ++i) {
		const auto byte = static_cast<unsigned char>(clean[i]);
		// C1 controls are 0xC2 0x80..0x9F in UTF-8; a terminal obeys them like ESC sequences.
		const bool c1 = byte == 0xC2 && i + 1 < clean.size() &&
				(static_cast<unsigned char>(clean[i + 1]) & 0xE0) == 0x80;
		if (c1)
			clean.replace(i, 2, "?");
		else if (byte < 0x20 || byte == 0x7F)
			clean[i] = byte == '\n' || byte == '\t' ? ' ' : '?';
	}
	return clean;
}

std::string counted(std::uint64_t count, std::string_view noun) {
	return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::size_t width_of(std::string_view text) {
	return static_cast<std::size_t>(std::count_if(
		text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string text_of(const Json &value) {
	if (value.is_null())
		return "-";
	if (value.is_string())
		return value.get<std::string>();
	if (!value.is_array())
		return value.dump();
	std::string joined;
	for (const auto &item : value)
		joined += (joined.empty() ? "" : ", ") + text_of(item);
	return joined.empty() ? "-" : joined;
}

std::string table_line(const std::vector<Column> &columns, const std::vector<std::string> &cells) {
	std::string line;
	for (std::size_t i = 0; i < columns.size(); ++i) {
		const std::size_t width = width_of(cells[i]);
		const std::string gap(columns[i].width > width ? columns[i].width - width : 0, ' ');
		if (i > 0)
			line += "  ";
		if (columns[i].right)
			line += gap + cells[i];
		else
			line += cells[i] + (i + 1 < columns.size() ? gap : "");
	}
	return line;
}

void print_table(FILE *out, std::vector<Column> columns, const std::vector<std::vector<std::string>> &rows,
		 const Style &style) {
	if (rows.empty())
		return;
	std::vector<std::size_t> shown;
	for (std::size_t i = 0; i < columns.size(); ++i) {
		const bool said = std::any_of(rows.begin(), rows.end(),
					      [&](const auto &row) { return !row[i].empty() && row[i] != "-"; });
		if (said || !columns[i].if_needed)
			shown.push_back(i);
	}
	std::vector<Column> kept;
	std::vector<std::string> cells;
	for (const std::size_t i : shown) {
		columns[i].width = width_of(columns[i].title);
		for (const auto &row : rows)
			columns[i].width = std::max(columns[i].width, width_of(row[i]));
		kept.push_back(columns[i]);
		cells.push_back(columns[i].title);
	}
	std::fprintf(out, "%s\n", paint(table_line(kept, cells), Color::kBold, style).c_str());
	for (const auto &row : rows) {
		cells.clear();
		for (const std::size_t i : shown)
			cells.push_back(row[i]);
		std::fprintf(out, "%s\n", table_line(kept, cells).c_str());
	}
}

std::string json_line(const Json &value) {
	return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string json_pretty(const Json &value) {
	return value.dump(2, ' ', false, Json::error_handler_t::replace);
}

} // namespace ptrig::cli
