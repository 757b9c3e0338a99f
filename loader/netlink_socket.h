// One request to the kernel over netlink and its whole answer; used by netlink, netfilter, tc and xdp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <libmnl/libmnl.h>

#include "loader/result.h"

namespace ptrig {

struct NetlinkCloser {
	void operator()(mnl_socket *socket) const { mnl_socket_close(socket); }
};
using NetlinkSocket = std::unique_ptr<mnl_socket, NetlinkCloser>;
/// For requests; an answer is waited for no longer than ten seconds.
Result<NetlinkSocket> open_netlink(int bus);

/// The messages of one answer, owned, in order. Control messages (done, error) are not among them.
class NetlinkAnswer {
public:
	void add(const nlmsghdr *message);
	void clear();
	std::vector<const nlmsghdr *> messages() const;

private:
	std::vector<std::uint64_t> words_; ///< of 64 bits, so that every message is aligned
	std::vector<std::size_t> starts_;
};

/// Fills type and payload of a request; nlmsg_flags, seq and length are set around it.
using NetlinkFill = std::function<void(nlmsghdr *)>;
/// Says of a message of a dump that all that matters has been seen: the rest is not read.
using NetlinkStop = std::function<bool(const nlmsghdr *)>;

/// Dump on `bus` (NETLINK_ROUTE, NETLINK_GENERIC). An interrupted one (NLM_F_DUMP_INTR) begins again.
Result<NetlinkAnswer> netlink_dump(int bus, const NetlinkFill &fill, const NetlinkStop &stop = {}, int *code = nullptr);
/// A single question. Of both: Error::what is the kernel's error alone, `code` receives its errno.
Result<NetlinkAnswer> netlink_get(int bus, const NetlinkFill &fill, int *code = nullptr);

/// Type and header of a message to a subsystem of netfilter. `type`: NFNL_SUBSYS_* << 8 and the subsystem's own;
/// `res_id`: of a transaction, the subsystem that it is for.
void put_netfilter(nlmsghdr *message, unsigned type, std::uint8_t family, std::uint16_t res_id = 0);

/// Attributes of a message or of a nest, by type; absent or too short ones read as unset.
class NetlinkAttrs {
public:
	NetlinkAttrs(const nlmsghdr *message, std::size_t header_size);
	explicit NetlinkAttrs(const nlattr *nest);

	const nlattr *get(unsigned type) const;
	bool has(unsigned type) const { return get(type) != nullptr; }
	std::optional<std::uint8_t> u8(unsigned type) const;
	std::optional<std::uint16_t> u16(unsigned type) const;
	std::optional<std::uint32_t> u32(unsigned type) const;
	std::optional<std::uint64_t> u64(unsigned type) const; ///< also of a 32-bit attribute
	std::string text(unsigned type) const;                 ///< empty if absent
	/// A nest; without attributes if absent.
	NetlinkAttrs nest(unsigned type) const;
	const std::vector<const nlattr *> &all() const { return attrs_; }

private:
	NetlinkAttrs() = default;
	std::vector<const nlattr *> attrs_;
};

} // namespace ptrig
