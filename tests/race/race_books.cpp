// What must be true when both CPUs have stopped; see race.h.
#include "tests/race/race.h"

#include <map>

#include <arpa/inet.h>

#include "tests/bpf/kernel.h"

namespace ptrig::test {

namespace {

const char *text(std::uint32_t wrong) {
	switch (wrong) {
	case RACE_WRONG_HOST:
		return "its entry leads to a host that never asked for this port";
	case RACE_WRONG_PORT:
		return "its entry leads to a port that no rule names";
	case RACE_CHANGED:
		return "a program has changed it";
	case RACE_WRONG_SOURCE:
		return "it left by a port that is not its host's";
	default:
		return "its program did not run";
	}
}

std::string text(const race_tuple &t) {
	const auto address = [](__be32 a) {
		const auto *b = reinterpret_cast<const std::uint8_t *>(&a);
		return std::to_string(b[0]) + "." + std::to_string(b[1]) + "." + std::to_string(b[2]) + "." +
		       std::to_string(b[3]);
	};
	return address(t.saddr) + ":" + std::to_string(ntohs(t.sport)) + " -> " + address(t.daddr) + ":" +
	       std::to_string(ntohs(t.dport));
}

} // namespace

/// Each session whose entry is there is translated as the session says.
void Race::check_sessions() const {
	for (const Pair &pair : sessions()) {
		const ptrig_session_key &key = pair.wan_key;
		const test_entry entry =
			entry_of({{key.saddr, key.daddr, key.sport, key.dport}, static_cast<std::uint8_t>(key.proto)});
		EXPECT_NE(pair.lan.id, 0U) << "a session that nobody ends";
		// taken away from outside, and perhaps nobody's has come into its place, or another session's: then
		// nothing leads to one that waits for its answer, and the sweep ends it
		if (pair.halfopen && entry.found && entry.reply.saddr != pair.lan_key.saddr)
			continue;
		if (!entry.found || entry.is_reply || entry.reply.saddr == key.daddr)
			continue;
		const race_tuple led{entry.reply.saddr, entry.reply.daddr, entry.reply.sport, entry.reply.dport};
		EXPECT_TRUE(entry.reply.saddr == pair.lan_key.saddr && entry.reply.sport == pair.lan_key.sport)
			<< "the entry of a session leads elsewhere: " << text(led);
	}
}

/// A lease of `close = "connection"` is held by at least the connections that are marked as counted.
void Race::check_conns() const {
	std::map<std::uint32_t, std::uint32_t> counted;
	for (const auto &[key, conn] : dp().entries<ptrig_conn_key, ptrig_conn>("pt_conns"))
		if (conn.flags & PTRIG_CONN_COUNTED)
			counted[conn.lease]++;
	for (const auto &[key, lease] : dp().entries<ptrig_lease_key, ptrig_lease>("pt_leases"))
		if (lease.info.state == PTRIG_LEASE_LIVE) {
			EXPECT_GE(lease.info.conns, counted[lease.info.id]) << "connections of lease " << lease.info.id;
		}
}

void Race::close_everything() const {
	const auto states = dp().memory<ptrig_state>("pt_state");
	states[0].active = 0;
	for (int i = 0; i < 2; i++) {
		admin_here({.op = PTRIG_ADMIN_CLOSE_SESSIONS, .reason = PTRIG_CLOSED}, true);
		admin_here({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}, true);
		admin_here({.op = PTRIG_ADMIN_SWEEP, .reason = PTRIG_CLOSED}, true);
	}
}

void Race::check_nothing_is_left() const {
	const ptrig_usage used = usage();
	EXPECT_EQ(used.sessions, 0U);
	EXPECT_EQ(used.halfopen, 0U);
	EXPECT_EQ(used.leases, 0U);
	EXPECT_EQ(used.conns, 0U);
	EXPECT_EQ((dp().entries<ptrig_session_key, ptrig_session>("pt_sessions").size()), 0U);
	EXPECT_EQ((dp().entries<ptrig_session_key, ptrig_session>("pt_halfopen").size()), 0U);
	EXPECT_EQ((dp().entries<ptrig_lease_key, ptrig_lease>("pt_leases").size()), 0U);
	EXPECT_EQ((dp().entries<ptrig_conn_key, ptrig_conn>("pt_conns").size()), 0U);
	EXPECT_EQ((dp().entries<ptrig_host_key, ptrig_host>("pt_hosts").size()), 0U);
}

void Race::look_at_everything() {
	const race_fault fault = driver_->fault();
	EXPECT_EQ(fault.count, 0U) << text(fault.sent.t) << " (hook " << unsigned{fault.sent.hook} << ", proto "
				   << unsigned{fault.sent.proto} << "): " << text(fault.wrong) << "; seen "
				   << text(fault.seen);
	check_books();
	check_sessions();
	check_conns();
	close_everything();
	check_books(); // no entry of ours is left in conntrack, no port is counted
	check_nothing_is_left();
}

} // namespace ptrig::test
