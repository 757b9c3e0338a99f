// What messages of ctnetlink and nftables say; of what is too short, or about something else, nothing. Pure, as
// netlink_message.h.
#pragma once

#include <optional>

#include <libmnl/libmnl.h>

#include "loader/netfilter.h"

namespace ptrig {

/// Of an event and of a dump: IPv4, TCP or UDP.
std::optional<Expectation> parse_expectation(const nlmsghdr *message);
std::optional<NetfilterChange> parse_netfilter_change(const nlmsghdr *message);

} // namespace ptrig
