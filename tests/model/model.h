// The rules, leases and sessions of a gateway as plain C++: what the datapath is meant to do, without maps,
// packets or concurrency. Time is moved by hand. Counts (of a host, of a lease) are never kept, always counted.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "include/ptrig/abi.h"
#include "loader/rule.h"
#include "tests/model/flows.h"

namespace ptrig::model {

using Time = std::int64_t; ///< nanoseconds
constexpr Time kSecond = 1000000000;
constexpr std::uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

/// A packet's transport part, and who is at both ends. `host` is set if it comes from the LAN, or if it is an answer:
/// the remote's packet as the kernel sends it to the host, un-masqueraded.
struct Input {
	bool from_lan = false, answer = false;
	std::string host, mac, remote;   ///< `mac`: of what has sent it, from the LAN
	std::string lan = "lan0";        ///< the LAN interface, from the LAN
	std::string wan;                 ///< to which WAN address; from the LAN: behind which it is masqueraded
	std::uint16_t near = 0, far = 0; ///< port on our side (host's or WAN's), port of the remote
	Protos proto = PTRIG_UDP;
	std::uint8_t flags = 0;
	std::uint32_t length = 0;
	/// From the WAN, if nobody has taken it: the kernel lets it in, and so has an entry of it.
	bool probe = false;

	bool tcp() const { return proto == PTRIG_TCP; }
	bool plain_syn() const;
	/// Its addresses and ports; no answer's.
	Tuple tuple() const;
};

/// What becomes of a packet.
struct Output {
	std::vector<enum ptrig_reason> reasons; ///< of each program that it passes
	std::optional<Tuple> left;              ///< where it comes from and goes to when it leaves, translated
	bool answers = false;                   ///< conntrack sees it as an answer for the first time
};

struct Lease {
	std::uint32_t id = 0;
	bool live = true; ///< not known to have ended; may be over by time
	Time granted = 0, refreshed = 0, ended = 0;
	std::string host, mac, trigger_remote; ///< `mac` is empty if the host is behind a router
	bool routed = false;                   ///< its WAN address is on no WAN interface
	Time empty_since = 0;                  ///< the bucket of new sessions
};

struct Side {
	Time looked = 0;
	std::uint64_t packets = 0, bytes = 0;
};

/// In a hairpin `remote` is a client on the LAN.
struct Session {
	std::string host, remote, wan;
	std::uint16_t host_port = 0, wan_port = 0, far = 0;
	std::string peer; ///< whom the host sees as its remote: in a hairpin the WAN address
	Protos proto = 0;
	std::uint8_t state = PTRIG_SESSION_HALFOPEN;
	std::string rule;
	std::uint32_t lease = 0;
	Time seen = 0;
	std::optional<Time> remade; ///< TCP: when its entry was made again, of which conntrack knows nothing yet
	std::optional<Time> heard;  ///< when its host has last sent, at LAN ingress
	std::string via;            ///< MAC address that the host's packets must have; empty: any
	bool kill = false;          ///< ends with its lease, if its rule is gone
	bool routed = false;
	bool hairpin = false;
	bool ask = false;     ///< a FIN or RST came by
	bool refused = false; ///< a hairpin that its host has reset: over, once that has passed
	Side in, out;         ///< from the remote, from the host

	bool halfopen() const { return state == PTRIG_SESSION_HALFOPEN; }
	Tuple from_remote() const { return {proto, remote, wan, far, wan_port}; }
	Tuple from_host() const { return {proto, host, peer, host_port, far}; }
	/// For whom it is counted besides its lease.
	const std::string &payer() const { return hairpin ? remote : host; }
};

/// What LAN ingress has found out about a flow.
struct Note {
	std::string mac;
	bool known = false;      ///< the neighbour table has this MAC address
	bool given_back = false; ///< its SYN has been
	Time noted = 0;
	std::optional<Time> done; ///< when nothing was left to do for it
	std::string wan;
};

/// Who asks for a lease.
struct Trigger {
	Input in;
	bool known = false; ///< as in Note
	std::string wan;
};

/// A trigger of a `confirm` rule whose remote has yet to answer.
struct Waiting {
	Trigger trigger;
	Time since = 0;
};
/// Rule and ends of a trigger's connection.
struct ConnKey {
	std::string rule, host, remote;
	std::uint16_t host_port = 0, far = 0;
	Protos proto = 0;

	auto operator<=>(const ConnKey &) const = default;
};

/// A trigger connection of a `close = "connection"` rule.
struct Conn {
	std::uint32_t lease = 0;
	std::string wan;
	bool fin_lan = false, fin_wan = false;
};

/// Leases or sessions that user space wants to end; an empty name is any.
struct Filter {
	std::string rule, host, remote, wan;
};
/// How many have ended; of sessions: how many were listed.
struct Ended {
	unsigned leases = 0, sessions = 0, halfopen = 0, conns = 0; ///< `conns`: triggers that wait, too
};

/// A host on the LAN itself, not behind a router.
bool on_link(const std::string &host);
bool within(const std::vector<Prefix> &prefixes, const std::string &address);
/// Where an open port leads to, or from which one a host's port is reached; 0 if no open port of the rule is there.
std::uint16_t mapped(const Rule &rule, Protos proto, std::uint16_t from, bool to_host);
bool may_trigger(const Rule &rule, const Input &in);
/// Is this a trigger port of the rule's?
bool triggers(const Rule &rule, Protos proto, std::uint16_t port);
/// Has a trigger with this outcome been a lease's?
bool grants(enum ptrig_reason reason);

struct LeaseKey {
	std::string rule, remote, wan; ///< `remote` is empty unless the rule's remotes are `contacted`

	auto operator<=>(const LeaseKey &) const = default;
};

class Gateway {
public:
	Gateway(Config config, std::set<std::string> wan) : config_(std::move(config)), wan_(std::move(wan)) {}

	void pass(Time time) { now_ += time; }
	/// Other rules, timeouts and limits; a rule's leases and sessions are known by its name.
	void apply(Config config) { config_ = std::move(config); }
	/// What the neighbour table says; empty: nothing.
	void neighbour(const std::string &host, const std::string &mac) { neighbours_[host] = mac; }
	/// An address of the WAN comes or goes.
	void wan_address(const std::string &address, bool there);
	/// Somebody flushes conntrack.
	void forget_flows() { flows_.clear(); }
	/// The session that already has the port by which this client would be known to a host, if there is one.
	const Session *port_taken(const Input &in) const;
	/// Whole seconds since then.
	std::int64_t seconds_since(Time then) const { return (now_ - then) / kSecond; }
	Output arrives(const Input &in);
	Ended sweep();
	Ended close_leases(const Filter &which);
	Ended close_sessions(const Filter &which);

	const std::map<LeaseKey, Lease> &leases() const { return leases_; }
	const std::vector<Session> &sessions() const { return sessions_; }
	const std::map<ConnKey, Conn> &conns() const { return conns_; }
	const std::map<ConnKey, Waiting> &waiting() const { return waiting_; }

private:
	const Rule *rule(const std::string &name) const;
	bool allows_remote(const Rule &rule, const std::string &remote) const;
	static LeaseKey key(const Rule &rule, const std::string &remote, const std::string &wan);
	nanoseconds::rep timeout(const Lease &lease, const Rule &rule) const;
	bool over(const Lease &lease, const Rule &rule) const;
	Lease *find(const Rule &rule, const std::string &remote, const std::string &wan);
	Lease *live(const Rule &rule, const std::string &remote, const std::string &wan);
	Lease *lease_of(const Session &session);
	bool has_room(const Rule &rule, const std::string &host) const;
	bool another(const std::string &host, const std::string &mac) const;
	void end_lease(Lease &lease) const;
	void ended_by_time(Lease &lease, const Rule &rule) const;

	// Packets from the LAN: LAN ingress, conntrack, WAN egress.
	Output from_lan(const Input &in);
	enum ptrig_reason heard(const Input &in);
	std::optional<enum ptrig_reason> hairpin(const Input &in, bool &ended);
	enum ptrig_reason note(const Input &in);
	bool fresh(const Note &note, const Input &in);
	Entry translate(const Input &in);
	enum ptrig_reason leaves(const Input &in, Tuple &left);
	enum ptrig_reason begun(const Input &in, const Entry &entry, Tuple &left);
	enum ptrig_reason own_port(const Trigger &t, const Entry &entry, Note &note, Tuple &left);
	std::uint16_t port_of(const Trigger &t, bool touch);
	bool swap(const Input &in, const Entry &entry, std::uint16_t port);

	// Triggers.
	enum class Who { kSame, kMoved, kChanged, kOther };
	static Who claimant(const Lease &lease, const Trigger &t);
	std::vector<const Rule *> triggered(const Input &in) const;
	enum ptrig_reason grant(const Rule &rule, const Trigger &t, enum ptrig_reason reason, bool answered);
	enum ptrig_reason claim(const Rule &rule, const Trigger &t, bool answered);
	enum ptrig_reason ask(const Rule &rule, const Trigger &t);
	enum ptrig_reason trigger(const Trigger &t);
	enum ptrig_reason answered(const Rule &rule, const Input &in);
	enum ptrig_reason answer(const Input &in);
	void track(const Rule &rule, const Trigger &t);
	void closing(const Rule &rule, const Input &in);

	// Sessions.
	Session *by_remote(const Tuple &tuple);
	Session *by_host(const Tuple &tuple);
	void end(const Session &session);
	Time idle_time(const Session &session) const;
	bool over(const Session &session);
	enum ptrig_reason host_answers(Session &session, const Input &in);
	std::optional<enum ptrig_reason> remote_sends(const Input &in, bool &ended);
	bool waits(Session &s);
	bool look(Session &session, Whose whose);
	bool take_token(Lease &lease);
	enum ptrig_reason may_begin(Lease &lease, const Rule &rule, const std::string &payer);
	enum ptrig_reason open(const Input &in);
	enum ptrig_reason begin(const Input &in, Lease &lease, const Rule &rule, std::uint16_t port);
	Output from_wan(const Input &in);

	Config config_;
	std::set<std::string> wan_; ///< addresses of the WAN
	Time now_ = 1000000000000;
	std::uint32_t next_id_ = 0;
	std::map<std::string, std::string> neighbours_;
	Flows flows_;
	std::map<Tuple, Note> notes_;
	std::map<LeaseKey, Lease> leases_;
	std::vector<Session> sessions_;
	std::map<ConnKey, Waiting> waiting_;
	std::map<ConnKey, Conn> conns_;
};

} // namespace ptrig::model
