// Builds the network, attaches sinks and limits, and runs the generator by BPF_PROG_RUN on live frames.
#include "tests/bench/rig.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "bench/bench.skel.h"
#include "include/ptrig/abi.h"
#include "loader/bpf_link.h"
#include "loader/tc.h"
#include "tests/lab/process.h"

namespace bench {

namespace {

constexpr std::uint64_t kChecked = 16384;

using Mac = std::array<std::uint8_t, 6>;
constexpr Mac kGwWan{2, 0, 0, 0, 0, 0x02}, kRemote{2, 0, 0, 0, 0, 0x10}, kGwLan{2, 0, 0, 0, 0x77, 0x01},
	kHost{2, 0, 0, 0, 0x77, 0x11};

[[noreturn]] void give_up(const std::string &doing, int code) {
	throw std::system_error(code, std::generic_category(), doing);
}

void copy(std::uint8_t (&to)[6], const Mac &from) {
	std::memcpy(to, from.data(), from.size());
}

std::uint32_t address(const char *text) {
	in_addr value{};
	inet_pton(AF_INET, text, &value);
	return value.s_addr;
}

std::uint32_t index_of(const lab::NetNs &where, const char *device) {
	const unsigned index = where.inside([&] { return if_nametoindex(device); });
	if (index == 0)
		throw std::runtime_error(std::string(device) + " is not in " + where.name());
	return index;
}

/// The kernel resolves a device map's entry in the namespace of the thread that writes it.
void set_device(const lab::NetNs &where, int map, std::uint32_t slot, const char *device) {
	const std::uint32_t index = index_of(where, device);
	const int code = where.inside([&] { return bpf_map_update_elem(map, &slot, &index, BPF_ANY) < 0 ? errno : 0; });
	if (code != 0)
		give_up(std::string("note ") + device, code);
}

} // namespace

void pin_to_cpu(int cpu) {
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		give_up("pin to a CPU", errno);
}

Rig::Rig(const std::string &name, bool sinks, std::uint32_t lines, std::uint32_t pairs)
    : gw_(name + "-gw"), host_(name + "-host"), remote_(name + "-remote"),
      bpf_(ptrig_bench_bpf__open(), ptrig_bench_bpf__destroy) {
	if (bpf_) {
		bpf_->rodata->lines = lines;
		bpf_map__set_max_entries(bpf_->maps.bench_lines, lines);
		bpf_map__set_max_entries(bpf_->maps.bench_pairs, 2 * pairs);
	}
	if (!bpf_ || ptrig_bench_bpf__load(bpf_.get()) < 0)
		give_up("load the benchmark's BPF programs", errno);
	connect();
	if (!sinks)
		return;
	quicken();
	// The generator sends as the remote does, out of the remote's device, and as the host does, out of the host's.
	set_device(host_, bpf_map__fd(bpf_->maps.generator_to), 0, "eth0");
	set_device(remote_, bpf_map__fd(bpf_->maps.generator_to), 1, "eth0");
	const int sink = bpf_program__fd(bpf_->progs.bench_sink);
	attach(host_, "eth0", sink);
	attach(remote_, "eth0", sink);
}

Rig::~Rig() = default;

void Rig::connect() {
	gw_.sysctl("ipv4/ip_forward", "1");
	const auto count = std::to_string(libbpf_num_possible_cpus()); // a queue for each CPU
	const std::string queues = " numtxqueues " + count + " numrxqueues " + count;
	lab::must(gw_, {"ip", "-batch", "-"},
		  "link add wan0 address 02:00:00:00:00:02" + queues +
			  " type veth peer name eth0 address 02:00:00:00:00:10" + queues + " netns " + remote_.name() +
			  "\nlink add lan0 address 02:00:00:00:77:01" + queues +
			  " type veth peer name eth0 address 02:00:00:00:77:11" + queues + " netns " + host_.name() +
			  "\n"
			  "addr add 203.0.113.2/24 dev wan0\naddr add 192.168.77.1/24 dev lan0\n"
			  "link set wan0 up\nlink set lan0 up\nroute add default via 203.0.113.10\n"
			  "neigh replace 203.0.113.10 lladdr 02:00:00:00:00:10 dev wan0 nud permanent\n"
			  "neigh replace 192.168.77.11 lladdr 02:00:00:00:77:11 dev lan0 nud permanent\n");
	lab::must(host_, {"ip", "-batch", "-"},
		  "addr add 192.168.77.11/24 dev eth0\nlink set eth0 up\nroute add default via 192.168.77.1\n");
	lab::must(remote_, {"ip", "-batch", "-"},
		  "addr add 203.0.113.10/24 dev eth0\naddr add 198.18.0.0/15 dev lo\nlink set eth0 up\n");
}

void Rig::quicken() {
	// A veth takes redirected frames only if its peer polls (NAPI), which GRO or an XDP program turn on.
	for (const char *device : {"wan0", "lan0"})
		lab::must(gw_, {"ethtool", "-K", device, "gro", "on"});
	for (const lab::NetNs *end : {&host_, &remote_})
		lab::must(*end, {"ethtool", "-K", "eth0", "tx", "off", "gro", "on"});
}

void Rig::attach(const lab::NetNs &where, const std::string &device, int program) {
	const int index = static_cast<int>(index_of(where, device.c_str()));
	const int code = where.inside([&] { return -bpf_xdp_attach(index, program, XDP_FLAGS_DRV_MODE, nullptr); });
	if (code != 0)
		give_up("attach XDP to " + device + " in " + where.name(), code);
}

void Rig::attach_idle() {
	const int program = bpf_program__fd(bpf_->progs.pt_idle);
	for (const auto &[device, side] : {std::pair{"lan0", ptrig::TcSide::kIngress},
					   {"wan0", ptrig::TcSide::kIngress},
					   {"wan0", ptrig::TcSide::kEgress}}) {
		const std::uint32_t index = index_of(gw_, device);
		const auto hook = ptrig::attach_type(ptrig::hook_of(side));
		lab::Fd link(
			gw_.inside([&] { return bpf_link_create(program, static_cast<int>(index), hook, nullptr); }));
		if (link.get() >= 0) {
			links_.push_back(std::move(link));
			continue;
		}
		const auto filter = gw_.inside([&, side = side] { return ptrig::tc_attach(index, side, program); });
		if (!filter)
			throw std::runtime_error(filter.error().what);
	}
}

void Rig::attach_limit(Limit limit) {
	set_device(gw_, bpf_map__fd(bpf_->maps.gateway_to), 0, "lan0");
	set_device(gw_, bpf_map__fd(bpf_->maps.gateway_to), 1, "wan0");
	bench_touch &in = bpf_->bss->touch_in, &out = bpf_->bss->touch_out;
	in = {address("192.168.77.11"), htons(kOpenPort)};
	copy(in.dmac, kHost);
	copy(in.smac, kGwLan);
	out = {address("203.0.113.2"), htons(kOpenPort)};
	copy(out.dmac, kRemote);
	copy(out.smac, kGwWan);
	const auto &progs = bpf_->progs;
	const bpf_program *wan = limit == Limit::kDrop    ? progs.bench_drop
				 : limit == Limit::kTouch ? progs.bench_touch_wan
				 : limit == Limit::kMake  ? progs.bench_make_wan
							  : progs.bench_read_wan;
	const bpf_program *lan = limit == Limit::kDrop   ? progs.bench_drop
				 : limit == Limit::kRead ? progs.bench_read_lan
							 : progs.bench_touch_lan;
	attach(gw_, "wan0", bpf_program__fd(wan));
	attach(gw_, "lan0", bpf_program__fd(lan));
}

void Rig::forget_pairs() {
	const int map = bpf_map__fd(bpf_->maps.bench_pairs);
	constexpr std::uint32_t kABatch = 4096;
	std::vector<ptrig_session_key> keys(kABatch);
	std::vector<ptrig_session> values(kABatch);
	std::uint32_t at = 0, *from = nullptr;
	for (int code = 0; code == 0; from = &at) {
		std::uint32_t count = kABatch;
		code = bpf_map_lookup_and_delete_batch(map, from, &at, keys.data(), values.data(), &count, nullptr);
		if (code != 0 && code != -ENOENT)
			give_up("empty bench_pairs", -code);
	}
}

void Rig::check(const bench_plan &plan, std::uint32_t addr, std::uint16_t port) {
	bench_touch &in = bpf_->bss->expect_in, &out = bpf_->bss->expect_out;
	in = out = {addr, port};
	copy(in.dmac, kHost);
	copy(in.smac, kGwLan);
	copy(out.dmac, kRemote);
	copy(out.smac, kGwWan);
	bpf_->bss->right = bpf_->bss->wrong = 0;
	attach(host_, "eth0", bpf_program__fd(bpf_->progs.bench_check_host));
	attach(remote_, "eth0", bpf_program__fd(bpf_->progs.bench_check_remote));
	send(plan, kChecked);
	for (const lab::NetNs *end : {&host_, &remote_})
		attach(*end, "eth0", bpf_program__fd(bpf_->progs.bench_sink));
	const std::uint64_t right = bpf_->bss->right, wrong = bpf_->bss->wrong;
	if (wrong > 0 || right * 100 < kChecked * 95)
		throw std::runtime_error(gw_.name() + ": of " + std::to_string(kChecked) + " frames " +
					 std::to_string(right) + " arrived right and " + std::to_string(wrong) +
					 " wrong");
}

bench_plan Rig::plan(bench_mode mode, std::uint32_t flows) const {
	bench_plan plan{};
	plan.mode = mode;
	plan.flows = flows;
	plan.wan = address("203.0.113.2");
	plan.host = address("192.168.77.11");
	plan.wan_port = plan.host_port = htons(kOpenPort);
	copy(plan.gw_wan, kGwWan);
	copy(plan.remote_mac, kRemote);
	copy(plan.gw_lan, kGwLan);
	copy(plan.host_mac, kHost);
	return plan;
}

std::uint64_t Rig::received() const {
	std::vector<std::uint64_t> counts(static_cast<std::size_t>(libbpf_num_possible_cpus()));
	const std::uint32_t zero = 0;
	if (bpf_map_lookup_elem(bpf_map__fd(bpf_->maps.received), &zero, counts.data()) < 0)
		give_up("read the sink", errno);
	std::uint64_t sum = 0;
	for (const std::uint64_t count : counts)
		sum += count;
	return sum;
}

void Rig::run(std::uint32_t frames, std::uint32_t batch) {
	std::array<std::uint8_t, BENCH_FRAME> frame{};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size(),
		    .repeat = static_cast<int>(frames), .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = batch);
	if (bpf_prog_test_run_opts(bpf_program__fd(bpf_->progs.bench_generate), &options) < 0)
		give_up("run the generator", errno);
}

Rate Rig::send(const bench_plan &plan, std::uint64_t frames, std::uint32_t batch) {
	bpf_->bss->plan = plan;
	bpf_->bss->sent = 0;
	const std::uint64_t before = received();
	const auto start = std::chrono::steady_clock::now();
	for (std::uint64_t left = frames; left > 0;) {
		const std::uint32_t now = left < kFramesPerCall ? static_cast<std::uint32_t>(left) : kFramesPerCall;
		run(now, batch);
		left -= now;
	}
	const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
	return {frames, received() - before, took.count()};
}

Rate Rig::send_from(const std::vector<int> &cpus, const bench_plan &plan, std::chrono::duration<double> time) {
	bpf_->bss->plan = plan;
	bpf_->bss->plan.by_cpu = 1;
	const std::uint64_t before = received();
	const auto start = std::chrono::steady_clock::now();
	const auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start); };
	std::vector<Rate> rates(cpus.size());
	std::vector<std::thread> threads;
	for (std::size_t i = 0; i < cpus.size(); i++)
		threads.emplace_back([&, i] {
			pin_to_cpu(cpus[i]);
			do {
				run(kFramesPerCall, 64);
				rates[i].sent += kFramesPerCall;
			} while (passed() < time);
			rates[i].seconds = passed().count();
		});
	for (std::thread &thread : threads)
		thread.join();
	Rate sum;
	double per_second = 0;
	for (const Rate &rate : rates) {
		sum.sent += rate.sent;
		per_second += static_cast<double>(rate.sent) / rate.seconds;
	}
	sum.received = received() - before;
	sum.seconds = static_cast<double>(sum.sent) / per_second;
	return sum;
}

Rate Rig::send_for(const bench_plan &plan, std::chrono::duration<double> time, std::uint32_t frames) {
	Rate sum;
	bench_plan next = plan;
	next.random = 1;
	while (sum.sent == 0 || sum.seconds < time.count()) {
		const Rate one = send(next, frames);
		sum.sent += one.sent;
		sum.received += one.received;
		sum.seconds += one.seconds;
	}
	return sum;
}

} // namespace bench
