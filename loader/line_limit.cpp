// The clock is handed in, so that no test has to wait.
#include "loader/line_limit.h"

#include <utility>

namespace ptrig {

bool LineLimit::take(std::uint64_t now_s, std::string_view rule) {
	if (now_s != second_) {
		second_ = now_s;
		used_ = 0;
		told_.clear();
	}
	if (told_.size() < kFirstLines && told_.find(rule) == told_.end()) {
		told_.emplace(rule);
		return true;
	}
	if (used_ < per_second_) {
		++used_;
		return true;
	}
	++dropped_;
	return false;
}

std::uint64_t LineLimit::left_out(std::uint64_t now_s) {
	return now_s == second_ ? 0 : std::exchange(dropped_, 0);
}

} // namespace ptrig
