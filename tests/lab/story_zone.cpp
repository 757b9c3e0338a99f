// Conntrack zones: the firewall puts LAN and WAN into one, and ptrig looks there.
#include <sys/utsname.h>

#include "tests/lab/lab.h"

namespace lab {

class Zone : public Lab {
protected:
	void set_zone() {
		nft("add table ip zone\nadd chain ip zone pre { type filter hook prerouting priority raw; }\n"
		    "add rule ip zone pre ct zone set 7\n");
	}
	/// Programs of this kernel see zones.
	static bool can() {
		utsname name{};
		uname(&name);
		int major = 0, minor = 0;
		return sscanf(name.release, "%d.%d", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 11));
	}
	/// Entries of conntrack's table in a zone.
	std::size_t entries_in(const std::string &zone) const {
		const std::string all = run(gw(), {"conntrack", "-L", "-w", zone}).out;
		return static_cast<std::size_t>(std::count(all.begin(), all.end(), '\n'));
	}
};
LAB_STORIES(Zone);

TEST_P(Zone, SessionsAreInTheZoneThatIsNamed) {
	set_zone();
	if (!can()) {
		start_afresh();
		write(kConfig, config(game(), "conntrack_zone = 7\n"));
		const Output refused = ptrig({"up", "-c", kConfig});
		EXPECT_EQ(refused.status, 1);
		EXPECT_NE(refused.err.find("conntrack_zone = 7: BPF programs of this kernel"), std::string::npos)
			<< refused.err;
		return;
	}
	up(game(), "conntrack_zone = 7\n");
	trigger(lan1());
	EXPECT_EQ(leases("game").size(), 1U);
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	EXPECT_EQ(who_gets_tcp(6001), "lan1");
	const Fd remote = start_talk(lan1(), {kRemote2, 0});
	auto [in, host] = connect_in(6001, lan1());
	EXPECT_TRUE(exchange(in, host, 1U << 20));
	EXPECT_EQ(counter("remade"), 0U);
	EXPECT_GE(entries_in("7"), 4U);
	start_afresh();
	const std::string left = run(gw(), {"conntrack", "-L", "-w", "7"}).out;
	EXPECT_EQ(left.find("src=" + kRemote2), std::string::npos) << left;
}

/// Control.
TEST_P(Zone, WhoLooksInAnotherZoneGrantsNothing) {
	set_zone();
	up(game());
	trigger(lan1());
	EXPECT_EQ(leases("game").size(), 0U);
	const Json warnings = json({"status"}).at("warnings");
	EXPECT_NE(warnings.dump().find("conntrack_zone"), std::string::npos) << warnings;
}

} // namespace lab
