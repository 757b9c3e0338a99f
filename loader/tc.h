// TC attachment of ptrig's programs where the kernel has no tcx (before 6.6): clsact and one direct-action BPF filter a
// side, of the first priority that is free. Other people's filters and qdiscs are never removed or displaced.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loader/result.h"

namespace ptrig {

enum class TcSide { kIngress, kEgress };

/// For messages: "wan0", or "interface 7" of one that is gone.
std::string interface_name(std::uint32_t ifindex);

inline constexpr std::uint32_t kTcHandle = 1;

/// A filter on one side of a device.
struct TcFilter {
	std::uint32_t priority = 0; ///< lower numbers run before
	std::uint16_t protocol = 0; ///< ETH_P_*, host order
	std::uint32_t handle = 0;
	std::uint32_t chain = 0;    ///< ptrig's is in chain 0
	std::string kind;           ///< bpf, u32, flower, ...
	std::string name;           ///< bpf: "pt_lan_in:[42]" or an object's name
	std::uint32_t prog_id = 0;  ///< bpf
	bool direct_action = false; ///< bpf
	std::uint32_t redirect = 0; ///< ifindex that an action of it redirects or mirrors to; 0: none
	bool is_ptrig() const;      ///< at ptrig's handle, of kind bpf, with a program named pt_*
};

/// The first priority, from 1, that none of the others' filters has: there ptrig's belongs. The kernel takes one kind
/// and protocol at a priority.
std::uint32_t tc_free_priority(const std::vector<TcFilter> &filters);

struct TcAttached {
	bool created_clsact = false; ///< the device had none: keep this for tc_detach
	bool replaced = false; ///< a filter of ptrig's was there and has the new program now, with no packet between
};

/// Attach the program `prog_fd` at tc_free_priority(), or replace the program of the ptrig filter that is there
/// (atomically); one of another priority goes once the new one is there. The program's name must begin with pt_: that
/// is how ptrig knows its own. Errors: an `ingress` qdisc in clsact's place when `side` is egress (it would take the
/// filter on its ingress side without a word); a shared filter block.
Result<TcAttached> tc_attach(std::uint32_t ifindex, TcSide side, int prog_fd);

/// Remove ptrig's filter from that side, if it is there. `remove_clsact`: ptrig created the clsact; it is removed too
/// if no filter is left on either side. Done if there is nothing, or no such device. A foreign filter is left alone.
Done tc_detach(std::uint32_t ifindex, TcSide side, bool remove_clsact);

/// Program id of ptrig's filter on that side; unset if it has none (or the device is gone).
Result<std::optional<std::uint32_t>> tc_query(std::uint32_t ifindex, TcSide side);

/// The kind of the qdisc in clsact's place: "clsact", "ingress", or empty: none.
Result<std::string> tc_classifier_qdisc(std::uint32_t ifindex);

/// All filters of that side, in the order in which they run.
Result<std::vector<TcFilter>> tc_filters(std::uint32_t ifindex, TcSide side);

} // namespace ptrig
