// The two BPF objects: open, configure, load, pin. Nothing is attached here.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <string>

#include <bpf/libbpf.h>

#include "include/ptrig/abi.h"
#include "loader/result.h"

struct ptrig_tc_bpf;
struct ptrig_xdp_bpf;

namespace ptrig {

/// What of [gateway] is fixed when a gateway comes up: the maps' sizes, and what the programs are loaded with.
struct MapSizes {
	std::uint32_t rules = 0, leases = 0, sessions = 0, halfopen = 0, lists = 0;
	std::uint32_t hash_seed = 0; ///< of pt_fast, which remote machines are not to know
	std::uint32_t zone = 0;      ///< of conntrack
	bool operator==(const MapSizes &) const = default;
};

/// Buckets of each side in pt_fast: a power of two with two ways for each session, so that nearly all find one.
constexpr std::uint32_t fast_buckets(std::uint32_t max_sessions) {
	return std::bit_ceil((2 * max_sessions + PTRIG_FAST_WAYS - 1) / PTRIG_FAST_WAYS);
}

/// Places of one host among the triggers that wait for their remotes' answers: a thirty-second of them all.
constexpr std::uint32_t wait_slots(std::uint32_t max_leases) {
	return std::max(max_leases / 32, 16U);
}

/// libbpf's own messages go to this library instead of stderr. Called before any other libbpf call.
void capture_libbpf_log();

/// Jiffies a second (CONFIG_HZ): what the kernel says its tick is, in no unit of user space (USER_HZ is another).
Result<std::uint32_t> tick_hz();

/// Why the maps pinned in `dir` are not those that these programs expect, made with these sizes ("pt_leases has another
/// layout"); empty if they are.
Result<std::string> maps_misfit(const std::string &dir, const MapSizes &sizes);

struct SkeletonCloser {
	void operator()(ptrig_tc_bpf *skeleton) const;
	void operator()(ptrig_xdp_bpf *skeleton) const;
};

/// Both objects, loaded.
class Programs {
public:
	/// `reuse_dir`: maps that are pinned there are used and keep their sizes; empty: all maps are new. Errors
	/// are one line with the remedy: what must be loaded, which privilege, or the verifier's last word.
	static Result<Programs> load(const MapSizes &sizes, const std::string &reuse_dir);
	/// Pin the programs in `dir`/prog, over those that are there, and the maps that are not yet pinned in `dir`.
	Done pin(const std::string &dir) const;

private:
	std::unique_ptr<ptrig_tc_bpf, SkeletonCloser> tc_;
	std::unique_ptr<ptrig_xdp_bpf, SkeletonCloser> xdp_;
};

} // namespace ptrig
