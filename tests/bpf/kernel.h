// What the kernel does between two of ptrig's programs, for packets of a test run: conntrack's entry of a packet, and
// its translation. See kernel.bpf.c.
#pragma once

#include <optional>
#include <string>

#include "tests/bpf/kernel_abi.h"
#include "tests/bpf/packet.h"

namespace ptrig::test {

/// Addresses, ports and protocol of a frame that begins with its IPv4 header at `l3`.
struct Tuple {
	test_tuple tuple{};
	std::uint8_t proto = 0;
};
/// Nothing if it is no IPv4 TCP or UDP packet with ports.
std::optional<Tuple> tuple_of(const Bytes &frame, std::size_t l3);

/// The gateway's conntrack entry of this packet; found = 0 if there is none.
test_entry entry_of(const Tuple &packet);
/// The entry of a flow that the gateway masquerades behind `wan`, with the source's own port unless told otherwise.
test_entry masquerade(const Tuple &packet, const std::string &wan, std::uint16_t port = 0);
/// An entry made by hand; see kernel_abi.h.
test_entry make_entry(test_entry wanted);
void forget_entry(const Tuple &packet);
/// As if conntrack had seen the packets that lead there; `state`: enum tcp_conntrack.
void set_tcp_state(const Tuple &original, std::uint8_t state);
/// Conntrack has seen this packet, which answers an entry.
void answer_entry(const Tuple &packet);

/// The frame as `entry` translates it, forwarded (TTL - 1), with the Ethernet addresses of the way out, if it has any;
/// `out_l3`: whether the device it leaves by has none.
Bytes forwarded(const Bytes &frame, std::size_t l3, const test_entry &entry, bool to_wan, bool out_l3);

} // namespace ptrig::test
