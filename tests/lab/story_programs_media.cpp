// Real programs that exchange datagrams with remotes that they have not written to, or from whose other
// addresses they are answered: a SIP call's media (sipp), NAT behaviour as STUN sees it (coturn), a tunnel that
// the remote begins (wireguard-go).
#include "tests/lab/programs.h"

#include <fstream>

namespace lab {

class ProgramsMedia : public Programs {
protected:
	/// The sound of a call, faster than it was spoken. How many packets of RTP it is.
	unsigned make_sound() const;
	void start_stun_server();
	/// What the client of a LAN host finds out with tests of its, which run at the same time.
	std::vector<std::string> discover(const Words &tests) const;
	/// A WireGuard interface of a program of its own in the namespace. `peers` as for wg(8).
	void start_tunnel(const NetNs &where, const std::string &device, const std::string &address,
			  const std::string &port, const Words &peers);
	std::string public_key(const std::string &device) const;
};
LAB_STORIES(ProgramsMedia);

namespace {

/// The call as both ends of sipp play it. The LAN's end names the WAN address for its media, as a client with STUN
/// or that is configured so does, and sends back what arrives there; the other end speaks first.
constexpr const char *kCaller = R"(<?xml version="1.0"?><scenario name="caller">
<send retrans="500"><![CDATA[

INVITE sip:echo@[remote_ip] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch];rport
From: <sip:lan@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:echo@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:lan@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [pub]
s=-
c=IN IP4 [pub]
t=0 0
m=audio 16384 RTP/AVP 8

]]></send>
<recv response="200"/>
<send><![CDATA[

ACK sip:echo@[remote_ip] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch];rport
From: <sip:lan@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:echo@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<pause milliseconds="60000"/>
</scenario>
)";

constexpr const char *kCalled = R"(<?xml version="1.0"?><scenario name="called">
<recv request="INVITE"/>
<send retrans="500"><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=called
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:echo@[local_ip]:[local_port]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [media_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 8

]]></send>
<recv request="ACK"/>
<nop><action><exec play_pcap_audio="/run/lab/sound.pcap"/></action></nop>
<pause milliseconds="60000"/>
</scenario>
)";

} // namespace

unsigned ProgramsMedia::make_sound() const {
	std::ifstream from("/usr/share/sip-tester/g711a.pcap", std::ios::binary);
	std::ofstream to(kDir + "/sound.pcap", std::ios::binary);
	char header[24];
	from.read(header, sizeof(header));
	to.write(header, sizeof(header));
	struct {
		std::uint32_t seconds, microseconds, kept, length;
	} record{};
	unsigned packets = 0;
	while (from.read(reinterpret_cast<char *>(&record), sizeof(record))) {
		std::string frame(record.kept, '\0');
		from.read(frame.data(), static_cast<std::streamsize>(frame.size()));
		record.seconds = 1;
		record.microseconds = 2000 * packets++;
		to.write(reinterpret_cast<const char *>(&record), sizeof(record));
		to.write(frame.data(), static_cast<std::streamsize>(frame.size()));
	}
	return packets;
}

TEST_P(ProgramsMedia, SipCall) {
	const unsigned packets = make_sound();
	ASSERT_GT(packets, 100U);
	write(kDir + "/caller.xml", kCaller);
	write(kDir + "/called.xml", kCalled);
	start_afresh();
	tally(wan(), "spoken", "out", "ip daddr 203.0.113.2 udp dport 16384");
	tally(wan(), "echoed", "in", "ip saddr 203.0.113.2 udp sport 16384");
	tally(lan1(), "heard", "in", "udp dport 16384");
	const auto call = [&](unsigned wanted_back) {
		const Process called(wan(), {"sipp", "-sf", kDir + "/called.xml", "-i", kRemote1, "-p", "5060", "-mi",
					     kRemote1, "-mp", "30000", "-m", "1", "-nostdin"});
		await_socket(wan(), "udp", 5060);
		const std::uint64_t before = tallied(wan(), "spoken");
		const Process caller(
			lan1(), {"sipp", "-sf",      kDir + "/caller.xml", "-i", host1(), "-p", "5060", "-mi",  host1(),
				 "-mp",  "16384",    "-rtp_echo",          "-m", "1",     "-r", "1",    "-key", "pub",
				 kWan,   "-nostdin", kRemote1 + ":5060"});
		EXPECT_TRUE(eventually(30s,
				       [&] {
					       return tallied(wan(), "spoken") - before == packets &&
						      tallied(wan(), "echoed") >= wanted_back;
				       }))
			<< tallied(wan(), "spoken") - before << " of " << packets << " packets spoken, "
			<< tallied(lan1(), "heard") << " heard, " << tallied(wan(), "echoed") << " echoed\n"
			<< called.err() << caller.err();
	};
	call(0); // the call itself works
	EXPECT_EQ(tallied(lan1(), "heard"), 0U) << "the control works without ptrig";
	up(rule("sip", "5060/udp", "16384-16390/udp"));
	call(packets);
	EXPECT_EQ(tallied(lan1(), "heard"), packets);
	EXPECT_EQ(tallied(wan(), "echoed"), packets);
	EXPECT_EQ(leases("sip").at(0).at("host"), host1());
}

void ProgramsMedia::start_stun_server() {
	background(wan(),
		   {"turnserver", "-n", "--stun-only", "--no-auth", "--no-cli", "--no-tls", "--no-dtls", "--userdb",
		    kDir + "/turndb", "--pidfile", kDir + "/turn.pid", "-l", "stdout", "-L", kRemote1, "-L", kRemote2});
	for (const std::uint16_t port : {3478, 3479})
		await_socket(wan(), "udp", port);
}

std::vector<std::string> ProgramsMedia::discover(const Words &tests) const {
	std::vector<Process> running;
	for (const std::string &test : tests) {
		const std::string port = std::to_string(40000 + running.size());
		running.emplace_back(lan1(),
				     Words{"turnutils_natdiscovery", test, "-L", host1(), "-l", port, kRemote1});
	}
	std::vector<std::string> found;
	for (Process &one : running) {
		one.wait(60s);
		found.push_back(one.out() + one.err());
		EXPECT_NE(found.back().find("UDP reflexive addr: " + kWan + ":4000"), std::string::npos)
			<< "the server does not answer: " << found.back();
	}
	return found;
}

// RFC 5780: the server answers from its other address and port. The control leaves conntrack entries behind that
// nobody has answered.
TEST_P(ProgramsMedia, StunFindsEndpointIndependence) {
	start_afresh();
	start_stun_server();
	const auto before = discover({"-f", "-H"});
	EXPECT_NE(before[0].find("NAT with Address and Port Dependent Filtering"), std::string::npos) << before[0];
	EXPECT_EQ(before[1].find("successful hairpinning"), std::string::npos) << before[1];
	up(rule("stun", "3478/udp", "40000-40002/udp"));
	const auto after = discover({"-f", "-H", "-m"});
	EXPECT_NE(after[0].find("NAT with Endpoint Independent Filtering"), std::string::npos) << after[0];
	EXPECT_NE(after[1].find("successful hairpinning"), std::string::npos) << after[1];
	EXPECT_NE(after[2].find("NAT with Endpoint Independent Mapping"), std::string::npos) << after[2];
	EXPECT_EQ(leases("stun").at(0).at("host"), host1());
}

void ProgramsMedia::start_tunnel(const NetNs &where, const std::string &device, const std::string &address,
				 const std::string &port, const Words &peers) {
	const Process &program = background(where, {"env", "LOG_LEVEL=verbose", "wireguard-go", "-f", device});
	// wg(8) removes the socket of a program that does not listen yet.
	if (!eventually(15s, [&] { return program.out().find("UAPI listener started") != std::string::npos; }))
		throw std::runtime_error("wireguard-go: " + program.out() + program.err());
	Words words{"wg", "set", device, "listen-port", port, "private-key", kDir + "/" + device};
	words.insert(words.end(), peers.begin(), peers.end());
	must(where, words);
	ip(where, "addr add " + address + " dev " + device + "\nlink set " + device + " up\n");
}

std::string ProgramsMedia::public_key(const std::string &device) const {
	const std::string key = must(wan(), {"wg", "genkey"});
	write(kDir + "/" + device, key);
	const std::string text = must(wan(), {"wg", "pubkey"}, key);
	return text.substr(0, text.find('\n'));
}

// A road warrior calls home: the host has talked to its other peer only, at the port that triggers.
TEST_P(ProgramsMedia, WireguardFromOutside) {
	start_afresh();
	const std::string home = public_key("home"), hub = public_key("hub"), road = public_key("road");
	start_tunnel(wan(), "hub", "10.99.0.10/32", "51820", {"peer", home, "allowed-ips", "10.99.0.1/32"});
	start_tunnel(lan1(), "home", "10.99.0.1/24", "51820",
		     {"peer", hub, "allowed-ips", "10.99.0.10/32", "endpoint", kRemote1 + ":51820", "peer", road,
		      "allowed-ips", "10.99.0.11/32"});
	start_tunnel(wan(), "road", "10.99.0.11/32", "7000",
		     {"peer", home, "allowed-ips", "10.99.0.1/32", "endpoint", kWan + ":51820"});
	ip(wan(), "route add 10.99.0.1/32 dev road src 10.99.0.11\n");
	tally(wan(), "refused", "in", "icmp type destination-unreachable");
	const auto shaken_hands = [&](const NetNs &where, const std::string &device, const std::string &peer) {
		const std::string all = must(where, {"wg", "show", device, "latest-handshakes"});
		const std::size_t at = all.find(peer + "\t");
		return at != std::string::npos && all.compare(at + peer.size() + 1, 1, "0") != 0;
	};
	const auto ping = [&](const NetNs &where, const std::string &to) {
		return run(where, {"ping", "-c", "1", "-W", "1", to}).status == 0;
	};
	EXPECT_TRUE(eventually(15s, [&] {
		ping(lan1(), "10.99.0.10");
		return shaken_hands(lan1(), "home", hub);
	})) << "the hub is reached without ptrig";
	EXPECT_TRUE(eventually(15s, [&] { return ping(wan(), "10.99.0.1") || tallied(wan(), "refused") > 0; }));
	EXPECT_FALSE(shaken_hands(wan(), "road", home)) << "the control works without ptrig";
	up(rule("wireguard", "51820/udp", "51820/udp"));
	EXPECT_TRUE(eventually(15s, [&] {
		ping(lan1(), "10.99.0.10");
		return leases("wireguard").size() == 1;
	}));
	EXPECT_TRUE(eventually(30s, [&] { return ping(wan(), "10.99.0.1"); }));
	EXPECT_TRUE(shaken_hands(wan(), "road", home));
	const std::string pings = must(wan(), {"ping", "-q", "-A", "-c", "200", "-s", "1300", "10.99.0.1"});
	EXPECT_NE(pings.find("200 received, 0% packet loss"), std::string::npos) << pings;
	EXPECT_TRUE(eventually(15s, [&] { return ping(lan1(), "10.99.0.11"); }));
}

} // namespace lab
