// One host sends as much as it can: the tables that all hosts share have a place left for the next one.
#include "tests/lab/frames.h"
#include "tests/lab/lab.h"

namespace lab {

class Shares : public Lab {
protected:
	/// One packet from each of so many ports of a host, as its own, to a port.
	void flood(const NetNs &from, const std::string &address, const Endpoint &to, bool tcp, unsigned ports) {
		FrameSender sender(from, "eth0", to_mac(mac_of(gw(), device_of(from))));
		const MacBytes mac = to_mac(mac_of(from));
		for (unsigned n = 0; n < ports; n++)
			sender.add(mac, {.from = to_number(address),
					 .to = to_number(to.address),
					 .from_port = static_cast<std::uint16_t>(20000 + n),
					 .to_port = to.port,
					 .tcp = tcp});
		EXPECT_EQ(sender.send(), 0U);
	}
	std::string device_of(const NetNs &host) const { return xdp() && &host == &lan2() ? "lan2if" : lan_device(); }
};
LAB_STORIES(Shares);

TEST_P(Shares, OfTriggerConnections) {
	up(rule("flooded", "4000/tcp", "6000/tcp", "close = 'connection'\ntimeout = '1h'") +
	   rule("other", "4001/tcp", "6100/udp", "close = 'connection'\ntimeout = '1h'"));
	nft("insert rule inet lab forward tcp flags rst drop\n"); // nobody ends what nobody answers
	trigger(lan1(), {kRemote1, 9});                           // its neighbour is known
	flood(lan1(), host1(), {kRemote1, 4000}, true, 2000);
	ASSERT_TRUE(eventually(5s, [&] { return rule_row("flooded").at("triggers_seen") >= 2000; }));
	EXPECT_GT(refused("flooded", "conns_full"), 0U);
	auto connection = connect_out(lan2(), {kRemote1, 4001});
	ASSERT_TRUE(connection);
	EXPECT_EQ(who_gets_udp(6100), "lan2");
	connection.reset();
	EXPECT_TRUE(eventually(15s, [&] { return who_gets_udp(6100) == "gateway"; })) << "it ends with its connection";
	EXPECT_EQ(refused("other", "conns_full"), 0U);
}

TEST_P(Shares, OfTriggersThatWaitForTheirAnswer) {
	up(rule("confirmed", "4000/udp", "6000/udp", "confirm = true\ntimeout = '1h'"));
	const Fd host = udp_socket(lan2(), {host2(), 0}), remote = udp_socket(wan(), {kRemote2, 4000});
	udp_send(host, {kRemote2, 4000}, "question");
	const auto question = udp_receive(remote);
	ASSERT_TRUE(question);
	trigger(lan1(), {kRemote1, 9}); // its neighbour is known
	flood(lan1(), host1(), {kRemote1, 4000}, false, 5000);
	ASSERT_TRUE(eventually(5s, [&] { return rule_row("confirmed").at("triggers_seen") >= 5001; }));
	EXPECT_EQ(leases(), Json::array());
	udp_send(remote, question->from, "answer");
	ASSERT_TRUE(udp_receive(host));
	ASSERT_TRUE(eventually(2s, [&] { return leases().size() == 1; }));
	EXPECT_EQ(leases().at(0).at("host"), host2());
}

TEST_P(Shares, OfHairpinsByTheirClient) {
	const std::string other = xdp() ? "192.168.78.13" : "192.168.77.13";
	ip(lan2(), "addr add " + other + "/24 dev eth0\n");
	up(game("timeout = '1h'"), "max_halfopen = 256");
	trigger(lan1());
	const Fd &host = udp_on(lan1(), 6000);
	flood(lan2(), host2(), {kWan, 6000}, false, 1000);
	ASSERT_TRUE(eventually(5s, [&] { return counter("hairpin_opened") + counter("halfopen_full") >= 1000; }));
	EXPECT_GT(counter("halfopen_full"), 0U);
	while (udp_receive(host, 0ms)) {
	}
	const Fd client = udp_socket(lan2(), {other, 5555});
	EXPECT_TRUE(talk(client, host, {kWan, 6000}, 10s)) << "another client";
}

} // namespace lab
