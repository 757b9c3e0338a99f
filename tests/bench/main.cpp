// ptrig_bench: measures the contenders of each case in interleaved rounds and prints medians and ratios. Run by
// tools/bench, which gives it namespaces of its own.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/format.h>
#include <regex>

#include "tests/bench/cases.h"
#include "tests/bench/rig.h"

namespace bench {
namespace {

std::vector<Case> all_cases() {
	std::vector<Case> cases = rate_cases();
	for (const auto &more : {tcp_cases(), state_cases(), user_cases()})
		cases.insert(cases.end(), more.begin(), more.end());
	return cases;
}

/// 0: everything ran; 1: a case could not be measured. Unmet targets are results, not failures.
int measure(const Options &options, bool list) {
	Report report;
	int status = 0;
	for (const Case &what : all_cases()) {
		if (!std::regex_search(what.name, std::regex(options.only)))
			continue;
		if (list) {
			fmt::print("{}\n", what.name);
			continue;
		}
		try {
			what.run(options, report);
		} catch (const std::exception &error) {
			fmt::print(stderr, "ptrig_bench: {}: {}\n", what.name, error.what());
			status = 1;
		}
	}
	if (!list && !options.write.empty() && status == 0)
		write_results(report, options);
	return status;
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
	app.add_option("--write-to", options.write, "directory of benchmarks.md, whose results to replace");
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
	return measure(options, list);
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
