// The machine around ptrig: its namespace, bpffs, modules and locks; and the facts about the gateway's
// configuration (forwarding, firewall, listeners, shaping, addresses) from which `status` and `check` warn.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loader/check.h"
#include "loader/netlink.h"
#include "loader/result.h"
#include "loader/rule.h"

namespace ptrig {

// ---- namespace, bpffs, modules, locks (system.cpp, system_lock.cpp)

/// A network namespace as the kernel tells them apart.
struct NetnsId {
	std::uint64_t dev = 0;
	std::uint64_t ino = 0;
	bool operator==(const NetnsId &) const = default;
};
Result<NetnsId> netns_identity(); ///< of the calling thread

/// Is `path` (or, while it does not exist, its nearest existing parent) on a bpffs?
Result<bool> is_on_bpffs(const std::string &path);
/// The same as Done: the error says what to do (and that `ip netns exec` hides /sys/fs/bpf).
Done require_bpffs(const std::string &path);
/// Mount a bpffs at /sys/fs/bpf if nothing is mounted there. True: it was mounted now.
Result<bool> mount_bpffs();

/// Load nf_conntrack and nf_nat by /sbin/modprobe. Returns what it complained about; that is no failure by itself
/// (they may be built in, or the machine may have no modprobe): the load of the programs shows it.
std::vector<std::string> load_conntrack_modules();

Result<unsigned> possible_cpus();

/// A file beside the daemon's socket that belongs to one pin directory: /run/ptrig/NAME for the default one,
/// /run/ptrig/NAME-<pin directory with - for /> otherwise. E.g. name "lock", "daemon", "monitor".
std::string runtime_file(const std::string &pin_dir, std::string_view name);

/// An exclusive lock between processes (flock), released by the destructor and by the death of the process.
/// The file stays: removing it would let two processes lock two different files of one name.
class FileLock {
public:
	/// Waits for it. Makes the parent directory (0755) and the file (0600).
	static Result<FileLock> acquire(const std::string &path);
	/// Unset if another process holds it.
	static Result<std::optional<FileLock>> try_acquire(const std::string &path);
	FileLock(FileLock &&) noexcept;
	FileLock &operator=(FileLock &&) noexcept;
	~FileLock();

private:
	explicit FileLock(int fd) : fd_(fd) {}
	static Result<FileLock> lock(const std::string &path, int operation);
	int fd_ = -1;
};

/// "I am the daemon of these pins": a lock that tells its holder's pid.
class DaemonLock {
public:
	/// Fails, naming the pid, while another process holds it.
	static Result<DaemonLock> take(const std::string &path);
	DaemonLock(DaemonLock &&) noexcept;
	DaemonLock &operator=(DaemonLock &&) noexcept;
	~DaemonLock();

private:
	explicit DaemonLock(int fd) : fd_(fd) {}
	int fd_ = -1;
};
/// Pid of the process that holds the daemon lock at `path`; unset if nobody does, 0 if it has not written it yet.
/// Asking disturbs nobody.
Result<std::optional<int>> daemon_pid(const std::string &path);

/// What a daemon cannot do at present, a line each, for `status`. None: the file goes. Written whole or not at all.
Done write_trouble(const std::string &path, const std::vector<std::string> &lines);
std::vector<std::string> read_trouble(const std::string &path); ///< none if there is no such file

/// A child process's output. argv[0] is an absolute path; no shell, an empty environment but PATH and LC_ALL=C.
struct ChildOutput {
	int status = 0; ///< exit status; 128 + signal if killed
	std::string out, err;
};
/// Error: it could not be started (ENOENT), or did not end within `timeout_ms` (it is killed then).
Result<ChildOutput> run_child(const std::vector<std::string> &argv, int timeout_ms = 5000);

// ---- firewall (system_firewall.cpp, system_nft.cpp, system_iptables.cpp)

/// The interfaces that a rule is limited to. Empty and not negated: any.
struct InterfaceMatch {
	std::vector<std::string> names; ///< "ppp*" matches by prefix
	bool negated = false;
	bool matches(std::string_view name) const;
};
/// A rule that gives outgoing packets the gateway's address (masquerade, snat).
struct SourceNat {
	InterfaceMatch out;
};
/// A rule that sends incoming ports elsewhere (dnat, redirect). No ports: all, or not understood.
struct PortForward {
	InterfaceMatch in;
	std::vector<PortRange> ports;
	std::string where; ///< for people: "nftables ip nat prerouting", "iptables DOCKER"
	Protos all = 0;    ///< of these protocols it takes every port, whoever sends (a "DMZ" or exposed host)
	std::vector<Prefix> to = {}; ///< packets to these addresses only; empty: to any
};
struct Firewall {
	bool looked = false; ///< all NAT rules that the kernel holds could be read: only then is none found none there
	std::string why_not; ///< if not looked: "nft is not installed", "run /usr/sbin/nft: Operation not permitted"
	std::vector<SourceNat> source_nat;
	std::vector<PortForward> forwards;
	bool has_xt = false; ///< nftables holds rules of iptables-nft that only iptables-save can tell
	bool has_flow_table = false;
	std::string zones; ///< a rule that puts flows into a conntrack zone, for people: "nftables ip raw prerouting"
	/// Interfaces whose flows a flow table with `flags offload` may leave to the hardware.
	std::vector<std::string> offloaded;

	bool masquerades(std::string_view interface) const;
	/// Ports forwarded for packets that come in by this interface.
	std::vector<PortRange> forwarded_ports(std::string_view interface) const;
};
/// A named set or map that a NAT rule refers to and whose elements were not in the ruleset's text.
struct SetName {
	std::string family, table, name;
	bool is_map = false;
	bool operator==(const SetName &) const = default;
};
/// Pure: the output of `nft -j -t list ruleset` (blocklists make it huge without -t), and of `nft -j list set|map ...`
/// for named sets. What is not understood is taken for "could match". Sets still to be asked for are added to
/// `unresolved`.
Result<Firewall> parse_nft(std::string_view ruleset, const std::vector<std::string> &sets = {},
			   std::vector<SetName> *unresolved = nullptr);
/// Pure: the output of `nft list flowtables` (its JSON does not tell flags): the devices of those with `flags offload`.
std::vector<std::string> parse_offloaded_devices(std::string_view text);
/// Pure: the output of iptables-save.
Firewall parse_iptables_save(std::string_view text);
/// Ask nft, and iptables-save where iptables rules exist. Never fails: see Firewall::looked.
Firewall read_firewall();

// ---- facts and warnings (system_facts.cpp, system_warnings.cpp)

/// The gateway's sockets that take packets to a WAN address: TCP listeners and unconnected UDP sockets bound to a
/// wildcard (also IPv6's, which takes IPv4 too) or to one of `wan`. From /proc/net of this namespace; sorted, unique.
Result<std::vector<Listener>> read_listeners(const std::vector<Ip4> &wan);
/// Pure part: one /proc/net/{tcp,tcp6,udp,udp6} file's text.
std::vector<Listener> parse_proc_sockets(std::string_view text, Protos proto, const std::vector<Ip4> &wan);

/// A port that miniupnpd has given out.
struct UpnpLease {
	PortRange port;
	Ip4 host;
};
/// From miniupnpd's lease file (that of its configuration, or the usual places); empty if there is none.
std::vector<UpnpLease> read_upnp_leases();
std::vector<UpnpLease> parse_upnp_leases(std::string_view text); ///< pure part

/// Does legacy iptables hold a table? The kernel tells nobody when their rules change.
bool has_legacy_tables();

/// Queueing disciplines with which it matters that packets go by them: all but the plain queues (pfifo_fast, mq,
/// fq_codel, ...), that is htb, tbf, cake, prio, netem, and any that is not known.
bool is_shaping(std::string_view qdisc_kind);
/// What XDP on, and XDP redirects into, a device would bypass.
struct Shaping {
	std::string egress;  ///< kind of the shaping qdisc on it; empty: none
	std::string ingress; ///< name of the device that an ingress filter redirects to; empty: none
};
Result<Shaping> read_shaping(const Network &network, std::uint32_t ifindex);

bool is_private(Ip4 address);      ///< RFC 1918
bool is_shared_space(Ip4 address); ///< 100.64.0.0/10, RFC 6598

/// Everything `status` warns about that is not in ptrig's own maps.
struct GatewayFacts {
	std::vector<std::string> wan, lan; ///< interface names, those that exist
	Network network;
	std::map<std::string, bool>
		forwarding; ///< by interface name; "all" is net.ipv4.ip_forward; absent: not readable
	Firewall firewall;
	std::uint32_t conntrack_zone = 0; ///< that ptrig looks at; filled by the caller
	std::vector<Listener> listeners;
	std::vector<UpnpLease> upnp;
	bool miniupnpd_runs = false;
	std::map<std::string, Shaping> shaping; ///< by interface name, only those with some
	std::vector<std::string> xdp;           ///< names of interfaces that run XDP; filled by the caller
	std::vector<std::string> unread;        ///< what could not be looked at, and why
};
/// Gathers them; what cannot be read is told in `unread`.
GatewayFacts read_gateway_facts(const Network &network, const std::vector<std::string> &wan,
				const std::vector<std::string> &lan);
/// Pure. One line each; `rules` (the enabled ones) and `reserved` decide which ports matter. Ports in `reserved` never
/// warn.
std::vector<std::string> gateway_warnings(const GatewayFacts &facts, const std::vector<Rule> &rules,
					  const std::vector<PortRange> &reserved);
/// Those of them that are about the firewall alone and hold for whatever rule there is: `check` gives them, too.
std::vector<std::string> firewall_warnings(const GatewayFacts &facts);
/// The same facts for check_warnings(): listeners, and what any of `wan` forwards or miniupnpd has given out.
CheckFacts check_facts(const GatewayFacts &facts, unsigned possible_cpus);

/// LAN and WAN prefixes must not overlap (RFC 4787 REQ-7): an error that names both.
Done check_overlap(const Network &network, const std::vector<std::string> &wan, const std::vector<std::string> &lan);
/// Unset, or why this interface should not be named and what to name instead ("eth1 is a member of br0: name br0").
std::optional<std::string> bridge_member_warning(const Network &network, std::string_view name);

} // namespace ptrig
