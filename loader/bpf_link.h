// BPF links on devices, pinned on a bpffs so that they outlive their loader: XDP in native mode, and tcx, the kernel's
// own list of TC programs on a device (6.6 and later), which runs before the filters of a clsact or ingress qdisc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <linux/bpf.h>

#include "loader/result.h"
#include "loader/tc.h"

namespace ptrig {

enum class LinkHook { kXdp, kTcIngress, kTcEgress };
/// TC's hook of that side.
inline LinkHook hook_of(TcSide side) {
	return side == TcSide::kIngress ? LinkHook::kTcIngress : LinkHook::kTcEgress;
}
/// The kernel's name for it; Debian 12's linux/bpf.h has no word for tcx.
bpf_attach_type attach_type(LinkHook hook);

/// A pinned link.
struct PinnedLink {
	std::uint32_t prog_id = 0;
	std::uint32_t ifindex = 0; ///< 0: its device is gone, or something detached it
	bool operator==(const PinnedLink &) const = default;
};
/// The link pinned at `pin_path`; unset if nothing is pinned there.
Result<std::optional<PinnedLink>> link_query(const std::string &pin_path);

struct LinkAttached {
	bool replaced = false; ///< the link was there and has the new program now, with no packet between
};
/// Attach `prog_fd` and pin the link, or give the link that is pinned there and still attached to this device the new
/// program. A pinned link of another or vanished device is removed first. XDP: in native mode, never falling back to
/// generic; errors: another program in the slot (names interface and program id), or the driver's refusal. tcx: before
/// the programs that are there; a link that was there keeps its place.
Result<LinkAttached> link_attach(std::uint32_t ifindex, LinkHook hook, int prog_fd, const std::string &pin_path);

/// Detach the link pinned there and remove the pin. Done if there is none.
Done link_detach(const std::string &pin_path);

/// Ids of the programs on that side of the device by tcx, in the order in which they run; unset: the kernel has no tcx
/// (before 6.6).
Result<std::optional<std::vector<std::uint32_t>>> tcx_programs(std::uint32_t ifindex, TcSide side);

} // namespace ptrig
