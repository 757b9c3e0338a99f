// What changes between two rulesets, rule by rule and key by key.
#include <unordered_map>

#include "loader/compile.h"
#include "loader/rule_key.h"

namespace ptrig {
namespace {

RuleDiff changed(const Rule &before, const Rule &after) {
	RuleDiff diff{RuleDiff::Kind::kChange, after.name, {}, false};
	for (const Key<Rule> &key : keys_of_rule())
		if (key.write(before) != key.write(after))
			diff.keys.emplace_back(key.name);
	// A disabled rule loses its leases.
	diff.keeps_leases = after.enabled && same_leases(identity_of(before, 0), identity_of(after, 0));
	return diff;
}

} // namespace

std::vector<RuleDiff> diff_rules(const std::vector<Rule> &before, const std::vector<Rule> &after) {
	std::unordered_map<std::string_view, const Rule *> old;
	for (const Rule &rule : before)
		old.emplace(rule.name, &rule);
	std::vector<RuleDiff> out;
	for (const Rule &rule : after) {
		const auto found = old.find(rule.name);
		if (found == old.end()) {
			out.push_back({RuleDiff::Kind::kAdd, rule.name, {}, false});
			continue;
		}
		if (!(*found->second == rule))
			out.push_back(changed(*found->second, rule));
		old.erase(found);
	}
	for (const Rule &rule : before)
		if (old.contains(rule.name))
			out.push_back({RuleDiff::Kind::kRemove, rule.name, {}, false});
	return out;
}

} // namespace ptrig
