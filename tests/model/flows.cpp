// See flows.h.
#include "tests/model/flows.h"

namespace ptrig::model {

Entry *Flows::find(const Tuple &tuple) const {
	const auto found = entries_.find(tuple);
	return found == entries_.end() ? nullptr : found->second.get();
}

bool Flows::insert(const Entry &entry) {
	if (entries_.contains(entry.orig) || entries_.contains(entry.reply))
		return false;
	const auto shared = std::make_shared<Entry>(entry);
	entries_[entry.orig] = shared;
	entries_[entry.reply] = shared;
	return true;
}

void Flows::forget(const Tuple &tuple) {
	const auto found = entries_.find(tuple);
	if (found == entries_.end())
		return;
	const auto entry = found->second;
	entries_.erase(entry->orig);
	entries_.erase(entry->reply);
}

Whose Flows::whose(const Tuple &from_remote, const std::string &host, std::uint16_t port) const {
	const Entry *entry = find(from_remote);
	if (!entry)
		return Whose::kNone;
	if (entry->reply == from_remote)
		return entry->orig.saddr == host && entry->orig.sport == port ? Whose::kHosts : Whose::kAnothers;
	if (entry->destination_changed() && entry->reply.saddr == host && entry->reply.sport == port)
		return Whose::kOurs;
	return entry->answered || entry->source_changed() || entry->destination_changed() ? Whose::kAnothers
											  : Whose::kNobodys;
}

} // namespace ptrig::model
