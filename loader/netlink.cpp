// Devices, and what can be asked of one look at the network.
#include "loader/netlink.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loader/netlink_message.h"
#include "loader/netlink_socket.h"

namespace ptrig {

namespace {

XdpSlot parse_xdp(const NetlinkAttrs &attrs) {
	XdpSlot slot;
	switch (attrs.u8(IFLA_XDP_ATTACHED).value_or(XDP_ATTACHED_NONE)) {
	case XDP_ATTACHED_DRV:
		slot.mode = XdpSlot::Mode::kNative;
		break;
	case XDP_ATTACHED_SKB:
		slot.mode = XdpSlot::Mode::kGeneric;
		break;
	case XDP_ATTACHED_HW:
		slot.mode = XdpSlot::Mode::kOffload;
		break;
	case XDP_ATTACHED_MULTI:
		slot.mode = XdpSlot::Mode::kMulti;
		break;
	default:
		return slot;
	}
	auto id = attrs.u32(IFLA_XDP_PROG_ID);
	for (unsigned type : {IFLA_XDP_DRV_PROG_ID, IFLA_XDP_SKB_PROG_ID, IFLA_XDP_HW_PROG_ID}) {
		if (!id) {
			id = attrs.u32(type);
		}
	}
	slot.prog_id = id.value_or(0);
	return slot;
}

/// What rtnetlink does not tell of hardware: its driver, and whether it is Wi-Fi. By ioctl, because
/// /sys/class/net is that of the namespace which mounted it.
void ask_driver(int fd, Link &link) {
	ifreq request{};
	std::strncpy(request.ifr_name, link.name.c_str(), IFNAMSIZ - 1);
	ethtool_drvinfo info{};
	info.cmd = ETHTOOL_GDRVINFO;
	request.ifr_data = reinterpret_cast<char *>(&info);
	if (ioctl(fd, SIOCETHTOOL, &request) == 0) {
		link.driver.assign(info.driver, strnlen(info.driver, sizeof info.driver));
	}
	constexpr unsigned long kGetWirelessName = 0x8B01; // SIOCGIWNAME; linux/wireless.h clashes with linux/if.h
	// Like struct iwreq: the name, then 16 bytes of answer.
	ifreq wireless{};
	std::strncpy(wireless.ifr_name, link.name.c_str(), IFNAMSIZ - 1);
	link.wireless = ioctl(fd, kGetWirelessName, &wireless) == 0 ||
			access(("/sys/class/net/" + link.name + "/phy80211").c_str(), F_OK) == 0;
}

void ask_drivers(std::vector<Link> &links) {
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return; // drivers stay unknown
	}
	for (auto &link : links) {
		if (link.kind.empty()) {
			ask_driver(fd, link);
		}
	}
	close(fd);
}

void fill_getlink(nlmsghdr *message, std::uint32_t ifindex) {
	message->nlmsg_type = RTM_GETLINK;
	auto *header = static_cast<ifinfomsg *>(mnl_nlmsg_put_extra_header(message, sizeof(ifinfomsg)));
	header->ifi_index = static_cast<int>(ifindex);
	// Without it some drivers' statistics of virtual functions fill the answer.
	mnl_attr_put_u32(message, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

} // namespace

std::optional<Link> parse_link(const nlmsghdr *message) {
	const auto *header = header_of<ifinfomsg>(message);
	if (header == nullptr) {
		return std::nullopt;
	}
	NetlinkAttrs attrs(message, sizeof *header);
	NetlinkAttrs info = attrs.nest(IFLA_LINKINFO);
	Link link;
	link.ifindex = static_cast<std::uint32_t>(header->ifi_index);
	link.name = attrs.text(IFLA_IFNAME);
	link.kind = info.text(IFLA_INFO_KIND);
	link.slave_kind = info.text(IFLA_INFO_SLAVE_KIND);
	link.up = header->ifi_flags & IFF_UP;
	link.running = header->ifi_flags & IFF_RUNNING;
	link.mtu = attrs.u32(IFLA_MTU).value_or(0);
	link.arphrd = header->ifi_type;
	link.ethernet = header->ifi_type == ARPHRD_ETHER || header->ifi_type == ARPHRD_LOOPBACK;
	link.master = attrs.u32(IFLA_MASTER).value_or(0);
	link.lower = attrs.u32(IFLA_LINK).value_or(0);
	link.lower_elsewhere = attrs.has(IFLA_LINK_NETNSID);
	link.qdisc = attrs.text(IFLA_QDISC);
	link.xdp = parse_xdp(attrs.nest(IFLA_XDP));
	const auto *mac = attrs.get(IFLA_ADDRESS);
	if (link.ethernet && mac != nullptr && mnl_attr_get_payload_len(mac) == 6) {
		link.mac.emplace();
		std::memcpy(link.mac->bytes.data(), mnl_attr_get_payload(mac), 6);
	}
	return link;
}

Result<std::vector<Link>> read_links() {
	auto answer = netlink_dump(NETLINK_ROUTE, [](nlmsghdr *message) { fill_getlink(message, 0); });
	if (!answer) {
		return within("list the network interfaces", answer.error());
	}
	std::vector<Link> links;
	for (const auto *message : answer->messages()) {
		if (auto link = parse_link(message); link && message->nlmsg_type == RTM_NEWLINK) {
			links.push_back(std::move(*link));
		}
	}
	ask_drivers(links);
	std::sort(links.begin(), links.end(), [](const Link &a, const Link &b) { return a.ifindex < b.ifindex; });
	return links;
}

Result<std::optional<Link>> read_link(std::uint32_t ifindex) {
	int code = 0;
	auto answer = netlink_get(
		NETLINK_ROUTE, [&](nlmsghdr *message) { fill_getlink(message, ifindex); }, &code);
	if (!answer) {
		if (code == ENODEV) {
			return std::optional<Link>();
		}
		return within("look up interface " + std::to_string(ifindex), answer.error());
	}
	std::vector<Link> links;
	for (const auto *message : answer->messages()) {
		if (auto link = parse_link(message)) {
			links.push_back(std::move(*link));
		}
	}
	ask_drivers(links);
	return links.empty() ? std::optional<Link>() : std::optional<Link>(links.front());
}

Result<Network> read_network() {
	Network network;
	auto links = read_links();
	if (!links) {
		return tl::unexpected(links.error());
	}
	network.links = std::move(*links);
	auto addresses = read_addresses();
	if (!addresses) {
		return tl::unexpected(addresses.error());
	}
	network.addresses = std::move(*addresses);
	auto route = read_default_route();
	if (!route) {
		return tl::unexpected(route.error());
	}
	network.default_route = std::move(*route);
	return network;
}

const Link *Network::find(std::string_view name) const {
	auto it = std::find_if(links.begin(), links.end(), [&](const Link &link) { return link.name == name; });
	return it == links.end() ? nullptr : &*it;
}

const Link *Network::find(std::uint32_t ifindex) const {
	auto it = std::find_if(links.begin(), links.end(), [&](const Link &link) { return link.ifindex == ifindex; });
	return it == links.end() ? nullptr : &*it;
}

std::vector<Address> Network::addresses_of(std::uint32_t ifindex) const {
	std::vector<Address> list;
	for (const auto &address : addresses) {
		if (address.ifindex == ifindex) {
			list.push_back(address);
		}
	}
	std::stable_sort(list.begin(), list.end(),
			 [](const Address &a, const Address &b) { return !a.secondary && b.secondary; });
	return list;
}

bool Network::is_trunk(std::uint32_t ifindex) const {
	return std::any_of(links.begin(), links.end(), [&](const Link &link) {
		return link.kind == "vlan" && link.lower == ifindex && !link.lower_elsewhere;
	});
}

Result<Link> Network::require(std::string_view name) const {
	if (const auto *link = find(name)) {
		return *link;
	}
	return fail("no interface \"" + std::string(name) + "\"; there are " + describe(), Status::kInput);
}

std::string Network::describe() const {
	std::string text;
	for (const auto &link : links) {
		if (link.arphrd == ARPHRD_LOOPBACK) {
			continue;
		}
		text += (text.empty() ? "" : ", ") + link.name;
		auto own = addresses_of(link.ifindex);
		for (const auto &address : own) {
			text += " " + to_string(address.local) + "/" + std::to_string(address.bits);
		}
		if (own.empty()) {
			text += " (no IPv4 address)";
		}
	}
	return text.empty() ? "none but loopback" : text;
}

} // namespace ptrig
