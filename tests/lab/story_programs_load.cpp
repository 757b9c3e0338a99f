// A real program under load: iperf3 at the LAN host, reached through an open port in both directions and over both
// protocols, with and without offloads.
#include "tests/lab/programs.h"

namespace lab {

class ProgramsLoad : public Programs {
protected:
	/// The report of the client in the WAN; the server runs at the host.
	Json iperf3(const Words &more) const;
	/// 16 MiB by TCP and 64 datagrams each way, by one connection and by four.
	void expect_all_flows() const;
};
LAB_STORIES(ProgramsLoad);

Json ProgramsLoad::iperf3(const Words &more) const {
	Words words{"iperf3", "-c", kWan, "-J"};
	words.insert(words.end(), more.begin(), more.end());
	const Process server(lan1(),
			     {"iperf3", "-s", "-4", "-1"}); // one that serves on may still be busy with the last test
	await_socket(lan1(), "tcp", 5201);
	return Json::parse(run(wan(), words, "", 60s).out);
}

void ProgramsLoad::expect_all_flows() const {
	constexpr unsigned kBytes = 16U << 20;
	for (const Words &direction : {Words{}, Words{"-R"}, Words{"-P", "4"}, Words{"-P", "4", "-R"}}) {
		Words words{"-n", std::to_string(kBytes), "-w", "128K"};
		words.insert(words.end(), direction.begin(), direction.end());
		const Json report = iperf3(words);
		ASSERT_FALSE(report.contains("error")) << report.at("error");
		EXPECT_GE(report.at("end").at("sum_sent").at("bytes"), kBytes);
		// What the eight sockets hold when all has been sent is not counted.
		EXPECT_GE(report.at("end").at("sum_received").at("bytes"), kBytes / 4 * 3);
	}
	for (const Words &direction : {Words{}, Words{"-R"}}) {
		Words words{"-u", "-l", "1000", "-n", "64000", "-b", "10M"}; // no more than a socket's buffer holds
		words.insert(words.end(), direction.begin(), direction.end());
		const Json report = iperf3(words);
		ASSERT_FALSE(report.contains("error")) << report.at("error");
		EXPECT_GT(report.at("end").at("sum").at("packets"), 0);
		EXPECT_EQ(report.at("end").at("sum").at("lost_packets"), 0);
	}
}

TEST_P(ProgramsLoad, Iperf3) {
	start_afresh();
	EXPECT_NE(iperf3({"-n", "1M"}).value("error", "none").find("Connection refused"), std::string::npos)
		<< "the control works without ptrig";
	up(rule("iperf3", "4000/udp", "5201/tcp+udp", "timeout = '10m'"));
	trigger(lan1());
	expect_all_flows();
	ip(gw(), ""); // the hosts' devices are no longer as they were
	for (const char *off : {"tso", "gso", "gro", "tx", "rx"}) {
		if (xdp() && off == std::string("gro"))
			continue; // without it a veth takes no redirected frames, and no daemon is there to see it
		SCOPED_TRACE("without " + std::string(off) + " and what is before it");
		for (const NetNs *host : {&lan1(), &wan()})
			must(*host, {"ethtool", "-K", "eth0", off, "off"});
		ASSERT_NO_FATAL_FAILURE(expect_all_flows());
	}
}

} // namespace lab
