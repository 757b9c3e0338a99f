// Frames that were right once, and a few random changes: bits, lengths, cut short, made longer, pieced together. They
// go on as they came (run() demands it), and nothing that was never allowed comes into being. PTRIG_HOSTILE_SEED and
// PTRIG_HOSTILE_FRAMES.
#include <algorithm>
#include <cstdlib>
#include <random>

#include <netinet/in.h>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

struct Seed {
	Hook hook;
	const char *dev;
	Packet frame;
};

constexpr std::size_t kEth = 14;

std::uint32_t field(const Bytes &bytes, std::size_t at, std::size_t size) {
	std::uint32_t value = 0;
	for (std::size_t i = 0; i < size; i++)
		value = value << 8 | bytes.at(at + i);
	return value;
}
Bytes slice(const Bytes &bytes, std::size_t from, std::size_t to) {
	return {bytes.begin() + static_cast<std::ptrdiff_t>(from), bytes.begin() + static_cast<std::ptrdiff_t>(to)};
}
class Hostile : public DatapathTest {
protected:
	static std::uint64_t setting(const char *name, std::uint64_t otherwise) {
		const char *text = std::getenv(name);
		return text ? std::strtoull(text, nullptr, 10) : otherwise;
	}
	std::size_t pick(std::size_t n) { return random_() % n; }
	/// The lease and its sessions anew.
	void renew();
	static std::vector<Seed> seeds();
	Bytes changed(const std::vector<Seed> &seeds, const Seed &seed);
	void change(Bytes &frame, const Bytes &another);
	/// As a sender's kernel would, so that what looks at it goes on.
	static void set_ip_checksum(Bytes &frame);
	static bool is_on_lan(__be32 address) {
		const std::uint32_t in_prefix = ntohl(address) & 0xffU;
		return (address & htonl(0xffffff00U)) == be("192.168.77.0") && in_prefix > 1 && in_prefix < 255;
	}
	void expect_nobody_elses() const;

	std::mt19937_64 random_;
};

void Hostile::renew() {
	admin({.op = PTRIG_ADMIN_CLOSE_LEASES});
	admin({.op = PTRIG_ADMIN_CLOSE_SESSIONS});
	forget_flows();
	Rule rule = media();
	rule.open = {open(udp(16384)), open(udp(6000, 6010), 7000), open(tcp(6000, 6010), 7000)};
	granted({rule});
	const Udp in{.sport = 4000, .dport = 6000}, out{.sport = 7000, .dport = 4000};
	const Tcp syn{.sport = 4000, .dport = 6000}, syn_ack{.sport = 7000, .dport = 4000, .flags = kSyn | kAck};
	const Tcp tcp_in{.sport = 4000, .dport = 6000, .flags = kAck},
		tcp_out{.sport = 7000, .dport = 4000, .flags = kAck};
	for (const Packet &l4 : {Packet(in), Packet(syn)})
		ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / l4), PTRIG_OPENED);
	for (const Packet &l4 : {Packet(out), Packet(syn_ack)})
		ASSERT_EQ(lan_in(kFromHost / kHostToRemote / l4), PTRIG_ESTABLISHED);
	for (const Packet &l4 : {Packet(tcp_out), Packet(out)})
		ASSERT_EQ(lan_in(kFromHost / kHostToRemote / l4), PTRIG_FORWARDED);
	for (const Packet &l4 : {Packet(tcp_in), Packet(in)})
		ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / l4), PTRIG_FORWARDED);
}

std::vector<Seed> Hostile::seeds() {
	const Udp in{.sport = 4000, .dport = 6000}, out{.sport = 7000, .dport = 4000};
	const Tcp tcp_in{.sport = 4000, .dport = 6000, .flags = kAck},
		tcp_out{.sport = 7000, .dport = 4000, .flags = kAck};
	const Ip4 options{.src = kRemote, .dst = kWan, .options = {7, 7, 4, 0, 0, 0, 0, 0}};
	const Ip4 quoted_out{.src = kWan, .dst = kRemote}, quoted_in{.src = kRemote, .dst = kHost};
	const Icmp closed{.type = 3, .code = 3}, too_big{.type = 3, .code = 4, .rest = 1280};
	std::vector<Seed> all;
	const std::vector<Packet> from_wan{
		kFromRemote / kRemoteToWan / in / "to the host",
		kFromRemote / kRemoteToWan / tcp_in / "to the host",
		kFromRemote / kRemoteToWan / Tcp{.sport = 4001, .dport = 6001},
		kFromRemote / kRemoteToWan / kKnock / "knock",
		kFromRemote / options / in / "with options",
		kFromRemote / kRemoteToWan / Udp{.sport = 4000, .dport = 6000, .csum = kZero} / "no checksum",
		kFromRemote / Ip4{.src = kRemote, .dst = kWan, .df = false, .mf = true} / in / Fill{160},
		kFromRemote / kRemoteToWan / closed / quoted_out / Udp{.sport = 6000, .dport = 4000} / "quoted",
		kFromRemote / Ip4{.src = kFar, .dst = kWan} / too_big / quoted_out /
			Tcp{.sport = 6000, .dport = 4000, .flags = kAck} / Fill{40}};
	const std::vector<Packet> from_lan{
		kFromHost / kHostToRemote / out / "to the remote",
		kFromHost / kHostToRemote / tcp_out / "to the remote",
		kFromHost / kHostToRemote / Udp{.sport = 5060, .dport = 5060} / "INVITE",
		kFromHost / kHostToRemote / Udp{.sport = 16384, .dport = 9} / "its own",
		kFromHost2 / Ip4{.src = kHost2, .dst = kWan} / Udp{.sport = 4000, .dport = 16384} / "hairpin",
		kFromHost / kHostToRemote / closed / quoted_in / Udp{.sport = 4000, .dport = 7000} / "quoted"};
	for (const Packet &frame : from_wan)
		for (const Hook hook : {Hook::kXdpWan, Hook::kWanIn})
			all.push_back({hook, "wan0", frame});
	for (const Packet &frame : from_lan)
		for (const Hook hook : {Hook::kXdpLan, Hook::kLanIn})
			all.push_back({hook, "lan0", frame});
	all.push_back({Hook::kWanOut, "wan0", kToRemote / kWanToRemote / Udp{.sport = 5060, .dport = 5060} / "INVITE"});
	all.push_back({Hook::kLanOut, "lan0", kToHost / kRemoteToHost / Udp{.sport = 5060, .dport = 5060} / "200 OK"});
	return all;
}

void Hostile::set_ip_checksum(Bytes &frame) {
	const std::size_t l4 = kEth + (frame[kEth] & 0xfU) * 4U;
	if (l4 < kEth + 20 || l4 > frame.size())
		return;
	frame[kEth + 10] = frame[kEth + 11] = 0;
	const auto sum = static_cast<std::uint16_t>(~ones_sum(slice(frame, kEth, l4)));
	frame[kEth + 10] = static_cast<std::uint8_t>(sum >> 8);
	frame[kEth + 11] = static_cast<std::uint8_t>(sum);
}

void Hostile::change(Bytes &frame, const Bytes &another) {
	static constexpr std::uint16_t kOdd[] = {0,  1,  2,  4,  7,      8,      19,     20,     21,     24,
						 27, 28, 40, 60, 0x1fff, 0x2000, 0x4000, 0x7fff, 0x8000, 0xffff};
	const std::size_t near = std::min<std::size_t>(frame.size(), 90);
	switch (pick(8)) {
	case 0:
		frame.resize(kEth + 1 + pick(frame.size() - kEth));
		break;
	case 1:
		frame.resize(frame.size() + pick(64), static_cast<std::uint8_t>(random_()));
		break;
	case 2: {
		const std::size_t at = pick(std::min(frame.size(), another.size()));
		std::copy(another.begin() + static_cast<std::ptrdiff_t>(at),
			  another.end() -
				  static_cast<std::ptrdiff_t>(another.size() - std::min(frame.size(), another.size())),
			  frame.begin() + static_cast<std::ptrdiff_t>(at));
		break;
	}
	case 3:
		if (near >= 2) {
			const std::size_t at = pick(near / 2) * 2;
			const std::uint16_t value = kOdd[pick(std::size(kOdd))];
			frame[at] = static_cast<std::uint8_t>(value >> 8);
			frame[at + 1] = static_cast<std::uint8_t>(value);
		}
		break;
	case 4:
		frame[pick(near)] = static_cast<std::uint8_t>(random_());
		break;
	default:
		frame[pick(near)] ^= static_cast<std::uint8_t>(1U << pick(8));
	}
}

Bytes Hostile::changed(const std::vector<Seed> &seeds, const Seed &seed) {
	Bytes frame = seed.frame.bytes();
	for (std::size_t n = pick(4); n > 0; n--)
		change(frame, seeds[pick(seeds.size())].frame.bytes());
	// A test run of TC takes nothing that is shorter than the IP header that its type promises.
	const std::uint32_t type = field(frame, kEth - 2, 2);
	if (const std::size_t least = kEth + (type == 0x0800   ? 20
					      : type == 0x86dd ? 40
							       : 1);
	    !is_xdp(seed.hook) && frame.size() < least)
		frame.resize(least);
	if (frame.size() >= kEth + 20 && pick(4))
		set_ip_checksum(frame);
	return frame;
}

void Hostile::expect_nobody_elses() const {
	for (const Pair &pair : sessions()) {
		EXPECT_TRUE(is_on_lan(pair.lan_key.saddr)) << "a session of no LAN host";
		EXPECT_TRUE(pair.lan.addr == be(kWan) || pair.lan.addr == be(kWanSecond)) << "not the WAN's address";
		const unsigned port = ntohs(pair.lan.port);
		EXPECT_TRUE((port >= 6000 && port <= 6010) || port == 16384) << port << " was never opened";
	}
	// A changed source with the host's own MAC address is the host with a new address.
	if (const auto now = lease("media")) {
		EXPECT_TRUE(is_on_lan(now->info.host)) << "a lease of no LAN host";
	}
}

TEST_F(Hostile, ChangedFrames) {
	const std::uint64_t seed = setting("PTRIG_HOSTILE_SEED", 1), frames = setting("PTRIG_HOSTILE_FRAMES", 40000);
	random_.seed(seed);
	const std::vector<Seed> from = seeds();
	std::size_t sessions_like = 0;
	for (std::uint64_t n = 0; n < frames; n++) {
		if (n % 200 == 0)
			renew();
		const Seed &one = from[pick(from.size())];
		const Packet in(changed(from, one));
		const auto reason = run(one.hook, one.dev, in, nullptr,
					one.hook == Hook::kWanOut   ? "lan0"
					: one.hook == Hook::kLanOut ? "wan0"
								    : "");
		const Kind kind = kind_of(reason);
		if (kind == Kind::ENTRY || kind == Kind::GRANT)
			sessions_like++;
		if (n % 100 == 99)
			expect_nobody_elses();
		ASSERT_FALSE(HasFailure())
			<< "PTRIG_HOSTILE_SEED=" << seed << " frame " << n << ' ' << name_of(reason) << '\n'
			<< ::testing::PrintToString(in);
	}
	EXPECT_GT(sessions_like, frames / 20) << "hardly any was still like a session's";
}

} // namespace
} // namespace ptrig::test
