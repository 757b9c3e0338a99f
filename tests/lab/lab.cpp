// The fixture: builds the network, writes configurations and drives ptrig through its CLI.
#include "tests/lab/lab.h"

#include <net/if.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "include/ptrig/abi.h"
#include "loader/map.h"
#include "loader/xdp.h"

namespace lab {

namespace {

/// TOML lines of `defaults`, but those whose key `more` sets, and then `more`.
std::string with_defaults(const std::vector<std::pair<std::string, std::string>> &defaults, const std::string &more) {
	std::string text;
	for (const auto &[key, value] : defaults)
		if (("\n" + more).find("\n" + key + " =") == std::string::npos)
			text += key + " = " + value + "\n";
	return text + more + "\n";
}

constexpr size_t kMostShown = 8192; ///< bytes of each list that a failed story shows

constexpr const char *kFirewall = R"(
flush ruleset
table ip lab_nat {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "wan0" masquerade
	}
}
table inet lab {
	chain input {
		type filter hook input priority filter; policy accept;
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname { "br0", "lan1if", "lan2if" } oifname { "wan0", "br0", "lan1if", "lan2if" } accept
	}
}
)";

} // namespace

std::string rule(const std::string &name, const std::string &trigger, const std::string &open,
		 const std::string &more) {
	return "[[rule]]\n" + with_defaults({{"name", "'" + name + "'"},
					     {"trigger", "['" + trigger + "']"},
					     {"open", "['" + open + "']"},
					     {"timeout", "'60s'"}},
					    more);
}

std::string game(const std::string &more) {
	return rule("game", "4000/tcp+udp", "6000-6010/tcp+udp", more);
}

std::unique_ptr<Ground> Lab::ground_;

void Lab::SetUp() {
	if (!why_not.empty())
		GTEST_SKIP() << why_not;
	if (ground_ && ground_->datapath != GetParam())
		tear_down();
	if (!ground_)
		build();
}

void Lab::build() {
	ground_ = std::make_unique<Ground>();
	ground_->datapath = GetParam();
	gw().sysctl("ipv4/ip_forward", "1");
	gw().sysctl("ipv4/icmp_ratelimit", "0");
	ip(gw(),
	   "link add wan0 address 02:00:00:00:00:02 type veth peer name eth0 address 02:00:00:00:00:10 netns wan\n"
	   "link add lan1if address 02:00:00:00:77:01 type veth peer name eth0 address 02:00:00:00:77:11 netns lan1\n"
	   "link add lan2if address 02:00:00:00:78:01 type veth peer name eth0 address 02:00:00:00:77:12 netns lan2\n"
	   "addr add 203.0.113.2/24 dev wan0\n"
	   "link set wan0 up\nlink set lan1if up\nlink set lan2if up\n"
	   "route add default via 203.0.113.10\n");
	if (xdp())
		ip(gw(), "addr add 192.168.77.1/24 dev lan1if\naddr add 192.168.78.1/24 dev lan2if\n");
	else
		ip(gw(), "link add br0 address 02:00:00:00:77:01 type bridge mcast_snooping 0\n"
			 "addr add 192.168.77.1/24 dev br0\n"
			 "link set lan1if master br0\nlink set lan2if master br0\nlink set br0 up\n");
	ip(wan(), "addr add 203.0.113.10/24 dev eth0\naddr add 203.0.113.11/24 dev eth0\n"
		  "addr add 203.0.113.12/24 dev eth0\naddr add 198.51.100.7/32 dev lo\nlink set eth0 up\n");
	ip(lan1(), "addr add " + host1() + "/24 dev eth0\nlink set eth0 up\nroute add default via 192.168.77.1\n");
	ip(lan2(), "addr add " + host2() + "/24 dev eth0\nlink set eth0 up\nroute add default via " +
			   (xdp() ? "192.168.78.1" : "192.168.77.1") + "\n");
	if (xdp()) // XDP sees no unfinished checksums, and a veth takes redirected frames only with NAPI (GRO)
		for (const NetNs *host : {&lan1(), &lan2(), &wan()})
			must(*host, {"ethtool", "-K", "eth0", "tx", "off", "gro", "on"});
	load_firewall();
	for (const NetNs *host : {&lan1(), &lan2()}) // links come up in their own time
		if (!eventually(5s, [&] { return try_trigger(*host, {kRemote1, 9}, {}, 50ms).has_value(); }))
			throw std::runtime_error(host->name() + " does not reach the remote");
	listening_.clear();
	must(gw(), {"conntrack", "-F"});
	spoiled_ = false;
}

void Lab::TearDown() {
	if (!ground_)
		return;
	background_.clear();
	if (HasFailure())
		for (const Words &words : {Words{"status"}, {"rule", "list"}, {"lease", "list"}, {"session", "list"}}) {
			const Output output = ptrig(words);
			std::cout << output.out.substr(0, kMostShown) << output.err;
		}
	listening_.clear();
	std::error_code ignored;
	std::filesystem::remove_all("/etc/ptrig/rules.d", ignored);
	if (ground_->up_with && !spoiled_ && !HasFailure())
		tidy_up();
	else
		tear_down();
	std::filesystem::remove(kConfig, ignored);
}

void Lab::tidy_up() {
	load_firewall();
	const std::string gateway = *ground_->up_with;
	apply("", gateway);
	ptrig({"session", "close", "--all"});
	must(gw(), {"conntrack", "-F"});
	const Json status = json({"status"});
	for (const char *what : {"rules", "leases", "sessions"})
		EXPECT_EQ(status.at(what), 0) << what << " are left without any rule";
	for (const char *what : {"rules", "leases", "sessions", "halfopen"})
		EXPECT_EQ(status.at("limits").at(what).at("used"), 0) << what << " are lost: in use without any rule";
	if (HasFailure())
		tear_down();
}

void Lab::tear_down() {
	const Output down = ptrig({"down"});
	EXPECT_EQ(down.status, 0) << "ptrig down: " << down.err;
	EXPECT_FALSE(std::filesystem::exists(kPins)) << "pins are left after ptrig down";
	std::error_code ignored;
	std::filesystem::remove_all(kPins, ignored);
	ground_.reset();
}

void Lab::start_afresh() {
	if (ground_->up_with) {
		EXPECT_EQ(ptrig({"down"}).status, 0);
	}
}

void Lab::set_abi(std::uint32_t abi) {
	(*ptrig::MappedArray<ptrig_state>::open(kPins, "pt_state"))[0].abi = abi;
}

void Lab::sysctl(const std::string &key, const std::string &value) {
	spoiled_ = true;
	gw().sysctl(key, value);
}

void Lab::ip(const NetNs &where, const std::string &commands) {
	spoiled_ = true;
	must(where, {"ip", "-batch", "-"}, commands);
}
void Lab::load_firewall() {
	nft(kFirewall);
}

void Lab::tc(const Words &words) {
	spoiled_ = true;
	Words all{"tc"};
	all.insert(all.end(), words.begin(), words.end());
	must(gw(), all);
}

void Lab::nft(const std::string &commands) {
	must(gw(), {"nft", "-f", "-"}, commands);
}

std::string Lab::mac_of(const NetNs &host, const std::string &device) const {
	return Json::parse(must(host, {"ip", "-j", "link", "show", "dev", device})).at(0).at("address");
}

Process &Lab::background(const NetNs &where, const Words &words, const std::string &input, uid_t uid) {
	return *background_.emplace_back(std::make_unique<Process>(where, words, input, uid));
}

std::string Lab::config(const std::string &rules, const std::string &gateway, const std::string &tables) const {
	return "[gateway]\n" +
	       with_defaults({{"wan", "['wan0']"},
			      {"lan", xdp() ? "['lan1if', 'lan2if']" : "['br0']"},
			      {"datapath", "'" + std::string(GetParam()) + "'"},
			      {"max_sessions", "4096"},
			      {"max_leases", "1024"}},
			     gateway) +
	       tables + "\n" + rules;
}

void Lab::write(const std::string &path, const std::string &text) const {
	std::filesystem::create_directories(std::filesystem::path(path).parent_path());
	std::ofstream file(path);
	file << text << std::flush;
	if (!file)
		throw std::runtime_error("write " + path);
}

Output Lab::ptrig(const Words &words, const std::string &input, milliseconds deadline) const {
	Words all{PTRIG_BIN};
	all.insert(all.end(), words.begin(), words.end());
	if (!words.empty() && words.front() == "down")
		ground_->up_with.reset();
	return run(gw(), all, input, deadline);
}

Json Lab::json(const Words &words) const {
	Words all = words;
	all.push_back("-j");
	const Output output = ptrig(all);
	if (output.status != 0)
		throw std::runtime_error("ptrig " + words.front() + " -j: status " + std::to_string(output.status) +
					 ": " + output.err);
	return Json::parse(output.out);
}

void Lab::up(const std::string &rules, const std::string &gateway, const std::string &tables) {
	if (ground_->up_with && *ground_->up_with != gateway)
		start_afresh();
	write(kConfig, config(rules, gateway, tables));
	const Output output = ptrig({ground_->up_with ? "apply" : "up"});
	if (output.status != 0)
		throw std::runtime_error("ptrig up: status " + std::to_string(output.status) + ": " + output.err);
	ground_->up_with = gateway;
	const Json status = json({"status"});
	counters_at_up_ = status.at("counters");
	if (gateway.find("datapath") != std::string::npos || gateway.find("lan") != std::string::npos)
		return;
	for (const char *side : {"wan", "lan"})
		for (const Json &device : status.at(side)) {
			const std::string why =
				device.at("name").get<std::string>() + ": sessions from it go by the kernel";
			const bool told = status.at("warnings").dump().find(why) != std::string::npos;
			EXPECT_EQ(device.at("datapath"), told ? "kernel" : GetParam()) << device;
		}
}

Process &Lab::run_daemon() {
	Process &daemon = background(gw(), {PTRIG_BIN, "run"});
	if (!eventually(30s, [&] { return daemon.err().find("ready") != std::string::npos; }))
		throw std::runtime_error("ptrig run is not ready: " + daemon.err());
	return daemon;
}

Process &Lab::start_monitor() {
	Process &process = background(gw(), {PTRIG_BIN, "monitor", "-j"});
	const bool connected = eventually(15s, [&] {
		ptrig({"apply"}); // an event that does no harm
		return eventually(200ms, [&] { return !process.out().empty(); });
	});
	EXPECT_TRUE(connected) << "no config event: " << process.err();
	return process;
}

std::vector<Json> Lab::events(const Process &monitor) {
	std::vector<Json> list;
	std::istringstream lines(monitor.out());
	for (std::string line; std::getline(lines, line) && !lines.eof();) // the last one may be half written
		if (Json event = Json::parse(line); event.at("event") != "config")
			list.push_back(std::move(event));
	return list;
}

Process &Lab::run_daemon(const std::string &rules, const std::string &gateway, const std::string &tables) {
	up(rules, gateway, tables);
	return run_daemon();
}

void Lab::apply(const std::string &rules, const std::string &gateway, const std::string &tables) {
	write(kConfig, config(rules, gateway, tables));
	const Output output = ptrig({"apply"});
	if (output.status != 0)
		throw std::runtime_error("ptrig apply: status " + std::to_string(output.status) + ": " + output.err);
}

Json Lab::leases(const std::string &rule) const {
	return rule.empty() ? json({"lease", "list"}) : json({"lease", "list", "--rule", rule});
}

Json Lab::rule_row(const std::string &name) const {
	for (const Json &row : json({"rule", "list"}))
		if (row.at("name") == name)
			return row;
	throw std::runtime_error("rule list has no " + name);
}

std::string Lab::datapath_of(const std::string &device) const {
	const Json status = json({"status"});
	for (const char *side : {"wan", "lan"})
		for (const Json &row : status.at(side))
			if (row.at("name") == device)
				return row.at("datapath");
	return "not there";
}

std::uint64_t Lab::counter(const std::string &reason) const {
	return json({"status"}).at("counters").value(reason, std::uint64_t{0}) -
	       counters_at_up_.value(reason, std::uint64_t{0});
}

std::uint64_t Lab::refused(const std::string &rule, const std::string &reason) const {
	return rule_row(rule).at("refused").value(reason, std::uint64_t{0});
}

} // namespace lab
