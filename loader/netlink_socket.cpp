// The netlink conversation itself: sockets, dumps that begin again when they were interrupted, errors,
// and attributes by type.
#include "loader/netlink_socket.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <linux/genetlink.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace ptrig {

namespace {

constexpr std::size_t kBufferSize = 64 * 1024; // a message of a dump is at most 32 KiB unless more was asked for
constexpr int kDumpAttempts = 64;              // each one is cut short only by another change of the network

} // namespace

void put_netfilter(nlmsghdr *message, unsigned type, std::uint8_t family, std::uint16_t res_id) {
	message->nlmsg_type = static_cast<std::uint16_t>(type);
	auto *header = static_cast<nfgenmsg *>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
	header->nfgen_family = family;
	header->version = NFNETLINK_V0;
	header->res_id = htons(res_id);
}

Result<NetlinkSocket> open_netlink(int bus) {
	NetlinkSocket socket(mnl_socket_open2(bus, SOCK_CLOEXEC));
	if (!socket) {
		return system_error("open a netlink socket");
	}
	if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0) {
		return system_error("bind a netlink socket");
	}
	// Kernels know both since 4.20; without them they only filter less and explain less.
	int on = 1;
	(void)mnl_socket_setsockopt(socket.get(), NETLINK_GET_STRICT_CHK, &on, sizeof on);
	timeval patience{.tv_sec = 10};
	(void)setsockopt(mnl_socket_get_fd(socket.get()), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	return socket;
}

namespace {

enum class Outcome { kMore, kDone, kInterrupted, kError };

/// One buffer of messages. `code` is the errno with kError.
Outcome take(const std::vector<char> &buffer, int bytes, unsigned seq, bool dump, const NetlinkStop &stop,
	     NetlinkAnswer &answer, int &code) {
	const auto *message = reinterpret_cast<const nlmsghdr *>(buffer.data());
	for (int left = bytes; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
		if (message->nlmsg_seq != seq) {
			continue;
		}
		if (message->nlmsg_flags & NLM_F_DUMP_INTR) {
			return Outcome::kInterrupted;
		}
		if (message->nlmsg_type == NLMSG_DONE) {
			// The kernel puts the dump's errno there.
			int error = mnl_nlmsg_get_payload_len(message) >= sizeof(int)
					    ? *static_cast<const int *>(mnl_nlmsg_get_payload(message))
					    : 0;
			code = -error;
			return error < 0 ? Outcome::kError : Outcome::kDone;
		}
		if (message->nlmsg_type == NLMSG_ERROR) {
			code = -static_cast<const nlmsgerr *>(mnl_nlmsg_get_payload(message))->error;
			return code == 0 ? Outcome::kDone : Outcome::kError;
		}
		if (stop && stop(message)) {
			return Outcome::kDone;
		}
		answer.add(message);
		if (!dump) {
			return Outcome::kDone;
		}
	}
	return Outcome::kMore;
}

/// Asks once. kInterrupted: ask again on another socket, this one still holds the rest of the dump.
Result<Outcome> converse(int bus, const NetlinkFill &fill, bool dump, const NetlinkStop &stop, NetlinkAnswer &answer,
			 int &code) {
	auto socket = open_netlink(bus);
	if (!socket) {
		return tl::unexpected(socket.error());
	}
	std::vector<char> buffer(kBufferSize);
	auto *request = mnl_nlmsg_put_header(buffer.data());
	fill(request);
	request->nlmsg_flags = NLM_F_REQUEST | (dump ? NLM_F_DUMP : 0);
	const unsigned seq = 1;
	request->nlmsg_seq = seq;
	if (mnl_socket_sendto(socket->get(), request, request->nlmsg_len) < 0) {
		return system_error("send a netlink request");
	}
	while (true) {
		auto bytes = mnl_socket_recvfrom(socket->get(), buffer.data(), buffer.size());
		if (bytes < 0) {
			code = errno;
			if (code == EINTR) {
				continue;
			}
			if (code == ENOBUFS && dump) {
				return Outcome::kInterrupted;
			}
			return system_error("receive a netlink answer", code);
		}
		auto outcome = take(buffer, static_cast<int>(bytes), seq, dump, stop, answer, code);
		if (outcome == Outcome::kError) {
			return tl::unexpected(Error{Status::kSystem, std::generic_category().message(code)});
		}
		if (outcome != Outcome::kMore) {
			return outcome;
		}
	}
}

} // namespace

void NetlinkAnswer::add(const nlmsghdr *message) {
	auto start = words_.size();
	starts_.push_back(start);
	words_.resize(start + (message->nlmsg_len + 7) / 8);
	std::memcpy(&words_[start], message, message->nlmsg_len);
}

void NetlinkAnswer::clear() {
	words_.clear();
	starts_.clear();
}

std::vector<const nlmsghdr *> NetlinkAnswer::messages() const {
	std::vector<const nlmsghdr *> list;
	list.reserve(starts_.size());
	for (auto start : starts_) {
		list.push_back(reinterpret_cast<const nlmsghdr *>(&words_[start]));
	}
	return list;
}

Result<NetlinkAnswer> netlink_dump(int bus, const NetlinkFill &fill, const NetlinkStop &stop, int *code) {
	NetlinkAnswer answer;
	for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
		answer.clear();
		int error = 0;
		auto outcome = converse(bus, fill, true, stop, answer, error);
		if (code != nullptr) {
			*code = error;
		}
		if (!outcome) {
			return tl::unexpected(outcome.error());
		}
		if (*outcome == Outcome::kDone) {
			return answer;
		}
	}
	return fail("the network changes faster than it can be read");
}

Result<NetlinkAnswer> netlink_get(int bus, const NetlinkFill &fill, int *code) {
	NetlinkAnswer answer;
	int error = 0;
	auto outcome = converse(bus, fill, false, {}, answer, error);
	if (code != nullptr) {
		*code = error;
	}
	if (!outcome) {
		return tl::unexpected(outcome.error());
	}
	return answer;
}

NetlinkAttrs::NetlinkAttrs(const nlmsghdr *message, std::size_t header_size) {
	const auto *end = static_cast<const char *>(mnl_nlmsg_get_payload_tail(message));
	const auto *attr = static_cast<const nlattr *>(mnl_nlmsg_get_payload_offset(message, header_size));
	for (; mnl_attr_ok(attr, static_cast<int>(end - reinterpret_cast<const char *>(attr)));
	     attr = mnl_attr_next(attr)) {
		attrs_.push_back(attr);
	}
}

NetlinkAttrs::NetlinkAttrs(const nlattr *nest) {
	const auto *attr = static_cast<const nlattr *>(mnl_attr_get_payload(nest));
	const auto *end = reinterpret_cast<const char *>(attr) + mnl_attr_get_payload_len(nest);
	for (; mnl_attr_ok(attr, static_cast<int>(end - reinterpret_cast<const char *>(attr)));
	     attr = mnl_attr_next(attr)) {
		attrs_.push_back(attr);
	}
}

const nlattr *NetlinkAttrs::get(unsigned type) const {
	for (const auto *attr : attrs_) {
		if (mnl_attr_get_type(attr) == type) {
			return attr;
		}
	}
	return nullptr;
}

namespace {
template <typename T> std::optional<T> value(const nlattr *attr) {
	if (attr == nullptr || mnl_attr_get_payload_len(attr) < sizeof(T)) {
		return std::nullopt;
	}
	T value;
	std::memcpy(&value, mnl_attr_get_payload(attr), sizeof value);
	return value;
}
} // namespace

std::optional<std::uint8_t> NetlinkAttrs::u8(unsigned type) const {
	return value<std::uint8_t>(get(type));
}
std::optional<std::uint16_t> NetlinkAttrs::u16(unsigned type) const {
	return value<std::uint16_t>(get(type));
}
std::optional<std::uint32_t> NetlinkAttrs::u32(unsigned type) const {
	return value<std::uint32_t>(get(type));
}

std::optional<std::uint64_t> NetlinkAttrs::u64(unsigned type) const {
	if (auto wide = value<std::uint64_t>(get(type))) {
		return wide;
	}
	return u32(type);
}

std::string NetlinkAttrs::text(unsigned type) const {
	const auto *attr = get(type);
	if (attr == nullptr) {
		return {};
	}
	const auto *chars = static_cast<const char *>(mnl_attr_get_payload(attr));
	return {chars, strnlen(chars, mnl_attr_get_payload_len(attr))};
}

NetlinkAttrs NetlinkAttrs::nest(unsigned type) const {
	const auto *attr = get(type);
	return attr == nullptr ? NetlinkAttrs() : NetlinkAttrs(attr);
}

} // namespace ptrig
