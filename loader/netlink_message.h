// What messages of rtnetlink say; of what is too short, or about something else, nothing. Pure, so any bytes can be
// tried on it; a message's length is its caller's to check (mnl_nlmsg_ok).
#pragma once

#include <optional>
#include <vector>

#include <libmnl/libmnl.h>

#include "loader/netlink.h"

namespace ptrig {

/// The header that a message of this kind begins with; nullptr if it is too short for one.
template <typename Header> const Header *header_of(const nlmsghdr *message) {
	return mnl_nlmsg_get_payload_len(message) < sizeof(Header)
		       ? nullptr
		       : static_cast<const Header *>(mnl_nlmsg_get_payload(message));
}

/// Without what rtnetlink does not tell: driver, wireless.
std::optional<Link> parse_link(const nlmsghdr *message);
std::optional<Address> parse_address(const nlmsghdr *message); ///< RTM_NEWADDR, IPv4

/// A default route, or half of one (0.0.0.0/1, 128.0.0.0/1), that has not lost all its interfaces.
struct DefaultRoute {
	enum class Part { kWhole, kLowHalf, kHighHalf } part = Part::kWhole;
	std::uint32_t table = 0;
	std::uint32_t metric = 0;
	std::vector<std::uint32_t> ifindexes;
};
std::optional<DefaultRoute> parse_default_route(const nlmsghdr *message); ///< RTM_NEWROUTE

/// A rule of `ip rule` that leads to a routing table, and may find a default route there.
struct TableRule {
	std::uint32_t priority = 0;
	std::uint32_t table = 0;
	bool for_all = false; ///< it asks for no source, mark, interface or the like
};
std::optional<TableRule> parse_table_rule(const nlmsghdr *message); ///< RTM_NEWRULE
/// The tables in the order in which they are asked: those for all packets by priority, then those for some; main at
/// last.
std::vector<std::uint32_t> tables_in_order(std::vector<TableRule> rules);
/// The interfaces of one table's default route with the lowest metric; else those of its two halves, if both are there.
std::vector<std::uint32_t> best_default(const std::vector<DefaultRoute> &routes);

std::optional<Change> parse_change(const nlmsghdr *message);

} // namespace ptrig
