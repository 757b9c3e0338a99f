// Where the gateway's TC programs stand, as far as an administrator is to be told of it, and whether that has changed.
#include <fmt/format.h>

#include "loader/bpf_link.h"
#include "loader/classifier.h"
#include "loader/gateway_impl.h"

namespace ptrig {

namespace {

std::string blocked_warning(const std::string &name, bool lan, LanEgress lan_egress) {
	const char *what = !lan                 ? "nothing triggers towards it"
			   : lan_egress.answers ? "rules with `confirm` or `close = \"connection\"` see no answers"
						: "sessions towards it go by the kernel";
	return fmt::format(
		"{}: {}: an ingress qdisc leaves no place for the program that looks at what leaves (this "
		"kernel has no tcx, which came with 6.6); a clsact in its place serves both (tc qdisc replace "
		"dev {} clsact, then its filters again)",
		name, what, name);
}

} // namespace

std::vector<std::string> place_warnings(const std::string &dir, const Link &link, std::uint32_t role,
					LanEgress lan_egress) {
	const bool lan = role & PTRIG_IFACE_LAN;
	std::vector<std::string> warnings;
	for (const TcSide side : {TcSide::kIngress, TcSide::kEgress}) {
		if (side == TcSide::kEgress && lan && !lan_egress)
			continue;
		const auto there = classifier_query({dir, link.ifindex, side});
		if (!there)
			continue; // whoever attaches is told
		if (there->blocked)
			warnings.push_back(blocked_warning(link.name, lan, lan_egress));
		else if (!there->prog_id)
			warnings.push_back(link.name +
					   ": ptrig's program has been removed from it (the daemon or `ptrig up` "
					   "puts it back)");
		else if (!there->ahead.empty())
			warnings.push_back(fmt::format(
				"{}: {} sees what {} before ptrig: what it drops, redirects or lets through for good "
				"ptrig does not see",
				link.name, there->ahead, side == TcSide::kIngress ? "comes in" : "leaves"));
		if (lan_egress.fast && !there->others.empty())
			warnings.push_back(fmt::format(
				"{}: sessions {} it go by the kernel: {} is there, which the fast path would pass over",
				link.name, side == TcSide::kIngress ? "from" : "towards", there->others));
	}
	return warnings;
}

bool Gateway::tcx_changed() {
	std::vector<std::uint32_t> seen;
	auto ifaces = read_ifaces(impl_->dir);
	if (!ifaces)
		return false;
	for (const auto &[ifindex, iface] : *ifaces)
		for (const TcSide side : {TcSide::kIngress, TcSide::kEgress}) {
			const auto programs = tcx_programs(ifindex, side);
			if (!programs || !*programs)
				continue;
			seen.push_back(0); // ids are not: where the next list begins
			seen.insert(seen.end(), (*programs)->begin(), (*programs)->end());
		}
	const bool changed = seen != impl_->tcx_seen;
	impl_->tcx_seen = std::move(seen);
	return changed;
}

} // namespace ptrig
