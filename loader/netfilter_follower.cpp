// See netfilter_follower.h.
#include "loader/netfilter_follower.h"

#include <cerrno>

namespace ptrig {

Result<NetfilterFollower> NetfilterFollower::open() {
	auto monitor = NetfilterMonitor::open();
	if (!monitor)
		return tl::unexpected(std::move(monitor.error()));
	return NetfilterFollower(std::move(*monitor));
}

void NetfilterFollower::read(Gateway &gateway) {
	using Kind = NetfilterChange::Kind;
	const auto changes = monitor_.drain();
	bool lost = !changes;
	Done noted;
	for (const auto &change : changes.value_or(std::vector<NetfilterChange>{})) {
		if (change.kind == Kind::kExpected || change.kind == Kind::kUnexpected)
			noted = gateway.note_expected(change.expectation, change.kind == Kind::kUnexpected);
		else
			ruleset_changed_ = shorten_ = true;
		lost |= change.kind == Kind::kResync || !noted;
	}
	if (lost) {
		ruleset_changed_ = shorten_ = true;
		look_at_expected(gateway);
	}
	if (ruleset_changed_ && !looked_at_chain_)
		look_at_chain(gateway);
	shorten_permissions(gateway);
}

void NetfilterFollower::look(Gateway &gateway) {
	look_at_expected(gateway);
	if (ruleset_changed_)
		look_at_chain(gateway);
	looked_at_chain_ = false;
	shorten_permissions(gateway);
	discard(gateway.follow_firewall(), "permissions are short then");
}

/// Not more often than every five seconds, whoever changes rulesets all the time: it sends every session's next packet
/// by the kernel. What fails is not tried again, for permissions end by themselves.
void NetfilterFollower::shorten_permissions(Gateway &gateway) {
	const auto now = std::chrono::steady_clock::now();
	if (!shorten_ || (shortened_ != decltype(shortened_){} && now - shortened_ < std::chrono::seconds(5)))
		return;
	shorten_ = false;
	shortened_ = now;
	discard(gateway.shorten_permissions(), "they end by themselves");
}

void NetfilterFollower::look_at_expected(Gateway &gateway) {
	int code = 0;
	const auto expected = read_expectations(&code);
	if (!expected && code == EINVAL) { // no nf_conntrack_netlink in this kernel: nothing can be asked
		helpers_trouble_.clear();
		return;
	}
	const auto done = expected ? gateway.set_expected(*expected) : Done(tl::unexpected(expected.error()));
	helpers_trouble_ = done ? "" : done.error().what;
}

void NetfilterFollower::look_at_chain(Gateway &gateway) {
	looked_at_chain_ = true;
	const auto kept = gateway.keep_nat_chain();
	ruleset_changed_ = !kept; // then it is tried again in a second
	if (kept && *kept)
		put_back_++;
	chain_trouble_ = kept ? "" : kept.error().what;
}

} // namespace ptrig
