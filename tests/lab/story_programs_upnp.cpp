// miniupnpd on the gateway beside ptrig: both open ports, each its own way, and neither takes the other along when it
// ends.
#include "tests/lab/programs.h"

#include <csignal>

namespace lab {

class ProgramsUpnp : public Programs {
protected:
	/// The firewall's chains for it, its configuration, and the daemon.
	Process start_miniupnpd();
	/// A LAN host asks for a mapping of a WAN port to its own port 7000 by UPnP; it must get it.
	void ask(const NetNs &host, const std::string &address, const std::string &wan_port,
		 const std::string &protocol) const;
	/// Who gets a datagram to a WAN port: as who_gets_udp(), and for a mapping the host's port is 7000.
	std::string who(std::uint16_t port) { return who_gets_udp(port, {kRemote2, 0}, 7000); }
	std::string warnings() const { return json({"status"}).at("warnings").dump(); }

	std::string page() const { return "http://" + gateway() + ":5000/rootDesc.xml"; }

private:
	std::string gateway() const { return xdp() ? "192.168.78.1" : "192.168.77.1"; }
};
LAB_STORIES(ProgramsUpnp);

Process ProgramsUpnp::start_miniupnpd() {
	nft("table inet lab {\n"
	    "chain miniupnpd { }\nchain prerouting_miniupnpd { }\nchain postrouting_miniupnpd { }\n"
	    "chain forward { jump miniupnpd; }\n"
	    "chain prerouting { type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }\n"
	    "chain postrouting { type nat hook postrouting priority srcnat; jump postrouting_miniupnpd; }\n"
	    "}\n");
	write("/etc/miniupnpd/miniupnpd.conf",
	      "ext_ifname=wan0\next_ip=5.9.0.2\nlistening_ip=" + std::string(xdp() ? "lan2if" : "br0") +
		      "\nhttp_port=5000\nenable_upnp=yes\nenable_natpmp=no\nsecure_mode=yes\nsystem_uptime=yes\n"
		      "lease_file=" +
		      kDir + "/upnp.leases\nuuid=2b1e5a4c-6f0d-4f5e-9a53-0c6a52d1a001\n" +
		      "upnp_table_name=lab\nupnp_nat_table_name=lab\nupnp_forward_chain=miniupnpd\n"
		      "upnp_nat_chain=prerouting_miniupnpd\nupnp_nat_postrouting_chain=postrouting_miniupnpd\n"
		      "allow 1024-65535 192.168.0.0/16 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n");
	Process daemon(gw(), {"miniupnpd", "-d", "-f", "/etc/miniupnpd/miniupnpd.conf"});
	await_tcp(lan2(), {gateway(), 5000});
	return daemon;
}

void ProgramsUpnp::ask(const NetNs &host, const std::string &address, const std::string &wan_port,
		       const std::string &protocol) const {
	const Output output = run(host, {"upnpc", "-u", page(), "-a", address, "7000", wan_port, protocol});
	ASSERT_NE(output.out.find("is redirected to internal " + address + ":7000"), std::string::npos)
		<< output.out << output.err;
}

TEST_P(ProgramsUpnp, BothOpenPortsOfTheirOwn) {
	up(game());
	Process miniupnpd = start_miniupnpd();
	const auto expect_mapping = [&] {
		EXPECT_EQ(who(7500), "lan2");
		EXPECT_EQ(who_gets_tcp(7501, {kRemote2, 0}, 7000), "lan2");
	};
	const auto expect_lease = [&] {
		EXPECT_EQ(who_gets_udp(6000), "lan1");
		EXPECT_EQ(who_gets_tcp(6000), "lan1");
	};
	EXPECT_EQ(who(7500), "gateway") << "open without a mapping";
	ask(lan2(), host2(), "7500", "UDP");
	ask(lan2(), host2(), "7501", "TCP");
	trigger(lan1());
	expect_mapping();
	expect_lease();
	EXPECT_EQ(warnings().find("miniupnpd"), std::string::npos) << warnings();

	EXPECT_EQ(ptrig({"down"}).status, 0);
	expect_mapping();
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	EXPECT_EQ(ptrig({"up"}).status, 0);
	trigger(lan1());
	must(lan2(), {"upnpc", "-u", page(), "-d", "7500", "UDP"});
	EXPECT_EQ(who(7500), "gateway");
	expect_lease();
	ASSERT_TRUE(eventually(15s, [&] { // a signal that comes before its select() waits for that one's end
		miniupnpd.signal(SIGTERM);
		return miniupnpd.wait(200ms).has_value();
	})) << miniupnpd.err();
	expect_lease();
}

/// Whose a port is that both open: the lease's as long as it lives, but of flows that the mapping has begun; `status`
/// and `check` warn, and `reserved` forbids it.
TEST_P(ProgramsUpnp, AMappingInsideAnOpenRange) {
	up(game());
	Process miniupnpd = start_miniupnpd();
	ask(lan2(), host2(), "6005", "UDP");
	EXPECT_EQ(who(6005), "lan2");
	const std::string given_out = "rule game opens ports that miniupnpd has given out: 6005/udp to " + host2() +
				      " (list them in `reserved`)";
	EXPECT_NE(warnings().find(given_out), std::string::npos) << warnings();
	const Output check = ptrig({"check"});
	EXPECT_NE((check.out + check.err).find("6005/udp"), std::string::npos) << check.out << check.err;
	const Fd before = udp_socket(wan(), {kRemote2, 0});
	ASSERT_TRUE(talk(before, udp_on(lan2(), 7000), {kWan, 6005}));

	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6005), "lan1") << "the mapping, not the lease";
	EXPECT_TRUE(talk(before, udp_on(lan2(), 7000), {kWan, 6005})) << "a flow that was there first was broken";
	EXPECT_EQ(ptrig({"lease", "close", "game", "--kill"}).status, 0);
	EXPECT_EQ(who(6005), "lan2") << "the mapping is back";

	write("/run/reserved.toml", config(game(), "reserved = ['6005/udp']"));
	EXPECT_EQ(ptrig({"check", "/run/reserved.toml"}).status, 2);
	up(rule("game", "4000/udp", "6000-6004/udp"));
	EXPECT_EQ(warnings().find("miniupnpd"), std::string::npos) << warnings();
}

} // namespace lab
