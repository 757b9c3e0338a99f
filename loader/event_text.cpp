// Events as text: a line for people, and the JSON object that travels from the daemon to its monitors.
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <vector>

#include "include/ptrig/reasons.h"
#include "loader/monitor.h"

namespace ptrig {

std::string_view describe_reason(std::string_view name) {
	struct Entry {
		std::string name;
		const char *text;
	};
	static const std::vector<Entry> kReasons = [] {
		std::vector<Entry> list{
#define PTRIG_REASON_ENTRY(name, kind, text) {#name, text},
			PTRIG_REASONS(PTRIG_REASON_ENTRY)
#undef PTRIG_REASON_ENTRY
		};
		for (auto &entry : list)
			for (char &c : entry.name)
				c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
		return list;
	}();
	for (const auto &entry : kReasons)
		if (entry.name == name)
			return entry.text;
	return name;
}

std::string describe(const EventView &event) {
	const std::string host = event.host ? to_string(*event.host) : "?";
	const std::string reason(describe_reason(event.reason));
	const std::string from = event.old_host ? to_string(*event.old_host) : "another host";
	std::string contact = event.remote ? ", which sent to " + to_string(*event.remote) : "";
	std::string text;
	if (event.event == "granted")
		text = fmt::format("{}: lease granted to {}{}", event.rule, host, contact);
	else if (event.event == "refused")
		text = fmt::format("{}: refused {}{}: {}{}", event.rule, host, contact, reason,
				   event.old_host ? " (" + to_string(*event.old_host) + ")" : "");
	else if (event.event == "takeover")
		text = fmt::format("{}: lease of {} taken over by {}{}", event.rule, from, host, contact);
	else if (event.event == "moved")
		text = fmt::format("{}: lease of {} moved along to {}", event.rule, from, host);
	else if (event.event == "ended")
		text = fmt::format("{}: lease of {} ended: {}", event.rule, host, reason);
	else if (event.event == "lost")
		text = fmt::format("{} events lost", event.count);
	else if (event.event == "config")
		text = "the configuration was replaced";
	else
		text = event.reason.empty() ? event.event : fmt::format("{}: {}", event.event, reason);
	if (event.event == "refused" && event.count > 0)
		text += fmt::format(" (and {} refusals before)", event.count);
	else if (event.event != "lost" && event.count > 0)
		text += fmt::format(" (and {} changes of its leases before)", event.count);
	return text;
}

std::string encode_event(const EventView &event) {
	nlohmann::json object{{"time", event.time},     {"event", event.event}, {"rule", event.rule},
			      {"reason", event.reason}, {"count", event.count}, {"log", event.log}};
	if (event.host)
		object["host"] = event.host->value;
	if (event.remote)
		object["remote"] = event.remote->value;
	if (event.old_host)
		object["old_host"] = event.old_host->value;
	if (event.mac)
		object["mac"] = to_string(*event.mac);
	return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<EventView> decode_event(std::string_view text) {
	const auto object = nlohmann::json::parse(text, nullptr, false);
	if (!object.is_object())
		return fail("read an event: the daemon sent something else");
	const auto address = [&](const char *key) -> std::optional<Ip4> {
		const auto found = object.find(key);
		if (found == object.end() || !found->is_number_unsigned())
			return std::nullopt;
		return Ip4{found->get<std::uint32_t>()};
	};
	EventView event;
	try {
		event.time = object.value("time", 0.0);
		event.event = object.value("event", "");
		event.rule = object.value("rule", "");
		event.reason = object.value("reason", "");
		event.count = object.value("count", 0U);
		event.log = object.value("log", true);
		if (const std::string mac = object.value("mac", ""); !mac.empty())
			if (const auto parsed = parse_mac(mac))
				event.mac = *parsed;
	} catch (const nlohmann::json::exception &error) {
		return fail(std::string("read an event: ") + error.what());
	}
	event.host = address("host");
	event.remote = address("remote");
	event.old_host = address("old_host");
	return event;
}

} // namespace ptrig
