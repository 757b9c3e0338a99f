// IP headers and fragments, over a raw socket with IP_HDRINCL, which fills in the header's checksum only.
#include "tests/lab/sockets_fragment.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace lab {

namespace {

constexpr std::size_t kRoom = 1480; ///< for payload in an Ethernet frame; a multiple of 8

in_addr to_kernel(const std::string &address) {
	in_addr out{};
	if (inet_pton(AF_INET, address.c_str(), &out) != 1)
		throw std::invalid_argument("not an address: " + address);
	return out;
}

template <typename T> void append(std::string &to, const T &bytes) {
	to.append(reinterpret_cast<const char *>(&bytes), sizeof(bytes));
}

std::uint16_t internet_sum(std::string_view data) {
	std::uint32_t sum = 0;
	for (std::size_t i = 0; i < data.size(); i++)
		sum += static_cast<std::uint8_t>(data[i]) << (i % 2 == 0 ? 8 : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return static_cast<std::uint16_t>(~sum);
}

std::string udp_packet(const Endpoint &from, const Endpoint &to, std::string_view data) {
	udphdr udp{};
	udp.source = htons(from.port);
	udp.dest = htons(to.port);
	udp.len = htons(static_cast<std::uint16_t>(sizeof(udp) + data.size()));
	std::string pseudo;
	append(pseudo, to_kernel(from.address));
	append(pseudo, to_kernel(to.address));
	append(pseudo, std::uint16_t{htons(IPPROTO_UDP)});
	append(pseudo, udp.len);
	append(pseudo, udp);
	udp.check = htons(internet_sum(pseudo.append(data)));
	std::string packet;
	append(packet, udp);
	return packet.append(data);
}

} // namespace

Fragments udp_fragments(const Endpoint &from, const Endpoint &to, std::string_view data, std::uint16_t id) {
	const std::string whole = udp_packet(from, to, data);
	Fragments result{from, to, {}};
	for (std::size_t at = 0; at < whole.size(); at += kRoom) {
		const std::string part = whole.substr(at, kRoom);
		const bool more = at + part.size() < whole.size();
		iphdr ip{};
		ip.version = 4;
		ip.ihl = 5;
		ip.ttl = 64;
		ip.protocol = IPPROTO_UDP;
		ip.id = htons(id);
		ip.frag_off = htons(static_cast<std::uint16_t>(at / 8 | (more ? IP_MF : 0)));
		ip.tot_len = htons(static_cast<std::uint16_t>(sizeof(ip) + part.size()));
		ip.saddr = to_kernel(from.address).s_addr;
		ip.daddr = to_kernel(to.address).s_addr;
		std::string packet;
		append(packet, ip);
		result.packets.push_back(packet + part);
	}
	return result;
}

RawSender::RawSender(const NetNs &where)
    : raw_(where.inside([] { return Fd(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)); })) {
	if (raw_.get() < 0)
		throw std::system_error(errno, std::generic_category(), "raw socket");
}

void RawSender::send(const Fragments &fragments, const std::vector<std::size_t> &order) const {
	for (const std::size_t i : order)
		udp_send(raw_, {fragments.to.address, 0}, fragments.packets.at(i));
}

} // namespace lab
