// The programs under test, loaded once with maps of given sizes, and their maps. Nothing is pinned or attached.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "include/ptrig/abi.h"
#include "include/ptrig/reasons.h"
#include "loader/map.h"
#include "tests/bpf/packet.h"
#include "tests/bpf/shim.h"

struct bpf_object;
struct ptrig_tc_bpf;
struct ptrig_xdp_bpf;

/// Failure messages name reasons.
void PrintTo(enum ptrig_reason reason, std::ostream *out);

namespace ptrig::test {

enum class Kind { PASS, ENTRY, FAST, AGAIN, REWRITE, REDIRECT, DROP, GRANT, REFUSE, END };
Kind kind_of(enum ptrig_reason reason);
const char *name_of(unsigned reason);

struct Sizes {
	std::uint32_t rules = 64, lists = 64, leases = 64, sessions = 128, halfopen = 128, conns = 64, hosts = 64;
	std::uint32_t wait_slots = 1U << 31; ///< so many that two triggers never meet in one
};

/// The programs; those of XDP last.
enum class Hook { kLanIn, kWanIn, kWanOut, kLanOut, kXdpLan, kXdpWan };

inline const std::string kOwn = "(own)";

inline bool is_xdp(Hook hook) {
	return hook >= Hook::kXdpLan;
}

/// The values of a map as memory, for as long as its programs are loaded. Each is padded to 8 bytes.
template <typename V> class Memory {
public:
	Memory(std::byte *base, std::size_t size) : base_(base), size_(size) {}
	std::size_t size() const { return size_; }
	V &operator[](std::size_t i) const { return *reinterpret_cast<V *>(base_ + i * ((sizeof(V) + 7) / 8 * 8)); }

private:
	std::byte *base_;
	std::size_t size_;
};

class Datapath {
public:
	explicit Datapath(const Sizes &sizes = {});
	~Datapath();
	Datapath(const Datapath &) = delete;
	Datapath &operator=(const Datapath &) = delete;

	/// Every map as if just loaded.
	void clear();
	int map_fd(const char *name) const;
	/// A program of the TC object.
	int program_fd(const char *name) const;
	/// A second handle on one of the maps.
	template <typename K, typename V> Map<K, V> map(const char *name) const {
		return Map<K, V>(Fd(::dup(map_fd(name))), name);
	}
	/// A map with BPF_F_MMAPABLE.
	template <typename V> Memory<V> memory(const char *name) const {
		const Area &area = areas_.at(name);
		if (area.value_size != sizeof(V))
			throw std::runtime_error(std::string("wrong type for ") + name);
		return {area.base, area.entries};
	}
	Memory<ptrig_fast_bucket> fast() const { return memory<ptrig_fast_bucket>("pt_fast"); }
	/// All there is in a hash.
	template <typename K, typename V> std::vector<std::pair<K, V>> entries(const char *name) const {
		std::vector<K> keys(64);
		std::vector<V> values(keys.size());
		std::vector<std::pair<K, V>> all;
		std::uint32_t from = 0, next = 0;
		bool first = true;
		for (int rc = 0; rc == 0; first = false) {
			auto count = static_cast<std::uint32_t>(keys.size());
			rc = bpf_map_lookup_batch(map_fd(name), first ? nullptr : &from, &next, keys.data(),
						  values.data(), &count, nullptr);
			if (rc < 0 && rc != -ENOENT)
				throw std::runtime_error(std::string("read ") + name);
			for (std::uint32_t i = 0; i < count; i++)
				all.emplace_back(keys[i], values[i]);
			from = next;
		}
		return all;
	}
	/// Writes entries of a hash.
	template <typename K, typename V>
	void put(const char *name, const std::vector<K> &keys, const std::vector<V> &values) const {
		auto count = static_cast<std::uint32_t>(keys.size());
		if (count && bpf_map_update_batch(map_fd(name), keys.data(), values.data(), &count, nullptr) < 0)
			throw std::runtime_error(std::string("write ") + name);
	}
	/// Packets by reason so far, all CPUs.
	std::vector<std::uint64_t> counters() const;
	std::uint64_t counter(enum ptrig_reason reason) const;
	/// Records of pt_events since the last call.
	std::vector<ptrig_event> events();

	/// What the kernel keeps beside a packet.
	struct Marks {
		std::uint32_t mark = 0, priority = 0;
		std::uint32_t gso_size = 0; ///< not 0: merged of packets with so much payload each
		bool operator==(const Marks &) const = default;
	};
	struct Run {
		std::int32_t action;
		Bytes packet;
		Marks marks; ///< afterwards; TC only
	};
	Marks marks; ///< of the packets of the runs that follow
	/// One run of a program over a frame on a device; the device's kind decides between the two forms of a TC
	/// program. `from` is the device it came in by (WAN and LAN egress), kOwn if the gateway itself has sent it.
	/// `sent_on`: the frame comes from the fast path, which has marked it for egress.
	Run run(Hook hook, const std::string &dev, const Bytes &frame, const std::string &from, bool sent_on = false);
	/// The same with the same frame `repeat` times in one call; how long each took.
	struct Timing {
		std::int32_t action;
		std::uint32_t ns;
	};
	Timing time(Hook hook, const std::string &dev, const Bytes &frame, const std::string &from,
		    std::uint32_t repeat);
	/// pt_admin, and pt_release for what it has listed; the results are in the returned copy.
	ptrig_admin admin(ptrig_admin arguments);

	const Sizes sizes;

private:
	struct Area {
		std::byte *base = nullptr;
		std::size_t bytes = 0, entries = 0, value_size = 0;
	};
	int program_fd(Hook hook, bool l3) const;
	int find_program(Hook hook, bool l3) const;
	void map_areas(bpf_object *object);
	std::uint32_t index_of(const std::string &dev);
	ptrig_tc_bpf *tc_ = nullptr;
	ptrig_xdp_bpf *xdp_ = nullptr;
	std::map<std::pair<Hook, bool>, TailCall> shims_; ///< by hook and "is an L3 device"
	std::map<std::string, std::uint32_t> indices_;
	std::array<std::array<int, 2>, 6> programs_{}; ///< by hook and "is an L3 device"
	std::map<std::string, Area, std::less<>> areas_;
	std::size_t cpus_ = 0;
	ring_buffer *ring_ = nullptr;
	std::vector<ptrig_event> events_;
};

/// Reasons that some packet of this process has produced.
std::set<enum ptrig_reason> &produced();

} // namespace ptrig::test
