// What is measured, case by case, and where the results go.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace bench {

struct Options {
	std::string only = ".";
	int rounds = 5;
	double seconds = 3; ///< of each contender in each round
	bool quick = false;
	std::string write; ///< directory of benchmarks.md; empty: print only
};

double median(std::vector<double> values);
/// Medians of two series' ratios, round by round: what slows a round down slows both.
double ratio(const std::vector<double> &values, const std::vector<double> &over);

/// Prints what comes in, and keeps it for the document.
class Report {
public:
	/// One line of the table of figures; `met` compares it with its target.
	struct Figure {
		std::string name, target, measured;
		bool met;
	};
	/// A case's rates of one contender, a second.
	struct Rates {
		std::string contender;
		double median, min, max;
	};

	void begin(const std::string &name);
	void rates(const std::string &contender, const std::vector<double> &values);
	void at_least(const std::string &name, double target, double measured);
	void at_most(const std::string &name, double target, double measured, const std::string &unit);
	void figure(const Figure &figure);
	void note(const std::string &text); ///< a line for who watches

	const std::vector<Figure> &figures() const { return figures_; }
	const std::vector<std::pair<std::string, std::vector<Rates>>> &cases() const { return cases_; }

private:
	std::vector<Figure> figures_;
	std::vector<std::pair<std::string, std::vector<Rates>>> cases_;
};

struct Case {
	std::string name;
	std::function<void(const Options &, Report &)> run;
};

std::vector<Case> rate_cases();  ///< packets a second, and what else comes as a rate
std::vector<Case> tcp_cases();   ///< bulk streams
std::vector<Case> state_cases(); ///< what the tables cost
std::vector<Case> user_cases();  ///< what user space costs

/// Fill the results' place in benchmarks.md, and draw benchmarks.svg beside it.
void write_results(const Report &report, const Options &options);
/// The rates of some cases as bars.
std::string draw(const Report &report);

} // namespace bench
