// pt_port_bits: what the rules say of each port, so that ordinary packets need no port table (see abi.h).
#pragma once

#include <atomic>
#include <cstdint>

#include "include/ptrig/abi.h"

namespace ptrig {

/// Sets the rules' bits of every port to what the port tables of these generations say, and leaves those of sessions,
/// which packets write at the same time. `Ports` and `Bits` are arrays in shared memory, the three tables whole.
template <typename Ports, typename Bits>
void set_rule_bits(Ports &trigger, Ports &open, Ports &host, Bits &bits, bool of_first, bool of_second) {
	const auto any = [&](Ports &table, std::uint32_t index) {
		return (of_first && table[PTRIG_PORT_INDEX(0U, 0U, index)]) ||
		       (of_second && table[PTRIG_PORT_INDEX(1U, 0U, index)]);
	};
	for (std::uint32_t word = 0; word < PTRIG_PORT_BITS_SIZE; word++) {
		std::uint64_t all = 0, rules = 0;
		for (std::uint32_t index = word * 8; index < word * 8 + 8; index++) {
			const std::uint64_t here = (any(trigger, index) ? PTRIG_PORT_TRIGGERS : 0U) |
						   (any(open, index) ? PTRIG_PORT_OPENS : 0U) |
						   (any(host, index) ? PTRIG_PORT_HOSTS : 0U);
			all |= std::uint64_t{PTRIG_PORT_RULES} << PTRIG_PORT_BITS_SHIFT(index);
			rules |= here << PTRIG_PORT_BITS_SHIFT(index);
		}
		const std::atomic_ref<std::uint64_t> shared(bits[word]);
		shared.fetch_or(rules, std::memory_order_relaxed);
		shared.fetch_and(rules | ~all, std::memory_order_release);
	}
}

} // namespace ptrig
