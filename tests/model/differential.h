// The fixture that gives the model and the BPF programs the same rules, packets and time, and compares them.
#pragma once

#include <compare>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/bpf/harness.h"
#include "tests/model/model.h"

namespace ptrig::test {

using model::Input;
using model::Output;

/// What must agree of a lease and of a session, whichever side it is read from.
struct LeaseRow {
	std::uint32_t rule = 0;
	__be32 remote = 0, wan = 0, host = 0;
	bool live = false, routed = false;
	std::uint64_t sessions = 0, conns = 0;
	std::int64_t age_s = 0, idle_s = 0, ended_s = 0;

	auto operator<=>(const LeaseRow &) const = default;
};
struct SessionRow {
	Protos proto = 0;
	std::uint8_t state = 0;
	__be32 host = 0, remote = 0, wan = 0;
	std::uint16_t host_port = 0, wan_port = 0, far = 0;
	std::uint32_t rule = 0;
	std::uint64_t in = 0, in_bytes = 0, out = 0, out_bytes = 0;
	std::int64_t idle_s = 0;

	auto operator<=>(const SessionRow &) const = default;
};
/// A trigger that waits for its remote's answer, or a trigger connection and its FINs.
struct ConnRow {
	std::uint32_t rule = 0;
	__be32 host = 0, remote = 0;
	std::uint16_t host_port = 0, far = 0;
	Protos proto = 0;
	bool fin_lan = false, fin_wan = false;

	auto operator<=>(const ConnRow &) const = default;
};
/// Sorted.
struct Tables {
	std::vector<LeaseRow> leases;
	std::vector<SessionRow> sessions;
	std::vector<ConnRow> waiting, conns;

	bool operator==(const Tables &) const = default;
};

class Differential : public DatapathTest {
protected:
	/// Nothing is ever refused for want of room: a round has fewer than these.
	Differential() { sizes_ = {.leases = 1024, .sessions = 1024, .halfopen = 1024, .conns = 2048}; }
	unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
	/// Half a second off the whole seconds by which time passes: real time in between changes nothing.
	nanoseconds some_time(unsigned up_to) { return seconds(1 + pick(up_to)) + std::chrono::milliseconds(500); }

	std::vector<Prefix> random_prefixes(const std::vector<std::string> &addresses);
	Sources random_sources();
	Rule random_rule(unsigned number);
	void random_limits(Config &config);
	Config random_config();
	Input random_packet(const model::Gateway &gateway);
	Input random_hairpin(const model::Gateway &gateway);
	Input random_knock(const model::Gateway &gateway);
	Input random_session_packet(const model::Session &session);
	Input random_reply();

	/// A rule is removed, added or changed, and with it perhaps timeouts and limits.
	void change_rules(model::Gateway &gateway);
	void apply_config();
	/// Conntrack is flushed, a WAN address comes or goes, or another machine is at a host's address, or none that
	/// is known.
	void change_network(model::Gateway &gateway);
	void set_neighbour(const std::string &host, const std::string &mac);
	std::string random_mac(const std::string &host);

	/// A new round: empty maps, other rules; `seed` says which.
	void begin(std::uint64_t seed);
	/// What is not the same; empty if all is.
	std::string step(model::Gateway &gateway, const Input &in);
	model::Filter random_filter();
	/// A sweep, or leases or sessions are closed; as step().
	std::string administer(model::Gateway &gateway);
	void pass(model::Gateway &gateway, unsigned secs);
	std::string compare_tables(const model::Gateway &gateway) const; ///< as step()
	/// No packet has been counted but for the reasons that step() wanted; as step().
	std::string compare_counters() const;

	std::mt19937_64 random_;
	bool follows_ = false;     ///< of this round: a rule has `confirm` or `close = "connection"`
	std::vector<Input> asked_; ///< of this round: packets from the LAN, if some may be answered

private:
	/// Runs a program, which may change the frame; what is not as it is with `reason`, or empty.
	std::string sent(Hook hook, Bytes &frame, enum ptrig_reason reason);
	// As step().
	std::string answer(const Input &in, const Output &wanted);
	std::string from_lan(const Input &in, const Output &wanted);
	std::string from_wan(const Input &in, const Output &wanted);
	Tables expected(const model::Gateway &gateway) const;
	Tables actual() const;

	bool has_second_ = true; ///< wan0 has its second address
	std::map<std::string, std::string> neighbours_{{kHost, kHostMac}, {kHost2, kHost2Mac}, {kStranger, ""}};
	unsigned generation_ = 0;
	unsigned names_ = 0;                       ///< rules that this round has had
	std::map<std::string, std::uint32_t> ids_; ///< theirs
	std::vector<std::uint64_t> counted_;       ///< by reason: what the datapath must have counted
};

std::string shown(const Config &config, const Input &in);

} // namespace ptrig::test
