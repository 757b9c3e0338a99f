// What ptrig asks of conntrack over ctnetlink, beside what the datapath does by itself.
#pragma once

#include <cstdint>
#include <vector>

#include "loader/result.h"
#include "loader/rule.h"

namespace ptrig {

/// A TCP connection as its first packet came: from the remote to the WAN.
struct TcpTuple {
	Ip4 source, destination;
	std::uint16_t source_port = 0, destination_port = 0;
};

/// Conntrack no longer holds the packets of these connections against their windows, in either direction
/// (IP_CT_TCP_FLAG_BE_LIBERAL), as it does by itself where it picks up a connection in the middle: it does not know the
/// scale of the windows then. A connection that it does not know any more is no error. Needs CAP_NET_ADMIN.
Done make_liberal(const std::vector<TcpTuple> &connections, std::uint32_t zone);

} // namespace ptrig
