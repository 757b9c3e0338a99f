// Which leases get fewer packets than they open, because a rule before theirs has one on the same ports. Pure.
#pragma once

#include <vector>

#include "loader/gateway.h"

namespace ptrig {

/// Fills `behind` and `behind_wholly` of the live ones among `leases`, which are all that there are. `rules`: in file
/// order. A packet goes to the first rule with a live lease on its WAN address that lets its remote in (bpf/open.h).
void mark_behind(std::vector<LeaseView> &leases, const std::vector<Rule> &rules);

} // namespace ptrig
