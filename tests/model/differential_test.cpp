// The model and the BPF programs get the same random rules, packets and time; every verdict, packet and table
// must be the same. PTRIG_MODEL_SEED (printed on a difference) replays a run, PTRIG_MODEL_STEPS is its length.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sstream>

#include <arpa/inet.h>

#include "loader/program.h"
#include "tests/bpf/harness.h"
#include "tests/model/model.h"

namespace ptrig::test {
namespace {

using model::Input;
using model::Output;

constexpr unsigned kRoundSteps = 300;
/// Real time passes too: what a round shows after that much of it proves nothing and is not looked at.
constexpr std::uint64_t kRoundNs = 200000000;

std::uint64_t setting(const char *name, std::uint64_t otherwise) {
	const char *text = std::getenv(name);
	return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// One line for each lease and session, sorted: comparable, and readable in a failure message.
using Lines = std::multiset<std::string>;

class Differential : public DatapathTest {
protected:
	unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
	/// Half a second off the whole seconds by which time passes: real time in between changes nothing.
	nanoseconds some_time(unsigned up_to) { return seconds(1 + pick(up_to)) + std::chrono::milliseconds(500); }

	Rule random_rule(unsigned number);
	Config random_config();
	Input random_packet();
	Packet packet(const Input &in) const;
	/// XDP first, where it is, then TC: the reason that decides.
	enum ptrig_reason arrive(bool from_lan, const Packet &frame, Packet *out);
	/// What is not the same; empty if all is.
	std::string step(model::Gateway &gateway, const Input &in);
	void pass(model::Gateway &gateway, unsigned secs);
	Lines expected(const model::Gateway &gateway) const;
	Lines actual() const;
	std::string compare_tables(const model::Gateway &gateway) const; ///< as step()
	/// What must agree of the packet counts; the only place that knows where the datapath keeps them.
	static std::string counts(std::uint64_t in, std::uint64_t in_bytes, std::uint64_t out, std::uint64_t out_bytes);

	std::mt19937_64 random_;
	bool xdp_ = false; ///< of this round
};

Rule Differential::random_rule(unsigned number) {
	const Protos protos = static_cast<Protos>(1 + pick(3));
	const auto trigger = static_cast<std::uint16_t>(5000 + pick(3));
	const auto wan = static_cast<std::uint16_t>(6000 + pick(4));
	Rule rule{.name = "r" + std::to_string(number),
		  .trigger = {{trigger, static_cast<std::uint16_t>(trigger + pick(2)), protos}},
		  .open = {{{wan, static_cast<std::uint16_t>(wan + pick(3)), static_cast<Protos>(1 + pick(3))}, wan}},
		  .timeout = some_time(12)};
	if (pick(2))
		rule.open[0].host_first = static_cast<std::uint16_t>(6000 + pick(6));
	rule.remotes.kind = pick(3) ? Remotes::Kind::kAny : Remotes::Kind::kContacted;
	rule.refresh = pick(2) ? Refresh::kTraffic : Refresh::kTrigger;
	if (rule.refresh == Refresh::kTraffic)
		rule.timeout += seconds(1); // at least 2 s
	rule.conflict = pick(3) ? Conflict::kHold : Conflict::kTakeover;
	rule.on_close = pick(2) ? OnClose::kKeep : OnClose::kKill;
	if (pick(3) == 0)
		rule.yield_after = rule.timeout - seconds(1);
	if (pick(3) == 0)
		rule.max_lifetime = some_time(20);
	if (pick(3) == 0)
		rule.session_limit = 1 + pick(3);
	if (pick(2))
		rule.cooldown = some_time(6);
	return rule;
}

Config Differential::random_config() {
	Config config;
	config.timeouts = {.tcp_established = some_time(15),
			   .tcp_transitory = some_time(8),
			   .udp = some_time(8),
			   .halfopen = some_time(4)};
	config.limits = {.leases_per_host = pick(3), .sessions_per_host = pick(5), .new_sessions_per_second = pick(4)};
	for (unsigned n = 1 + pick(4); n > 0; n--)
		config.rules.push_back(random_rule(n));
	return config;
}

Input Differential::random_packet() {
	static constexpr std::uint8_t kFlags[] = {kSyn, kSyn, kSyn | kAck, kAck, kAck, kFin | kAck, kRst};
	Input in{.from_lan = pick(2) == 0, .remote = pick(2) ? kRemote : kRemote2};
	in.host = !in.from_lan ? "" : pick(2) ? kHost : kHost2;
	in.near = static_cast<std::uint16_t>(6000 + pick(8));
	in.far = static_cast<std::uint16_t>(5000 + pick(5));
	in.proto = pick(2) ? PTRIG_UDP : PTRIG_TCP;
	in.flags = in.tcp() ? kFlags[pick(std::size(kFlags))] : 0;
	in.ttl = pick(20) ? 64 : 1;
	in.length = in.tcp() ? 40 : 28;
	return in;
}

Packet transport(const Input &in, std::uint16_t near) {
	const auto from = in.from_lan ? near : in.far, to = in.from_lan ? in.far : near;
	return in.tcp() ? Packet(Tcp{.sport = from, .dport = to, .flags = in.flags})
			: Packet(Udp{.sport = from, .dport = to});
}

Packet Differential::packet(const Input &in) const {
	const Packet l4 = transport(in, in.near);
	if (!in.from_lan)
		return kFromRemote / Ip4{.src = in.remote, .dst = kWan, .ttl = in.ttl} / l4;
	return (in.host == kHost ? kFromHost : kFromHost2) / Ip4{.src = in.host, .dst = in.remote, .ttl = in.ttl} / l4;
}

enum ptrig_reason Differential::arrive(bool from_lan, const Packet &frame, Packet *out) {
	if (xdp_) {
		const auto reason =
			from_lan ? run(Hook::kXdpLan, "lan0", frame, out) : run(Hook::kXdpWan, "wan0", frame, out);
		if (reason != PTRIG_TO_TC)
			return reason;
	}
	return from_lan ? lan_in(frame, out) : wan_in(frame, out);
}

std::string Differential::step(model::Gateway &gateway, const Input &in) {
	const Output wanted = gateway.arrives(in);
	const Kind kind = kind_of(wanted.reason);
	const bool asks = kind == Kind::GRANT || kind == Kind::REFUSE;
	Packet out;
	const auto got = asks ? trigger(in.host == kHost ? kA : kB, transport(in, in.near), in.remote)
			      : arrive(in.from_lan, packet(in), &out);
	if (got != wanted.reason)
		return std::string("model ") + name_of(wanted.reason) + ", datapath " + name_of(got);
	if (kind != Kind::REDIRECT && kind != Kind::UP)
		return "";
	const auto ttl = static_cast<std::uint8_t>(in.ttl - (kind == Kind::REDIRECT));
	const Ip4 ip = in.from_lan ? Ip4{.src = kWan, .dst = in.remote, .ttl = ttl}
				   : Ip4{.src = in.remote, .dst = wanted.host, .ttl = ttl};
	const Packet rewritten = ip / transport(in, wanted.near);
	return l3(out) == rewritten ? ""
				    : "model " + ::testing::PrintToString(rewritten) + "\ndatapath " +
					      ::testing::PrintToString(l3(out));
}

void Differential::pass(model::Gateway &gateway, unsigned secs) {
	if (xdp_)
		age_fast(seconds(secs));
	gateway.pass(nanoseconds(seconds(secs)).count());
	const std::uint64_t by = secs * 1000000000ULL;
	const auto ticks = static_cast<std::uint32_t>(secs * tick_hz().value());
	auto leases = dp().map<ptrig_lease_key, ptrig_lease>("pt_leases");
	const auto keys = leases.keys().value();
	for (const auto &key : keys) {
		auto lease = leases.lookup(key).value().value();
		lease.info.granted_ns -= by;
		lease.info.refreshed_ns -= by;
		lease.info.ended_ns -= lease.info.ended_ns ? by : 0;
		lease.tokens_ns -= by;
		lease.info.refreshed_tick -= ticks;
		ASSERT_TRUE(leases.update(key, lease));
	}
	for (const char *name : {"pt_sessions", "pt_halfopen"}) {
		auto sessions = dp().map<ptrig_session_key, ptrig_session>(name);
		const auto keys = sessions.keys().value();
		for (const auto &key : keys) {
			auto session = sessions.lookup(key).value().value();
			session.seen_ns -= by;
			session.checked -= ticks;
			ASSERT_TRUE(sessions.update(key, session));
		}
	}
}

std::string Differential::counts(std::uint64_t in, std::uint64_t in_bytes, std::uint64_t out, std::uint64_t out_bytes) {
	std::ostringstream text;
	text << " in " << in << '/' << in_bytes << " out " << out << '/' << out_bytes;
	return text.str();
}

Lines Differential::expected(const model::Gateway &gateway) const {
	Lines lines;
	for (const auto &[key, lease] : gateway.leases()) {
		std::ostringstream text;
		const auto &sessions = gateway.sessions();
		text << "lease " << rule_id(key.first) << ' ' << (key.second.empty() ? 0 : be(key.second)) << ' '
		     << lease.live << ' ' << be(lease.host) << " sessions "
		     << std::count_if(sessions.begin(), sessions.end(),
				      [&](const auto &s) { return s.lease == lease.id; });
		lines.insert(text.str());
	}
	for (const auto &s : gateway.sessions()) {
		std::ostringstream text;
		text << "session " << int{s.proto} << ' ' << be(s.host) << ':' << s.host_port << " wan " << s.wan_port
		     << " remote " << be(s.remote) << ':' << s.far << " state " << int{s.state} << " rule "
		     << rule_id(s.rule) << counts(s.wan.packets, s.wan.bytes, s.lan.packets, s.lan.bytes);
		lines.insert(text.str());
	}
	return lines;
}

Lines Differential::actual() const {
	Lines lines;
	const auto leases = dp().map<ptrig_lease_key, ptrig_lease>("pt_leases");
	const auto keys = leases.keys().value();
	for (const auto &key : keys) {
		const auto lease = leases.lookup(key).value().value();
		std::ostringstream text;
		text << "lease " << key.rule << ' ' << key.remote << ' ' << (lease.info.state == PTRIG_LEASE_LIVE)
		     << ' ' << lease.info.host << " sessions " << lease.sessions;
		lines.insert(text.str());
	}
	for (const Pair &p : sessions()) {
		const ptrig_session in = with_fast(p.wan), out = with_fast(p.lan);
		std::ostringstream text;
		text << "session " << (p.lan_key.proto == IPPROTO_TCP ? PTRIG_TCP : PTRIG_UDP) << ' ' << p.lan_key.saddr
		     << ':' << ntohs(p.lan_key.sport) << " wan " << ntohs(p.lan.port) << " remote " << p.lan_key.daddr
		     << ':' << ntohs(p.lan_key.dport) << " state " << int{p.lan.state} << " rule " << p.lan.rule
		     << counts(in.packets, in.bytes, out.packets, out.bytes);
		lines.insert(text.str());
	}
	return lines;
}

std::string Differential::compare_tables(const model::Gateway &gateway) const {
	const Lines model = expected(gateway), tables = actual();
	return model == tables
		       ? ""
		       : "model " + ::testing::PrintToString(model) + "\ndatapath " + ::testing::PrintToString(tables);
}

std::string shown(const Config &config, const Input &in) {
	std::ostringstream text;
	for (const Rule &r : config.rules)
		text << r.name << " trigger " << to_string(r.trigger[0]) << " open " << to_string(r.open[0])
		     << " timeout " << to_string(r.timeout) << " contacted "
		     << (r.remotes.kind == Remotes::Kind::kContacted) << ' ' << to_string(r.refresh) << ' '
		     << to_string(r.conflict) << ' ' << to_string(r.on_close) << " cooldown " << to_string(r.cooldown)
		     << " session_limit " << r.session_limit.value_or(0) << '\n';
	text << (in.from_lan ? in.host : "WAN") << ':' << in.near << (in.from_lan ? " > " : " < ") << in.remote << ':'
	     << in.far << (in.tcp() ? " tcp flags " : " udp ") << int{in.flags} << " ttl " << int{in.ttl};
	return text.str();
}

TEST_F(Differential, ModelAndDatapathAgree) {
	const std::uint64_t wanted = setting("PTRIG_MODEL_STEPS", 40000);
	const std::uint64_t first = setting("PTRIG_MODEL_SEED", 1);
	std::uint64_t done = 0, late = 0;
	std::printf("PTRIG_MODEL_SEED=%llu\n", static_cast<unsigned long long>(first));
	for (std::uint64_t seed = first; done < wanted && late <= wanted / 4 && !HasFailure(); seed++) {
		random_.seed(seed);
		SetUp();
		const Config config = random_config();
		config_ = config;
		apply(config.rules);
		xdp_ = pick(2) == 0;
		if (xdp_)
			with_xdp();
		model::Gateway gateway(config);
		const std::uint64_t began = now_ns();
		for (unsigned n = 0; n < kRoundSteps; n++) {
			const Input in = random_packet();
			if (pick(8) == 0)
				pass(gateway, 1 + pick(3));
			std::string difference = step(gateway, in);
			if (difference.empty() && n % 4 == 0)
				difference = compare_tables(gateway);
			if (now_ns() - began > kRoundNs) {
				late++;
				break;
			}
			if (!difference.empty()) {
				ADD_FAILURE() << "PTRIG_MODEL_SEED=" << seed << " step " << n << '\n'
					      << shown(config, in) << '\n'
					      << difference;
				break;
			}
			done++;
		}
	}
	without_xdp();
	EXPECT_GE(done, wanted) << late << " rounds were too slow to count";
	std::printf("%llu steps agree\n", static_cast<unsigned long long>(done));
}

} // namespace
} // namespace ptrig::test

int main(int argc, char **argv) {
	::testing::InitGoogleTest(&argc, argv);
	ptrig::capture_libbpf_log();
	if (const std::string why_not = ptrig::test::enter_world(); !why_not.empty())
		std::fprintf(stderr, "no network for the tests: %s\n", why_not.c_str());
	return RUN_ALL_TESTS();
}
