// Which rules are on each port, and what is wrong with rules beside each other: too many, too many on
// one port, one that opens a reserved port, one with a source on no LAN.
#include "loader/port_index.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "loader/rule_text.h"

namespace ptrig {
namespace {

using text::in_quotes;

constexpr std::array<Protos, 2> kProtos{PTRIG_TCP, PTRIG_UDP};

/// The reserved ports: for each port the next one that is reserved, or 0.
class ReservedPorts {
public:
	explicit ReservedPorts(const std::vector<PortRange> &reserved) : reserved_(reserved) {
		if (reserved.empty())
			return;
		next_.resize(2 * PTRIG_PORTS);
		for (unsigned i = 0; i < kProtos.size(); ++i)
			mark(i);
	}

	/// The reserved port that `range` has, if any.
	std::optional<PortRange> in(const PortRange &range) const {
		for (unsigned i = 0; i < kProtos.size() && !next_.empty(); ++i) {
			const std::uint16_t port = next_[PortIndex::place(i, range.first)];
			if ((range.protos & kProtos[i]) && port != 0 && port <= range.last)
				return PortRange{port, port, kProtos[i]};
		}
		return std::nullopt;
	}
	/// As it was written.
	std::string entry_with(const PortRange &port) const {
		for (const PortRange &range : reserved_)
			if ((range.protos & port.protos) && range.first <= port.first && port.first <= range.last)
				return to_string(range);
		return to_string(port);
	}

private:
	void mark(unsigned proto_index) {
		std::vector<int> begins_less_ends(PTRIG_PORTS + 1);
		for (const PortRange &range : reserved_) {
			if (!(range.protos & kProtos[proto_index]))
				continue;
			++begins_less_ends[range.first];
			--begins_less_ends[range.last + 1U];
		}
		// Downwards, so that each port knows the next: `covering` ranges lie over this one.
		int covering = 0;
		std::uint16_t next = 0;
		for (unsigned port = PTRIG_PORTS; port-- > 0;) {
			covering -= begins_less_ends[port + 1U];
			if (covering > 0)
				next = static_cast<std::uint16_t>(port);
			next_[PortIndex::place(proto_index, port)] = next;
		}
	}

	const std::vector<PortRange> &reserved_;
	std::vector<std::uint16_t> next_;
};

std::string names_on(const Config &config, const PortIndex &index, const PortRange &port) {
	std::string names;
	const unsigned proto_index = port.protos == PTRIG_TCP ? PTRIG_PROTO_INDEX_TCP : PTRIG_PROTO_INDEX_UDP;
	for (const std::uint16_t rule : index.at(PortIndex::place(proto_index, port.first)))
		names += (names.empty() ? "" : ", ") + config.rules[rule].name;
	return names;
}

class Indexer {
public:
	explicit Indexer(const Config &config) : config_(config), reserved_(config.gateway.reserved) {}

	PortIndexes run() {
		const std::uint32_t most = std::min<std::uint32_t>(config_.gateway.max_rules, PTRIG_MAX_RULES);
		const std::size_t count = config_.rules.size();
		if (count > most)
			out_.conflicts.push_back(
				{most, "", -1,
				 fmt::format("{} rules are more than max_rules ({}): raise max_rules in "
					     "[gateway] (up to {}), or remove rules",
					     count, most, PTRIG_MAX_RULES)});
		for (std::size_t i = 0; i < std::min<std::size_t>(count, most); ++i)
			if (config_.rules[i].enabled)
				add(i);
		return std::move(out_);
	}

private:
	void add(std::size_t rule) {
		const Rule &r = config_.rules[rule];
		add_sources(rule);
		for (std::size_t i = 0; i < r.trigger.size(); ++i) {
			const PortRange &t = r.trigger[i];
			if (!add(out_.trigger, rule, t.first, t.last, t.protos, "trigger", i, "triggers on"))
				break;
		}
		for (std::size_t i = 0; i < r.open.size(); ++i) {
			const OpenRange &o = r.open[i];
			if (const auto port = reserved_.in(o.wan))
				out_.conflicts.push_back(
					{rule, "open", static_cast<int>(i),
					 fmt::format("rule {} opens {}, and {} is reserved by {} in [gateway] reserved",
						     in_quotes(r.name), in_quotes(to_string(o)), to_string(*port),
						     in_quotes(reserved_.entry_with(*port)))});
			const unsigned host_last = o.host_first + (o.wan.last - o.wan.first);
			if (!add(out_.open, rule, o.wan.first, o.wan.last, o.wan.protos, "open", i, "opens") ||
			    !add(out_.host, rule, o.host_first, host_last, o.wan.protos, "open", i,
				 "leads to host port"))
				break;
		}
	}

	/// A MAC address on an interface that no LAN is would let nobody trigger.
	void add_sources(std::size_t rule) {
		const std::vector<std::string> &lan = config_.gateway.lan;
		const std::vector<MacSource> &macs = config_.rules[rule].sources.macs;
		for (std::size_t i = 0; i < macs.size() && !lan.empty(); ++i)
			if (const std::string &name = macs[i].interface;
			    !name.empty() && std::find(lan.begin(), lan.end(), name) == lan.end())
				out_.conflicts.push_back(
					{rule, "sources", static_cast<int>(i),
					 fmt::format("rule {} has {}, and {} is none of [gateway] lan: write one of {}",
						     in_quotes(config_.rules[rule].name), in_quotes(to_string(macs[i])),
						     name, fmt::join(lan, ", "))});
	}

	bool add(PortIndex &index, std::size_t rule, unsigned first, unsigned last, Protos protos, const char *key,
		 std::size_t item, std::string_view does) {
		const auto full = index.add(static_cast<std::uint32_t>(rule), first, last, protos);
		if (!full)
			return true;
		out_.conflicts.push_back(
			{rule, key, static_cast<int>(item),
			 fmt::format("rule {} is the {}th that {} {}, and {} is the most: {}",
				     in_quotes(config_.rules[rule].name), PTRIG_MAX_RULES_PER_PORT + 1, does,
				     to_string(*full), PTRIG_MAX_RULES_PER_PORT, names_on(config_, index, *full))});
		return false;
	}

	const Config &config_;
	ReservedPorts reserved_;
	PortIndexes out_;
};

} // namespace

std::optional<PortRange> PortIndex::add(std::uint32_t rule, unsigned first, unsigned last, Protos protos) {
	const auto number = static_cast<std::uint16_t>(rule);
	for (unsigned i = 0; i < kProtos.size(); ++i) {
		if (!(protos & kProtos[i]))
			continue;
		for (unsigned port = first; port <= last; ++port) {
			const std::size_t at = place(i, port);
			auto &page = pages_[at / kPagePorts];
			if (!page)
				page = std::make_unique_for_overwrite<Page>();
			std::uint8_t &count = page->count[at % kPagePorts];
			auto &rules = page->rules[at % kPagePorts];
			if (count > 0 && rules[count - 1U] == number)
				continue;
			if (count == PTRIG_MAX_RULES_PER_PORT)
				return PortRange{static_cast<std::uint16_t>(port), static_cast<std::uint16_t>(port),
						 kProtos[i]};
			rules[count++] = number;
		}
	}
	return std::nullopt;
}

PortIndexes index_ports(const Config &config) {
	return Indexer(config).run();
}

} // namespace ptrig
