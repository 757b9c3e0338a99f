// Rules, the status and events in words. What is tabular is in rows.cpp.
#include <algorithm>
#include <ctime>
#include <fmt/format.h>

#include "cli/rows.h"
#include "loader/monitor.h"

namespace ptrig::cli {

namespace {

constexpr std::size_t kExplainedRules = 8; ///< an empty list is explained for so many rules, then "and N more"

std::string join(const std::vector<std::string> &parts, const char *between = ", ") {
	return fmt::format("{}", fmt::join(parts, between));
}

std::string trigger_ports(const Rule &rule) {
	std::vector<std::string> ports;
	for (const auto &range : rule.trigger)
		ports.push_back(to_string(range));
	return join(ports);
}

void print_interfaces(FILE *out, const char *side, const std::vector<InterfaceView> &interfaces, const Style &style) {
	for (const auto &interface : interfaces) {
		const bool waiting = interface.ifindex == 0;
		fmt::print(out, "{}  {:<15} {}  {}\n", side, printable(interface.name),
			   paint(fmt::format("{:<7}", interface.datapath), waiting ? Color::kYellow : Color::kGreen,
				 style),
			   join(interface.addresses) + (interface.why.empty() ? "" : "  (" + interface.why + ")"));
	}
}

bool filter_wants(const Filter &filter, const Rule &rule) {
	if (filter.rule && *filter.rule != rule.name)
		return false;
	if (!filter.port)
		return true;
	return std::any_of(rule.open.begin(), rule.open.end(), [&](const OpenRange &open) {
		return (open.wan.protos & filter.port->protos) != 0 && open.wan.first <= filter.port->last &&
		       filter.port->first <= open.wan.last;
	});
}

} // namespace

Json status_json(const StatusView &status, const std::string &version) {
	Json object{{"version", version}, {"daemon", status.daemon ? Json(*status.daemon) : Json(nullptr)}};
	object["config"] = status.config.empty() ? Json(nullptr) : Json(status.config);
	object["pin_dir"] = status.pin_dir;
	for (const auto &[key, side] : {std::pair{"wan", &status.wan}, std::pair{"lan", &status.lan}}) {
		object[key] = Json::array();
		for (const auto &interface : *side)
			object[key].push_back(row_json(interface_fields(), interface));
	}
	object["rules"] = status.rules;
	object["leases"] = status.leases;
	object["sessions"] = status.sessions;
	object["limits"] = Json::object();
	for (const auto &limit : status.limits)
		object["limits"][limit.name] = {{"used", limit.used}, {"max", limit.max}};
	object["mended"] = status.mended;
	object["counters"] = Json::object();
	for (const auto &counter : status.counters)
		object["counters"][counter.reason] = counter.count;
	object["warnings"] = status.warnings;
	return object;
}

void print_status(FILE *out, const StatusView &status, const std::string &version, const Style &style) {
	fmt::print(out, "{} {}, {}\n", paint("ptrig", Color::kBold, style), version,
		   status.daemon ? fmt::format("daemon {}", *status.daemon)
				 : paint("no daemon", Color::kYellow, style));
	fmt::print(out, "config {}, pins {}\n", status.config.empty() ? "none" : printable(status.config),
		   printable(status.pin_dir));
	print_interfaces(out, "WAN", status.wan, style);
	print_interfaces(out, "LAN", status.lan, style);
	fmt::print(out, "{}, {}, {}\n", counted(status.rules, "rule"), counted(status.leases, "lease"),
		   counted(status.sessions, "session"));
	if (!status.limits.empty()) {
		std::vector<std::string> limits;
		for (const auto &limit : status.limits)
			limits.push_back(fmt::format("{} {}/{}", limit.name, limit.used, limit.max));
		fmt::print(out, "in use: {}\n", join(limits));
	}
	if (status.mended > 0)
		fmt::print(out, "found wrong and put right: {}\n", counted(status.mended, "count"));
	std::size_t name_width = 0, count_width = 0;
	for (const auto &counter : status.counters) {
		name_width = std::max(name_width, counter.reason.size());
		count_width = std::max(count_width, std::to_string(counter.count).size());
	}
	if (!status.counters.empty())
		fmt::print(out, "{}\n", paint("packets by reason", Color::kBold, style));
	for (const auto &counter : status.counters)
		fmt::print(out, "  {:<{}}  {:>{}}  {}\n", counter.reason, name_width, counter.count, count_width,
			   paint(describe_reason(counter.reason), Color::kDim, style));
	for (const auto &warning : status.warnings)
		fmt::print(out, "{} {}\n", paint("warning:", Color::kYellow, style), printable(warning));
}

void print_rule_echo(FILE *out, const Rule &rule, const Style &style) {
	fmt::print(out, "{}{}: trigger {} → WAN\n", paint(rule.name, Color::kBold, style),
		   rule.enabled ? "" : " (disabled)", trigger_ports(rule));
	for (const auto &open : rule.open)
		fmt::print(out, "  {}\n", describe(open));
	Rule plain;
	plain.name = rule.name;
	plain.enabled = rule.enabled;
	plain.trigger = rule.trigger;
	plain.open = rule.open;
	const RuleView given{.rule = rule}, normal{.rule = plain};
	const auto differs = [&](const Field<RuleView> &field) {
		return field.json(given) != field.json(normal) && !std::string_view(field.key).ends_with("_s");
	};
	fmt::print(out, "  timeout {}\n", to_string(rule.timeout));
	for (const auto &field : rule_fields())
		if (std::string_view(field.key) != "timeout" && differs(field))
			fmt::print(out, "  {} {}\n", field.key, printable(text_of(field.json(given))));
}

void print_rule(FILE *out, const RuleView &view, const Style &style) {
	for (const auto &field : rule_fields()) {
		const std::string_view key = field.key;
		if (key.ends_with("_s") || key == "refused" || key == "last_trigger")
			continue;
		fmt::print(out, "{:<16} {}\n", key, printable(text_of(field.json(view))));
		if (key == "open")
			for (const auto &open : view.rule.open)
				fmt::print(out, "{:<16} {}\n", "", paint(describe(open), Color::kDim, style));
	}
	for (const auto &refused : view.refused)
		fmt::print(out, "{:<16} {}  {}\n", "refused", refused.count, describe_reason(refused.reason));
	if (view.last)
		fmt::print(out, "{:<16} {} to {}, {} ago: {}\n", "last trigger", to_string(view.last->host),
			   to_string(view.last->remote), duration_text(view.last->age_s, {.units = true}),
			   describe_reason(view.last->reason));
	else
		fmt::print(out, "{:<16} none seen\n", "last trigger");
}

std::string event_line(const EventView &event, const Style &style) {
	const auto whole = static_cast<std::time_t>(event.time);
	std::tm tm{};
	localtime_r(&whole, &tm);
	char clock[32] = "";
	std::strftime(clock, sizeof(clock), "%F %T", &tm);
	const auto ms = static_cast<unsigned>((event.time - static_cast<double>(whole)) * 1000) % 1000;
	const Color color = event.event == "granted"                              ? Color::kGreen
			    : event.event == "refused" || event.event == "lost"   ? Color::kRed
			    : event.event == "takeover" || event.event == "moved" ? Color::kYellow
										  : Color::kNone;
	return fmt::format("{} {} {}", paint(fmt::format("{}.{:03}", clock, ms), Color::kDim, style),
			   paint(fmt::format("{:<8}", event.event), color, style), printable(describe(event)));
}

std::vector<std::string> explain_no_leases(const std::vector<RuleView> &rules, const Filter &filter) {
	std::vector<std::string> closed, lines;
	std::size_t matching = 0, more = 0;
	for (const auto &view : rules) {
		if (!filter_wants(filter, view.rule))
			continue;
		++matching;
		if (!view.rule.enabled)
			continue;
		if (closed.size() < kExplainedRules)
			closed.push_back(fmt::format("{} ({})", trigger_ports(view.rule), view.rule.name));
		else
			++more;
		if (view.last && lines.size() < kExplainedRules)
			lines.push_back(fmt::format("{}: last trigger {} ago, {} to {}: {}", view.rule.name,
						    duration_text(view.last->age_s, {.units = true}),
						    to_string(view.last->host), to_string(view.last->remote),
						    describe_reason(view.last->reason)));
	}
	std::string first = "no leases: ";
	if (rules.empty())
		first += "there are no rules (ptrig rule add)";
	else if (matching == 0)
		first += "no rule matches";
	else if (closed.empty())
		first += "disabled by `enabled = false` (ptrig rule enable)";
	else
		first += "closed until a LAN host sends to " + join(closed) +
			 (more > 0 ? fmt::format(" and {} more", more) : "");
	lines.insert(lines.begin(), first);
	return lines;
}

} // namespace ptrig::cli
