// Private to gateway*.cpp and events.cpp: what a Gateway holds, and the parts it is made of. Every part
// opens the pins it needs with the least rights; only the caller of lock_pins() may write.
#pragma once

#include <atomic>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <arpa/inet.h>
#include <sys/types.h>

#include "include/ptrig/abi.h"
#include "loader/audit.h"
#include "loader/compile.h"
#include "loader/gateway.h"
#include "loader/map.h"
#include "loader/netlink.h"
#include "loader/pins.h"
#include "loader/program.h"

namespace ptrig {

// ---- byte order, time, words

inline std::uint32_t to_net(Ip4 address) {
	return htonl(address.value);
}
inline Ip4 ip_from_net(std::uint32_t address) {
	return Ip4{ntohl(address)};
}
inline std::uint16_t port_from_net(std::uint16_t port) {
	return ntohs(port);
}
/// CLOCK_BOOTTIME, as the datapath's stamps.
inline std::uint64_t boot_now_ns() {
	timespec now{};
	clock_gettime(CLOCK_BOOTTIME, &now);
	return static_cast<std::uint64_t>(now.tv_sec) * 1000000000U + static_cast<std::uint64_t>(now.tv_nsec);
}
inline double seconds_of(std::uint64_t ns) {
	return static_cast<double>(ns) / 1e9;
}
/// From `then` to `now`, 0 if `then` is the later.
inline std::uint64_t elapsed_ns(std::uint64_t now, std::uint64_t then) {
	return now > then ? now - then : 0;
}
inline std::uint64_t to_ns(nanoseconds time) {
	return static_cast<std::uint64_t>(time.count());
}
/// "held" for PTRIG_HELD; "unknown" for a number that is no reason.
std::string reason_name(std::uint32_t reason);
Protos proto_mask(std::uint8_t ipproto);

// ---- the live configuration (gateway_live.cpp)

/// What the active generation was compiled from. Pinned beside it, so it belongs to the pins.
struct Live {
	Config config;
	std::string config_path;
	std::map<std::string, RuleIdentity> identities;
	std::vector<std::uint32_t> slot_counters;
	std::uint32_t first_set = 1, next_set = 1; ///< its sets are first_set .. next_set - 1
	std::uint64_t generation = 0;
	std::unordered_map<std::uint32_t, const Rule *> by_id; ///< disabled rules too

	Live() = default;
	Live(const Live &) = delete;
	Live &operator=(const Live &) = delete;
	/// Fill by_id, once config and identities are final.
	void index();
	const Rule *rule(std::uint32_t id) const;
	std::uint32_t id_of(const std::string &name) const; ///< 0: no such rule
};
std::string live_path(const std::string &dir, std::uint32_t generation);
Result<std::shared_ptr<Live>> read_live(const std::string &dir, std::uint32_t generation);
/// Pin it for this generation, in place of what was there.
Done write_live(const std::string &dir, std::uint32_t generation, const Live &live);

// ---- one generation's tables (gateway_tables.cpp)

/// Fill `generation`, which no packet uses. `before`: whose rules keep their counters.
Done write_tables(const std::string &dir, const MapSizes &sizes, std::uint32_t generation, const Tables &tables,
		  const Network &network, const Live &before);
/// What only this generation's rules say of ports packets need not ask about any more.
Done forget_port_bits(const std::string &dir, std::uint32_t generation);
/// Bring the MAC addresses of `sources` that name an interface in line with the interfaces as they are now.
Done follow_sources(const std::string &dir, const MapSizes &sizes, std::uint32_t generation, const Live &live,
		    const Network &network);
/// Delete the prefixes and MAC addresses of all sets outside first .. end - 1.
Done purge_sets(const std::string &dir, std::uint32_t first, std::uint32_t end);
/// One more than the highest set number in it, or `first` if it has none.
std::uint32_t end_of_sets(const Tables &tables, std::uint32_t first);

// ---- interfaces (gateway_interfaces.cpp: which; gateway_attach.cpp: attaching)

// Flags of pt_ifaces for user space, beside those of abi.h.
inline constexpr std::uint32_t kIfaceMadeClsact = 0x80000000U; ///< its clsact qdisc is ours to remove

/// By what the sessions' packets that come in by an interface go on, once they have permission.
inline const char *datapath_name(const ptrig_iface &entry) {
	if (!(entry.flags & PTRIG_IFACE_FAST_IN))
		return "kernel";
	return entry.flags & PTRIG_IFACE_XDP_IN ? "xdp" : "tc";
}

/// What the program at LAN egress is for.
struct LanEgress {
	bool answers = false; ///< some rule waits for a remote's answers
	bool fast = false;    ///< sessions towards the LAN may take the fast path
	bool rests = false;   ///< but there is none: PTRIG_STATE_FAST_RESTS
	explicit operator bool() const { return answers || (fast && !rests); }
};

struct WantedInterface {
	Link link;
	std::uint32_t role = 0; ///< PTRIG_IFACE_LAN or _WAN, and _L3
};
/// Which interfaces a configuration means, in the network as it is.
struct Wanted {
	Network network;
	Datapath datapath = Datapath::kAuto;
	LanEgress lan_egress;
	std::vector<WantedInterface> interfaces;
	std::vector<std::string> conditions; ///< what is waited for, and why, a line each
	bool missing = false;                ///< some interface does not exist: its name may be a wrong one
	std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> addresses; ///< (ifindex, net order) -> primary
	std::optional<Error> wrong; ///< what up and apply refuse and a running gateway only reports
};
/// Errors (kInput): a name that no interface can have, or on both sides.
Done check_names(const GatewayConfig &config);
Result<LanEgress> wants_lan_egress(const std::string &dir, const Config &config);
Wanted want_interfaces(const Config &config, Network network, LanEgress lan_egress,
		       const std::map<std::uint32_t, ptrig_iface> &attached);
Result<std::map<std::uint32_t, ptrig_iface>> read_ifaces(const std::string &dir);

/// The conditions and, where a name may be wrong, the interfaces that there are.
std::vector<std::string> notes_of(const Wanted &wanted, const std::vector<std::string> &conditions);

struct AttachOptions {
	bool strict = false;  ///< the first failure is an error; else it is a condition and the interface waits
	bool replace = false; ///< put the pinned programs in place of those that are attached
	bool quiet = false;   ///< do not tell conditions
};
struct AttachReport {
	std::vector<std::string> lines;      ///< what was done
	std::vector<std::string> conditions; ///< what stays so: told again each time
	std::vector<Ip4> gone;               ///< addresses that no WAN interface has any more
};
/// Bring attachments and pt_ifaces, pt_wan_addrs, pt_devs in line with `wanted`. `names`: by ifindex, of
/// interfaces that may be gone by now; brought up to date.
Result<AttachReport> attach_interfaces(const std::string &dir, const Wanted &wanted, AttachOptions options,
				       std::map<std::uint32_t, std::string> &names);
/// Detach from every interface in `dir`'s pt_ifaces or, `everywhere`, from every one that has filters of ptrig's.
Done detach_all(const std::string &dir, bool everywhere);

/// What is to be told of where the programs of an attached interface stand: removed, not first, without a place, beside
/// others that keep the fast path off (gateway_places.cpp).
std::vector<std::string> place_warnings(const std::string &dir, const Link &link, std::uint32_t role,
					LanEgress lan_egress);

/// Error if ptrig's filters on this interface are those of a gateway pinned elsewhere (gateway_neighbours.cpp).
Done check_not_anothers(const std::string &dir, const Link &link);

// ---- the datapath's own maintenance (gateway_admin.cpp)

Result<ptrig_admin> run_admin(const std::string &dir, ptrig_admin request, unsigned most_calls = ~0U);
/// Every session, with conntrack's entry of each. Pins of another version, or incomplete ones, are left alone.
Done end_all_sessions(const std::string &dir);

/// As Gateway::shorten_permissions() (gateway_fast.cpp).
Done shorten_permissions(const std::string &dir);

// ---- leases (gateway_leases.cpp)

/// A lease that lives or cools down, with its rule.
struct LeaseEntry {
	ptrig_lease_key key{};
	ptrig_lease lease{};
	const Rule *rule = nullptr;
	bool live = false;
	std::uint64_t until_ns = 0; ///< when it ends, or when its cooldown does
};
Result<std::vector<LeaseEntry>> read_leases(const std::string &dir, const Live &live);
/// End the leases that `after` does not allow any more. Returns how many.
Result<std::uint32_t> end_disallowed(const std::string &dir, const Live &before, const Live &after,
				     const Network &network);

/// What the live sessions of one grant have carried.
struct Traffic {
	std::uint64_t packets = 0, bytes = 0;
	std::uint32_t sessions = 0;
};
/// By id of the grant, ended ones too (gateway_sessions.cpp).
Result<std::unordered_map<std::uint32_t, Traffic>> traffic_by_lease(const std::string &dir, const Live &live);

Result<ptrig_state> read_state(const std::string &dir);
Result<ptrig_usage> read_usage(const std::string &dir);
/// Those that the gateway was started with.
MapSizes sizes_of(const ptrig_state &state);
/// Error if these pins belong to another network namespace than the calling thread's.
Done check_netns(const ptrig_state &state, const std::string &dir);

class EventReader;

struct Gateway::Impl {
	std::string dir;
	MapSizes sizes;
	Map<std::uint32_t, ptrig_state> state;      ///< read only
	std::set<std::string> told;                 ///< conditions that the last reconcile told
	std::map<std::uint32_t, std::string> names; ///< of attached interfaces, by ifindex
	std::unique_ptr<EventReader> events;
	std::vector<std::uint32_t> tcx_seen; ///< by the last tcx_changed()
	std::uint64_t last_used_ns = 0;      ///< when rest_or_wake() last saw an answered session
	Audit books;

	Impl();
	~Impl();
	Impl(const Impl &) = delete;
	Impl &operator=(const Impl &) = delete;
	/// Holds the pins at `path`, whose ABI and namespace are right.
	static Result<std::unique_ptr<Impl>> open(const std::string &path);

	/// The two ways up; both with all pins and attachments in place or none of what was not there before.
	static Result<std::unique_ptr<Impl>> start(const std::string &dir, const Config &config,
						   const std::string &config_path, std::vector<std::string> &notes);
	static Result<std::unique_ptr<Impl>> adopt(const std::string &dir, const Config &config,
						   const std::string &config_path, std::vector<std::string> &notes);
	/// New pins, with the first configuration; `make_room`, if any, once they are complete. Called with the lock of
	/// begin_pins().
	static Result<std::unique_ptr<Impl>> make(const std::string &dir, const Config &config,
						  const std::string &config_path,
						  const std::function<Done()> &make_room,
						  std::vector<std::string> &notes);
	/// In place of pins that cannot be adopted, and why. Called with their lock.
	static Result<std::unique_ptr<Impl>> supersede(const std::string &dir, const std::string &why,
						       const Config &config, const std::string &config_path,
						       std::vector<std::string> &notes);
	/// Would `config` be applied?
	Done check(const Config &config) const;

	/// As of now: read again whenever another process has switched.
	Result<std::shared_ptr<const Live>> live() const;
	/// The generation in use.
	Result<std::uint32_t> active() const;

	Result<Wanted> want(const Config &config) const;
	Result<Tables> compile_after(const Config &config, const Live &before) const;
	std::vector<std::string> size_notes(const GatewayConfig &config) const;
	static std::uint32_t first_set_after(const Live &before);

	// Under the lock.
	/// The whole of apply. Nothing changes on error.
	Result<ApplyResult> replace(const Config &config, const std::string &config_path, AttachOptions options);
	/// The first configuration of new pins; nothing is attached.
	Done first_tables(const Config &config, const std::string &config_path);
	/// Write the generation that is idle.
	Done prepare(const Tables &tables, const Network &network, const Live &next, const Live &before) const;
	/// Make it the active one.
	Done flip(std::shared_ptr<const Live> next);
	/// End the leases that the active rules, `after`, do not allow any more, unless that is done. `before`: those
	/// that they replaced, null to read them. Returns how many.
	Result<std::uint32_t> settle(const Live &after, const Network &network, std::shared_ptr<const Live> before);

private:
	/// What live() finds from now on, without reading what this process has just written.
	void remember(std::uint32_t generation, std::shared_ptr<const Live> live);

	mutable std::shared_ptr<const Live> cached_;
	mutable std::pair<std::uint32_t, ino_t> cached_key_{};
};

} // namespace ptrig
