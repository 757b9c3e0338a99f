// Frames as nobody's socket would send them: from any address and MAC address, many at a time.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/lab/sockets.h"

namespace lab {

using MacBytes = std::array<std::uint8_t, 6>;
MacBytes to_mac(const std::string &text);
std::string to_string(const MacBytes &);
std::uint32_t to_number(const std::string &address); ///< host order
std::string to_address(std::uint32_t number);

/// A TCP SYN or a UDP datagram of four bytes; host order.
struct Shot {
	std::uint32_t from = 0, to = 0;
	std::uint16_t from_port = 0, to_port = 0;
	bool tcp = false;
};

/// Sends frames by a device of a namespace, and only there is it told that checksums are finished.
class FrameSender {
public:
	FrameSender(const NetNs &where, const std::string &device, const MacBytes &to);
	void add(const MacBytes &from, const Shot &shot);
	size_t waiting() const { return frames_.size(); }
	/// Send what was added, each frame once. How many of them the device refused.
	unsigned send();

private:
	struct Frame {
		std::array<std::uint8_t, 60> bytes{};
	};
	Fd socket_;
	MacBytes to_;
	std::vector<Frame> frames_;
};

} // namespace lab
