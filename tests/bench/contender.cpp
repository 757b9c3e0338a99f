// Sets the contenders' gateways up and makes their sessions, by packets only: nothing here knows ptrig's maps.
#include "tests/bench/contender.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <bit>

#include <fmt/format.h>
#include <fstream>
#include <stdexcept>

#include "loader/classifier.h"
#include "tests/lab/sockets.h"

namespace bench {

namespace {

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
		iifname "wan0" dnat to tcp dport map @owner
	}
)";
constexpr const char *kStatic = R"(
	chain prerouting {
		type nat hook prerouting priority dstnat
		iifname "wan0" udp dport 6000 dnat to 192.168.77.11
	}
)";

/// Any TCP port but the open one; no more than 16 rules may share one.
std::uint32_t port_of(std::uint32_t rule) {
	const std::uint32_t port = 1 + rule % 65535;
	return port == kOpenPort ? 1 : port;
}

class Limit : public Contender {
public:
	/// A line for each session, at half load, as the datapath's own table.
	Limit(const std::string &name, const Wanted &wanted)
	    : Contender(name, true, name == "read" ? std::bit_ceil(2 * std::max(wanted.sessions, 1U)) : 1,
			name == "make" ? wanted.max_halfopen : 1) {
		rig().attach_limit(name == "drop"    ? Rig::Limit::kDrop
				   : name == "touch" ? Rig::Limit::kTouch
				   : name == "make"  ? Rig::Limit::kMake
						     : Rig::Limit::kRead);
	}
	void forget() override { rig().forget_pairs(); }
};

class Kernel : public Contender {
public:
	Kernel(const std::string &name, const Wanted &wanted) : Contender(name, wanted.sinks) {
		if (name == "forward") {
			route_only();
			return;
		}
		const std::string table = name == "nft" ? kRecipe : name == "dnat" ? kStatic : "";
		lab::must(rig().gateway(), {"nft", "-f", "-"}, "table ip bench {" + (kMasquerade + table) + "}\n");
		if (name == "idle")
			rig().attach_idle();
		// As long as ptrig's: no session may end while it is measured.
		rig().gateway().sysctl("netfilter/nf_conntrack_udp_timeout", "3600");
		rig().gateway().sysctl("netfilter/nf_conntrack_udp_timeout_stream", "3600");
		if (name == "nft")
			trigger(rig(), wanted.sinks);
		if (wanted.sinks && (name == "nft" || name == "dnat"))
			establish(wanted.sessions);
	}

	void forget() override { lab::must(rig().gateway(), {"conntrack", "-F"}); }

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

} // namespace

Contender::Contender(std::string name, bool sinks, std::uint32_t lines, std::uint32_t pairs)
    : name_(std::move(name)), rig_(next_rig(), sinks, lines, pairs) {}

void trigger(Rig &rig, bool sinks) {
	if (!sinks) {
		const lab::Fd socket = lab::udp_socket(rig.host());
		lab::udp_send(socket, {"203.0.113.10", kTriggerPort}, "trigger");
		return;
	}
	bench_plan plan = rig.plan(BENCH_OUT, 1);
	plan.remote_port = kTriggerPort;
	plan.host_port = htons(5999);
	rig.send(plan, 1);
}

Rate talk(Rig &rig, std::uint32_t first, std::uint32_t flows) {
	bench_plan plan = rig.plan(BENCH_PAIR, flows);
	plan.first = first;
	return rig.send(plan, 2 * (std::uint64_t{flows} + 64));
}

Ptrig::Ptrig(const std::string &name, const Wanted &wanted) : Contender(name, wanted.sinks) {
	lab::must(rig().gateway(), {"nft", "-f", "-"}, "table ip bench {" + std::string(kMasquerade) + "}\n");
	rig().gateway().sysctl("netfilter/nf_conntrack_udp_timeout", "3600");
	std::ofstream(file()) << config(wanted) << std::flush;
	ptrig({"up", "-c", file()});
	if (wanted.contacted)
		return;
	trigger(rig(), wanted.sinks);
	if (!lab::eventually(10s, [&] { return status().at("leases") == 1; }))
		throw std::runtime_error(name + ": no lease: " + status().dump());
	if (wanted.sinks && wanted.sessions > 0)
		establish(wanted.sessions);
	if (wanted.daemon)
		run_daemon(wanted.sessions == 0);
}

void Ptrig::run_daemon(bool rests) {
	daemon_.emplace(rig().gateway(), command({"run", "-c", file()}));
	const auto at_lan_egress = [&] {
		return rig().gateway().inside([&] {
			return ptrig::classifier_query({pins(), if_nametoindex("lan0"), ptrig::TcSide::kEgress})
				.value()
				.prog_id.has_value();
		});
	};
	if (!lab::eventually(10s, [&] { return status().at("daemon").is_number(); }) ||
	    (rests && !lab::eventually(30s, [&] { return !at_lan_egress(); })))
		throw std::runtime_error(
			name() + ": the daemon does not run, or the fast path does not rest: " + daemon_->err());
}

Ptrig::~Ptrig() {
	daemon_.reset();
	lab::run(rig().gateway(), command({"down"}));
}

lab::Words Ptrig::command(const lab::Words &words) const {
	lab::Words all{PTRIG_BIN, "--pin-dir", pins()};
	all.insert(all.end(), words.begin(), words.end());
	return all;
}

std::string Ptrig::ptrig(const lab::Words &words) {
	return lab::must(rig().gateway(), command(words));
}

std::string Ptrig::config(const Wanted &wanted) const {
	std::string text = fmt::format("[gateway]\nwan = ['wan0']\nlan = ['lan0']\ndatapath = '{}'\n"
				       "max_sessions = {}\nmax_halfopen = {}\nmax_rules = {}\nmax_leases = {}\n"
				       "[timeouts]\nudp = '{}'\nhalfopen = '30s'\n"
				       "[limits]\nleases_per_host = 0\nsessions_per_host = 0\n"
				       "new_sessions_per_second = 0\n",
				       name(), wanted.max_sessions, wanted.max_halfopen,
				       std::max(wanted.max_rules, wanted.rules), wanted.max_leases, wanted.udp_timeout);
	for (std::uint32_t i = 1; i < wanted.rules; i++) // none of them has a port that is used here
		text += fmt::format("[[rule]]\nname = 'r{0}'\ntrigger = ['{1}/tcp']\nopen = ['{1}/tcp']\n", i,
				    port_of(i));
	return text + fmt::format("[[rule]]\nname = 'bench'\ntrigger = ['{}/udp']\nopen = ['{}']\n"
				  "timeout = '7d'\nremotes = '{}'\n",
				  kTriggerPort, wanted.wide ? "1024-65535/udp" : fmt::format("{}/tcp+udp", kOpenPort),
				  wanted.contacted ? "contacted" : "any");
}

void Ptrig::establish(std::uint32_t sessions) {
	for (int i = 0; i < kTries; i++) {
		talk(rig(), 0, sessions);
		if (established() >= sessions)
			return;
	}
	throw std::runtime_error(
		fmt::format("{}: {} of {} sessions: {}", name(), established(), sessions, status().dump()));
}

std::unique_ptr<Contender> make_contender(const std::string &name, const Wanted &wanted) {
	if (name == "touch" || name == "drop" || name == "read" || name == "make")
		return std::make_unique<Limit>(name, wanted);
	if (name == "tc" || name == "xdp" || name == "auto")
		return std::make_unique<Ptrig>(name, wanted);
	return std::make_unique<Kernel>(name, wanted);
}

} // namespace bench
