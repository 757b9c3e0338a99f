// Expectations and rulesets: parsing, the dump, the subscription.
#include <arpa/inet.h>
#include <array>
#include <linux/filter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>

#include "loader/netfilter.h"
#include "loader/netfilter_message.h"
#include "loader/netlink_message.h"
#include "loader/netlink_socket.h"
#include "loader/netlink_subscription.h"

namespace ptrig {

namespace {

constexpr std::uint16_t message_type(unsigned subsystem, unsigned message) {
	return static_cast<std::uint16_t>(subsystem << 8 | message);
}
constexpr std::uint16_t kExpectNew = message_type(NFNL_SUBSYS_CTNETLINK_EXP, IPCTNL_MSG_EXP_NEW);
constexpr std::uint16_t kExpectGet = message_type(NFNL_SUBSYS_CTNETLINK_EXP, IPCTNL_MSG_EXP_GET);
constexpr std::uint16_t kExpectDelete = message_type(NFNL_SUBSYS_CTNETLINK_EXP, IPCTNL_MSG_EXP_DELETE);
constexpr std::uint16_t kNewGeneration = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN);

constexpr unsigned group_bit(unsigned group) {
	return 1U << (group - 1);
}

/// Only the three types: a transaction of nftables with a million elements is no more to us than its NEWGEN, which
/// comes in a packet of its own, after them.
void filter_types(int fd) {
	constexpr unsigned kTypeAt = offsetof(nlmsghdr, nlmsg_type);
	// The filter's machine loads in network order what is in the host's.
	std::array<sock_filter, 6> code{{
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kTypeAt),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(kNewGeneration), 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(kExpectNew), 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(kExpectDelete), 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffffU),
	}};
	const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
	// Without it there is only more to read.
	(void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

} // namespace

std::optional<Expectation> parse_expectation(const nlmsghdr *message) {
	const auto *header = header_of<nfgenmsg>(message);
	if (header == nullptr || header->nfgen_family != AF_INET)
		return std::nullopt;
	const NetlinkAttrs attrs(message, sizeof *header);
	const NetlinkAttrs tuple = attrs.nest(CTA_EXPECT_TUPLE);
	const NetlinkAttrs ip = tuple.nest(CTA_TUPLE_IP), ports = tuple.nest(CTA_TUPLE_PROTO);
	const auto remote = ip.u32(CTA_IP_V4_SRC), local = ip.u32(CTA_IP_V4_DST);
	const std::uint8_t proto = ports.u8(CTA_PROTO_NUM).value_or(0);
	const auto port = ports.u16(CTA_PROTO_DST_PORT);
	if (!remote || !local || !port || (proto != IPPROTO_TCP && proto != IPPROTO_UDP))
		return std::nullopt;
	// The mask leaves the remote's address open, or its port, or both; never what it connects to.
	const auto mask = attrs.nest(CTA_EXPECT_MASK).nest(CTA_TUPLE_IP).u32(CTA_IP_V4_SRC);
	return Expectation{.remote = Ip4{mask == 0xffffffffU ? ntohl(*remote) : 0},
			   .local = Ip4{ntohl(*local)},
			   .port = ntohs(*port),
			   .proto = proto,
			   .timeout_s = ntohl(attrs.u32(CTA_EXPECT_TIMEOUT).value_or(0))};
}

std::optional<NetfilterChange> parse_netfilter_change(const nlmsghdr *message) {
	using Kind = NetfilterChange::Kind;
	if (message->nlmsg_type == kNewGeneration)
		return NetfilterChange{Kind::kRuleset, {}};
	if (message->nlmsg_type != kExpectNew && message->nlmsg_type != kExpectDelete)
		return std::nullopt;
	const auto expectation = parse_expectation(message);
	if (!expectation)
		return std::nullopt;
	return NetfilterChange{message->nlmsg_type == kExpectNew ? Kind::kExpected : Kind::kUnexpected, *expectation};
}

Result<std::vector<Expectation>> read_expectations(int *code) {
	const auto fill = [](nlmsghdr *message) { put_netfilter(message, kExpectGet, AF_INET); };
	auto answer = netlink_dump(NETLINK_NETFILTER, fill, {}, code);
	if (!answer)
		return within("list what conntrack's helpers expect", std::move(answer.error()));
	std::vector<Expectation> list;
	for (const auto *message : answer->messages())
		if (auto expectation = parse_expectation(message); expectation && message->nlmsg_type == kExpectNew)
			list.push_back(*expectation);
	return list;
}

struct NetfilterMonitor::Impl {
	NetlinkSubscription subscription;
};

NetfilterMonitor::NetfilterMonitor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NetfilterMonitor::NetfilterMonitor(NetfilterMonitor &&) noexcept = default;
NetfilterMonitor &NetfilterMonitor::operator=(NetfilterMonitor &&) noexcept = default;
NetfilterMonitor::~NetfilterMonitor() = default;

Result<NetfilterMonitor> NetfilterMonitor::open() {
	auto subscription = NetlinkSubscription::open(NETLINK_NETFILTER,
						      group_bit(NFNLGRP_CONNTRACK_EXP_NEW) |
							      group_bit(NFNLGRP_CONNTRACK_EXP_DESTROY) |
							      group_bit(NFNLGRP_NFTABLES),
						      "subscribe to changes of netfilter");
	if (!subscription)
		return tl::unexpected(std::move(subscription.error()));
	filter_types(subscription->fd());
	return NetfilterMonitor(std::make_unique<Impl>(Impl{std::move(*subscription)}));
}

int NetfilterMonitor::fd() const {
	return impl_->subscription.fd();
}

Result<std::vector<NetfilterChange>> NetfilterMonitor::drain() {
	std::vector<NetfilterChange> changes;
	const auto add = [&](NetfilterChange change) {
		if (changes.empty() || !(changes.back() == change))
			changes.push_back(change);
	};
	auto drained = impl_->subscription.drain(
		[&](const nlmsghdr *message) {
			if (const auto change = parse_netfilter_change(message))
				add(*change);
		},
		[&] {
			add({NetfilterChange::Kind::kResync, {}});
		});
	if (!drained)
		return tl::unexpected(std::move(drained.error()));
	return changes;
}

} // namespace ptrig
