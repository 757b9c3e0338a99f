// What the gateway's stack refuses only after PREROUTING, where ptrig and conntrack have seen it: source routes, and
// sources that nobody at the WAN can have. Beside an open port the kernel's own DNAT shows what would come in without
// ptrig.
#include <algorithm>
#include <ostream>

#include "tests/lab/frames.h"
#include "tests/lab/policy.h"

namespace lab {

namespace {

constexpr std::uint16_t kOpen = 6000, kDnat = 6100;

/// A packet from the WAN that is odd in one way.
struct Odd {
	std::string name, from;
	std::vector<std::uint8_t> options{};
};

const std::vector<std::uint8_t> kLoose{131, 7, 4, 203, 0, 113, 12, 0}, kStrict{137, 7, 4, 203, 0, 113, 12, 0},
	kUsedUp{131, 7, 8, 203, 0, 113, 12, 0};
const std::vector<Odd> kSourceRoutes{
	{"loose", kRemote2, kLoose}, {"strict", kRemote2, kStrict}, {"loose, at its end", kRemote2, kUsedUp}};

/// How many of two packets, a datagram and a SYN, the host has seen at a port.
struct Seen {
	std::uint64_t udp = 0, tcp = 0;
	bool operator<=(const Seen &other) const { return udp <= other.udp && tcp <= other.tcp; }
	bool operator==(const Seen &) const = default;
	friend std::ostream &operator<<(std::ostream &out, const Seen &seen) {
		return out << seen.udp << " UDP, " << seen.tcp << " TCP";
	}
};

} // namespace

class Refused : public Lab {
protected:
	void begin();
	/// Both protocols, from `odd.from` to this port; what follows them has arrived when it returns.
	Seen sent_to(std::uint16_t port, const Odd &odd);
	/// Entries that lead to the host's open port, but for those of the packets that follow.
	std::size_t entries_left(const Odd &odd) const;
	/// What ptrig has let in is in what the kernel's DNAT has, and nothing else is left. The former is returned.
	Seen judge(const Odd &odd);
	std::vector<Odd> martians() const;

private:
	std::uint16_t next_port_ = 20000;
};
LAB_STORIES(Refused);

void Refused::begin() {
	up(game("timeout = '1h'\n"));
	trigger(lan1());
	udp_on(lan1(), kOpen);
	tcp_on(lan1(), kOpen);
	nft("table ip lab_dnat {\n\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat;\n"
	    "\t\tiifname wan0 meta l4proto { tcp, udp } th dport " +
	    std::to_string(kDnat) + " dnat to " + host1() +
	    "\n\t}\n}\ninsert rule inet lab forward iifname wan0 ct status dnat accept\n"
	    // The remote has no sockets, and its resets are not to be counted.
	    "insert rule inet lab forward iifname wan0 tcp flags rst drop\n");
	// The weakest that the kernel has: with rp_filter it refuses more of it.
	for (const char *key : {"ipv4/conf/all/rp_filter", "ipv4/conf/wan0/rp_filter"})
		sysctl(key, "0");
}

Seen Refused::sent_to(std::uint16_t port, const Odd &odd) {
	const PacketCount count(lan1(), "prerouting priority -300;",
				"ip saddr " + odd.from + " th dport " + std::to_string(port));
	const MacBytes from = to_mac(mac_of(wan()));
	FrameSender sender(wan(), "eth0", to_mac(mac_of(gw(), "wan0")));
	const Fd &host = udp_on(lan1(), port);
	while (udp_receive(host, 0ms)) {
	}
	for (const bool tcp : {false, true})
		sender.add(from, {.from = to_number(odd.from),
				  .to = to_number(kWan),
				  .from_port = next_port_,
				  .to_port = port,
				  .tcp = tcp,
				  .options = odd.options});
	sender.add(from,
		   {.from = to_number(kRemote3), .to = to_number(kWan), .from_port = next_port_, .to_port = port});
	sender.send();
	next_port_++;
	const auto end = Clock::now() + 10s;
	for (;;) {
		const auto got = udp_receive(host, 5s);
		if (got && got->from.address == kRemote3)
			break;
		if (Clock::now() > end) {
			ADD_FAILURE() << "the packet behind it has not arrived";
			break;
		}
	}
	return {count.udp(), count.tcp()};
}

std::size_t Refused::entries_left(const Odd &odd) const {
	std::size_t n = 0;
	for (const char *proto : {"udp", "tcp"}) {
		const std::string list = must(gw(), {"conntrack", "-L", "--dst-nat", "-p", proto, "--orig-src",
						     odd.from, "--orig-port-dst", std::to_string(kOpen)});
		n += static_cast<std::size_t>(std::count(list.begin(), list.end(), '\n'));
	}
	return n;
}

Seen Refused::judge(const Odd &odd) {
	SCOPED_TRACE(odd.name + ", from " + odd.from);
	const Seen by_dnat = sent_to(kDnat, odd), by_ptrig = sent_to(kOpen, odd);
	EXPECT_LE(by_ptrig, by_dnat) << "the kernel's DNAT refuses it";
	const Json sessions = json({"session", "list"});
	const auto left =
		static_cast<std::uint64_t>(std::count_if(sessions.begin(), sessions.end(), [&](const Json &session) {
			return session.at("remote") == odd.from;
		}));
	EXPECT_EQ(left, by_ptrig.udp + by_ptrig.tcp) << "sessions of what did not come in";
	EXPECT_EQ(entries_left(odd), by_ptrig.udp + by_ptrig.tcp) << "entries of what did not come in";
	return by_ptrig;
}

std::vector<Odd> Refused::martians() const {
	return {{"loopback", "127.0.0.1"},
		{"this network", "0.0.0.5"},
		{"class E", "240.0.0.1"},
		{"multicast", "224.0.0.1"},
		{"broadcast", "255.255.255.255"},
		{"the WAN address", kWan},
		{"the gateway's LAN address", "192.168.77.1"},
		{"the host itself", host1()},
		{"another host", host2()},
		{"an address of the LAN that nobody has", "192.168.77.99"}};
}

TEST_P(Refused, SourceRoutesOpenNothing) {
	begin();
	for (const char *accept : {"0", "1"}) {
		SCOPED_TRACE(std::string("accept_source_route = ") + accept);
		for (const char *key : {"ipv4/conf/all/accept_source_route", "ipv4/conf/wan0/accept_source_route"})
			sysctl(key, accept);
		for (const Odd &odd : kSourceRoutes)
			EXPECT_EQ(judge(odd), Seen{}) << odd.name;
	}
	EXPECT_GE(counter("ip_options"), 12U);
	EXPECT_EQ(judge({"no options", kRemote2}), (Seen{1, 1}));
	EXPECT_EQ(judge({"options that are none", kRemote1, {1, 1, 1, 0}}), (Seen{1, 1}));
}

TEST_P(Refused, SourcesThatNobodyAtTheWanHasOpenNothing) {
	begin();
	for (const Odd &odd : martians())
		EXPECT_EQ(judge(odd), Seen{}) << odd.name;
	EXPECT_EQ(judge({"a remote", kRemote2}), (Seen{1, 1}));
}

} // namespace lab
