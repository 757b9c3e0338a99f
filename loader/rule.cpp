// Text of rule names, durations and the words of a rule, read and printed.
#include "loader/rule.h"

#include <array>
#include <fmt/format.h>

#include "loader/rule_text.h"

namespace ptrig {
namespace {

using text::in_quotes;

struct Unit {
	std::string_view name;
	std::int64_t ns;
};
/// From large to small, the order in which a duration is written. As a set of bits, days are the highest.
constexpr std::array<Unit, 5> kUnits{{
	{"d", 86'400'000'000'000},
	{"h", 3'600'000'000'000},
	{"m", 60'000'000'000},
	{"s", 1'000'000'000},
	{"ms", 1'000'000},
}};

tl::unexpected<Error> refuse(std::string_view whole, std::string_view why) {
	return fail(fmt::format("{}: {}", in_quotes(whole), why), Status::kInput);
}

bool has_unit(unsigned units, std::size_t unit) {
	return units >> (kUnits.size() - 1 - unit) & 1;
}

std::string in_units(std::int64_t ns, unsigned units) {
	std::string out;
	for (std::size_t i = 0; i < kUnits.size(); ++i) {
		if (!has_unit(units, i) || ns < kUnits[i].ns)
			continue;
		out += fmt::format("{}{}", ns / kUnits[i].ns, kUnits[i].name);
		ns %= kUnits[i].ns;
	}
	return out;
}

/// How long in_units() will be; nothing if these units cannot express `ns` exactly.
std::optional<std::size_t> length_in_units(std::int64_t ns, unsigned units) {
	std::size_t length = 0;
	for (std::size_t i = 0; i < kUnits.size(); ++i) {
		if (!has_unit(units, i) || ns < kUnits[i].ns)
			continue;
		for (std::int64_t count = ns / kUnits[i].ns; count > 0; count /= 10)
			++length;
		length += kUnits[i].name.size();
		ns %= kUnits[i].ns;
	}
	return ns == 0 ? std::optional(length) : std::nullopt;
}

/// Takes the leading digits, or all before the next digit, off the front of `rest`.
std::string_view take(std::string_view &rest, bool digits) {
	constexpr std::string_view kDigits = "0123456789";
	const std::size_t end = digits ? rest.find_first_not_of(kDigits) : rest.find_first_of(kDigits);
	const std::string_view taken = rest.substr(0, end);
	rest.remove_prefix(taken.size());
	return taken;
}

tl::unexpected<Error> refuse_without_unit(std::string_view whole, std::string_view digits) {
	const auto number = text::whole_number(digits);
	if (digits.size() != whole.size() || !number || *number > 1'000'000'000)
		return refuse(
			whole,
			"a unit is required: write one of d h m s ms after each number, as in \"10m\" or \"2h4m\"");
	if (*number == 0)
		return refuse(whole, "a unit is required: write \"0s\"");
	// Some routers count seconds and some minutes: neither is guessed.
	return refuse(whole,
		      fmt::format("a unit is required: write \"{0}s\" for seconds or \"{0}m\" for minutes", *number));
}

/// A number and its unit, such as "10m".
struct Term {
	std::size_t unit = 0;
	std::int64_t ns = 0;
};
Result<Term> take_term(std::string_view &rest, std::string_view whole) {
	const std::string_view digits = take(rest, true);
	if (digits.empty())
		return refuse(whole, "not a time: write numbers and units, as in \"10m\", \"2h4m\" or \"1500ms\"");
	if (rest.empty())
		return refuse_without_unit(whole, digits);
	const std::string_view name = take(rest, false);
	Term term;
	while (term.unit < kUnits.size() && kUnits[term.unit].name != name)
		++term.unit;
	if (term.unit == kUnits.size() && name.find('.') != std::string_view::npos)
		return refuse(whole, "write whole numbers, as in \"1h30m\" or \"1500ms\"");
	if (term.unit == kUnits.size())
		return refuse(whole, fmt::format("{} is no unit: write d, h, m, s or ms", in_quotes(name)));
	if (digits.size() > 1 && digits[0] == '0')
		return refuse(whole, "write numbers without a leading 0, as in \"10m\"");
	const auto number = text::whole_number(digits);
	if (!number || __builtin_mul_overflow(static_cast<std::int64_t>(*number), kUnits[term.unit].ns, &term.ns))
		return refuse(whole, "too long a time to be counted");
	return term;
}

constexpr std::size_t kLongestName = 31;
constexpr std::string_view kNameCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

/// The name itself if it is right, else the nearest right one: "Battle.net (1)" is "Battle.net-1". May be empty.
std::string as_rule_name(std::string_view name) {
	std::string out;
	bool replaced = false;
	for (const char c : name) {
		const bool wrong = kNameCharacters.find(c) == std::string_view::npos || (out.empty() && c == '.');
		replaced |= wrong;
		if (!wrong)
			out += c;
		else if (!out.empty() && out.back() != '-')
			out += '-';
	}
	if (out.size() > kLongestName) {
		out.resize(kLongestName);
		replaced = true;
	}
	while (replaced && !out.empty() && out.back() == '-')
		out.pop_back();
	return out;
}

} // namespace

Result<nanoseconds> parse_duration(std::string_view whole) {
	std::string_view rest = whole;
	std::int64_t total = 0;
	std::size_t next_unit = 0;
	if (whole.empty())
		return refuse(whole, "a time is missing: write one as in \"10m\" or \"2h4m\"");
	while (!rest.empty()) {
		const auto term = take_term(rest, whole);
		if (!term)
			return tl::unexpected(term.error());
		if (term->unit < next_unit)
			return refuse(whole, "write each unit once and the larger first, as in \"2h4m\"");
		next_unit = term->unit + 1;
		if (__builtin_add_overflow(total, term->ns, &total))
			return refuse(whole, "too long a time to be counted");
	}
	return nanoseconds(total);
}

std::string to_string(nanoseconds time) {
	constexpr std::int64_t kSmallest = kUnits.back().ns;
	const std::int64_t ns = time.count() / kSmallest * kSmallest;
	if (ns <= 0)
		return "0s";
	unsigned best = 0;
	std::size_t shortest = SIZE_MAX;
	// Counting down puts larger units first, so of two texts of one length they win: "2h4m", not "124m".
	for (unsigned units = (1U << kUnits.size()) - 1; units > 0; --units) {
		const auto length = length_in_units(ns, units);
		if (length && *length < shortest) {
			shortest = *length;
			best = units;
		}
	}
	return in_units(ns, best);
}

Result<std::string> parse_rule_name(std::string_view name) {
	constexpr std::string_view kForm = "1 to 31 of A-Z a-z 0-9 . _ -, not beginning with a dot";
	if (name.empty())
		return refuse(name, fmt::format("a rule needs a name: {}", kForm));
	const std::string right = as_rule_name(name);
	if (right == name)
		return right;
	const std::string offer = right.empty() ? "" : fmt::format(": write {}", in_quotes(right));
	if (name.size() > kLongestName && name.find_first_not_of(kNameCharacters) == std::string_view::npos)
		return refuse(name, fmt::format("{} characters are too many for a rule's name, {} the most{}",
						name.size(), kLongestName, offer));
	return refuse(name, fmt::format("a rule's name is {}{}", kForm, offer));
}

std::string_view to_string(Refresh refresh) {
	return refresh == Refresh::kTraffic ? "traffic" : "trigger";
}
std::string_view to_string(Conflict conflict) {
	return conflict == Conflict::kTakeover ? "takeover" : "hold";
}
std::string_view to_string(Close close) {
	return close == Close::kConnection ? "connection" : "idle";
}
std::string_view to_string(OnClose on_close) {
	return on_close == OnClose::kKill ? "kill" : "keep";
}
std::string_view to_string(Datapath datapath) {
	switch (datapath) {
	case Datapath::kXdp:
		return "xdp";
	case Datapath::kTc:
		return "tc";
	case Datapath::kKernel:
		return "kernel";
	default:
		return "auto";
	}
}
std::string_view to_string(FirewallMode firewall) {
	return firewall == FirewallMode::kNew ? "new" : "established";
}

} // namespace ptrig
