// Loads the skeletons and runs their programs; see datapath.h.
#include "tests/bpf/datapath.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "bpf/tc.skel.h"
#include "bpf/xdp.skel.h"
#include "loader/program.h"
#include "tests/bpf/world.h"

void PrintTo(enum ptrig_reason reason, std::ostream *out) {
	*out << ptrig::test::name_of(reason);
}

namespace ptrig::test {

namespace {

struct ReasonRow {
	const char *name;
	Kind kind;
};
constexpr ReasonRow kReasons[] = {
#define ROW(name, kind, text) {#name, Kind::kind},
	PTRIG_REASONS(ROW)
#undef ROW
};

void check(int rc, const std::string &what) {
	if (rc < 0)
		throw std::runtime_error(what + ": " + std::strerror(-rc));
}

bool is_l3(const std::string &dev) {
	return dev.starts_with("tun");
}

void set_sizes(bpf_object *object, const Sizes &s) {
	const std::map<std::string, std::uint32_t> entries{{"pt_rules", 2 * s.rules},
							   {"pt_hits", s.rules},
							   {"pt_last", s.rules},
							   {"pt_lists", 2 * s.lists},
							   {"pt_leases", s.leases},
							   {"pt_sessions", 2 * s.sessions},
							   {"pt_halfopen", s.halfopen},
							   {"pt_conns", s.conns},
							   {"pt_hosts", s.hosts},
							   {"pt_pending", s.conns},
							   {"pt_fast", 2 * fast_buckets(s.sessions)},
							   {"pt_acks", PTRIG_ACKS_OF(fast_buckets(s.sessions))}};
	bpf_map *map = nullptr;
	bpf_object__for_each_map(map, object) {
		if (const auto size = entries.find(bpf_map__name(map)); size != entries.end())
			check(bpf_map__set_max_entries(map, size->second), size->first);
	}
}

template <typename Skeleton> void set_constants(Skeleton *skeleton, const Sizes &sizes) {
	const auto hz = tick_hz();
	if (!hz)
		throw std::runtime_error(hz.error().what);
	if constexpr (requires { skeleton->rodata->cfg_tick_hz; })
		skeleton->rodata->cfg_tick_hz = *hz;
	if constexpr (requires { skeleton->rodata->cfg_rules_max; })
		skeleton->rodata->cfg_rules_max = sizes.rules;
	if constexpr (requires { skeleton->rodata->cfg_lists_max; })
		skeleton->rodata->cfg_lists_max = sizes.lists;
	if constexpr (requires { skeleton->rodata->cfg_halfopen_max; })
		skeleton->rodata->cfg_halfopen_max = sizes.halfopen;
	if constexpr (requires { skeleton->rodata->cfg_leases_max; })
		skeleton->rodata->cfg_leases_max = sizes.leases;
	if constexpr (requires { skeleton->rodata->cfg_conns_max; })
		skeleton->rodata->cfg_conns_max = sizes.conns;
	if constexpr (requires { skeleton->rodata->cfg_wait_slots; })
		skeleton->rodata->cfg_wait_slots = sizes.wait_slots;
	if constexpr (requires { skeleton->rodata->cfg_fast_buckets; })
		skeleton->rodata->cfg_fast_buckets = fast_buckets(sizes.sessions);
	if constexpr (requires { skeleton->rodata->cfg_hash_seed; })
		skeleton->rodata->cfg_hash_seed = 0x5eed;
}

void share_maps(bpf_object *from, bpf_object *to) {
	bpf_map *map = nullptr;
	bpf_object__for_each_map(map, to) {
		const bpf_map *twin = bpf_object__find_map_by_name(from, bpf_map__name(map));
		if (twin && !bpf_map__is_internal(map))
			check(bpf_map__reuse_fd(map, bpf_map__fd(twin)), bpf_map__name(map));
	}
}

/// Deletes every key of a hash or trie; writes zeroes over the first `most` values of an array that is not memory.
void clear_map(const bpf_map *map, std::uint32_t most) {
	const int fd = bpf_map__fd(map);
	const auto type = bpf_map__type(map);
	std::vector<std::uint8_t> key(bpf_map__key_size(map)), next(key.size());
	if (type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH || type == BPF_MAP_TYPE_LPM_TRIE ||
	    type == BPF_MAP_TYPE_DEVMAP_HASH) {
		while (bpf_map_get_next_key(fd, nullptr, next.data()) == 0)
			check(bpf_map_delete_elem(fd, next.data()), bpf_map__name(map));
		return;
	}
	if (type != BPF_MAP_TYPE_ARRAY && type != BPF_MAP_TYPE_PERCPU_ARRAY)
		return;
	const std::size_t stride = (bpf_map__value_size(map) + 7) / 8 * 8;
	const std::size_t cpus =
		type == BPF_MAP_TYPE_PERCPU_ARRAY ? static_cast<std::size_t>(libbpf_num_possible_cpus()) : 1;
	std::uint32_t count = std::min(bpf_map__max_entries(map), most);
	const std::vector<std::uint8_t> zero(count * stride * cpus);
	std::vector<std::uint32_t> keys(count);
	std::iota(keys.begin(), keys.end(), 0U);
	check(bpf_map_update_batch(fd, keys.data(), zero.data(), &count, nullptr), bpf_map__name(map));
}

} // namespace

Kind kind_of(enum ptrig_reason reason) {
	return kReasons[reason].kind;
}

const char *name_of(unsigned reason) {
	return reason < PTRIG_REASON_COUNT ? kReasons[reason].name : "(none)";
}

std::set<enum ptrig_reason> &produced() {
	static std::set<enum ptrig_reason> reasons;
	return reasons;
}

Datapath::Datapath(const Sizes &wanted) : sizes(wanted) {
	tc_ = ptrig_tc_bpf::open();
	xdp_ = ptrig_xdp_bpf::open();
	if (!tc_ || !xdp_)
		throw std::runtime_error("cannot open the BPF objects");
	set_sizes(tc_->obj, sizes);
	set_constants(tc_, sizes);
	set_constants(xdp_, sizes);
	check(ptrig_tc_bpf::load(tc_), "load the TC programs");
	share_maps(tc_->obj, xdp_->obj);
	check(ptrig_xdp_bpf::load(xdp_), "load the XDP program");
	map_areas(tc_->obj);
	map_areas(xdp_->obj);
	cpus_ = static_cast<std::size_t>(libbpf_num_possible_cpus());
	for (const Hook hook : {Hook::kLanIn, Hook::kWanIn, Hook::kWanOut, Hook::kLanOut, Hook::kXdpLan, Hook::kXdpWan})
		for (const bool l3 : {false, true})
			if (!is_xdp(hook) || !l3)
				programs_[static_cast<std::size_t>(hook)][l3] = find_program(hook, l3);
	for (const bool l3 : {false, true}) {
		for (const Hook hook : {Hook::kLanIn, Hook::kWanIn, Hook::kWanOut, Hook::kLanOut})
			shims_.emplace(std::pair(hook, l3), TailCall::for_this_machine(program_fd(hook, l3)));
	}
	const auto keep = [](void *self, void *data, std::size_t) {
		ptrig_event event;
		std::memcpy(&event, data, sizeof(event));
		static_cast<Datapath *>(self)->events_.push_back(event);
		return 0;
	};
	ring_ = ring_buffer__new(map_fd("pt_events"), keep, this, nullptr);
	if (!ring_)
		throw std::runtime_error("cannot read pt_events");
}

void Datapath::map_areas(bpf_object *object) {
	bpf_map *map = nullptr;
	bpf_object__for_each_map(map, object) {
		if (bpf_map__is_internal(map) || !(bpf_map__map_flags(map) & BPF_F_MMAPABLE))
			continue;
		Area area{.entries = bpf_map__max_entries(map), .value_size = bpf_map__value_size(map)};
		area.bytes = (area.value_size + 7) / 8 * 8 * area.entries;
		void *memory = ::mmap(nullptr, area.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
		if (memory == MAP_FAILED)
			throw std::runtime_error(std::string("map ") + bpf_map__name(map));
		area.base = static_cast<std::byte *>(memory);
		if (!areas_.emplace(bpf_map__name(map), area).second)
			::munmap(memory, area.bytes); // shared by both objects
	}
}

Datapath::~Datapath() {
	for (const auto &[name, area] : areas_)
		::munmap(area.base, area.bytes);
	ring_buffer__free(ring_);
	ptrig_xdp_bpf::destroy(xdp_);
	ptrig_tc_bpf::destroy(tc_);
}

int Datapath::map_fd(const char *name) const {
	for (const bpf_object *object : {tc_->obj, xdp_->obj})
		if (const bpf_map *map = bpf_object__find_map_by_name(object, name))
			return bpf_map__fd(map);
	throw std::runtime_error(std::string("no map ") + name);
}

void Datapath::clear() {
	for (bpf_object *object : {tc_->obj, xdp_->obj}) {
		bpf_map *map = nullptr;
		bpf_object__for_each_map(map, object) {
			if (!bpf_map__is_internal(map) && !areas_.contains(bpf_map__name(map)))
				clear_map(map, UINT32_MAX);
		}
	}
	for (const auto &[name, area] : areas_)
		std::memset(area.base, 0, area.bytes);
	events();
}

std::vector<std::uint64_t> Datapath::counters() const {
	std::array<std::uint32_t, PTRIG_REASON_COUNT> reasons{};
	std::vector<std::uint64_t> values(PTRIG_REASON_COUNT * cpus_);
	std::uint32_t next = 0, count = PTRIG_REASON_COUNT;
	check(bpf_map_lookup_batch(map_fd("pt_counters"), nullptr, &next, reasons.data(), values.data(), &count,
				   nullptr),
	      "read pt_counters");
	std::vector<std::uint64_t> sums(PTRIG_REASON_COUNT);
	for (std::size_t i = 0; i < values.size(); i++)
		sums[i / cpus_] += values[i];
	return sums;
}

std::uint64_t Datapath::counter(enum ptrig_reason reason) const {
	const std::uint32_t key = reason;
	std::vector<std::uint64_t> values(cpus_);
	check(bpf_map_lookup_elem(map_fd("pt_counters"), &key, values.data()), "read pt_counters");
	return std::accumulate(values.begin(), values.end(), std::uint64_t{0});
}

std::vector<ptrig_event> Datapath::events() {
	ring_buffer__consume(ring_);
	return std::exchange(events_, {});
}

int Datapath::program_fd(const char *name) const {
	const bpf_program *program = bpf_object__find_program_by_name(tc_->obj, name);
	if (!program)
		throw std::runtime_error(std::string("no program ") + name);
	return bpf_program__fd(program);
}

int Datapath::program_fd(Hook hook, bool l3) const {
	return programs_.at(static_cast<std::size_t>(hook)).at(l3);
}

int Datapath::find_program(Hook hook, bool l3) const {
	static const std::map<Hook, const char *> names{{Hook::kLanIn, "pt_lan_in"},   {Hook::kWanIn, "pt_wan_in"},
							{Hook::kWanOut, "pt_wan_out"}, {Hook::kLanOut, "pt_lan_out"},
							{Hook::kXdpLan, "pt_xdp_lan"}, {Hook::kXdpWan, "pt_xdp_wan"}};
	const std::string name = names.at(hook) + std::string(l3 ? "_l3" : "");
	const bpf_program *program =
		bpf_object__find_program_by_name(is_xdp(hook) ? xdp_->obj : tc_->obj, name.c_str());
	if (!program)
		throw std::runtime_error("no program " + name);
	return bpf_program__fd(program);
}

/// As ifindex(), for the world's own devices, which stay.
std::uint32_t Datapath::index_of(const std::string &dev) {
	const auto [found, is_new] = indices_.try_emplace(dev, 0);
	if (is_new)
		found->second = ifindex(dev);
	return found->second;
}

Datapath::Run Datapath::run(Hook hook, const std::string &dev, const Bytes &frame, const std::string &from,
			    bool sent_on) {
	Bytes out(frame.size() + 256);
	__sk_buff skb{};
	xdp_md xdp{};
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	int fd = program_fd(hook, is_l3(dev));
	if (is_xdp(hook)) {
		xdp.data_end = static_cast<std::uint32_t>(frame.size());
		xdp.ingress_ifindex = index_of(dev);
		opts.ctx_in = &xdp;
		opts.ctx_size_in = sizeof(xdp);
	} else {
		skb.ifindex = index_of(dev);
		skb.ingress_ifindex = from == kOwn ? 0 : index_of(from.empty() ? dev : from);
		skb.mark = marks.mark;
		skb.priority = marks.priority;
		skb.gso_size = marks.gso_size;
		opts.ctx_in = opts.ctx_out = &skb;
		opts.ctx_size_in = opts.ctx_size_out = sizeof(skb);
		const bool leaves = hook == Hook::kWanOut || hook == Hook::kLanOut;
		if (is_l3(dev) || (leaves && !sent_on))
			fd = shims_.at({hook, is_l3(dev)}).fd();
	}
	opts.data_in = frame.data();
	opts.data_size_in = static_cast<std::uint32_t>(frame.size());
	opts.data_out = out.data();
	opts.data_size_out = static_cast<std::uint32_t>(out.size());
	check(bpf_prog_test_run_opts(fd, &opts), "test run");
	out.resize(opts.data_size_out);
	return {static_cast<std::int32_t>(opts.retval), std::move(out), {skb.mark, skb.priority, skb.gso_size}};
}

Datapath::Timing Datapath::time(Hook hook, const std::string &dev, const Bytes &frame, const std::string &from,
				std::uint32_t repeat) {
	constexpr std::size_t kHeaders = 42; // Ethernet, IP without options, UDP
	const Bytes header(frame.begin(), frame.begin() + std::min(kHeaders, frame.size()));
	const auto type = is_xdp(hook) ? BPF_PROG_TYPE_XDP : BPF_PROG_TYPE_SCHED_CLS;
	const TailCall again = TailCall::over_and_over(type, header, program_fd(hook, is_l3(dev)));
	__sk_buff skb{};
	skb.ifindex = index_of(dev);
	skb.ingress_ifindex = index_of(from.empty() ? dev : from);
	xdp_md xdp{};
	xdp.data_end = static_cast<std::uint32_t>(frame.size());
	xdp.ingress_ifindex = skb.ifindex;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(),
		    .data_size_in = static_cast<std::uint32_t>(frame.size()), .repeat = static_cast<int>(repeat));
	opts.ctx_in = is_xdp(hook) ? static_cast<const void *>(&xdp) : &skb;
	opts.ctx_size_in = is_xdp(hook) ? sizeof(xdp) : sizeof(skb);
	check(bpf_prog_test_run_opts(again.fd(), &opts), "timed test run");
	return {static_cast<std::int32_t>(opts.retval), opts.duration};
}

ptrig_admin Datapath::admin(ptrig_admin arguments) {
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	opts.ctx_in = &arguments;
	opts.ctx_size_in = sizeof(arguments);
	const bpf_program *program = bpf_object__find_program_by_name(tc_->obj, "pt_admin");
	check(bpf_prog_test_run_opts(bpf_program__fd(program), &opts), "pt_admin");
	check(static_cast<int>(opts.retval), "pt_admin returned");
	const bpf_program *release = bpf_object__find_program_by_name(tc_->obj, "pt_release");
	const Bytes frame(64);
	__sk_buff context{};
	context.mark = arguments.sessions + arguments.halfopen + arguments.asked;
	LIBBPF_OPTS(bpf_test_run_opts, after, .data_in = frame.data(), .data_size_in = 64, .ctx_in = &context,
		    .ctx_size_in = sizeof(context));
	if (context.mark)
		check(bpf_prog_test_run_opts(bpf_program__fd(release), &after), "pt_release");
	return arguments;
}

} // namespace ptrig::test
