// The packet builder against frames made by another program (scapy 2.5): if it were wrong, so would be
// every expectation of this suite.
#include "tests/bpf/packet.h"

#include <gtest/gtest.h>

namespace ptrig::test {
namespace {

std::string hex(const Packet &packet) {
	std::string out;
	for (const std::uint8_t byte : packet.bytes()) {
		char text[3];
		std::snprintf(text, sizeof(text), "%02x", byte);
		out += text;
	}
	return out;
}

std::uint16_t word(const Packet &packet, std::size_t at) {
	const Bytes b = packet.bytes();
	return static_cast<std::uint16_t>(b.at(at) << 8 | b.at(at + 1));
}

TEST(PacketBuilder, Udp) {
	EXPECT_EQ(hex(Ip4{.src = "192.168.77.11", .dst = "203.0.113.10", .ttl = 63, .tos = 0x10, .id = 0x4d2} /
		      Udp{.sport = 40000, .dport = 5060} / "hello"),
		  "4510002104d240003f11ed2bc0a84d0bcb00710a9c4013c4000dc23e68656c6c6f");
}

TEST(PacketBuilder, TcpWithIpAndTcpOptions) {
	EXPECT_EQ(hex(Ip4{.src = "10.1.2.3",
			  .dst = "198.51.100.7",
			  .ttl = 1,
			  .id = 1,
			  .df = false,
			  .options = {7, 7, 4, 0, 0, 0, 0}} /
		      Tcp{.sport = 1025,
			  .dport = 80,
			  .flags = kSyn | kAck,
			  .seq = 0xdeadbeef,
			  .ack = 0x01020304,
			  .window = 512,
			  .options = {2, 4, 0x05, 0xb4}} /
		      "odd"),
		  "47000037000100000106767b0a010203c6336407070704000000000004010050deadbeef0102030460120200e67b00000204"
		  "05b4"
		  "6f6464");
}

TEST(PacketBuilder, VlanAndIcmp) {
	EXPECT_EQ(hex(Eth{.src = "02:00:00:00:00:0a", .dst = "02:00:00:00:00:0b"} / Vlan{7} /
		      Ip4{.src = "1.2.3.4", .dst = "5.6.7.8", .id = 1, .df = false} / Icmp{} / "x"),
		  "02000000000b02000000000a8100000708004500001d0001000040016acc010203040506070808007fff0000000078");
}

TEST(PacketBuilder, UdpResultZeroIsWrittenAsAllOnes) {
	EXPECT_EQ(hex(Ip4{.src = "192.168.77.11", .dst = "203.0.113.10", .id = 1, .df = false} /
		      Udp{.sport = 40000, .dport = 5060} / std::string_view("\x06\x17", 2)),
		  "4500001e0001000040113110c0a84d0bcb00710a9c4013c4000affff0617");
}

TEST(PacketBuilder, ChecksumsOnOrder) {
	const Packet right = Ip4{} / Udp{} / "abc";
	EXPECT_EQ(word(Ip4{} / Udp{.csum = kZero} / "abc", 26), 0);
	EXPECT_EQ(word(Ip4{} / Udp{.csum = {Csum::Mode::kValue, 0xbeef}} / "abc", 26), 0xbeef);
	const auto off = ones_sum({0x13, 0x57}, word(right, 26));
	EXPECT_EQ(word(Ip4{} / Udp{.csum = kWrong} / "abc", 26), off);
	EXPECT_EQ(word(Ip4{.csum = kZero} / Udp{}, 10), 0);
	EXPECT_NE(word(Ip4{.csum = kWrong} / Udp{}, 10), word(Ip4{} / Udp{}, 10));
}

TEST(PacketBuilder, FieldsThatLie) {
	const Packet p = Ip4{.mf = true, .offset = 1480, .version = 6, .ihl = 4, .total = 9} / Udp{.length = 7};
	EXPECT_EQ(word(p, 0), 0x6400);
	EXPECT_EQ(word(p, 2), 9);
	EXPECT_EQ(word(p, 6), 0x4000 | 0x2000 | 185);
	EXPECT_EQ(word(p, 24), 7);
	EXPECT_EQ(word(Ip4{} / Tcp{.offset = 4}, 32) >> 12, 4);
}

TEST(PacketBuilder, QuotedPacketHasItsOwnPseudoHeader) {
	const Packet quoted = Ip4{.src = "203.0.113.10", .dst = "192.168.77.11"} / Udp{.sport = 9};
	const Bytes error = (Ip4{} / Icmp{.type = 3, .code = 3} / quoted).bytes();
	EXPECT_EQ(Bytes(error.begin() + 28, error.end()), quoted.bytes());
}

TEST(PacketBuilder, CutAndFill) {
	const Packet whole = Eth{} / Ip4{} / Udp{} / Fill{100};
	const Bytes all = whole.bytes();
	EXPECT_EQ(all.size(), 142U);
	EXPECT_EQ(whole.cut(30).bytes(), Bytes(all.begin(), all.begin() + 30));
	EXPECT_EQ(whole, Eth{} / Ip4{} / Udp{} / Fill{100});
	EXPECT_FALSE(whole == Eth{} / Ip4{.ttl = 63} / Udp{} / Fill{100});
}

TEST(PacketBuilder, AddressesAreChecked) {
	EXPECT_THROW(ip_bytes("192.168.77"), std::invalid_argument);
	EXPECT_THROW(mac_bytes("02:00:00:00:00"), std::invalid_argument);
	EXPECT_EQ(mac_bytes("02:00:00:00:0b:ff"), (Bytes{2, 0, 0, 0, 0x0b, 0xff}));
}

} // namespace
} // namespace ptrig::test
