// Coming up, afresh or by adopting what is up, and going down.
#include <filesystem>
#include <random>

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/gateway_impl.h"
#include "loader/nat_chain.h"
#include "loader/system.h"
#include "loader/usable_config.h"

namespace ptrig {

namespace {

MapSizes new_sizes(const GatewayConfig &config) {
	return {config.max_rules,      config.max_leases,      config.max_sessions,  config.max_halfopen,
		config.max_port_lists, std::random_device{}(), config.conntrack_zone};
}

/// Refuse while another process is the daemon of these pins.
Done check_no_daemon(const std::string &dir, const char *what) {
	auto pid = daemon_pid(runtime_file(dir, "daemon"));
	if (!pid)
		return tl::unexpected(std::move(pid.error()));
	if (*pid && **pid != getpid())
		return fail(fmt::format("the daemon (pid {}) runs: stop it before {}", **pid, what));
	return {};
}

Done write_state(const std::string &dir, const MapSizes &sizes) {
	auto here = netns_identity();
	if (!here)
		return tl::unexpected(std::move(here.error()));
	auto map = MappedArray<ptrig_state>::open(dir, "pt_state");
	if (!map)
		return tl::unexpected(std::move(map.error()));
	ptrig_state &state = (*map)[0];
	state.abi = PTRIG_ABI;
	state.netns_ino = here->ino;
	state.netns_dev = here->dev;
	state.max_rules = sizes.rules;
	state.max_leases = sizes.leases;
	state.max_sessions = sizes.sessions;
	state.max_halfopen = sizes.halfopen;
	state.max_lists = sizes.lists;
	state.hash_seed = sizes.hash_seed;
	state.zone = sizes.zone;
	return {};
}

/// Does any process, or a name under /run/netns, still hold this network namespace?
bool netns_lives(std::uint64_t ino) {
	const auto is_it = [&](const std::string &path) {
		struct stat st {};
		return stat(path.c_str(), &st) == 0 && st.st_ino == ino;
	};
	std::error_code ignored;
	for (const auto &entry : std::filesystem::directory_iterator("/proc", ignored))
		if (is_it(entry.path().string() + "/ns/net"))
			return true;
	for (const char *names : {"/run/netns", "/var/run/netns"})
		for (const auto &entry : std::filesystem::directory_iterator(names, ignored))
			if (is_it(entry.path().string()))
				return true;
	return false;
}

/// Why what is pinned at `dir` cannot be adopted; nothing if it can.
Result<std::optional<std::string>> why_afresh(const std::string &dir) {
	const auto state = read_state(dir);
	if (!state || state->abi != PTRIG_ABI)
		return std::optional(state ? fmt::format("ABI {}, this one has {}", state->abi, PTRIG_ABI)
					   : state.error().what);
	if (auto same = check_netns(*state, dir); !same)
		return tl::unexpected(std::move(same.error()));
	auto misfit = maps_misfit(dir, sizes_of(*state));
	if (!misfit)
		return tl::unexpected(std::move(misfit.error()));
	if (!misfit->empty())
		return std::optional(*misfit);
	if (auto live = read_live(dir, state->active & 1); !live)
		return std::optional(live.error().what);
	return std::nullopt;
}

/// What can be wrong with a configuration in this network, before any gateway.
Done check_first(const Config &config) {
	auto network = read_network();
	if (!network)
		return tl::unexpected(std::move(network.error()));
	if (auto wanted = want_interfaces(config, std::move(*network), {}, {}); wanted.wrong)
		return tl::unexpected(*wanted.wrong);
	return {};
}

/// What of this process's surroundings would stop it half-way.
Done check_supersede(const std::string &dir, const Config &config) {
	const auto with_way_out = [](Error error, const char *way_out) -> Done {
		error.what += way_out;
		return tl::unexpected(std::move(error));
	};
	if (auto alone = check_no_daemon(dir, "starting afresh"); !alone)
		return with_way_out(std::move(alone.error()), " (`systemctl restart ptrig` does both)");
	if (auto removable = check_removable(dir); !removable)
		return with_way_out(std::move(removable.error()),
				    " (`systemctl restart ptrig-datapath` starts it afresh)");
	return check_first(config);
}

} // namespace

/// Everything is made and filled beside `dir` and renamed; only then is it attached.
Result<std::unique_ptr<Gateway::Impl>> Gateway::Impl::make(const std::string &dir, const Config &config,
							   const std::string &config_path,
							   const std::function<Done()> &make_room,
							   std::vector<std::string> &notes) {
	const std::string beside = new_pins_path(dir);
	const MapSizes sizes = new_sizes(config.gateway);
	std::unique_ptr<Impl> impl;
	auto made = Programs::load(sizes, "")
			    .and_then([&](const Programs &programs) { return programs.pin(beside); })
			    .and_then([&] { return write_state(beside, sizes); })
			    .and_then([&] { return Impl::open(beside); })
			    .and_then([&](std::unique_ptr<Impl> opened) {
				    impl = std::move(opened);
				    return impl->first_tables(config, config_path);
			    })
			    .and_then([&] { return make_room ? make_room() : Done{}; })
			    .and_then([&] { return commit_pins(dir); });
	if (!made) {
		discard(remove_pins(beside), "the first error is told; the next up removes them");
		return tl::unexpected(std::move(made.error()));
	}
	impl->dir = dir;
	AttachOptions options;
	options.strict = options.replace = true;
	auto wanted = impl->want(config);
	auto attached = wanted ? attach_interfaces(dir, *wanted, options, impl->names)
			       : Result<AttachReport>(tl::unexpected(std::move(wanted.error())));
	if (!attached) {
		discard(detach_all(dir, false), "the first error is told");
		discard(remove_pins(dir), "the first error is told");
		return tl::unexpected(std::move(attached.error()));
	}
	notes.insert(notes.end(), attached->lines.begin(), attached->lines.end());
	for (const auto &note : notes_of(*wanted, attached->conditions))
		notes.push_back(note);
	return impl;
}

Result<std::unique_ptr<Gateway::Impl>> Gateway::Impl::start(const std::string &dir, const Config &config,
							    const std::string &config_path,
							    std::vector<std::string> &notes) {
	{
		const auto lock = begin_pins(dir);
		if (!lock)
			return tl::unexpected(lock.error());
		if (!check_pins(dir))
			return make(dir, config, config_path, nullptr, notes);
		discard(remove_pins(new_pins_path(dir)), "another process was quicker, and its gateway is what counts");
	}
	return adopt(dir, config, config_path, notes);
}

/// The old one serves until the new one is complete: a kernel or a configuration that refuses it costs nothing.
Result<std::unique_ptr<Gateway::Impl>> Gateway::Impl::supersede(const std::string &dir, const std::string &why,
								const Config &config, const std::string &config_path,
								std::vector<std::string> &notes) {
	bool gone = false;
	const auto make_room = [&] {
		gone = true;
		return detach_all(dir, true).and_then([&] { return remove_pins(dir); });
	};
	std::vector<std::string> attached;
	const auto lock = check_supersede(dir, config).and_then([&] { return begin_pins(dir); });
	auto impl = lock ? make(dir, config, config_path, make_room, attached)
			 : Result<std::unique_ptr<Impl>>(tl::unexpected(lock.error()));
	if (!impl)
		return within(fmt::format("the gateway at {} cannot be taken over ({}) and {}", dir, why,
					  gone ? "was taken down" : "goes on as it is"),
			      std::move(impl.error()));
	notes.push_back(fmt::format(
		"the gateway that was up cannot be taken over ({}): started afresh, its leases and sessions are lost",
		why));
	notes.insert(notes.end(), attached.begin(), attached.end());
	return impl;
}

/// The running gateway's maps with this build's programs, filters replaced in place.
Result<std::unique_ptr<Gateway::Impl>> Gateway::Impl::adopt(const std::string &dir, const Config &config,
							    const std::string &config_path,
							    std::vector<std::string> &notes) {
	const auto lock = lock_pins(dir);
	if (!lock)
		return tl::unexpected(lock.error());
	auto why = why_afresh(dir);
	if (!why)
		return tl::unexpected(std::move(why.error()));
	if (*why)
		return supersede(dir, **why, config, config_path, notes);
	auto impl = Impl::open(dir);
	if (!impl)
		return impl;
	// All that the configuration can have wrong is found before anything changes.
	auto loaded = (*impl)->check(config).and_then([&] { return Programs::load((*impl)->sizes, dir); });
	if (!loaded)
		return tl::unexpected(std::move(loaded.error()));
	if (auto pinned = loaded->pin(dir); !pinned)
		return tl::unexpected(std::move(pinned.error()));
	AttachOptions options;
	options.replace = true;
	auto applied = (*impl)->replace(config, config_path, options);
	if (!applied)
		return tl::unexpected(std::move(applied.error()));
	notes.push_back("took over the gateway that is up");
	notes.insert(notes.end(), applied->notes.begin(), applied->notes.end());
	return impl;
}

Done Gateway::Impl::check(const Config &config) const {
	auto before = live();
	auto wanted = want(config);
	if (!before || !wanted)
		return tl::unexpected(before ? std::move(wanted.error()) : std::move(before.error()));
	if (wanted->wrong)
		return tl::unexpected(*wanted->wrong);
	auto tables = compile_after(config, **before);
	return tables ? Done{} : tl::unexpected(std::move(tables.error()));
}

Result<Gateway> Gateway::up(const std::string &pin_dir, const Config &config, const std::string &config_path,
			    std::vector<std::string> &notes) {
	capture_libbpf_log();
	const std::string dir = clean_pin_dir(pin_dir);
	if (auto valid = check_names(config.gateway); !valid)
		return tl::unexpected(std::move(valid.error()));
	const auto there = check_pins(dir);
	if (!there && there.error().status != Status::kNoGateway)
		return tl::unexpected(there.error());
	if (auto valid = there ? Done{} : check_first(config); !valid)
		return tl::unexpected(std::move(valid.error()));
	if (geteuid() != 0)
		return fail("needs root");
	const auto complaints = load_conntrack_modules();
	if (auto ready = prepare_bpffs(dir); !ready)
		return tl::unexpected(std::move(ready.error()));
	auto impl = there ? Impl::adopt(dir, config, config_path, notes) : Impl::start(dir, config, config_path, notes);
	if (impl) {
		Gateway gateway(std::move(*impl));
		// Without it sessions are translated all the same where any nat chain is: not worth failing for.
		if (const auto kept = gateway.keep_nat_chain(); !kept)
			notes.push_back(kept.error().what);
		return gateway;
	}
	if (impl.error().what.find("modprobe") != std::string::npos && !complaints.empty())
		impl.error().what += fmt::format(" (modprobe said: {})", complaints.front());
	return tl::unexpected(std::move(impl.error()));
}

Result<Gateway> Gateway::open_or_up(const std::string &pin_dir, const std::string &config_path,
				    std::vector<std::string> &notes) {
	auto opened = open(pin_dir);
	if (opened)
		return opened;
	const bool none = opened.error().status == Status::kNoGateway;
	if (!none) {
		const auto why = why_afresh(clean_pin_dir(pin_dir));
		if (!why || !*why)
			return opened;
	}
	const auto config = read_usable_config(config_path);
	if (!config)
		return tl::unexpected(config.error());
	auto started = up(pin_dir, *config, config_path, notes);
	if (!started && none)
		return within(opened.error().what + "; start it", std::move(started.error()));
	return started;
}

Done Gateway::down(const std::string &pin_dir) {
	capture_libbpf_log();
	const std::string dir = clean_pin_dir(pin_dir);
	if (auto alone = check_no_daemon(dir, "ptrig down"); !alone)
		return alone;
	auto whole = check_pins(dir);
	if (!whole && whole.error().status == Status::kNoGateway)
		return remove_leftovers(dir);
	auto lock = lock_any_pins(dir);
	if (!lock)
		return tl::unexpected(std::move(lock.error()));
	const auto state = read_state(dir);
	const bool readable = whole && state && state->abi == PTRIG_ABI;
	if (readable)
		if (auto same = check_netns(*state, dir); !same) {
			if (netns_lives(state->netns_ino))
				return same;
			return remove_pins(dir); // the devices are gone with their namespace
		}
	// No new session begins any more; the entries of those that are there go before the maps that tell of them.
	return detach_all(dir, !readable)
		.and_then([&] { return end_all_sessions(dir); })
		.and_then(remove_nat_chain)
		.and_then([&] { return remove_pins(dir); });
}

} // namespace ptrig
