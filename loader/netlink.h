// What the kernel's network looks like now and what changes in it, read by rtnetlink (libmnl).
// Only reads. Everything is of the network namespace of the calling thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loader/result.h"
#include "loader/rule.h"

namespace ptrig {

/// The XDP program in a device's slot (IFLA_XDP).
struct XdpSlot {
	enum class Mode { kNone, kNative, kGeneric, kOffload, kMulti } mode = Mode::kNone;
	std::uint32_t prog_id = 0; ///< 0: none. With kMulti the native one, if there is one
};

/// A network device.
struct Link {
	std::uint32_t ifindex = 0;
	std::string name;
	std::string
		kind; ///< IFLA_INFO_KIND: veth, tun, bridge, vlan, ppp, wireguard, bond, ifb, ...; empty for hardware
	std::string driver; ///< of hardware, as `ethtool -i` says: virtio_net, ixgbe, ...; empty if unknown, and where
			    ///< kind is set
	bool up = false;    ///< IFF_UP
	bool running = false;         ///< IFF_RUNNING: up and with carrier
	std::uint32_t mtu = 0;        ///< bytes
	std::optional<Mac> mac;       ///< only of devices with an Ethernet header
	std::uint16_t arphrd = 0;     ///< ARPHRD_*
	bool ethernet = false;        ///< its packets begin with an Ethernet header (false: PTRIG_IFACE_L3)
	bool wireless = false;        ///< a Wi-Fi device
	std::uint32_t master = 0;     ///< ifindex of the bridge, bond or VRF it belongs to; 0: none
	std::string slave_kind;       ///< what it is to its master (IFLA_INFO_SLAVE_KIND): "bridge" for a bridge member
	std::uint32_t lower = 0;      ///< IFLA_LINK: a VLAN's lower device, a veth's peer; 0: none
	bool lower_elsewhere = false; ///< that device is in another network namespace
	std::string qdisc;            ///< root qdisc's kind
	XdpSlot xdp;
};

/// An IPv4 address of an interface.
struct Address {
	std::uint32_t ifindex = 0;
	Ip4 local;      ///< the interface's own (IFA_LOCAL); on PPP this side's, never the peer's
	Prefix on_link; ///< what is directly reachable: the prefix, on a point-to-point link the peer
	std::uint8_t bits = 32;
	std::uint8_t scope = 0; ///< RT_SCOPE_UNIVERSE (0), RT_SCOPE_LINK, RT_SCOPE_HOST
	bool secondary = false; ///< IFA_F_SECONDARY: the kernel does not choose it as a source by itself
	bool operator==(const Address &) const = default;
};

/// One look at everything. Links in order of ifindex, addresses in the kernel's order.
struct Network {
	std::vector<Link> links;
	std::vector<Address> addresses;
	/// Interfaces of the default route with the lowest metric, or of the two halves of the internet (0.0.0.0/1 and
	/// 128.0.0.0/1) where there is none; several with a multipath route; may be empty. Of the first routing table
	/// of `ip rule` that has one: tables for all packets before those for some.
	std::vector<std::uint32_t> default_route;

	const Link *find(std::string_view name) const; ///< nullptr: there is none
	const Link *find(std::uint32_t ifindex) const;
	std::vector<Address> addresses_of(std::uint32_t ifindex) const; ///< primary ones first
	/// Has `ifindex` VLAN devices on top (then XDP would see their packets, with hardware offload without their
	/// tag)?
	bool is_trunk(std::uint32_t ifindex) const;
	/// The interface, or an input error that lists the ones there are with their IPv4 addresses, in one line.
	Result<Link> require(std::string_view name) const;
	/// "br0 192.168.77.1/24, wan0 203.0.113.2/24, eth1 (no IPv4 address)"; loopback is left out.
	std::string describe() const;
};

Result<std::vector<Link>> read_links();
/// One device; an unset optional if it does not exist (any more).
Result<std::optional<Link>> read_link(std::uint32_t ifindex);
Result<std::vector<Address>> read_addresses();
/// See Network::default_route.
Result<std::vector<std::uint32_t>> read_default_route();
/// All three. A dump that was interrupted by a change is repeated, so each list is consistent in itself.
Result<Network> read_network();

/// Something changed. For a kLink or kAddress change look the new state up with read_network(): several
/// changes may already have happened since.
struct Change {
	enum class Kind {
		kLink, ///< a device appeared or changed (name, up, MTU, master)
		kLinkGone,
		kAddress, ///< IPv4 address added or changed
		kAddressGone,
		kRoute, ///< a default route, half of one or a routing rule came or went (ifindex 0 if it has several)
		kTc, ///< a qdisc, or a filter of what comes in or leaves, came or went (ifindex 0: in a shared block)
		kResync, ///< messages were lost (ENOBUFS): anything may have changed, read everything
	} kind = Kind::kResync;
	std::uint32_t ifindex = 0;
	std::string name;           ///< kLink, kLinkGone
	std::optional<Ip4> address; ///< kAddress, kAddressGone
	bool operator==(const Change &) const = default;
};

/// A subscription to changes of links, IPv4 addresses, default routes, qdiscs and filters. Open it before
/// read_network(), so that nothing is missed.
class NetworkMonitor {
public:
	static Result<NetworkMonitor> open();
	NetworkMonitor(NetworkMonitor &&) noexcept;
	NetworkMonitor &operator=(NetworkMonitor &&) noexcept;
	~NetworkMonitor();

	int fd() const; ///< readable when there are changes; non-blocking
	/// Everything that has happened since the last call, without waiting; equal neighbours are told once.
	Result<std::vector<Change>> drain();

private:
	struct Impl;
	explicit NetworkMonitor(std::unique_ptr<Impl> impl);
	std::unique_ptr<Impl> impl_;
};

/// A queueing discipline of a device.
struct Qdisc {
	std::uint32_t ifindex = 0;
	std::string kind;
	std::uint32_t handle = 0, parent = 0;
};
Result<std::vector<Qdisc>> read_qdiscs(); ///< of all devices

} // namespace ptrig
