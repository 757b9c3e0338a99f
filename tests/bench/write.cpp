// Puts the results where benchmarks.md has room for them, with what they were measured on.
#include <bpf/libbpf.h>
#include <sys/utsname.h>

#include <array>
#include <cstdio>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>

#include "tests/bench/cases.h"

namespace bench {

namespace {

constexpr std::string_view kBegin = "<!-- results: begin -->", kEnd = "<!-- results: end -->";

std::string first_line(const std::string &command) {
	const std::unique_ptr<FILE, int (*)(FILE *)> pipe(popen(command.c_str(), "r"), pclose);
	std::array<char, 256> line{};
	if (!pipe || !std::fgets(line.data(), line.size(), pipe.get()))
		return "?";
	const std::string text = line.data();
	return text.substr(0, text.find_last_not_of(" \n") + 1);
}

std::string cpu_model() {
	std::ifstream file("/proc/cpuinfo");
	for (std::string line; std::getline(file, line);)
		if (line.starts_with("model name"))
			return line.substr(line.find(':') + 2);
	return "?";
}

std::string circumstances(const Options &options) {
	utsname system{};
	uname(&system);
	std::ifstream spectre("/sys/devices/system/cpu/vulnerabilities/spectre_v2");
	std::string mitigation;
	std::getline(spectre, mitigation);
	return fmt::format(
		"Kernel {}, {} × {}, spectre_v2: {}. {}, {}, libbpf {}, {}. {}: medians of {} rounds of {:g} s.\n",
		system.release, first_line("nproc --all"), cpu_model(), mitigation,
		first_line(std::string(PTRIG_BIN) + " --version"), first_line("nft --version"), libbpf_version_string(),
		first_line("clang --version"), first_line("date -u +%F"), options.rounds, options.seconds);
}

std::string table(const Report &report) {
	std::string text = "| figure | target | measured | |\n| --- | --- | --- | --- |\n";
	for (const Report::Figure &figure : report.figures())
		text += fmt::format("| {} | {} | {} | {} |\n", figure.name, figure.target, figure.measured,
				    figure.met ? "met" : "**not met**");
	text += "\n| case | contender | million a second | least - most |\n| --- | --- | --- | --- |\n";
	for (const auto &[name, rates] : report.cases())
		for (const Report::Rates &rate : rates)
			text += fmt::format("| {} | `{}` | {:.3f} | {:.3f} - {:.3f} |\n", name, rate.contender,
					    rate.median / 1e6, rate.min / 1e6, rate.max / 1e6);
	return text;
}

std::string read(const std::string &path) {
	std::ifstream file(path);
	if (!file)
		throw std::runtime_error("cannot read " + path);
	return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string &path, const std::string &text) {
	std::ofstream file(path);
	file << text << std::flush;
	if (!file)
		throw std::runtime_error("cannot write " + path);
}

} // namespace

void write_results(const Report &report, const Options &options) {
	const std::string path = options.write + "/benchmarks.md", before = read(path);
	const std::size_t begin = before.find(kBegin), end = before.find(kEnd);
	if (begin == std::string::npos || end == std::string::npos || end < begin)
		throw std::runtime_error(path + " has no place for results");
	write(options.write + "/benchmarks.svg", draw(report));
	write(path, before.substr(0, begin + kBegin.size()) + "\n" + circumstances(options) +
			    "\n![rates](benchmarks.svg)\n\n" + table(report) + before.substr(end));
}

} // namespace bench
