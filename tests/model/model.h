// The rules, leases and sessions of a gateway as plain C++: what the datapath is meant to do, without maps,
// packets or concurrency. Time is moved by hand. Counts (of a host, of a lease) are never kept, always counted.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "include/ptrig/abi.h"
#include "loader/rule.h"

namespace ptrig::model {

using Time = std::int64_t; ///< nanoseconds

/// A packet's transport part, and who is at both ends. `host` is set if it comes from the LAN, or if it is an answer:
/// the remote's packet as the kernel sends it to the host, un-masqueraded.
struct Input {
	bool from_lan = false, answer = false;
	std::string host, mac, remote;   ///< `mac`: of what has sent it, from the LAN
	std::uint16_t near = 0, far = 0; ///< port on our side (host's or WAN's), port of the remote
	Protos proto = PTRIG_UDP;
	std::uint8_t flags = 0, ttl = 64;
	std::uint32_t length = 0;

	bool tcp() const { return proto == PTRIG_TCP; }
	bool plain_syn() const;
};

struct Output {
	enum ptrig_reason reason = PTRIG_REASON_COUNT;
	std::string host;       ///< of a translated packet from the WAN
	std::uint16_t near = 0; ///< its new port on our side
	/// Of a hairpin: who is at the other end, and the two ports of the WAN address.
	std::string client;
	std::uint16_t client_port = 0, wan_port = 0, far = 0;
	/// What the packet is besides, as a trigger; PTRIG_REASON_COUNT: none.
	enum ptrig_reason also = PTRIG_REASON_COUNT;
};

struct Lease {
	std::uint32_t id = 0;
	bool live = true; ///< not known to have ended; may be over by time
	Time granted = 0, refreshed = 0, ended = 0;
	std::string host, mac, trigger_remote; ///< `mac` is empty if the host is behind a router
	std::int64_t tokens = 0;
	Time tokens_since = 0;
};

struct Side {
	bool cached = false, fin = false;
	Time looked = 0;
	std::uint64_t packets = 0, bytes = 0;
};

struct Session {
	std::string host, remote;
	std::uint16_t host_port = 0, wan_port = 0, far = 0;
	Protos proto = 0;
	std::uint8_t state = PTRIG_SESSION_HALFOPEN;
	std::string rule;
	std::uint32_t lease = 0;
	Time seen = 0;
	std::string via;  ///< MAC address that the host's packets must have; empty: any
	std::string dmac; ///< of the host, when a packet from the WAN was last looked at; empty: not known
	std::string client, client_via; ///< of a hairpin; as `host` and `via`
	std::uint16_t client_port = 0;
	bool own = false;  ///< begun by the host: its packets may be triggers, too
	bool kill = false; ///< ends with its lease; as its rule has it, or has had it last
	Side lan, wan;

	bool halfopen() const { return state == PTRIG_SESSION_HALFOPEN; }
};

/// A trigger of a `confirm` rule whose remote has yet to answer.
struct Waiting {
	Input trigger;
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
	bool fin_lan = false, fin_wan = false;
};

/// Leases or sessions that user space wants to end; an empty name is any.
struct Filter {
	std::string rule, host, remote;
};
/// How many have.
struct Ended {
	unsigned leases = 0, sessions = 0, halfopen = 0, conns = 0; ///< `conns`: triggers that wait, too
};

/// A host on the LAN itself, not behind a router.
bool on_link(const std::string &host);
bool within(const std::vector<Prefix> &prefixes, const std::string &address);
/// Where an open port leads to; 0 if it is none of the rule's.
std::uint16_t host_port(const Rule &rule, Protos proto, std::uint16_t wan_port);
bool may_trigger(const Rule &rule, const Input &in);
/// Is this a trigger port of the rule's?
bool triggers(const Rule &rule, Protos proto, std::uint16_t port);

using LeaseKey = std::pair<std::string, std::string>; ///< rule, and the remote if its remotes are `contacted`

class Gateway {
public:
	Gateway(Config config, std::string wan) : config_(std::move(config)), wan_(std::move(wan)) {}

	void pass(Time time) { now_ += time; }
	/// Other rules, timeouts and limits; a rule's leases and sessions are known by its name.
	void apply(Config config) { config_ = std::move(config); }
	/// What the neighbour table says; empty: nothing.
	void neighbour(const std::string &host, const std::string &mac) { neighbours_[host] = mac; }
	/// Whole seconds since then.
	std::int64_t seconds_since(Time then) const { return (now_ - then) / 1000000000; }
	Output arrives(const Input &in);
	/// Towards which open port, if some session of a client's has the port that stands for the sender.
	std::optional<std::uint16_t> port_taken(const Input &in) const;
	Ended sweep();
	Ended close_leases(const Filter &which);
	Ended close_sessions(const Filter &which);

	const std::map<LeaseKey, Lease> &leases() const { return leases_; }
	const std::vector<Session> &sessions() const { return sessions_; }
	const std::map<ConnKey, Conn> &conns() const { return conns_; }
	const std::map<ConnKey, Waiting> &waiting() const { return waiting_; }

private:
	const Rule *rule(const std::string &name) const;
	bool opens(const Input &in) const;
	bool ends_with_lease(Session &session) const;
	bool allows_remote(const Rule &rule, const std::string &remote) const;
	LeaseKey key(const Rule &rule, const std::string &remote) const;
	bool over(const Lease &lease, const Rule &rule) const;
	Lease *live(const Rule &rule, const std::string &remote);
	Lease *lease_of(const Session &session);
	std::size_t leases_of(const std::string &host) const;
	enum ptrig_reason grant(const Rule &rule, const Input &in, enum ptrig_reason reason, bool answered);
	Output and_trigger(Output out, const Input &in);
	std::vector<const Rule *> triggered(const Input &in) const;
	void track(const Rule &rule, const Input &in);
	void closing(const Rule &rule, const Input &in);
	void ended_by_time(Lease &lease, const Rule &rule) const;
	enum ptrig_reason claim(const Rule &rule, const Input &in, bool answered);
	enum ptrig_reason ask(const Rule &rule, const Input &in);
	enum ptrig_reason trigger(const Input &in, bool ended);
	enum ptrig_reason answered(const Rule &rule, const Input &in);
	enum ptrig_reason answer(const Input &in);

	enum class Who { kSame, kMoved, kChanged, kOther };
	static Who claimant(const Lease &lease, const Input &in);
	/// What the neighbour table says of a host on the LAN; empty: nothing.
	std::string neighbour_of(const std::string &host) const;
	bool stranger(const Lease &lease) const;
	void end_lease(Lease &lease) const;
	bool another_machine(Session &session);
	bool spoofed(const Input &in) const;

	Session *find(const Input &in, bool halfopen);
	void end(const Session *session);
	Time idle_time(const Session &session) const;
	bool half_over(const Session &session);
	bool look(Session &session, const Input &in);
	void track(Session &session, const Input &in);
	void refresh_by(const Session &session, const Input &in);
	bool take_token(Lease &lease);
	enum ptrig_reason may_begin(Lease &lease, const Rule &rule);
	std::optional<Output> established(const Input &in, bool &ended);
	std::optional<Output> half_open(const Input &in, bool &ended, bool hairpin = false);
	std::optional<Output> hairpin(const Input &in, bool &ended);
	std::optional<Output> admit(const Input &in, bool ended);
	Output open_from_wan(const Input &in);
	std::optional<Output> open_from_lan(const Input &in);
	Output finish(const Session &session, const Input &in, enum ptrig_reason reason) const;

	Config config_;
	std::string wan_;
	Time now_ = 1000000000000;
	std::uint32_t next_id_ = 0;
	bool asks_ = false;           ///< of this packet: of a session that its host has begun, and looked at
	bool only_refreshes_ = false; ///< and its port triggers other rules than the session's
	std::map<std::string, std::string> neighbours_;
	std::map<LeaseKey, Lease> leases_;
	std::vector<Session> sessions_;
	std::map<ConnKey, Waiting> waiting_;
	std::map<ConnKey, Conn> conns_;
};

} // namespace ptrig::model
