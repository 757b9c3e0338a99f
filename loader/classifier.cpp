// tcx where the kernel has it, else a filter.
#include "loader/classifier.h"

#include <algorithm>

#include <fmt/format.h>

#include "loader/bpf_link.h"

namespace ptrig {

namespace {

bool is_own(const TcFilter &filter) {
	return filter.is_ptrig();
}

std::optional<std::uint32_t> filtered(const std::vector<TcFilter> &filters) {
	const auto own = std::find_if(filters.begin(), filters.end(), is_own);
	return own == filters.end() ? std::nullopt : std::optional(own->prog_id);
}

std::string describe(const TcFilter &filter) {
	return fmt::format("a {} filter of priority {}", filter.kind, filter.priority);
}
std::string describe(std::uint32_t tcx_program) {
	return fmt::format("a tcx program (id {})", tcx_program);
}

/// The first of other people's filters.
std::string others_of(const std::vector<TcFilter> &filters) {
	const auto other = std::find_if_not(filters.begin(), filters.end(), is_own);
	return other == filters.end() ? "" : describe(*other);
}

/// On a kernel with tcx. A filter is what a gateway of an earlier version has left.
Result<Classifier> among_programs(const ClassifierPlace &place, const std::vector<std::uint32_t> &programs,
				  const std::vector<TcFilter> &filters) {
	auto link = link_query(place.pin);
	if (!link)
		return tl::unexpected(std::move(link.error()));
	const auto left = filtered(filters);
	if (!*link || (*link)->ifindex != place.ifindex)
		return Classifier{.prog_id = left, .others = others_of(filters)};
	Classifier there{.prog_id = (*link)->prog_id, .settled = !left, .others = others_of(filters)};
	if (!programs.empty() && programs.front() != there.prog_id)
		there.ahead = describe(programs.front());
	const auto other =
		std::find_if(programs.begin(), programs.end(), [&](std::uint32_t id) { return id != there.prog_id; });
	if (other != programs.end())
		there.others = describe(*other);
	return there;
}

Result<Classifier> among_filters(const ClassifierPlace &place, const std::vector<TcFilter> &filters) {
	Classifier there{.prog_id = filtered(filters), .others = others_of(filters)};
	const auto own = std::find_if(filters.begin(), filters.end(), is_own);
	if (there.prog_id) {
		there.settled = std::count_if(filters.begin(), filters.end(), is_own) == 1 &&
				own->priority == tc_free_priority(filters);
		const auto before = std::find_if(filters.begin(), filters.end(), [&](const TcFilter &filter) {
			return filter.chain == 0 && filter.priority < own->priority;
		});
		if (before != filters.end())
			there.ahead = describe(*before);
	}
	if (place.side == TcSide::kIngress)
		return there;
	return tc_classifier_qdisc(place.ifindex).map([&](const std::string &qdisc) {
		there.blocked = qdisc == "ingress";
		return there;
	});
}

} // namespace

ClassifierPlace::ClassifierPlace(const std::string &dir, std::uint32_t device, TcSide which)
    : ifindex(device), side(which),
      pin(fmt::format("{}/link/tc_{}_{}", dir, device, which == TcSide::kIngress ? "ingress" : "egress")) {}

Result<Classifier> classifier_query(const ClassifierPlace &place) {
	auto programs = tcx_programs(place.ifindex, place.side);
	auto filters = tc_filters(place.ifindex, place.side);
	if (!programs)
		return tl::unexpected(std::move(programs.error()));
	if (!filters)
		return tl::unexpected(std::move(filters.error()));
	return *programs ? among_programs(place, **programs, *filters) : among_filters(place, *filters);
}

Result<TcAttached> classifier_attach(const ClassifierPlace &place, int prog_fd) {
	auto programs = tcx_programs(place.ifindex, place.side);
	if (!programs)
		return tl::unexpected(std::move(programs.error()));
	if (!*programs)
		return tc_attach(place.ifindex, place.side, prog_fd);
	auto left = tc_query(place.ifindex, place.side);
	if (!left)
		return tl::unexpected(std::move(left.error()));
	auto attached = link_attach(place.ifindex, hook_of(place.side), prog_fd, place.pin);
	if (!attached)
		return tl::unexpected(std::move(attached.error()));
	if (*left)
		if (auto done = tc_detach(place.ifindex, place.side, false); !done)
			return tl::unexpected(std::move(done.error()));
	return TcAttached{.replaced = attached->replaced || *left};
}

Done classifier_detach(const ClassifierPlace &place, bool remove_clsact) {
	return link_detach(place.pin).and_then([&] { return tc_detach(place.ifindex, place.side, remove_clsact); });
}

} // namespace ptrig
