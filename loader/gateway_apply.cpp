// Replacing the live configuration: everything is prepared where no packet looks, then one store
// switches. What can fail comes before that store and is undone; what is left to do after it can only be
// late.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "loader/events.h"
#include "loader/gateway_impl.h"

namespace ptrig {

namespace {

std::shared_ptr<Live> next_live(const Config &config, const std::string &config_path, const Tables &tables,
				const Live &before, std::uint32_t first_set) {
	auto next = std::make_shared<Live>();
	next->config = config;
	next->config_path = config_path;
	next->identities = tables.identities;
	next->slot_counters = before.slot_counters;
	for (const auto &[name, identity] : tables.identities) {
		const std::size_t slot = identity.id & 0xffff;
		if (slot >= next->slot_counters.size())
			next->slot_counters.resize(slot + 1);
		next->slot_counters[slot] = identity.id >> 16;
	}
	next->first_set = first_set;
	next->next_set = end_of_sets(tables, first_set);
	next->generation = before.generation + 1;
	next->index();
	return next;
}

void append(std::vector<std::string> &lines, const std::vector<std::string> &more) {
	lines.insert(lines.end(), more.begin(), more.end());
}

/// Leases and sessions end with their WAN address.
Done end_of_wan(const std::string &dir, const std::vector<Ip4> &gone, std::vector<std::string> &lines) {
	for (const Ip4 address : gone) {
		ptrig_admin request{};
		request.op = PTRIG_ADMIN_CLOSE_LEASES;
		request.wan = to_net(address);
		request.reason = PTRIG_WAN_CHANGED;
		auto leases = run_admin(dir, request);
		request.op = PTRIG_ADMIN_CLOSE_SESSIONS;
		auto closed = run_admin(dir, request);
		if (!leases || !closed)
			return tl::unexpected(std::move((leases ? closed : leases).error()));
		if (const auto count = closed->sessions + closed->halfopen; leases->leases + count > 0)
			lines.push_back(fmt::format("{} leases and {} sessions of {} ended", leases->leases, count,
						    to_string(address)));
	}
	return {};
}

} // namespace

Result<Wanted> Gateway::Impl::want(const Config &config) const {
	auto network = read_network();
	if (!network)
		return tl::unexpected(std::move(network.error()));
	auto attached = read_ifaces(dir);
	if (!attached)
		return tl::unexpected(std::move(attached.error()));
	const auto lan_egress = wants_lan_egress(dir, config);
	if (!lan_egress)
		return tl::unexpected(lan_egress.error());
	return want_interfaces(config, std::move(*network), *lan_egress, *attached);
}

Result<Tables> Gateway::Impl::compile_after(const Config &config, const Live &before) const {
	CompileInput input{.config = &config, .previous = before.identities, .slot_counters = before.slot_counters};
	input.first_set = first_set_after(before);
	const GatewayConfig &asked = config.gateway;
	if (asked.max_rules == sizes.rules && asked.max_port_lists == sizes.lists)
		return compile(input);
	Config fitted = config; // the maps keep the sizes that they were made with
	fitted.gateway.max_rules = sizes.rules;
	fitted.gateway.max_port_lists = sizes.lists;
	input.config = &fitted;
	auto tables = compile(input);
	if (!tables)
		tables.error().what +=
			fmt::format(" (this gateway came up with max_rules {}, max_port_lists {}; others "
				    "take effect after `ptrig down` and `ptrig up`)",
				    sizes.rules, sizes.lists);
	return tables;
}

std::uint32_t Gateway::Impl::first_set_after(const Live &before) {
	constexpr std::uint32_t kWrap = 1U << 31; // far from both ends: the live sets are never met
	return before.next_set < kWrap ? before.next_set : 1;
}

std::vector<std::string> Gateway::Impl::size_notes(const GatewayConfig &config) const {
	std::vector<std::string> notes;
	const auto compare = [&](const char *name, std::uint32_t wanted, std::uint32_t is) {
		if (wanted != is)
			notes.push_back(fmt::format("{} stays {}; {} takes effect after `ptrig down` and `ptrig up`",
						    name, is, wanted));
	};
	compare("max_rules", config.max_rules, sizes.rules);
	compare("max_leases", config.max_leases, sizes.leases);
	compare("max_sessions", config.max_sessions, sizes.sessions);
	compare("max_halfopen", config.max_halfopen, sizes.halfopen);
	compare("max_port_lists", config.max_port_lists, sizes.lists);
	compare("conntrack_zone", config.conntrack_zone, sizes.zone);
	return notes;
}

Done Gateway::Impl::prepare(const Tables &tables, const Network &network, const Live &next, const Live &before) const {
	auto used = active();
	if (!used)
		return tl::unexpected(std::move(used.error()));
	const std::uint32_t idle = *used ^ 1;
	// A packet that began before the last switch may still be reading there.
	auto done = wait_for_programs()
			    .and_then([&] { return purge_sets(dir, before.first_set, before.next_set); })
			    .and_then([&] { return write_tables(dir, sizes, idle, tables, network, before); })
			    .and_then([&] { return write_live(dir, idle, next); });
	if (!done)
		discard(purge_sets(dir, before.first_set, before.next_set), "the next apply purges them, too");
	return done;
}

Done Gateway::Impl::flip(std::shared_ptr<const Live> next) {
	auto map = MappedArray<ptrig_state>::open(dir, "pt_state");
	if (!map)
		return tl::unexpected(std::move(map.error()));
	ptrig_state &now = (*map)[0];
	const std::uint32_t idle = now.active ^ 1;
	now.applied_ns = boot_now_ns();
	std::atomic_ref<std::uint32_t>(now.active).store(idle, std::memory_order_release);
	now.generation = static_cast<std::uint32_t>(next->generation);
	utimensat(AT_FDCWD, live_path(dir, idle).c_str(), nullptr, 0); // wakes whoever watches the directory
	// From here on the new set is live: the rest tidies up, and the daemon, the next switch or the next sweep does
	// it if this one cannot.
	if (wait_for_programs()) {
		discard(purge_sets(dir, next->first_set, next->next_set), "as above");
		discard(forget_port_bits(dir, idle ^ 1), "as above");
	}
	remember(idle, std::move(next));
	return {};
}

Result<std::uint32_t> Gateway::Impl::settle(const Live &after, const Network &network,
					    std::shared_ptr<const Live> before) {
	auto map = MappedArray<ptrig_state>::open(dir, "pt_state");
	if (!map)
		return tl::unexpected(std::move(map.error()));
	ptrig_state &now = (*map)[0];
	const auto generation = static_cast<std::uint32_t>(after.generation);
	if (now.settled == generation)
		return 0;
	// They are pinned until the next are prepared, which is not before this is done.
	if (!before)
		before = read_live(dir, now.active ^ 1).value_or(nullptr);
	std::uint32_t count = 0;
	if (before && before->generation + 1 == after.generation) {
		auto ended = end_disallowed(dir, *before, after, network);
		if (!ended)
			return ended;
		count = *ended;
	}
	now.settled = generation;
	return count;
}

Result<ApplyResult> Gateway::Impl::replace(const Config &config, const std::string &config_path,
					   AttachOptions options) {
	auto names = check_names(config.gateway);
	if (!names)
		return tl::unexpected(std::move(names.error()));
	auto before = live();
	auto wanted = want(config);
	if (!before || !wanted)
		return tl::unexpected(before ? std::move(wanted.error()) : std::move(before.error()));
	if (wanted->wrong)
		return tl::unexpected(*wanted->wrong);
	auto tables = compile_after(config, **before);
	if (!tables)
		return tl::unexpected(std::move(tables.error()));
	if (auto settled = settle(**before, wanted->network, nullptr); !settled)
		return tl::unexpected(std::move(settled.error()));
	const auto next = next_live(config, config_path, *tables, **before, first_set_after(**before));
	if (auto prepared = prepare(*tables, wanted->network, *next, **before); !prepared)
		return tl::unexpected(std::move(prepared.error()));
	options.strict = true;
	auto attached = attach_interfaces(dir, *wanted, options, this->names);
	if (!attached) {
		if (auto old = want((*before)->config))
			discard(attach_interfaces(dir, *old, AttachOptions{}, this->names), "the first error is told");
		discard(purge_sets(dir, (*before)->first_set, (*before)->next_set), "the first error is told");
		return tl::unexpected(std::move(attached.error()));
	}
	if (auto flipped = flip(next); !flipped)
		return tl::unexpected(std::move(flipped.error()));
	if (auto shortened = ptrig::shorten_permissions(dir); !shortened) // of remotes that may not come in any more
		return tl::unexpected(std::move(shortened.error()));
	ApplyResult result;
	result.changes = diff_rules((*before)->config.rules, config.rules);
	result.notes = std::move(attached->lines);
	append(result.notes, size_notes(config.gateway));
	if (!options.quiet)
		append(result.notes, notes_of(*wanted, attached->conditions));
	auto closed = end_of_wan(dir, attached->gone, result.notes);
	auto ended = settle(*next, wanted->network, *before);
	if (!closed || !ended)
		result.notes.push_back("the new rules are live, but what they end could not be ended at once: " +
				       (closed ? ended.error().what : closed.error().what));
	result.leases_ended = ended.value_or(0);
	if (events)
		events->know_configuration(*this);
	return result;
}

Done Gateway::Impl::first_tables(const Config &config, const std::string &config_path) {
	const Live none;
	auto tables = compile_after(config, none);
	if (!tables)
		return tl::unexpected(std::move(tables.error()));
	auto network = read_network();
	if (!network)
		return tl::unexpected(std::move(network.error()));
	const auto next = next_live(config, config_path, *tables, none, first_set_after(none));
	return prepare(*tables, *network, *next, none).and_then([&] { return flip(next); });
}

Result<ApplyResult> Gateway::apply(const Config &config, const std::string &config_path) {
	auto lock = lock_pins(impl_->dir);
	if (!lock)
		return tl::unexpected(std::move(lock.error()));
	return impl_->replace(config, config_path, AttachOptions{});
}

Result<ApplyResult> Gateway::plan(const Config &config) const {
	auto names = check_names(config.gateway);
	if (!names)
		return tl::unexpected(std::move(names.error()));
	auto live = impl_->live();
	auto wanted = impl_->want(config);
	if (!live || !wanted)
		return tl::unexpected(live ? std::move(wanted.error()) : std::move(live.error()));
	if (wanted->wrong)
		return tl::unexpected(*wanted->wrong);
	if (auto tables = impl_->compile_after(config, **live); !tables)
		return tl::unexpected(std::move(tables.error()));
	ApplyResult result;
	result.changes = diff_rules((*live)->config.rules, config.rules);
	result.notes = impl_->size_notes(config.gateway);
	if (!(config.gateway == (*live)->config.gateway))
		append(result.notes, notes_of(*wanted, wanted->conditions));
	return result;
}

Result<ApplyResult> Gateway::edit(const std::function<Done(Config &)> &change) {
	auto lock = lock_pins(impl_->dir);
	if (!lock)
		return tl::unexpected(std::move(lock.error()));
	auto live = impl_->live();
	if (!live)
		return tl::unexpected(std::move(live.error()));
	Config config = (*live)->config;
	if (auto changed = change(config); !changed)
		return tl::unexpected(std::move(changed.error()));
	AttachOptions options;
	options.quiet = config.gateway == (*live)->config.gateway; // what is waited for is no news then
	return impl_->replace(config, (*live)->config_path, options);
}

Result<std::optional<std::vector<std::string>>> Gateway::reconcile() {
	auto lock = try_lock_pins(impl_->dir);
	if (!lock)
		return tl::unexpected(std::move(lock.error()));
	if (!*lock)
		return std::nullopt;
	auto live = impl_->live();
	if (!live)
		return tl::unexpected(std::move(live.error()));
	auto wanted = impl_->want((*live)->config);
	if (!wanted)
		return tl::unexpected(std::move(wanted.error()));
	auto generation = impl_->active();
	if (!generation)
		return tl::unexpected(std::move(generation.error()));
	// Before the interface's first packet.
	if (auto done = follow_sources(impl_->dir, impl_->sizes, *generation, **live, wanted->network); !done)
		return tl::unexpected(std::move(done.error()));
	auto attached = attach_interfaces(impl_->dir, *wanted, AttachOptions{}, impl_->names);
	if (!attached)
		return tl::unexpected(std::move(attached.error()));
	std::vector<std::string> lines = std::move(attached->lines);
	if (auto closed = end_of_wan(impl_->dir, attached->gone, lines); !closed)
		return tl::unexpected(std::move(closed.error()));
	auto ended = impl_->settle(**live, wanted->network, nullptr);
	if (!ended)
		return tl::unexpected(std::move(ended.error()));
	if (*ended > 0)
		lines.push_back(fmt::format("{} leases ended that the rules do not allow any more", *ended));
	std::set<std::string> conditions(attached->conditions.begin(), attached->conditions.end());
	for (const auto &condition : conditions)
		if (!impl_->told.count(condition))
			lines.push_back(condition);
	impl_->told = std::move(conditions);
	return lines;
}

} // namespace ptrig
