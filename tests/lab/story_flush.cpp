// Conntrack's table and the ruleset are the kernel's and the administrator's: entries are flushed, time out, and come
// back with a reload. An answered session outlives all of it.
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <thread>

#include "tests/lab/flow.h"
#include "tests/lab/lab.h"

namespace lab {

class Flush : public Lab {
protected:
	/// A session of UDP and one of TCP, both answered, with a lease that is still there.
	void begin();
	/// Everything in conntrack's table goes; then it is this side's turn to send first.
	void expect_go_on_after_flush(bool remote_first);
	/// Data both ways, beginning with this side.
	bool udp_goes_on(bool remote_first);
	bool tcp_goes_on(bool remote_first);

	static constexpr std::uint16_t kUdp = 6000, kTcp = 6001;
	Fd udp_, remote_, host_;
};
LAB_STORIES(Flush);

void Flush::begin() {
	trigger(lan1());
	udp_ = start_talk(lan1(), {kRemote2, 0}, kUdp);
	auto ends = connect_in(kTcp, lan1(), kRemote2);
	remote_ = std::move(ends.first);
	host_ = std::move(ends.second);
	ASSERT_TRUE(tcp_goes_on(true));
}

bool Flush::udp_goes_on(bool remote_first) {
	const Fd &host = udp_on(lan1(), kUdp);
	return (remote_first || answers(host, udp_, local_end(udp_))) && talk(udp_, host, {kWan, kUdp});
}

bool Flush::tcp_goes_on(bool remote_first) {
	const Fd &first = remote_first ? remote_ : host_, &second = remote_first ? host_ : remote_;
	return says(first, second, patient(5s)) && says(second, first, patient(5s)) && says(first, second, patient(5s));
}

void Flush::expect_go_on_after_flush(bool remote_first) {
	must(gw(), {"conntrack", "-F"}); // while they have permission
	EXPECT_TRUE(udp_goes_on(remote_first));
	EXPECT_TRUE(tcp_goes_on(remote_first));
	for (int i = 0; i < 3; i++) {
		SCOPED_TRACE(std::string(remote_first ? "the remote's" : "the host's") + " packet first, round " +
			     std::to_string(i));
		let_permissions_end();
		const std::uint64_t before = counter("remade");
		must(gw(), {"conntrack", "-F"});
		EXPECT_TRUE(udp_goes_on(remote_first));
		EXPECT_TRUE(tcp_goes_on(remote_first));
		EXPECT_EQ(counter("remade") - before, remote_first ? 2U : 0U);
	}
}

TEST_P(Flush, SessionsGoOnByTheRemotesPacket) {
	up(game());
	begin();
	expect_go_on_after_flush(true);
	EXPECT_EQ(json({"session", "list"}).size(), 2U) << "they are the same sessions";
}

TEST_P(Flush, SessionsGoOnByTheHostsPacket) {
	up(game());
	begin();
	expect_go_on_after_flush(false);
}

TEST_P(Flush, SessionsGoOnWhereTheFirewallDropsWhatIsInvalid) {
	nft("insert rule inet lab forward ct state invalid drop\n");
	up(game());
	begin();
	expect_go_on_after_flush(true);
	expect_go_on_after_flush(false);
}

/// As `nft -f` does it with a file that begins with `flush ruleset`: one step, without a daemon.
TEST_P(Flush, SessionsGoOnWhenTheRulesetIsReplaced) {
	up(game());
	begin();
	for (int i = 0; i < 3; i++) {
		SCOPED_TRACE(i);
		load_firewall();
		EXPECT_TRUE(udp_goes_on(i % 2 == 0));
		EXPECT_TRUE(tcp_goes_on(i % 2 == 0));
	}
	nft("insert rule inet lab forward ip saddr " + kRemote2 + " drop\n");
	EXPECT_TRUE(ends([&] { return udp_goes_on(true); })) << "the firewall has no say";
	EXPECT_TRUE(ends([&] { return says(remote_, host_, 200ms); })) << "the firewall has no say";
}

/// In two steps: between them nothing in the kernel follows connections.
TEST_P(Flush, SessionsGoOnWhenTheRulesetComesBack) {
	run_daemon(game());
	begin();
	nft("flush ruleset\n");
	EXPECT_FALSE(try_trigger(lan2(), {kRemote1, 9}, {}, 200ms) == std::nullopt) << "nothing is dropped meanwhile";
	load_firewall();
	EXPECT_TRUE(udp_goes_on(true));
	EXPECT_TRUE(tcp_goes_on(true));
}

/// The kernel does not know the scale of the connection's windows any more, and the daemon tells it not to mind.
TEST_P(Flush, ATransferGoesOn) {
	run_daemon(game());
	begin();
	for (int i = 0; i < 3; i++) {
		SCOPED_TRACE(i);
		let_permissions_end();
		must(gw(), {"conntrack", "-F"});
		EXPECT_TRUE(says(remote_, host_)) << "the remote's packet is the first";
		std::this_thread::sleep_for(patient(500ms)); // nothing tells when the daemon has told the kernel
		EXPECT_TRUE(exchange(remote_, host_, 4U << 20));
	}
	EXPECT_GE(counter("remade"), 1U) << "where no acknowledgement of the host's was under way";
}

/// A few hundred kilobytes and a thousand datagrams a second, each way.
TEST_P(Flush, TrafficGoesOnThatIsFlushedMeanwhile) {
	run_daemon(game());
	begin();
	const Fd &host = udp_on(lan1(), kUdp);
	Stream stream(remote_, host_);
	Flow in(udp_, {kWan, kUdp}, host, 1000), out(host, local_end(udp_), udp_, 1000);
	// For longer than permission lasts, twice. Whose packet comes first after it, and makes the entry, is not told.
	constexpr unsigned kFlushes = 20;
	const std::uint64_t before = counter("forwarded") + counter("remade");
	for (unsigned i = 0; i < kFlushes; i++) {
		must(gw(), {"conntrack", "-F"});
		std::this_thread::sleep_for(120ms);
	}
	const auto [sent, lost, broken] = stream.finish();
	EXPECT_EQ(broken, 0U);
	EXPECT_EQ(lost, 0U) << "of " << sent;
	// Of two packets that meet after a flush, one each way, the kernel drops one.
	EXPECT_LE(in.finish().second + out.finish().second, kFlushes);
	EXPECT_GE(counter("forwarded") + counter("remade"), before + 4) << "what met a flush by the kernel's way";
}

/// Nothing else asks conntrack for anything then: the rule of ptrig's own chain does.
TEST_P(Flush, SessionsGoOnWithoutAnyOtherRuleset) {
	run_daemon(game());
	begin();
	std::this_thread::sleep_for(patient(300ms)); // what is sent while nothing is translated, the gateway resets
	nft("flush ruleset\n");
	ASSERT_TRUE(eventually(5s, [&] {
		return must(gw(), {"nft", "list", "ruleset"}).find("ct state new accept") != std::string::npos;
	})) << must(gw(), {"nft", "list", "ruleset"});
	EXPECT_TRUE(udp_goes_on(true));
	EXPECT_TRUE(tcp_goes_on(true));
	EXPECT_TRUE(udp_goes_on(false));
	EXPECT_TRUE(exchange(remote_, host_, 4U << 20));
	EXPECT_EQ(who_gets_udp(kUdp, {kRemote1, 0}), "lan1") << "and new ones begin";
}

TEST_P(Flush, NothingGoesOnThatHasEnded) {
	up(game());
	begin();
	// An acknowledgement that the host still owes would begin a flow of its own after the flush.
	ASSERT_TRUE(eventually(5s, [&] {
		int unacknowledged = 1;
		return ioctl(remote_.get(), SIOCOUTQ, &unacknowledged) == 0 && unacknowledged == 0;
	}));
	EXPECT_EQ(ptrig({"lease", "close", "game", "--kill"}).status, 0);
	must(gw(), {"conntrack", "-F"});
	EXPECT_FALSE(talk(udp_, udp_on(lan1(), kUdp), {kWan, kUdp}, 200ms));
	EXPECT_FALSE(says(remote_, host_, 200ms));
	EXPECT_EQ(counter("remade"), 0U);
}

} // namespace lab
