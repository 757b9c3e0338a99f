// One step of the comparison: a packet through the model and through the programs.
#include "tests/model/differential.h"

#include <algorithm>

#include "tests/bpf/kernel.h"

namespace ptrig::test {

namespace {

/// From its IP header on, with `more` TTL than one that has been forwarded.
Packet packet(const model::Tuple &t, std::uint8_t flags, bool forwarded) {
	return Ip4{.src = t.saddr, .dst = t.daddr, .ttl = static_cast<std::uint8_t>(forwarded ? 63 : 64)} /
	       (t.proto == PTRIG_TCP ? Packet(Tcp{.sport = t.sport, .dport = t.dport, .flags = flags})
				     : Packet(Udp{.sport = t.sport, .dport = t.dport}));
}

Tuple kernel_tuple(const Bytes &frame) {
	return tuple_of(frame, 14).value();
}

std::string compare_packets(const model::Tuple &wanted, const Input &in, const Bytes &frame) {
	const Bytes rewritten = packet(wanted, in.flags, true).bytes();
	if (frame.size() >= 14 && std::equal(frame.begin() + 14, frame.end(), rewritten.begin(), rewritten.end()))
		return "";
	return "model " + ::testing::PrintToString(Packet(rewritten)) + "\ndatapath " +
	       ::testing::PrintToString(l3(Packet(frame)));
}

} // namespace

void Differential::begin(std::uint64_t seed) {
	random_.seed(seed);
	use_maps();
	forget_flows();
	set_neighbour(kHost, kHostMac);
	set_neighbour(kHost2, kHost2Mac);
	set_neighbour(kStranger, "");
	asked_.clear();
	counted_.assign(PTRIG_REASON_COUNT, 0);
	config_ = random_config();
	generation_ = 0;
	ids_.clear();
	follows_ = false;
	has_second_ = true;
	apply_config();
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
	gateway.apply(config_);
}

void Differential::set_neighbour(const std::string &host, const std::string &mac) {
	std::string &now = neighbours_[host];
	if (now == mac)
		return;
	now = mac;
	test::neighbour(host, mac.empty() ? Bytes{} : mac_bytes(mac), "lan0");
}

void Differential::change_network(model::Gateway &gateway) {
	const unsigned what = pick(4);
	if (what == 0) {
		forget_flows();
		gateway.forget_flows();
	} else if (what == 1) {
		has_second_ = !has_second_;
		wan_address("wan0", kWanSecond, has_second_);
		gateway.wan_address(kWanSecond, has_second_);
	} else {
		const std::string hosts[] = {kHost, kHost2, kStranger}, host = hosts[pick(3)];
		const std::string macs[] = {kHostMac, kHost2Mac, kStrangerMac, ""};
		set_neighbour(host, macs[pick(4)]);
		gateway.neighbour(host, neighbours_.at(host));
	}
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

std::string Differential::sent(Hook hook, Bytes &frame, enum ptrig_reason reason) {
	const bool lan = hook == Hook::kLanIn || hook == Hook::kLanOut;
	const char *from = hook == Hook::kWanOut ? "lan0" : hook == Hook::kLanOut ? "wan0" : "";
	const auto known = dp().memory<std::uint64_t>("pt_known"); // what holds for a moment the model does not know
	for (std::uint32_t i = 0; i < PTRIG_KNOWN; i++)
		known[i] = 0;
	auto result = dp().run(hook, lan ? "lan0" : "wan0", frame, from);
	if (dp().counter(reason) != ++counted_[reason])
		return std::string("model ") + name_of(reason) + ", datapath counted\n" + compare_counters();
	check_run(hook, reason, frame, result);
	frame = std::move(result.packet);
	return "";
}

std::string Differential::step(model::Gateway &gateway, const Input &in) {
	const Output wanted = gateway.arrives(in);
	if (in.answer)
		return answer(in, wanted);
	return in.from_lan ? from_lan(in, wanted) : from_wan(in, wanted);
}

/// At LAN egress, un-masqueraded.
std::string Differential::answer(const Input &in, const Output &wanted) {
	const model::Tuple host{in.proto, in.host, in.remote, in.near, in.far};
	if (wanted.answers) {
		const Bytes asked = (Eth{} / packet(host, in.flags, false)).bytes();
		answer_entry({entry_of(kernel_tuple(asked)).reply, kernel_tuple(asked).proto});
	}
	Bytes frame = (Eth{.src = kLanMac, .dst = in.mac} / packet(host.turned(), in.flags, true)).bytes();
	return sent(Hook::kLanOut, frame, wanted.reasons.at(0));
}

/// By LAN ingress, and where that says so by conntrack and WAN egress; what is given back, once more.
std::string Differential::from_lan(const Input &in, const Output &wanted) {
	Bytes frame = (Eth{.src = in.mac, .dst = kLanMac} / packet(in.tuple(), in.flags, false)).bytes();
	bool enters = true;
	for (const enum ptrig_reason reason : wanted.reasons) {
		if (!enters) {
			const Tuple tuple = kernel_tuple(frame);
			const test_entry known = entry_of(tuple);
			frame = forwarded(frame, 14, known.found ? known : masquerade(tuple, in.wan), true, false);
		}
		if (auto what = sent(enters ? Hook::kLanIn : Hook::kWanOut, frame, reason); !what.empty())
			return what;
		enters = reason != PTRIG_HEARD && reason != PTRIG_CANDIDATE;
	}
	if (!wanted.left)
		return "";
	if (in.remote != in.wan)
		return compare_packets(*wanted.left, in, frame);
	const test_entry entry = entry_of(kernel_tuple(frame));
	if (!entry.found)
		return "the hairpin has no entry";
	return compare_packets(*wanted.left, in, forwarded(frame, 14, entry, false, false));
}

std::string Differential::from_wan(const Input &in, const Output &wanted) {
	Bytes frame = (kFromRemote / packet(in.tuple(), in.flags, false)).bytes();
	const Tuple tuple = kernel_tuple(frame);
	if (auto what = sent(Hook::kWanIn, frame, wanted.reasons.at(0)); !what.empty())
		return what;
	if (wanted.answers)
		answer_entry(tuple);
	if (!wanted.left && !in.probe)
		return "";
	const test_entry entry = entry_of(tuple);
	if (!entry.found && in.probe && !wanted.left)
		make_entry({.proto = tuple.proto, .tuple = tuple.tuple});
	if (!wanted.left)
		return "";
	if (!entry.found)
		return "the session has no entry";
	return compare_packets(*wanted.left, in, forwarded(frame, 14, entry, false, false));
}

} // namespace ptrig::test
