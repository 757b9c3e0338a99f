// Port shadowing (CVE-2021-3773): a LAN host sends from the port of a service of the gateway's own, so that the
// gateway's masquerade keeps the port and a remote's packets to the service go to the host. The four stories are those
// of the kernel's selftest nft_nat.sh, with a lease that opens this very port to the host: ptrig must add nothing to
// what the kernel does, and undo none of the three ways to prevent it.
#include "tests/lab/lab.h"

namespace lab {

class Shadow : public Lab {
protected:
	static constexpr std::uint16_t kService = 6001, kAsker = 41404;
	/// The host's entry is made, as far as the firewall lets it; then a remote asks the service. Who gets it?
	std::string who_is_asked(std::uint16_t host_port = kService);
	void with_lease(const std::string &open = "6000-6010/udp");
};
LAB_STORIES(Shadow);

std::string Shadow::who_is_asked(std::uint16_t host_port) {
	must(gw(), {"conntrack", "-F"});
	const Fd service = udp_socket(gw(), {"0.0.0.0", kService});
	const Fd asker = udp_socket(wan(), {kRemote1, kAsker});
	const Fd &host = udp_on(lan1(), host_port);
	udp_send(host, {kRemote1, kAsker}, "fake-entry");
	udp_receive(asker, 300ms); // it may have been dropped
	udp_send(asker, {kWan, kService}, "question");
	std::string who = "nobody";
	eventually(5s, [&] {
		if (udp_receive(service, 10ms))
			who = "service";
		else if (udp_receive(host, 10ms))
			who = "host";
		return who != "nobody";
	});
	return who;
}

void Shadow::with_lease(const std::string &open) {
	up(rule("game", "4000/udp", open));
	trigger(lan1());
	ASSERT_EQ(leases("game").size(), 1U);
}

TEST_P(Shadow, AloneItIsTheKernelsAndNotPtrigs) {
	up("");
	EXPECT_EQ(who_is_asked(), "host") << "the kernel's masquerade by itself";
	with_lease();
	EXPECT_EQ(who_is_asked(), "host") << "and the same beside a lease";
	EXPECT_EQ(json({"session", "list"}), Json::array())
		<< "the host's packet has made a session of the service's port";
	EXPECT_EQ(counter("opened"), 0U);
	EXPECT_EQ(who_gets_udp(6002), "lan1") << "the lease does live";
}

TEST_P(Shadow, AFilterPreventsIt) {
	with_lease();
	nft("insert rule inet lab forward oifname wan0 udp sport 6001 drop\n");
	EXPECT_EQ(who_is_asked(), "service");
	EXPECT_EQ(json({"session", "list"}), Json::array());
}

TEST_P(Shadow, NotrackPreventsIt) {
	with_lease();
	nft("table ip lab_raw {\n"
	    "chain prerouting { type filter hook prerouting priority raw; iifname wan0 udp dport 6001 notrack; }\n"
	    "chain output { type filter hook output priority raw; oifname wan0 udp sport 6001 notrack; }\n}\n");
	EXPECT_EQ(who_is_asked(), "service");
	EXPECT_EQ(json({"session", "list"}), Json::array());
}

TEST_P(Shadow, PortTranslationPreventsIt) {
	with_lease();
	nft("insert rule ip lab_nat postrouting oifname wan0 udp sport <= 6001 masquerade to :6100-65535 random\n");
	EXPECT_EQ(who_is_asked(), "service");
	EXPECT_EQ(json({"session", "list"}), Json::array());
}

/// The host's own port is another; the lease would make it the service's.
TEST_P(Shadow, AMappedRangeDoesNotMakeItPossible) {
	with_lease("6001=7001/udp");
	EXPECT_EQ(who_is_asked(7001), "service");
	EXPECT_EQ(json({"session", "list"}), Json::array());
}

} // namespace lab
