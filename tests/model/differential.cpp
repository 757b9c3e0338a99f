// One step of the comparison: a packet through the model and through the programs.
#include "tests/model/differential.h"

#include <algorithm>

#include <linux/if_link.h>

namespace ptrig::test {

namespace {

Packet transport(const Input &in, std::uint16_t near) {
	const auto from = in.from_lan ? near : in.far, to = in.from_lan ? in.far : near;
	return in.tcp() ? Packet(Tcp{.sport = from, .dport = to, .flags = in.flags})
			: Packet(Udp{.sport = from, .dport = to});
}

} // namespace

void Differential::begin(std::uint64_t seed) {
	random_.seed(seed);
	use_maps();
	set_neighbour(kHost, kHostMac);
	set_neighbour(kHost2, kHost2Mac);
	asked_.clear();
	counted_.assign(PTRIG_REASON_COUNT, 0);
	config_ = random_config();
	generation_ = 0;
	ids_.clear();
	follows_ = false;
	apply_config();
	xdp_ = pick(2) == 0;
	if (xdp_)
		with_xdp();
}

void Differential::apply_config() {
	apply(config_.rules, generation_);
	for (const Rule &rule : config_.rules) {
		ids_[rule.name] = rule_id(rule.name);
		follows_ |= rule.confirm || rule.close == Close::kConnection;
	}
}

void Differential::change_rules(model::Gateway &gateway) {
	auto &rules = config_.rules;
	const auto any = [&] { return rules.begin() + pick(static_cast<unsigned>(rules.size())); };
	const unsigned what = pick(4);
	if (what == 0 && rules.size() > 1) {
		rules.erase(any());
	} else if (what == 1 && rules.size() < 5) {
		rules.insert(any(), random_rule(++names_));
	} else { // with the same open ports and kind of lease it remains the same rule
		Rule &old = *any(), changed = random_rule(0);
		const bool was = old.remotes.kind == Remotes::Kind::kContacted;
		changed.name = old.name;
		changed.open = old.open;
		if (was != (changed.remotes.kind == Remotes::Kind::kContacted))
			changed.remotes = {was ? Remotes::Kind::kContacted : Remotes::Kind::kAny, {}};
		old = changed;
	}
	if (pick(4) == 0)
		random_limits(config_);
	generation_ ^= 1;
	apply_config();
	admin({.op = PTRIG_ADMIN_LOOK});
	gateway.apply(config_);
	// Where XDP served the remote's packets TC's last look is up to sixteen seconds old, and the next packet is
	// looked at; elsewhere it goes by the last one for a second. Both are right: a second later they are the same.
	if (xdp_)
		pass(gateway, 1);
}

void Differential::set_neighbour(const std::string &host, const std::string &mac) {
	std::string &now = neighbours_.at(host);
	if (now == mac)
		return;
	now = mac;
	test::neighbour(host, mac.empty() ? Bytes{} : mac_bytes(mac), "lan0");
}

/// A second later nothing goes by the old next hop any more.
void Differential::change_neighbour(model::Gateway &gateway) {
	pass(gateway, 1);
	const std::string host = pick(2) ? kHost : kHost2, own = host == kHost ? kHostMac : kHost2Mac;
	set_neighbour(host, pick(4) == 0 ? "" : neighbours_.at(host) == own ? kStrangerMac : own);
	gateway.neighbour(host, neighbours_.at(host));
}

Packet Differential::packet(const Input &in) const {
	const Packet l4 = transport(in, in.near);
	if (in.answer)
		return Eth{.src = kLanMac, .dst = in.mac} / Ip4{.src = in.remote, .dst = in.host, .ttl = 63} / l4;
	if (!in.from_lan)
		return kFromRemote / Ip4{.src = in.remote, .dst = kWan, .ttl = in.ttl} / l4;
	return Eth{.src = in.mac, .dst = kLanMac} / Ip4{.src = in.host, .dst = in.remote, .ttl = in.ttl} / l4;
}

std::string Differential::compare_counters() const {
	const auto counters = dp().counters();
	std::string what;
	for (unsigned i = 0; i < PTRIG_REASON_COUNT; i++)
		if (counters[i] != counted_[i])
			what += std::string(" ") + name_of(i) + " wanted " + std::to_string(counted_[i]) + " is " +
				std::to_string(counters[i]) + '\n';
	return what;
}

std::string Differential::counted(enum ptrig_reason reason) {
	if (dp().counter(reason) == ++counted_[reason])
		return "";
	return std::string("model ") + name_of(reason) + ", datapath counted\n" + compare_counters();
}

std::string Differential::sent(Hook hook, const Bytes &frame, enum ptrig_reason reason, Bytes *out,
			       std::uint16_t tc_index) {
	const bool lan = hook == Hook::kLanIn || hook == Hook::kLanOut;
	const char *from = hook == Hook::kWanOut ? "lan0" : hook == Hook::kLanOut ? "wan0" : "";
	auto result = dp().run(hook, lan ? "lan0" : "wan0", frame, from, tc_index);
	if (auto what = counted(reason); !what.empty())
		return what;
	check_run(hook, reason, frame, result);
	if (out)
		*out = std::move(result.packet);
	return "";
}

std::string Differential::accelerate(bool from_lan, const Bytes &frame, enum ptrig_reason reason, Bytes *out,
				     bool &done) {
	const Hook hook = from_lan ? Hook::kXdpLan : Hook::kXdpWan;
	auto result = dp().run(hook, from_lan ? "lan0" : "wan0", frame, "", 0);
	done = result.action == XDP_REDIRECT;
	if (!done)
		reason = PTRIG_TO_TC;
	check_run(hook, reason, frame, result);
	*out = std::move(result.packet);
	return counted(reason);
}

/// The way of a packet that the model takes for a trigger: through LAN ingress, masqueraded, through WAN egress.
std::string Differential::asks(const Input &in, enum ptrig_reason reason, const Bytes &frame) {
	if (reason == PTRIG_FRESH)
		return sent(Hook::kLanIn, frame, reason);
	const auto tc_index = dp().run_lan_in_for_tc_index("lan0", frame);
	if (auto what = counted(PTRIG_CANDIDATE); !what.empty())
		return what;
	const Packet left = Eth{} / Ip4{.src = kWan, .dst = in.remote, .ttl = 63} / transport(in, in.near);
	return sent(Hook::kWanOut, left.bytes(), reason, nullptr, tc_index);
}

std::string Differential::step(model::Gateway &gateway, const Input &in) {
	const Output wanted = gateway.arrives(in);
	return in.answer ? sent(Hook::kLanOut, packet(in).bytes(), wanted.reason) : arrives(in, wanted);
}

/// From its IP header on.
Packet Differential::rewritten(const Input &in, const Output &wanted, std::uint8_t ttl) {
	if (wanted.client.empty())
		return (in.from_lan ? Ip4{.src = kWan, .dst = in.remote, .ttl = ttl}
				    : Ip4{.src = in.remote, .dst = wanted.host, .ttl = ttl}) /
		       transport(in, wanted.near);
	const bool to_host = in.far == wanted.wan_port && in.host == wanted.client && in.near == wanted.client_port;
	const auto from = to_host ? wanted.far : wanted.wan_port, to = to_host ? wanted.near : wanted.client_port;
	return Ip4{.src = kWan, .dst = to_host ? wanted.host : wanted.client, .ttl = ttl} /
	       (in.tcp() ? Packet(Tcp{.sport = from, .dport = to, .flags = in.flags})
			 : Packet(Udp{.sport = from, .dport = to}));
}

std::string Differential::arrives(const Input &in, const Output &wanted) {
	const Kind kind = kind_of(wanted.reason);
	const Bytes frame = packet(in).bytes();
	Bytes out;
	bool done = false;
	if (xdp_)
		if (auto what = accelerate(in.from_lan, frame, wanted.reason, &out, done); !what.empty())
			return what;
	if (kind == Kind::GRANT || kind == Kind::REFUSE)
		return asks(in, wanted.reason, frame);
	const std::uint32_t noted = usage().next_cand;
	if (!done)
		if (auto what = sent(in.from_lan ? Hook::kLanIn : Hook::kWanIn, frame, wanted.reason, &out);
		    !what.empty())
			return what;
	const bool also = wanted.also != PTRIG_REASON_COUNT;
	if (usage().next_cand - noted != unsigned{also})
		return std::string("as a trigger model ") + (also ? name_of(wanted.also) : "nothing") +
		       ", datapath noted " + std::to_string(usage().next_cand - noted);
	if (also) {
		const auto slot = static_cast<std::uint16_t>(1 + noted % (PTRIG_CANDS - 1));
		if (auto what = sent(Hook::kWanOut, out, wanted.also, nullptr, slot); !what.empty())
			return what;
	}
	if (kind != Kind::REDIRECT && kind != Kind::UP)
		return "";
	const auto ttl = static_cast<std::uint8_t>(in.ttl - (kind == Kind::REDIRECT));
	const Bytes rewritten = this->rewritten(in, wanted, ttl).bytes();
	if (out.size() >= 14 && std::equal(out.begin() + 14, out.end(), rewritten.begin(), rewritten.end()))
		return "";
	return "model " + ::testing::PrintToString(Packet(rewritten)) + "\ndatapath " +
	       ::testing::PrintToString(l3(Packet(out)));
}

} // namespace ptrig::test
