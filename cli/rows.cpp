// The lists of fields: one place for a JSON key and its column.
#include "cli/rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "include/ptrig/abi.h"

namespace ptrig::cli {

namespace {

Json proto_json(Protos protos) {
	if (protos == (PTRIG_TCP | PTRIG_UDP))
		return "tcp+udp";
	return protos == PTRIG_TCP ? "tcp" : "udp";
}

template <typename List> Json texts(const List &list) {
	Json array = Json::array();
	for (const auto &item : list)
		array.push_back(to_string(item));
	return array;
}

template <typename T> Json text_or_null(const std::optional<T> &value) {
	return value ? Json(to_string(*value)) : Json(nullptr);
}

double in_seconds(nanoseconds time) {
	return std::chrono::duration<double>(time).count();
}

Json seconds_or_null(const std::optional<nanoseconds> &time) {
	return time ? seconds_json(in_seconds(*time)) : Json(nullptr);
}

Json trigger_json(const LeaseView &lease) {
	return {{"proto", proto_json(lease.trigger_proto)},
		{"remote", to_string(lease.trigger_remote)},
		{"port", lease.trigger_port}};
}

std::string expiry_text(const LeaseView &lease, const Style &style) {
	const std::string left = duration_text(lease.expires_in_s, style);
	return lease.state == "live" ? left : lease.state + " " + left;
}

/// The rules before its own whose leases take packets to its ports.
std::string behind_text(const LeaseView &lease, const Style &) {
	if (lease.behind.empty())
		return "";
	return fmt::format("{} {}", lease.behind_wholly ? "behind" : "partly behind", fmt::join(lease.behind, ", "));
}

std::string trigger_text(const LeaseView &lease, const Style &) {
	return fmt::format("{}:{}/{}", to_string(lease.trigger_remote), lease.trigger_port,
			   text_of(proto_json(lease.trigger_proto)));
}

Json sources_json(const RuleView &view) {
	const Sources &sources = view.rule.sources;
	if (sources.kind == Sources::Kind::kLan)
		return Json::array({"lan"});
	if (sources.kind == Sources::Kind::kRouted)
		return Json::array({"routed"});
	Json array = texts(sources.prefixes);
	for (const auto &mac : sources.macs)
		array.push_back(to_string(mac));
	return array;
}

Json remotes_json(const RuleView &view) {
	const Remotes &remotes = view.rule.remotes;
	if (remotes.kind == Remotes::Kind::kAny)
		return Json::array({"any"});
	if (remotes.kind == Remotes::Kind::kContacted)
		return Json::array({"contacted"});
	return texts(remotes.prefixes);
}

Json trigger_remotes_json(const RuleView &view) {
	return view.rule.trigger_remotes.empty() ? Json::array({"any"}) : texts(view.rule.trigger_remotes);
}

Json refused_json(const RuleView &view) {
	Json object = Json::object();
	for (const auto &[reason, count] : view.refused)
		object[reason] = count;
	return object;
}

Json last_trigger_json(const RuleView &view) {
	if (!view.last)
		return nullptr;
	return {{"host", to_string(view.last->host)},
		{"remote", to_string(view.last->remote)},
		{"age_s", seconds_json(view.last->age_s)},
		{"reason", view.last->reason}};
}

std::string enabled_text(const RuleView &view, const Style &) {
	return view.rule.enabled ? "on" : "off";
}

std::string refused_text(const RuleView &view, const Style &) {
	std::uint64_t sum = 0;
	for (const auto &refused : view.refused)
		sum += refused.count;
	return std::to_string(sum);
}

/// Who talks to whom.
std::vector<Field<SessionView>> session_tuple() {
	using V = SessionView;
	using S = Style;
	static const auto end = [](Ip4 address, std::uint16_t port) {
		return fmt::format("{}:{}", to_string(address), port);
	};
	return {
		{.key = "rule",
		 .title = "RULE",
		 .json = [](const V &v) { return v.rule.empty() ? Json(nullptr) : Json(v.rule); },
		 .width = 14},
		{.key = "proto", .title = "PROTO", .json = [](const V &v) { return proto_json(v.proto); }, .width = 5},
		{.key = "remote",
		 .title = "REMOTE",
		 .json = [](const V &v) { return Json(to_string(v.remote)); },
		 .text = [](const V &v, const S &) { return end(v.remote, v.remote_port); },
		 .width = 21},
		{.key = "remote_port", .json = [](const V &v) { return Json(v.remote_port); }},
		{.key = "wan",
		 .title = "WAN",
		 .json = [](const V &v) { return Json(to_string(v.wan)); },
		 .text = [](const V &v, const S &) { return end(v.wan, v.wan_port); },
		 .width = 21},
		{.key = "wan_port", .json = [](const V &v) { return Json(v.wan_port); }},
		{.key = "host",
		 .title = "HOST",
		 .json = [](const V &v) { return Json(to_string(v.host)); },
		 .text = [](const V &v, const S &) { return end(v.host, v.host_port); },
		 .width = 21},
		{.key = "host_port", .json = [](const V &v) { return Json(v.host_port); }},
	};
}

/// How they are doing.
std::vector<Field<SessionView>> session_traffic() {
	using V = SessionView;
	using S = Style;
	return {
		{.key = "state", .title = "STATE", .json = [](const V &v) { return Json(v.state); }, .width = 11},
		{.key = "idle_s",
		 .title = "IDLE",
		 .json = [](const V &v) { return seconds_json(v.idle_s); },
		 .text = [](const V &v, const S &style) { return duration_text(v.idle_s, style); },
		 .right = true,
		 .width = 6},
		{.key = "packets_in",
		 .title = "IN",
		 .json = [](const V &v) { return Json(v.packets_in); },
		 .right = true,
		 .width = 9},
		{.key = "packets_out",
		 .title = "OUT",
		 .json = [](const V &v) { return Json(v.packets_out); },
		 .right = true,
		 .width = 9},
		{.key = "bytes_in",
		 .title = "BYTES IN",
		 .json = [](const V &v) { return Json(v.bytes_in); },
		 .text = [](const V &v, const S &style) { return bytes_text(v.bytes_in, style); },
		 .right = true,
		 .width = 9},
		{.key = "bytes_out",
		 .title = "BYTES OUT",
		 .json = [](const V &v) { return Json(v.bytes_out); },
		 .text = [](const V &v, const S &style) { return bytes_text(v.bytes_out, style); },
		 .right = true,
		 .width = 9},
	};
}

} // namespace

const std::vector<Field<LeaseView>> &lease_fields() {
	using V = LeaseView;
	static const std::vector<Field<V>> kFields{
		{.key = "rule", .title = "RULE", .json = [](const V &v) { return Json(v.rule); }},
		{.key = "host", .title = "HOST", .json = [](const V &v) { return Json(to_string(v.host)); }},
		{.key = "mac", .json = [](const V &v) { return text_or_null(v.mac); }},
		{.key = "wan", .json = [](const V &v) { return Json(to_string(v.wan)); }},
		{.key = "remote",
		 .title = "REMOTE",
		 .json = [](const V &v) { return text_or_null(v.remote); },
		 .if_needed = true},
		{.key = "open", .title = "OPEN", .json = [](const V &v) { return texts(v.open); }},
		{.key = "state", .json = [](const V &v) { return Json(v.state); }},
		{.key = "age_s", .json = [](const V &v) { return seconds_json(v.age_s); }},
		{.key = "idle_s", .json = [](const V &v) { return seconds_json(v.idle_s); }},
		{.key = "expires_in_s",
		 .title = "EXPIRES IN",
		 .json = [](const V &v) { return seconds_json(v.expires_in_s); },
		 .text = expiry_text,
		 .right = true},
		{.key = "sessions",
		 .title = "SESSIONS",
		 .json = [](const V &v) { return Json(v.sessions); },
		 .right = true},
		{.key = "packets",
		 .title = "PACKETS",
		 .json = [](const V &v) { return Json(v.packets); },
		 .right = true},
		{.key = "bytes",
		 .title = "BYTES",
		 .json = [](const V &v) { return Json(v.bytes); },
		 .text = [](const V &v, const Style &style) { return bytes_text(v.bytes, style); },
		 .right = true},
		{.key = "trigger", .title = "TRIGGERED BY", .json = trigger_json, .text = trigger_text},
		{.key = "behind",
		 .title = "NOTE",
		 .json = [](const V &v) { return Json(v.behind); },
		 .text = behind_text,
		 .if_needed = true},
	};
	return kFields;
}

const std::vector<Field<SessionView>> &session_fields() {
	static const std::vector<Field<SessionView>> kFields = [] {
		auto fields = session_tuple();
		for (auto &field : session_traffic())
			fields.push_back(field);
		return fields;
	}();
	return kFields;
}

const std::vector<Field<RuleView>> &rule_fields() {
	using V = RuleView;
	static const std::vector<Field<V>> kFields{
		{.key = "name", .title = "RULE", .json = [](const V &v) { return Json(v.rule.name); }},
		{.key = "enabled",
		 .title = "STATE",
		 .json = [](const V &v) { return Json(v.rule.enabled); },
		 .text = enabled_text},
		{.key = "trigger", .title = "TRIGGER", .json = [](const V &v) { return texts(v.rule.trigger); }},
		{.key = "trigger_remotes", .json = trigger_remotes_json},
		{.key = "sources", .json = sources_json},
		{.key = "open", .title = "OPEN", .json = [](const V &v) { return texts(v.rule.open); }},
		{.key = "remotes", .title = "REMOTES", .json = remotes_json},
		{.key = "timeout",
		 .title = "TIMEOUT",
		 .json = [](const V &v) { return Json(to_string(v.rule.timeout)); },
		 .right = true},
		{.key = "refresh", .json = [](const V &v) { return Json(to_string(v.rule.refresh)); }},
		{.key = "conflict", .json = [](const V &v) { return Json(to_string(v.rule.conflict)); }},
		{.key = "yield_after", .json = [](const V &v) { return text_or_null(v.rule.yield_after); }},
		{.key = "close", .json = [](const V &v) { return Json(to_string(v.rule.close)); }},
		{.key = "confirm", .json = [](const V &v) { return Json(v.rule.confirm); }},
		{.key = "max_lifetime", .json = [](const V &v) { return text_or_null(v.rule.max_lifetime); }},
		{.key = "on_close", .json = [](const V &v) { return Json(to_string(v.rule.on_close)); }},
		{.key = "session_limit",
		 .json = [](const V &v) { return v.rule.session_limit ? Json(*v.rule.session_limit) : Json(nullptr); }},
		{.key = "cooldown", .json = [](const V &v) { return Json(to_string(v.rule.cooldown)); }},
		{.key = "log", .json = [](const V &v) { return Json(v.rule.log); }},
		{.key = "timeout_s", .json = [](const V &v) { return seconds_json(in_seconds(v.rule.timeout)); }},
		{.key = "yield_after_s", .json = [](const V &v) { return seconds_or_null(v.rule.yield_after); }},
		{.key = "max_lifetime_s", .json = [](const V &v) { return seconds_or_null(v.rule.max_lifetime); }},
		{.key = "cooldown_s", .json = [](const V &v) { return seconds_json(in_seconds(v.rule.cooldown)); }},
		{.key = "leases", .title = "LEASES", .json = [](const V &v) { return Json(v.leases); }, .right = true},
		{.key = "triggers_seen",
		 .title = "TRIGGERS",
		 .json = [](const V &v) { return Json(v.triggers_seen); },
		 .right = true},
		{.key = "granted",
		 .title = "GRANTED",
		 .json = [](const V &v) { return Json(v.granted); },
		 .right = true},
		{.key = "refused", .title = "REFUSED", .json = refused_json, .text = refused_text, .right = true},
		{.key = "last_trigger", .json = last_trigger_json},
		{.key = "description",
		 .title = "DESCRIPTION",
		 .json = [](const V &v) { return Json(v.rule.description); },
		 .if_needed = true},
	};
	return kFields;
}

const std::vector<Field<InterfaceView>> &interface_fields() {
	using V = InterfaceView;
	static const std::vector<Field<V>> kFields{
		{.key = "name", .json = [](const V &v) { return Json(v.name); }},
		{.key = "ifindex", .json = [](const V &v) { return v.ifindex == 0 ? Json(nullptr) : Json(v.ifindex); }},
		{.key = "datapath", .json = [](const V &v) { return Json(v.datapath); }},
		{.key = "why", .json = [](const V &v) { return v.why.empty() ? Json(nullptr) : Json(v.why); }},
		{.key = "addresses", .json = [](const V &v) { return Json(v.addresses); }},
	};
	return kFields;
}

const std::vector<Field<EventView>> &event_fields() {
	using V = EventView;
	static const auto text = [](const std::string &value) { return value.empty() ? Json(nullptr) : Json(value); };
	static const std::vector<Field<V>> kFields{
		{.key = "time", .json = [](const V &v) { return Json(rfc3339(v.time)); }},
		{.key = "event", .json = [](const V &v) { return Json(v.event); }},
		{.key = "rule", .json = [](const V &v) { return text(v.rule); }},
		{.key = "host", .json = [](const V &v) { return text_or_null(v.host); }},
		{.key = "remote", .json = [](const V &v) { return text_or_null(v.remote); }},
		{.key = "reason", .json = [](const V &v) { return text(v.reason); }},
		{.key = "old_host", .json = [](const V &v) { return text_or_null(v.old_host); }},
		{.key = "mac", .json = [](const V &v) { return text_or_null(v.mac); }},
		{.key = "count", .json = [](const V &v) { return Json(v.count); }},
	};
	return kFields;
}

const std::vector<Field<Diagnostic>> &diagnostic_fields() {
	using V = Diagnostic;
	static const std::vector<Field<V>> kFields{
		{.key = "file", .json = [](const V &v) { return Json(v.file); }},
		{.key = "line", .json = [](const V &v) { return Json(v.line); }},
		{.key = "column", .json = [](const V &v) { return Json(v.column); }},
		{.key = "message", .json = [](const V &v) { return Json(v.message); }},
	};
	return kFields;
}

} // namespace ptrig::cli
