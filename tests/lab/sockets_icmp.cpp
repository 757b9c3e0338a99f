// Error queue, socket options and IP_MTU; see sockets_icmp.h.
#include "tests/lab/sockets_icmp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <linux/errqueue.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace lab {

namespace {

void set(const Fd &socket, int option, int value, const char *name) {
	if (setsockopt(socket.get(), IPPROTO_IP, option, &value, sizeof(value)) != 0)
		throw std::system_error(errno, std::generic_category(), name);
}

std::string address_of(const in_addr &address) {
	char text[INET_ADDRSTRLEN];
	return inet_ntop(AF_INET, &address, text, sizeof(text));
}

bool error_within(const Fd &socket, milliseconds deadline) {
	pollfd wanted{socket.get(), 0, 0};
	return poll(&wanted, 1, static_cast<int>(deadline.count())) > 0 && wanted.revents & POLLERR;
}

} // namespace

int udp_try_send(const Fd &socket, std::string_view data) {
	return send(socket.get(), data.data(), data.size(), MSG_NOSIGNAL) < 0 ? errno : 0;
}

int udp_error(const Fd &socket, milliseconds deadline) {
	int error = 0;
	socklen_t size = sizeof(error);
	if (error_within(socket, deadline))
		getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
	return error;
}

void udp_never_fragments(const Fd &socket) {
	set(socket, IP_MTU_DISCOVER, IP_PMTUDISC_DO, "IP_MTU_DISCOVER");
}

void udp_time_to_live(const Fd &socket, int ttl) {
	set(socket, IP_TTL, ttl, "IP_TTL");
}

int path_mtu(const Fd &socket) {
	int mtu = 0;
	socklen_t size = sizeof(mtu);
	if (getsockopt(socket.get(), IPPROTO_IP, IP_MTU, &mtu, &size) != 0)
		throw std::system_error(errno, std::generic_category(), "IP_MTU");
	return mtu;
}

void udp_queues_errors(const Fd &socket) {
	set(socket, IP_RECVERR, 1, "IP_RECVERR");
}

std::optional<SocketError> udp_queued_error(const Fd &socket, milliseconds deadline) {
	if (!error_within(socket, deadline))
		return std::nullopt;
	std::array<char, 2048> data{};
	alignas(cmsghdr) std::array<char, 512> control{};
	sockaddr_in about{};
	iovec part{data.data(), data.size()};
	msghdr message{};
	message.msg_name = &about;
	message.msg_namelen = sizeof(about);
	message.msg_iov = &part;
	message.msg_iovlen = 1;
	message.msg_control = control.data();
	message.msg_controllen = control.size();
	if (recvmsg(socket.get(), &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return std::nullopt;
	for (cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_RECVERR)
			continue;
		const auto *error = reinterpret_cast<const sock_extended_err *>(CMSG_DATA(c));
		const auto *from = reinterpret_cast<const sockaddr_in *>(SO_EE_OFFENDER(error));
		return SocketError{error->ee_type,
				   {address_of(about.sin_addr), ntohs(about.sin_port)},
				   address_of(from->sin_addr)};
	}
	return std::nullopt;
}

} // namespace lab
