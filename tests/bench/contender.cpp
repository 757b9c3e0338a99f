// Sets the contenders' gateways up and makes their sessions, by packets only: nothing here knows ptrig's maps.
#include "tests/bench/contender.h"

#include <arpa/inet.h>

#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tests/lab/process.h"

namespace bench {

namespace {

using lab::Words;
using namespace std::chrono_literals;

constexpr int kTries = 20;

/// Rigs are numbered, so that each has names of its own.
std::string next_rig() {
	static int made = 0;
	return "r" + std::to_string(++made);
}

constexpr const char *kMasquerade = R"(
	chain postrouting {
		type nat hook postrouting priority srcnat
		oifname "wan0" masquerade
	}
)";
/// What a user would write instead of ptrig: whoever triggers is noted in forward and gets what comes in.
constexpr const char *kRecipe = R"(
	map owner {
		type inet_service : ipv4_addr
		flags dynamic, timeout
		size 65536
		timeout 7d
	}
	chain forward {
		type filter hook forward priority filter
		iifname "lan0" oifname "wan0" udp dport 4000 update @owner { 6000 : ip saddr }
	}
	chain prerouting {
		type nat hook prerouting priority dstnat
		iifname "wan0" dnat to udp dport map @owner
	}
)";
constexpr const char *kStatic = R"(
	chain prerouting {
		type nat hook prerouting priority dstnat
		iifname "wan0" udp dport 6000 dnat to 192.168.77.11
	}
)";

/// One packet of the host's to the trigger port.
void trigger(Rig &rig) {
	bench_plan plan = rig.plan(BENCH_OUT, 1);
	plan.remote_port = kTriggerPort;
	plan.host_port = htons(5999);
	rig.send(plan, 1);
}

/// A packet in and an answer out for flows `first`..`first + flows`.
void talk(Rig &rig, std::uint32_t first, std::uint32_t flows) {
	bench_plan plan = rig.plan(BENCH_PAIR, flows);
	plan.first = first;
	rig.send(plan, 2 * (std::uint64_t{flows} + 64));
}

class Limit : public Contender {
public:
	explicit Limit(const std::string &name) : Contender(name, next_rig()) { rig().attach_limit(name == "touch"); }
};

class Kernel : public Contender {
public:
	Kernel(const std::string &name, const Wanted &wanted) : Contender(name, next_rig()) {
		if (name == "forward") {
			route_only();
			return;
		}
		const std::string table = name == "nft" ? kRecipe : name == "dnat" ? kStatic : "";
		lab::must(rig().gateway(), {"nft", "-f", "-"}, "table ip bench {" + (kMasquerade + table) + "}\n");
		// As long as ptrig's: no session may end while it is measured.
		rig().gateway().sysctl("netfilter/nf_conntrack_udp_timeout", "3600");
		rig().gateway().sysctl("netfilter/nf_conntrack_udp_timeout_stream", "3600");
		if (name == "nft")
			trigger(rig());
		establish(wanted.sessions);
	}

private:
	/// No NAT: remotes and the host are routed to as they are.
	void route_only() { lab::must(rig().gateway(), {"ip", "route", "add", "203.0.114.2", "via", "192.168.77.11"}); }
	void establish(std::uint32_t sessions) {
		for (int i = 0; i < kTries; i++) {
			talk(rig(), 0, sessions);
			if (assured() >= sessions)
				return;
		}
		throw std::runtime_error(fmt::format("{}: {} of {} sessions", name(), assured(), sessions));
	}
	std::uint64_t assured() { return std::stoull(lab::must(rig().gateway(), {"conntrack", "-C"})); }
};

class Ptrig : public Contender {
public:
	Ptrig(const std::string &name, const Wanted &wanted)
	    : Contender(name, next_rig()), dir_("/run/" + rig().gateway().name()) {
		std::filesystem::create_directories(dir_);
		lab::must(rig().gateway(), {"nft", "-f", "-"}, "table ip bench {" + std::string(kMasquerade) + "}\n");
		rig().gateway().sysctl("netfilter/nf_conntrack_udp_timeout", "3600");
		std::ofstream(dir_ + "/ptrig.toml") << config(wanted) << std::flush;
		ptrig({"up", "-c", dir_ + "/ptrig.toml"});
		trigger(rig());
		if (status().at("leases") != 1)
			throw std::runtime_error(name + ": no lease: " + status().dump());
		if (wanted.sessions > 0)
			establish(wanted.sessions);
	}
	~Ptrig() override { lab::run(rig().gateway(), {PTRIG_BIN, "--pin-dir", pins(), "down"}); }

private:
	std::string pins() { return "/sys/fs/bpf/" + rig().gateway().name(); }
	std::string ptrig(const Words &words) {
		Words all{PTRIG_BIN, "--pin-dir", pins()};
		all.insert(all.end(), words.begin(), words.end());
		return lab::must(rig().gateway(), all);
	}
	nlohmann::json status() { return nlohmann::json::parse(ptrig({"status", "-j"})); }
	std::string config(const Wanted &wanted) {
		std::string text = fmt::format("[gateway]\nwan = ['wan0']\nlan = ['lan0']\ndatapath = '{}'\n"
					       "max_sessions = {}\nmax_halfopen = 4096\nmax_rules = {}\n"
					       "[timeouts]\nudp = '1h'\nhalfopen = '30s'\n"
					       "[limits]\nleases_per_host = 0\nsessions_per_host = 0\n"
					       "new_sessions_per_second = 0\n",
					       name(), wanted.max_sessions, std::max(4096U, wanted.rules));
		for (std::uint32_t i = 1; i < wanted.rules; i++) // none of them has a port that is used here
			text += fmt::format("[[rule]]\nname = 'r{}'\ntrigger = ['{}/tcp']\nopen = ['{}/tcp']\n", i,
					    1 + i % 65535, 1 + i % 65535);
		return text + fmt::format("[[rule]]\nname = 'bench'\ntrigger = ['{}/udp']\nopen = ['{}/udp']\n"
					  "timeout = '7d'\n",
					  kTriggerPort, kOpenPort);
	}
	void establish(std::uint32_t sessions) {
		for (int i = 0; i < kTries; i++) {
			talk(rig(), 0, sessions);
			if (established() >= sessions)
				return;
		}
		throw std::runtime_error(
			fmt::format("{}: {} of {} sessions: {}", name(), established(), sessions, status().dump()));
	}
	std::uint64_t established() { return status().at("limits").at("sessions").at("used"); }

	std::string dir_;
};

} // namespace

std::unique_ptr<Contender> make_contender(const std::string &name, const Wanted &wanted) {
	if (name == "touch" || name == "drop")
		return std::make_unique<Limit>(name);
	if (name == "tc" || name == "xdp")
		return std::make_unique<Ptrig>(name, wanted);
	return std::make_unique<Kernel>(name, wanted);
}

} // namespace bench
