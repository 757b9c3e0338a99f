// What messages of ctnetlink and nftables say: bytes that a kernel (6.18, little-endian) sent, and these with a change.
#include <bit>
#include <cstring>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <string>
#include <vector>

#include "loader/netfilter_message.h"

namespace ptrig {
namespace {

using Kind = NetfilterChange::Kind;

/// IPCTNL_MSG_EXP_NEW for PORT 203,0,113,2,23,117 of active FTP, masqueraded, to the server 203.0.113.10.
constexpr const char *kActiveFtp =
	"3001000000020006000000000000000002000000340002801400018008000100cb00710a08000200cb0071021c000280"
	"050001000600000006000200000000000600030017750000340003801400018008000100ffffffff08000200ffffffff"
	"1c0002800500010006000000060002000000000006000300ffff0000340001801400018008000100c0a84d0c08000200"
	"cb00710a1c000280050001000600000006000200e6b30000060003000015000040000a80080001000000000134000280"
	"14000180080001000000000008000200000000001c000280050001000600000006000200177500000600030000000000"
	"080004000000012c08000500d62dfaa108000800000000000800090000000000080006006674700016000b006e61742d"
	"666f6c6c6f772d6d6173746572000000";

/// A message, aligned as the kernel's.
class Message {
public:
	explicit Message(const std::string &hex) : words_((hex.size() / 2 + 3) / 4) {
		for (std::size_t i = 0; i < hex.size() / 2; i++)
			byte(i) = static_cast<std::uint8_t>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
	}
	std::uint8_t &byte(std::size_t i) { return reinterpret_cast<std::uint8_t *>(words_.data())[i]; }
	nlmsghdr *get() { return reinterpret_cast<nlmsghdr *>(words_.data()); }

private:
	std::vector<std::uint32_t> words_;
};

// Where in it what stands.
constexpr std::size_t kFamily = 16, kTuple = 20, kProto = 52, kMaskSource = 84;

class NetfilterMessage : public testing::Test {
protected:
	void SetUp() override {
		if constexpr (std::endian::native != std::endian::little)
			GTEST_SKIP() << "the messages are of a little-endian machine";
	}
	Message ftp_{kActiveFtp};
	const Expectation expected_{.remote = Ip4{0xcb00710a},
				    .local = Ip4{0xcb007102},
				    .port = 6005,
				    .proto = IPPROTO_TCP,
				    .timeout_s = 300};
};

TEST_F(NetfilterMessage, ExpectationOfActiveFtp) {
	EXPECT_EQ(parse_expectation(ftp_.get()), expected_);
	EXPECT_EQ(parse_netfilter_change(ftp_.get()), (NetfilterChange{Kind::kExpected, expected_}));
	ftp_.get()->nlmsg_type = 0x0202;
	EXPECT_EQ(parse_netfilter_change(ftp_.get()), (NetfilterChange{Kind::kUnexpected, expected_}));
}

TEST_F(NetfilterMessage, RemoteThatTheMaskLeavesOpen) {
	for (std::size_t i = 0; i < 4; i++)
		ftp_.byte(kMaskSource + i) = 0;
	Expectation any = expected_;
	any.remote = {};
	EXPECT_EQ(parse_expectation(ftp_.get()), any);
	ftp_.byte(kMaskSource) = 0xff; // a prefix of it
	EXPECT_EQ(parse_expectation(ftp_.get()), any);
}

TEST_F(NetfilterMessage, OtherFamiliesAndProtocolsAreNone) {
	ftp_.byte(kFamily) = AF_INET6;
	EXPECT_FALSE(parse_expectation(ftp_.get()));
	ftp_.byte(kFamily) = AF_INET;
	ftp_.byte(kProto) = IPPROTO_UDP;
	ASSERT_TRUE(parse_expectation(ftp_.get()));
	EXPECT_EQ(parse_expectation(ftp_.get())->proto, IPPROTO_UDP);
	ftp_.byte(kProto) = IPPROTO_GRE;
	EXPECT_FALSE(parse_expectation(ftp_.get()));
	EXPECT_FALSE(parse_netfilter_change(ftp_.get()));
}

TEST_F(NetfilterMessage, WhatIsCutShortSaysNothing) {
	for (std::uint32_t length = sizeof(nlmsghdr); length < kTuple + 52; length += 4) {
		ftp_.get()->nlmsg_len = length;
		EXPECT_FALSE(parse_expectation(ftp_.get())) << length;
	}
}

TEST_F(NetfilterMessage, NewGenerationIsARuleset) {
	Message message("2c0000000f0a000001000000e932000000000002080001000000000208000200000032e9080003006e667400");
	EXPECT_EQ(parse_netfilter_change(message.get()), (NetfilterChange{Kind::kRuleset, {}}));
	message.get()->nlmsg_type = 0x0a00; // NFT_MSG_NEWTABLE
	EXPECT_FALSE(parse_netfilter_change(message.get()));
}

} // namespace
} // namespace ptrig
