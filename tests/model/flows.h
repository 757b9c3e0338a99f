// Conntrack as the model has it: entries that are there until somebody forgets them.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "loader/rule.h"

namespace ptrig::model {

/// Where a packet comes from and goes to.
struct Tuple {
	Protos proto = 0;
	std::string saddr, daddr;
	std::uint16_t sport = 0, dport = 0;

	Tuple turned() const { return {proto, daddr, saddr, dport, sport}; }
	auto operator<=>(const Tuple &) const = default;
};

struct Entry {
	Tuple orig, reply; ///< the first packet's, as it came; its answer's, as it comes
	bool answered = false;

	bool source_changed() const { return reply.daddr != orig.saddr; }
	bool destination_changed() const { return reply.saddr != orig.daddr; }
	/// A packet of either direction, as it leaves.
	Tuple translated(const Tuple &in) const { return in == orig ? reply.turned() : orig.turned(); }
};

/// Whose is an entry, to a session or lease that leads from the WAN to host:port?
enum class Whose { kNone, kNobodys, kOurs, kHosts, kAnothers };

class Flows {
public:
	/// The entry of a packet of either direction, or nullptr.
	Entry *find(const Tuple &tuple) const;
	/// False: one of its tuples is taken.
	bool insert(const Entry &entry);
	void forget(const Tuple &tuple);
	void clear() { entries_.clear(); }
	/// Of the packet from_remote.
	Whose whose(const Tuple &from_remote, const std::string &host, std::uint16_t port) const;

private:
	std::map<Tuple, std::shared_ptr<Entry>> entries_; ///< under both tuples
};

} // namespace ptrig::model
