// UDP, TCP and raw sockets with deadlines. Errors of set-up throw; what a story is about is returned.
#include "tests/lab/sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ostream>
#include <random>
#include <stdexcept>
#include <system_error>

namespace lab {

namespace {

void demand(bool good, const std::string &doing) {
	if (!good)
		throw std::system_error(errno, std::generic_category(), doing);
}

sockaddr_in to_kernel(const Endpoint &end) {
	sockaddr_in address{};
	address.sin_family = AF_INET;
	address.sin_port = htons(end.port);
	if (inet_pton(AF_INET, end.address.c_str(), &address.sin_addr) != 1)
		throw std::invalid_argument("not an address: " + end.address);
	return address;
}

Endpoint from_kernel(const sockaddr_in &address) {
	char text[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text));
	return {text, ntohs(address.sin_port)};
}

template <typename Call> int with_address(const Endpoint &end, Call call) {
	const sockaddr_in address = to_kernel(end);
	return call(reinterpret_cast<const sockaddr *>(&address), socklen_t(sizeof(address)));
}

Fd bound_socket(const NetNs &where, int type, const Endpoint &at) {
	return where.inside([&] {
		Fd fd(socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
		demand(fd.get() >= 0, "socket");
		const int on = 1;
		if (type == SOCK_STREAM)
			setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (at != Endpoint{})
			demand(with_address(at, [&](auto *a, auto n) { return bind(fd.get(), a, n); }) == 0,
			       "bind to " + to_string(at) + " in " + where.name());
		return fd;
	});
}

bool ready(const Fd &fd, short events, milliseconds deadline) {
	pollfd wanted{fd.get(), events, 0};
	return poll(&wanted, 1, static_cast<int>(deadline.count())) > 0;
}

milliseconds left(Clock::time_point end) {
	return std::max(0ms, std::chrono::duration_cast<milliseconds>(end - Clock::now()));
}

std::uint16_t internet_sum(std::string_view data, std::uint32_t sum = 0) {
	for (size_t i = 0; i < data.size(); i++)
		sum += static_cast<std::uint8_t>(data[i]) << (i % 2 == 0 ? 8 : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return static_cast<std::uint16_t>(~sum);
}

} // namespace

std::string to_string(const Endpoint &end) {
	return end.address + ":" + std::to_string(end.port);
}
void PrintTo(const Endpoint &end, std::ostream *out) {
	*out << to_string(end);
}

Fd udp_socket(const NetNs &where, const Endpoint &at) {
	return bound_socket(where, SOCK_DGRAM, at);
}

void udp_connect(const Fd &socket, const Endpoint &to) {
	demand(with_address(to, [&](auto *a, auto n) { return connect(socket.get(), a, n); }) == 0, "connect udp");
}

void udp_send(const Fd &socket, const Endpoint &to, std::string_view data) {
	const auto send = [&](auto *a, auto n) {
		return sendto(socket.get(), data.data(), data.size(), 0, a, n) == ssize_t(data.size()) ? 0 : -1;
	};
	int result = with_address(to, send);
	if (result < 0 && errno == EAGAIN && ready(socket, POLLOUT, patient(1s))) // faster than the devices
		result = with_address(to, send);
	demand(result == 0, "send to " + to_string(to));
}

std::optional<Datagram> udp_receive(const Fd &socket, milliseconds deadline) {
	if (!ready(socket, POLLIN, deadline))
		return std::nullopt;
	std::array<char, 65536> data{};
	sockaddr_in from{};
	socklen_t size = sizeof(from);
	const ssize_t n =
		recvfrom(socket.get(), data.data(), data.size(), 0, reinterpret_cast<sockaddr *>(&from), &size);
	if (n < 0)
		return std::nullopt;
	return Datagram{std::string(data.data(), static_cast<size_t>(n)), from_kernel(from)};
}

Fd tcp_listener(const NetNs &where, const Endpoint &at) {
	Fd fd = bound_socket(where, SOCK_STREAM, at);
	demand(listen(fd.get(), 128) == 0, "listen on " + to_string(at));
	return fd;
}

std::optional<Fd> tcp_accept(const Fd &listener, milliseconds deadline) {
	if (!ready(listener, POLLIN, deadline))
		return std::nullopt;
	Fd fd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
	if (fd.get() < 0)
		return std::nullopt;
	return fd;
}

Connection tcp_connect(const NetNs &where, const Endpoint &to, const Endpoint &from, milliseconds deadline) {
	Connection result{bound_socket(where, SOCK_STREAM, from)};
	if (with_address(to, [&](auto *a, auto n) { return connect(result.socket.get(), a, n); }) == 0)
		return result;
	if (errno != EINPROGRESS || !ready(result.socket, POLLOUT, deadline)) {
		result.error = errno != EINPROGRESS ? errno : ETIMEDOUT;
		return result;
	}
	socklen_t size = sizeof(result.error);
	getsockopt(result.socket.get(), SOL_SOCKET, SO_ERROR, &result.error, &size);
	return result;
}

void tcp_reset(Fd socket) {
	const linger at_once{1, 0};
	setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

Endpoint local_end(const Fd &socket) {
	sockaddr_in address{};
	socklen_t size = sizeof(address);
	demand(getsockname(socket.get(), reinterpret_cast<sockaddr *>(&address), &size) == 0, "getsockname");
	return from_kernel(address);
}

Endpoint remote_end(const Fd &socket) {
	sockaddr_in address{};
	socklen_t size = sizeof(address);
	demand(getpeername(socket.get(), reinterpret_cast<sockaddr *>(&address), &size) == 0, "getpeername");
	return from_kernel(address);
}

bool says(const Fd &from, const Fd &to, milliseconds deadline) {
	static unsigned counter = 0;
	const std::string line = "line " + std::to_string(++counter) + "\n";
	if (send(from.get(), line.data(), line.size(), MSG_NOSIGNAL) != ssize_t(line.size()))
		return false;
	const auto end = Clock::now() + deadline;
	std::string got;
	while (got.size() < line.size() && ready(to, POLLIN, left(end))) {
		char part[256];
		const ssize_t n = recv(to.get(), part, sizeof(part), 0);
		if (n <= 0)
			return false;
		got.append(part, static_cast<size_t>(n));
	}
	return got == line;
}

bool at_end(const Fd &socket, milliseconds deadline) {
	char byte = 0;
	return ready(socket, POLLIN, deadline) && recv(socket.get(), &byte, 1, 0) == 0;
}

namespace {

/// One direction of exchange().
struct Stream {
	const Fd &from, &to;
	std::string data, got;
	size_t sent = 0;
	bool done() const { return got.size() >= data.size(); }

	void push() {
		const ssize_t n = send(from.get(), data.data() + sent, data.size() - sent, MSG_NOSIGNAL);
		if (n > 0)
			sent += static_cast<size_t>(n);
	}
	bool pull() {
		std::array<char, 65536> part{};
		const ssize_t n = recv(to.get(), part.data(), part.size(), 0);
		if (n > 0)
			got.append(part.data(), static_cast<size_t>(n));
		return n > 0 || (n < 0 && errno == EAGAIN);
	}
};

std::string noise(size_t bytes) {
	static std::mt19937_64 random(20250101);
	std::string text(bytes, '\0');
	for (size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
		const std::uint64_t part = random();
		std::memcpy(text.data() + at, &part, std::min(sizeof(part), bytes - at));
	}
	return text;
}

} // namespace

bool exchange(const Fd &a, const Fd &b, std::size_t bytes, milliseconds deadline, milliseconds *longest_pause) {
	Stream there{a, b, noise(bytes), {}};
	Stream back{b, a, noise(bytes), {}};
	const auto end = Clock::now() + deadline;
	while (!there.done() || !back.done()) {
		const auto events = [](const Stream &out) {
			return short(POLLIN | (out.sent < out.data.size() ? POLLOUT : 0));
		};
		pollfd both[2] = {{a.get(), events(there), 0}, {b.get(), events(back), 0}};
		const auto since = Clock::now();
		if (poll(both, 2, static_cast<int>(left(end).count())) <= 0)
			return false;
		if (longest_pause)
			*longest_pause = std::max(*longest_pause,
						  std::chrono::duration_cast<milliseconds>(Clock::now() - since));
		if (both[0].revents & POLLOUT)
			there.push();
		if (both[1].revents & POLLOUT)
			back.push();
		if ((both[1].revents & (POLLIN | POLLHUP | POLLERR)) && !there.pull())
			return false;
		if ((both[0].revents & (POLLIN | POLLHUP | POLLERR)) && !back.pull())
			return false;
	}
	return there.got == there.data && back.got == back.data;
}

void send_forged(const NetNs &where, const Endpoint &from, const Endpoint &to, std::string_view data) {
	const sockaddr_in source = to_kernel(from), target = to_kernel(to);
	udphdr udp{};
	udp.source = source.sin_port;
	udp.dest = target.sin_port;
	udp.len = htons(static_cast<std::uint16_t>(sizeof(udp) + data.size()));
	std::string pseudo(reinterpret_cast<const char *>(&source.sin_addr), 4);
	pseudo.append(reinterpret_cast<const char *>(&target.sin_addr), 4);
	pseudo.append({'\0', char(IPPROTO_UDP)});
	pseudo.append(reinterpret_cast<const char *>(&udp.len), 2);
	pseudo.append(reinterpret_cast<const char *>(&udp), sizeof(udp)).append(data);
	udp.check = htons(internet_sum(pseudo));
	iphdr ip{}; // the kernel fills in length, identification and checksum (IP_HDRINCL)
	ip.version = 4;
	ip.ihl = 5;
	ip.ttl = 64;
	ip.protocol = IPPROTO_UDP;
	ip.saddr = source.sin_addr.s_addr;
	ip.daddr = target.sin_addr.s_addr;
	std::string packet(reinterpret_cast<const char *>(&ip), sizeof(ip));
	packet.append(reinterpret_cast<const char *>(&udp), sizeof(udp)).append(data);
	where.inside([&] {
		const Fd raw(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
		demand(raw.get() >= 0, "raw socket");
		udp_send(raw, {to.address, 0}, packet);
	});
}

Fd udp_sniffer(const NetNs &where) {
	return where.inside([] {
		Fd raw(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP));
		demand(raw.get() >= 0, "raw socket");
		return raw;
	});
}

std::optional<std::uint16_t> sniff_checksum(const Fd &sniffer, std::uint16_t port, milliseconds deadline) {
	const auto end = Clock::now() + deadline;
	while (const auto packet = udp_receive(sniffer, left(end))) {
		udphdr udp{};
		const size_t header = size_t(packet->data.at(0) & 15) * 4;
		if (packet->data.size() < header + sizeof(udp))
			continue;
		std::memcpy(&udp, packet->data.data() + header, sizeof(udp));
		if (ntohs(udp.dest) == port)
			return ntohs(udp.check);
	}
	return std::nullopt;
}

void send_without_checksum(const Fd &socket) {
	const int on = 1;
	demand(setsockopt(socket.get(), SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)) == 0, "SO_NO_CHECK");
}

} // namespace lab
