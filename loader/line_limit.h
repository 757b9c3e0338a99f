// Keeps a journal readable: so many lines a second, then the count of what was left out. The first line of a rule in a
// second comes on top, so that one rule's flood does not hide what happens to the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>

namespace ptrig {

class LineLimit {
public:
	explicit LineLimit(unsigned per_second) : per_second_(per_second) {}
	/// May a line about this rule be written at this time (seconds, any origin)? Counts it if not.
	bool take(std::uint64_t now_s, std::string_view rule);
	/// Lines left out in seconds before this one, to be told once; 0: none.
	std::uint64_t left_out(std::uint64_t now_s);

	static constexpr std::size_t kFirstLines = 100; ///< a second, of as many rules

private:
	unsigned per_second_;
	unsigned used_ = 0;
	std::set<std::string, std::less<>> told_; ///< rules, in this second
	std::uint64_t second_ = 0, dropped_ = 0;
};

} // namespace ptrig
