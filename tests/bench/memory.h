// What a gateway's maps take.
#pragma once

#include <cstdint>
#include <string>

namespace bench {

struct Memory {
	std::uint64_t charged = 0; ///< as the kernel counts it (fdinfo)
	std::uint64_t content = 0; ///< keys and values alone, when full
};

/// All maps pinned under `pins`.
Memory memory_of(const std::string &pins);

} // namespace bench
