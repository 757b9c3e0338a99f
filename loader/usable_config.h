// A configuration that is to be put to use: whole, or one error that says where it is wrong.
#pragma once

#include <string>

#include "loader/rule_file.h"

namespace ptrig {

/// load_config(path) without errors; else (kInput) the first of them, and how many more there are.
Result<Config> read_usable_config(const std::string &path);

} // namespace ptrig
