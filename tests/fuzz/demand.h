// What a fuzzer's target demands of any input.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace fuzz {

inline void demand(bool is_true, const char *what, const std::string &shown) {
	if (is_true)
		return;
	std::fprintf(stderr, "%s:\n%s\n", what, shown.c_str());
	std::abort();
}

} // namespace fuzz
