// ptrig_bench: measures the contenders of each case in interleaved rounds and prints medians and ratios. Run by
// tools/bench, which gives it namespaces of its own.
#include <arpa/inet.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fmt/format.h>
#include <map>
#include <regex>
#include <vector>

#include "tests/bench/contender.h"

namespace bench {
namespace {

/// A demand on two medians.
struct Target {
	std::string name, over;
	double at_least;
};

struct Case {
	std::string name;
	bench_mode mode;
	std::uint32_t sessions, max_sessions;
	std::vector<std::string> contenders;
	std::vector<Target> targets;
};

std::vector<Case> cases() {
	const std::vector<std::string> all{"drop", "touch", "forward", "dnat", "nft", "tc", "xdp"};
	const std::vector<std::string> few{"touch", "nft", "tc", "xdp"};
	return {
		{"in, 1 session",
		 BENCH_IN,
		 1,
		 65536,
		 all,
		 {{"xdp", "touch", 0.92}, {"xdp", "nft", 4.5}, {"tc", "nft", 1.4}}},
		{"out, 1 session", BENCH_OUT, 1, 65536, all, {{"xdp", "touch", 0.92}}},
		{"in, 64000 sessions", BENCH_IN, 64000, 65536, few, {{"xdp", "touch", 0.85}}},
		{"out, 64000 sessions", BENCH_OUT, 64000, 65536, few, {}},
		{"in, 200000 sessions", BENCH_IN, 200000, 262144, {"touch", "nft", "xdp"}, {{"xdp", "nft", 5.0}}},
	};
}

double median(std::vector<double> values) {
	if (values.empty())
		return 0;
	std::sort(values.begin(), values.end());
	const std::size_t middle = values.size() / 2;
	return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

struct Options {
	std::string only = ".";
	int rounds = 5;
	double seconds = 3;
	bool quick = false;
};

using Series = std::map<std::string, std::vector<double>>;

void report(const Case &what, const Series &rates) {
	for (const std::string &name : what.contenders) {
		const std::vector<double> &values = rates.at(name);
		fmt::print("  {:8} {:8.3f} Mpps  ({:.3f}-{:.3f})\n", name, median(values) / 1e6,
			   *std::min_element(values.begin(), values.end()) / 1e6,
			   *std::max_element(values.begin(), values.end()) / 1e6);
	}
	for (const Target &target : what.targets) {
		std::vector<double> ratios; // round by round: what slows a round down slows both
		for (std::size_t i = 0; i < rates.at(target.name).size(); i++)
			ratios.push_back(rates.at(target.name)[i] / rates.at(target.over)[i]);
		fmt::print("  {} / {} = {:.3f}  (at least {:.2f}: {})\n", target.name, target.over, median(ratios),
			   target.at_least, median(ratios) >= target.at_least ? "met" : "not met");
	}
	std::fflush(stdout);
}

void measure(const Case &what, const Options &options) {
	fmt::print("{}\n", what.name);
	std::vector<std::unique_ptr<Contender>> contenders;
	for (const std::string &name : what.contenders)
		contenders.push_back(make_contender(name, {what.sessions, what.max_sessions}));
	Series rates;
	for (int round = 0; round < options.rounds; round++)
		for (const auto &contender : contenders) {
			bench_plan plan = contender->rig().plan(what.mode, what.sessions);
			if (contender->name() == "forward" && what.mode == BENCH_IN)
				plan.wan = htonl(0xcb007202); // routed, not translated
			const Rate rate =
				contender->rig().send_for(plan, std::chrono::duration<double>(options.seconds),
							  options.quick ? 1U << 18 : kFramesPerCall);
			if (rate.received * 100 < rate.sent * 95)
				fmt::print("  {}: {} of {} packets arrived\n", contender->name(), rate.received,
					   rate.sent);
			rates[contender->name()].push_back(rate.per_second());
		}
	report(what, rates);
}

int run(int argc, char **argv) {
	CLI::App app{"ptrig's benchmark"};
	Options options;
	bool list = false;
	app.add_option("--only", options.only, "cases whose name matches");
	app.add_option("--rounds", options.rounds, "how often each contender is measured")->check(CLI::Range(1, 1000));
	app.add_option("--seconds", options.seconds, "how long, each time")->check(CLI::Range(0.0, 3600.0));
	app.add_flag("--quick", options.quick, "one short round: does everything work?");
	app.add_flag("--list", list, "print the cases");
	try {
		app.parse(argc, argv);
	} catch (const CLI::ParseError &error) {
		return app.exit(error) == 0 ? 0 : 2;
	}
	if (options.quick) {
		options.rounds = 1;
		options.seconds = 0;
	}
	pin_to_cpu(1);
	for (const Case &what : cases()) {
		if (!std::regex_search(what.name, std::regex(options.only)))
			continue;
		if (list)
			fmt::print("{}\n", what.name);
		else
			measure(what, options);
	}
	return 0;
}

} // namespace
} // namespace bench

int main(int argc, char **argv) {
	try {
		return bench::run(argc, argv);
	} catch (const std::exception &error) {
		fmt::print(stderr, "ptrig_bench: {}\n", error.what());
		return 1;
	}
}
