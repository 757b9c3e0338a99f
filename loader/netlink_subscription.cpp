// See netlink_subscription.h.
#include "loader/netlink_subscription.h"

#include <cerrno>
#include <sys/socket.h>

namespace ptrig {

Result<NetlinkSubscription> NetlinkSubscription::open(int bus, unsigned groups, const char *what) {
	NetlinkSocket socket(mnl_socket_open2(bus, SOCK_CLOEXEC | SOCK_NONBLOCK));
	if (!socket)
		return system_error("open a netlink socket");
	// Room for bursts such as hundreds of VLANs going down; what does not fit is a resync, not a loss.
	const int bytes = 1 << 20;
	const int fd = mnl_socket_get_fd(socket.get());
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	if (mnl_socket_bind(socket.get(), groups, MNL_SOCKET_AUTOPID) < 0)
		return system_error(what);
	return NetlinkSubscription(std::move(socket));
}

int NetlinkSubscription::fd() const {
	return mnl_socket_get_fd(socket_.get());
}

Done NetlinkSubscription::drain(const std::function<void(const nlmsghdr *)> &each, const std::function<void()> &lost) {
	while (true) {
		const auto bytes = mnl_socket_recvfrom(socket_.get(), buffer_.data(), buffer_.size());
		if (bytes < 0) {
			const int code = errno;
			if (code == EAGAIN || code == EWOULDBLOCK)
				return {};
			if (code == EINTR)
				continue;
			if (code != ENOBUFS && code != ENOSPC)
				return system_error("read from a netlink socket", code);
			lost();
			continue;
		}
		const auto *message = reinterpret_cast<const nlmsghdr *>(buffer_.data());
		for (int left = static_cast<int>(bytes); mnl_nlmsg_ok(message, left);
		     message = mnl_nlmsg_next(message, &left))
			each(message);
	}
}

} // namespace ptrig
