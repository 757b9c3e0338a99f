// What a round is made of: random rules, limits and packets, few enough of each that they meet.
#include <algorithm>
#include <sstream>

#include "tests/model/differential.h"

namespace ptrig::test {

/// One or two of them with some of their neighbours.
std::vector<Prefix> Differential::random_prefixes(const std::vector<std::string> &addresses) {
	static constexpr std::uint8_t kBits[] = {32, 32, 31, 24, 0};
	std::vector<Prefix> prefixes;
	for (unsigned n = 1 + pick(2); n > 0; n--) {
		Prefix one = prefix(addresses[pick(static_cast<unsigned>(addresses.size()))], kBits[pick(5)]);
		one.address.value = one.bits ? one.address.value & ~0U << (32 - one.bits) : 0;
		prefixes.push_back(one);
	}
	return prefixes;
}

Sources Differential::random_sources() {
	if (pick(4))
		return {pick(2) ? Sources::Kind::kLan : Sources::Kind::kRouted, {}, {}};
	Sources sources{.kind = Sources::Kind::kSet};
	if (pick(2))
		sources.prefixes = random_prefixes({kHost, kHost2, kRouted});
	if (pick(2) || sources.prefixes.empty())
		sources.macs = {{mac(pick(2)   ? kHostMac
				     : pick(2) ? kHost2Mac
					       : kSwitchMac),
				 pick(3)   ? ""
				 : pick(2) ? "lan0"
					   : "lan1"}};
	return sources;
}

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
	rule.sources = random_sources();
	if (pick(6) == 0)
		rule.trigger_remotes = random_prefixes({kRemote, kRemote2, kFar});
	rule.remotes.kind = pick(3) ? Remotes::Kind::kAny : Remotes::Kind::kContacted;
	if (pick(5) == 0)
		rule.remotes = {Remotes::Kind::kSet, random_prefixes({kRemote, kRemote2, kFar})};
	rule.confirm = pick(4) == 0;
	rule.close = pick(3) ? Close::kIdle : Close::kConnection;
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

void Differential::random_limits(Config &config) {
	config.timeouts = {.tcp_established = some_time(15),
			   .tcp_transitory = some_time(8),
			   .udp = some_time(8),
			   .halfopen = some_time(4)};
	config.limits = {.leases_per_host = pick(3), .sessions_per_host = pick(5), .new_sessions_per_second = pick(4)};
	config.gateway.deny_remotes = pick(5) ? std::vector<Prefix>{} : random_prefixes({kRemote2, kFar});
}

Config Differential::random_config() {
	Config config;
	random_limits(config);
	for (names_ = 0; names_ == 0 || (names_ < 4 && pick(3));)
		config.rules.push_back(random_rule(++names_));
	return config;
}

/// Mostly the one that the gateway knows. kStranger is a host that has changed its address.
std::string Differential::random_mac(const std::string &host) {
	const std::string any[] = {kHostMac, kHost2Mac, kStrangerMac};
	if (host == kRouted)
		return kSwitchMac;
	const std::string &known = neighbours_.at(host);
	if (pick(20) == 0 || (known.empty() && host == kStranger))
		return any[pick(3)];
	return !known.empty() ? known : pick(2) ? kStrangerMac : host == kHost ? kHostMac : kHost2Mac;
}

/// From the LAN to a WAN address, from a port that no other host has. Where a session of the client's has the port by
/// which it would be known to the host, the packet is that session's: which port it would get then is chance.
Input Differential::random_hairpin(const model::Gateway &gateway) {
	const std::string hosts[] = {kHost, kHost2, kRouted, kStranger};
	const unsigned n = pick(4);
	const std::string wan = pick(8) ? kWan : kWanSecond;
	Input in{.from_lan = true, .host = hosts[n], .mac = random_mac(hosts[n]), .remote = wan, .wan = wan};
	in.near = static_cast<std::uint16_t>(7000 + 4 * n + pick(4));
	in.far = static_cast<std::uint16_t>(6000 + pick(8));
	in.proto = pick(2) ? PTRIG_UDP : PTRIG_TCP;
	in.flags = in.tcp() ? pick(4) ? kSyn : kAck : 0;
	in.length = in.tcp() ? 40 : 28;
	if (const model::Session *known = gateway.port_taken(in)) {
		in.remote = in.wan = known->wan;
		in.far = known->wan_port;
	}
	return in;
}

Input Differential::random_session_packet(const model::Session &session) {
	static constexpr std::uint8_t kFlags[] = {kSyn, kSyn | kAck, kAck, kAck, kAck, kFin | kAck, kRst};
	Input in{.from_lan = pick(2) == 0,
		 .remote = session.peer,
		 .wan = session.wan,
		 .far = session.far,
		 .proto = session.proto};
	if (in.from_lan) {
		in.host = session.host;
		in.mac = random_mac(in.host);
	}
	in.near = in.from_lan ? session.host_port : session.wan_port;
	if (!in.from_lan && session.hairpin) {
		in.from_lan = true;
		in.host = session.remote;
		in.remote = session.wan;
		in.mac = random_mac(in.host);
		in.near = session.far;
		in.far = session.wan_port;
	}
	in.flags = in.tcp() ? kFlags[pick(std::size(kFlags))] : 0;
	in.length = in.tcp() ? 40 : 28;
	in.probe = pick(4) == 0;
	return in;
}

/// From a remote to an open port of a lease, or from its host's port to a remote.
Input Differential::random_knock(const model::Gateway &gateway) {
	auto one = gateway.leases().begin();
	std::advance(one, pick(static_cast<unsigned>(gateway.leases().size())));
	const auto &[key, lease] = *one;
	const auto rule = std::find_if(config_.rules.begin(), config_.rules.end(),
				       [&, name = key.rule](const Rule &r) { return r.name == name; });
	if (rule == config_.rules.end())
		return random_hairpin(gateway);
	Input in{.from_lan = pick(3) == 0, .remote = pick(2) ? lease.trigger_remote : kRemote, .wan = key.wan};
	const PortRange open = rule->open[0].wan;
	if (in.from_lan) {
		in.host = lease.host;
		in.mac = random_mac(in.host);
	}
	in.near = static_cast<std::uint16_t>((in.from_lan ? rule->open[0].host_first : open.first) +
					     pick(open.last - open.first + 1U));
	in.far = static_cast<std::uint16_t>(5000 + pick(5));
	in.proto = open.protos & PTRIG_UDP && pick(2) ? PTRIG_UDP : open.protos & PTRIG_TCP ? PTRIG_TCP : PTRIG_UDP;
	in.flags = in.tcp() ? kSyn : 0;
	in.length = in.tcp() ? 40 : 28;
	if (in.from_lan)
		asked_.push_back(in);
	return in;
}

Input Differential::random_packet(const model::Gateway &gateway) {
	static constexpr std::uint8_t kFlags[] = {kSyn, kSyn, kSyn | kAck, kAck, kAck, kFin | kAck, kRst};
	if (!asked_.empty() && pick(6) == 0)
		return random_reply();
	if (pick(10) == 0)
		return random_hairpin(gateway);
	if (!gateway.leases().empty() && pick(5) == 0)
		return random_knock(gateway);
	const auto &sessions = gateway.sessions();
	if (!sessions.empty() && pick(3) == 0)
		return random_session_packet(sessions[pick(static_cast<unsigned>(sessions.size()))]);
	Input in{.from_lan = pick(2) == 0, .remote = pick(12) == 0 ? kFar : pick(2) ? kRemote : kRemote2};
	if (in.from_lan) {
		in.host = pick(12) == 0 ? kRouted : pick(16) == 0 ? kStranger : pick(2) ? kHost : kHost2;
		in.mac = random_mac(in.host);
	}
	if (!in.from_lan && pick(40) == 0)
		in.remote = kHost2; // forged
	in.wan = pick(8) ? kWan : kWanSecond;
	in.near = static_cast<std::uint16_t>(6000 + pick(8));
	in.far = static_cast<std::uint16_t>(5000 + pick(5));
	in.proto = pick(2) ? PTRIG_UDP : PTRIG_TCP;
	in.flags = in.tcp() ? kFlags[pick(std::size(kFlags))] : 0;
	in.length = in.tcp() ? 40 : 28;
	in.probe = pick(8) == 0;
	if (in.from_lan)
		asked_.push_back(in);
	return in;
}

/// More of a conversation that the host has begun: its next packet, or what the remote says.
Input Differential::random_reply() {
	static constexpr std::uint8_t kFlags[] = {kSyn, kSyn | kAck, kAck, kAck, kFin | kAck, kFin | kAck, kRst | kAck};
	Input in = asked_[asked_.size() - 1 - pick(std::min(16U, static_cast<unsigned>(asked_.size())))];
	in.from_lan = !follows_ || pick(3) == 0;
	in.answer = !in.from_lan;
	in.flags = in.tcp() ? kFlags[pick(std::size(kFlags))] : 0;
	return in;
}

namespace {

std::string to_text(const std::vector<Prefix> &prefixes) {
	std::string text = "[";
	for (const Prefix &one : prefixes)
		text += ' ' + to_string(one);
	return text + " ]";
}

} // namespace

std::string shown(const Config &config, const Input &in) {
	std::ostringstream text;
	text << "deny_remotes " << to_text(config.gateway.deny_remotes) << '\n';
	for (const Rule &r : config.rules)
		text << r.name << " trigger " << to_string(r.trigger[0]) << " open " << to_string(r.open[0])
		     << " timeout " << to_string(r.timeout) << " contacted "
		     << (r.remotes.kind == Remotes::Kind::kContacted) << " remotes " << to_text(r.remotes.prefixes)
		     << " trigger_remotes " << to_text(r.trigger_remotes) << " sources "
		     << static_cast<int>(r.sources.kind) << to_text(r.sources.prefixes) << ' ' << r.sources.macs.size()
		     << " MACs " << to_string(r.refresh) << ' ' << to_string(r.conflict) << ' ' << to_string(r.on_close)
		     << " confirm " << r.confirm << " close " << to_string(r.close) << " cooldown "
		     << to_string(r.cooldown) << " session_limit " << r.session_limit.value_or(0) << '\n';
	text << in.mac << ' ' << (in.answer ? "answer to " : "") << (in.host.empty() ? "WAN" : in.host) << ':'
	     << in.near << (in.from_lan ? " > " : " < ") << in.remote << ':' << in.far
	     << (in.tcp() ? " tcp flags " : " udp ") << int{in.flags} << " WAN " << in.wan
	     << (in.probe ? " probe" : "");
	return text.str();
}

} // namespace ptrig::test
