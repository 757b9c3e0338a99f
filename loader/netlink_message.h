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

/// A default route of the main table that has not lost all its interfaces.
struct DefaultRoute {
	std::uint32_t metric = 0;
	std::vector<std::uint32_t> ifindexes;
};
std::optional<DefaultRoute> parse_default_route(const nlmsghdr *message); ///< RTM_NEWROUTE

std::optional<Change> parse_change(const nlmsghdr *message);

} // namespace ptrig
