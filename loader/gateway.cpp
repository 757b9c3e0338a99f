// Taking hold of a gateway that is up: whose pins these are, and whether this build can read them.
#include "loader/gateway.h"

#include <unistd.h>

#include <fmt/format.h>

#include "loader/events.h"
#include "loader/gateway_impl.h"
#include "loader/system.h"

namespace ptrig {

Gateway::Gateway(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Gateway::Gateway(Gateway &&) noexcept = default;
Gateway &Gateway::operator=(Gateway &&) noexcept = default;
Gateway::~Gateway() = default;

Gateway::Impl::Impl() = default;
Gateway::Impl::~Impl() = default;

namespace {

/// The only element of an array.
template <typename V> Result<V> read_only_one(const std::string &dir, const char *name) {
	auto map = Map<std::uint32_t, V>::open(dir, name, Access::kRead);
	if (!map)
		return tl::unexpected(std::move(map.error()));
	auto value = map->lookup(0);
	if (!value)
		return tl::unexpected(std::move(value.error()));
	return value->value_or(V{});
}

} // namespace

Result<ptrig_state> read_state(const std::string &dir) {
	return read_only_one<ptrig_state>(dir, "pt_state");
}
Result<ptrig_usage> read_usage(const std::string &dir) {
	return read_only_one<ptrig_usage>(dir, "pt_usage");
}

MapSizes sizes_of(const ptrig_state &state) {
	return {state.max_rules, state.max_leases, state.max_sessions, state.max_halfopen,
		state.max_lists, state.hash_seed,  state.zone};
}

Done check_netns(const ptrig_state &state, const std::string &dir) {
	auto here = netns_identity();
	if (!here)
		return tl::unexpected(std::move(here.error()));
	if (*here == NetnsId{.dev = state.netns_dev, .ino = state.netns_ino})
		return {};
	return fail(fmt::format(
		"the gateway at {} belongs to another network namespace (net:[{}]); enter it with nsenter, or "
		"use another --pin-dir",
		dir, state.netns_ino));
}

Result<std::unique_ptr<Gateway::Impl>> Gateway::Impl::open(const std::string &path) {
	auto impl = std::make_unique<Impl>();
	impl->dir = path;
	auto state = Map<std::uint32_t, ptrig_state>::open(path, "pt_state", Access::kRead);
	auto looked = read_state(path);
	if (!state || !looked)
		return tl::unexpected(state ? std::move(looked.error()) : std::move(state.error()));
	impl->state = std::move(*state);
	const ptrig_state &now = *looked;
	if (now.abi != PTRIG_ABI)
		return fail(fmt::format(
			"the gateway at {} was started by another version (ABI {}, this one has {}): `ptrig up` or "
			"`systemctl restart ptrig` starts it afresh",
			path, now.abi, PTRIG_ABI));
	if (auto same = check_netns(now, path); !same)
		return tl::unexpected(std::move(same.error()));
	impl->sizes = sizes_of(now);
	return impl;
}

Result<Gateway> Gateway::open(const std::string &pin_dir) {
	capture_libbpf_log();
	const std::string dir = clean_pin_dir(pin_dir);
	if (auto ours = check_pins(dir); !ours)
		return tl::unexpected(std::move(ours.error()));
	auto impl = Impl::open(dir);
	if (!impl)
		return tl::unexpected(std::move(impl.error()));
	if (auto live = (*impl)->live(); !live)
		return tl::unexpected(std::move(live.error()));
	return Gateway(std::move(*impl));
}

Done Gateway::present() const {
	const auto pinned = Map<std::uint32_t, ptrig_state>::open(impl_->dir, "pt_state", Access::kRead);
	if (!pinned && ::access((impl_->dir + "/pt_state").c_str(), F_OK) == 0)
		return {}; // for want of descriptors, say: another time
	if (!pinned)
		return fail(fmt::format("the gateway at {} is gone: its pins have been removed", impl_->dir));
	const auto here = check_sizes(impl_->state.fd(), "pt_state", sizeof(std::uint32_t), sizeof(ptrig_state));
	const auto there = check_sizes(pinned->fd(), "pt_state", sizeof(std::uint32_t), sizeof(ptrig_state));
	if (!here || !there)
		return tl::unexpected(here ? there.error() : here.error());
	if (here->id != there->id)
		return fail(fmt::format("the gateway at {} is gone: another one is up in its place", impl_->dir));
	return {};
}

Result<std::shared_ptr<const Config>> Gateway::config() const {
	return impl_->live().map([](const std::shared_ptr<const Live> &live) {
		return std::shared_ptr<const Config>(live, &live->config);
	});
}

Result<std::string> Gateway::config_path() const {
	return impl_->live().map([](const std::shared_ptr<const Live> &live) { return live->config_path; });
}

const std::string &Gateway::pin_dir() const {
	return impl_->dir;
}

} // namespace ptrig
