// Sessions as user space sees them: the LAN half and, of an answered one, its twin of the WAN side, in bounded memory.
#include <netinet/in.h>
#include <unordered_set>

#include "loader/gateway_impl.h"

namespace ptrig {

namespace {

using SessionMap = Map<ptrig_session_key, ptrig_session>;
constexpr const char *kSessionMaps[] = {"pt_sessions", "pt_halfopen"};

/// The key of the other direction, as pt_session_mirror(), for the LAN side's.
ptrig_session_key wan_key(const ptrig_session_key &lan, const ptrig_session &session) {
	ptrig_session_key key{};
	key.saddr = session.peer;
	key.daddr = session.addr;
	key.sport = session.peer_port;
	key.dport = session.port;
	key.proto = lan.proto;
	key.side = PTRIG_SIDE_WAN;
	return key;
}

std::uint64_t idle_limit(const ptrig_session &session, std::uint8_t proto, const Timeouts &timeouts) {
	switch (session.state) {
	case PTRIG_SESSION_HALFOPEN:
		return to_ns(timeouts.halfopen);
	case PTRIG_SESSION_TRANSITORY:
	case PTRIG_SESSION_CLOSING:
		return to_ns(timeouts.tcp_transitory);
	default:
		return to_ns(proto == IPPROTO_TCP ? timeouts.tcp_established : timeouts.udp);
	}
}

/// Which sessions a packet would still find: those that only wait for the sweep are not shown. As bpf/sweep.h.
class Judge {
public:
	static Result<Judge> make(const std::string &dir, const Live &live) {
		auto leases = read_leases(dir, live);
		if (!leases)
			return tl::unexpected(std::move(leases.error()));
		Judge judge(live);
		for (const LeaseEntry &entry : *leases)
			if (entry.live)
				judge.living_.insert(entry.lease.info.id);
		return judge;
	}
	/// `lan`: the LAN side's entry.
	bool lives(const ptrig_session_key &key, const ptrig_session &lan, std::uint64_t now) const {
		if (!lan.id || lan.id & PTRIG_SESSION_OVER ||
		    elapsed_ns(now, lan.seen_ns) >= idle_limit(lan, key.proto, live_.config.timeouts))
			return false;
		const Rule *rule = live_.rule(lan.rule);
		const bool kill =
			rule && rule->enabled ? rule->on_close == OnClose::kKill : lan.flags & PTRIG_SESSION_KILL;
		const bool ends_with_lease = kill || lan.state == PTRIG_SESSION_HALFOPEN;
		return !ends_with_lease || living_.count(lan.lease) != 0;
	}

private:
	explicit Judge(const Live &live) : live_(live) {}
	const Live &live_;
	std::unordered_set<std::uint32_t> living_; ///< ids of the leases that live
};

const char *state_name(std::uint8_t state) {
	switch (state) {
	case PTRIG_SESSION_HALFOPEN:
		return "half-open";
	case PTRIG_SESSION_TRANSITORY:
		return "transitory";
	case PTRIG_SESSION_CLOSING:
		return "closing";
	default:
		return "established";
	}
}

bool matches(const Filter &filter, const SessionView &view) {
	if (filter.rule && *filter.rule != view.rule)
		return false;
	if (filter.host && !(*filter.host == view.host))
		return false;
	if (filter.remote && !(*filter.remote == view.remote))
		return false;
	return !filter.port || (view.proto & filter.port->protos && view.wan_port >= filter.port->first &&
				view.wan_port <= filter.port->last);
}

/// What the fast path has counted of this direction since it was last seen by the kernel's way; see abi.h.
class FastCounts {
public:
	static Result<FastCounts> open(const std::string &dir) {
		auto map = MappedArray<ptrig_fast_bucket>::open(dir, "pt_fast");
		if (!map)
			return tl::unexpected(std::move(map.error()));
		return FastCounts(std::move(*map));
	}
	/// Adds them to the direction's own.
	ptrig_session with(ptrig_session session) const {
		const std::size_t way = session.fast - std::size_t{1};
		if (!session.fast || way / PTRIG_FAST_WAYS >= ways_.size())
			return session;
		const std::uint64_t more =
			ways_[way / PTRIG_FAST_WAYS].way[way % PTRIG_FAST_WAYS].count - session.folded;
		session.packets += more >> PTRIG_FAST_BYTES_BITS;
		session.bytes += more & ((std::uint64_t{1} << PTRIG_FAST_BYTES_BITS) - 1);
		return session;
	}

private:
	explicit FastCounts(MappedArray<ptrig_fast_bucket> ways) : ways_(std::move(ways)) {}
	MappedArray<ptrig_fast_bucket> ways_;
};

SessionView view_of(const ptrig_session_key &key, const ptrig_session &lan, const Live &live, std::uint64_t now) {
	SessionView view;
	if (const Rule *rule = live.rule(lan.rule))
		view.rule = rule->name;
	view.rule_id = lan.rule;
	view.lease_id = lan.lease;
	view.proto = proto_mask(key.proto);
	view.host = ip_from_net(key.saddr);
	view.host_port = port_from_net(key.sport);
	view.remote = ip_from_net(key.daddr);
	view.remote_port = port_from_net(key.dport);
	view.wan = ip_from_net(lan.addr);
	view.wan_port = port_from_net(lan.port);
	view.state = state_name(lan.state);
	view.idle_s = seconds_of(elapsed_ns(now, lan.seen_ns));
	view.packets_out = lan.packets;
	view.bytes_out = lan.bytes;
	return view;
}

} // namespace

Done Gateway::sessions(const Filter &filter, const std::function<void(const SessionView &)> &each) const {
	auto live = impl_->live();
	if (!live)
		return tl::unexpected(std::move(live.error()));
	if (filter.rule && !(*live)->id_of(*filter.rule))
		return fail("there is no rule " + *filter.rule, Status::kInput);
	auto judge = Judge::make(impl_->dir, **live);
	auto fast = FastCounts::open(impl_->dir);
	if (!judge || !fast)
		return tl::unexpected(std::move(judge ? fast.error() : judge.error()));
	for (const char *name : kSessionMaps) {
		auto map = SessionMap::open(impl_->dir, name, Access::kRead);
		if (!map)
			return tl::unexpected(std::move(map.error()));
		Done failed;
		auto listed = map->each([&](const ptrig_session_key &key, const ptrig_session &lan) {
			const std::uint64_t now = boot_now_ns();
			if (key.side != PTRIG_SIDE_LAN || !failed || !judge->lives(key, lan, now))
				return;
			SessionView view = view_of(key, fast->with(lan), **live, now);
			if (!matches(filter, view))
				return;
			if (lan.state == PTRIG_SESSION_HALFOPEN) { // it counts what the remote has sent
				std::swap(view.packets_in, view.packets_out);
				std::swap(view.bytes_in, view.bytes_out);
			} else if (auto wan = map->lookup(wan_key(key, lan)); !wan) {
				failed = tl::unexpected(std::move(wan.error()));
				return;
			} else if (*wan) {
				const ptrig_session in = fast->with(**wan);
				view.packets_in = in.packets;
				view.bytes_in = in.bytes;
			}
			each(view);
		});
		if (!listed || !failed)
			return listed ? failed : listed;
	}
	return {};
}

Result<std::unordered_map<std::uint32_t, Traffic>> traffic_by_lease(const std::string &dir, const Live &live) {
	auto judge = Judge::make(dir, live);
	auto fast = FastCounts::open(dir);
	if (!judge || !fast)
		return tl::unexpected(std::move(judge ? fast.error() : judge.error()));
	const std::uint64_t now = boot_now_ns();
	std::unordered_map<std::uint32_t, Traffic> traffic;
	for (const char *name : kSessionMaps) {
		auto map = SessionMap::open(dir, name, Access::kRead);
		if (!map)
			return tl::unexpected(std::move(map.error()));
		auto listed = map->each([&](const ptrig_session_key &key, const ptrig_session &entry) {
			const ptrig_session session = fast->with(entry);
			Traffic &sum = traffic[session.lease];
			sum.packets += session.packets;
			sum.bytes += session.bytes;
			if (key.side == PTRIG_SIDE_LAN && judge->lives(key, session, now))
				sum.sessions++;
		});
		if (!listed)
			return tl::unexpected(std::move(listed.error()));
	}
	return traffic;
}

} // namespace ptrig
