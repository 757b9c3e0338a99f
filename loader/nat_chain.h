// A nat chain of ptrig's own, `table ip ptrig`. The kernel translates packets only in a network namespace that has a
// nat chain, whoever's, and conntrack follows them only where a rule asks it something. This one is always kept, with
// one rule that changes no packet's way, so that nothing has to be known about others'. Nobody else's table is touched.
#pragma once

#include "loader/result.h"

namespace ptrig {

/// Is it there? Errors: no nftables in this kernel, CAP_NET_ADMIN missing.
Result<bool> nat_chain_present();
/// Done too if it is there. Without flags (`owner`, `persist`), which kernels before 6.9 do not have: `nft flush
/// ruleset` removes it, and whoever watches the ruleset adds it again.
Done add_nat_chain();
/// The table and all that is in it. Done too if it is not there.
Done remove_nat_chain();

} // namespace ptrig
