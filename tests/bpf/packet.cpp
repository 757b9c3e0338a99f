// Serialises packet expressions: innermost layer first, each one around the bytes of what follows it.
#include "tests/bpf/packet.h"

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <cstdio>
#include <netinet/in.h>
#include <stdexcept>

namespace ptrig::test {

namespace {

constexpr std::uint16_t kEtherIp4 = 0x0800, kEtherVlan = 0x8100;

void put16(Bytes &out, std::uint16_t value) {
	out.push_back(static_cast<std::uint8_t>(value >> 8));
	out.push_back(static_cast<std::uint8_t>(value));
}

void put32(Bytes &out, std::uint32_t value) {
	put16(out, static_cast<std::uint16_t>(value >> 16));
	put16(out, static_cast<std::uint16_t>(value));
}

void put(Bytes &out, const Bytes &more) {
	out.insert(out.end(), more.begin(), more.end());
}

Bytes padded(Bytes options) {
	options.resize((options.size() + 3) / 4 * 4);
	return options;
}

std::uint16_t add(std::uint16_t a, std::uint16_t b) {
	const std::uint32_t sum = std::uint32_t{a} + b;
	return static_cast<std::uint16_t>((sum & 0xffff) + (sum >> 16));
}

/// Writes the checksum field at `at`, where the bytes are still zero; `sum` is over everything it covers.
void put_csum(Bytes &out, std::size_t at, std::uint16_t sum, Csum csum, bool udp = false) {
	std::uint16_t value = static_cast<std::uint16_t>(~sum);
	if (udp && value == 0)
		value = 0xffff;
	if (csum.mode == Csum::Mode::kZero)
		value = 0;
	else if (csum.mode == Csum::Mode::kWrong)
		value = add(value, 0x1357);
	else if (csum.mode == Csum::Mode::kValue)
		value = csum.value;
	out[at] = static_cast<std::uint8_t>(value >> 8);
	out[at + 1] = static_cast<std::uint8_t>(value);
}

std::uint8_t protocol_of(const Layer *next) {
	if (!next)
		return 0xfd; // for experiments (RFC 3692)
	if (std::holds_alternative<Udp>(*next))
		return IPPROTO_UDP;
	if (std::holds_alternative<Tcp>(*next))
		return IPPROTO_TCP;
	if (std::holds_alternative<Icmp>(*next))
		return IPPROTO_ICMP;
	return 0xfd;
}

/// Sum of the pseudo header that a transport checksum includes.
std::uint16_t pseudo_sum(const Ip4 *ip, std::uint8_t proto, std::size_t length) {
	if (!ip)
		return 0;
	Bytes pseudo = ip_bytes(ip->src);
	put(pseudo, ip_bytes(ip->dst));
	put16(pseudo, proto);
	put16(pseudo, static_cast<std::uint16_t>(length));
	return ones_sum(pseudo);
}

/// What a layer needs to know of its neighbours.
struct Around {
	const Ip4 *ip = nullptr;     ///< the nearest one outside
	const Layer *next = nullptr; ///< the one inside
	const Bytes &inner;          ///< its bytes
};

Bytes build(const Eth &eth, const Around &around) {
	Bytes out = mac_bytes(eth.dst);
	put(out, mac_bytes(eth.src));
	const bool vlan = around.next && std::holds_alternative<Vlan>(*around.next);
	put16(out, eth.type.value_or(vlan ? kEtherVlan : kEtherIp4));
	return out;
}

Bytes build(const Vlan &vlan, const Around &) {
	Bytes out;
	put16(out, vlan.id);
	put16(out, kEtherIp4);
	return out;
}

Bytes build(const Ip4 &ip, const Around &around) {
	const Bytes options = padded(ip.options);
	const std::size_t header = 20 + options.size();
	const auto ihl = ip.ihl.value_or(static_cast<std::uint8_t>(header / 4));
	Bytes out{static_cast<std::uint8_t>(ip.version << 4 | ihl), ip.tos};
	put16(out, ip.total.value_or(static_cast<std::uint16_t>(header + around.inner.size())));
	put16(out, ip.id);
	put16(out, static_cast<std::uint16_t>((ip.df ? 0x4000 : 0) | (ip.mf ? 0x2000 : 0) | ip.offset / 8));
	out.push_back(ip.ttl);
	out.push_back(ip.proto.value_or(protocol_of(around.next)));
	put16(out, 0);
	put(out, ip_bytes(ip.src));
	put(out, ip_bytes(ip.dst));
	put(out, options);
	put_csum(out, 10, ones_sum(out), ip.csum);
	return out;
}

Bytes build(const Udp &udp, const Around &around) {
	const std::size_t length = 8 + around.inner.size();
	Bytes out;
	put16(out, udp.sport);
	put16(out, udp.dport);
	put16(out, udp.length.value_or(static_cast<std::uint16_t>(length)));
	put16(out, 0);
	Bytes covered = out;
	put(covered, around.inner);
	put_csum(out, 6, ones_sum(covered, pseudo_sum(around.ip, IPPROTO_UDP, length)), udp.csum, true);
	return out;
}

Bytes build(const Tcp &tcp, const Around &around) {
	const Bytes options = padded(tcp.options);
	Bytes out;
	put16(out, tcp.sport);
	put16(out, tcp.dport);
	put32(out, tcp.seq);
	put32(out, tcp.ack);
	out.push_back(static_cast<std::uint8_t>(tcp.offset.value_or(5 + options.size() / 4) << 4));
	out.push_back(tcp.flags);
	put16(out, tcp.window);
	put16(out, 0);
	put16(out, tcp.urgent);
	put(out, options);
	Bytes covered = out;
	put(covered, around.inner);
	put_csum(out, 16, ones_sum(covered, pseudo_sum(around.ip, IPPROTO_TCP, covered.size())), tcp.csum);
	return out;
}

Bytes build(const Icmp &icmp, const Around &around) {
	Bytes out{icmp.type, icmp.code, 0, 0};
	put32(out, icmp.rest);
	Bytes covered = out;
	put(covered, around.inner);
	put_csum(out, 2, ones_sum(covered), icmp.csum);
	return out;
}

Bytes build(const Fill &fill, const Around &) {
	Bytes out(fill.n);
	std::uint32_t state = 1;
	for (auto &byte : out) {
		state = state * 1103515245 + 12345;
		byte = static_cast<std::uint8_t>(state >> 16);
	}
	return out;
}

Bytes build(const Bytes &bytes, const Around &) {
	return bytes;
}

/// "192.168.77.11 > 203.0.113.10 proto 17 ttl 64" of an IPv4 header at `at`.
std::string summary(const Bytes &b, std::size_t at) {
	if (b.size() < at + 20 || b[at] >> 4 != 4)
		return "not IPv4";
	char text[160];
	const std::size_t l4 = at + (b[at] & 15) * 4;
	int n = std::snprintf(text, sizeof(text), "%u.%u.%u.%u > %u.%u.%u.%u proto %u ttl %u csum %02x%02x", b[at + 12],
			      b[at + 13], b[at + 14], b[at + 15], b[at + 16], b[at + 17], b[at + 18], b[at + 19],
			      b[at + 9], b[at + 8], b[at + 10], b[at + 11]);
	if (b.size() >= l4 + 4)
		std::snprintf(text + n, sizeof(text) - static_cast<std::size_t>(n), " ports %u > %u",
			      b[l4] << 8 | b[l4 + 1], b[l4 + 2] << 8 | b[l4 + 3]);
	return text;
}

} // namespace

std::uint16_t ones_sum(const Bytes &bytes, std::uint32_t start) {
	std::uint64_t sum = start;
	for (std::size_t i = 0; i < bytes.size(); i += 2)
		sum += static_cast<std::uint64_t>(bytes[i]) << 8 | (i + 1 < bytes.size() ? bytes[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return static_cast<std::uint16_t>(sum);
}

Bytes mac_bytes(const std::string &text) {
	Bytes out;
	for (std::size_t i = 0; i < 18 && text.size() == 17; i += 3) {
		std::uint8_t byte = 0;
		const char *from = text.data() + i;
		const auto [end, error] = std::from_chars(from, from + 2, byte, 16);
		if (error != std::errc{} || end != from + 2 || (i < 15 && *end != ':'))
			break;
		out.push_back(byte);
	}
	if (out.size() != 6)
		throw std::invalid_argument("not a MAC address: " + text);
	return out;
}

Bytes ip_bytes(const std::string &text) {
	Bytes out(4);
	if (inet_pton(AF_INET, text.c_str(), out.data()) != 1)
		throw std::invalid_argument("not an IPv4 address: " + text);
	return out;
}

Packet &Packet::append(const Packet &more) {
	layers_.insert(layers_.end(), more.layers_.begin(), more.layers_.end());
	return *this;
}

Bytes Packet::bytes() const {
	Bytes inner;
	for (std::size_t i = layers_.size(); i-- > 0;) {
		const Ip4 *ip = nullptr;
		for (std::size_t j = i; j-- > 0 && !ip;)
			ip = std::get_if<Ip4>(&layers_[j]);
		const Around around{ip, i + 1 < layers_.size() ? &layers_[i + 1] : nullptr, inner};
		Bytes out = std::visit([&](const auto &layer) { return build(layer, around); }, layers_[i]);
		put(out, inner);
		inner = std::move(out);
	}
	return inner;
}

Packet Packet::cut(std::size_t n) const {
	Bytes all = bytes();
	all.resize(std::min(n, all.size()));
	return Packet(std::move(all));
}

Packet operator/(Packet left, const Packet &right) {
	return std::move(left.append(right));
}

Packet operator/(Packet left, std::string_view payload) {
	return std::move(left.append(Bytes(payload.begin(), payload.end())));
}

bool operator==(const Packet &a, const Packet &b) {
	return a.bytes() == b.bytes();
}

void PrintTo(const Packet &packet, std::ostream *out) {
	const Bytes bytes = packet.bytes();
	const bool l3 = !bytes.empty() && bytes[0] >> 4 == 4 && bytes.size() >= 20 && bytes[0] != 0x02;
	*out << bytes.size() << " bytes, " << summary(bytes, l3 ? 0 : 14);
	for (std::size_t i = 0; i < std::min<std::size_t>(bytes.size(), 128); ++i) {
		char text[8];
		std::snprintf(text, sizeof(text), i % 16 == 0 ? "\n  %02x" : " %02x", bytes[i]);
		*out << text;
	}
}

} // namespace ptrig::test
