// Any bytes as a configuration file: it is read without a fault, its errors are printable and at a place,
// and what is right prints, reads back and compiles the same.
// Compiling fills tables of every port, which takes a thousand times as long as reading: one input of 64 is compiled.
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "loader/check.h"
#include "loader/compile.h"
#include "loader/rule_file.h"
#include "loader/rule_text.h"
#include "tests/fuzz/demand.h"

namespace {

using fuzz::demand;

void check_errors(const ptrig::ParsedConfig &parsed) {
	for (const ptrig::Diagnostic &error : parsed.errors) {
		demand(error.line > 0 && error.column > 0, "an error without a place", error.text());
		demand(!error.message.empty() && ptrig::text::is_printable(error.text()),
		       "an error that cannot be printed", error.text());
	}
	demand(parsed.origins.size() == parsed.config.rules.size(), "rules without origin", "");
}

void check_printed(const ptrig::Config &config, const std::string &printed) {
	const ptrig::ParsedConfig again = ptrig::parse_config(printed, "printed");
	demand(again.errors.empty(), "what was printed has an error",
	       printed + (again.errors.empty() ? "" : again.errors.front().text()));
	demand(again.config == config, "what was printed reads back as something else", printed);
	demand(ptrig::diff_rules(config.rules, again.config.rules).empty(), "a difference where there is none",
	       printed);
}

/// One that compile() refuses has more than its maps hold, nothing else.
void check_compiled(const ptrig::Config &config, const std::string &printed) {
	ptrig::CompileInput input;
	input.config = &config;
	const auto first = ptrig::compile(input);
	if (!first) {
		const bool is_size = first.error().what.find("max_port_lists") != std::string::npos ||
				     first.error().what.find("in all are too many") != std::string::npos;
		demand(is_size, "a right configuration does not compile", printed + first.error().what);
		return;
	}
	input.previous = first->identities;
	const auto second = ptrig::compile(input);
	demand(second.has_value(), "compiles only once", printed);
	demand(second->trigger_ports == first->trigger_ports && second->open_ports == first->open_ports &&
		       second->host_ports == first->host_ports,
	       "compiles to something else the second time", printed);
	for (const auto &[name, identity] : first->identities)
		demand(second->identities.at(name).id == identity.id, "a rule that stays got another id", printed);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
	const std::string_view text(reinterpret_cast<const char *>(data), size);
	const ptrig::ParsedConfig parsed = ptrig::parse_config(text, "fuzz.toml");
	check_errors(parsed);
	if (!parsed.errors.empty())
		return 0;
	for (const ptrig::Diagnostic &warning : ptrig::check_warnings(parsed, {}))
		demand(ptrig::text::is_printable(warning.text()), "a warning that cannot be printed", warning.text());
	const std::string printed = ptrig::to_toml(parsed.config);
	check_printed(parsed.config, printed);
	if (std::hash<std::string>()(printed) % 64 == 0)
		check_compiled(parsed.config, printed);
	return 0;
}
