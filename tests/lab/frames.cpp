// Ethernet, IPv4, UDP and TCP headers with finished checksums, sent by packet(7); see frames.h.
#include "tests/lab/frames.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace lab {

namespace {

constexpr unsigned kSlots = 64, kSlotBytes = 2048;
constexpr size_t kIp = ETH_HLEN;

std::uint32_t words(const std::uint8_t *data, size_t size, std::uint32_t sum = 0) {
	for (size_t i = 0; i < size; i++)
		sum += std::uint32_t(data[i]) << (i % 2 == 0 ? 8 : 0);
	return sum;
}

std::uint16_t folded(std::uint32_t sum) {
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(static_cast<std::uint16_t>(~sum));
}

template <typename Header> void put(std::array<std::uint8_t, 72> &bytes, size_t at, const Header &header) {
	std::memcpy(bytes.data() + at, &header, sizeof(header));
}

size_t put_transport(std::array<std::uint8_t, 72> &bytes, size_t at, const Shot &shot) {
	if (shot.tcp) {
		tcphdr tcp{};
		tcp.source = htons(shot.from_port);
		tcp.dest = htons(shot.to_port);
		tcp.seq = htonl(shot.seq.value_or(shot.from));
		tcp.doff = sizeof(tcp) / 4;
		tcp.th_flags = shot.flags;
		tcp.window = htons(64000);
		put(bytes, at, tcp);
		return sizeof(tcp);
	}
	udphdr udp{};
	udp.source = htons(shot.from_port);
	udp.dest = htons(shot.to_port);
	udp.len = htons(sizeof(udp) + 4);
	put(bytes, at, udp);
	return sizeof(udp) + 4;
}

} // namespace

MacBytes to_mac(const std::string &text) {
	std::array<unsigned, 6> parts{};
	if (std::sscanf(text.c_str(), "%x:%x:%x:%x:%x:%x", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4],
			&parts[5]) != 6)
		throw std::invalid_argument("not a MAC address: " + text);
	MacBytes mac{};
	std::copy(parts.begin(), parts.end(), mac.begin());
	return mac;
}

std::string to_string(const MacBytes &mac) {
	char text[18];
	std::snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		      mac[5]);
	return text;
}

std::uint32_t to_number(const std::string &address) {
	in_addr number{};
	if (inet_pton(AF_INET, address.c_str(), &number) != 1)
		throw std::invalid_argument("not an address: " + address);
	return ntohl(number.s_addr);
}

std::string to_address(std::uint32_t number) {
	const in_addr address{htonl(number)};
	char text[INET_ADDRSTRLEN];
	return inet_ntop(AF_INET, &address, text, sizeof(text));
}

FrameSender::FrameSender(const NetNs &where, const std::string &device, const MacBytes &to, FrameBytes bytes)
    : to_(to) {
	socket_ = where.inside([&] {
		Fd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
		sockaddr_ll at{};
		at.sll_family = AF_PACKET;
		at.sll_ifindex = static_cast<int>(if_nametoindex(device.c_str()));
		if (fd.get() < 0 || at.sll_ifindex == 0 ||
		    bind(fd.get(), reinterpret_cast<sockaddr *>(&at), sizeof(at)) < 0)
			throw std::system_error(errno, std::generic_category(), "packet socket on " + device);
		return fd;
	});
	if (bytes == FrameBytes::shared)
		make_ring();
}

void FrameSender::make_ring() {
	const int version = TPACKET_V2;
	tpacket_req request{};
	request.tp_block_size = kSlots * kSlotBytes;
	request.tp_block_nr = 1;
	request.tp_frame_size = kSlotBytes;
	request.tp_frame_nr = kSlots;
	if (setsockopt(socket_.get(), SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
	    setsockopt(socket_.get(), SOL_PACKET, PACKET_TX_RING, &request, sizeof(request)) < 0)
		throw std::system_error(errno, std::generic_category(), "make a ring of frames");
	void *memory = mmap(nullptr, request.tp_block_size, PROT_READ | PROT_WRITE, MAP_SHARED, socket_.get(), 0);
	if (memory == MAP_FAILED)
		throw std::system_error(errno, std::generic_category(), "map the ring of frames");
	ring_ = {static_cast<std::uint8_t *>(memory), [](std::uint8_t *at) { munmap(at, kSlots * kSlotBytes); }};
}

void FrameSender::add(const MacBytes &from, const Shot &shot) {
	auto &[bytes, frame_size] = frames_.emplace_back();
	const size_t transport = kIp + sizeof(iphdr) + shot.options.size();
	std::copy(to_.begin(), to_.end(), bytes.begin());
	std::copy(from.begin(), from.end(), bytes.begin() + ETH_ALEN);
	bytes[12] = 0x08; // IPv4
	const size_t size = put_transport(bytes, transport, shot);
	iphdr ip{};
	ip.version = 4;
	ip.ihl = 5 + shot.options.size() / 4;
	ip.ttl = 64;
	ip.protocol = shot.tcp ? IPPROTO_TCP : IPPROTO_UDP;
	ip.tot_len = htons(static_cast<std::uint16_t>(transport - kIp + (shot.piece ? shot.piece->bytes : size)));
	if (shot.piece) {
		ip.id = htons(shot.piece->id);
		ip.frag_off =
			htons(static_cast<std::uint16_t>(shot.piece->offset / 8 | (shot.piece->more ? IP_MF : 0)));
	}
	ip.saddr = htonl(shot.from);
	ip.daddr = htonl(shot.to);
	put(bytes, kIp, ip);
	std::copy(shot.options.begin(), shot.options.end(), bytes.begin() + kIp + sizeof(ip));
	put(bytes, kIp + offsetof(iphdr, check), folded(words(bytes.data() + kIp, transport - kIp)));
	frame_size = std::max(frame_size, transport + size);
	std::uint32_t sum =
		words(reinterpret_cast<const std::uint8_t *>(&ip.saddr), 8, ip.protocol + std::uint32_t(size));
	sum = words(bytes.data() + transport, size, sum);
	// A fragment's is none, which UDP allows: the rest of its datagram may be anything.
	const std::uint16_t check = shot.piece && !shot.tcp ? 0 : folded(sum);
	put(bytes, transport + (shot.tcp ? offsetof(tcphdr, check) : offsetof(udphdr, check)), check);
	if (!priority_)
		return;
	constexpr std::array<std::uint8_t, 4> kTag{0x81, 0x00, 0xa0, 0x00};
	std::copy_backward(bytes.begin() + 12, bytes.end() - kTag.size(), bytes.end());
	std::copy(kTag.begin(), kTag.end(), bytes.begin() + 12);
}

/// One by one: each is on its way when the call returns.
void FrameSender::send_shared() {
	for (const Frame &frame : frames_) {
		std::uint8_t *slot = ring_.get() + size_t(next_slot_++ % kSlots) * kSlotBytes;
		auto *header = reinterpret_cast<tpacket2_hdr *>(slot);
		const std::atomic_ref<std::uint32_t> status(header->tp_status);
		std::copy(frame.bytes.begin(), frame.bytes.end(), slot + TPACKET2_HDRLEN - sizeof(sockaddr_ll));
		header->tp_len = frame.size;
		status = TP_STATUS_SEND_REQUEST;
		if (::send(socket_.get(), nullptr, 0, 0) < 0 || status != TP_STATUS_AVAILABLE)
			throw std::system_error(errno, std::generic_category(), "send a shared frame");
	}
}

unsigned FrameSender::send() {
	unsigned refused = 0;
	if (ring_)
		send_shared();
	else
		refused = send_copies();
	frames_.clear();
	return refused;
}

unsigned FrameSender::send_copies() {
	std::vector<iovec> parts(frames_.size());
	std::vector<mmsghdr> messages(frames_.size());
	for (size_t i = 0; i < frames_.size(); i++) {
		parts[i] = {frames_[i].bytes.data(), frames_[i].size};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	unsigned refused = 0;
	for (size_t done = 0; done < messages.size();) {
		const int n = sendmmsg(socket_.get(), messages.data() + done, unsigned(messages.size() - done), 0);
		if (n > 0) {
			done += static_cast<size_t>(n);
			continue;
		}
		if (errno != ENOBUFS)
			throw std::system_error(errno, std::generic_category(), "send frames");
		refused++;
		done++;
	}
	return refused;
}

} // namespace lab
