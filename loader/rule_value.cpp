// A value as it was written, in a file or on a command line, and its reading into a member of the
// configuration.
#include "loader/rule_value.h"

#include <algorithm>
#include <fmt/format.h>

#include "loader/rule_text.h"

namespace ptrig {
namespace {

using text::in_quotes;

constexpr std::string_view kNone = "none";

std::string shown(const Scalar &item) {
	switch (item.type) {
	case Scalar::Type::kText:
		return in_quotes(item.text);
	case Scalar::Type::kInteger:
		return fmt::format("{}", item.integer);
	case Scalar::Type::kBoolean:
		return item.boolean ? "true" : "false";
	case Scalar::Type::kOther:
		break;
	}
	return item.text;
}

} // namespace

const Scalar *ValueReader::one(std::string_view wanted) {
	if (value_.items.size() == 1 && !value_.list)
		return &value_.items[0];
	if (value_.list)
		problem(-1, fmt::format("one value is wanted, without brackets: {}", wanted));
	else if (value_.items.empty())
		problem(-1, fmt::format("a value is missing: write {}", wanted));
	else
		problem(1, fmt::format("only one value is wanted: {}", wanted));
	return nullptr;
}

const Scalar *ValueReader::text_item(std::string_view wanted) {
	const Scalar *item = one(wanted);
	if (!item || item->type == Scalar::Type::kText)
		return item;
	problem(0, fmt::format("{} is not text: write {} in double quotes", shown(*item), wanted));
	return nullptr;
}

void ValueReader::boolean(bool &out) {
	const Scalar *item = one("true or false");
	if (!item)
		return;
	const bool is_word = item->type == Scalar::Type::kText && (item->text == "true" || item->text == "false");
	if (item->type == Scalar::Type::kBoolean)
		out = item->boolean;
	else if (is_word && value_.command_line)
		out = item->text == "true";
	else if (is_word)
		problem(0, fmt::format("write {} without quotes", item->text));
	else
		problem(0, fmt::format("{} is neither true nor false", shown(*item)));
}

void ValueReader::line(std::string &out) {
	const Scalar *item = text_item("one line of text");
	if (!item)
		return;
	if (text::is_printable(item->text))
		out = item->text;
	else
		problem(0, "one line of text without control characters is wanted");
}

void ValueReader::duration(nanoseconds &out, nanoseconds least, nanoseconds most) {
	const Scalar *item = one("a time as in \"10m\"");
	if (!item)
		return;
	if (item->type != Scalar::Type::kText && item->type != Scalar::Type::kInteger) {
		problem(0, fmt::format("{} is not a time: write one in double quotes, as in \"10m\"", shown(*item)));
		return;
	}
	const auto time =
		parse_duration(item->type == Scalar::Type::kText ? item->text : fmt::format("{}", item->integer));
	if (!time)
		problem(0, time.error().what);
	else if (*time < least || *time > most)
		problem(0, fmt::format("{} is out of range: write {} to {}", shown(*item), to_string(least),
				       to_string(most)));
	else
		out = *time;
}

void ValueReader::duration_or_none(std::optional<nanoseconds> &out, nanoseconds least, nanoseconds most) {
	if (!value_.list && lone_text() == kNone) {
		out.reset();
		return;
	}
	const std::size_t before = problems_.size();
	nanoseconds time{0};
	duration(time, least, most);
	if (problems_.size() == before)
		out = time;
}

void ValueReader::number(std::uint32_t &out, std::uint32_t least, std::uint32_t most) {
	const std::string wanted = fmt::format("a whole number from {} to {}", least, most);
	const Scalar *item = one(wanted);
	if (!item)
		return;
	std::optional<std::int64_t> number;
	if (item->type == Scalar::Type::kInteger) {
		number = item->integer;
	} else if (item->type == Scalar::Type::kText) {
		if (const auto digits = text::whole_number(item->text))
			number = static_cast<std::int64_t>(*digits);
		if (number && !value_.command_line) {
			problem(0, fmt::format("write {} without quotes", *number));
			return;
		}
	}
	if (number && *number >= least && *number <= most)
		out = static_cast<std::uint32_t>(*number);
	else
		problem(0, fmt::format("{} is not {}", shown(*item), wanted));
}

void ValueReader::number_or_none(std::optional<std::uint32_t> &out, std::uint32_t least, std::uint32_t most) {
	if (!value_.list && lone_text() == kNone) {
		out.reset();
		return;
	}
	const std::size_t before = problems_.size();
	std::uint32_t value = 0;
	number(value, least, most);
	if (problems_.size() == before)
		out = value;
	else if (!value_.list && value_.items.size() == 1)
		problems_.back().message += ", or \"none\"";
}

std::optional<std::string_view> ValueReader::lone_text() const {
	if (value_.items.size() != 1 || value_.items[0].type != Scalar::Type::kText)
		return std::nullopt;
	return value_.items[0].text;
}

bool ValueReader::is_text(std::size_t index, std::string_view example) {
	const Scalar &item = value_.items[index];
	if (item.type == Scalar::Type::kText)
		return true;
	problem(static_cast<int>(index),
		fmt::format("{} is not text: write each item in double quotes, as in \"{}\"", shown(item), example));
	return false;
}

void ValueReader::not_a_list(std::string_view example, const ListForm &form) {
	if (form.words.empty())
		problem(-1, fmt::format("a list is wanted: write [{}]", in_quotes(example)));
	else
		problem(-1, fmt::format("{} cannot be here: write {} or a list, as in [{}]", shown(value_.items[0]),
					form.words, in_quotes(example)));
}

bool ValueReader::check_size(const ListForm &form) {
	const std::size_t size = value_.items.size();
	if (size == 0 && !form.may_be_empty)
		problem(-1, fmt::format("the list is empty: write at least one, as in [\"{}\"]", form.example));
	else if (size > form.most)
		problem(static_cast<int>(form.most), fmt::format("{} are too many: write at most {}", size, form.most));
	else
		return true;
	return false;
}

void ValueReader::several_in_one(int item, const std::function<bool(std::string_view)> &is_right,
				 const ListForm &form) {
	const std::string &whole = value_.items[static_cast<std::size_t>(std::max(item, 0))].text;
	const std::string separated = text::replaced(whole, ';', ',');
	const std::size_t slash = whole.rfind('/');
	std::string offer;
	for (const std::string_view part : text::split(separated, ',')) {
		std::string each(text::trimmed(part));
		// Of "5000,5001/udp" the protocol is that of all.
		if (!is_right(each) && slash != std::string::npos && each.find('/') == std::string::npos)
			each += text::trimmed(separated.substr(slash));
		if (!is_right(each)) {
			offer = fmt::format("\"{}\", \"...\"", form.example);
			break;
		}
		offer += (offer.empty() ? "" : ", ") + in_quotes(each);
	}
	problem(item, fmt::format("{}: several in one text: write them as separate items, as in [{}]", in_quotes(whole),
				  offer));
}

std::optional<std::size_t> ValueReader::choice(const std::vector<std::string_view> &words) {
	const Scalar *item = one(text::alternatives(words));
	if (!item)
		return std::nullopt;
	for (std::size_t i = 0; i < words.size(); ++i)
		if (item->type == Scalar::Type::kText && item->text == words[i])
			return i;
	problem(0, fmt::format("{} is none of the words that can be here: write {}", shown(*item),
			       text::alternatives(words)));
	return std::nullopt;
}

} // namespace ptrig
