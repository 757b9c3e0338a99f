// ptrig check: every error and warning of a configuration, changing nothing; needs no root and no gateway.
#include <fmt/format.h>
#include <memory>

#include "cli/cli.h"
#include "cli/rows.h"
#include "loader/check.h"
#include "loader/compile.h"
#include "loader/rule_file.h"
#include "loader/rule_text.h"
#include "loader/system.h"

namespace ptrig::cli {

namespace {

/// A finding of the compiler names rules; it stands where the last of them does.
Diagnostic compile_finding(const ParsedConfig &parsed, const std::string &file, const Error &error) {
	Diagnostic finding{.file = file, .line = 1, .column = 1, .message = error.what};
	for (std::size_t i = 0; i < parsed.config.rules.size() && i < parsed.origins.size(); ++i) {
		if (error.what.find(text::in_quotes(parsed.config.rules[i].name)) == std::string::npos)
			continue;
		finding.file = parsed.origins[i].file;
		finding.line = parsed.origins[i].line;
		finding.column = parsed.origins[i].column;
	}
	return finding;
}

/// What can be seen of this machine without root; the rest is left out.
struct Machine {
	CheckFacts facts;
	std::vector<std::string> warnings; ///< interfaces that are not as the configuration has them
};

void look_at_interfaces(const Network &network, const GatewayConfig &gateway, const std::vector<std::string> &wan,
			std::vector<std::string> &warnings) {
	if (wan.empty())
		warnings.push_back("wan = \"auto\": there is no default route (there are: " + network.describe() + ")");
	for (const auto *side : {&wan, &gateway.lan})
		for (const auto &name : *side) {
			if (const auto link = network.require(name); !link)
				warnings.push_back(link.error().what);
			else if (const auto member = bridge_member_warning(network, name))
				warnings.push_back(*member);
		}
	if (const auto apart = check_overlap(network, wan, gateway.lan); !apart)
		warnings.push_back(apart.error().what);
}

Machine look_at_machine(const GatewayConfig &gateway) {
	Machine machine;
	machine.facts.possible_cpus = possible_cpus().value_or(1);
	const auto network = read_network();
	if (!network)
		return machine;
	std::vector<std::string> wan;
	for (const auto &name : gateway.wan) {
		if (name != "auto") {
			wan.push_back(name);
			continue;
		}
		for (const auto ifindex : network->default_route)
			if (const Link *link = network->find(ifindex))
				wan.push_back(link->name);
	}
	look_at_interfaces(*network, gateway, wan, machine.warnings);
	GatewayFacts facts = read_gateway_facts(*network, wan, gateway.lan);
	facts.conntrack_zone = gateway.conntrack_zone;
	for (const auto &warning : firewall_warnings(facts))
		machine.warnings.push_back(warning);
	machine.facts = check_facts(facts, machine.facts.possible_cpus);
	return machine;
}

Json to_json(const std::vector<Diagnostic> &findings) {
	Json array = Json::array();
	for (const auto &finding : findings)
		array.push_back(row_json(diagnostic_fields(), finding));
	return array;
}

Done check(Cli &cli, const std::string &file) {
	ParsedConfig parsed = load_config(file);
	std::vector<Diagnostic> warnings;
	const Machine machine = look_at_machine(parsed.config.gateway);
	if (parsed.errors.empty()) {
		CompileInput input;
		input.config = &parsed.config;
		if (const auto tables = compile(input); !tables)
			parsed.errors.push_back(compile_finding(parsed, file, tables.error()));
		warnings = check_warnings(parsed, machine.facts);
		for (const auto &warning : machine.warnings)
			warnings.push_back({.file = file, .message = warning});
	}
	const std::uint64_t memory = map_memory(parsed.config.gateway, machine.facts.possible_cpus);
	if (cli.json) {
		Json object{{"errors", to_json(parsed.errors)}, {"warnings", to_json(warnings)}};
		object["rules"] = parsed.config.rules.size();
		object["memory_bytes"] = parsed.errors.empty() ? Json(memory) : Json(nullptr);
		fmt::print(cli.out, "{}\n", json_pretty(object));
	} else {
		for (const auto &error : parsed.errors)
			fmt::print(cli.out, "{}\n", paint(printable(error.text()), Color::kRed, cli.style));
		for (Diagnostic warning : warnings) {
			warning.message = "warning: " + warning.message;
			fmt::print(cli.out, "{}\n", paint(printable(warning.text()), Color::kYellow, cli.style));
		}
		if (parsed.errors.empty())
			fmt::print(cli.out, "{}: {}, the maps take {}\n", file,
				   counted(parsed.config.rules.size(), "rule"), bytes_text(memory, {.units = true}));
	}
	if (parsed.errors.empty())
		return {};
	return fail(fmt::format("{}: {}", file, counted(parsed.errors.size(), "error")), Status::kInput);
}

} // namespace

void add_check(CLI::App &app, Cli &cli) {
	auto file = std::make_shared<std::string>(kDefaultConfig);
	CLI::App *command = add_command(app, "check", "Every error and warning of a configuration; changes nothing",
					"ptrig check ./ptrig.toml");
	command->add_option("FILE", *file, "The file; - is standard input")->type_name("")->capture_default_str();
	on_command(cli, command, [&cli, file] { return check(cli, *file); });
}

} // namespace ptrig::cli
