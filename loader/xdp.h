// The choice of devices for XDP, native only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "loader/netlink.h"
#include "loader/result.h"

namespace ptrig {

/// What a device's driver says it can do with XDP (NETDEV_XDP_ACT_* of the netdev netlink family, kernel >= 6.3).
struct XdpFeatures {
	std::uint64_t bits = 0;
	bool native() const; ///< native programs, and redirects out of them
	bool
	takes_frames() const; ///< frames redirected to it arrive. Drivers may say so only once a program is attached
	bool operator==(const XdpFeatures &) const = default;
};
/// Unset if the kernel cannot tell (before 6.3) or the device is gone.
Result<std::optional<XdpFeatures>> xdp_features(std::uint32_t ifindex);

/// What decides beside the device itself.
struct XdpContext {
	std::optional<XdpFeatures> features; ///< unset: the kernel cannot tell; the table of drivers decides
	bool trunk = false;                  ///< Network::is_trunk
	bool egress_shaped = false;          ///< a shaping qdisc is on it: XDP redirects into it would bypass that
	bool ingress_redirect =
		false; ///< an ingress filter sends its packets through another device (ifb): XDP would bypass that
};
struct XdpChoice {
	bool use = false;
	std::string why; ///< why not, e.g. "veth hands over packets with unfinished checksums"; empty if use
};
/// May `datapath = "auto"` attach XDP to this device? Only hardware with a driver known for native XDP and whose
/// packets are complete; never veth, tun/tap, virtio_net, bridges, VLANs, bonds, Wi-Fi or devices without an Ethernet
/// header.
XdpChoice xdp_auto(const Link &link, const XdpContext &context);
/// May `datapath = "xdp"` attach it? All that no program could make sense of is refused (no Ethernet header, a trunk).
XdpChoice xdp_possible(const Link &link, const XdpContext &context);
/// Do frames that XDP redirects into this device arrive, and may they (PTRIG_IFACE_XDP)? Ask after attaching, with
/// features read after attaching. On kernels that cannot tell, only for hardware in the table of drivers.
bool xdp_takes_redirects(const Link &link, const XdpContext &context);

} // namespace ptrig
