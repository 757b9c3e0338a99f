// The subscription to changes of links, IPv4 addresses, default routes, qdiscs and filters.
#include <algorithm>
#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include "loader/netlink.h"
#include "loader/netlink_message.h"
#include "loader/netlink_socket.h"
#include "loader/netlink_subscription.h"

namespace ptrig {

namespace {

std::optional<Change> parse_link_change(const nlmsghdr *message) {
	const auto *header = header_of<ifinfomsg>(message);
	if (header == nullptr) {
		return std::nullopt;
	}
	NetlinkAttrs attrs(message, sizeof *header);
	// A bridge tells of its ports in the same group; its "deleted" means that the device left the bridge.
	bool gone = message->nlmsg_type == RTM_DELLINK && header->ifi_family != AF_BRIDGE;
	return Change{gone ? Change::Kind::kLinkGone : Change::Kind::kLink,
		      static_cast<std::uint32_t>(header->ifi_index), attrs.text(IFLA_IFNAME), std::nullopt};
}

std::optional<Change> parse_address_change(const nlmsghdr *message) {
	const auto *header = header_of<ifaddrmsg>(message);
	if (header == nullptr) {
		return std::nullopt;
	}
	NetlinkAttrs attrs(message, sizeof *header);
	auto local = attrs.u32(IFA_LOCAL) ? attrs.u32(IFA_LOCAL) : attrs.u32(IFA_ADDRESS);
	if (header->ifa_family != AF_INET || !local) {
		return std::nullopt;
	}
	return Change{message->nlmsg_type == RTM_NEWADDR ? Change::Kind::kAddress : Change::Kind::kAddressGone,
		      header->ifa_index,
		      {},
		      Ip4{ntohl(*local)}};
}

std::optional<Change> parse_route_change(const nlmsghdr *message) {
	const auto *header = header_of<rtmsg>(message);
	if (header == nullptr) {
		return std::nullopt;
	}
	NetlinkAttrs attrs(message, sizeof *header);
	// Of whatever table, and halves of the internet too.
	auto to = ntohl(attrs.u32(RTA_DST).value_or(0));
	if (header->rtm_family != AF_INET || header->rtm_dst_len > 1 || (to & 0x7FFFFFFF) != 0) {
		return std::nullopt;
	}
	return Change{Change::Kind::kRoute, attrs.u32(RTA_OIF).value_or(0), {}, std::nullopt};
}

std::optional<Change> parse_tc_change(const nlmsghdr *message) {
	const auto *header = header_of<tcmsg>(message);
	if (header == nullptr) {
		return std::nullopt;
	}
	const bool filter = message->nlmsg_type == RTM_NEWTFILTER || message->nlmsg_type == RTM_DELTFILTER;
	const bool shared = filter && header->tcm_ifindex == static_cast<int>(TCM_IFINDEX_MAGIC_BLOCK);
	// Others sort packets into the classes of a device's own qdisc.
	if (filter && !shared && TC_H_MAJ(header->tcm_parent) != TC_H_MAJ(TC_H_CLSACT)) {
		return std::nullopt;
	}
	return Change{
		Change::Kind::kTc, shared ? 0 : static_cast<std::uint32_t>(header->tcm_ifindex), {}, std::nullopt};
}

/// Which table has the default route may be another now.
std::optional<Change> parse_rule_change(const nlmsghdr *message) {
	const auto *header = header_of<fib_rule_hdr>(message);
	if (header == nullptr || header->family != AF_INET) {
		return std::nullopt;
	}
	return Change{Change::Kind::kRoute, 0, {}, std::nullopt};
}

void append(std::vector<Change> &changes, Change change) {
	if (changes.empty() || !(changes.back() == change)) {
		changes.push_back(std::move(change));
	}
}

} // namespace

std::optional<Change> parse_change(const nlmsghdr *message) {
	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		return parse_link_change(message);
	case RTM_NEWADDR:
	case RTM_DELADDR:
		return parse_address_change(message);
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		return parse_route_change(message);
	case RTM_NEWQDISC:
	case RTM_DELQDISC:
	case RTM_NEWTFILTER:
	case RTM_DELTFILTER:
		return parse_tc_change(message);
	case RTM_NEWRULE:
	case RTM_DELRULE:
		return parse_rule_change(message);
	default:
		return std::nullopt;
	}
}

struct NetworkMonitor::Impl {
	NetlinkSubscription subscription;
};

NetworkMonitor::NetworkMonitor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NetworkMonitor::NetworkMonitor(NetworkMonitor &&) noexcept = default;
NetworkMonitor &NetworkMonitor::operator=(NetworkMonitor &&) noexcept = default;
NetworkMonitor::~NetworkMonitor() = default;

Result<NetworkMonitor> NetworkMonitor::open() {
	auto subscription = NetlinkSubscription::open(
		NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE | RTMGRP_TC,
		"subscribe to network changes");
	if (!subscription) {
		return tl::unexpected(std::move(subscription.error()));
	}
	return NetworkMonitor(std::make_unique<Impl>(Impl{std::move(*subscription)}));
}

int NetworkMonitor::fd() const {
	return impl_->subscription.fd();
}

Result<std::vector<Change>> NetworkMonitor::drain() {
	std::vector<Change> changes;
	auto drained = impl_->subscription.drain(
		[&](const nlmsghdr *message) {
			if (auto change = parse_change(message)) {
				append(changes, std::move(*change));
			}
		},
		[&] {
			append(changes, Change{Change::Kind::kResync, 0, {}, std::nullopt});
		});
	if (!drained) {
		return tl::unexpected(std::move(drained.error()));
	}
	return changes;
}

} // namespace ptrig
