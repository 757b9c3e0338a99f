// The fixture of the stories that count: how often, what they may lose, and the kernel's log meanwhile.
#pragma once

#include <string>
#include <vector>

#include "loader/gateway.h"
#include "tests/lab/lab.h"

namespace lab {

/// The kernel's messages from now on.
class KernelLog {
public:
	KernelLog();
	/// Those that tell of a fault in the kernel; throws if the log cannot be read.
	std::vector<std::string> faults();

private:
	Fd fd_;
};

std::string text(std::uint64_t number);
/// How many of `packets`, of `all` that were sent, may be lost where devices have dropped so many of all: their share
/// several times over, for drops come in bursts, and never more than were dropped.
std::uint64_t share_of(std::uint64_t drops, std::uint64_t packets, std::uint64_t all);
/// Packets of a named counter in the host's table inet soak.
std::uint64_t counted_by(const NetNs &host, const std::string &name);

class Soak : public Lab {
protected:
	void SetUp() override;
	void TearDown() override;

	/// `full` times PTRIG_SOAK, if that is set, but never less than `few`.
	static unsigned count(unsigned few, unsigned full);
	/// PTRIG_SOAK_SEED or one that is always the same; printed.
	static unsigned seed();
	/// A line "soak: …" that says what was counted.
	void report(const std::string &counted) const;
	/// The leases, read from the maps in this process.
	std::vector<ptrig::LeaseView> lease_views() const;
	std::uint64_t conntrack_count() const;
	std::uint64_t half_open_sessions() const;
	/// R4. `blocked`: the firewall drops the flood in its forward chain, and ptrig is told of a small conntrack
	/// table.
	void flood_open_ports(bool blocked);
	/// Frames that a device between host and remote has dropped for want of room: never ptrig's doing.
	std::uint64_t device_drops() const;
	std::uint64_t received_by_wan() const;
	/// A host's own flows to a remote, one of TCP and one of UDP, masqueraded: how many are answered.
	unsigned own_flows(const NetNs &host);
	/// Rename over: whoever reads it sees the old text or the new one.
	void replace(const std::string &path, const std::string &text) const;

private:
	std::optional<KernelLog> log_;
};

} // namespace lab
