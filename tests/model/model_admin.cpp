// What user space asks of the reference model: the sweep, and the end of leases and sessions.
#include "tests/model/model.h"

namespace ptrig::model {

namespace {

bool is(const std::string &wanted, const std::string &value) {
	return wanted.empty() || wanted == value;
}

} // namespace

/// What is over by time, or by its rule's end, goes; an ended lease once its cooldown is over.
Ended Gateway::sweep() {
	Ended ended;
	for (auto entry = leases_.begin(); entry != leases_.end();) {
		Lease &lease = entry->second;
		const Rule *by = rule(entry->first.first);
		if (lease.live && (!by || over(lease, *by))) {
			by ? ended_by_time(lease, *by) : end_lease(lease);
			ended.leases++;
		}
		const bool forgotten = !lease.live && now_ - lease.ended >= (by ? by->cooldown.count() : 0);
		entry = forgotten ? leases_.erase(entry) : std::next(entry);
	}
	std::erase_if(sessions_, [&](Session &s) {
		const Rule *by = rule(s.rule); // what it says now is noted by packets alone
		const bool with_lease = s.halfopen() || (by ? by->on_close == OnClose::kKill : s.kill);
		const bool gone = now_ - s.seen >= idle_time(s) || (with_lease && !lease_of(s));
		(s.halfopen() ? ended.halfopen : ended.sessions) += gone;
		return gone;
	});
	ended.conns += static_cast<unsigned>(std::erase_if(conns_, [&](const auto &entry) {
		const auto &[key, conn] = entry;
		const Rule *by = rule(key.rule);
		const auto found = by ? leases_.find(this->key(*by, key.remote)) : leases_.end();
		return found == leases_.end() || found->second.id != conn.lease || !found->second.live;
	}));
	ended.conns += static_cast<unsigned>(std::erase_if(waiting_, [&](const auto &entry) {
		return !rule(entry.first.rule) || now_ - entry.second.since >= config_.timeouts.halfopen.count();
	}));
	return ended;
}

/// A lease that is over by time has ended then.
Ended Gateway::close_leases(const Filter &which) {
	Ended ended;
	for (auto &[key, lease] : leases_) {
		const std::string &remote = key.second.empty() ? lease.trigger_remote : key.second;
		if (!lease.live || !is(which.rule, key.first) || !is(which.host, lease.host) ||
		    !is(which.remote, remote))
			continue;
		ended.leases++;
		const Rule *by = rule(key.first);
		by &&over(lease, *by) ? ended_by_time(lease, *by) : end_lease(lease);
	}
	return ended;
}

Ended Gateway::close_sessions(const Filter &which) {
	Ended ended;
	std::erase_if(sessions_, [&](const Session &s) {
		const bool gone = is(which.rule, s.rule) && is(which.host, s.host) && is(which.remote, s.remote);
		(s.halfopen() ? ended.halfopen : ended.sessions) += gone;
		return gone;
	});
	return ended;
}

} // namespace ptrig::model
