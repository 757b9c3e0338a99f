// Many errors become one line; `ptrig check` shows them all.
#include "loader/usable_config.h"

#include <fmt/format.h>

namespace ptrig {

Result<Config> read_usable_config(const std::string &path) {
	ParsedConfig parsed = load_config(path);
	if (parsed.errors.empty())
		return std::move(parsed.config);
	std::string what = parsed.errors.front().text();
	if (parsed.errors.size() > 1)
		what += fmt::format(" (and {} more: ptrig check {})", parsed.errors.size() - 1, path);
	return fail(std::move(what), Status::kInput);
}

} // namespace ptrig
