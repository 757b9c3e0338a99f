// One sd-event loop: the network, the events, a timer a second, signals, monitors. Every handler returns 0:
// a failure is said and tried again, it never ends the loop.
#include "loader/daemon.h"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <fmt/format.h>
#include <memory>
#include <optional>
#include <pthread.h>
#include <sys/epoll.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "loader/gateway.h"
#include "loader/line_limit.h"
#include "loader/monitor.h"
#include "loader/netfilter_follower.h"
#include "loader/netlink.h"
#include "loader/system.h"
#include "loader/usable_config.h"

namespace ptrig {

namespace {

constexpr std::uint64_t kSecond = 1000000; ///< microseconds, as sd-event counts
constexpr std::uint64_t kDebounce = kSecond / 20;
constexpr std::uint64_t kStormDebounce = kSecond / 2; ///< of what others may change thousands of times a second
constexpr std::uint64_t kBusy = kSecond / 10;         ///< when another process holds the writers' lock
/// Times what a sweep that found no more took: looking is at most 2 % of a CPU.
constexpr std::uint64_t kSweepPause = 50;
/// Counts and tables are compared so often, or less: a pause is so many times what it took, a quarter of a percent of a
/// CPU.
constexpr std::uint64_t kAuditEvery = 10 * kSecond, kAuditPause = 400;
constexpr std::uint64_t kSafetyNet = 30 * kSecond;
constexpr unsigned kLinesPerSecond = 20;

struct EventUnref {
	void operator()(sd_event *event) const { sd_event_unref(event); }
};
struct SourceUnref {
	void operator()(sd_event_source *source) const { sd_event_source_disable_unref(source); }
};
using Source = std::unique_ptr<sd_event_source, SourceUnref>;

/// The daemon's signals, blocked so that the loop reads them; as before at the end.
class BlockedSignals {
public:
	BlockedSignals() {
		sigset_t set;
		sigemptyset(&set);
		for (const int signal : {SIGTERM, SIGINT, SIGHUP})
			sigaddset(&set, signal);
		pthread_sigmask(SIG_BLOCK, &set, &before_);
	}
	~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
	BlockedSignals(const BlockedSignals &) = delete;
	BlockedSignals &operator=(const BlockedSignals &) = delete;

private:
	sigset_t before_{};
};

std::uint64_t monotonic_us() {
	timespec now{};
	clock_gettime(CLOCK_MONOTONIC, &now);
	return static_cast<std::uint64_t>(now.tv_sec) * kSecond + static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

double realtime_s() {
	timespec now{};
	clock_gettime(CLOCK_REALTIME, &now);
	return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

class Daemon {
public:
	Daemon(const DaemonOptions &options, const DaemonLog &log) : options_(options), log_(log) {}
	Done run();

private:
	Done start();
	Done find_gateway();
	Done watch();
	template <int (Daemon::*handler)()> Done watch_fd(Result<int> fd, const char *what);
	template <int (Daemon::*handler)()> Done every(Source &source, std::uint64_t first_us, const char *what);

	int on_network();
	int on_netfilter();
	int on_events();
	int on_monitors();
	int on_second();
	void audit();
	int on_reconcile();
	void on_signal(int signal);

	void reconcile();
	void reconcile_within(std::uint64_t us);
	void tell_netfilter();
	void reload();
	void say(int priority, const std::string &line);
	void say_limited(const std::string &line, const std::string &rule = "");
	void say_trouble(std::string &last, const char *doing, const std::string &trouble);
	void note_trouble();
	void report(const EventView &event);
	void tell_manager(const char *state);

	DaemonOptions options_;
	DaemonLog log_;
	std::optional<DaemonLock> lock_;
	std::optional<NetworkMonitor> network_;
	std::optional<NetfilterFollower> netfilter_;
	std::optional<Gateway> gateway_;
	std::optional<MonitorServer> monitors_;
	// After what they watch: sources go before their descriptors are closed.
	std::unique_ptr<sd_event, EventUnref> loop_;
	std::vector<Source> sources_;
	Source second_, reconcile_;
	std::uint64_t sweep_all_at_ = 0; ///< monotonic; leases are swept each second all the same
	std::uint64_t audit_at_ = 0;     ///< monotonic
	LineLimit limit_{kLinesPerSecond};
	std::optional<Error> lost_; ///< why there is nothing left to do
	// Of the repeated work what failed last, so that it is said once and not every second.
	std::string network_trouble_, sweep_trouble_, events_trouble_, reload_trouble_, helpers_trouble_,
		chain_trouble_, audit_trouble_, rest_trouble_;
};

void Daemon::say(int priority, const std::string &line) {
	log_(priority, line);
}

void Daemon::say_limited(const std::string &line, const std::string &rule) {
	const std::uint64_t now_s = monotonic_us() / kSecond;
	if (const auto dropped = limit_.left_out(now_s); dropped > 0)
		say(LOG_NOTICE, fmt::format("{} lines left out", dropped));
	if (!line.empty() && limit_.take(now_s, rule))
		say(LOG_INFO, line);
}

void Daemon::say_trouble(std::string &last, const char *doing, const std::string &trouble) {
	if (trouble == last)
		return;
	if (trouble.empty())
		say(LOG_NOTICE, fmt::format("{}: works again", doing));
	else
		say(LOG_ERR, fmt::format("{}: {}", doing, trouble));
	last = trouble;
	note_trouble();
}

/// For `status`, which cannot ask. That it cannot be written is no reason to do less.
void Daemon::note_trouble() {
	std::vector<std::string> lines;
	for (const auto &[doing, trouble] :
	     {std::pair("follow the network", &network_trouble_), std::pair("remove what has ended", &sweep_trouble_),
	      std::pair("report events", &events_trouble_), std::pair("compare its counts", &audit_trouble_),
	      std::pair("reload, the old rules go on", &reload_trouble_)})
		if (!trouble->empty())
			lines.push_back(fmt::format("{}: {}", doing, *trouble));
	discard(write_trouble(runtime_file(options_.pin_dir, "trouble"), lines), "the journal has it");
}

void Daemon::tell_manager(const char *state) {
	const auto config = gateway_->config();
	sd_notifyf(0, "%sSTATUS=following %zu rules%s", state, config ? (*config)->rules.size() : 0,
		   network_trouble_.empty() ? "" : (", with trouble: " + network_trouble_).c_str());
}

Done Daemon::find_gateway() {
	std::vector<std::string> notes;
	auto found = Gateway::open_or_up(options_.pin_dir, options_.config_path, notes);
	for (const auto &note : notes)
		say(LOG_NOTICE, note);
	if (!found)
		return tl::unexpected(std::move(found.error()));
	if (notes.empty())
		say(LOG_NOTICE, "following the gateway that is up");
	gateway_ = std::move(*found);
	return {};
}

Done Daemon::start() {
	auto lock = DaemonLock::take(runtime_file(options_.pin_dir, "daemon"));
	if (!lock)
		return tl::unexpected(lock.error());
	lock_ = std::move(*lock);
	// Before anything is read of the network, so that no change is missed.
	auto network = NetworkMonitor::open();
	if (!network)
		return tl::unexpected(network.error());
	network_ = std::move(*network);
	auto netfilter = NetfilterFollower::open();
	if (!netfilter)
		return tl::unexpected(netfilter.error());
	netfilter_ = std::move(*netfilter);
	if (auto found = find_gateway(); !found)
		return found;
	auto monitors = MonitorServer::listen(monitor_path(options_.pin_dir));
	if (!monitors)
		return tl::unexpected(monitors.error());
	monitors_ = std::move(*monitors);
	return {};
}

template <int (Daemon::*handler)()> Done Daemon::watch_fd(Result<int> fd, const char *what) {
	if (!fd)
		return within(std::string("watch ") + what, std::move(fd.error()));
	sd_event_source *source = nullptr;
	const sd_event_io_handler_t call = [](sd_event_source *, int, std::uint32_t, void *self) {
		return (static_cast<Daemon *>(self)->*handler)();
	};
	if (const int code = sd_event_add_io(loop_.get(), &source, *fd, EPOLLIN, call, this); code < 0)
		return system_error(std::string("watch ") + what, -code);
	sources_.emplace_back(source);
	return {};
}

template <int (Daemon::*handler)()> Done Daemon::every(Source &timer, std::uint64_t first_us, const char *what) {
	sd_event_source *source = nullptr;
	const sd_event_time_handler_t call = [](sd_event_source *, std::uint64_t, void *self) {
		return (static_cast<Daemon *>(self)->*handler)();
	};
	if (const int code = sd_event_add_time_relative(loop_.get(), &source, CLOCK_MONOTONIC, first_us, kDebounce / 5,
							call, this);
	    code < 0)
		return system_error(std::string("set the timer of ") + what, -code);
	timer.reset(source);
	return {};
}

Done Daemon::watch() {
	sd_event *loop = nullptr;
	if (const int code = sd_event_new(&loop); code < 0)
		return system_error("make the event loop", -code);
	loop_.reset(loop);
	const sd_event_signal_handler_t on_signal = [](sd_event_source *, const signalfd_siginfo *info, void *self) {
		static_cast<Daemon *>(self)->on_signal(static_cast<int>(info->ssi_signo));
		return 0;
	};
	for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
		sd_event_source *source = nullptr;
		if (const int code = sd_event_add_signal(loop, &source, signal, on_signal, this); code < 0)
			return system_error("watch signals", -code);
		sources_.emplace_back(source);
	}
	if (const int code = sd_event_set_watchdog(loop, 1); code < 0)
		return system_error("set up the watchdog", -code);
	Done done = watch_fd<&Daemon::on_network>(network_->fd(), "the network");
	if (done)
		done = watch_fd<&Daemon::on_netfilter>(netfilter_->fd(), "netfilter");
	if (done)
		done = watch_fd<&Daemon::on_events>(gateway_->events_fd(), "the events");
	if (done)
		done = watch_fd<&Daemon::on_monitors>(monitors_->fd(), "the monitors");
	if (done)
		done = every<&Daemon::on_second>(second_, kSecond, "the sweep");
	if (done)
		done = every<&Daemon::on_reconcile>(reconcile_, kSafetyNet, "the network");
	return done;
}

Done Daemon::run() {
	const BlockedSignals signals;
	if (auto started = start(); !started)
		return started;
	if (auto watching = watch(); !watching)
		return watching;
	note_trouble(); // what an earlier daemon left is not this one's
	reconcile();
	netfilter_->look(*gateway_);
	tell_netfilter();
	tell_manager("READY=1\n");
	say(LOG_NOTICE, "ready");
	const int code = sd_event_loop(loop_.get());
	sd_notify(0, "STOPPING=1\nSTATUS=leaving; the datapath stays");
	if (code < 0)
		return system_error("wait for events", -code);
	if (lost_)
		return tl::unexpected(std::move(*lost_));
	if (const auto woken = gateway_->wake(); woken && *woken)
		reconcile();
	say(LOG_NOTICE, "leaving; the datapath stays (ptrig down removes it)");
	return {};
}

int Daemon::on_network() {
	const auto changes = network_->drain();
	const auto may_storm = [](const Change &change) {
		return change.kind == Change::Kind::kRoute || change.kind == Change::Kind::kTc;
	};
	const bool storm = changes && std::all_of(changes->begin(), changes->end(), may_storm);
	if (!changes || !changes->empty())
		reconcile_within(storm ? kStormDebounce : kDebounce);
	return 0;
}

int Daemon::on_netfilter() {
	netfilter_->read(*gateway_);
	tell_netfilter();
	return 0;
}

void Daemon::tell_netfilter() {
	if (netfilter_->put_back() > 0)
		say_limited("table ip ptrig was gone: added again");
	say_trouble(helpers_trouble_, "follow what conntrack's helpers expect", netfilter_->helpers_trouble());
	say_trouble(chain_trouble_, "keep table ip ptrig", netfilter_->chain_trouble());
}

void Daemon::reconcile_within(std::uint64_t us) {
	std::uint64_t due = 0;
	const std::uint64_t wanted = monotonic_us() + us;
	if (sd_event_source_get_time(reconcile_.get(), &due) >= 0 && due > wanted)
		sd_event_source_set_time(reconcile_.get(), wanted);
}

int Daemon::on_reconcile() {
	reconcile();
	tell_manager("");
	return 0;
}

void Daemon::reconcile() {
	const auto lines = gateway_->reconcile();
	const bool busy = lines && !*lines;
	if (lines && *lines)
		for (const auto &line : **lines)
			say(LOG_NOTICE, line);
	if (!busy)
		say_trouble(network_trouble_, "follow the network", lines ? "" : lines.error().what);
	sd_event_source_set_time_relative(reconcile_.get(), busy ? kBusy : lines ? kSafetyNet : kSecond);
	sd_event_source_set_enabled(reconcile_.get(), SD_EVENT_ONESHOT);
}

int Daemon::on_second() {
	say_limited("");
	if (auto present = gateway_->present(); !present) {
		lost_ = std::move(present.error());
		return sd_event_exit(loop_.get(), 0);
	}
	const auto changed = gateway_->rest_or_wake();
	if (gateway_->tcx_changed() || (changed && *changed))
		reconcile_within(0);
	say_trouble(rest_trouble_, "rest the fast path", changed ? "" : changed.error().what);
	const std::uint64_t start = monotonic_us();
	const bool all = start >= sweep_all_at_;
	const auto swept = gateway_->sweep(all ? Sweep::kSome : Sweep::kLeases);
	if (all && !(swept && swept->more)) {
		const std::uint64_t end = monotonic_us();
		sweep_all_at_ = end + kSweepPause * (end - start);
	}
	say_trouble(sweep_trouble_, "remove what has ended", swept ? "" : swept.error().what);
	audit();
	netfilter_->look(*gateway_);
	tell_netfilter();
	sd_event_source_set_time_relative(second_.get(), kSecond);
	sd_event_source_set_enabled(second_.get(), SD_EVENT_ONESHOT);
	return 0;
}

void Daemon::audit() {
	const std::uint64_t start = monotonic_us();
	if (start < audit_at_)
		return;
	const auto mended = gateway_->audit();
	const std::uint64_t end = monotonic_us();
	audit_at_ = end + std::max(kAuditEvery, kAuditPause * (end - start));
	if (mended)
		for (const auto &line : *mended)
			say(LOG_WARNING, line);
	say_trouble(audit_trouble_, "compare its counts", mended ? "" : mended.error().what);
}

int Daemon::on_events() {
	const auto read = gateway_->read_events([this](const EventView &event) { report(event); });
	say_trouble(events_trouble_, "report events", read ? "" : read.error().what);
	return 0;
}

int Daemon::on_monitors() {
	monitors_->serve();
	return 0;
}

void Daemon::report(const EventView &event) {
	monitors_->publish(event);
	if (event.event == "config") // by whatever process: it may name other interfaces
		reconcile_within(kDebounce);
	if (event.log)
		say_limited(describe(event), event.rule);
}

void Daemon::on_signal(int signal) {
	if (signal == SIGHUP)
		reload();
	else
		sd_event_exit(loop_.get(), 0);
}

void Daemon::reload() {
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", static_cast<unsigned long long>(monotonic_us()));
	const auto config = read_usable_config(options_.config_path);
	const auto applied = config ? gateway_->apply(*config, options_.config_path)
				    : Result<ApplyResult>(tl::unexpected(config.error()));
	if (applied) {
		for (const auto &note : applied->notes)
			say(LOG_NOTICE, note);
		say(LOG_NOTICE, fmt::format("reloaded {}: rules changed: {}, leases ended: {}", options_.config_path,
					    applied->changes.size(), applied->leases_ended));
		// read_events() tells only of what other processes did.
		monitors_->publish({.time = realtime_s(), .event = "config"});
		reconcile();
	} else {
		say(LOG_ERR, "reload failed, the old rules go on: " + applied.error().what);
	}
	reload_trouble_ = applied ? "" : applied.error().what;
	note_trouble();
	tell_manager("READY=1\n");
}

} // namespace

Done run_daemon(const DaemonOptions &options, const DaemonLog &log) {
	return Daemon(options, log).run();
}

} // namespace ptrig
