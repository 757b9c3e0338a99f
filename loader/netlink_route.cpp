// IPv4 addresses, the default route and queueing disciplines.
#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <linux/fib_rules.h>
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

/// Ends a table's dump early: it comes in the order of destinations, so past 0.0.0.0 there is no default route, and
/// past 128.0.0.0 no half of one. A gateway with the whole internet's routes is not read to the end.
class PastDefault {
public:
	explicit PastDefault(std::uint32_t table) : table_(table) {}

	bool operator()(const nlmsghdr *message) {
		const auto *header = header_of<rtmsg>(message);
		if (header == nullptr || message->nlmsg_type != RTM_NEWROUTE) {
			return false;
		}
		NetlinkAttrs attrs(message, sizeof *header);
		if (attrs.u32(RTA_TABLE).value_or(header->rtm_table) != table_) {
			return false; // of a kernel that does not filter
		}
		auto to = host_order(attrs.u32(RTA_DST).value_or(0));
		has_half_ |= to.value == 0 && header->rtm_dst_len == 1;
		return to.value > (has_half_ ? kHighHalf : 0);
	}

	static constexpr std::uint32_t kHighHalf = 0x80000000;

private:
	std::uint32_t table_;
	bool has_half_ = false;
};

std::optional<DefaultRoute::Part> part_of(const rtmsg &header, const NetlinkAttrs &attrs) {
	auto to = host_order(attrs.u32(RTA_DST).value_or(0)).value;
	if (header.rtm_dst_len == 0) {
		return DefaultRoute::Part::kWhole;
	}
	if (header.rtm_dst_len == 1 && (to == 0 || to == PastDefault::kHighHalf)) {
		return to == 0 ? DefaultRoute::Part::kLowHalf : DefaultRoute::Part::kHighHalf;
	}
	return std::nullopt;
}

Result<std::vector<std::uint32_t>> read_tables() {
	int code = 0;
	auto answer = netlink_dump(
		NETLINK_ROUTE,
		[](nlmsghdr *message) {
			message->nlmsg_type = RTM_GETRULE;
			auto *header =
				static_cast<fib_rule_hdr *>(mnl_nlmsg_put_extra_header(message, sizeof(fib_rule_hdr)));
			header->family = AF_INET;
		},
		{}, &code);
	if (!answer && code == EOPNOTSUPP) {
		return tables_in_order({}); // a kernel without rules has the main table
	}
	if (!answer) {
		return within("list the routing rules", answer.error());
	}
	std::vector<TableRule> rules;
	for (const auto *message : answer->messages()) {
		if (auto rule = parse_table_rule(message)) {
			rules.push_back(*rule);
		}
	}
	return tables_in_order(std::move(rules));
}

Result<std::vector<DefaultRoute>> read_default_routes(std::uint32_t table) {
	auto fill = [&](nlmsghdr *message) {
		message->nlmsg_type = RTM_GETROUTE;
		auto *header = static_cast<rtmsg *>(mnl_nlmsg_put_extra_header(message, sizeof(rtmsg)));
		header->rtm_family = AF_INET;
		header->rtm_table = static_cast<unsigned char>(table < 256 ? table : RT_TABLE_COMPAT);
		mnl_attr_put_u32(message, RTA_TABLE, table);
	};
	int code = 0;
	auto answer = netlink_dump(NETLINK_ROUTE, fill, PastDefault(table), &code);
	if (!answer && code == ENOENT) {
		return std::vector<DefaultRoute>(); // a table that never had a route is not there
	}
	if (!answer) {
		return within("look up the default route", answer.error());
	}
	std::vector<DefaultRoute> routes;
	for (const auto *message : answer->messages()) {
		if (auto route = parse_default_route(message); route && route->table == table) {
			routes.push_back(std::move(*route));
		}
	}
	return routes;
}

/// Of the lowest metric.
const DefaultRoute *best_of(const std::vector<DefaultRoute> &routes, DefaultRoute::Part part) {
	const DefaultRoute *best = nullptr;
	for (const auto &route : routes) {
		if (route.part == part && (best == nullptr || route.metric < best->metric)) {
			best = &route;
		}
	}
	return best;
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
	auto part = part_of(*header, attrs);
	if (message->nlmsg_type != RTM_NEWROUTE || header->rtm_family != AF_INET || !part ||
	    header->rtm_type != RTN_UNICAST || header->rtm_tos != 0) {
		return std::nullopt;
	}
	DefaultRoute route{.part = *part,
			   .table = attrs.u32(RTA_TABLE).value_or(header->rtm_table),
			   .metric = attrs.u32(RTA_PRIORITY).value_or(0)};
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

std::optional<TableRule> parse_table_rule(const nlmsghdr *message) {
	const auto *header = header_of<fib_rule_hdr>(message);
	if (header == nullptr) {
		return std::nullopt;
	}
	NetlinkAttrs attrs(message, sizeof *header);
	// What is suppressed by its length is the default route (wg-quick's rule for the main table).
	if (message->nlmsg_type != RTM_NEWRULE || header->family != AF_INET || header->action != FR_ACT_TO_TBL ||
	    attrs.has(FRA_SUPPRESS_PREFIXLEN)) {
		return std::nullopt;
	}
	constexpr unsigned kSelectors[] = {FRA_SRC,         FRA_DST,       FRA_IIFNAME,  FRA_OIFNAME,
					   FRA_FWMARK,      FRA_UID_RANGE, FRA_IP_PROTO, FRA_SPORT_RANGE,
					   FRA_DPORT_RANGE, FRA_TUN_ID,    FRA_L3MDEV};
	TableRule rule{.priority = attrs.u32(FRA_PRIORITY).value_or(0),
		       .table = attrs.u32(FRA_TABLE).value_or(header->table),
		       .for_all = header->tos == 0 && !(header->flags & FIB_RULE_INVERT)};
	for (unsigned selector : kSelectors) {
		rule.for_all &= !attrs.has(selector);
	}
	// The local table has no way out; a VRF's rule names none.
	return rule.table == RT_TABLE_LOCAL || rule.table == RT_TABLE_UNSPEC ? std::nullopt : std::optional(rule);
}

std::vector<std::uint32_t> tables_in_order(std::vector<TableRule> rules) {
	std::stable_sort(rules.begin(), rules.end(), [](const TableRule &a, const TableRule &b) {
		return a.for_all != b.for_all ? a.for_all : a.priority < b.priority;
	});
	std::vector<std::uint32_t> tables;
	rules.push_back({.table = RT_TABLE_MAIN});
	for (const auto &rule : rules) {
		if (std::find(tables.begin(), tables.end(), rule.table) == tables.end()) {
			tables.push_back(rule.table);
		}
	}
	return tables;
}

std::vector<std::uint32_t> best_default(const std::vector<DefaultRoute> &routes) {
	if (const auto *whole = best_of(routes, DefaultRoute::Part::kWhole)) {
		return whole->ifindexes;
	}
	const auto *low = best_of(routes, DefaultRoute::Part::kLowHalf);
	const auto *high = best_of(routes, DefaultRoute::Part::kHighHalf);
	if (low == nullptr || high == nullptr) {
		return {};
	}
	auto ifindexes = low->ifindexes;
	for (auto ifindex : high->ifindexes) {
		if (std::find(ifindexes.begin(), ifindexes.end(), ifindex) == ifindexes.end()) {
			ifindexes.push_back(ifindex);
		}
	}
	return ifindexes;
}

Result<std::vector<std::uint32_t>> read_default_route() {
	auto tables = read_tables();
	if (!tables) {
		return tl::unexpected(tables.error());
	}
	for (auto table : *tables) {
		auto routes = read_default_routes(table);
		if (!routes) {
			return tl::unexpected(routes.error());
		}
		if (auto best = best_default(*routes); !best.empty()) {
			return best;
		}
	}
	return std::vector<std::uint32_t>();
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
