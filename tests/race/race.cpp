// What the two CPUs do; see race.h. What must be true afterwards is in race_books.cpp.
#include "tests/race/race.h"

#include <barrier>
#include <cstdlib>
#include <iterator>
#include <stdexcept>
#include <thread>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>

namespace ptrig::test {

namespace {

constexpr std::uint16_t kA1 = 1, kA2 = 2, kB1 = 4, kAll = 7;
/// Machine 0, the same machine under a second address, and another machine.
const Machine kMachines[] = {{kHost, kHostMac}, {kStranger, kHostMac}, {kHost2, kHost2Mac}};
const std::string kRemotes[] = {kRemote, kRemote2};

/// A rule of the suite: who triggers it, and where its WAN port leads.
struct Service {
	const char *name;
	std::uint16_t trigger, wan, host;
	std::uint16_t hosts;
};
constexpr Service kServices[] = {
	{"first", 5001, 6001, 6001, kA1 | kA2}, // moves between one machine's two addresses
	{"second", 5002, 6002, 7002, kB1},      // is never anybody else's
	{"taken", 5003, 6003, 6003, kAll},      {"contacted", 5004, 6004, 7004, kAll},
	{"closing", 5005, 6005, 6005, kAll},    {"confirmed", 5006, 6006, 7006, kAll},
};
constexpr Protos kBoth = PTRIG_TCP | PTRIG_UDP;

Rule rule_of(const Service &service) {
	const std::string name = service.name;
	const PortRange wan{service.wan, service.wan, kBoth};
	Rule rule{.name = name,
		  .trigger = {PortRange{service.trigger, service.trigger, kBoth}},
		  .open = {test::open(wan, service.host)}};
	if (name != "first" && name != "second")
		rule.conflict = Conflict::kTakeover;
	if (name == "taken")
		rule.on_close = OnClose::kKill;
	if (name == "contacted")
		rule.remotes.kind = Remotes::Kind::kContacted;
	if (name == "closing")
		rule.close = Close::kConnection;
	if (name == "confirmed")
		rule.confirm = true;
	return rule;
}

std::vector<int> usable_cpus() {
	cpu_set_t set;
	CPU_ZERO(&set);
	::sched_getaffinity(0, sizeof(set), &set);
	std::vector<int> cpus;
	for (int cpu = 0; cpu < CPU_SETSIZE && cpus.size() < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus.push_back(cpu);
	return cpus;
}

race_tuple tuple(const std::string &from, std::uint16_t sport, const std::string &to, std::uint16_t dport) {
	return {be(from), be(to), htons(sport), htons(dport)};
}

} // namespace

std::uint64_t Race::setting(const char *name, std::uint64_t otherwise) {
	const char *text = std::getenv(name);
	return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

std::string Race::mac_of(__be32 address) {
	for (const Machine &machine : kMachines)
		if (be(machine.address) == address)
			return machine.mac;
	throw std::runtime_error("a frame of nobody's");
}

Race::Race() : cpus_(usable_cpus()) {
	sizes_ = {.leases = 4, .sessions = 8, .halfopen = 8, .conns = 4, .hosts = 4};
}

void Race::SetUp() {
	DatapathTest::SetUp();
	if (IsSkipped() || HasFatalFailure())
		return;
	if (cpus_.size() < 2)
		GTEST_SKIP() << "needs two CPUs";
	with_fast(false);
	knows(kStranger, kHostMac);
	std::vector<race_machine> machines;
	for (const Machine &machine : kMachines) {
		race_machine &m = machines.emplace_back(race_machine{.address = be(machine.address)});
		const Bytes mac = mac_bytes(machine.mac);
		std::copy(mac.begin(), mac.end(), m.mac);
	}
	driver_ = std::make_unique<Driver>(dp(), machines);
	for (const Service &s : kServices)
		driver_->port(s.wan, {htons(s.host), s.hosts});
}

/// A few of the rules, with limits that are met at once or never.
Config Race::random_config() {
	Config config;
	config.limits = {.leases_per_host = pick(2) ? 0U : 2U,
			 .sessions_per_host = pick(2) ? 0U : 4U,
			 .new_sessions_per_second = pick(2) ? 0U : 1000000U};
	for (const unsigned n : services_) {
		Rule rule = rule_of(kServices[n]);
		if (!pick(4))
			rule.session_limit = 2;
		if (!pick(4))
			rule.refresh = Refresh::kTraffic;
		config.rules.push_back(rule);
	}
	return config;
}

/// Of a generation: some times shorter than a configuration may have them, so that they are over within a round.
void Race::random_times(unsigned generation) {
	const auto time = [&] { return pick(4) ? 60000000000U : 1000000U * (1 + pick(8)); };
	const auto rules = dp().memory<ptrig_rule>("pt_rules");
	for (std::size_t i = 0; i < services_.size(); i++)
		rules[generation * dp().sizes.rules + i].timeout_ns = time();
	auto configs = dp().map<std::uint32_t, ptrig_config>("pt_config");
	ptrig_config config = configs.lookup(generation).value().value();
	config.tcp_transitory_ns = time();
	config.udp_ns = time();
	config.halfopen_ns = time();
	ASSERT_TRUE(configs.update(generation, config));
}

race_frame Race::lan_frame() {
	constexpr std::uint8_t flags[] = {kSyn, kSyn, kSyn, kAck, kFin | kAck, kRst};
	const Service &service = kServices[services_[pick(static_cast<unsigned>(services_.size()))]];
	race_frame frame{.proto = pick(2) ? std::uint8_t{IPPROTO_TCP} : std::uint8_t{IPPROTO_UDP},
			 .flags = flags[pick(std::size(flags))],
			 .hook = RACE_LAN_IN};
	unsigned who = pick(3);
	while (!(service.hosts >> who & 1))
		who = pick(3);
	const std::string &host = kMachines[who].address, &remote = kRemotes[pick(2)];
	const auto trigger_port = static_cast<std::uint16_t>(pick(4) ? 5100 + pick(2) : service.host);
	const unsigned what = pick(16);
	if (what < 7) {
		frame.t = tuple(host, trigger_port, remote, service.trigger);
	} else if (what < 12) {
		frame.t = tuple(host, service.host, remote, static_cast<std::uint16_t>(4001 + pick(2)));
	} else if (what < 14) {
		frame.t = tuple(kMachines[pick(3)].address, static_cast<std::uint16_t>(3000 + pick(2)), kWan,
				service.wan);
	} else {
		frame.t = tuple(remote, service.trigger, host, trigger_port);
		frame.hook = RACE_LAN_OUT;
	}
	return frame;
}

race_frame Race::wan_frame() {
	constexpr std::uint8_t flags[] = {kSyn, kSyn, kSyn, kSyn, kSyn, kSyn, kSyn, kAck, kFin | kAck, kRst};
	const Service &service = kServices[services_[pick(static_cast<unsigned>(services_.size()))]];
	const std::string &remote = kRemotes[pick(2)];
	race_frame frame{.proto = pick(2) ? std::uint8_t{IPPROTO_TCP} : std::uint8_t{IPPROTO_UDP},
			 .flags = flags[pick(std::size(flags))],
			 .hook = RACE_WAN_IN};
	if (pick(16))
		frame.t = tuple(remote, static_cast<std::uint16_t>(4000 + pick(2)), kWan, service.wan);
	else /* the answer to a trigger */
		frame.t = tuple(remote, service.trigger, kWan, static_cast<std::uint16_t>(5100 + pick(2)));
	return frame;
}

std::optional<race_frame> Race::answer_to(const race_frame &wan_frame) {
	const race_tuple &t = wan_frame.t;
	for (const Service &s : kServices) {
		if (htons(s.wan) != t.dport)
			continue;
		unsigned who = pick(3);
		while (!(s.hosts >> who & 1))
			who = pick(3);
		return race_frame{.t = {be(kMachines[who].address), t.saddr, htons(s.host), t.sport},
				  .proto = wan_frame.proto,
				  .flags = kSyn | kAck,
				  .hook = RACE_LAN_IN};
	}
	return std::nullopt;
}

void Race::begin(std::uint64_t seed) {
	random_.seed(seed);
	services_.clear();
	const unsigned first = pick(std::size(kServices)), count = 2 + pick(3);
	for (unsigned i = 0; i < count; i++)
		services_.push_back((first + i) % std::size(kServices));
	config_ = random_config();
	std::vector<Rule> rules = config_.rules;
	apply(rules, 0);
	random_times(0);
	// The other generation lacks a rule, and has other limits: leases and sessions end by it.
	config_ = random_config();
	rules.pop_back();
	apply(rules, 1, false);
	random_times(1);
	lan_.clear();
	wan_.clear();
	for (unsigned i = 0; i < 64; i++) {
		lan_.push_back(lan_frame());
		wan_.push_back(wan_frame());
	}
	const bool flush = pick(2); // without it, what is left behind stays
	for (auto *frames : {&lan_, &wan_})
		for (race_frame &frame : *frames)
			frame.flush = flush;
	driver_->draws(Side::kLan, lan_);
	driver_->draws(Side::kWan, wan_);
}

void Race::admin_here(ptrig_admin arguments, bool release) const {
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &arguments, .ctx_size_in = sizeof(arguments));
	if (bpf_prog_test_run_opts(dp().program_fd("pt_admin"), &opts) < 0 || opts.retval)
		throw std::runtime_error("pt_admin");
	const std::uint8_t frame[64] = {};
	__sk_buff context{};
	context.mark = arguments.sessions + arguments.halfopen;
	if (!release || !context.mark)
		return;
	LIBBPF_OPTS(bpf_test_run_opts, after, .data_in = frame, .data_size_in = sizeof(frame), .ctx_in = &context,
		    .ctx_size_in = sizeof(context));
	if (bpf_prog_test_run_opts(dp().program_fd("pt_release"), &after) < 0)
		throw std::runtime_error("pt_release");
}

void Race::act(std::size_t cpu, std::uint64_t seed, std::uint64_t frames, const Send &send) const {
	stay_on(cpus_[cpu]);
	std::minstd_rand random(static_cast<unsigned>(seed * 2 + cpu + 1));
	const auto states = dp().memory<ptrig_state>("pt_state");
	for (std::uint64_t sent = 0; sent < frames;) {
		sent += send(cpu, random);
		const unsigned what = random() % 16;
		if (what < 3)
			admin_here({.op = PTRIG_ADMIN_CLOSE_SESSIONS, .reason = PTRIG_CLOSED}, random() % 2);
		else if (what == 3)
			admin_here({.op = PTRIG_ADMIN_CLOSE_LEASES, .reason = PTRIG_CLOSED}, true);
		else if (what < 7)
			admin_here({.op = PTRIG_ADMIN_SWEEP, .reason = PTRIG_CLOSED}, random() % 4);
		else if (what == 7)
			states[0].active = random() % 2;
	}
}

void Race::both_cpus(std::uint64_t seed, std::uint64_t frames) {
	both_cpus(seed, frames, [this](std::size_t, std::minstd_rand &random) {
		const auto count = static_cast<std::uint32_t>(8 + random() % 32);
		driver_->run(Side::kLan, count);
		driver_->run(Side::kWan, 2 * count);
		return 3 * count;
	});
}

void Race::both_cpus(std::uint64_t seed, std::uint64_t frames, const Send &send) {
	std::barrier start(2);
	std::exception_ptr errors[2];
	std::vector<std::thread> threads;
	for (std::size_t i = 0; i < 2; i++)
		threads.emplace_back([&, i] {
			try {
				start.arrive_and_wait();
				act(i, seed, frames, send);
			} catch (...) {
				errors[i] = std::current_exception();
			}
		});
	for (std::thread &thread : threads)
		thread.join();
	for (const std::exception_ptr &error : errors)
		if (error)
			std::rethrow_exception(error);
}

} // namespace ptrig::test
