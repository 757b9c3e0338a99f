// The small real network that the programs' helpers ask: routes, neighbours, conntrack, sockets. Three network
// namespaces, entered and made by this process alone, gone with it; nothing of the machine's own is touched.
//
//   lan (192.168.77.11) ── lan0 192.168.77.1/24 ┐
//        L3 switch .254 for 10.77.0.0/16        ├ gateway ┬ wan0 203.0.113.2/24, .3 ── wan (203.0.113.10, .11)
//                          lan1 192.168.88.1/24 ┘         └ wan1 192.0.2.2/24
//   tunl 8.0.77.1/24 and tunw 8.0.113.2/24: devices without Ethernet header, on the gateway
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <sys/socket.h>

#include "loader/map.h"

namespace ptrig::test {

inline const std::string kHost = "192.168.77.11", kHost2 = "192.168.77.12", kStranger = "192.168.77.13";
inline const std::string kRouted = "10.77.0.5", kSwitch = "192.168.77.254", kLanAddr = "192.168.77.1";
inline const std::string kWan = "203.0.113.2", kWanSecond = "203.0.113.3", kWan1 = "192.0.2.2";
inline const std::string kRemote = "203.0.113.10", kRemote2 = "203.0.113.11", kFar = "198.51.100.7";
inline const std::string kRemote1 = "192.0.2.10"; ///< behind wan1
inline const std::string kTunHost = "8.0.77.11", kTunWan = "8.0.113.2", kTunRemote = "8.0.113.10";

inline const std::string kLanMac = "02:00:77:00:00:01", kWanMac = "02:00:cb:00:00:02", kLan1Mac = "02:00:88:00:00:01",
			 kWan1Mac = "02:00:c0:00:00:02";
inline const std::string kHostMac = "02:00:77:00:00:0b", kHost2Mac = "02:00:77:00:00:0c",
			 kStrangerMac = "02:00:77:00:00:0d", kSwitchMac = "02:00:77:00:00:fe";
inline const std::string kRemoteMac = "02:00:cb:00:00:0a", kRemote2Mac = "02:00:cb:00:00:0b",
			 kRouterMac = "02:00:cb:00:00:01", kRemote1Mac = "02:00:c0:00:00:0a";

enum class Ns { kGateway, kLan, kWan };
/// Runs `what` on a thread in a namespace; rethrows what it throws.
void inside(Ns ns, const std::function<void()> &what);

/// Enters private network and mount namespaces (own /sys, /run and bpffs) and builds the network.
/// Returns "" or why it cannot be had here.
std::string enter_world();
bool in_world();

std::uint32_t ifindex(const std::string &name);
/// Runs `ip -batch` in a namespace; throws std::runtime_error if it fails.
void ip_batch(Ns ns, const std::string &lines);
/// Runs `nft -f -` on the gateway.
void nft(const std::string &ruleset);
/// Empties the gateway's conntrack.
void forget_flows();
/// What the gateway's neighbour table says for good of an address; an empty `mac`: nothing.
void neighbour(const std::string &address, const std::vector<std::uint8_t> &mac, const std::string &dev);
/// The gateway's conntrack as text, a line a flow.
std::string flows();

/// A socket (SOCK_DGRAM or SOCK_STREAM) bound to address:port in a namespace; a stream socket listens unless
/// told not to. Throws on error.
Fd socket_at(Ns ns, int type, const std::string &address, std::uint16_t port, bool listening = true);
void send_to(const Fd &socket, const std::string &address, std::uint16_t port, const std::string &text);
/// Waits (with a deadline) for a datagram; returns where it came from as "address:port".
std::string receive(const Fd &socket);

} // namespace ptrig::test
