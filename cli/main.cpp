// ptrig: the program. The one place that reports an error and makes it an exit status.
#include "cli/cli.h"

#include <clocale>
#include <string>
#include <vector>

namespace {

int report(const ptrig::Error &error) {
	std::fprintf(stderr, "ptrig: %s\n", ptrig::cli::printable(error.what).c_str());
	return static_cast<int>(error.status);
}

} // namespace

int main(int argc, char **argv) {
	const ptrig::Done done = ptrig::cli::run_cli(std::vector<std::string>(argv + 1, argv + argc), stdout, stderr);
	return done ? 0 : report(done.error());
}
