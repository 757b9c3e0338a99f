// The cases that come out as a rate: each contender in turns, round after round.
#include <arpa/inet.h>

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <memory>

#include "tests/bench/cases.h"
#include "tests/bench/contender.h"

namespace bench {

namespace {

constexpr std::uint16_t kOrdinary = 7000; ///< a port of the host's that no rule is about

/// A demand on the ratio of two contenders.
struct Target {
	std::string name, over;
	double at_least;
};

struct RateCase {
	std::string name;
	bench_mode mode;
	std::uint32_t sessions, max_sessions;
	std::vector<std::string> contenders; ///< NAME, NAME@SESSIONS, NAME#RULES: where they differ from the case's
	std::vector<Target> targets;
	std::uint16_t host_port = kOpenPort;
	bool wide = false;   ///< Wanted::wide
	bool daemon = false; ///< Wanted::daemon
};

/// One contender, and what its packets are.
struct Entry {
	std::string spec;
	std::unique_ptr<Contender> contender;
	bench_plan plan;
	std::vector<double> rates;
};

const std::vector<std::string> kAll{"drop", "touch", "forward", "dnat", "nft", "tc", "xdp"};
const std::vector<std::string> kFew{"touch", "read", "nft", "tc", "xdp"};

/// The same, with ptrig's daemon beside it.
std::vector<RateCase> with_daemon(std::vector<RateCase> cases) {
	for (RateCase &what : cases)
		what.daemon = true;
	return cases;
}

std::vector<RateCase> session_cases() {
	const std::vector<Target> one{{"xdp", "touch", 0.95}, {"xdp", "nft", 5}, {"tc", "nft", 1.7}};
	const std::vector<Target> many{{"xdp", "touch", 0.68}, {"xdp", "nft", 4.5}, {"tc", "nft", 1.7}};
	return with_daemon({
		{"in, 1 session", BENCH_IN, 1, 65536, kAll, one},
		{"out, 1 session", BENCH_OUT, 1, 65536, kAll, one},
		{"in, 64000 sessions", BENCH_IN, 64000, 65536, kFew, many},
		{"out, 64000 sessions", BENCH_OUT, 64000, 65536, kFew, many},
		{"in, 200000 sessions",
		 BENCH_IN,
		 200000,
		 262144,
		 {"touch", "read", "nft", "xdp"},
		 {{"xdp", "nft", 4.5}}},
	});
}

std::vector<RateCase> rule_cases() {
	const std::vector<std::string> both{"tc", "tc#65536", "xdp", "xdp#65536"};
	const std::vector<Target> flat{{"tc#65536", "tc", 0.97}, {"xdp#65536", "xdp", 0.97}};
	return {
		{"in, 65536 rules", BENCH_IN, 1, 65536, both, flat},
		{"out, 65536 rules", BENCH_OUT, 1, 65536, both, flat},
		{"ordinary out, 65536 rules", BENCH_OUT, 1, 65536, both, flat, kOrdinary},
		{"ordinary in, 65536 rules", BENCH_IN, 1, 65536, both, flat, kOrdinary},
	};
}

std::vector<RateCase> ordinary_cases() {
	const std::vector<std::string> those{"masquerade", "idle", "tc", "xdp"};
	const std::vector<Target> untouched{
		{"tc", "masquerade", 0.97}, {"xdp", "masquerade", 0.97}, {"tc", "idle", 0.985}, {"xdp", "idle", 0.985}};
	return with_daemon({
		{"ordinary out", BENCH_OUT, 0, 65536, those, untouched, kOrdinary},
		{"ordinary in", BENCH_IN, 0, 65536, those, untouched, kOrdinary},
		{"ordinary out, beside a session", BENCH_OUT, 1, 65536, those, untouched, kOrdinary},
		{"ordinary in, beside a session", BENCH_IN, 1, 65536, those, untouched, kOrdinary},
		{"ordinary out, 1024-65535/udp leased", BENCH_OUT, 0, 65536, those, untouched, kOrdinary, true},
		{"ordinary in, 1024-65535/udp leased", BENCH_IN, 0, 65536, those, untouched, kOrdinary, true},
	});
}

/// How the sink is to see the translated end of a packet.
void check(Entry &entry, const RateCase &what) {
	if (entry.contender->name() == "drop")
		return;
	// A route leaves both ends' addresses alone; NAT writes the other side's.
	const bool routed = entry.contender->name() == "forward";
	const bool wan = (what.mode == BENCH_OUT) != routed;
	entry.contender->rig().check(entry.plan, wan ? entry.plan.wan : entry.plan.host, entry.plan.host_port);
}

Entry enter(const RateCase &what, const std::string &spec) {
	Wanted wanted{what.sessions, what.max_sessions};
	wanted.wide = what.wide;
	wanted.daemon = what.daemon;
	const std::size_t mark = spec.find_first_of("@#");
	if (mark != std::string::npos)
		(spec[mark] == '@' ? wanted.sessions : wanted.rules) =
			static_cast<std::uint32_t>(std::stoul(spec.substr(mark + 1)));
	Entry entry{spec, make_contender(spec.substr(0, mark), wanted), {}, {}};
	Rig &rig = entry.contender->rig();
	entry.plan = rig.plan(what.mode, std::max(wanted.sessions, 1U));
	entry.plan.host_port = entry.plan.wan_port = htons(what.host_port);
	if (entry.contender->name() == "forward" && what.mode == BENCH_IN)
		entry.plan.wan = htonl(0xcb007202); // routed, not translated
	if (what.host_port != kOpenPort) {          // the host speaks first
		bench_plan first = entry.plan;
		first.mode = BENCH_OUT;
		rig.send(first, 64);
	}
	check(entry, what);
	return entry;
}

void compare(const std::vector<Entry> &entries, const RateCase &what, Report &report) {
	std::map<std::string, const std::vector<double> *> rates;
	for (const Entry &entry : entries) {
		report.rates(entry.spec, entry.rates);
		rates[entry.spec] = &entry.rates;
	}
	for (const Target &target : what.targets)
		report.at_least(fmt::format("{}: {} ÷ {}", what.name, target.name, target.over), target.at_least,
				ratio(*rates.at(target.name), *rates.at(target.over)));
}

void note_losses(const std::string &who, const Rate &rate, Report &report) {
	if (rate.received * 100 < rate.sent * 95)
		report.note(fmt::format("{}: {} of {} packets arrived", who, rate.received, rate.sent));
}

void run(const RateCase &what, const Options &options, Report &report) {
	report.begin(what.name);
	std::vector<Entry> entries;
	for (const std::string &spec : what.contenders)
		entries.push_back(enter(what, spec));
	for (int round = 0; round < options.rounds; round++)
		for (Entry &entry : entries) {
			Rig &rig = entry.contender->rig();
			rig.send(entry.plan, entry.plan.flows); // while others had their turn, what is cached grew old
			const Rate rate = rig.send_for(entry.plan, std::chrono::duration<double>(options.seconds),
						       options.quick ? 1U << 18 : kFramesPerCall);
			note_losses(entry.spec, rate, report);
			entry.rates.push_back(rate.per_second());
		}
	compare(entries, what, report);
}

/// New sessions: each packet in is a remote's first. The host answers, or is silent.
void run_new(bool answered, const Options &options, Report &report) {
	RateCase what{answered ? "new sessions, answered" : "new sessions, host silent",
		      BENCH_IN,
		      0,
		      262144,
		      {"make", "nft", "tc", "xdp"},
		      {{"tc", "nft", 0.9}, {"xdp", "nft", 0.9}}};
	report.begin(what.name);
	const std::uint32_t flows = options.quick ? 50000 : 200000;
	std::vector<Entry> entries;
	for (const std::string &name : what.contenders) {
		Wanted wanted{0, what.max_sessions};
		wanted.max_halfopen = 2 * what.max_sessions; // a host alone gets half of them
		entries.push_back({name, make_contender(name, wanted), {}, {}});
	}
	for (int round = 0; round < options.rounds; round++)
		for (Entry &entry : entries) {
			Rig &rig = entry.contender->rig();
			const Rate rate = answered ? talk(rig, 0, flows) : rig.send(rig.plan(BENCH_IN, flows), flows);
			entry.contender->forget();
			const std::uint64_t made = answered ? rate.received / 2 : rate.received;
			if (made * 100 < std::uint64_t{flows} * 95)
				report.note(fmt::format("{}: {} of {} sessions", entry.spec, made, flows));
			entry.rates.push_back(static_cast<double>(made) / rate.seconds);
		}
	compare(entries, what, report);
}

/// One CPU and two, each with a session of its own.
void run_cpus(const Options &options, Report &report) {
	report.begin("in, 1 and 2 CPUs");
	Wanted wanted{2};
	wanted.daemon = true;
	for (const std::string name : {"touch", "xdp"}) {
		const auto contender = make_contender(name, wanted);
		Rig &rig = contender->rig();
		const bench_plan plan = rig.plan(BENCH_IN, wanted.sessions);
		std::vector<double> one, two;
		for (int round = 0; round < options.rounds; round++)
			for (const auto &[cpus, rates] :
			     {std::pair(std::vector{0}, &one), std::pair(std::vector{0, 1}, &two)}) {
				rig.send(plan, wanted.sessions);
				const Rate rate =
					rig.send_from(cpus, plan, std::chrono::duration<double>(options.seconds));
				note_losses(name, rate, report);
				rates->push_back(rate.per_second());
			}
		report.rates(name + ", 1 CPU", one);
		report.rates(name + ", 2 CPUs", two);
		report.at_least(fmt::format("{}: 2 CPUs ÷ 1, each its own session", name), 1.9, ratio(two, one));
	}
}

} // namespace

std::vector<Case> rate_cases() {
	std::vector<Case> cases;
	for (const auto &group : {session_cases(), rule_cases(), ordinary_cases()})
		for (const RateCase &what : group)
			cases.push_back({what.name, [what](const Options &options, Report &report) {
						 run(what, options, report);
					 }});
	cases.push_back({"in, 1 and 2 CPUs", run_cpus});
	cases.push_back({"new sessions, host silent",
			 [](const Options &options, Report &report) { run_new(false, options, report); }});
	cases.push_back({"new sessions, answered",
			 [](const Options &options, Report &report) { run_new(true, options, report); }});
	return cases;
}

} // namespace bench
