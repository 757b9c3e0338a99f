// Permissions of the fast path, as far as user space has a say in them.
#pragma once

#include <cstdint>
#include <span>

#include "include/ptrig/abi.h"

namespace ptrig {

/// No way of pt_fast is permitted for longer than a second (`hz` ticks) from now on, each for another part of it. What
/// time it is, is taken from pt_hops: nothing is fast unless some packet has just renewed one. A way that a packet
/// renews at the same moment may keep its time, for that packet was let out just now.
void shorten_permissions(std::span<ptrig_fast_bucket> ways, std::span<const ptrig_hop> hops, std::uint32_t hz);

} // namespace ptrig
