// See map.h.
#include "loader/map.h"

namespace ptrig {

Done wait_for_programs() {
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	Fd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "pt_wait", sizeof(std::uint32_t), sizeof(std::uint64_t), 1, &opts));
	if (!inner)
		return system_error("make a map to wait with", -inner.get());
	opts.inner_map_fd = static_cast<std::uint32_t>(inner.get());
	Fd outer(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "pt_wait_outer", sizeof(std::uint32_t),
				sizeof(std::uint32_t), 1, &opts));
	if (!outer)
		return system_error("make a map of maps to wait with", -outer.get());
	const std::uint32_t key = 0, value = static_cast<std::uint32_t>(inner.get());
	if (const int rc = bpf_map_update_elem(outer.get(), &key, &value, BPF_ANY); rc < 0)
		return system_error("wait for running programs", -rc);
	return {};
}

} // namespace ptrig
