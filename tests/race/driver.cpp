// See driver.h.
#include "tests/race/driver.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include <arpa/inet.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "tests/bpf/world.h"
#include "tests/race/race.skel.h"

namespace ptrig::test {

namespace {

void check(int rc, const char *what) {
	if (rc < 0)
		throw std::runtime_error(std::string(what) + ": " + std::strerror(-rc));
}

void copy_mac(const std::string &text, std::uint8_t *to) {
	const Bytes bytes = mac_bytes(text);
	std::copy(bytes.begin(), bytes.end(), to);
}

template <typename V> void put(const bpf_map *map, std::uint32_t index, const V &value) {
	check(bpf_map_update_elem(bpf_map__fd(map), &index, &value, BPF_ANY), bpf_map__name(map));
}

} // namespace

void stay_on(int cpu) {
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (::sched_setaffinity(0, sizeof(set), &set) < 0)
		throw std::runtime_error("sched_setaffinity");
}

Driver::Driver(const Datapath &datapath, const std::vector<race_machine> &machines)
    : object_(ptrig_race_bpf::open()), lan_(ifindex("lan0")), wan_(ifindex("wan0")) {
	if (!object_)
		throw std::runtime_error("cannot open tests/race/race.bpf.c");
	std::memcpy(&object_->rodata->race_wan_address, ip_bytes(kWan).data(), 4);
	for (std::size_t i = 0; i < machines.size() && i < RACE_MACHINES; i++)
		std::memcpy(&object_->rodata->race_machines[i], &machines[i], sizeof(race_machine));
	copy_mac(kLanMac, object_->rodata->race_lan_mac);
	copy_mac(kWanMac, object_->rodata->race_wan_mac);
	check(ptrig_race_bpf::load(object_), "load tests/race/race.bpf.c");
	const char *programs[] = {"pt_lan_in", "pt_lan_out", "pt_wan_in", "pt_wan_out"};
	for (std::uint32_t hook = 0; hook < RACE_HOOKS; hook++)
		put(object_->maps.race_hooks, hook, datapath.program_fd(programs[hook]));
}

Driver::~Driver() {
	ptrig_race_bpf::destroy(object_);
}

void Driver::draws(Side side, const std::vector<race_frame> &frames) const {
	const bpf_map *map = side == Side::kLan ? object_->maps.race_lan_draws : object_->maps.race_wan_draws;
	for (std::uint32_t i = 0; i < RACE_DRAWS; i++)
		put(map, i, frames.at(i % frames.size()));
}

void Driver::port(std::uint16_t wan_port, race_port port) const {
	put(object_->maps.race_ports, wan_port, port);
	put(object_->maps.race_receivers, ntohs(port.host_port), port.hosts);
}

int Driver::receiver_fd() const {
	return bpf_program__fd(object_->progs.race_receiver);
}

void Driver::seed(std::uint64_t seed) const {
	std::vector<race_cpu> cpus(static_cast<std::size_t>(libbpf_num_possible_cpus()));
	for (std::size_t i = 0; i < cpus.size(); i++)
		cpus[i].random = (seed + 1) * 0x9e3779b97f4a7c15U + (i + 1) * 0xd6e8feb86659fd93U;
	const std::uint32_t zero = 0;
	check(bpf_map_update_elem(bpf_map__fd(object_->maps.race_cpus), &zero, cpus.data(), BPF_ANY), "race_cpus");
}

void Driver::run(const bpf_program *program, Side side, std::uint32_t frames, std::uint32_t times) const {
	std::uint8_t frame[64] = {};
	__sk_buff skb{};
	const bool lan = side == Side::kLan;
	copy_mac(lan ? kLanMac : kWanMac, frame); // for this machine: the kernel looks at it once a run
	frame[12] = 0x08;
	skb.ifindex = lan ? lan_ : wan_;
	skb.ingress_ifindex = lan ? wan_ : lan_;
	skb.cb[0] = frames;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof(frame), .ctx_in = &skb,
		    .ctx_size_in = sizeof(skb), .repeat = static_cast<int>(times));
	check(bpf_prog_test_run_opts(bpf_program__fd(program), &opts), "run tests/race/race.bpf.c");
}

void Driver::run(Side side, std::uint32_t frames) const {
	run(side == Side::kLan ? object_->progs.race_lan : object_->progs.race_wan, side, frames, frames + 1);
}

void Driver::forget(std::uint32_t times) const {
	run(object_->progs.race_forget, Side::kWan, 0, times);
}

void Driver::refresh(std::uint32_t times) const {
	run(object_->progs.race_refresh, Side::kWan, 0, times);
}

bool Driver::stall(const std::vector<int> &cpus, std::uint32_t per_second) {
	perf_event_attr attr{};
	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_CPU_CLOCK;
	attr.size = sizeof(attr);
	attr.sample_period = 1000000000U / per_second;
	stalls_.clear();
	for (const int cpu : cpus) {
		Fd fd(static_cast<int>(::syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC)));
		if (!fd || ::ioctl(fd.get(), PERF_EVENT_IOC_SET_BPF, bpf_program__fd(object_->progs.race_stall)) < 0 ||
		    ::ioctl(fd.get(), PERF_EVENT_IOC_ENABLE, 0) < 0)
			return false;
		stalls_.push_back(std::move(fd));
	}
	return true;
}

race_fault Driver::fault() const {
	const std::uint32_t zero = 0;
	race_fault out{};
	check(bpf_map_lookup_elem(bpf_map__fd(object_->maps.race_faults), &zero, &out), "race_faults");
	return out;
}

race_cpu Driver::counts() const {
	const std::uint32_t zero = 0;
	std::vector<race_cpu> cpus(static_cast<std::size_t>(libbpf_num_possible_cpus()));
	check(bpf_map_lookup_elem(bpf_map__fd(object_->maps.race_cpus), &zero, cpus.data()), "race_cpus");
	race_cpu sum{};
	for (const race_cpu &cpu : cpus) {
		for (unsigned i = 0; i < RACE_HOOKS; i++)
			sum.frames[i] += cpu.frames[i];
		sum.led += cpu.led;
		sum.accelerated += cpu.accelerated;
		sum.swapped += cpu.swapped;
		sum.stalls += cpu.stalls;
		sum.made += cpu.made;
		sum.stayed += cpu.stayed;
	}
	return sum;
}

} // namespace ptrig::test
