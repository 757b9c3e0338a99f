// Dotted keys nest tables one in another, and the TOML library frees those by recursion: some 100,000 dots
// would use up the stack. It limits the depth of lists and inline tables, but not that of keys.
#pragma once

#include <optional>
#include <string_view>

#include "loader/toml_reader.h"

namespace ptrig {

/// No key of the configuration has more than two parts.
inline constexpr unsigned kMostKeyParts = 16;

/// Where a key with more parts than that begins, if there is one.
std::optional<FilePosition> find_deep_key(std::string_view text);

} // namespace ptrig
