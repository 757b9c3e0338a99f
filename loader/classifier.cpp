// tcx or a filter: the choice, and moving between them.
#include "loader/classifier.h"

#include <algorithm>

#include <fmt/format.h>

#include "loader/bpf_link.h"

namespace ptrig {

namespace {

/// What there is on one side of a device.
struct Side {
	bool by_link = false;                          ///< where ptrig's program belongs
	std::optional<std::uint32_t> linked, filtered; ///< ids of ptrig's programs
};

Result<Side> look(const ClassifierPlace &place) {
	auto programs = tcx_programs(place.ifindex, place.side);
	auto filters = tc_filters(place.ifindex, place.side);
	if (!programs)
		return tl::unexpected(std::move(programs.error()));
	if (!filters)
		return tl::unexpected(std::move(filters.error()));
	Side side;
	const auto own = std::find_if(filters->begin(), filters->end(), [](const auto &f) { return f.is_ptrig(); });
	if (own != filters->end())
		side.filtered = own->prog_id;
	if (!*programs)
		return side;
	side.by_link = std::all_of(filters->begin(), filters->end(), [](const auto &f) { return f.is_ptrig(); });
	auto link = link_query(place.pin);
	if (!link)
		return tl::unexpected(std::move(link.error()));
	if (*link && (*link)->ifindex == place.ifindex)
		side.linked = (*link)->prog_id;
	return side;
}

} // namespace

ClassifierPlace::ClassifierPlace(const std::string &dir, std::uint32_t device, TcSide which)
    : ifindex(device), side(which),
      pin(fmt::format("{}/link/tc_{}_{}", dir, device, which == TcSide::kIngress ? "ingress" : "egress")) {}

Result<std::optional<Classifier>> classifier_query(const ClassifierPlace &place) {
	return look(place).map([](const Side &side) -> std::optional<Classifier> {
		if (!side.linked && !side.filtered)
			return std::nullopt;
		const auto &right = side.by_link ? side.linked : side.filtered;
		const auto &wrong = side.by_link ? side.filtered : side.linked;
		return Classifier{.prog_id = right ? *right : *wrong, .settled = right && !wrong};
	});
}

Result<TcAttached> classifier_attach(const ClassifierPlace &place, int prog_fd) {
	auto side = look(place);
	if (!side)
		return tl::unexpected(std::move(side.error()));
	// The new place first: for a moment both may see a packet, never neither.
	if (!side->by_link) {
		auto attached = tc_attach(place.ifindex, place.side, prog_fd);
		if (attached && side->linked)
			if (auto done = link_detach(place.pin); !done)
				return tl::unexpected(std::move(done.error()));
		return attached;
	}
	auto attached = link_attach(place.ifindex, hook_of(place.side), prog_fd, place.pin);
	if (!attached)
		return tl::unexpected(std::move(attached.error()));
	if (side->filtered)
		if (auto done = tc_detach(place.ifindex, place.side, false); !done)
			return tl::unexpected(std::move(done.error()));
	return TcAttached{.replaced = attached->replaced || side->filtered};
}

Done classifier_detach(const ClassifierPlace &place, bool remove_clsact) {
	return link_detach(place.pin).and_then([&] { return tc_detach(place.ifindex, place.side, remove_clsact); });
}

} // namespace ptrig
