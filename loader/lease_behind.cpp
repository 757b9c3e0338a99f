// Which leases get fewer packets than they open, because a rule before theirs has one on the same ports.
#include "loader/lease_behind.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

namespace ptrig {
namespace {

using Ports = std::bitset<2 * PTRIG_PORTS>; // those of tcp, then those of udp

/// The live leases of one rule on one WAN address. Whose they are does not matter.
struct Held {
	std::set<Ip4> remotes; ///< of which, where each is of one
};
using HeldByRule = std::map<std::size_t, Held>; // by the rule's place in the file

bool overlap(const PortRange &a, const PortRange &b) {
	return (a.protos & b.protos) != 0 && a.first <= b.last && b.first <= a.last;
}

bool overlap(const Rule &a, const Rule &b) {
	return std::any_of(a.open.begin(), a.open.end(), [&](const OpenRange &mine) {
		return std::any_of(b.open.begin(), b.open.end(),
				   [&](const OpenRange &other) { return overlap(mine.wan, other.wan); });
	});
}

bool contains(const std::vector<Prefix> &prefixes, Ip4 address) {
	return std::any_of(prefixes.begin(), prefixes.end(), [&](const Prefix &p) { return p.contains(address); });
}

enum class Share { kNone, kSome, kAll };

/// How many of this lease's remotes an earlier rule's leases take.
Share share_of(const LeaseView &lease, const Rule &rule, const Rule &earlier, const Held &held) {
	const auto &set = earlier.remotes.prefixes;
	if (earlier.remotes.kind == Remotes::Kind::kAny)
		return Share::kAll;
	const bool by_set = earlier.remotes.kind == Remotes::Kind::kSet;
	if (lease.remote)
		return (by_set ? contains(set, *lease.remote) : held.remotes.count(*lease.remote) != 0) ? Share::kAll
													: Share::kNone;
	if (rule.remotes.kind != Remotes::Kind::kSet)
		return Share::kSome;
	const auto &own = rule.remotes.prefixes;
	if (by_set && own == set)
		return Share::kAll;
	const bool meet = by_set ? std::any_of(own.begin(), own.end(),
					       [&](const Prefix &mine) {
						       return std::any_of(set.begin(), set.end(), [&](const Prefix &p) {
							       return p.overlaps(mine);
						       });
					       })
				 : std::any_of(held.remotes.begin(), held.remotes.end(),
					       [&](Ip4 remote) { return contains(own, remote); });
	return meet ? Share::kSome : Share::kNone;
}

void add_ports(Ports &ports, const Rule &rule) {
	constexpr std::array<Protos, 2> kProtos{PTRIG_TCP, PTRIG_UDP};
	for (const OpenRange &open : rule.open)
		for (std::size_t i = 0; i < kProtos.size(); ++i)
			for (unsigned port = open.wan.first; (open.wan.protos & kProtos[i]) && port <= open.wan.last;
			     ++port)
				ports.set(i * PTRIG_PORTS + port);
}

void mark(LeaseView &lease, std::size_t place, const std::vector<Rule> &rules, const HeldByRule &held_by_rule) {
	const Rule &rule = rules[place];
	std::vector<const Rule *> takers;
	for (const auto &[other, held] : held_by_rule) {
		if (other >= place)
			break;
		const Rule &earlier = rules[other];
		const Share share = overlap(earlier, rule) ? share_of(lease, rule, earlier, held) : Share::kNone;
		if (share != Share::kNone)
			lease.behind.push_back(earlier.name);
		if (share == Share::kAll)
			takers.push_back(&earlier);
	}
	if (takers.empty())
		return;
	const auto own = std::make_unique<Ports>(), taken = std::make_unique<Ports>();
	add_ports(*own, rule);
	for (const Rule *taker : takers)
		add_ports(*taken, *taker);
	lease.behind_wholly = (*own & ~*taken).none();
}

} // namespace

void mark_behind(std::vector<LeaseView> &leases, const std::vector<Rule> &rules) {
	std::unordered_map<std::string_view, std::size_t> places;
	for (std::size_t i = 0; i < rules.size(); ++i)
		places.emplace(rules[i].name, i);
	std::map<Ip4, HeldByRule> held;
	const auto is_live = [&](const LeaseView &lease) {
		return lease.state == "live" && places.count(lease.rule) != 0;
	};
	for (const LeaseView &lease : leases) {
		if (!is_live(lease))
			continue;
		Held &of_rule = held[lease.wan][places.at(lease.rule)];
		if (lease.remote)
			of_rule.remotes.insert(*lease.remote);
	}
	for (LeaseView &lease : leases)
		if (is_live(lease))
			mark(lease, places.at(lease.rule), rules, held.at(lease.wan));
}

} // namespace ptrig
