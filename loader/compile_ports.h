// The port tables of a generation, from the rules on each port.
#pragma once

#include <cstdint>
#include <vector>

#include "loader/compile.h"
#include "loader/port_index.h"

namespace ptrig {

/// Fills trigger_ports, open_ports, host_ports and lists; `slots` are those of the rules, by index.
/// kInput if more than `most_lists` different lists are needed.
Done write_port_tables(const PortIndexes &indexes, const std::vector<std::uint16_t> &slots, std::uint32_t most_lists,
		       Tables &tables);

} // namespace ptrig
