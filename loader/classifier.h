// Where a TC program of ptrig's stands on one side of a device: linked by tcx, or a filter of a clsact qdisc on kernels
// before 6.6 and wherever others have filters, among which it keeps its priority (a tcx program runs before them all).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "loader/result.h"
#include "loader/tc.h"

namespace ptrig {

/// One side of a device, and where the gateway at `dir` pins its link.
struct ClassifierPlace {
	ClassifierPlace(const std::string &dir, std::uint32_t device, TcSide which);
	std::uint32_t ifindex;
	TcSide side;
	std::string pin;
};

struct Classifier {
	std::uint32_t prog_id = 0;
	bool settled = false; ///< it is where classifier_attach() would put it, and nowhere else
};
/// The program there; unset if there is none (or the device is gone). A filter counts whoever attached it.
Result<std::optional<Classifier>> classifier_query(const ClassifierPlace &place);

/// Attach `prog_fd`, or replace the program that is there, with no packet between; moves it where the other kind of
/// place has become the right one. Errors: those of tc_attach() and link_attach().
Result<TcAttached> classifier_attach(const ClassifierPlace &place, int prog_fd);

/// Remove ptrig's program, if it is there; `remove_clsact` as in tc_detach().
Done classifier_detach(const ClassifierPlace &place, bool remove_clsact);

} // namespace ptrig
