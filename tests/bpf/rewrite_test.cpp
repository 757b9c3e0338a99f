// Header arithmetic: addresses, ports, TTL and checksums of everything that is forwarded, and what does not fit.
#include <random>

#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

/// WAN 6000-6010 lead to 7000-7010, udp and tcp; established sessions from the remote's 7000 to WAN 6000.
class Rewrite : public DatapathTest {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		Rule rule = media();
		rule.open = {open(udp(6000, 6010), 7000), open(tcp(6000, 6010), 7000)};
		granted({rule});
		for (const bool tcp : {false, true}) {
			ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / in(tcp)), PTRIG_OPENED);
			ASSERT_EQ(lan_in(kFromHost / kHostToRemote / out(tcp)), PTRIG_ESTABLISHED);
			if (tcp) {
				ASSERT_EQ(lan_in(kFromHost / kHostToRemote / out(tcp, kRight, kAck)), PTRIG_FORWARDED);
			}
			ASSERT_EQ(wan_in(kFromRemote / kRemoteToWan / in(tcp, kRight, kAck)), PTRIG_FORWARDED);
		}
	}
	static Packet in(bool tcp, Csum csum = kRight, std::uint8_t flags = kSyn, std::uint16_t dport = 6000) {
		return tcp ? Packet(Tcp{.sport = 4000, .dport = dport, .flags = flags, .csum = csum})
			   : Packet(Udp{.sport = 4000, .dport = dport, .csum = csum});
	}
	static Packet out(bool tcp, Csum csum = kRight, std::uint8_t flags = kSyn | kAck, std::uint16_t sport = 7000) {
		return tcp ? Packet(Tcp{.sport = sport, .dport = 4000, .flags = flags, .csum = csum})
			   : Packet(Udp{.sport = sport, .dport = 4000, .csum = csum});
	}
	/// Both directions of one payload, by the cached hop and by the look.
	void both_ways(bool tcp, Csum csum, const Packet &payload, Csum ip_csum = kRight) {
		for (const bool look : {false, true}) {
			Packet seen;
			if (look)
				looks_due();
			Ip4 from = kRemoteToWan, to = kRemoteToHost;
			from.csum = to.csum = ip_csum;
			EXPECT_EQ(wan_in(kFromRemote / from / in(tcp, csum, kAck) / payload, &seen), PTRIG_FORWARDED);
			EXPECT_EQ(l3(seen), to / in(tcp, csum, kAck, 7000) / payload);
			if (look)
				looks_due();
			from = kHostToRemote, to = kWanToRemote;
			from.csum = to.csum = ip_csum;
			EXPECT_EQ(lan_in(kFromHost / from / out(tcp, csum, kAck) / payload, &seen), PTRIG_FORWARDED);
			EXPECT_EQ(l3(seen), to / out(tcp, csum, kAck, 6000) / payload);
		}
	}
	void looks_due() {
		auto map = dp().map<ptrig_session_key, ptrig_session>("pt_sessions");
		const auto keys = map.keys();
		for (const auto &key : keys.value()) {
			auto value = map.lookup(key)->value();
			value.checked -= 2000;
			ASSERT_TRUE(map.update(key, value));
		}
	}
};

TEST_F(Rewrite, ChecksumsOfEveryLength) {
	for (const bool tcp : {false, true})
		for (const std::size_t n : {0, 1, 2, 3, 63, 64, 65, 1000, 1399})
			both_ways(tcp, kRight, Fill{n});
}

TEST_F(Rewrite, AWrongChecksumStaysWrong) {
	for (const bool tcp : {false, true})
		for (const std::size_t n : {0, 7, 1000})
			both_ways(tcp, kWrong, Fill{n});
}

TEST_F(Rewrite, UdpWithoutChecksumStaysWithout) {
	for (const std::size_t n : {0, 7, 1000})
		both_ways(false, kZero, Fill{n});
}

TEST_F(Rewrite, AWrongIpChecksumStaysWrong) {
	both_ways(false, kRight, Fill{10}, kWrong);
}

TEST_F(Rewrite, UdpResultZeroIsWrittenAsAllOnes) {
	for (const bool host_side : {true, false}) {
		for (unsigned i = 0; i <= 0xffff; i++) {
			const Packet payload = Bytes{static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)};
			const Packet after = host_side ? kRemoteToHost / in(false, kRight, 0, 7000) / payload
						       : kWanToRemote / out(false, kRight, 0, 6000) / payload;
			const Bytes bytes = after.bytes();
			if (bytes[26] != 0xff || bytes[27] != 0xff)
				continue;
			both_ways(false, kRight, payload);
			break;
		}
	}
}

TEST_F(Rewrite, RandomPackets) {
	std::mt19937 random(4787);
	for (int i = 0; i < 200; i++) {
		Bytes payload(random() % 64);
		for (auto &byte : payload)
			byte = static_cast<std::uint8_t>(random());
		both_ways(i % 2, kRight, payload);
	}
}

TEST_F(Rewrite, NothingElseChanges) {
	Ip4 from = kRemoteToWan, to = kRemoteToHost;
	from.tos = to.tos = 0xb8 | 1;
	from.id = to.id = 0xffff;
	from.df = to.df = false;
	Tcp before{.sport = 4000,
		   .dport = 6000,
		   .flags = kPsh | kAck | kUrg | 0xc0,
		   .seq = 0xdeadbeef,
		   .ack = 0xcafebabe,
		   .window = 1,
		   .urgent = 5,
		   .options = {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}};
	Tcp after = before;
	after.dport = 7000;
	Packet seen;
	EXPECT_EQ(wan_in(kFromRemote / from / before / "data", &seen), PTRIG_FORWARDED);
	EXPECT_EQ(seen, kToHost / to / after / "data");
}

TEST_F(Rewrite, TtlFallsByOne) {
	for (const int ttl : {2, 3, 64, 128, 255}) {
		Ip4 from = kRemoteToWan, to = kRemoteToHost;
		from.ttl = static_cast<std::uint8_t>(ttl), to.ttl = static_cast<std::uint8_t>(ttl - 1);
		Packet seen;
		EXPECT_EQ(wan_in(kFromRemote / from / in(false), &seen), PTRIG_FORWARDED);
		EXPECT_EQ(l3(seen), to / in(false, kRight, 0, 7000));
		from = kHostToRemote, to = kWanToRemote;
		from.ttl = static_cast<std::uint8_t>(ttl), to.ttl = static_cast<std::uint8_t>(ttl - 1);
		EXPECT_EQ(lan_in(kFromHost / from / out(false), &seen), PTRIG_FORWARDED);
		EXPECT_EQ(l3(seen), to / out(false, kRight, 0, 6000));
	}
}

TEST_F(Rewrite, TtlUsedUpFromTheWanIsTranslatedForTheStackToAnswer) {
	for (const std::uint8_t ttl : {0, 1})
		for (const std::uint16_t port : {6000, 6001}) { // a session; a new one
			Ip4 from = kRemoteToWan, to = kRemoteToHost;
			from.ttl = to.ttl = ttl;
			Packet seen;
			EXPECT_EQ(wan_in(kFromRemote / from / in(false, kRight, 0, port) / "x", &seen),
				  PTRIG_TTL_EXPIRED_UP);
			EXPECT_EQ(seen, kFromRemote / to /
						in(false, kRight, 0, static_cast<std::uint16_t>(port + 1000)) / "x");
		}
}

TEST_F(Rewrite, TtlUsedUpFromTheLanGoesUpUntranslated) {
	for (const std::uint8_t ttl : {0, 1}) {
		Ip4 from = kHostToRemote;
		from.ttl = ttl;
		EXPECT_EQ(lan_in(kFromHost / from / out(false)), PTRIG_TTL_EXPIRED);
		EXPECT_EQ(lan_in(kFromHost / from / out(true, kRight, kAck)), PTRIG_TTL_EXPIRED);
	}
}

class TooBig : public Rewrite {
protected:
	void SetUp() override {
		Rewrite::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		ip_batch(Ns::kGateway, "link set lan0 mtu 1280\n"
				       "link set wan0 mtu 1400\n");
		looks_due();
	}
	void TearDown() override {
		if (in_world())
			ip_batch(Ns::kGateway, "link set lan0 mtu 1500\n"
					       "link set wan0 mtu 1500\n");
		Rewrite::TearDown();
	}
	/// The payload that makes an IP packet of n bytes.
	static Fill up_to(std::size_t n, bool tcp) { return Fill{n - (tcp ? 40U : 28U)}; }
};

TEST_F(TooBig, FromTheWan) {
	for (const bool tcp : {false, true})
		for (const bool df : {true, false}) {
			Ip4 from = kRemoteToWan, to = kRemoteToHost;
			from.df = to.df = df;
			Packet seen;
			EXPECT_EQ(wan_in(kFromRemote / from / in(tcp, kRight, kAck) / up_to(1280, tcp), &seen),
				  PTRIG_FORWARDED);
			EXPECT_EQ(l3(seen), to / in(tcp, kRight, kAck, 7000) / up_to(1280, tcp)) << "exactly the MTU";
			to.ttl = 64;
			if (!tcp && !df)
				continue;
			EXPECT_EQ(wan_in(kFromRemote / from / in(tcp, kRight, kAck) / up_to(1281, tcp), &seen),
				  PTRIG_TOO_BIG_UP);
			EXPECT_EQ(seen, kFromRemote / to / in(tcp, kRight, kAck, 7000) / up_to(1281, tcp))
				<< "translated, so that the stack quotes the right tuple";
		}
}

TEST_F(TooBig, TheFirstPacketOfASession) {
	Packet seen;
	Ip4 to = kRemoteToHost;
	to.ttl = 64;
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / in(false, kRight, 0, 6001) / up_to(1281, false), &seen),
		  PTRIG_TOO_BIG_UP);
	EXPECT_EQ(seen, kFromRemote / to / in(false, kRight, 0, 7001) / up_to(1281, false));
}

TEST_F(TooBig, FromTheLan) {
	for (const bool tcp : {false, true})
		for (const bool df : {true, false}) {
			Ip4 from = kHostToRemote, to = kWanToRemote;
			from.df = to.df = df;
			Packet seen;
			EXPECT_EQ(lan_in(kFromHost / from / out(tcp, kRight, kAck) / up_to(1400, tcp), &seen),
				  PTRIG_FORWARDED);
			EXPECT_EQ(l3(seen), to / out(tcp, kRight, kAck, 6000) / up_to(1400, tcp));
			if (!tcp && !df)
				continue;
			EXPECT_EQ(lan_in(kFromHost / from / out(tcp, kRight, kAck) / up_to(1401, tcp)), PTRIG_TOO_BIG)
				<< "untranslated: the stack answers the host";
		}
}

TEST_F(TooBig, ToBeFragmented) {
	Ip4 inward = kRemoteToWan, outward = kHostToRemote;
	inward.df = outward.df = false;
	const auto translated = [] {
		return flows().find("sport=4000 dport=6000 src=" + kHost + " dst=" + kRemote + " sport=7000") !=
		       std::string::npos;
	};
	forget_flows();
	EXPECT_EQ(wan_in(kFromRemote / inward / in(false) / up_to(1281, false)), PTRIG_FRAGMENT_AGAIN);
	EXPECT_EQ(wan_in(kFromRemote / inward / in(false) / up_to(1281, false)), PTRIG_FRAGMENT_PASSED);
	EXPECT_TRUE(translated()) << flows();
	forget_flows();
	EXPECT_EQ(lan_in(kFromHost / outward / out(false) / up_to(1401, false)), PTRIG_FRAGMENT_AGAIN);
	EXPECT_EQ(lan_in(kFromHost / outward / out(false) / up_to(1401, false)), PTRIG_FRAGMENT_PASSED);
	EXPECT_TRUE(translated()) << flows();
	forget_flows();
}

TEST_F(TooBig, TheMtuOfTheRoute) { // a locked one: forwarding heeds no other (ip_mtu_from_fib_result)
	ip_batch(Ns::kGateway, "route add 203.0.113.10 dev wan0 mtu lock 1000\n");
	looks_due();
	Packet seen;
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / out(false) / up_to(1000, false)), PTRIG_FORWARDED);
	EXPECT_EQ(lan_in(kFromHost / kHostToRemote / out(false) / up_to(1001, false)), PTRIG_TOO_BIG);
	ip_batch(Ns::kGateway, "route del 203.0.113.10 dev wan0\n");
}

} // namespace
} // namespace ptrig::test
