// Real programs that ask who answers and how far away it is: nmap and tracepath from the WAN.
#include "tests/lab/programs.h"

#include <sstream>

namespace lab {

class ProgramsProbe : public Programs {
protected:
	/// nmap's answer for each port of its list: "STATE REASON ttl TTL".
	std::map<unsigned, std::string> sweep(const std::string &kind, const std::string &ports) const;
};
LAB_STORIES(ProgramsProbe);

std::map<unsigned, std::string> ProgramsProbe::sweep(const std::string &kind, const std::string &ports) const {
	const Output output = run(wan(), {"nmap", "-Pn", "-n", kind, "--reason", "-p", ports, kWan}, "", 60s);
	EXPECT_EQ(output.status, 0) << output.err;
	std::map<unsigned, std::string> answers;
	std::istringstream lines(output.out);
	for (std::string line; std::getline(lines, line);) { // 20000/tcp open dnp syn-ack ttl 63
		std::istringstream words(line);
		unsigned port = 0;
		std::string protocol, state, service, rest;
		if (words >> port >> protocol >> state >> service && std::getline(words >> std::ws, rest))
			answers[port] = state.append(" ").append(rest);
	}
	return answers;
}

// The TTL tells who has answered: the gateway itself is one hop nearer than the host.
TEST_P(ProgramsProbe, NmapSweep) {
	start_afresh();
	tcp_on(lan1(), 20000);
	const auto before = sweep("-sS", "19999-20010");
	EXPECT_EQ(before.size(), 12U);
	for (const auto &[port, answer] : before)
		EXPECT_EQ(answer, "closed reset ttl 64") << port;
	up(rule("sweep", "4000/udp", "20000-20009/tcp", "timeout = '10m'"));
	trigger(lan1());
	const auto after = sweep("-sS", "19999-20010");
	EXPECT_EQ(after.size(), 12U);
	for (const auto &[port, answer] : after)
		EXPECT_EQ(answer, port == 20000                   ? "open syn-ack ttl 63"
				  : port > 20000 && port <= 20009 ? "closed reset ttl 63"
								  : "closed reset ttl 64")
			<< port;
}

TEST_P(ProgramsProbe, NmapUdpSweep) {
	start_afresh();
	ip(lan1(), "");
	lan1().sysctl("ipv4/icmp_ratelimit", "0");
	const auto before = sweep("-sU", "20000-20011");
	EXPECT_EQ(before.size(), 12U);
	for (const auto &[port, answer] : before)
		EXPECT_EQ(answer, "closed port-unreach ttl 64") << port;
	up(rule("sweep", "4000/udp", "20001-20010/udp", "timeout = '10m'"));
	trigger(lan1());
	const auto after = sweep("-sU", "20000-20011");
	EXPECT_EQ(after.size(), 12U);
	for (const auto &[port, answer] : after)
		EXPECT_EQ(answer,
			  port > 20000 && port <= 20010 ? "closed port-unreach ttl 63" : "closed port-unreach ttl 64")
			<< port;
}

// The LAN's MTU is found out from outside, by the gateway's own ICMP error about a packet that it had translated.
TEST_P(ProgramsProbe, TracepathFindsTheLansMtu) {
	start_afresh();
	ip(lan1(), "link set eth0 mtu 1280\n");
	ip(gw(), xdp() ? "link set lan1if mtu 1280\n" : "link set lan1if mtu 1280\nlink set br0 mtu 1280\n");
	const auto trace = [&] { return run(wan(), {"tracepath", "-n", "-p", "16390", kWan}, "", 60s).out; };
	const std::string control = trace();
	EXPECT_NE(control.find("pmtu 1500 hops 1 back 1"), std::string::npos) << "the gateway itself: " << control;
	up(rule("media", "5060/udp", "16384-16999/udp"));
	trigger(lan1(), {kRemote1, 5060});
	const std::string found = trace();
	EXPECT_NE(found.find("reached"), std::string::npos) << found;
	EXPECT_NE(found.find("pmtu 1280 hops 2 back 2"), std::string::npos) << found;
}

} // namespace lab
