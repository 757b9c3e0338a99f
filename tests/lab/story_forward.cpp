// The main job: closed, triggered, open, both ways, intact; and ordinary traffic left alone.
#include "tests/lab/lab.h"

namespace lab {

class Forward : public Lab {};
LAB_STORIES(Forward);

TEST_P(Forward, OrdinaryMasqueradeWorksWithoutPtrig) {
	EXPECT_EQ(trigger(lan1()).address, kWan);
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(who_gets_tcp(6000), "gateway");
}

} // namespace lab
