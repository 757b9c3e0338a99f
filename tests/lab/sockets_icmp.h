// What a UDP socket can know of ICMP: pending errors, the error queue, the path MTU.
#pragma once

#include "tests/lab/sockets.h"

namespace lab {

/// On a connected socket: errno, 0 if it was sent.
int udp_try_send(const Fd &socket, std::string_view data);
/// The error that an ICMP message has left on the socket (errno); 0 at the deadline.
int udp_error(const Fd &socket, milliseconds deadline);
void udp_never_fragments(const Fd &socket); ///< DF, and path MTU discovery
void udp_time_to_live(const Fd &socket, int ttl);
/// What the kernel believes of the way to where the socket is connected.
int path_mtu(const Fd &socket);

/// An ICMP error as IP_RECVERR has it (ip(7)).
struct SocketError {
	int type = 0;
	Endpoint about;   ///< where the packet was going, by the quote
	std::string from; ///< who sent the error
};
void udp_queues_errors(const Fd &socket);
std::optional<SocketError> udp_queued_error(const Fd &socket, milliseconds deadline);

} // namespace lab
