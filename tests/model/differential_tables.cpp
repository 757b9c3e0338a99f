// The tables of the model and of the datapath as rows that can be compared, and time that passes in both.
#include <algorithm>
#include <sstream>

#include <arpa/inet.h>

#include "loader/program.h"
#include "tests/model/differential.h"

namespace ptrig::test {

namespace {

std::string text(__be32 address) {
	char out[INET_ADDRSTRLEN];
	return inet_ntop(AF_INET, &address, out, sizeof(out));
}

std::ostream &operator<<(std::ostream &out, const LeaseRow &row) {
	return out << "lease of rule " << row.rule << " remote " << text(row.remote) << " host " << text(row.host)
		   << (row.live ? " live" : " ended") << " sessions " << row.sessions;
}

std::ostream &operator<<(std::ostream &out, const SessionRow &row) {
	return out << "session of rule " << row.rule << (row.proto == PTRIG_TCP ? " tcp " : " udp ") << text(row.host)
		   << ':' << row.host_port << " wan " << row.wan_port << " remote " << text(row.remote) << ':'
		   << row.far << " state " << int{row.state} << " in " << row.in << '/' << row.in_bytes << " out "
		   << row.out << '/' << row.out_bytes;
}

std::ostream &operator<<(std::ostream &out, const ConnRow &row) {
	return out << "waiting for rule " << row.rule << (row.proto == PTRIG_TCP ? " tcp " : " udp ") << text(row.host)
		   << ':' << row.host_port << " remote " << text(row.remote) << ':' << row.far;
}

/// The rows that only `a` has.
template <typename Row>
void only_in(const char *whose, const std::vector<Row> &a, const std::vector<Row> &b, std::ostream &out) {
	std::vector<Row> rows;
	std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(rows));
	for (const Row &row : rows)
		out << whose << row << '\n';
}

void sort(Tables &tables) {
	std::sort(tables.leases.begin(), tables.leases.end());
	std::sort(tables.sessions.begin(), tables.sessions.end());
	std::sort(tables.waiting.begin(), tables.waiting.end());
}

/// Every entry of a map, changed.
template <typename K, typename V, typename F> void edit_all(const Datapath &dp, const char *name, F &&edit) {
	std::vector<K> keys;
	std::vector<V> values;
	for (auto &[key, value] : dp.entries<K, V>(name)) {
		edit(value);
		keys.push_back(key);
		values.push_back(value);
	}
	dp.put(name, keys, values);
}

} // namespace

void Differential::pass(model::Gateway &gateway, unsigned secs) {
	if (xdp_)
		age_fast(seconds(secs));
	gateway.pass(nanoseconds(seconds(secs)).count());
	const std::uint64_t by = secs * 1000000000ULL;
	static const std::uint64_t hz = tick_hz().value();
	const auto ticks = static_cast<std::uint32_t>(secs * hz);
	edit_all<ptrig_lease_key, ptrig_lease>(dp(), "pt_leases", [&](ptrig_lease &lease) {
		lease.info.granted_ns -= by;
		lease.info.refreshed_ns -= by;
		lease.info.ended_ns -= lease.info.ended_ns ? by : 0;
		lease.tokens_ns -= by;
		lease.info.refreshed_tick -= ticks;
	});
	for (const char *name : {"pt_sessions", "pt_halfopen"})
		edit_all<ptrig_session_key, ptrig_session>(dp(), name, [&](ptrig_session &session) {
			session.seen_ns -= by;
			session.checked -= ticks;
		});
	if (waits_)
		edit_all<ptrig_conn_key, ptrig_conn>(dp(), "pt_pending", [&](ptrig_conn &conn) { conn.seen_ns -= by; });
}

Tables Differential::expected(const model::Gateway &gateway) const {
	Tables tables;
	const auto &sessions = gateway.sessions();
	for (const auto &[key, lease] : gateway.leases())
		tables.leases.push_back({.rule = rule_id(key.first),
					 .remote = key.second.empty() ? 0 : be(key.second),
					 .host = be(lease.host),
					 .live = lease.live,
					 .sessions = static_cast<std::uint64_t>(std::count_if(
						 sessions.begin(), sessions.end(),
						 [&, id = lease.id](const auto &s) { return s.lease == id; }))});
	for (const auto &s : sessions)
		tables.sessions.push_back({.proto = s.proto,
					   .state = s.state,
					   .host = be(s.host),
					   .remote = be(s.remote),
					   .host_port = s.host_port,
					   .wan_port = s.wan_port,
					   .far = s.far,
					   .rule = rule_id(s.rule),
					   .in = s.wan.packets,
					   .in_bytes = s.wan.bytes,
					   .out = s.lan.packets,
					   .out_bytes = s.lan.bytes});
	for (const auto &[key, waiting] : gateway.waiting())
		tables.waiting.push_back({.rule = rule_id(key.rule),
					  .host = be(key.host),
					  .remote = be(key.remote),
					  .host_port = key.host_port,
					  .far = key.far,
					  .proto = key.proto});
	sort(tables);
	return tables;
}

Tables Differential::actual() const {
	Tables tables;
	for (const auto &[key, lease] : dp().entries<ptrig_lease_key, ptrig_lease>("pt_leases"))
		tables.leases.push_back({.rule = key.rule,
					 .remote = key.remote,
					 .host = lease.info.host,
					 .live = lease.info.state == PTRIG_LEASE_LIVE,
					 .sessions = lease.sessions});
	for (const Pair &p : sessions()) {
		const ptrig_session in = with_fast(p.wan), out = with_fast(p.lan);
		tables.sessions.push_back(
			{.proto = static_cast<Protos>(p.lan_key.proto == IPPROTO_TCP ? PTRIG_TCP : PTRIG_UDP),
			 .state = p.lan.state,
			 .host = p.lan_key.saddr,
			 .remote = p.lan_key.daddr,
			 .host_port = ntohs(p.lan_key.sport),
			 .wan_port = ntohs(p.lan.port),
			 .far = ntohs(p.lan_key.dport),
			 .rule = p.lan.rule,
			 .in = in.packets,
			 .in_bytes = in.bytes,
			 .out = out.packets,
			 .out_bytes = out.bytes});
	}
	if (waits_)
		for (const auto &[key, waiting] : dp().entries<ptrig_conn_key, ptrig_conn>("pt_pending"))
			tables.waiting.push_back(
				{.rule = key.rule,
				 .host = key.host,
				 .remote = key.remote,
				 .host_port = ntohs(key.host_port),
				 .far = ntohs(key.remote_port),
				 .proto = static_cast<Protos>(key.proto == IPPROTO_TCP ? PTRIG_TCP : PTRIG_UDP)});
	sort(tables);
	return tables;
}

std::string Differential::compare_tables(const model::Gateway &gateway) const {
	const Tables model = expected(gateway), datapath = actual();
	if (model == datapath)
		return "";
	std::ostringstream out;
	only_in("model    ", model.leases, datapath.leases, out);
	only_in("datapath ", datapath.leases, model.leases, out);
	only_in("model    ", model.sessions, datapath.sessions, out);
	only_in("datapath ", datapath.sessions, model.sessions, out);
	only_in("model    ", model.waiting, datapath.waiting, out);
	only_in("datapath ", datapath.waiting, model.waiting, out);
	return out.str();
}

} // namespace ptrig::test
