// Medians, ratios, and the lines that say them.
#include <algorithm>
#include <cstdio>
#include <fmt/format.h>

#include "tests/bench/cases.h"

namespace bench {

double median(std::vector<double> values) {
	if (values.empty())
		return 0;
	std::sort(values.begin(), values.end());
	const std::size_t middle = values.size() / 2;
	return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double ratio(const std::vector<double> &values, const std::vector<double> &over) {
	std::vector<double> ratios;
	for (std::size_t i = 0; i < values.size(); i++)
		ratios.push_back(over.at(i) > 0 ? values[i] / over[i] : 0);
	return median(ratios);
}

void Report::begin(const std::string &name) {
	fmt::print("{}\n", name);
	std::fflush(stdout);
	cases_.emplace_back(name, std::vector<Rates>());
}

void Report::rates(const std::string &contender, const std::vector<double> &values) {
	const auto [min, max] = std::minmax_element(values.begin(), values.end());
	cases_.back().second.push_back({contender, median(values), *min, *max});
	note(fmt::format("{:10} {:9.4f} M/s  ({:.4f}-{:.4f})", contender, median(values) / 1e6, *min / 1e6,
			 *max / 1e6));
}

void Report::at_least(const std::string &name, double target, double measured) {
	figure({name, fmt::format("≥ {:.3g}", target), fmt::format("{:.3f}", measured), measured >= target});
}

void Report::at_most(const std::string &name, double target, double measured, const std::string &unit) {
	figure({name, fmt::format("≤ {:g} {}", target, unit), fmt::format("{:.4g} {}", measured, unit),
		measured <= target});
}

void Report::figure(const Figure &figure) {
	note(fmt::format("{} = {}  ({}: {})", figure.name, figure.measured, figure.target,
			 figure.met ? "met" : "not met"));
	figures_.push_back(figure);
}

void Report::note(const std::string &text) {
	fmt::print("  {}\n", text);
	std::fflush(stdout);
}

} // namespace bench
