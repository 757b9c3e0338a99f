// The fixture of the packet tests. run() sends one frame through one program and returns the one reason whose
// counter moved; it also demands what every reason of that kind promises (the action, the packet untouched).
// After each test the books must balance: usage, hosts and leases against the sessions that are there.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "loader/compile.h"
#include "loader/rule.h"
#include "tests/bpf/datapath.h"
#include "tests/bpf/packet.h"
#include "tests/bpf/world.h"

namespace ptrig::test {

using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// Frames by where they come from or go to.
inline const Eth kFromHost{.src = kHostMac, .dst = kLanMac}, kFromHost2{.src = kHost2Mac, .dst = kLanMac},
	kFromSwitch{.src = kSwitchMac, .dst = kLanMac}, kFromRemote{.src = kRemoteMac, .dst = kWanMac},
	kFromRemote1{.src = kRemote1Mac, .dst = kWan1Mac};
inline const Eth kToHost{.src = kLanMac, .dst = kHostMac}, kToHost2{.src = kLanMac, .dst = kHost2Mac},
	kToRemote{.src = kWanMac, .dst = kRemoteMac}, kToRemote1{.src = kWan1Mac, .dst = kRemote1Mac};

// The same conversation seen on both sides of the gateway.
inline const Ip4 kRemoteToWan{.src = kRemote, .dst = kWan}, kRemoteToHost{.src = kRemote, .dst = kHost, .ttl = 63},
	kHostToRemote{.src = kHost, .dst = kRemote}, kWanToRemote{.src = kWan, .dst = kRemote, .ttl = 63};
inline const Udp kKnock{.sport = 7000, .dport = 16384}, kReply{.sport = 16384, .dport = 7000};

/// A machine on the LAN, as its packets look.
struct Machine {
	std::string address, mac;
};
inline const Machine kA{kHost, kHostMac}, kB{kHost2, kHost2Mac};

/// The way a trigger takes.
struct Way {
	std::string lan = "lan0", wan = "wan0", wan_address = kWan;
	std::uint16_t port = 0; ///< of the WAN, that masquerade gives; 0: the host's own
};

PortRange tcp(std::uint16_t first, std::uint16_t last = 0);
PortRange udp(std::uint16_t first, std::uint16_t last = 0);
/// An open range; host_first 0: the same ports on the host.
OpenRange open(PortRange wan, std::uint16_t host_first = 0);
Prefix prefix(const std::string &text, std::uint8_t bits = 32);
Mac mac(const std::string &text);
/// An address as abi.h has it.
__be32 be(const std::string &address);
std::uint64_t now_ns();
/// Whether `a` is the later stamp. One that a test has moved back may lie before the machine's start.
inline bool is_later(std::uint64_t a, std::uint64_t b) {
	return static_cast<std::int64_t>(a - b) > 0;
}

/// 5060/udp opens 16384-16390/udp; 6667/tcp opens 113/tcp.
Rule media();
Rule ident();

/// Both entries of a session.
struct Pair {
	ptrig_session_key wan_key, lan_key;
	ptrig_session wan, lan;
	bool halfopen;
};

/// The key of a session's other direction.
ptrig_session_key mirror(const ptrig_session_key &key, const ptrig_session &session);

class DatapathTest : public ::testing::Test {
protected:
	void SetUp() override;
	void TearDown() override;

	/// Programs with maps of other sizes, for this test only.
	void use(const Sizes &sizes);
	/// The maps as if just loaded, with the world's interfaces and addresses.
	void use_maps();
	Datapath &dp() const { return *dp_; }

	/// Compiles `rules` with config_'s timeouts and limits into a generation, and makes it the active one.
	void apply(std::vector<Rule> rules, unsigned generation = 0, bool activate = true);
	void activate(unsigned generation);
	std::uint32_t rule_id(const std::string &name) const;
	void interface(const std::string &name, std::uint32_t flags, std::uint32_t mtu = 1500);
	void wan_address(const std::string &dev, const std::string &address, bool there = true);

	/// One program alone.
	enum ptrig_reason run(Hook hook, const std::string &dev, const Packet &in, Packet *out = nullptr,
			      const std::string &from = "");
	/// A packet from the LAN goes through LAN ingress, is translated as its conntrack entry says or masqueraded, as
	/// the kernel would, and goes through WAN egress: the reason of the last program that had something to say, and
	/// the packet as it left.
	enum ptrig_reason lan_in(const Packet &in, Packet *out = nullptr) { return through(in, {}, out); }
	enum ptrig_reason through(const Packet &in, const Way &way, Packet *out = nullptr);
	/// A packet from the WAN; `out`: as it leaves to the host, translated by its entry, if it is a session's.
	enum ptrig_reason wan_in(const Packet &in, Packet *out = nullptr) { return from_wan("wan0", in, out, "lan0"); }
	enum ptrig_reason from_wan(const std::string &wan, const Packet &in, Packet *out = nullptr,
				   const std::string &lan = "lan0");
	/// The same, and LAN egress sees it leave, unless it takes the fast path.
	enum ptrig_reason to_host(const Packet &in, Packet *out = nullptr, const std::string &wan = "wan0",
				  const std::string &lan = "lan0");
	enum ptrig_reason wan_out(const Packet &in) { return run(Hook::kWanOut, "wan0", in, nullptr, "lan0"); }
	enum ptrig_reason lan_out(const Packet &in) { return run(Hook::kLanOut, "lan0", in, nullptr, "wan0"); }

	/// A host's packet through(). `l4` is the packet from its transport header on.
	enum ptrig_reason trigger(const Machine &who, const Packet &l4, const std::string &remote = kRemote,
				  const Way &way = {});
	/// Applies `rules`, and host A triggers the first of them.
	void granted(const std::vector<Rule> &rules);
	/// The remote's packet as it leaves to the host, un-masqueraded.
	enum ptrig_reason answer(const Machine &to, const Packet &l4, const std::string &remote = kRemote);

	std::optional<ptrig_lease> lease(const std::string &rule, const std::string &remote = "",
					 const std::string &wan = kWan) const;
	void edit_lease(const std::string &rule, const std::function<void(ptrig_lease &)> &edit,
			const std::string &remote = "");
	/// The lease's last refresh was that much longer ago.
	void age_lease(const std::string &rule, nanoseconds by, const std::string &remote = "");

	std::vector<Pair> sessions() const;
	/// The only session there is.
	Pair session() const;
	void edit_session(const std::function<void(Pair &)> &edit);
	/// The host's last packet, and the last look at the session, were that much longer ago.
	void age_session(nanoseconds by);
	/// The same for every established session.
	void age_sessions(nanoseconds by);
	/// The gateway knows this MAC address for a LAN address, until the test is over.
	void knows(const std::string &address, const std::string &mac);
	/// Lets every interface take part in the fast path; `xdp`: lan0 and wan0 by XDP, with a program attached to
	/// them, as their drivers want it.
	void with_fast(bool xdp);
	void without_xdp();
	/// All permissions were given that much longer ago.
	void age_fast(nanoseconds by);
	/// The ways of pt_fast that are somebody's.
	std::vector<ptrig_fast> fast_ways() const;
	/// With what the fast path has counted since.
	ptrig_session with_counts(ptrig_session session) const;
	/// The next packet is the one a second that is looked at.
	void look_due() { age_session(seconds(1)); }

	ptrig_usage usage() const;
	ptrig_hits hits(const std::string &rule) const;
	ptrig_last last(const std::string &rule) const;
	std::vector<ptrig_event> events() { return dp_->events(); }
	ptrig_admin admin(ptrig_admin arguments) { return dp_->admin(arguments); }

	Config config_;
	std::optional<Sizes> sizes_; ///< set by a fixture's constructor: of its tests' maps
	bool books_ = true;          ///< false: the test has cooked them

	/// The books balance.
	void check_books() const;
	/// What every run for this reason must satisfy: the action, and the packet untouched unless it is rewritten.
	static void check_run(Hook hook, enum ptrig_reason reason, const Bytes &in, const Datapath::Run &result);

private:
	void check_usage(const std::vector<Pair> &pairs) const;
	void check_ports(const std::vector<Pair> &pairs) const;
	void check_ways(const std::vector<Pair> &pairs) const;
	void check_entries(const std::vector<Pair> &pairs) const;
	enum ptrig_reason moved(const std::vector<std::uint64_t> &before) const;
	Datapath *dp_ = nullptr;
	std::vector<std::string> known_;
	std::unique_ptr<Datapath> own_;
	std::map<std::string, RuleIdentity> identities_;
	std::vector<std::uint32_t> slot_counters_;
	std::uint32_t next_set_ = 1;
};

/// The packet from its IP header on: TC leaves the Ethernet header of a packet that goes out by bpf_redirect_neigh.
Packet l3(const Packet &frame);

} // namespace ptrig::test
