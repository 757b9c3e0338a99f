// Counts what the tables hold and holds it against what the datapath has counted.
#include "loader/audit.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <unordered_map>

#include "loader/gateway_impl.h"

namespace ptrig {

namespace {

using Counts = std::map<Book, std::int64_t>;

Book usage_book(std::uint32_t what) {
	return {.what = what};
}
Book host_book(std::uint32_t what, __be32 host, std::uint32_t rule = 0) {
	return {.what = what, .host = host, .rule = rule};
}
Book lease_book(std::uint32_t what, const ptrig_lease_key &key, std::uint32_t id) {
	return {.what = what, .rule = key.rule, .lease = id, .remote = key.remote, .wan = key.wan};
}
Book port_book(std::uint32_t index) {
	return {.what = PTRIG_BOOK_PORT, .index = index};
}

/// Every entry of a hash; the error names the map.
template <typename K, typename V, typename F> Done each_of(const std::string &dir, const char *name, F &&each) {
	auto map = Map<K, V>::open(dir, name, Access::kRead);
	return map ? map->each(each) : tl::unexpected(std::move(map.error()));
}

Done count_usage(const std::string &dir, Counts &counts) {
	auto used = read_usage(dir);
	if (!used)
		return tl::unexpected(std::move(used.error()));
	counts[usage_book(PTRIG_BOOK_SESSIONS)] = static_cast<std::int64_t>(used->sessions);
	counts[usage_book(PTRIG_BOOK_HALFOPEN)] = static_cast<std::int64_t>(used->halfopen);
	counts[usage_book(PTRIG_BOOK_LEASES)] = static_cast<std::int64_t>(used->leases);
	counts[usage_book(PTRIG_BOOK_CONNS)] = static_cast<std::int64_t>(used->conns);
	return {};
}

/// What the datapath has counted.
Result<Counts> counted(const std::string &dir) {
	Counts counts;
	if (auto done = count_usage(dir, counts); !done)
		return tl::unexpected(std::move(done.error()));
	auto hosts = each_of<ptrig_host_key, ptrig_host>(
		dir, "pt_hosts", [&](const ptrig_host_key &key, const ptrig_host &host) {
			if (host.leases == ~0U && host.sessions == ~0U)
				return; // it is being deleted
			counts[host_book(PTRIG_BOOK_HOST_LEASES, key.host, key.rule)] = host.leases;
			counts[host_book(PTRIG_BOOK_HOST_SESSIONS, key.host, key.rule)] = host.sessions;
			counts[host_book(PTRIG_BOOK_HOST_HALFOPEN, key.host, key.rule)] = host.halfopen;
			counts[host_book(PTRIG_BOOK_HOST_CONNS, key.host, key.rule)] = host.conns;
		});
	if (!hosts)
		return tl::unexpected(std::move(hosts.error()));
	auto leases = each_of<ptrig_lease_key, ptrig_lease>(
		dir, "pt_leases", [&](const ptrig_lease_key &key, const ptrig_lease &lease) {
			counts[lease_book(PTRIG_BOOK_LEASE_SESSIONS, key, lease.grant)] = lease.sessions;
			if (lease.info.state == PTRIG_LEASE_LIVE)
				counts[lease_book(PTRIG_BOOK_LEASE_CONNS, key, lease.info.id)] = lease.info.conns;
		});
	if (!leases)
		return tl::unexpected(std::move(leases.error()));
	auto ports = MappedArray<std::uint32_t>::open(dir, "pt_port_use");
	if (!ports)
		return tl::unexpected(std::move(ports.error()));
	for (std::uint32_t i = 0; i < PTRIG_USE_SIZE; i++)
		if (const auto sessions = static_cast<std::int32_t>((*ports)[i]); sessions != 0)
			counts[port_book(i)] = sessions;
	return counts;
}

/// What the tables hold.
class Held {
public:
	Result<Counts> count(const std::string &dir) {
		for (const std::uint32_t what :
		     {PTRIG_BOOK_SESSIONS, PTRIG_BOOK_HALFOPEN, PTRIG_BOOK_LEASES, PTRIG_BOOK_CONNS})
			counts_[usage_book(what)] = 0;
		for (const bool halfopen : {false, true})
			if (auto done = each_of<ptrig_session_key, ptrig_session>(
				    dir, halfopen ? "pt_halfopen" : "pt_sessions",
				    [&](const ptrig_session_key &key, const ptrig_session &session) {
					    if (key.side == PTRIG_SIDE_LAN)
						    session_of(key, session, halfopen);
				    });
			    !done)
				return tl::unexpected(std::move(done.error()));
		auto conns = each_of<ptrig_conn_key, ptrig_conn>(
			dir, "pt_conns", [&](const ptrig_conn_key &key, const ptrig_conn &conn) {
				counts_[usage_book(PTRIG_BOOK_CONNS)]++;
				counts_[host_book(PTRIG_BOOK_HOST_CONNS, key.host)]++;
				if (conn.flags & PTRIG_CONN_COUNTED)
					conns_[conn.lease]++;
			});
		if (!conns)
			return tl::unexpected(std::move(conns.error()));
		auto leases = each_of<ptrig_lease_key, ptrig_lease>(
			dir, "pt_leases",
			[&](const ptrig_lease_key &key, const ptrig_lease &lease) { lease_of(key, lease); });
		if (!leases)
			return tl::unexpected(std::move(leases.error()));
		return std::move(counts_);
	}

private:
	void session_of(const ptrig_session_key &key, const ptrig_session &lan, bool halfopen) {
		const __be32 payer = lan.flags & PTRIG_SESSION_HAIRPIN ? lan.peer : key.saddr;
		const unsigned proto = key.proto == IPPROTO_TCP ? PTRIG_PROTO_INDEX_TCP : PTRIG_PROTO_INDEX_UDP;
		counts_[usage_book(halfopen ? PTRIG_BOOK_HALFOPEN : PTRIG_BOOK_SESSIONS)]++;
		counts_[host_book(PTRIG_BOOK_HOST_SESSIONS, payer)]++;
		if (halfopen)
			counts_[host_book(PTRIG_BOOK_HOST_HALFOPEN, payer)]++;
		counts_[port_book(PTRIG_USE_INDEX(PTRIG_SIDE_LAN, proto, ntohs(key.sport)))]++;
		counts_[port_book(PTRIG_USE_INDEX(PTRIG_SIDE_WAN, proto, ntohs(lan.port)))]++;
		sessions_[lan.lease]++;
	}
	void lease_of(const ptrig_lease_key &key, const ptrig_lease &lease) {
		const ptrig_lease_info &info = lease.info;
		counts_[usage_book(PTRIG_BOOK_LEASES)]++;
		counts_[lease_book(PTRIG_BOOK_LEASE_SESSIONS, key, lease.grant)] = sessions_[lease.grant];
		if (info.state != PTRIG_LEASE_LIVE)
			return;
		counts_[lease_book(PTRIG_BOOK_LEASE_CONNS, key, info.id)] = conns_[info.id];
		counts_[host_book(PTRIG_BOOK_HOST_LEASES, info.host)]++;
		if (key.remote) // of a rule with `contacted`, of which a host has a share
			counts_[host_book(PTRIG_BOOK_HOST_LEASES, info.host, key.rule)]++;
	}

	Counts counts_;
	std::unordered_map<std::uint32_t, std::int64_t> sessions_, conns_; ///< by the grant's id
};

std::int64_t at(const Counts &counts, const Book &book) {
	const auto found = counts.find(book);
	return found == counts.end() ? 0 : found->second;
}

} // namespace

std::string text_of(const Book &book) {
	const auto address = [](__be32 value) { return to_string(ip_from_net(value)); };
	const std::string host = " of host " + address(book.host),
			  of_rule = book.rule ? " in rule " + std::to_string(book.rule & 0xffff) : "",
			  lease = " of lease " + std::to_string(book.lease);
	switch (book.what) {
	case PTRIG_BOOK_SESSIONS:
		return "answered sessions";
	case PTRIG_BOOK_HALFOPEN:
		return "half-open sessions";
	case PTRIG_BOOK_LEASES:
		return "leases";
	case PTRIG_BOOK_CONNS:
		return "trigger connections";
	case PTRIG_BOOK_HOST_LEASES:
		return "leases" + host + of_rule;
	case PTRIG_BOOK_HOST_SESSIONS:
		return "sessions" + host;
	case PTRIG_BOOK_HOST_HALFOPEN:
		return "half-open sessions" + host;
	case PTRIG_BOOK_HOST_CONNS:
		return "trigger connections" + host;
	case PTRIG_BOOK_LEASE_SESSIONS:
		return "sessions" + lease;
	case PTRIG_BOOK_LEASE_CONNS:
		return "trigger connections" + lease;
	default:
		return "sessions by port, index " + std::to_string(book.index);
	}
}

Result<std::vector<Correction>> Audit::look(const std::string &dir) {
	auto before = counted(dir);
	auto held = before ? Held().count(dir) : before;
	auto after = held ? counted(dir) : held;
	if (!after)
		return tl::unexpected(std::move(after.error()));
	Counts all = *before; // a count that is 0 may be missing
	all.merge(Counts(*held));
	std::map<Book, Streak> wrong;
	std::vector<Correction> corrections;
	for (const auto &[book, count] : all) {
		const std::int64_t off = at(*before, book) - at(*held, book);
		// A connection that found no place holds its lease until the timeout: it is counted and in no table.
		const bool may_be = book.what == PTRIG_BOOK_LEASE_CONNS && off > 0;
		if (off == 0 || may_be || at(*before, book) != at(*after, book))
			continue;
		Streak streak{off, 1};
		if (const auto last = wrong_.find(book); last != wrong_.end() && last->second.off == off)
			streak.times += last->second.times;
		if (streak.times >= kTimes)
			corrections.push_back({book, static_cast<std::int32_t>(-off)});
		else
			wrong[book] = streak;
	}
	wrong_ = std::move(wrong);
	return corrections;
}

} // namespace ptrig
