// See program.h. Load errors become one line with a remedy here: the only reader of libbpf's log.
#include "loader/program.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpf/tc.skel.h"
#include "bpf/xdp.skel.h"
#include "loader/map.h"
#include "loader/pins.h"

namespace ptrig {

namespace {

thread_local std::string *log_sink = nullptr; ///< where this thread's libbpf messages go; null: nowhere

int keep_log(enum libbpf_print_level level, const char *format, va_list args) {
	if (!log_sink || level == LIBBPF_DEBUG)
		return 0;
	va_list again;
	va_copy(again, args);
	const int size = vsnprintf(nullptr, 0, format, again);
	va_end(again);
	if (size <= 0)
		return 0;
	const std::size_t at = log_sink->size();
	log_sink->resize(at + static_cast<std::size_t>(size) + 1);
	vsnprintf(log_sink->data() + at, static_cast<std::size_t>(size) + 1, format, args);
	log_sink->pop_back();
	return size;
}

/// Collects libbpf's messages of this thread while it lives.
struct LogSink {
	std::string text;
	LogSink() { log_sink = &text; }
	~LogSink() { log_sink = nullptr; }
	LogSink(const LogSink &) = delete;
	LogSink &operator=(const LogSink &) = delete;
};

/// What stands between `before` and the next of `stops` in the log, at its last mention; empty if it is not said.
std::string quoted(const std::string &log, const std::string &before, const char *stops) {
	const std::size_t at = log.rfind(before);
	if (at == std::string::npos)
		return {};
	const std::size_t from = at + before.size();
	return log.substr(from, log.find_first_of(stops, from) - from);
}

/// The line in which the verifier says what is wrong: the last of its log but for the statistics.
std::string verifier_line(const std::string &log) {
	constexpr std::string_view kBegin = "-- BEGIN PROG LOAD LOG --\n";
	const std::size_t begin = log.rfind(kBegin);
	const std::size_t end = log.find("-- END PROG LOAD LOG --", begin == std::string::npos ? 0 : begin);
	if (begin == std::string::npos || end == std::string::npos)
		return {};
	std::string_view text(log);
	text = text.substr(begin + kBegin.size(), end - begin - kBegin.size());
	while (!text.empty()) {
		const std::size_t cut = text.rfind('\n') + 1; // 0 if there is none
		const std::string_view line = text.substr(cut);
		const auto starts = [&](std::string_view with) { return line.substr(0, with.size()) == with; };
		if (!line.empty() && !starts("processed ") && !starts("verification time") && !starts("stack depth"))
			return std::string(line);
		text = text.substr(0, cut ? cut - 1 : 0);
	}
	return {};
}

tl::unexpected<Error> load_error(const char *object, int code, const std::string &log) {
	const std::string doing = fmt::format("load the {} programs", object);
	if (log.find("failed to iterate BTF objects") != std::string::npos && code == EPERM)
		return fail(doing +
			    ": the conntrack functions are in modules, and looking there needs root (CAP_SYS_ADMIN)");
	if (const auto kfunc = quoted(log, "extern (func ksym) '", "'"); !kfunc.empty())
		return fail(
			fmt::format("{}: the kernel has no function {}: modprobe nf_conntrack nf_nat (a kernel >= 6.1 "
				    "with CONFIG_DEBUG_INFO_BTF_MODULES)",
				    doing, kfunc));
	if (log.find("valid kernel BTF") != std::string::npos)
		return fail(doing + ": the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)");
	if (const auto line = verifier_line(log); !line.empty()) {
		const auto name = quoted(log, "libbpf: prog '", "'");
		if (line.find("calling kernel function") != std::string::npos)
			return fail(fmt::format("{}: {}: {}: modprobe nf_conntrack nf_nat", doing, name, line));
		if (line.find("invalid func unknown") != std::string::npos ||
		    line.find("unknown func") != std::string::npos)
			return fail(fmt::format("{}: {}: {}: a kernel >= 6.1 is needed", doing, name, line));
		if (line.find("!root") != std::string::npos)
			return fail(fmt::format("{}: {}: {}: needs root", doing, name, line));
		return fail(fmt::format("{}: the verifier refuses {}: {}", doing, name, line));
	}
	if (code == EPERM || code == EACCES)
		return fail(doing + ": " + std::strerror(code) +
			    ": needs root (CAP_SYS_ADMIN, CAP_BPF, CAP_NET_ADMIN, "
			    "CAP_PERFMON in the first user namespace)");
	if (const auto map = quoted(log, "libbpf: map '", "'"); !map.empty())
		return fail(fmt::format("{}: make {}: {}", doing, map, std::strerror(code)));
	return system_error(doing, code);
}

/// What the programs of either object take for granted.
template <typename Skeleton> void set_constants(Skeleton &skeleton, const MapSizes &sizes, std::uint32_t hz) {
	auto &constants = *skeleton.rodata;
	constants.cfg_tick_hz = hz;
	constants.cfg_rules_max = sizes.rules;
	constants.cfg_lists_max = sizes.lists;
	constants.cfg_halfopen_max = sizes.halfopen;
	constants.cfg_leases_max = sizes.leases;
	constants.cfg_conns_max = sizes.leases;
	constants.cfg_wait_slots = wait_slots(sizes.leases);
	constants.cfg_fast_buckets = fast_buckets(sizes.sessions);
	constants.cfg_zone = sizes.zone;
	constants.cfg_hash_seed = sizes.hash_seed;
}

using EntriesByMap = std::map<std::string, std::uint32_t>;

/// Of the maps whose size is not fixed.
EntriesByMap entries_by_map(const MapSizes &sizes) {
	return {
		{"pt_leases", sizes.leases},
		{"pt_conns", sizes.leases},
		{"pt_pending", sizes.leases},
		{"pt_fast", 2 * fast_buckets(sizes.sessions)},
		{"pt_acks", PTRIG_ACKS_OF(fast_buckets(sizes.sessions))},
		{"pt_hosts", 3 * sizes.leases},
		{"pt_sessions", 2 * sizes.sessions},
		{"pt_halfopen", sizes.halfopen},
		{"pt_lists", 2 * sizes.lists},
		{"pt_rules", 2 * sizes.rules},
		{"pt_hits", sizes.rules},
		{"pt_last", sizes.rules},
	};
}

Done size_maps(bpf_object *object, const MapSizes &sizes) {
	for (const auto &[name, entries] : entries_by_map(sizes)) {
		bpf_map *map = bpf_object__find_map_by_name(object, name.c_str());
		if (!map)
			return fail("give the maps their sizes: the programs have no " + name);
		bpf_map__set_max_entries(map, entries);
	}
	return {};
}

/// Maps that exist already instead of the object's own: those of `sibling`, and those that are pinned in `reuse_dir`.
Done reuse_maps(bpf_object *object, bpf_object *sibling, const std::string &reuse_dir) {
	bpf_map *map = nullptr;
	bpf_object__for_each_map(map, object) {
		const char *name = bpf_map__name(map);
		if (bpf_map__is_internal(map))
			continue;
		if (const bpf_map *twin = sibling ? bpf_object__find_map_by_name(sibling, name) : nullptr) {
			if (const int rc = bpf_map__reuse_fd(map, bpf_map__fd(twin)); rc < 0)
				return system_error(std::string("share ") + name, -rc);
			continue;
		}
		if (reuse_dir.empty() || access((reuse_dir + "/" + name).c_str(), F_OK) != 0)
			continue;
		auto pinned = open_pin(reuse_dir + "/" + name, Access::kWrite);
		if (!pinned)
			return tl::unexpected(std::move(pinned.error()));
		if (const int rc = bpf_map__reuse_fd(map, pinned->get()); rc < 0)
			return system_error(std::string("use the pinned ") + name, -rc);
	}
	return {};
}

/// Why a map that is pinned in `dir` is not this one, made with so many entries; empty if it is.
Result<std::string> misfit(const std::string &dir, const bpf_map *map, const EntriesByMap &entries) {
	const std::string name = bpf_map__name(map);
	const std::string path = fmt::format("{}/{}", dir, name);
	if (access(path.c_str(), F_OK) != 0)
		return "there is no " + name;
	auto fd = open_pin(path, Access::kRead);
	if (!fd)
		return tl::unexpected(std::move(fd.error()));
	bpf_map_info info{};
	std::uint32_t size = sizeof(info);
	if (const int rc = bpf_obj_get_info_by_fd(fd->get(), &info, &size); rc < 0)
		return system_error("look at " + name, -rc);
	const auto flags = info.map_flags & ~std::uint32_t{BPF_F_RDONLY_PROG}; // the kernel's own on devmaps
	if (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
	    info.value_size != bpf_map__value_size(map) || flags != bpf_map__map_flags(map))
		return name + " has another layout";
	const auto sized = entries.find(name);
	if (info.max_entries != (sized == entries.end() ? bpf_map__max_entries(map) : sized->second))
		return name + " has another size";
	return std::string{};
}

} // namespace

void capture_libbpf_log() {
	libbpf_set_print(keep_log);
}

Result<std::uint32_t> tick_hz() {
	// The coarse clocks advance once a tick, and their resolution is the tick (posix_get_coarse_res, TICK_NSEC).
	timespec tick{};
	if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) < 0) {
		const int code = errno;
		return system_error("ask for the kernel's tick", code);
	}
	constexpr long kSecond = 1000000000L;
	if (tick.tv_sec != 0 || tick.tv_nsec < kSecond / 10000 || tick.tv_nsec > kSecond / 10)
		return fail(fmt::format("the kernel's tick of {}.{:09} s cannot be", tick.tv_sec, tick.tv_nsec));
	return static_cast<std::uint32_t>((kSecond + tick.tv_nsec / 2) / tick.tv_nsec);
}

void SkeletonCloser::operator()(ptrig_tc_bpf *skeleton) const {
	ptrig_tc_bpf__destroy(skeleton);
}
void SkeletonCloser::operator()(ptrig_xdp_bpf *skeleton) const {
	ptrig_xdp_bpf__destroy(skeleton);
}

Result<std::string> maps_misfit(const std::string &dir, const MapSizes &sizes) {
	LogSink sink;
	const std::unique_ptr<ptrig_tc_bpf, SkeletonCloser> tc(ptrig_tc_bpf__open());
	const std::unique_ptr<ptrig_xdp_bpf, SkeletonCloser> xdp(ptrig_xdp_bpf__open());
	if (!tc || !xdp)
		return system_error("read the BPF programs");
	const auto entries = entries_by_map(sizes);
	for (const bpf_object *object : {tc->obj, xdp->obj}) {
		const bpf_map *map = nullptr;
		bpf_object__for_each_map(map, object) {
			if (bpf_map__is_internal(map))
				continue;
			if (auto why = misfit(dir, map, entries); !why || !why->empty())
				return why;
		}
	}
	return std::string{};
}

/// Do BPF programs of this kernel see conntrack's zones (6.11)? nf_conntrack may be a module with types of its own.
bool kernel_knows_zones() {
	struct Free {
		void operator()(btf *types) const { btf__free(types); }
	};
	using Types = std::unique_ptr<btf, Free>;
	const auto has_zone = [](const btf *types) {
		const int id = types ? btf__find_by_name_kind(types, "bpf_ct_opts", BTF_KIND_STRUCT) : -1;
		const btf_type *type = id > 0 ? btf__type_by_id(types, static_cast<__u32>(id)) : nullptr;
		for (__u32 i = 0; type && i < btf_vlen(type); i++)
			if (std::string_view(btf__name_by_offset(types, btf_members(type)[i].name_off)) == "ct_zone_id")
				return true;
		return false;
	};
	const Types kernel(btf__load_vmlinux_btf());
	if (has_zone(kernel.get()))
		return true;
	const Types module(btf__load_module_btf("nf_conntrack", kernel.get()));
	return has_zone(module.get());
}

Result<Programs> Programs::load(const MapSizes &sizes, const std::string &reuse_dir) {
	auto hz = tick_hz();
	if (!hz)
		return tl::unexpected(std::move(hz.error()));
	if (sizes.zone != 0 && !kernel_knows_zones())
		return fail(
			fmt::format("conntrack_zone = {}: BPF programs of this kernel do not see conntrack's zones; "
				    "it takes kernel 6.11",
				    sizes.zone));
	LogSink sink;
	Programs programs;
	programs.tc_.reset(ptrig_tc_bpf__open());
	if (!programs.tc_)
		return load_error("tc", errno, sink.text);
	programs.xdp_.reset(ptrig_xdp_bpf__open());
	if (!programs.xdp_)
		return load_error("xdp", errno, sink.text);
	set_constants(*programs.tc_, sizes, *hz);
	set_constants(*programs.xdp_, sizes, *hz);
	bpf_object *tc = programs.tc_->obj, *xdp = programs.xdp_->obj;
	const auto load = [&](const char *which, bpf_object *object) -> Done {
		const int rc = bpf_object__load(object);
		return rc < 0 ? Done(load_error(which, -rc, sink.text)) : Done{};
	};
	// tc has all the maps.
	auto loaded = size_maps(tc, sizes)
			      .and_then([&] { return reuse_maps(tc, nullptr, reuse_dir); })
			      .and_then([&] { return load("tc", tc); })
			      .and_then([&] { return reuse_maps(xdp, tc, reuse_dir); })
			      .and_then([&] { return load("xdp", xdp); });
	if (!loaded)
		return tl::unexpected(std::move(loaded.error()));
	return programs;
}

Done Programs::pin(const std::string &dir) const {
	for (const bpf_object *object : {tc_->obj, xdp_->obj}) {
		bpf_map *map = nullptr;
		bpf_object__for_each_map(map, object) {
			const std::string path = dir + "/" + bpf_map__name(map);
			if (bpf_map__is_internal(map) || access(path.c_str(), F_OK) == 0)
				continue;
			if (auto done = pin_over(bpf_map__fd(map), path); !done)
				return done;
		}
		bpf_program *program = nullptr;
		bpf_object__for_each_program(program, object) {
			const std::string path = dir + "/prog/" + bpf_program__name(program);
			if (auto done = pin_over(bpf_program__fd(program), path); !done)
				return done;
		}
	}
	return {};
}

} // namespace ptrig
