// Fragmented datagrams through an open port: in every order, both ways, never mixed up, and only with a lease. The
// datagrams have 4000 bytes, so three fragments each; WAN 6000-6010 lead to the hosts' 7000-7010.
#include "tests/lab/lab.h"
#include "tests/lab/sockets_fragment.h"

namespace lab {

class Fragment : public Lab {
protected:
	using Order = std::vector<std::size_t>;
	static inline const Order kInOrder{0, 1, 2}, kReversed{2, 1, 0}, kShuffled{1, 2, 0}, kTwice{0, 0, 1, 1, 2, 2},
		kFirstMissing{1, 2};

	/// 4000 bytes that tell who sent them and which they are.
	static std::string large(const std::string &name) {
		std::string data;
		while (data.size() < 4000)
			data += name + " " + std::to_string(data.size()) + " ";
		data.resize(4000);
		return data;
	}
	/// The next datagram that is not of the other words; its words, and where it came from.
	static std::optional<Endpoint> gets(const Fd &socket, const std::string &data, milliseconds deadline = 10s) {
		const auto end = Clock::now() + deadline;
		while (Clock::now() < end)
			if (const auto got = udp_receive(socket, 100ms); got && got->data == data)
				return got->from;
		return std::nullopt;
	}
	static bool gets_nothing(const Fd &socket) { return !udp_receive(socket, 500ms); }
	void up_mapped() { up(rule("mapped", "4000/udp", "6000-6010=7000/udp")); }
	std::uint16_t next_id() { return ++id_; }

	const Endpoint kRemote{kRemote2, 5555}, kOpen{kWan, 6003};

private:
	std::uint16_t id_ = 100;
};
LAB_STORIES(Fragment);

TEST_P(Fragment, NothingWithoutALease) {
	up_mapped();
	const Fd remote = udp_socket(wan(), kRemote);
	const Fd &host = udp_on(lan1(), 7003), &unmapped = udp_on(lan1(), 6003);
	const RawSender sender(wan());
	for (const Order &order : {kInOrder, kReversed})
		sender.send(udp_fragments(kRemote, kOpen, large("early"), next_id()), order);
	EXPECT_TRUE(gets_nothing(host));
	EXPECT_TRUE(gets_nothing(unmapped));
	EXPECT_EQ(counter("opened"), 0U);
	EXPECT_EQ(must(gw(), {"conntrack", "-L"}).find("ASSURED"), std::string::npos);
}

TEST_P(Fragment, FromTheRemoteInAnyOrder) {
	up_mapped();
	trigger(lan1());
	const Fd remote = udp_socket(wan(), kRemote);
	const Fd &host = udp_on(lan1(), 7003);
	const RawSender sender(wan());
	for (const Order &order : {kReversed, kInOrder, kShuffled, kTwice}) {
		const std::string data = large("number " + std::to_string(next_id()));
		sender.send(udp_fragments(kRemote, kOpen, data, next_id()), order);
		EXPECT_EQ(gets(host, data), kRemote);
	}
	sender.send(udp_fragments(kRemote, kOpen, large("headless"), next_id()), kFirstMissing);
	EXPECT_TRUE(gets_nothing(host));
	EXPECT_EQ(json({"session", "list"}).at(0).at("state"), "half-open") << "the host has said nothing";
}

TEST_P(Fragment, FromTheHostInAnyOrder) {
	up_mapped();
	trigger(lan1());
	const Fd remote = udp_socket(wan(), kRemote);
	const Endpoint at{host1(), 7003};
	const Fd &host = udp_on(lan1(), 7003);
	udp_send(remote, kOpen, "small");
	ASSERT_EQ(gets(host, "small"), kRemote);
	const RawSender sender(lan1());
	for (const Order &order : {kReversed, kInOrder, kShuffled, kTwice}) {
		const std::string data = large("answer " + std::to_string(next_id()));
		sender.send(udp_fragments(at, kRemote, data, next_id()), order);
		EXPECT_EQ(gets(remote, data), kOpen) << "from the open port";
	}
	EXPECT_EQ(json({"session", "list"}).at(0).at("state"), "established");
	sender.send(udp_fragments(at, kRemote, large("headless"), next_id()), kFirstMissing);
	EXPECT_TRUE(gets_nothing(remote));
}

TEST_P(Fragment, LargeAndSmallTakeTurns) {
	up_mapped();
	trigger(lan1());
	const Fd remote = udp_socket(wan(), kRemote);
	const Fd &host = udp_on(lan1(), 7003);
	for (int i = 0; i < 10; i++) {
		const std::string large_there = large("there " + std::to_string(i)),
				  large_back = large("back " + std::to_string(i));
		udp_send(remote, kOpen, large_there);
		ASSERT_EQ(gets(host, large_there), kRemote) << "round " << i;
		ASSERT_TRUE(talk(remote, host, kOpen)) << "round " << i;
		udp_send(host, kRemote, large_back);
		ASSERT_EQ(gets(remote, large_back), kOpen) << "round " << i;
		ASSERT_TRUE(talk(remote, host, kOpen)) << "round " << i;
	}
	EXPECT_EQ(json({"session", "list"}).size(), 1U);
	EXPECT_GE(counter("forwarded"), 20U) << "the small ones went the fast way";
}

/// The entry's time is fixed; the next first fragment makes a new one.
TEST_P(Fragment, LongerThanTheEntryLives) {
	up_mapped();
	trigger(lan1());
	const Fd remote = udp_socket(wan(), kRemote);
	const Fd &host = udp_on(lan1(), 7003);
	int lost = 0, i = 0;
	for (const auto end = Clock::now() + 7s; Clock::now() < end; i++) {
		const std::string data = large("number " + std::to_string(i));
		udp_send(remote, kOpen, data);
		lost += gets(host, data, 500ms) != kRemote;
		udp_send(host, kRemote, data);
		lost += gets(remote, data, 500ms) != kOpen;
	}
	EXPECT_LE(lost, 3) << "of " << i << ": those that the entry's end has come between";
}

TEST_P(Fragment, RemotesWithEqualIdentificationAreNotMixed) {
	up_mapped();
	trigger(lan1());
	const Endpoint other{kRemote3, 5555};
	const Fd &host = udp_on(lan1(), 7003);
	const RawSender sender(wan());
	const auto one = udp_fragments(kRemote, kOpen, large("one"), 7),
		   two = udp_fragments(other, kOpen, large("two"), 7);
	for (const std::size_t i : kInOrder) {
		sender.send(one, {i});
		sender.send(two, {i});
	}
	const auto first = udp_receive(host, 10s), second = udp_receive(host, 10s);
	ASSERT_TRUE(first && second);
	EXPECT_EQ(first->data, large(first->from == kRemote ? "one" : "two"));
	EXPECT_EQ(second->data, large(second->from == kRemote ? "one" : "two"));
	EXPECT_NE(first->from, second->from);
}

TEST_P(Fragment, HostsWithEqualIdentificationAreNotMixed) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp") + rule("second", "4001/udp", "6100-6110=7000/udp"));
	trigger(lan1());
	trigger(lan2(), {kRemote1, 4001});
	const Fd remote = udp_socket(wan(), kRemote);
	ASSERT_TRUE(talk(remote, udp_on(lan1(), 7003), kOpen));
	ASSERT_TRUE(talk(remote, udp_on(lan2(), 7003), {kWan, 6103}));
	const RawSender sender1(lan1()), sender2(lan2());
	const auto one = udp_fragments({host1(), 7003}, kRemote, large("one"), 7),
		   two = udp_fragments({host2(), 7003}, kRemote, large("two"), 7);
	for (const std::size_t i : kInOrder) {
		sender1.send(one, {i});
		sender2.send(two, {i});
	}
	const auto a = udp_receive(remote, 10s), b = udp_receive(remote, 10s);
	ASSERT_TRUE(a && b);
	EXPECT_EQ(a->data, large(a->from == kOpen ? "one" : "two"));
	EXPECT_EQ(b->data, large(b->from == kOpen ? "one" : "two"));
	EXPECT_NE(a->from, b->from);
}

TEST_P(Fragment, TheHostsWayIsNarrow) {
	ip(gw(), "link set " + lan_device() + " mtu 1280\n");
	up_mapped();
	trigger(lan1());
	const Fd remote = udp_socket(wan(), kRemote);
	const Fd &host = udp_on(lan1(), 7003);
	const auto whole = udp_fragments(kRemote, kOpen, std::string(1400, 'x'), next_id()); // one packet without DF
	ASSERT_EQ(whole.packets.size(), 1U);
	RawSender(wan()).send(whole, {0});
	EXPECT_EQ(gets(host, std::string(1400, 'x')), kRemote) << "too big for the LAN: fragmented by the kernel";
}

TEST_P(Fragment, NobodyHoldsThePortOpen) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp", "timeout = '1s'\non_close = 'kill'\n"));
	trigger(lan1());
	const Fd remote = udp_socket(wan(), kRemote);
	const Fd &host = udp_on(lan1(), 7003);
	udp_send(remote, kOpen, large("open"));
	ASSERT_EQ(gets(host, large("open")), kRemote);
	// The remote goes on, in fragments and whole.
	EXPECT_TRUE(eventually(15s, [&] {
		udp_send(remote, kOpen, large("still"));
		udp_send(remote, kOpen, "still");
		bool silent = true;
		while (udp_receive(host, 200ms))
			silent = false;
		return silent;
	})) << "what the remote sends extends nothing";
}

TEST_P(Fragment, TheTriggerMayBeFragmented) {
	up_mapped();
	const Fd sink = udp_socket(wan(), {kRemote1, 4000}), host = udp_socket(lan1(), {host1(), 4444});
	udp_send(host, {kRemote1, 4000}, large("trigger"));
	EXPECT_TRUE(gets(sink, large("trigger")));
	EXPECT_EQ(leases("mapped").at(0).at("host"), host1());
}

} // namespace lab
