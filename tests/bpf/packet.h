// Packets as expressions: Eth{} / Ip4{.dst = "192.168.77.11"} / Udp{.dport = 113} / "payload".
// Lengths and checksums are computed from scratch over the finished bytes, so that an expected packet
// never repeats the arithmetic under test; a field can be told to be zero, wrong or left to the caller.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ptrig::test {

using Bytes = std::vector<std::uint8_t>;

/// How a checksum field is written. kWrong is off by a constant in one's complement arithmetic, so that an
/// incremental update keeps it exactly as wrong as it was.
struct Csum {
	enum class Mode { kRight, kZero, kWrong, kValue } mode = Mode::kRight;
	std::uint16_t value = 0;
};
inline constexpr Csum kRight{};
inline constexpr Csum kZero{Csum::Mode::kZero, 0};
inline constexpr Csum kWrong{Csum::Mode::kWrong, 0};

inline constexpr std::uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10, kUrg = 0x20;

struct Eth {
	std::string src = "02:00:00:00:00:01";
	std::string dst = "02:00:00:00:00:02";
	std::optional<std::uint16_t> type; ///< default: what follows (IPv4, or 802.1Q for a Vlan)
};
struct Vlan {
	std::uint16_t id = 1;
};
struct Ip4 {
	std::string src = "192.168.77.11";
	std::string dst = "203.0.113.10";
	std::uint8_t ttl = 64;
	std::uint8_t tos = 0;
	std::uint16_t id = 0x1234;
	bool df = true;
	bool mf = false;
	std::uint16_t offset = 0; ///< of a fragment, in bytes; a multiple of 8
	std::uint8_t version = 4;
	Bytes options;                      ///< padded with end-of-list to a multiple of 4
	std::optional<std::uint8_t> ihl;    ///< in 32-bit words
	std::optional<std::uint16_t> total; ///< total length
	std::optional<std::uint8_t> proto;
	Csum csum = kRight;
};
struct Udp {
	std::uint16_t sport = 4000;
	std::uint16_t dport = 113;
	std::optional<std::uint16_t> length;
	Csum csum = kRight;
};
struct Tcp {
	std::uint16_t sport = 4000;
	std::uint16_t dport = 113;
	std::uint8_t flags = kSyn;
	std::uint32_t seq = 1000;
	std::uint32_t ack = 0;
	std::uint16_t window = 64240;
	std::uint16_t urgent = 0;
	Bytes options;
	std::optional<std::uint8_t> offset; ///< data offset in 32-bit words
	Csum csum = kRight;
};
struct Icmp {
	std::uint8_t type = 8;
	std::uint8_t code = 0;
	std::uint32_t rest = 0;
	Csum csum = kRight;
};
/// n bytes of a fixed, non-repeating-looking pattern.
struct Fill {
	std::size_t n = 0;
};

using Layer = std::variant<Eth, Vlan, Ip4, Udp, Tcp, Icmp, Fill, Bytes>;

class Packet {
public:
	Packet() = default;
	template <typename L>
	requires std::is_constructible_v<Layer, L> &&(!std::is_same_v<std::decay_t<L>, Packet>)Packet(L &&layer)
	    : layers_{Layer(std::forward<L>(layer))} {}

	Packet &append(const Packet &more);
	/// The frame.
	Bytes bytes() const;
	/// The first n bytes of the frame: a packet cut short.
	Packet cut(std::size_t n) const;

private:
	std::vector<Layer> layers_;
};

Packet operator/(Packet left, const Packet &right);
Packet operator/(Packet left, std::string_view payload);

bool operator==(const Packet &a, const Packet &b);
/// A line that says what it is and a hex dump, for failure messages.
void PrintTo(const Packet &packet, std::ostream *out);

/// RFC 1071 sum of a byte string (an odd last byte is padded with zero), folded, not complemented.
std::uint16_t ones_sum(const Bytes &bytes, std::uint32_t start = 0);
/// 6 bytes of "aa:bb:cc:dd:ee:ff"; throws std::invalid_argument.
Bytes mac_bytes(const std::string &text);
/// 4 bytes of "192.0.2.1" in network order; throws std::invalid_argument.
Bytes ip_bytes(const std::string &text);

} // namespace ptrig::test
