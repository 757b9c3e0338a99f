// What a gateway does about permissions of the fast path.
#include "loader/fast_path.h"
#include "loader/gateway_impl.h"
#include "loader/program.h"

namespace ptrig {

Done shorten_permissions(const std::string &dir) {
	const auto hz = tick_hz();
	auto ways = MappedArray<ptrig_fast_bucket>::open(dir, "pt_fast");
	const auto hops = MappedArray<ptrig_hop>::open(dir, "pt_hops");
	if (!hz || !ways || !hops)
		return tl::unexpected(!hz ? hz.error() : !ways ? ways.error() : hops.error());
	shorten_permissions({&(*ways)[0], ways->size()}, {&(*hops)[0], hops->size()}, *hz);
	return {};
}

Done Gateway::shorten_permissions() {
	return ptrig::shorten_permissions(impl_->dir);
}

} // namespace ptrig
