// What a gateway does about permissions of the fast path.
#include <atomic>

#include "loader/fast_path.h"
#include "loader/gateway_impl.h"
#include "loader/program.h"
#include "loader/system.h"

namespace ptrig {

namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kRestAfterNs = 10 * kSecondNs; ///< without an answered session
constexpr std::uint64_t kFollowedNs = 3 * kSecondNs;   ///< with a look each second; one may come late

} // namespace

Done shorten_permissions(const std::string &dir) {
	const auto hz = tick_hz();
	auto ways = MappedArray<ptrig_fast_bucket>::open(dir, "pt_fast");
	const auto hops = MappedArray<ptrig_hop>::open(dir, "pt_hops");
	if (!hz || !ways || !hops)
		return tl::unexpected(!hz ? hz.error() : !ways ? ways.error() : hops.error());
	shorten_permissions({&(*ways)[0], ways->size()}, {&(*hops)[0], hops->size()}, *hz);
	return {};
}

Result<bool> Gateway::rest_or_wake() {
	auto state = MappedArray<ptrig_state>::open(impl_->dir, "pt_state");
	const auto usage = read_usage(impl_->dir);
	if (!state || !usage)
		return tl::unexpected(state ? usage.error() : state.error());
	const std::atomic_ref<std::uint32_t> fast((*state)[0].fast);
	const std::uint64_t now = boot_now_ns();
	if (usage->sessions > 0 || fast == PTRIG_STATE_FAST_OFF || !impl_->last_used_ns)
		impl_->last_used_ns = now;
	if (fast == PTRIG_STATE_FAST_RESTS)
		return usage->sessions > 0;
	if (now - impl_->last_used_ns < kRestAfterNs)
		return false;
	fast = PTRIG_STATE_FAST_RESTS; // no packet asks for permission any more: then the program may go
	return true;
}

Done Gateway::follow_firewall() {
	auto state = MappedArray<ptrig_state>::open(impl_->dir, "pt_state");
	if (!state)
		return tl::unexpected(std::move(state.error()));
	// The kernel tells of changes of nftables, not of those of legacy iptables.
	const std::uint64_t until = has_legacy_tables() ? 0 : boot_now_ns() + kFollowedNs;
	std::atomic_ref<__u64>((*state)[0].followed_ns) = until;
	return {};
}

Result<bool> Gateway::wake() {
	auto state = MappedArray<ptrig_state>::open(impl_->dir, "pt_state");
	if (!state)
		return tl::unexpected(std::move(state.error()));
	std::uint32_t rests = PTRIG_STATE_FAST_RESTS;
	return std::atomic_ref<std::uint32_t>((*state)[0].fast).compare_exchange_strong(rests, PTRIG_STATE_FAST_ON);
}

Done Gateway::shorten_permissions() {
	return ptrig::shorten_permissions(impl_->dir);
}

} // namespace ptrig
