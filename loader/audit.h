// Do the datapath's counts agree with its tables? Packets change both while they are read, so a count is wrong only if
// it is off by the same number several times in a row.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "include/ptrig/abi.h"
#include "loader/result.h"

namespace ptrig {

/// One count, named as the datapath's MEND wants it; addresses in network order.
struct Book {
	std::uint32_t what = 0; ///< enum ptrig_book
	__be32 host = 0;
	std::uint32_t rule = 0, lease = 0, index = 0;
	__be32 remote = 0, wan = 0;
	auto operator<=>(const Book &) const = default;
};

/// What is to be added to a count.
struct Correction {
	Book book;
	std::int32_t by = 0;
};
/// "sessions of host 192.168.77.11 in rule 7".
std::string text_of(const Book &book);

class Audit {
public:
	static constexpr int kTimes = 3; ///< so often in a row a count must be off by the same number

	/// Compare all counts of the gateway pinned at `dir` once. Errors: kSystem if its maps cannot be read.
	Result<std::vector<Correction>> look(const std::string &dir);

private:
	struct Streak {
		std::int64_t off = 0;
		int times = 0;
	};
	std::map<Book, Streak> wrong_;
};

} // namespace ptrig
