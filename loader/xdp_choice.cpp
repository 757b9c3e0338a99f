// Which devices XDP is for: a table of drivers, what the kernel says of a device, and what would be bypassed.
#include <algorithm>
#include <array>
#include <cerrno>
#include <linux/genetlink.h>

#include "loader/netlink_socket.h"
#include "loader/xdp.h"

namespace ptrig {

namespace {

// linux/netdev.h, which Debian 12's headers do not have yet.
constexpr std::uint8_t kDevGet = 1;       // NETDEV_CMD_DEV_GET
constexpr unsigned kDevIfindex = 1;       // NETDEV_A_DEV_IFINDEX
constexpr unsigned kDevXdpFeatures = 3;   // NETDEV_A_DEV_XDP_FEATURES
constexpr std::uint64_t kActBasic = 1;    // NETDEV_XDP_ACT_BASIC
constexpr std::uint64_t kActRedirect = 2; // NETDEV_XDP_ACT_REDIRECT
constexpr std::uint64_t kActNdoXmit = 4;  // NETDEV_XDP_ACT_NDO_XMIT

struct Driver {
	std::string_view name; ///< as ETHTOOL_GDRVINFO tells it
	bool takes_frames;     ///< has ndo_xdp_xmit in kernel 6.1
};

/// Hardware with native XDP and redirects in kernel 6.1 and whose packets arrive with complete checksums.
/// Virtual machines' devices are left out on purpose, however they do XDP.
constexpr std::array kDrivers = {
	Driver{"atlantic", true},  Driver{"bnxt_en", true},       Driver{"cpsw", true},        Driver{"ena", true},
	Driver{"fsl_dpa", true},   Driver{"fsl_dpaa2_eth", true}, Driver{"fsl_enetc", true},   Driver{"i40e", true},
	Driver{"ice", true},       Driver{"igb", true},           Driver{"igc", true},         Driver{"ixgbe", true},
	Driver{"mlx4_en", false},  Driver{"mlx5_core", true},     Driver{"mtk_soc_eth", true}, Driver{"mvneta", true},
	Driver{"mvpp2", true},     Driver{"netsec", true},        Driver{"nicvf", false},      Driver{"qede", true},
	Driver{"rvu_nicpf", true}, Driver{"sfc", true},           Driver{"st_gmac", true},
};

const Driver *known_driver(const Link &link) {
	if (!link.kind.empty()) {
		return nullptr;
	}
	const auto *it = std::find_if(kDrivers.begin(), kDrivers.end(),
				      [&](const Driver &driver) { return driver.name == link.driver; });
	return it == kDrivers.end() ? nullptr : it;
}

/// Why a device can never have XDP under `auto`, whatever its driver can; empty: nothing against it.
std::string against(const Link &link) {
	if (!link.ethernet) {
		return "packets have no Ethernet header";
	}
	if (link.wireless) {
		return "Wi-Fi has no native XDP";
	}
	if (link.kind == "veth" || link.kind == "tun" || link.driver == "virtio_net") {
		return (link.kind.empty() ? link.driver : link.kind) + " hands over packets with unfinished checksums";
	}
	if (!link.kind.empty()) {
		return "a " + link.kind + " device is not hardware";
	}
	if (link.driver.empty()) {
		return "its driver is not known";
	}
	return {};
}

Result<std::optional<std::uint16_t>> netdev_family() {
	int code = 0;
	auto answer = netlink_get(
		NETLINK_GENERIC,
		[](nlmsghdr *message) {
			message->nlmsg_type = GENL_ID_CTRL;
			auto *header =
				static_cast<genlmsghdr *>(mnl_nlmsg_put_extra_header(message, sizeof(genlmsghdr)));
			header->cmd = CTRL_CMD_GETFAMILY;
			header->version = 1;
			mnl_attr_put_strz(message, CTRL_ATTR_FAMILY_NAME, "netdev");
		},
		&code);
	if (!answer) {
		if (code == ENOENT) {
			return std::optional<std::uint16_t>();
		}
		return tl::unexpected(answer.error());
	}
	for (const auto *message : answer->messages()) {
		return NetlinkAttrs(message, sizeof(genlmsghdr)).u16(CTRL_ATTR_FAMILY_ID);
	}
	return std::optional<std::uint16_t>();
}

} // namespace

bool XdpFeatures::native() const {
	return (bits & kActBasic) && (bits & kActRedirect);
}
bool XdpFeatures::takes_frames() const {
	return bits & kActNdoXmit;
}

Result<std::optional<XdpFeatures>> xdp_features(std::uint32_t ifindex) {
	auto family = netdev_family();
	if (!family) {
		return within("look for the netdev netlink family", family.error());
	}
	if (!*family) {
		return std::optional<XdpFeatures>();
	}
	int code = 0;
	auto answer = netlink_get(
		NETLINK_GENERIC,
		[&](nlmsghdr *message) {
			message->nlmsg_type = **family;
			auto *header =
				static_cast<genlmsghdr *>(mnl_nlmsg_put_extra_header(message, sizeof(genlmsghdr)));
			header->cmd = kDevGet;
			header->version = 1;
			mnl_attr_put_u32(message, kDevIfindex, ifindex);
		},
		&code);
	if (!answer) {
		if (code == ENODEV) {
			return std::optional<XdpFeatures>();
		}
		return within("ask for XDP features of interface " + std::to_string(ifindex), answer.error());
	}
	for (const auto *message : answer->messages()) {
		if (auto bits = NetlinkAttrs(message, sizeof(genlmsghdr)).u64(kDevXdpFeatures)) {
			return std::optional(XdpFeatures{*bits});
		}
	}
	return std::optional<XdpFeatures>();
}

XdpChoice xdp_possible(const Link &link, const XdpContext &context) {
	if (!link.ethernet) {
		return {false, "packets have no Ethernet header"};
	}
	if (context.trunk) {
		return {false, "it carries VLANs, whose tags the hardware may hide from XDP"};
	}
	if (context.features && !context.features->native()) {
		return {false, "its driver has no native XDP"};
	}
	return {true, {}};
}

XdpChoice xdp_auto(const Link &link, const XdpContext &context) {
	if (auto reason = against(link); !reason.empty()) {
		return {false, reason};
	}
	if (known_driver(link) == nullptr) {
		return {false, "driver " + link.driver + " is not known for native XDP"};
	}
	if (auto possible = xdp_possible(link, context); !possible.use) {
		return possible;
	}
	if (context.ingress_redirect) {
		return {false, "an ingress filter redirects its packets (ifb), which XDP would bypass"};
	}
	return {true, {}};
}

bool xdp_takes_redirects(const Link &link, const XdpContext &context) {
	// A bond announces what its members can do, but has no transmit function for XDP itself.
	if (!link.ethernet || link.kind == "bond" || link.kind == "team" || context.egress_shaped) {
		return false;
	}
	if (context.features) {
		return context.features->takes_frames();
	}
	const auto *driver = known_driver(link);
	return driver != nullptr && driver->takes_frames;
}

} // namespace ptrig
