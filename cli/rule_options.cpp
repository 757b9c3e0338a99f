// The options of a rule's keys, and their help.
#include "cli/rule_options.h"

#include <algorithm>
#include <array>

#include "loader/rule_file.h"

namespace ptrig::cli {

namespace {

struct KeyHelp {
	const char *key;
	const char *values;
	const char *about;
};

constexpr std::array<KeyHelp, 18> kHelp{{
	{"enabled", "true|false", "A rule that is not enabled has no leases"},
	{"description", "TEXT", "Free text"},
	{"trigger", "PORTS/PROTO", "Destination ports that trigger, towards the WAN"},
	{"trigger_remotes", "any|PREFIX", "Only packets to these remotes trigger"},
	{"sources", "lan|routed|PREFIX|MAC[@IFACE]", "Which LAN hosts may trigger"},
	{"open", "PORTS[=HOSTPORT]/PROTO", "WAN ports to open, and where they lead on the host"},
	{"remotes", "any|contacted|PREFIX", "Who may come in"},
	{"timeout", "TIME", "Idle time after the last refresh (10m)"},
	{"refresh", "trigger|traffic", "What keeps the lease alive"},
	{"conflict", "hold|takeover", "When another host triggers"},
	{"yield_after", "none|TIME", "Idle time after which another host may take over"},
	{"close", "idle|connection", "End the lease with the connection that triggered it, too"},
	{"confirm", "true|false", "Grant only when the remote has answered"},
	{"max_lifetime", "none|TIME", "End the lease then, however busy"},
	{"on_close", "keep|kill", "What becomes of a lease's sessions when it ends"},
	{"session_limit", "none|NUMBER", "Sessions per lease"},
	{"cooldown", "TIME", "How long another host must wait after a lease"},
	{"log", "true|false", "A journal line per grant, refusal and end"},
}};

std::string option_of(std::string_view key) {
	std::string option = "--" + std::string(key);
	std::replace(option.begin(), option.end(), '_', '-');
	return option;
}

} // namespace

void add_rule_options(CLI::App *command, RuleOptions &options) {
	for (const auto &key : rule_keys()) {
		const auto *help =
			std::find_if(kHelp.begin(), kHelp.end(), [&](const KeyHelp &h) { return h.key == key; });
		if (help == kHelp.end()) // the name is an argument, not an option
			continue;
		add_list(command, option_of(key), options.values[key], help->about, help->values);
	}
	command->add_flag("--save", options.save, "Write it to rules.d too, so that it outlives this gateway");
}

Done set_given_keys(Rule &rule, const RuleOptions &options) {
	for (const auto &[key, values] : options.values) {
		if (values.empty())
			continue;
		if (auto set = set_rule_key(rule, key, values); !set)
			return tl::unexpected(set.error());
	}
	return {};
}

} // namespace ptrig::cli
