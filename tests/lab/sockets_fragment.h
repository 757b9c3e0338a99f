// UDP datagrams in fragments of one's own making, in any order, as no socket would send them.
#pragma once

#include <vector>

#include "tests/lab/sockets.h"

namespace lab {

/// The fragments of one UDP datagram, in order; each is a whole IP packet.
struct Fragments {
	Endpoint from, to;
	std::vector<std::string> packets;
};
/// 1480 bytes of payload each, but the last; checksums are right.
Fragments udp_fragments(const Endpoint &from, const Endpoint &to, std::string_view data, std::uint16_t id);

/// Sends packets (IP header included) from the namespace, in this order.
class RawSender {
public:
	explicit RawSender(const NetNs &where);
	/// The fragments of these numbers.
	void send(const Fragments &, const std::vector<std::size_t> &order) const;

private:
	Fd raw_;
};

} // namespace lab
