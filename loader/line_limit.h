// Keeps a journal readable: so many lines a second, then the count of what was left out.
#pragma once

#include <cstdint>

namespace ptrig {

class LineLimit {
public:
	explicit LineLimit(unsigned per_second) : per_second_(per_second) {}
	/// May a line be written at this time (seconds, any origin)? Counts it if not.
	bool take(std::uint64_t now_s);
	/// Lines left out in seconds before this one, to be told once; 0: none.
	std::uint64_t left_out(std::uint64_t now_s);

private:
	unsigned per_second_;
	unsigned used_ = 0;
	std::uint64_t second_ = 0, dropped_ = 0;
};

} // namespace ptrig
