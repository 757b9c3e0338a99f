// A value as it was written, in a file or on a command line, and its reading into a member of the
// configuration. Problems are collected, each with the item it is about.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loader/rule.h"

namespace ptrig {

struct Scalar {
	enum class Type { kText, kInteger, kBoolean, kOther } type = Type::kText;
	std::string text; ///< kOther: what it is, such as "a table"
	std::int64_t integer = 0;
	bool boolean = false;
};
struct KeyValue {
	std::vector<Scalar> items;
	bool list = false;         ///< in square brackets
	bool command_line = false; ///< all items are text, and nobody wrote brackets
};
struct KeyProblem {
	int item = -1; ///< index in KeyValue::items; -1: the value as a whole
	std::string message;
};

/// A list of texts.
struct ListForm {
	std::string_view example; ///< a right item, for messages
	std::size_t most = SIZE_MAX;
	bool may_be_empty = false;
	std::string_view words = {}; ///< what can stand there instead, for messages
};

/// Reads one value. On a problem the member keeps what it had; of a list, the items that are right are taken.
class ValueReader {
public:
	explicit ValueReader(const KeyValue &value) : value_(value) {}

	void boolean(bool &out);
	/// One line of printable text.
	void line(std::string &out);
	void duration(nanoseconds &out, nanoseconds least, nanoseconds most);
	void duration_or_none(std::optional<nanoseconds> &out, nanoseconds least, nanoseconds most);
	void number(std::uint32_t &out, std::uint32_t least, std::uint32_t most);
	void number_or_none(std::optional<std::uint32_t> &out, std::uint32_t least, std::uint32_t most);

	template <typename T> void parsed(T &out, Result<T> (*parse)(std::string_view)) {
		if (const Scalar *item = text_item("text"))
			take(out, parse(item->text), 0);
	}
	/// The outcome of parsing the only item: appended to `out`.
	template <typename T> void parsed_item(std::vector<T> &out, Result<T> result) {
		T item{};
		if (take(item, std::move(result), 0))
			out.push_back(std::move(item));
	}
	/// One of some words, each printed by to_string().
	template <typename E> void word(E &out, std::initializer_list<E> choices) {
		std::vector<std::string_view> words;
		for (const E choice : choices)
			words.push_back(to_string(choice));
		if (const auto index = choice(words))
			out = choices.begin()[*index];
	}
	template <typename T, typename Parse> void list(std::vector<T> &out, Parse parse, const ListForm &form) {
		if (!value_.list && !value_.command_line) {
			const auto lone = lone_text();
			const auto is_right = [&](std::string_view part) { return Result<T>(parse(part)).has_value(); };
			if (lone && !is_right(*lone) && lone->find_first_of(",;") != std::string_view::npos)
				several_in_one(-1, is_right, form);
			else
				not_a_list(lone && is_right(*lone) ? *lone : form.example, form);
			return;
		}
		if (!check_size(form))
			return;
		std::vector<T> taken;
		for (std::size_t i = 0; i < value_.items.size(); ++i) {
			T item{};
			if (!is_text(i, form.example))
				continue;
			const std::string &text = value_.items[i].text;
			Result<T> parsed = parse(text);
			const auto is_right = [&](std::string_view part) { return Result<T>(parse(part)).has_value(); };
			if (!parsed && text.find_first_of(",;") != std::string::npos)
				several_in_one(static_cast<int>(i), is_right, form);
			else if (take(item, std::move(parsed), static_cast<int>(i)))
				taken.push_back(std::move(item));
		}
		out = std::move(taken);
	}

	/// The text if there is exactly one and it is no list, or a list of one.
	std::optional<std::string_view> lone_text() const;
	void problem(int item, std::string message) { problems_.push_back({item, std::move(message)}); }
	std::vector<KeyProblem> take_problems() { return std::move(problems_); }

private:
	template <typename T> bool take(T &out, Result<T> result, int item) {
		if (result)
			out = std::move(*result);
		else
			problem(item, std::move(result.error().what));
		return result.has_value();
	}
	const Scalar *one(std::string_view wanted);
	const Scalar *text_item(std::string_view wanted);
	bool is_text(std::size_t index, std::string_view example);
	void not_a_list(std::string_view example, const ListForm &form);
	bool check_size(const ListForm &form);
	/// "5000,5001/udp": a list of other programs in one text.
	void several_in_one(int item, const std::function<bool(std::string_view)> &is_right, const ListForm &form);
	std::optional<std::size_t> choice(const std::vector<std::string_view> &words);

	const KeyValue &value_;
	std::vector<KeyProblem> problems_;
};

} // namespace ptrig
