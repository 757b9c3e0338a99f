// Any words, a line each, as the options of `rule add`: refused in one printable line, or a rule that prints and reads
// back the same.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/rule_options.h"
#include "loader/rule_file.h"
#include "loader/rule_text.h"
#include "tests/fuzz/demand.h"

namespace {

std::vector<std::string> words_of(std::string_view text) {
	std::vector<std::string> words;
	while (!text.empty() && words.size() < 64) {
		const std::size_t end = text.find('\n');
		words.emplace_back(text.substr(0, end));
		text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
	}
	return {words.rbegin(), words.rend()}; // as CLI11 takes them
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
	CLI::App app;
	ptrig::cli::RuleOptions options;
	ptrig::cli::add_rule_options(&app, options);
	try {
		app.parse(words_of({reinterpret_cast<const char *>(data), size}));
	} catch (const CLI::ParseError &) {
		return 0;
	}
	ptrig::Rule rule{.name = "fuzzed"};
	if (const auto set = ptrig::cli::set_given_keys(rule, options); !set) {
		const std::string &what = set.error().what;
		fuzz::demand(!what.empty() && ptrig::text::is_printable(what), "an error that cannot be printed", what);
		return 0;
	}
	if (rule.trigger.empty() || rule.open.empty())
		return 0;
	ptrig::Config config;
	config.gateway.lan = {"br0"};
	config.rules = {rule};
	const std::string printed = ptrig::to_toml(config);
	const auto again = ptrig::parse_config(printed, "printed");
	if (again.errors.empty()) // what one key alone cannot tell is the file's to refuse
		fuzz::demand(again.config.rules == config.rules, "reads back as another rule", printed);
	return 0;
}
