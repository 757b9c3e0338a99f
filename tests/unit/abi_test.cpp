// The structs that cross a map: no hidden padding in what is compared bytewise, and the sizes that both sides count on.
#include <cstddef>
#include <gtest/gtest.h>
#include <type_traits>

#include "include/ptrig/abi.h"
#include "include/ptrig/reasons.h"

namespace ptrig {
namespace {

template <typename... Keys> constexpr bool kNoHiddenPadding = (std::has_unique_object_representations_v<Keys> && ...);

static_assert(kNoHiddenPadding<ptrig_prefix_key, ptrig_mac_key, ptrig_wan_key, ptrig_lease_key, ptrig_session_key,
			       ptrig_conn_key>,
	      "keys are compared bytewise");
static_assert(kNoHiddenPadding<ptrig_list, ptrig_range, ptrig_rule, ptrig_config, ptrig_admin>,
	      "user space writes these whole");

TEST(Abi, PortTablesOfTwoGenerationsDoNotOverlap) {
	EXPECT_EQ(PTRIG_PORT_INDEX(0U, PTRIG_PROTO_INDEX_TCP, 0U), 0U);
	EXPECT_EQ(PTRIG_PORT_INDEX(0U, PTRIG_PROTO_INDEX_UDP, 0U), PTRIG_PORTS);
	EXPECT_EQ(PTRIG_PORT_INDEX(1U, PTRIG_PROTO_INDEX_TCP, 0U), 2 * PTRIG_PORTS);
	EXPECT_EQ(PTRIG_PORT_INDEX(1U, PTRIG_PROTO_INDEX_UDP, 65535U), PTRIG_PORT_TABLE_SIZE - 1);
}

TEST(Abi, ALockIsTheFirstMemberOfALease) {
	EXPECT_EQ(offsetof(ptrig_lease, lock), 0U);
	EXPECT_EQ(sizeof(ptrig_lease::lock), 4U);
}

TEST(Abi, RefusalsAreTheReasonsThatHitsCount) {
	EXPECT_EQ(PTRIG_REFUSALS, std::size(ptrig_hits{}.refused));
}

} // namespace
} // namespace ptrig
