// The rates as horizontal bars, one group a case, as SVG text: median, and a line from the least to the most.
#include <algorithm>
#include <fmt/format.h>

#include "tests/bench/cases.h"

namespace bench {

namespace {

constexpr int kLeft = 110, kWidth = 560, kBar = 16, kStep = 20, kTitle = 34;

const char *colour_of(const std::string &contender) {
	const std::string name = contender.substr(0, contender.find_first_of("@#"));
	if (name == "xdp")
		return "#1b7f4d";
	if (name == "tc")
		return "#59b384";
	return name == "drop" || name == "touch" ? "#b0b7bf" : "#c8803a";
}

std::string bar(const Report::Rates &rate, double scale, int y) {
	const auto x = [&](double value) { return kLeft + value * scale; };
	return fmt::format("<text x='{}' y='{}' text-anchor='end'>{}</text>\n"
			   "<rect x='{}' y='{}' width='{:.1f}' height='{}' fill='{}'/>\n"
			   "<line x1='{:.1f}' y1='{}' x2='{:.1f}' y2='{}' stroke='#222'/>\n"
			   "<text x='{:.1f}' y='{}'>{:.2f}</text>\n",
			   kLeft - 6, y + 12, rate.contender, kLeft, y, rate.median * scale, kBar,
			   colour_of(rate.contender), x(rate.min), y + kBar / 2, x(rate.max), y + kBar / 2,
			   x(std::max(rate.max, rate.median)) + 6, y + 12, rate.median / 1e6);
}

} // namespace

std::string draw(const Report &report) {
	double most = 1;
	for (const auto &[name, rates] : report.cases())
		for (const Report::Rates &rate : rates)
			most = std::max(most, rate.max);
	std::string body;
	int y = 0;
	for (const auto &[name, rates] : report.cases()) {
		if (rates.empty())
			continue;
		body += fmt::format("<text x='{}' y='{}' font-weight='bold'>{}: million a second</text>\n", kLeft,
				    y + kTitle - 8, name);
		y += kTitle;
		for (const Report::Rates &rate : rates) {
			body += bar(rate, kWidth / most, y);
			y += kStep;
		}
	}
	return fmt::format("<svg xmlns='http://www.w3.org/2000/svg' width='{0}' height='{1}' viewBox='0 0 {0} {1}' "
			   "font-family='sans-serif' font-size='12'>\n<rect width='{0}' height='{1}' fill='#fff'/>\n",
			   kLeft + kWidth + 60, y + 12) +
	       body + "</svg>\n";
}

} // namespace bench
