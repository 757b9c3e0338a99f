// The gateway at one pin directory: what the CLI and the daemon call. Never prints, never exits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "include/ptrig/abi.h"
#include "loader/compile.h"
#include "loader/result.h"
#include "loader/rule.h"

namespace ptrig {

inline constexpr const char *kDefaultPinDir = "/sys/fs/bpf/ptrig";
inline constexpr const char *kDefaultConfig = "/etc/ptrig/ptrig.toml";

struct Expectation;

/// A lease as the CLI lists it. Ages and times are seconds.
struct LeaseView {
	std::string rule;
	std::uint32_t rule_id = 0, lease_id = 0;
	Ip4 host;
	std::optional<Mac> mac;
	Ip4 wan;
	std::optional<Ip4> remote; ///< set if the lease is per remote
	std::string state;         ///< "live", "cooldown"
	std::uint32_t sessions = 0;
	std::vector<OpenRange> open;
	std::vector<std::string> behind; ///< earlier rules whose live leases take packets to these ports, in file order
	bool behind_wholly = false;      ///< they take all of them
	double age_s = 0, idle_s = 0, expires_in_s = 0;
	std::uint64_t packets = 0, bytes = 0;
	Protos trigger_proto = 0;
	Ip4 trigger_remote;
	std::uint16_t trigger_port = 0;
};

struct SessionView {
	std::string rule; ///< empty if the rule is gone
	std::uint32_t rule_id = 0, lease_id = 0;
	Protos proto = 0;
	Ip4 remote, wan, host;
	std::uint16_t remote_port = 0, wan_port = 0, host_port = 0;
	std::string state; ///< "half-open", "transitory", "established", "closing"
	double idle_s = 0;
	std::uint64_t packets_in = 0, packets_out = 0, bytes_in = 0, bytes_out = 0;
};

/// What a list or close is about; unset members match everything.
struct Filter {
	std::optional<std::string> rule;
	std::optional<Ip4> host, remote;
	std::optional<PortRange> port; ///< a lease that opens it, a session that uses it on the WAN
};

struct RefusedCount {
	std::string reason; ///< lower-case name of reasons.h
	std::uint64_t count = 0;
};
struct LastTrigger {
	Ip4 host, remote;
	double age_s = 0;
	std::string reason;
};
struct RuleView {
	Rule rule;
	std::uint32_t leases = 0;
	std::uint64_t triggers_seen = 0, granted = 0;
	std::vector<RefusedCount> refused;
	std::optional<LastTrigger> last;
};

struct InterfaceView {
	std::string name;
	std::uint32_t ifindex = 0; ///< 0: waiting
	std::string datapath;      ///< "xdp", "tc", "kernel" or "waiting"
	std::vector<std::string> addresses;
	std::string why; ///< why its datapath is not more, if it is not the configuration that says so; else empty
};
struct LimitView {
	std::string name; ///< sessions, halfopen, leases, rules
	std::uint64_t used = 0, max = 0;
};
struct StatusView {
	std::optional<int> daemon;
	std::string config, pin_dir;
	std::vector<InterfaceView> wan, lan;
	std::uint64_t rules = 0, leases = 0, sessions = 0;
	std::uint64_t mended = 0; ///< counts that were found wrong and put right
	std::vector<LimitView> limits;
	std::vector<RefusedCount> counters; ///< every reason that is not 0, in the order of reasons.h
	std::vector<std::string> warnings;
};

struct CloseResult {
	std::vector<LeaseView> closed;
	std::uint32_t sessions_left = 0; ///< sessions of these leases that go on
	std::uint32_t sessions_closed = 0;
};

struct ApplyResult {
	std::vector<RuleDiff> changes;
	std::vector<std::string> notes; ///< what was seen but takes effect only after `ptrig down; ptrig up`
	std::uint32_t leases_ended = 0;
};

/// How much of a sweep: all there is, the leases alone (quick, however many sessions there are), or all but no more
/// than 65,536 sessions (a tenth of a second).
enum class Sweep { kAll, kLeases, kSome };
struct SweepResult {
	std::uint32_t leases = 0, sessions = 0, halfopen = 0, conns = 0;
	bool more = false; ///< of kSome: there may be more that has ended
};

/// One change of a lease, for monitors and the journal.
struct EventView {
	double time = 0;                 ///< seconds since the epoch (CLOCK_REALTIME)
	std::string event, rule, reason; ///< granted, refused, takeover, moved, ended, config, lost
	std::optional<Ip4> host, remote, old_host;
	std::optional<Mac> mac;
	std::uint32_t count = 0; ///< refused, and changes of leases: left out before this one; lost: how many
	bool log = true;         ///< the rule wants a journal line
};

class Gateway {
public:
	struct Impl; ///< private to the library
	/// Take hold of a running gateway by its pins. Errors: kNoGateway if there is none, kSystem if the
	/// pins are not ours to read, another ABI, or another network namespace's.
	static Result<Gateway> open(const std::string &pin_dir);
	/// Load, pin and attach (needs root), or adopt what is up; then apply `config`. `config_path` is remembered for
	/// status. What was done is appended to `notes` (e.g. started afresh because of another ABI).
	static Result<Gateway> up(const std::string &pin_dir, const Config &config, const std::string &config_path,
				  std::vector<std::string> &notes);
	/// open(); or up() with the file at `config_path`, which is read only then, if there is no gateway or one that
	/// must be started afresh. `notes` stays empty if it was open().
	static Result<Gateway> open_or_up(const std::string &pin_dir, const std::string &config_path,
					  std::vector<std::string> &notes);
	/// Detach and remove everything; done when there is nothing. kSystem while a daemon runs.
	static Done down(const std::string &pin_dir);

	Gateway(Gateway &&) noexcept;
	Gateway &operator=(Gateway &&) noexcept;
	~Gateway();

	/// The live configuration.
	Result<std::shared_ptr<const Config>> config() const;
	/// Where it was read from.
	Result<std::string> config_path() const;
	/// Replace the live configuration, atomically for packets and under a lock for writers. Nothing changes on
	/// error.
	Result<ApplyResult> apply(const Config &config, const std::string &config_path);
	/// What apply would do.
	Result<ApplyResult> plan(const Config &config) const;
	/// Read-modify-write of the live configuration under the same lock.
	Result<ApplyResult> edit(const std::function<Done(Config &)> &change);

	Result<std::vector<RuleView>> rules() const;
	Result<std::vector<LeaseView>> leases(const Filter &filter) const;
	/// Streams: calls `each` for every match, in bounded memory.
	Done sessions(const Filter &filter, const std::function<void(const SessionView &)> &each) const;
	Result<StatusView> status() const;
	Result<CloseResult> close_leases(const Filter &filter, bool kill);
	Result<std::uint32_t> close_sessions(const Filter &filter);

	/// Delete what has ended by time. Nothing depends on it but the tables' room, their counts, and the events of
	/// leases that end.
	Result<SweepResult> sweep(Sweep how_much = Sweep::kAll);
	/// Compare what the datapath has counted with what its tables hold, and put right what has been wrong three
	/// times in a row. Returns lines worth a journal entry. It reads all tables: not to be called often.
	Result<std::vector<std::string>> audit();
	/// Is it still this gateway that is pinned there? Error: its pins have been removed, or another one has its
	/// place.
	Done present() const;
	/// Bring attachments, interface and address tables in line with the network now. Returns lines worth a journal
	/// entry; nothing if another process writes just now: nothing was done then, and it is to be tried again soon.
	Result<std::optional<std::vector<std::string>>> reconcile();
	/// Have programs come to or gone from its interfaces by tcx since the last call? The kernel tells no event of
	/// these; of anything else NetworkMonitor does.
	bool tcx_changed();
	/// What conntrack's helpers expect now, all of it, for packets to leave alone; and one that came or is gone.
	Done set_expected(const std::vector<Expectation> &now);
	Done note_expected(const Expectation &expectation, bool gone);
	/// See to it that the nat chain of ptrig's own is there, and tell packets whether it is. True: it had to be
	/// added.
	Result<bool> keep_nat_chain();
	/// Once a second, by who calls shorten_permissions(): until it is too long ago, permission may last for more
	/// than a second.
	Done follow_firewall();
	/// Once a second: with no answered session for a while, the fast path rests, so that ordinary packets pass one
	/// program less; with one, it is there again. True: reconcile() has something to do.
	Result<bool> rest_or_wake();
	/// For when nobody will call rest_or_wake() any more. True: reconcile() has something to do.
	Result<bool> wake();
	/// No session has permission for the fast path for longer than a second from now on, each for another part of
	/// it: what the firewall lets out may have changed.
	Done shorten_permissions();
	/// File descriptor of the events ring buffer, for the daemon's poll; and what to do when it is readable.
	Result<int> events_fd();
	Done read_events(const std::function<void(const EventView &)> &each);

	const std::string &pin_dir() const;

private:
	explicit Gateway(std::unique_ptr<Impl> impl);
	std::unique_ptr<Impl> impl_;
};

} // namespace ptrig
