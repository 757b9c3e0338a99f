// How anything is printed: tables and JSON, both from one list of fields per row type, and the text of
// numbers and times. Knows no gateway; writes to the FILE it is given.
#pragma once

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace ptrig::cli {

using Json = nlohmann::ordered_json;

/// What a terminal gets and a pipe does not.
struct Style {
	bool color = false; ///< NO_COLOR is unset, too
	bool units = false; ///< "4m12s", "1.2 MiB"; else plain seconds and bytes
};
Style style_of(FILE *file);

enum class Color { kNone, kRed, kGreen, kYellow, kBold, kDim };
std::string paint(std::string_view text, Color color, const Style &style);

/// Seconds as "4m12s" (units) or "252".
std::string duration_text(double seconds, const Style &style);
/// Bytes as "1.2 MiB" (units) or "1258291".
std::string bytes_text(std::uint64_t bytes, const Style &style);
/// Seconds with milliseconds; whole ones as an integer.
Json seconds_json(double seconds);
/// Seconds since the epoch as RFC 3339 in UTC, with milliseconds.
std::string rfc3339(double seconds);
/// Control characters replaced, so that no text of a rule can steer a terminal.
std::string printable(std::string_view text);
/// "1 session", "2 sessions".
std::string counted(std::uint64_t count, std::string_view noun);
/// Columns a terminal needs for UTF-8 text.
std::size_t width_of(std::string_view text);
/// A JSON value for people: strings bare, arrays joined with ", ", null "-".
std::string text_of(const Json &value);

/// One field of a row type: a key of the JSON object, a column of the table, or both.
template <typename Row> struct Field {
	const char *key = "";   ///< "": not in JSON
	const char *title = ""; ///< "": not in the table
	Json (*json)(const Row &) = nullptr;
	std::string (*text)(const Row &, const Style &) = nullptr; ///< null: text_of(json)
	bool right = false;
	unsigned width = 0;     ///< of the column where rows are streamed
	bool if_needed = false; ///< the column is left out when every row says "" or "-"
};

template <typename Row> Json row_json(const std::vector<Field<Row>> &fields, const Row &row) {
	Json object = Json::object();
	for (const auto &field : fields)
		if (*field.key != '\0')
			object[field.key] = field.json(row);
	return object;
}

template <typename Row> std::string field_text(const Field<Row> &field, const Row &row, const Style &style) {
	return printable(field.text != nullptr ? field.text(row, style) : text_of(field.json(row)));
}

struct Column {
	std::string title;
	bool right = false;
	std::size_t width = 0;
	bool if_needed = false;
};
/// Lines up cells; the last column is never padded.
std::string table_line(const std::vector<Column> &columns, const std::vector<std::string> &cells);
/// Sets the widths by the content, drops columns that are not needed, prints.
void print_table(FILE *out, std::vector<Column> columns, const std::vector<std::vector<std::string>> &rows,
		 const Style &style);
/// One line of JSON, or an indented object; bytes that are not UTF-8 are replaced.
std::string json_line(const Json &value);
std::string json_pretty(const Json &value);

/// Prints rows as they come: a table with fixed columns, or a JSON array, an object a line.
template <typename Row> class RowWriter {
public:
	RowWriter(FILE *out, bool json, const Style &style, const std::vector<Field<Row>> &fields)
	    : out_(out), json_(json), style_(style), fields_(fields) {
		for (const auto &field : fields_)
			if (*field.title != '\0')
				columns_.push_back({field.title, field.right, field.width, field.if_needed});
	}
	void add(const Row &row) {
		if (json_)
			std::fprintf(out_, "%s%s", count_ == 0 ? "[\n" : ",\n",
				     json_line(row_json(fields_, row)).c_str());
		else
			add_line(row);
		++count_;
	}
	/// Ends the JSON array; returns how many rows there were.
	std::size_t finish() {
		if (json_)
			std::fputs(count_ == 0 ? "[]\n" : "\n]\n", out_);
		return count_;
	}

private:
	void add_line(const Row &row) {
		std::vector<std::string> cells;
		if (count_ == 0) {
			for (const auto &column : columns_)
				cells.push_back(column.title);
			std::fprintf(out_, "%s\n", paint(table_line(columns_, cells), Color::kBold, style_).c_str());
			cells.clear();
		}
		for (const auto &field : fields_)
			if (*field.title != '\0')
				cells.push_back(field_text(field, row, style_));
		std::fprintf(out_, "%s\n", table_line(columns_, cells).c_str());
	}

	FILE *out_;
	bool json_;
	Style style_;
	const std::vector<Field<Row>> &fields_;
	std::vector<Column> columns_;
	std::size_t count_ = 0;
};

/// Prints rows that are all there: a table with columns as wide as needed, or a JSON array.
template <typename Row>
void print_rows(FILE *out, bool json, const Style &style, const std::vector<Field<Row>> &fields,
		const std::vector<Row> &rows) {
	if (json) {
		RowWriter<Row> writer(out, true, style, fields);
		for (const auto &row : rows)
			writer.add(row);
		writer.finish();
		return;
	}
	std::vector<Column> columns;
	for (const auto &field : fields)
		if (*field.title != '\0')
			columns.push_back({field.title, field.right, 0, field.if_needed});
	std::vector<std::vector<std::string>> cells;
	for (const auto &row : rows) {
		auto &line = cells.emplace_back();
		for (const auto &field : fields)
			if (*field.title != '\0')
				line.push_back(field_text(field, row, style));
	}
	print_table(out, std::move(columns), cells, style);
}

} // namespace ptrig::cli
