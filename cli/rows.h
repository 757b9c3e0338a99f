// What a lease, session, rule, interface, event and finding look like: the keys of their JSON objects (a
// published contract) and the columns of their tables.
#pragma once

#include "cli/output.h"
#include "loader/gateway.h"
#include "loader/rule_file.h"

namespace ptrig::cli {

const std::vector<Field<LeaseView>> &lease_fields();
const std::vector<Field<SessionView>> &session_fields();
/// Every key of a rule by its name, then its counters.
const std::vector<Field<RuleView>> &rule_fields();
const std::vector<Field<InterfaceView>> &interface_fields();
const std::vector<Field<EventView>> &event_fields();
const std::vector<Field<Diagnostic>> &diagnostic_fields();

/// The status object.
Json status_json(const StatusView &status, const std::string &version);
/// The status for people.
void print_status(FILE *out, const StatusView &status, const std::string &version, const Style &style);

/// What a rule does, for its author to check: a line per open range, then what is not default.
void print_rule_echo(FILE *out, const Rule &rule, const Style &style);
/// Every key and counter, a line each.
void print_rule(FILE *out, const RuleView &rule, const Style &style);

/// One event as a line.
std::string event_line(const EventView &event, const Style &style);
/// Why a lease list is empty: what would open a port, or what stands in the way. One line each.
std::vector<std::string> explain_no_leases(const std::vector<RuleView> &rules, const Filter &filter);

} // namespace ptrig::cli
