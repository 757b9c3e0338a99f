// The fixture of the stories about the gateway's own policies: rules that come and go under running traffic, and
// sessions of both protocols that they are to stop.
#pragma once

#include <string>
#include <vector>

#include "tests/lab/lab.h"

namespace lab {

/// So long a story waits for what must not arrive.
inline milliseconds short_wait() {
	return patient(300ms);
}

/// How many packets of each protocol come by a hook of a namespace and match, since it was made.
class PacketCount {
public:
	PacketCount(const NetNs &where, const std::string &hook, const std::string &match);
	~PacketCount();
	PacketCount(const PacketCount &) = delete;
	PacketCount &operator=(const PacketCount &) = delete;
	std::uint64_t udp() const;
	std::uint64_t tcp() const;

private:
	const NetNs &where_;
};

class PolicyLab : public Lab {
protected:
	/// The rules that stand in front of the forward chain's `established`, in place of those before.
	void in_front(const std::vector<std::string> &rules);
	/// The rules right behind it, likewise.
	void behind(const std::vector<std::string> &rules);

	/// Sessions through an open port of the WAN address that a remote has begun, one of each protocol.
	struct Sessions {
		Fd udp, tcp; ///< the remote's ends
		Fd tcp_host;
		const Fd &udp_host;
		std::uint16_t port; ///< the open one
	};
	Sessions begin_sessions(const NetNs &host, const std::string &remote, std::uint16_t port = 6000);
	bool udp_comes_in(const Sessions &sessions, milliseconds deadline = patient(5s));
	bool udp_goes_out(const Sessions &sessions, milliseconds deadline = patient(5s));
	bool tcp_comes_in(const Sessions &sessions, milliseconds deadline = patient(20s));
	bool tcp_goes_out(const Sessions &sessions, milliseconds deadline = patient(20s));
	/// All of it, both ways.
	testing::AssertionResult run_both_ways(const Sessions &sessions);

	/// A host's own packets, from this port of its to a remote: does a datagram arrive, does a connection come
	/// about?
	bool own_udp(const NetNs &host, std::uint16_t from, const Endpoint &to, milliseconds deadline = patient(5s));
	bool own_tcp(const NetNs &host, std::uint16_t from, const Endpoint &to, milliseconds deadline = patient(5s));
	/// From a remote to an address of the gateway's, where the host listens at the same port.
	bool reaches_udp(const Endpoint &open, const NetNs &host, milliseconds deadline = patient(5s));
	bool reaches_tcp(const Endpoint &open, const NetNs &host, milliseconds deadline = patient(5s));

private:
	void place_chains();
	bool placed_ = false;
};

/// A line that is sent at one end of a connection arrives at the other. Lines before it, which have been held up,
/// may arrive first.
bool line_arrives(const Fd &from, const Fd &to, milliseconds deadline);

} // namespace lab
