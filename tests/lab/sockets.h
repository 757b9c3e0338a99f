// Real sockets in namespaces: what the stories' hosts and remotes talk with. Every wait has a deadline.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tests/lab/netns.h"
#include "tests/lab/process.h"

namespace lab {

struct Endpoint {
	std::string address = "0.0.0.0";
	std::uint16_t port = 0; ///< 0 when binding: any
	bool operator==(const Endpoint &) const = default;
};
std::string to_string(const Endpoint &);
void PrintTo(const Endpoint &, std::ostream *);

struct Datagram {
	std::string data;
	Endpoint from;
};

/// A UDP socket bound to `at`.
Fd udp_socket(const NetNs &where, const Endpoint &at = {});
void udp_connect(const Fd &socket, const Endpoint &to);
void udp_send(const Fd &socket, const Endpoint &to, std::string_view data);
/// The next datagram; nothing at the deadline, or when the socket reports an error (ICMP) instead.
std::optional<Datagram> udp_receive(const Fd &socket, milliseconds deadline = patient(1s));

Fd tcp_listener(const NetNs &where, const Endpoint &at);
/// The next connection; nothing at the deadline.
std::optional<Fd> tcp_accept(const Fd &listener, milliseconds deadline = patient(1s));
struct Connection {
	Fd socket;
	int error = 0; ///< errno; ETIMEDOUT at the deadline
	explicit operator bool() const { return error == 0; }
};
Connection tcp_connect(const NetNs &where, const Endpoint &to, const Endpoint &from = {},
		       milliseconds deadline = patient(1s));
/// Close with RST instead of FIN.
void tcp_reset(Fd socket);

Endpoint local_end(const Fd &socket);
Endpoint remote_end(const Fd &socket);

/// Send a line and see it arrive at the other end of the connection.
bool says(const Fd &from, const Fd &to, milliseconds deadline = patient(2s));
/// Different bytes in both directions at once; true if all arrived unchanged. `longest_pause`: in which neither end had
/// anything to read or room to write, if it was longer than it says.
bool exchange(const Fd &a, const Fd &b, std::size_t bytes, milliseconds deadline = patient(20s),
	      milliseconds *longest_pause = nullptr);
/// Closed in order by the other end: end of file.
bool at_end(const Fd &socket, milliseconds deadline = patient(2s));

/// One UDP datagram with any source, as it would be forged: an IP header of our own, checksums right.
void send_forged(const NetNs &where, const Endpoint &from, const Endpoint &to, std::string_view data);
/// UDP checksum field of the next datagram to `port`, as it arrived in the namespace; made before it is sent.
Fd udp_sniffer(const NetNs &where);
std::optional<std::uint16_t> sniff_checksum(const Fd &sniffer, std::uint16_t port, milliseconds deadline = patient(1s));
void send_without_checksum(const Fd &socket);

} // namespace lab
