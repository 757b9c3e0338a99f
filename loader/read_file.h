// Files that others have put somewhere: what is opened may be no file at all, and must not hold anybody up.
#pragma once

#include <string>

#include "loader/result.h"

namespace ptrig {

/// All of a regular file. Never waits: a FIFO, a device, a socket or a directory is an error that names it. What is
/// larger than `most` bytes is an input error. Errors begin with a verb, to stand behind the path: "cannot be read:
/// ...".
Result<std::string> read_regular_file(const std::string &path, std::size_t most);
/// The rest of what an open descriptor gives, whatever it is.
Result<std::string> read_all(int fd, std::size_t most);

} // namespace ptrig
