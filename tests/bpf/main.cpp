// Enters the private network before any test runs, and demands after all of them that every reason which a
// packet can have was produced by some packet of the suite.
#include <cstdio>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include "loader/program.h"
#include "tests/bpf/datapath.h"
#include "tests/bpf/world.h"

namespace {

using ptrig::test::Kind;

/// Reasons that no packet can be given in a test run, and why.
const std::map<enum ptrig_reason, const char *> kExcepted{
	{PTRIG_CONNS_FULL, "no packet's reason: its rule's `refused` counts it while the packet is granted"},
	{PTRIG_FAILED, "the kernel has no memory left for the packet's own copy of its headers"},
};

class EveryReason : public ::testing::Environment {
	void TearDown() override {
		const bool all = ::testing::GTEST_FLAG(filter) == "*" && ptrig::test::in_world();
		if (!all)
			return;
		for (unsigned i = 0; i < PTRIG_REASON_COUNT; i++) {
			const auto reason = static_cast<enum ptrig_reason>(i);
			const bool seen = ptrig::test::produced().contains(reason);
			const bool wanted = ptrig::test::kind_of(reason) != Kind::END && !kExcepted.contains(reason);
			EXPECT_EQ(seen, wanted) << ptrig::test::name_of(i)
						<< (wanted ? " was produced by no packet" : " was produced after all");
		}
	}
};

} // namespace

int main(int argc, char **argv) {
	::testing::InitGoogleTest(&argc, argv);
	ptrig::capture_libbpf_log();
	if (const std::string why_not = ptrig::test::enter_world(); !why_not.empty())
		std::fprintf(stderr, "no network for the tests: %s\n", why_not.c_str());
	::testing::AddGlobalTestEnvironment(new EveryReason);
	return RUN_ALL_TESTS();
}
