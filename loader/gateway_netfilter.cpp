// What the gateway keeps in step with netfilter: the connections that helpers expect, for packets to leave alone, and
// the nat chain without which there is no translation.
#include <array>
#include <atomic>
#include <bit>
#include <map>

#include "loader/gateway_impl.h"
#include "loader/nat_chain.h"
#include "loader/netfilter.h"

namespace ptrig {

namespace {

constexpr std::uint64_t kSecondNs = 1000000000U;

using ExpectedMap = Map<ptrig_expected_key, std::uint64_t>;
using KeyBytes = std::array<std::uint8_t, sizeof(ptrig_expected_key)>;

ptrig_expected_key key_of(const Expectation &expectation) {
	return {.remote = to_net(expectation.remote),
		.wan = to_net(expectation.local),
		.port = htons(expectation.port),
		.proto = expectation.proto};
}

/// The kernel tells whole seconds; it is never over for us before it is for the kernel.
std::uint64_t until_of(const Expectation &expectation, std::uint64_t now) {
	return now + (std::uint64_t{expectation.timeout_s} + 1) * kSecondNs;
}

Done replace_all(ExpectedMap &map, const std::vector<Expectation> &expectations) {
	const std::uint64_t now = boot_now_ns();
	std::map<KeyBytes, std::uint64_t> wanted;
	for (const auto &expectation : expectations) {
		auto &until = wanted[std::bit_cast<KeyBytes>(key_of(expectation))];
		until = std::max(until, until_of(expectation, now));
	}
	std::vector<ptrig_expected_key> old;
	auto listed = map.each([&](const ptrig_expected_key &key, std::uint64_t until) {
		const auto same = wanted.find(std::bit_cast<KeyBytes>(key));
		if (same == wanted.end())
			old.push_back(key);
		else if (elapsed_ns(until, same->second) + elapsed_ns(same->second, until) <= kSecondNs)
			wanted.erase(same); // but for the rounding
	});
	if (!listed)
		return listed;
	for (const auto &key : old)
		if (auto erased = map.erase(key); !erased)
			return erased;
	for (const auto &[key, until] : wanted)
		if (auto updated = map.update(std::bit_cast<ptrig_expected_key>(key), until); !updated)
			return updated;
	return {};
}

/// Whether packets look into pt_expected: before there is something to find, and until nothing is left.
Done tell_expecting(const std::string &dir, bool expecting) {
	auto state = MappedArray<ptrig_state>::open(dir, "pt_state");
	if (!state)
		return tl::unexpected(std::move(state.error()));
	std::atomic_ref<std::uint32_t>((*state)[0].expecting) = expecting;
	return {};
}

} // namespace

Done Gateway::set_expected(const std::vector<Expectation> &now) {
	auto map = ExpectedMap::open(impl_->dir, "pt_expected");
	if (!map)
		return tl::unexpected(std::move(map.error()));
	const auto tell = [&] { return tell_expecting(impl_->dir, !now.empty()); };
	const auto replace = [&] { return replace_all(*map, now); };
	return now.empty() ? replace().and_then(tell) : tell().and_then(replace);
}

Done Gateway::note_expected(const Expectation &expectation, bool gone) {
	auto map = ExpectedMap::open(impl_->dir, "pt_expected");
	if (!map)
		return tl::unexpected(std::move(map.error()));
	const auto key = key_of(expectation);
	if (gone)
		return map->erase(key);
	return tell_expecting(impl_->dir, true).and_then([&] {
		return map->update(key, until_of(expectation, boot_now_ns()));
	});
}

Result<bool> Gateway::keep_nat_chain() {
	auto map = MappedArray<ptrig_state>::open(impl_->dir, "pt_state");
	if (!map)
		return tl::unexpected(std::move(map.error()));
	const std::atomic_ref<std::uint32_t> ready((*map)[0].nat_ready);
	const auto there = nat_chain_present();
	if (there && *there) {
		ready = 1;
		return false;
	}
	ready = 0; // packets see at once that it is gone
	auto added = there ? add_nat_chain() : tl::unexpected(there.error());
	if (!added)
		return tl::unexpected(std::move(added.error()));
	ready = 1;
	return true;
}

} // namespace ptrig
