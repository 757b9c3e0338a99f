// The command line: what every command gets, and how one is declared. Commands return errors; main.cpp
// alone reports them.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "cli/output.h"
#include "loader/gateway.h"

namespace ptrig::cli {

/// One invocation.
struct Cli {
	FILE *out = stdout; ///< data
	FILE *err = stderr; ///< words
	Style style;
	std::string pin_dir = kDefaultPinDir;
	bool json = false;
	std::string doing;            ///< the command, for errors: "rule add"
	std::function<Done()> action; ///< set by the parser
};

/// Runs a command line (without the program's name). The error is to be reported; nothing of it was printed.
Done run_cli(const std::vector<std::string> &arguments, FILE *out, FILE *err);

/// A line of words on cli.err, after the data that was printed before it.
void say(const Cli &cli, const std::string &line);

/// The configuration that a gateway came up with; the usual one if that was standard input.
Result<std::string> config_path_of(const Gateway &gateway);

/// A command: its help ends with the example.
CLI::App *add_command(CLI::App &parent, const std::string &name, const std::string &about, const std::string &example);
/// What the command does when it was the one on the command line.
void on_command(Cli &cli, CLI::App *command, std::function<Done()> action);
/// An option with one value a time; with `list` it may be repeated.
CLI::Option *add_value(CLI::App *command, const std::string &name, std::string &value, const std::string &about,
		       const std::string &placeholder);
CLI::Option *add_list(CLI::App *command, const std::string &name, std::vector<std::string> &values,
		      const std::string &about, const std::string &placeholder);

void add_status(CLI::App &app, Cli &cli);
void add_check(CLI::App &app, Cli &cli);
void add_rule(CLI::App &app, Cli &cli);
void add_rule_edit(CLI::App &rule, Cli &cli);
void add_apply(CLI::App &app, Cli &cli);
void add_export(CLI::App &app, Cli &cli);
void add_lease(CLI::App &app, Cli &cli);
void add_session(CLI::App &app, Cli &cli);
void add_monitor(CLI::App &app, Cli &cli);
void add_up(CLI::App &app, Cli &cli);
void add_run(CLI::App &app, Cli &cli);
void add_down(CLI::App &app, Cli &cli);

} // namespace ptrig::cli
