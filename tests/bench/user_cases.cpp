// What user space costs: applying many rules while packets pass, and a daemon that has nothing to do.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <fmt/format.h>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/bench/cases.h"
#include "tests/bench/contender.h"
#include "tests/lab/sockets.h"

namespace bench {

namespace {

using namespace std::chrono_literals;
using Seconds = std::chrono::duration<double>;
using lab::Clock;

/// A session's packets in from its remote's own socket, 50,000 a second, from CPU 1; how many until it goes.
class Paced {
public:
	explicit Paced(const Rig &rig)
	    : socket_(lab::udp_socket(rig.remote(), {"198.18.0.0", 10000})), thread_([this] { run(); }) {}
	Paced(const Paced &) = delete;
	Paced &operator=(const Paced &) = delete;
	~Paced() { stop(); }
	std::uint64_t stop() {
		stop_ = true;
		if (thread_.joinable())
			thread_.join();
		return sent_;
	}

private:
	void run() {
		lab::udp_connect(socket_, {"203.0.113.2", kOpenPort});
		char data[22] = {};
		iovec part{data, sizeof(data)};
		std::array<mmsghdr, 50> batch{};
		for (mmsghdr &message : batch)
			message.msg_hdr = {nullptr, 0, &part, 1, nullptr, 0, 0};
		for (auto next = Clock::now(); !stop_; next += 1ms) {
			std::this_thread::sleep_until(next);
			const int sent = sendmmsg(socket_.get(), batch.data(), batch.size(), 0);
			sent_ += sent > 0 ? static_cast<std::uint64_t>(sent) : 0;
		}
	}
	lab::Fd socket_;
	std::atomic<bool> stop_ = false;
	std::atomic<std::uint64_t> sent_ = 0;
	std::thread thread_;
};

void run_apply(const Options &options, Report &report) {
	report.begin("apply");
	std::vector<double> seconds;
	std::uint64_t sent = 0, lost = 0;
	for (int round = 0; round < std::min(options.rounds, 3); round++) {
		Wanted wanted{1, 65536};
		wanted.max_rules = 65536;
		Ptrig ptrig("tc", wanted);
		wanted.rules = 65536;
		std::ofstream(ptrig.file()) << ptrig.config(wanted) << std::flush;
		const std::uint64_t before = ptrig.rig().received();
		Paced paced(ptrig.rig());
		std::this_thread::sleep_for(200ms);
		std::thread applying([&] {
			pin_to_cpu(0);
			const auto start = Clock::now();
			ptrig.ptrig({"apply", ptrig.file()});
			seconds.push_back(Seconds(Clock::now() - start).count());
		});
		applying.join();
		std::this_thread::sleep_for(200ms);
		const std::uint64_t in = paced.stop();
		lab::eventually(2s, [&] { return ptrig.rig().received() - before >= in; });
		sent += in;
		lost += in - std::min(in, ptrig.rig().received() - before);
	}
	report.at_most("apply of 65536 rules", 1, median(seconds), "s");
	report.at_most(fmt::format("packets lost meanwhile, of {} at 50,000/s", sent), 0, static_cast<double>(lost),
		       "packets");
}

/// User and system time of a process so far, in clock ticks.
std::uint64_t ticks_of(pid_t pid) {
	std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
	std::string text((std::istreambuf_iterator<char>(file)), {});
	std::istringstream fields(text.substr(text.rfind(')') + 2));
	std::string skipped;
	for (int i = 3; i < 14; i++)
		fields >> skipped;
	std::uint64_t user = 0, system = 0;
	fields >> user >> system;
	return user + system;
}

/// Nanoseconds on a CPU: finer than clock ticks.
double busy_seconds(pid_t pid) {
	std::uint64_t ns = 0;
	std::ifstream("/proc/" + std::to_string(pid) + "/schedstat") >> ns;
	return ns ? static_cast<double>(ns) * 1e-9
		  : static_cast<double>(ticks_of(pid)) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double rss_mib(pid_t pid) {
	std::ifstream file("/proc/" + std::to_string(pid) + "/status");
	for (std::string line; std::getline(file, line);)
		if (line.starts_with("VmRSS:"))
			return std::stod(line.substr(6)) / 1024;
	throw std::runtime_error("no VmRSS");
}

/// A lease for each of `leases` remotes.
void grant(Ptrig &ptrig, std::uint32_t leases) {
	bench_plan plan = ptrig.rig().plan(BENCH_OUT, leases);
	plan.remote_port = kTriggerPort;
	ptrig.rig().send(plan, leases);
	if (ptrig.status().at("leases") != leases)
		throw std::runtime_error("not the leases that were triggered: " + ptrig.status().dump());
}

void run_daemon(const Options &options, Report &report) {
	report.begin("daemon");
	Wanted wanted{0, 65536};
	wanted.contacted = true;
	Ptrig ptrig("tc", wanted);
	grant(ptrig, 1000);
	lab::Process daemon(ptrig.rig().gateway(), ptrig.command({"run", "-c", ptrig.file()}));
	const double time = options.quick ? 2 : 10;
	std::this_thread::sleep_for(2s); // it has started
	const double before = busy_seconds(daemon.pid());
	const auto start = Clock::now();
	std::this_thread::sleep_for(Seconds(time));
	const double share = (busy_seconds(daemon.pid()) - before) / Seconds(Clock::now() - start).count();
	if (ptrig.status().at("leases") != 1000)
		throw std::runtime_error("the leases did not last: " + ptrig.status().dump());
	report.at_most("daemon, idle with 1000 leases", 0.1, share * 100, "% of a CPU");
	report.at_most("the same daemon's memory", 16, rss_mib(daemon.pid()), "MiB resident");
	daemon.signal(SIGTERM);
	if (!daemon.wait(20s))
		throw std::runtime_error("the daemon does not end");
}

} // namespace

std::vector<Case> user_cases() {
	return {{"apply", run_apply}, {"daemon", run_daemon}};
}

} // namespace bench
