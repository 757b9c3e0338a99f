// The programs under test, loaded once with maps of given sizes, and their maps. Nothing is pinned or attached.
#pragma once

#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "include/ptrig/abi.h"
#include "include/ptrig/reasons.h"
#include "loader/map.h"
#include "tests/bpf/packet.h"
#include "tests/bpf/shim.h"

struct ptrig_tc_bpf;
struct ptrig_xdp_bpf;

/// Failure messages name reasons.
void PrintTo(enum ptrig_reason reason, std::ostream *out);

namespace ptrig::test {

enum class Kind { PASS, UP, AGAIN, REDIRECT, DROP, GRANT, REFUSE, END };
Kind kind_of(enum ptrig_reason reason);
const char *name_of(unsigned reason);

struct Sizes {
	std::uint32_t rules = 64, lists = 64, leases = 64, sessions = 128, halfopen = 128, conns = 64, hosts = 64,
		      hairpins = 64;
};

/// The programs; those of XDP last.
enum class Hook { kLanIn, kWanIn, kWanOut, kLanOut, kXdpLan, kXdpWan };

inline const std::string kOwn = "(own)";

inline bool is_xdp(Hook hook) {
	return hook >= Hook::kXdpLan;
}

class Datapath {
public:
	explicit Datapath(const Sizes &sizes = {});
	~Datapath();
	Datapath(const Datapath &) = delete;
	Datapath &operator=(const Datapath &) = delete;

	/// Every map as if just loaded.
	void clear();
	int map_fd(const char *name) const;
	/// A second handle on one of the maps.
	template <typename K, typename V> Map<K, V> map(const char *name) const {
		return Map<K, V>(Fd(::dup(map_fd(name))), name);
	}
	/// pt_fast, mapped into memory.
	MappedArray<ptrig_fast_bucket> &fast() { return fast_; }
	/// Packets by reason so far, all CPUs.
	std::vector<std::uint64_t> counters() const;
	/// Records of pt_events since the last call.
	std::vector<ptrig_event> events();

	struct Run {
		std::int32_t action;
		Bytes packet;
	};
	/// One run of a program over a frame on a device; the device's kind decides between the two forms of a TC
	/// program. `from` is the device it came in by (WAN and LAN egress), kOwn if the gateway itself has sent it.
	Run run(Hook hook, const std::string &dev, const Bytes &frame, const std::string &from, std::uint16_t tc_index);
	/// The same with the same frame `repeat` times in one call; how long each took.
	struct Timing {
		std::int32_t action;
		std::uint32_t ns;
	};
	Timing time(Hook hook, const std::string &dev, const Bytes &frame, const std::string &from,
		    std::uint16_t tc_index, std::uint32_t repeat);
	/// The tc_index with which LAN ingress leaves a frame.
	std::uint16_t run_lan_in_for_tc_index(const std::string &dev, const Bytes &frame);
	/// pt_admin; the results are in the returned copy.
	ptrig_admin admin(ptrig_admin arguments);

	const Sizes sizes;

private:
	int program_fd(Hook hook, bool l3) const;
	std::uint32_t index_of(const std::string &dev);
	ptrig_tc_bpf *tc_ = nullptr;
	ptrig_xdp_bpf *xdp_ = nullptr;
	std::map<std::pair<Hook, bool>, TailCall> shims_; ///< by hook and "is an L3 device"
	std::map<bool, TailCall> lan_in_;
	std::map<std::string, std::uint32_t> indices_;
	MappedArray<ptrig_fast_bucket> fast_;
	ring_buffer *ring_ = nullptr;
	std::vector<ptrig_event> events_;
};

/// Reasons that some packet of this process has produced.
std::set<enum ptrig_reason> &produced();

} // namespace ptrig::test
