// The largest segment that a SYN offers: it fits the devices on both sides, like everything else of the packet that is
// left alone.
#include "tests/bpf/harness.h"

namespace ptrig::test {
namespace {

/// With an MTU of 1492 at the WAN, as PPPoE has.
class Mss : public DatapathTest {
protected:
	void SetUp() override {
		DatapathTest::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		granted({ident()});
		interface("wan0", PTRIG_IFACE_WAN, 1492);
		ip_batch(Ns::kGateway, "link set wan0 mtu 1492\n");
	}
	void TearDown() override {
		if (in_world())
			ip_batch(Ns::kGateway, "link set wan0 mtu 1500\n");
		DatapathTest::TearDown();
	}
	/// The options of the remote's SYN, as the host gets them; its checksum is right.
	Bytes options_in(const Bytes &options, const Csum &csum = kRight) {
		const Tcp syn{.sport = sport_, .dport = 113, .options = options, .csum = csum};
		Packet out;
		EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / syn, &out), PTRIG_OPENED);
		return seen(out, kRemoteToHost, syn);
	}
	/// The same of the host's answer.
	Bytes options_out(const Bytes &options) {
		const Tcp answer{.sport = 113, .dport = sport_++, .flags = kSyn | kAck, .options = options};
		Packet out;
		EXPECT_EQ(lan_in(kFromHost / kHostToRemote / answer, &out), PTRIG_ESTABLISHED);
		return seen(out, kWanToRemote, answer);
	}

private:
	static Bytes seen(const Packet &out, const Ip4 &ip, Tcp tcp) {
		constexpr std::size_t kHeaders = 14 + 20 + 20;
		const Bytes all = out.bytes();
		tcp.options.assign(all.begin() + kHeaders, all.begin() + kHeaders + std::ptrdiff_t(tcp.options.size()));
		EXPECT_EQ(l3(out), ip / tcp) << "but for the options, and with its checksum";
		return tcp.options;
	}
	std::uint16_t sport_ = 4000;
};

Bytes mss(unsigned size) {
	return {2, 4, static_cast<std::uint8_t>(size >> 8), static_cast<std::uint8_t>(size)};
}

Bytes operator+(Bytes a, const Bytes &b) {
	a.insert(a.end(), b.begin(), b.end());
	return a;
}

TEST_F(Mss, FitsTheSmallerDeviceBothWays) {
	for (const unsigned more : {1453U, 1460U, 8960U, 65535U}) {
		EXPECT_EQ(options_in(mss(more)), mss(1452)) << more;
		EXPECT_EQ(options_out(mss(more)), mss(1452)) << more;
	}
	for (const unsigned less : {0U, 1U, 536U, 1451U, 1452U}) {
		EXPECT_EQ(options_in(mss(less)), mss(less));
		EXPECT_EQ(options_out(mss(less)), mss(less));
	}
}

TEST_F(Mss, WhereverItStands) {
	const Bytes nop{1}, sack{4, 2}, scale{3, 3, 7}, stamps{8, 10, 1, 2, 3, 4, 5, 6, 7, 8};
	EXPECT_EQ(options_in(nop + mss(1460) + scale), nop + mss(1452) + scale) << "across two words of the checksum";
	EXPECT_EQ(options_out(nop + nop + nop + mss(1460) + nop), nop + nop + nop + mss(1452) + nop);
	EXPECT_EQ(options_in(sack + stamps + mss(1460)), sack + stamps + mss(1452));
	Bytes last(36, 1);
	EXPECT_EQ(options_out(last + mss(1460)), last + mss(1452)) << "the last four of forty bytes";
	Tcp behind_ip_options{.sport = 9, .dport = 113, .options = mss(1460)};
	Packet out;
	EXPECT_EQ(wan_in(kFromRemote / Ip4{.src = kRemote, .dst = kWan, .options = Bytes(40, 1)} / behind_ip_options,
			 &out),
		  PTRIG_OPENED);
	behind_ip_options.options = mss(1452);
	EXPECT_EQ(l3(out), (Ip4{.src = kRemote, .dst = kHost, .ttl = 63, .options = Bytes(40, 1)} / behind_ip_options));
}

TEST_F(Mss, OptionsThatHaveNone) {
	const Bytes none[] = {{},
			      {0, 2, 4, 5},               // the end of the list comes first
			      {2, 3, 5, 1},               // of another length
			      {3, 0, 2, 4, 5, 180, 1, 1}, // one that says it is 0 long
			      {3, 1, 2, 4, 5, 180, 1, 1},
			      {3, 200, 2, 4, 5, 180, 1, 1}, // beyond the header
			      {1, 1, 2, 4}};                // cut off
	for (const Bytes &options : none) {
		EXPECT_EQ(options_in(options), options);
		EXPECT_EQ(options_out(options), options);
	}
}

TEST_F(Mss, AWrongChecksumStaysWrong) {
	EXPECT_EQ(options_in(mss(1460), kWrong), mss(1452));
}

TEST_F(Mss, OnlyOfASyn) {
	EXPECT_EQ(options_in(mss(1460)), mss(1452));
	EXPECT_EQ(options_out(mss(1460)), mss(1452));
	Packet out;
	const Tcp data{.sport = 4000, .dport = 113, .flags = kAck, .options = mss(1460)};
	EXPECT_EQ(wan_in(kFromRemote / kRemoteToWan / data, &out), PTRIG_FORWARDED);
	EXPECT_EQ(l3(out), kRemoteToHost / data);
}

TEST_F(Mss, OfAHairpinByTheDevicesThatItPasses) {
	const Tcp syn{.sport = 4000, .dport = 113, .options = mss(8960)};
	Packet out;
	EXPECT_EQ(lan_in(kFromHost2 / Ip4{.src = kHost2, .dst = kWan} / syn, &out), PTRIG_OPENED);
	Tcp seen = syn;
	seen.options = mss(1460);
	EXPECT_EQ(l3(out), (Ip4{.src = kWan, .dst = kHost, .ttl = 63} / seen));
}

} // namespace
} // namespace ptrig::test
