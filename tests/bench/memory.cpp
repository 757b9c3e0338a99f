// Reads the pinned maps as the kernel describes them.
#include "tests/bench/memory.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/lab/netns.h"

namespace bench {

namespace {

std::uint64_t charged(int map) {
	std::ifstream file("/proc/self/fdinfo/" + std::to_string(map));
	for (std::string word; file >> word;)
		if (word == "memlock:") {
			std::uint64_t bytes = 0;
			file >> bytes;
			return bytes;
		}
	return 0;
}

/// A value takes a multiple of eight bytes, of each CPU where each has its own; an array has no keys to keep.
std::uint64_t content(const bpf_map_info &map) {
	const bool per_cpu = map.type == BPF_MAP_TYPE_PERCPU_ARRAY || map.type == BPF_MAP_TYPE_PERCPU_HASH;
	const bool keyless = map.type == BPF_MAP_TYPE_ARRAY || map.type == BPF_MAP_TYPE_PERCPU_ARRAY;
	const std::uint64_t cpus = per_cpu ? static_cast<std::uint64_t>(libbpf_num_possible_cpus()) : 1;
	const std::uint64_t value = (map.value_size + 7) / 8 * 8 * cpus, key = keyless ? 0 : (map.key_size + 7) / 8 * 8;
	return (key + value) * map.max_entries;
}

} // namespace

Memory memory_of(const std::string &pins) {
	Memory memory;
	for (const auto &pin : std::filesystem::directory_iterator(pins)) {
		if (!pin.is_regular_file() || !pin.path().filename().string().starts_with("pt_"))
			continue;
		const lab::Fd map(bpf_obj_get(pin.path().c_str()));
		bpf_map_info info{};
		std::uint32_t size = sizeof(info);
		if (map.get() < 0 || bpf_obj_get_info_by_fd(map.get(), &info, &size) < 0)
			throw std::runtime_error("read " + pin.path().string());
		memory.charged += charged(map.get());
		memory.content += content(info);
	}
	return memory;
}

} // namespace bench
