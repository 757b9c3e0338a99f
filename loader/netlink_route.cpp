// IPv4 addresses, the default route and queueing disciplines.
#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include "loader/netlink.h"
#include "loader/netlink_message.h"
#include "loader/netlink_socket.h"

namespace ptrig {

namespace {

Ip4 host_order(std::uint32_t network_order) {
	return Ip4{ntohl(network_order)};
}

Prefix prefix_of(Ip4 address, std::uint8_t bits) {
	std::uint32_t mask = bits == 0 ? 0 : ~std::uint32_t{0} << (32 - bits);
	return Prefix{Ip4{address.value & mask}, bits};
}

/// A table is dumped in the order of its destinations, so past 0.0.0.0 there is no default route: a gateway
/// with the whole internet's routes is not read to the end.
bool past_default(const nlmsghdr *message) {
	const auto *header = header_of<rtmsg>(message);
	if (header == nullptr) {
		return false;
	}
	NetlinkAttrs attrs(message, sizeof *header);
	return message->nlmsg_type == RTM_NEWROUTE && header->rtm_table == RT_TABLE_MAIN &&
	       attrs.u32(RTA_DST).value_or(0) != 0;
}

} // namespace

std::optional<Address> parse_address(const nlmsghdr *message) {
	const auto *header = header_of<ifaddrmsg>(message);
	if (header == nullptr) {
		return std::nullopt;
	}
	NetlinkAttrs attrs(message, sizeof *header);
	auto address = attrs.u32(IFA_ADDRESS);
	auto local = attrs.u32(IFA_LOCAL);
	if (message->nlmsg_type != RTM_NEWADDR || header->ifa_family != AF_INET || header->ifa_prefixlen > 32 ||
	    (!address && !local)) {
		return std::nullopt;
	}
	Address own;
	own.ifindex = header->ifa_index;
	own.local = host_order(local ? *local : *address);
	// IFA_ADDRESS is the peer on a point-to-point link, else the same as IFA_LOCAL; the prefix length is of it.
	own.on_link = prefix_of(host_order(address ? *address : *local), header->ifa_prefixlen);
	own.bits = header->ifa_prefixlen;
	own.scope = header->ifa_scope;
	own.secondary = attrs.u32(IFA_FLAGS).value_or(header->ifa_flags) & IFA_F_SECONDARY;
	return own;
}

std::optional<DefaultRoute> parse_default_route(const nlmsghdr *message) {
	const auto *header = header_of<rtmsg>(message);
	if (header == nullptr) {
		return std::nullopt;
	}
	NetlinkAttrs attrs(message, sizeof *header);
	if (message->nlmsg_type != RTM_NEWROUTE || header->rtm_family != AF_INET || header->rtm_dst_len != 0 ||
	    header->rtm_type != RTN_UNICAST || header->rtm_tos != 0 ||
	    attrs.u32(RTA_TABLE).value_or(header->rtm_table) != RT_TABLE_MAIN) {
		return std::nullopt;
	}
	DefaultRoute route{.metric = attrs.u32(RTA_PRIORITY).value_or(0)};
	if (auto oif = attrs.u32(RTA_OIF); oif && !(header->rtm_flags & RTNH_F_DEAD)) {
		route.ifindexes.push_back(*oif);
	}
	if (const auto *multipath = attrs.get(RTA_MULTIPATH)) {
		auto left = static_cast<int>(mnl_attr_get_payload_len(multipath));
		for (auto *hop = static_cast<const rtnexthop *>(mnl_attr_get_payload(multipath)); RTNH_OK(hop, left);
		     left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop)) {
			auto oif = static_cast<std::uint32_t>(hop->rtnh_ifindex);
			if (!(hop->rtnh_flags & RTNH_F_DEAD) &&
			    std::find(route.ifindexes.begin(), route.ifindexes.end(), oif) == route.ifindexes.end()) {
				route.ifindexes.push_back(oif);
			}
		}
	}
	return route.ifindexes.empty() ? std::nullopt : std::optional(route);
}

Result<std::vector<Address>> read_addresses() {
	auto answer = netlink_dump(NETLINK_ROUTE, [](nlmsghdr *message) {
		message->nlmsg_type = RTM_GETADDR;
		auto *header = static_cast<ifaddrmsg *>(mnl_nlmsg_put_extra_header(message, sizeof(ifaddrmsg)));
		header->ifa_family = AF_INET;
	});
	if (!answer) {
		return within("list the IPv4 addresses", answer.error());
	}
	std::vector<Address> addresses;
	for (const auto *message : answer->messages()) {
		if (auto address = parse_address(message)) {
			addresses.push_back(*address);
		}
	}
	return addresses;
}

Result<std::vector<std::uint32_t>> read_default_route() {
	auto fill = [](nlmsghdr *message) {
		message->nlmsg_type = RTM_GETROUTE;
		auto *header = static_cast<rtmsg *>(mnl_nlmsg_put_extra_header(message, sizeof(rtmsg)));
		header->rtm_family = AF_INET;
		header->rtm_table = RT_TABLE_MAIN;
	};
	int code = 0;
	auto answer = netlink_dump(NETLINK_ROUTE, fill, past_default, &code);
	if (!answer && code == ENOENT) {
		return std::vector<std::uint32_t>(); // a namespace that never had a route has no main table
	}
	if (!answer) {
		return within("look up the default route", answer.error());
	}
	std::optional<DefaultRoute> best;
	for (const auto *message : answer->messages()) {
		auto route = parse_default_route(message);
		if (route && (!best || route->metric < best->metric)) {
			best = route;
		}
	}
	return best ? best->ifindexes : std::vector<std::uint32_t>();
}

Result<std::vector<Qdisc>> read_qdiscs() {
	auto answer = netlink_dump(NETLINK_ROUTE, [](nlmsghdr *message) {
		message->nlmsg_type = RTM_GETQDISC;
		mnl_nlmsg_put_extra_header(message, sizeof(tcmsg));
	});
	if (!answer) {
		return within("list the queueing disciplines", answer.error());
	}
	std::vector<Qdisc> qdiscs;
	for (const auto *message : answer->messages()) {
		if (message->nlmsg_type != RTM_NEWQDISC) {
			continue;
		}
		const auto *header = static_cast<const tcmsg *>(mnl_nlmsg_get_payload(message));
		NetlinkAttrs attrs(message, sizeof *header);
		qdiscs.push_back(Qdisc{static_cast<std::uint32_t>(header->tcm_ifindex), attrs.text(TCA_KIND),
				       header->tcm_handle, header->tcm_parent});
	}
	return qdiscs;
}

} // namespace ptrig
