// What netfilter tells: the connections that conntrack's helpers expect, and that the ruleset of nftables has changed.
// Only reads. Everything is of the network namespace of the calling thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "loader/result.h"
#include "loader/rule.h"

namespace ptrig {

/// A connection that a helper (nf_conntrack_ftp, _sip, ...) expects, as its first packet arrives: with NAT from the
/// remote to an address of the gateway's.
struct Expectation {
	Ip4 remote; ///< 0.0.0.0: any, or not just one
	Ip4 local;
	std::uint16_t port = 0;      ///< at `local`
	std::uint8_t proto = 0;      ///< IPPROTO_TCP or IPPROTO_UDP
	std::uint32_t timeout_s = 0; ///< left; whole seconds, rounded down
	bool operator==(const Expectation &) const = default;
};
/// All of IPv4's TCP and UDP. `code` receives the kernel's errno: EINVAL where it has no nf_conntrack_netlink.
Result<std::vector<Expectation>> read_expectations(int *code = nullptr);

struct NetfilterChange {
	enum class Kind {
		kExpected,
		kUnexpected, ///< it came, was given up or its time is over
		kRuleset,    ///< of nftables, in whatever family
		kResync,     ///< messages were lost (ENOBUFS): anything may have changed
	} kind = Kind::kResync;
	Expectation expectation; ///< of the first two
	bool operator==(const NetfilterChange &) const = default;
};

/// A subscription to these changes. Open it before anything is read, so that nothing is missed. Conntrack tells nothing
/// of what helpers expect for a connection that began before anybody had subscribed, nor with
/// net.netfilter.nf_conntrack_events = 0: only read_expectations() finds that.
class NetfilterMonitor {
public:
	static Result<NetfilterMonitor> open();
	NetfilterMonitor(NetfilterMonitor &&) noexcept;
	NetfilterMonitor &operator=(NetfilterMonitor &&) noexcept;
	~NetfilterMonitor();

	int fd() const; ///< readable when there are changes; non-blocking
	/// Everything that has happened since the last call, without waiting; equal neighbours are told once.
	Result<std::vector<NetfilterChange>> drain();

private:
	struct Impl;
	explicit NetfilterMonitor(std::unique_ptr<Impl> impl);
	std::unique_ptr<Impl> impl_;
};

} // namespace ptrig
