// The two CPUs again, with frames on the wire: each CPU sends what the machines behind lan0 and wan0 would send, the
// programs are attached to these devices, and the kernel forwards, tracks and translates by itself. So the programs
// run where they run in earnest, in softirqs that come between and under one another.
// PTRIG_RACE_INJECTED is how many frames are sent.
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/race/race.h"

namespace ptrig::test {
namespace {

constexpr std::uint64_t kRoundFrames = 1500; ///< of each CPU
constexpr std::uint64_t kRoundsOfOneConfig = 10;
constexpr std::uint64_t kEnough = 200000; ///< frames, among which all of kWanted happens
constexpr std::uint32_t kStallsPerSecond = 4000;
constexpr std::size_t kBurst = 32;

constexpr enum ptrig_reason kWanted[] = {
	PTRIG_OPENED,  PTRIG_ESTABLISHED, PTRIG_FORWARDED, PTRIG_ACCELERATED, PTRIG_HALF_OPEN,   PTRIG_SESSION_ENDED,
	PTRIG_SWAPPED, PTRIG_SWAPPED_SYN, PTRIG_GRANTED,   PTRIG_MOVED,       PTRIG_LEASES_FULL, PTRIG_HAIRPIN_OPENED,
};

std::string text(__be32 address) {
	char out[INET_ADDRSTRLEN];
	return ::inet_ntop(AF_INET, &address, out, sizeof(out));
}

/// The machine of a namespace that sends on its end of the cable.
Fd wire(Ns ns) {
	Fd fd;
	inside(ns, [&] {
		fd = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)); // receives nothing
		sockaddr_ll to{};
		to.sll_family = AF_PACKET;
		to.sll_ifindex = static_cast<int>(::if_nametoindex("eth0"));
		const int yes = 1;
		if (::bind(fd.get(), reinterpret_cast<sockaddr *>(&to), sizeof(to)) < 0 ||
		    ::setsockopt(fd.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes)) < 0)
			throw std::runtime_error("no packet socket on eth0");
	});
	return fd;
}

/// A program on one side of a device; `priority` says which comes first.
void attach(const char *dev, bpf_tc_attach_point where, int program, std::uint32_t priority) {
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex(dev)), .attach_point = where);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = program, .handle = 1, .priority = priority);
	if (bpf_tc_attach(&hook, &opts) < 0)
		throw std::runtime_error(std::string("cannot attach to ") + dev);
}

class Injected : public Race {
protected:
	void SetUp() override {
		Race::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		for (const char *dev : {"lan0", "wan0"}) {
			LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex(dev)),
				    .attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
			ASSERT_EQ(bpf_tc_hook_create(&hook), 0) << dev;
		}
		attach("lan0", BPF_TC_INGRESS, dp().program_fd("pt_lan_in"), 1);
		attach("lan0", BPF_TC_EGRESS, dp().program_fd("pt_lan_out"), 1);
		attach("lan0", BPF_TC_EGRESS, driver().receiver_fd(), 2);
		attach("wan0", BPF_TC_INGRESS, dp().program_fd("pt_wan_in"), 1);
		attach("wan0", BPF_TC_EGRESS, dp().program_fd("pt_wan_out"), 1);
		for (auto &cpu : wires_)
			cpu = {wire(Ns::kLan), wire(Ns::kWan)};
	}
	void TearDown() override {
		for (const char *dev : {"lan0", "wan0"}) {
			LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex(dev)),
				    .attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
			bpf_tc_hook_destroy(&hook);
		}
		forget_flows();
		Race::TearDown();
	}

	/// The frames of begin() as bytes, and hosts' answers. What leaves by lan0 the kernel sends.
	void write_frames() {
		frames_ = {};
		for (const race_frame &frame : lan_draws())
			if (frame.hook == RACE_LAN_IN)
				frames_[0].push_back(bytes(frame, mac_of(frame.t.saddr), kLanMac));
		for (const race_frame &frame : wan_draws()) {
			frames_[1].push_back(bytes(frame, kRemoteMac, kWanMac));
			if (const auto answer = answer_to(frame))
				frames_[0].push_back(bytes(*answer, mac_of(answer->t.saddr), kLanMac));
		}
	}

	/// A burst on each side, by the calling thread.
	std::uint32_t send(std::size_t cpu, std::minstd_rand &random) const {
		std::uint32_t sent = 0;
		for (std::size_t side = 0; side < 2; side++) {
			std::array<iovec, kBurst> parts;
			std::array<mmsghdr, kBurst> burst{};
			for (std::size_t i = 0; i < kBurst; i++) {
				const Bytes &frame = frames_[side][random() % frames_[side].size()];
				parts[i] = {const_cast<std::uint8_t *>(frame.data()), frame.size()};
				burst[i].msg_hdr.msg_iov = &parts[i];
				burst[i].msg_hdr.msg_iovlen = 1;
			}
			const int n = ::sendmmsg(wires_[cpu][side].get(), burst.data(), kBurst, 0);
			if (n <= 0)
				throw std::runtime_error("sendmmsg on eth0");
			sent += static_cast<std::uint32_t>(n);
		}
		if (random() % 32 == 0) // as an administrator's `conntrack -F`
			forget_flows();
		return sent;
	}

	/// What was sent has arrived, and the answers to it: the programs count nothing any more.
	void wait_until_quiet() const {
		const auto deadline = std::chrono::steady_clock::now() + seconds(10);
		for (auto before = dp().counters();;) {
			std::this_thread::sleep_for(std::chrono::milliseconds(2));
			auto now = dp().counters();
			if (now == before)
				return;
			ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "packets without end";
			before = std::move(now);
		}
	}

private:
	static Bytes bytes(const race_frame &frame, const std::string &from, const std::string &to) {
		const Packet ip =
			Eth{.src = from, .dst = to} / Ip4{.src = text(frame.t.saddr), .dst = text(frame.t.daddr)};
		const std::uint16_t sport = ntohs(frame.t.sport), dport = ntohs(frame.t.dport);
		if (frame.proto == IPPROTO_UDP)
			return (ip / Udp{.sport = sport, .dport = dport} / "race").bytes();
		return (ip / Tcp{.sport = sport,
				 .dport = dport,
				 .flags = frame.flags,
				 .ack = frame.flags & kAck ? 1001U : 0U})
			.bytes();
	}

	std::array<std::vector<Bytes>, 2> frames_; ///< of the LAN and the WAN
	std::array<std::array<Fd, 2>, 2> wires_;   ///< of each CPU, to the LAN and the WAN
};

TEST_F(Injected, NothingIsLeftAndNothingIsAnothers) {
	const std::uint64_t wanted = setting("PTRIG_RACE_INJECTED", 500000), first = setting("PTRIG_RACE_SEED", 1);
	const auto began = std::chrono::steady_clock::now();
	std::printf("PTRIG_RACE_SEED=%llu\n", static_cast<unsigned long long>(first));
	driver().stall(cpus(), kStallsPerSecond);
	std::uint64_t sent = 0, round = 0;
	for (; sent < wanted && !HasFailure(); round++) {
		SCOPED_TRACE("PTRIG_RACE_SEED=" + std::to_string(first) + ", round " + std::to_string(round));
		if (round % kRoundsOfOneConfig == 0) {
			forget_flows();
			begin(first + round);
			write_frames();
		}
		both_cpus(first + round, kRoundFrames,
			  [&](std::size_t cpu, std::minstd_rand &random) { return send(cpu, random); });
		wait_until_quiet();
		look_at_everything();
		events();
		sent += 2 * kRoundFrames;
	}
	const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
	std::printf("%llu rounds, %.1f s, %.0f frames/s, received by hosts %llu\n",
		    static_cast<unsigned long long>(round), seconds, static_cast<double>(sent) / seconds,
		    static_cast<unsigned long long>(driver().counts().led));
	EXPECT_GT(driver().counts().led, 0U);
	for (const enum ptrig_reason reason : kWanted) {
		const auto times = static_cast<unsigned long long>(dp().counter(reason));
		std::printf("%s %llu ", name_of(reason), times);
		EXPECT_TRUE(times || sent < kEnough || HasFailure()) << name_of(reason) << " never happened";
	}
	std::printf("\n");
}

} // namespace
} // namespace ptrig::test
