// Tables, numbers, times and the JSON shapes that are a published contract.
#include "cli/output.h"
#include "cli/rows.h"

#include <cstdlib>
#include <gtest/gtest.h>

#include "include/ptrig/abi.h"

namespace ptrig::cli {
namespace {

/// What is written to a FILE, as text.
class Capture {
public:
	Capture() : file_(open_memstream(&text_, &size_)) {}
	~Capture() {
		std::fclose(file_);
		std::free(text_);
	}
	Capture(const Capture &) = delete;
	Capture &operator=(const Capture &) = delete;
	FILE *file() { return file_; }
	std::string text() {
		std::fflush(file_);
		return {text_, size_};
	}

private:
	char *text_ = nullptr;
	std::size_t size_ = 0;
	FILE *file_;
};

constexpr Style kPlain{};
constexpr Style kTerminal{.color = true, .units = true};

LeaseView sample_lease() {
	LeaseView lease;
	lease.rule = "irc-ident";
	lease.host = *parse_ip4("192.168.77.11");
	lease.wan = *parse_ip4("203.0.113.2");
	lease.mac = *parse_mac("02:00:00:00:00:11");
	lease.state = "live";
	lease.sessions = 1;
	lease.open = {*parse_open_range("113/tcp"), *parse_open_range("6000-6010=7000/udp")};
	lease.age_s = 12.3456;
	lease.idle_s = 3;
	lease.expires_in_s = 597;
	lease.packets = 42;
	lease.bytes = 2048;
	lease.trigger_proto = PTRIG_TCP;
	lease.trigger_remote = *parse_ip4("203.0.113.10");
	lease.trigger_port = 6667;
	return lease;
}

Rule sample_rule() {
	Rule rule;
	rule.name = "irc-ident";
	rule.trigger = {*parse_port_range("6667/tcp")};
	rule.open = {*parse_open_range("113/tcp")};
	return rule;
}

TEST(Output, UnitsAreForTerminals) {
	EXPECT_EQ(duration_text(252, kTerminal), "4m12s");
	EXPECT_EQ(duration_text(252, kPlain), "252");
	EXPECT_EQ(duration_text(59.6, kTerminal), "1m00s");
	EXPECT_EQ(duration_text(7440, kTerminal), "2h04m");
	EXPECT_EQ(duration_text(90000, kTerminal), "1d01h");
	EXPECT_EQ(duration_text(-1, kPlain), "0");
	EXPECT_EQ(bytes_text(1023, kTerminal), "1023 B");
	EXPECT_EQ(bytes_text(1536, kTerminal), "1.5 KiB");
	EXPECT_EQ(bytes_text(256ULL << 20, kTerminal), "256 MiB");
	EXPECT_EQ(bytes_text(1ULL << 20, kPlain), "1048576");
	EXPECT_EQ(bytes_text(~0ULL, kTerminal), "16 EiB");
}

TEST(Output, ColourIsForTerminals) {
	EXPECT_EQ(paint("x", Color::kRed, kPlain), "x");
	EXPECT_EQ(paint("x", Color::kRed, kTerminal), "\033[31mx\033[0m");
	Capture file;
	EXPECT_FALSE(style_of(stdin).color && style_of(file.file()).color);
}

TEST(Output, SecondsAreNumbers) {
	EXPECT_EQ(seconds_json(600).dump(), "600");
	EXPECT_EQ(seconds_json(12.3456).dump(), "12.346");
	EXPECT_EQ(seconds_json(0).dump(), "0");
}

TEST(Output, TimeIsRfc3339) {
	EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00.000Z");
	EXPECT_EQ(rfc3339(1700000000.25), "2023-11-14T22:13:20.250Z");
}

TEST(Output, NothingSteersTheTerminal) {
	EXPECT_EQ(printable("a\033[31mb\n"), "a?[31mb ");
	EXPECT_EQ(printable("x\xC2\x9B"
			    "31m"),
		  "x?31m");
	EXPECT_EQ(printable("→ ä"), "→ ä");
}

TEST(Output, ColumnsAreAligned) {
	Capture out;
	print_table(out.file(), {{"NAME"}, {"→"}, {"N", true}, {"SELDOM", false, 0, true}},
		    {{"a", "bb", "1", ""}, {"long", "→→→", "200", "-"}}, kPlain);
	EXPECT_EQ(out.text(), "NAME  →      N\n"
			      "a     bb     1\n"
			      "long  →→→  200\n");
}

TEST(Output, AnEmptyTableSaysNothing) {
	Capture out;
	print_rows<LeaseView>(out.file(), false, kPlain, lease_fields(), {});
	EXPECT_EQ(out.text(), "");
	print_rows<LeaseView>(out.file(), true, kPlain, lease_fields(), {});
	EXPECT_EQ(out.text(), "[]\n");
}

TEST(Output, StreamedRowsAreOneArray) {
	Capture out;
	RowWriter<LeaseView> writer(out.file(), true, kPlain, lease_fields());
	writer.add(sample_lease());
	writer.add(sample_lease());
	EXPECT_EQ(writer.finish(), 2U);
	EXPECT_EQ(Json::parse(out.text()).size(), 2U);
}

TEST(Output, TextThatIsNotUtf8DoesNotThrow) {
	EXPECT_NO_THROW(json_line(Json{{"description", "\xff\xfe"}}));
}

TEST(Rows, LeaseAsJson) {
	const Json json = row_json(lease_fields(), sample_lease());
	EXPECT_EQ(json, Json::parse(R"({"rule":"irc-ident","host":"192.168.77.11","mac":"02:00:00:00:00:11",
		"wan":"203.0.113.2","remote":null,"open":["113/tcp","6000-6010=7000/udp"],"state":"live",
		"age_s":12.346,"idle_s":3,"expires_in_s":597,"sessions":1,"packets":42,"bytes":2048,
		"trigger":{"proto":"tcp","remote":"203.0.113.10","port":6667},"behind":[]})"));
	LeaseView lease = sample_lease();
	lease.remote = lease.trigger_remote;
	lease.mac.reset();
	EXPECT_EQ(row_json(lease_fields(), lease)["remote"], "203.0.113.10");
	EXPECT_TRUE(row_json(lease_fields(), lease)["mac"].is_null());
	lease.behind = {"a", "b"};
	EXPECT_EQ(row_json(lease_fields(), lease)["behind"], Json::parse(R"(["a","b"])"));
}

TEST(Rows, ALeaseBehindAnotherRuleSaysSo) {
	LeaseView lease = sample_lease();
	Capture before, partly, wholly;
	print_rows<LeaseView>(before.file(), false, kPlain, lease_fields(), {lease});
	EXPECT_EQ(before.text().find("NOTE"), std::string::npos);
	lease.behind = {"web", "chat"};
	print_rows<LeaseView>(partly.file(), false, kPlain, lease_fields(), {lease});
	EXPECT_NE(partly.text().find("partly behind web, chat\n"), std::string::npos) << partly.text();
	lease.behind_wholly = true;
	print_rows<LeaseView>(wholly.file(), false, kPlain, lease_fields(), {lease});
	EXPECT_NE(wholly.text().find("  behind web, chat\n"), std::string::npos) << wholly.text();
}

TEST(Rows, LeaseAsTable) {
	Capture out;
	print_rows<LeaseView>(out.file(), false, Style{.units = true}, lease_fields(), {sample_lease()});
	EXPECT_EQ(out.text(),
		  "RULE       HOST           OPEN                         EXPIRES IN  SESSIONS  PACKETS    BYTES  "
		  "TRIGGERED BY\n"
		  "irc-ident  192.168.77.11  113/tcp, 6000-6010=7000/udp       9m57s         1       42  2.0 KiB  "
		  "203.0.113.10:6667/tcp\n");
}

TEST(Rows, SessionAsJson) {
	SessionView session;
	session.rule = "irc-ident";
	session.proto = PTRIG_UDP;
	session.remote = *parse_ip4("203.0.113.10");
	session.wan = *parse_ip4("203.0.113.2");
	session.host = *parse_ip4("192.168.77.11");
	session.remote_port = 4000;
	session.wan_port = 6000;
	session.host_port = 7000;
	session.state = "half-open";
	session.packets_in = 3;
	EXPECT_EQ(row_json(session_fields(), session),
		  Json::parse(R"({"rule":"irc-ident","proto":"udp","remote":"203.0.113.10","remote_port":4000,
		"wan":"203.0.113.2","wan_port":6000,"host":"192.168.77.11","host_port":7000,"state":"half-open","idle_s":0,
		"packets_in":3,"packets_out":0,"bytes_in":0,"bytes_out":0})"));
}

TEST(Rows, RuleHasEveryKeyOfTheFile) {
	const Json json = row_json(rule_fields(), RuleView{.rule = sample_rule()});
	for (const auto &key : rule_keys())
		EXPECT_TRUE(json.contains(key)) << key;
	EXPECT_EQ(json["remotes"], Json::array({"any"}));
	EXPECT_EQ(json["timeout"], "10m");
	EXPECT_EQ(json["timeout_s"], 600);
	EXPECT_TRUE(json["yield_after"].is_null());
	EXPECT_TRUE(json["last_trigger"].is_null());
	EXPECT_EQ(json["refused"], Json::object());
}

TEST(Rows, RuleTellsItsLastTrigger) {
	RuleView view{.rule = sample_rule()};
	view.refused = {{"held", 3}, {"cooldown", 1}};
	view.last = LastTrigger{*parse_ip4("192.168.77.12"), *parse_ip4("203.0.113.10"), 2.5, "held"};
	const Json json = row_json(rule_fields(), view);
	EXPECT_EQ(json["refused"], (Json{{"held", 3}, {"cooldown", 1}}));
	EXPECT_EQ(json["last_trigger"],
		  (Json{{"host", "192.168.77.12"}, {"remote", "203.0.113.10"}, {"age_s", 2.5}, {"reason", "held"}}));
}

TEST(Rows, StatusAsJson) {
	StatusView status;
	status.config = "/etc/ptrig/ptrig.toml";
	status.pin_dir = "/sys/fs/bpf/ptrig";
	status.wan = {{"ppp0", 0, "waiting", {}}};
	status.lan = {{"br0", 3, "tc", {"192.168.77.1/24"}}};
	status.limits = {{"leases", 1, 8192}};
	status.counters = {{"forwarded", 7}};
	status.mended = 2;
	status.warnings = {"forwarding is off"};
	const Json json = status_json(status, "0.1.0");
	EXPECT_TRUE(json["daemon"].is_null());
	EXPECT_EQ(json["wan"][0]["datapath"], "waiting");
	EXPECT_EQ(json["lan"][0],
		  Json::parse(
			  R"({"name":"br0","ifindex":3,"datapath":"tc","why":null,"addresses":["192.168.77.1/24"]})"));
	EXPECT_EQ(json["limits"]["leases"], (Json{{"used", 1}, {"max", 8192}}));
	EXPECT_EQ(json["counters"], (Json{{"forwarded", 7}}));
	EXPECT_EQ(json["mended"], 2);
	EXPECT_EQ(json["warnings"].size(), 1U);
	for (const char *key : {"version", "config", "pin_dir", "rules", "leases", "sessions"})
		EXPECT_TRUE(json.contains(key)) << key;
	status.daemon = 4711;
	EXPECT_EQ(status_json(status, "0.1.0")["daemon"], 4711);
}

TEST(Rows, EventAsJson) {
	EventView event;
	event.time = 1700000000;
	event.event = "refused";
	event.rule = "irc-ident";
	event.reason = "held";
	event.host = *parse_ip4("192.168.77.12");
	event.count = 2;
	EXPECT_EQ(row_json(event_fields(), event),
		  Json::parse(R"({"time":"2023-11-14T22:13:20.000Z","event":"refused","rule":"irc-ident",
		"host":"192.168.77.12","remote":null,"reason":"held","old_host":null,"mac":null,"count":2})"));
}

TEST(Rows, RuleEcho) {
	Rule rule = sample_rule();
	rule.open.push_back(*parse_open_range("6000-6010=7000/udp"));
	rule.remotes.kind = Remotes::Kind::kContacted;
	Capture out;
	print_rule_echo(out.file(), rule, kPlain);
	EXPECT_EQ(out.text(), "irc-ident: trigger 6667/tcp → WAN\n"
			      "  " + describe(rule.open[0]) +
				      "\n"
				      "  WAN 6000-6010 → host 7000-7010 udp\n"
				      "  timeout 10m\n"
				      "  remotes contacted\n");
}

TEST(Rows, AnEmptyLeaseListExplainsItself) {
	RuleView view{.rule = sample_rule()};
	EXPECT_EQ(explain_no_leases({view}, {}),
		  std::vector<std::string>{"no leases: closed until a LAN host sends to 6667/tcp (irc-ident)"});
	view.last = LastTrigger{*parse_ip4("192.168.77.12"), *parse_ip4("203.0.113.10"), 5, "source"};
	EXPECT_EQ(explain_no_leases({view}, {})[1], "irc-ident: last trigger 5s ago, 192.168.77.12 to 203.0.113.10: "
						    "the rule does not let this host trigger");
	EXPECT_EQ(explain_no_leases({}, {})[0], "no leases: there are no rules (ptrig rule add)");
	EXPECT_EQ(explain_no_leases({view}, {.rule = "other"})[0], "no leases: no rule matches");
	EXPECT_EQ(explain_no_leases({view}, {.port = *parse_port_range("113/udp")})[0], "no leases: no rule matches");
	EXPECT_EQ(explain_no_leases({view}, {.port = *parse_port_range("113/tcp")}).size(), 2U);
	view.rule.enabled = false;
	EXPECT_EQ(explain_no_leases({view}, {})[0], "no leases: disabled by `enabled = false` (ptrig rule enable)");
}

} // namespace
} // namespace ptrig::cli
