// What user space asks of the reference model: the sweep, and the end of leases and sessions.
#include "tests/model/model.h"

namespace ptrig::model {

namespace {

bool is(const std::string &wanted, const std::string &value) {
	return wanted.empty() || wanted == value;
}

} // namespace

/// What is over by time, by its rule's end or with its WAN address goes; an ended lease once its cooldown is over.
Ended Gateway::sweep() {
	Ended ended;
	for (auto entry = leases_.begin(); entry != leases_.end();) {
		const auto &[key, lease] = *entry;
		const Rule *by = rule(key.rule);
		const bool in_time = by && !over(lease, *by);
		if (lease.live && (!in_time || (!lease.routed && !wan_.contains(key.wan)))) {
			by && !in_time ? ended_by_time(entry->second, *by) : end_lease(entry->second);
			ended.leases++;
		}
		const bool forgotten = !lease.live && now_ - lease.ended >= (by ? by->cooldown.count() : 0);
		entry = forgotten ? leases_.erase(entry) : std::next(entry);
	}
	for (std::size_t n = sessions_.size(); n-- > 0;) {
		const Session &s = sessions_[n];
		const bool is_over = over(s), ask = s.ask && !s.halfopen(); // conntrack, that is
		(s.halfopen() ? ended.halfopen : ended.sessions) += is_over || ask;
		if (is_over || (ask && !flows_.find(s.from_remote())))
			end(s);
	}
	ended.conns += static_cast<unsigned>(std::erase_if(conns_, [&](const auto &entry) {
		const auto &[key, conn] = entry;
		const Rule *by = rule(key.rule);
		const Lease *lease = by ? find(*by, key.remote, conn.wan) : nullptr;
		return !lease || lease->id != conn.lease || !lease->live;
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
		const std::string &remote = key.remote.empty() ? lease.trigger_remote : key.remote;
		if (!lease.live || !is(which.rule, key.rule) || !is(which.host, lease.host) ||
		    !is(which.remote, remote) || !is(which.wan, key.wan))
			continue;
		ended.leases++;
		const Rule *by = rule(key.rule);
		by &&over(lease, *by) ? ended_by_time(lease, *by) : end_lease(lease);
	}
	return ended;
}

/// What is refused goes along, whichever are meant.
Ended Gateway::close_sessions(const Filter &which) {
	Ended ended;
	for (std::size_t n = sessions_.size(); n-- > 0;) {
		const Session &s = sessions_[n];
		const bool matches = is(which.rule, s.rule) && is(which.host, s.host) && is(which.remote, s.peer) &&
				     is(which.wan, s.wan);
		if (!matches && !s.refused)
			continue;
		(s.halfopen() ? ended.halfopen : ended.sessions)++;
		end(s);
	}
	return ended;
}

} // namespace ptrig::model
