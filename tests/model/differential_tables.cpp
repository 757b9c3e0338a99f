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
	return out << "lease of rule " << row.rule << " remote " << text(row.remote) << " WAN " << text(row.wan)
		   << " host " << text(row.host) << (row.live ? " live" : " ended") << (row.routed ? " routed" : "")
		   << " sessions " << row.sessions << " conns " << row.conns << " age " << row.age_s << " idle "
		   << row.idle_s << " ended " << row.ended_s;
}

std::ostream &operator<<(std::ostream &out, const SessionRow &row) {
	return out << "session of rule " << row.rule << (row.proto == PTRIG_TCP ? " tcp " : " udp ") << text(row.host)
		   << ':' << row.host_port << " wan " << text(row.wan) << ':' << row.wan_port << " remote "
		   << text(row.remote) << ':' << row.far << " state " << int{row.state} << " in " << row.in << '/'
		   << row.in_bytes << " out " << row.out << '/' << row.out_bytes << " idle " << row.idle_s;
}

std::ostream &operator<<(std::ostream &out, const ConnRow &row) {
	return out << "trigger of rule " << row.rule << (row.proto == PTRIG_TCP ? " tcp " : " udp ") << text(row.host)
		   << ':' << row.host_port << " remote " << text(row.remote) << ':' << row.far
		   << (row.fin_lan ? " FIN out" : "") << (row.fin_wan ? " FIN in" : "");
}

/// The rows that only `a` has.
template <typename Row>
void only_in(const char *whose, const std::vector<Row> &a, const std::vector<Row> &b, std::ostream &out) {
	std::vector<Row> rows;
	std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(rows));
	for (const Row &row : rows)
		out << whose << row << '\n';
}

ConnRow conn_row(std::uint32_t rule, const model::ConnKey &key) {
	return {.rule = rule,
		.host = be(key.host),
		.remote = be(key.remote),
		.host_port = key.host_port,
		.far = key.far,
		.proto = key.proto};
}

ConnRow conn_row(const ptrig_conn_key &key) {
	return {.rule = key.rule,
		.host = key.host,
		.remote = key.remote,
		.host_port = ntohs(key.host_port),
		.far = ntohs(key.remote_port),
		.proto = static_cast<Protos>(key.proto == IPPROTO_TCP ? PTRIG_TCP : PTRIG_UDP)};
}

void sort(Tables &tables) {
	std::sort(tables.leases.begin(), tables.leases.end());
	std::sort(tables.sessions.begin(), tables.sessions.end());
	std::sort(tables.waiting.begin(), tables.waiting.end());
	std::sort(tables.conns.begin(), tables.conns.end());
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
			session.heard -= ticks;
			session.remade -= static_cast<std::uint16_t>(ticks);
		});
	edit_all<ptrig_flow_key, ptrig_note>(dp(), "pt_notes", [&](ptrig_note &note) {
		note.noted -= ticks;
		note.done -= ticks;
	});
	if (follows_)
		edit_all<ptrig_wait_key, ptrig_wait>(dp(), "pt_pending",
						     [&](ptrig_wait &wait) { wait.conn.seen_ns -= by; });
}

Tables Differential::expected(const model::Gateway &gateway) const {
	Tables tables;
	const auto &sessions = gateway.sessions();
	const auto &conns = gateway.conns();
	const auto count = [](const auto &all, auto &&is) {
		return static_cast<std::uint64_t>(std::count_if(all.begin(), all.end(), is));
	};
	for (const auto &[key, lease] : gateway.leases())
		tables.leases.push_back(
			{.rule = ids_.at(key.rule),
			 .remote = key.remote.empty() ? 0 : be(key.remote),
			 .wan = be(key.wan),
			 .host = be(lease.host),
			 .live = lease.live,
			 .routed = lease.routed,
			 .sessions = count(sessions, [&, id = lease.id](const auto &s) { return s.lease == id; }),
			 .conns = !lease.live ? 0
					      : count(conns, [&, id = lease.id](
								     const auto &c) { return c.second.lease == id; }),
			 .age_s = gateway.seconds_since(lease.granted),
			 .idle_s = gateway.seconds_since(lease.refreshed),
			 .ended_s = lease.live ? 0 : gateway.seconds_since(lease.ended)});
	for (const auto &s : sessions)
		tables.sessions.push_back({.proto = s.proto,
					   .state = s.state,
					   .host = be(s.host),
					   .remote = be(s.peer),
					   .wan = be(s.wan),
					   .host_port = s.host_port,
					   .wan_port = s.wan_port,
					   .far = s.far,
					   .rule = ids_.at(s.rule),
					   .in = s.in.packets,
					   .in_bytes = s.in.bytes,
					   .out = s.out.packets,
					   .out_bytes = s.out.bytes,
					   .idle_s = gateway.seconds_since(s.seen)});
	for (const auto &[key, waiting] : gateway.waiting())
		tables.waiting.push_back(conn_row(ids_.at(key.rule), key));
	for (const auto &[key, conn] : conns) {
		tables.conns.push_back(conn_row(ids_.at(key.rule), key));
		tables.conns.back().fin_lan = conn.fin_lan;
		tables.conns.back().fin_wan = conn.fin_wan;
	}
	sort(tables);
	return tables;
}

Tables Differential::actual() const {
	Tables tables;
	const auto since = [now = now_ns()](std::uint64_t then) {
		return static_cast<std::int64_t>(now - then) / 1000000000;
	};
	for (const auto &[key, lease] : dp().entries<ptrig_lease_key, ptrig_lease>("pt_leases")) {
		const bool live = lease.info.state == PTRIG_LEASE_LIVE;
		tables.leases.push_back({.rule = key.rule,
					 .remote = key.remote,
					 .wan = key.wan,
					 .host = lease.info.host,
					 .live = live,
					 .routed = (lease.info.flags & PTRIG_LEASE_ROUTED) != 0,
					 .sessions = lease.sessions,
					 .conns = live ? lease.info.conns : 0,
					 .age_s = since(lease.info.granted_ns),
					 .idle_s = since(lease.info.refreshed_ns),
					 .ended_s = live ? 0 : since(lease.info.ended_ns)});
	}
	for (const Pair &p : sessions())
		tables.sessions.push_back(
			{.proto = static_cast<Protos>(p.lan_key.proto == IPPROTO_TCP ? PTRIG_TCP : PTRIG_UDP),
			 .state = p.lan.state,
			 .host = p.lan_key.saddr,
			 .remote = p.lan_key.daddr,
			 .wan = p.lan.addr,
			 .host_port = ntohs(p.lan_key.sport),
			 .wan_port = ntohs(p.lan.port),
			 .far = ntohs(p.lan_key.dport),
			 .rule = p.lan.rule,
			 .in = p.wan.packets,
			 .in_bytes = p.wan.bytes,
			 .out = p.lan.packets,
			 .out_bytes = p.lan.bytes,
			 .idle_s = since(p.lan.seen_ns)});
	if (!follows_) {
		sort(tables);
		return tables;
	}
	for (const auto &[slot, wait] : dp().entries<ptrig_wait_key, ptrig_wait>("pt_pending"))
		tables.waiting.push_back(conn_row(wait.key));
	for (const auto &[key, conn] : dp().entries<ptrig_conn_key, ptrig_conn>("pt_conns")) {
		tables.conns.push_back(conn_row(key));
		tables.conns.back().fin_lan = conn.flags & PTRIG_CONN_FIN_LAN;
		tables.conns.back().fin_wan = conn.flags & PTRIG_CONN_FIN_WAN;
	}
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
	only_in("model    ", model.conns, datapath.conns, out);
	only_in("datapath ", datapath.conns, model.conns, out);
	return out.str();
}

} // namespace ptrig::test
