// A socket that the kernel tells of changes in, and all that it holds read without waiting. Used by the monitors of
// rtnetlink and of netfilter, which say what the messages mean.
#pragma once

#include <functional>
#include <vector>

#include <libmnl/libmnl.h>

#include "loader/netlink_socket.h"
#include "loader/result.h"

namespace ptrig {

class NetlinkSubscription {
public:
	/// `groups`: a bit for each, group n at bit n - 1. `what` is told in errors: "subscribe to network changes".
	static Result<NetlinkSubscription> open(int bus, unsigned groups, const char *what);

	int fd() const; ///< readable when there are messages; non-blocking
	/// Calls `each` for every message since the last call; `lost` where some did not fit (ENOBUFS).
	Done drain(const std::function<void(const nlmsghdr *)> &each, const std::function<void()> &lost);

private:
	explicit NetlinkSubscription(NetlinkSocket socket) : socket_(std::move(socket)), buffer_(64 * 1024) {}
	NetlinkSocket socket_;
	std::vector<char> buffer_;
};

} // namespace ptrig
