// The port tables of a generation: the encoding of abi.h, and one list for all ports with the same rules.
#include "loader/compile_ports.h"

#include <cstring>
#include <fmt/format.h>
#include <string_view>
#include <unordered_map>

namespace ptrig {
namespace {

/// The used part of a list as bytes, for hashing and comparing.
std::string_view bytes_of(const ptrig_list &list) {
	return {reinterpret_cast<const char *>(list.slot), list.count * sizeof(list.slot[0])};
}

class Lists {
public:
	explicit Lists(std::vector<ptrig_list> &lists) : lists_(lists) {}

	std::uint32_t entry(std::span<const std::uint16_t> rules, const std::vector<std::uint16_t> &slots) {
		if (rules.empty())
			return 0;
		if (rules.size() == 1)
			return slots[rules[0]] + 1U;
		ptrig_list list{};
		for (const std::uint16_t rule : rules)
			list.slot[list.count++] = slots[rule];
		// Neighbouring ports mostly have the same rules.
		if (last_entry_ != 0 && bytes_of(list) == bytes_of(last_))
			return last_entry_;
		const auto number = static_cast<std::uint32_t>(lists_.size());
		const auto [known, is_new] = numbers_.try_emplace(std::string(bytes_of(list)), number);
		if (is_new)
			lists_.push_back(list);
		last_ = list;
		return last_entry_ = PTRIG_PORT_LIST | known->second;
	}

private:
	std::vector<ptrig_list> &lists_;
	std::unordered_map<std::string, std::uint32_t> numbers_;
	ptrig_list last_{};
	std::uint32_t last_entry_ = 0;
};

} // namespace

Done write_port_tables(const PortIndexes &indexes, const std::vector<std::uint16_t> &slots, std::uint32_t most_lists,
		       Tables &tables) {
	Lists lists(tables.lists);
	const auto fill = [&](std::vector<std::uint32_t> &table, const PortIndex &index) {
		table.resize(2 * PTRIG_PORTS);
		for (std::size_t place = 0; place < table.size(); ++place)
			table[place] = lists.entry(index.at(place), slots);
	};
	fill(tables.trigger_ports, indexes.trigger);
	fill(tables.open_ports, indexes.open);
	fill(tables.host_ports, indexes.host);
	if (tables.lists.size() > most_lists)
		return fail(fmt::format("ports are shared by {} different sets of rules, more than max_port_lists "
					"({}): raise it "
					"in [gateway]",
					tables.lists.size(), most_lists),
			    Status::kInput);
	return {};
}

} // namespace ptrig
