// Frames as nobody's socket would send them: from any address and MAC address, many at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/lab/sockets.h"

namespace lab {

using MacBytes = std::array<std::uint8_t, 6>;
MacBytes to_mac(const std::string &text);
std::string to_string(const MacBytes &);
std::uint32_t to_number(const std::string &address); ///< host order
std::string to_address(std::uint32_t number);

/// One fragment, whichever bytes it begins with: no other need come.
struct Piece {
	std::uint16_t id = 0;
	unsigned offset = 0; ///< in bytes, a multiple of 8
	unsigned bytes = 24; ///< after the IP header, at most 26
	bool more = true;    ///< more fragments follow
};

/// Bits of TCP's flags (RFC 9293 3.1).
inline constexpr std::uint8_t kTcpFin = 0x01, kTcpSyn = 0x02, kTcpRst = 0x04, kTcpAck = 0x10;

/// A TCP packet without data, a SYN if nothing else is said, or a UDP datagram of four bytes; host order. A fragment
/// begins with the same header, wherever in its datagram it belongs.
struct Shot {
	std::uint32_t from = 0, to = 0;
	std::uint16_t from_port = 0, to_port = 0;
	bool tcp = false;
	std::optional<Piece> piece{};
	std::vector<std::uint8_t> options{}; ///< of IP; a multiple of 4 bytes, 12 at most
	std::uint8_t flags = kTcpSyn;
	std::optional<std::uint32_t> seq{}; ///< of TCP; none: any
};

/// Where a frame's bytes lie when it is sent: copied into the packet, or in memory that the kernel shares with the
/// sender (packet_mmap), and then nothing but the Ethernet header is in the packet's linear part.
enum class FrameBytes { copied, shared };

/// Sends frames by a device of a namespace, and only there is it told that checksums are finished.
class FrameSender {
public:
	FrameSender(const NetNs &where, const std::string &device, const MacBytes &to,
		    FrameBytes bytes = FrameBytes::copied);
	void add(const MacBytes &from, const Shot &shot);
	/// From now on each frame has an IEEE 802.1Q tag that is only a priority: VLAN 0.
	void tag_priority() { priority_ = true; }
	size_t waiting() const { return frames_.size(); }
	/// Send what was added, each frame once. How many of them the device refused.
	unsigned send();

private:
	struct Frame {
		std::array<std::uint8_t, 72> bytes{};
		size_t size = 60;
	};
	unsigned send_copies();
	void make_ring();
	void send_shared();

	Fd socket_;
	MacBytes to_;
	bool priority_ = false;
	std::shared_ptr<std::uint8_t> ring_; ///< of slots, if the bytes are shared
	unsigned next_slot_ = 0;
	std::vector<Frame> frames_;
};

} // namespace lab
