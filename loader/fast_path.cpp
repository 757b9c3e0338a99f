// See fast_path.h.
#include "loader/fast_path.h"

#include <atomic>
#include <optional>

namespace ptrig {

namespace {

/// The kernel's tick, as the last packet that renewed a hop knew it.
std::optional<std::uint32_t> last_tick(std::span<const ptrig_hop> hops, std::uint32_t hz) {
	std::optional<std::uint32_t> latest;
	for (const ptrig_hop &hop : hops) {
		const std::uint32_t renewed = hop.until - hz;
		if (hop.oif && (!latest || static_cast<std::int32_t>(renewed - *latest) > 0))
			latest = renewed;
	}
	return latest;
}

} // namespace

void shorten_permissions(std::span<ptrig_fast_bucket> ways, std::span<const ptrig_hop> hops, std::uint32_t hz) {
	const auto now = last_tick(hops, hz);
	std::uint32_t number = 0;
	for (ptrig_fast_bucket &bucket : ways)
		for (ptrig_fast &way : bucket.way) {
			const std::atomic_ref<std::uint32_t> until(way.until);
			number++;
			if (!now || until - *now <= hz || until - *now > PTRIG_FAST_SECONDS * hz)
				continue;
			until = *now + 1 + number * 2654435761U % hz;
		}
}

} // namespace ptrig
