// Where a TC program of ptrig's stands on one side of a device: before other people's, so that it sees packets first;
// all of ptrig's programs let the later ones run. Linked by tcx, at the head; on kernels before 6.6, which have no tcx,
// a filter of a clsact qdisc.
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
	std::optional<std::uint32_t> prog_id; ///< unset: there is none, or the device is gone
	bool settled = false;                 ///< it is where classifier_attach() would put it, and nowhere else
	bool blocked = false; ///< somebody's `ingress` qdisc has clsact's place, which has no egress side, and no tcx
	std::string ahead;    ///< what sees packets before it: "a u32 filter of priority 1"; empty: nothing
	std::string others;   ///< the first of other people's there, before it or after: likewise
};
/// What there is. A filter counts whoever attached it.
Result<Classifier> classifier_query(const ClassifierPlace &place);

/// Attach `prog_fd`, or replace the program that is there, with no packet between. A link that others have been put
/// before keeps its place. Errors: those of tc_attach() and link_attach().
Result<TcAttached> classifier_attach(const ClassifierPlace &place, int prog_fd);

/// Remove ptrig's program, if it is there; `remove_clsact` as in tc_detach().
Done classifier_detach(const ClassifierPlace &place, bool remove_clsact);

} // namespace ptrig
