// Every end of a session takes its conntrack entry along, and no other entry. One that is left behind keeps its tuple
// from everybody, for minutes or for hours.
#include <csignal>
#include <sys/socket.h>

#include "tests/lab/lab.h"

namespace lab {

class Entries : public Lab {
protected:
	/// lan1 has a lease. A remote has answered sessions of UDP and TCP with it, and half-open ones of both. Flows
	/// of others are there, too. Conntrack's table has all of them.
	void begin(const std::string &rules, const std::string &gateway = "", const std::string &tables = "");
	/// Conntrack's table has an entry whose first packet was such a one.
	bool has(const std::string &proto, const std::string &from, const Endpoint &to) const;
	/// How many of the remote's two answered sessions, and of its two half-open ones, have their entry.
	int answered() const { return has("udp", kRemote1, {kWan, 6000}) + has("tcp", kRemote1, {kWan, 6001}); }
	int half_open() const { return has("udp", kRemote1, {kWan, 6002}) + has("tcp", kRemote1, {kWan, 6003}); }
	/// No session has its entry any more, at last, and all others are still there.
	void expect_all_gone();
	void expect_others_stay() const;
	void send_unanswered();
	void kill(Process &daemon);

	Fd udp_, tcp_, unanswered_; ///< the remote's ends
private:
	/// A flow that the host begins itself, of UDP and of TCP, from such ports (0: any).
	void begin_own(const NetNs &host, std::uint16_t udp_port, std::uint16_t tcp_port);
	std::vector<Fd> ends_; ///< of all flows
};
LAB_STORIES(Entries);

namespace {

const Endpoint kUdpServer{kRemote2, 9000}, kTcpServer{kRemote2, 8080};

} // namespace

bool Entries::has(const std::string &proto, const std::string &from, const Endpoint &to) const {
	const std::string list = must(gw(), {"conntrack", "-L", "-p", proto, "--orig-src", from, "--orig-dst",
					     to.address, "--orig-port-dst", std::to_string(to.port)});
	// A session's leads to its host; what the gateway itself was sent leads nowhere.
	return list.find("src=" + (to.address == kWan ? host1() : from)) != std::string::npos;
}

void Entries::begin_own(const NetNs &host, std::uint16_t udp_port, std::uint16_t tcp_port) {
	ends_.push_back(udp_socket(host, {"0.0.0.0", udp_port}));
	ASSERT_TRUE(answers(ends_.back(), udp_on(wan(), kUdpServer.port), kUdpServer)) << host.name();
	Connection client = tcp_connect(host, kTcpServer, {"0.0.0.0", tcp_port});
	ASSERT_TRUE(client) << host.name();
	ends_.push_back(std::move(client.socket));
}

void Entries::begin(const std::string &rules, const std::string &gateway, const std::string &tables) {
	up(rules, gateway, tables);
	tcp_on(wan(), kTcpServer.port);
	begin_own(lan1(), 6005, 6006); // from open ports, before there is a lease
	trigger(lan1());
	begin_own(lan2(), 0, 0);
	begin_own(gw(), 0, 0);
	udp_ = start_talk(lan1(), {kRemote1, 0}, 6000);
	auto [remote, host] = connect_in(6001, lan1());
	ASSERT_TRUE(says(remote, host));
	tcp_ = std::move(remote);
	ends_.push_back(std::move(host));
	udp_on(lan1(), 6002);                                      // takes it and says nothing
	nft("insert rule inet lab forward tcp dport 6003 drop\n"); // its SYN is never answered
	unanswered_ = udp_socket(wan(), {kRemote1, 0});
	send_unanswered();
	ASSERT_TRUE(eventually(5s, [&] { return answered() == 2 && half_open() == 2; }))
		<< must(gw(), {"conntrack", "-L"});
	ASSERT_NO_FATAL_FAILURE(expect_others_stay());
	ASSERT_FALSE(HasFailure()) << "before any end";
}

void Entries::send_unanswered() {
	udp_send(unanswered_, {kWan, 6002}, "nobody answers");
	tcp_connect(wan(), {kWan, 6003}, {kRemote1, 5003}, 50ms);
}

void Entries::expect_others_stay() const {
	const std::string list = must(gw(), {"conntrack", "-L"});
	for (const std::string &from : {host1(), host2(), kWan})
		EXPECT_TRUE(has("udp", from, kUdpServer) && has("tcp", from, kTcpServer))
			<< "a flow that " << from << " has begun itself\n"
			<< list;
}

void Entries::expect_all_gone() {
	EXPECT_TRUE(eventually(10s, [&] { return answered() + half_open() == 0; })) << must(gw(), {"conntrack", "-L"});
	expect_others_stay();
}

void Entries::kill(Process &daemon) {
	daemon.signal(SIGKILL);
	ASSERT_TRUE(daemon.wait(5s));
}

TEST_P(Entries, GoWithSessionClose) {
	ASSERT_NO_FATAL_FAILURE(begin(game()));
	EXPECT_EQ(ptrig({"session", "close", "--remote", kRemote3}).status, 1);
	EXPECT_EQ(answered() + half_open(), 4) << "of another remote";
	EXPECT_EQ(ptrig({"session", "close", "--all"}).status, 0);
	expect_all_gone();
}

TEST_P(Entries, GoWithLeaseCloseAsFarAsTheSessionsDo) {
	ASSERT_NO_FATAL_FAILURE(begin(game()));
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 0);
	EXPECT_TRUE(eventually(10s, [&] { return half_open() == 0; })) << "they end with their lease";
	EXPECT_EQ(answered(), 2) << "they go on";
	trigger(lan1());
	EXPECT_EQ(ptrig({"lease", "close", "game", "--kill"}).status, 0);
	EXPECT_EQ(answered(), 2) << "they were the earlier lease's";
	EXPECT_EQ(ptrig({"session", "close", "--all"}).status, 0);
	expect_all_gone();
}

TEST_P(Entries, GoWithLeaseCloseKill) {
	ASSERT_NO_FATAL_FAILURE(begin(game()));
	EXPECT_EQ(ptrig({"lease", "close", "game", "--kill"}).status, 0);
	expect_all_gone();
}

TEST_P(Entries, GoWithTheRuleIfItKills) {
	ASSERT_NO_FATAL_FAILURE(begin(game("on_close = 'kill'")));
	apply(rule("second", "4001/udp", "6100/udp"));
	expect_all_gone();
}

TEST_P(Entries, OfHalfOpenSessionsGoWithTheRule) {
	ASSERT_NO_FATAL_FAILURE(begin(game()));
	apply(rule("second", "4001/udp", "6100/udp"));
	EXPECT_TRUE(eventually(10s, [&] { return half_open() == 0; })) << must(gw(), {"conntrack", "-L"});
	EXPECT_EQ(answered(), 2) << "on_close = keep";
	expect_others_stay();
}

/// Each with a packet of the remote's.
TEST_P(Entries, GoWithARemoteThatIsDenied) {
	ASSERT_NO_FATAL_FAILURE(begin(game()));
	apply(game(), "deny_remotes = ['" + kRemote3 + "']\n");
	EXPECT_EQ(answered() + half_open(), 4) << "of another remote";
	apply(game(), "deny_remotes = ['" + kRemote1 + "']\n");
	EXPECT_EQ(::write(tcp_.get(), "denied", 6), 6);
	EXPECT_TRUE(eventually(10s, [&] { // a session is looked at once a second
		udp_send(udp_, {kWan, 6000}, "denied");
		(void)!send(tcp_.get(), "denied", 6, MSG_NOSIGNAL); // it may have been reset by now
		send_unanswered();
		return answered() + half_open() == 0;
	}));
	expect_all_gone();
}

TEST_P(Entries, GoWithTheWanAddress) {
	ASSERT_NO_FATAL_FAILURE(begin(game()));
	run_daemon();
	EXPECT_EQ(answered() + half_open(), 4);
	ip(gw(), "addr add 203.0.113.3/24 dev wan0\naddr del " + kWan + "/24 dev wan0\n");
	EXPECT_TRUE(eventually(10s, [&] { return answered() + half_open() == 0; })) << must(gw(), {"conntrack", "-L"});
}

TEST_P(Entries, GoWithALeaseThatRunsOutAndKills) {
	const std::string rules = game("on_close = 'kill'");
	ASSERT_NO_FATAL_FAILURE(begin(rules));
	run_daemon();
	EXPECT_EQ(answered() + half_open(), 4) << "as long as the lease lives";
	apply(game("on_close = 'kill'\ntimeout = '1s'"));
	expect_all_gone();
}

TEST_P(Entries, GoWithTheTimeOfHalfOpenSessions) {
	ASSERT_NO_FATAL_FAILURE(begin(game()));
	run_daemon();
	EXPECT_EQ(half_open(), 2);
	apply(game(), "", "[timeouts]\nhalfopen = '1s'\n");
	EXPECT_TRUE(eventually(10s, [&] { return half_open() == 0; })) << must(gw(), {"conntrack", "-L"});
	EXPECT_EQ(answered(), 2) << "they were answered";
	expect_others_stay();
}

TEST_P(Entries, GoWithDownAfterTheDaemonWasKilled) {
	ASSERT_NO_FATAL_FAILURE(begin(game()));
	kill(run_daemon());
	EXPECT_EQ(answered() + half_open(), 4) << "traffic goes on without a daemon";
	EXPECT_EQ(ptrig({"down"}).status, 0);
	expect_all_gone();
}

/// What ended while there was none.
TEST_P(Entries, GoWithTheNextDaemon) {
	ASSERT_NO_FATAL_FAILURE(begin(game("on_close = 'kill'\ntimeout = '5s'")));
	kill(run_daemon());
	trigger(lan1());
	ASSERT_TRUE(eventually(15s, [&] { return leases().empty(); }));
	EXPECT_EQ(answered() + half_open(), 4) << "nobody has looked, and no packet came";
	run_daemon();
	expect_all_gone();
}

/// Who replicates or logs conntrack's events is told of what others begin, and of no session.
TEST_P(Entries, NoConntrackEventTellsOfASession) {
	up(game());
	trigger(lan1());
	Process &listener = background(gw(), {"conntrack", "-E"});
	const auto tells = [&](const Endpoint &to) {
		return listener.out().find(" dst=" + to.address + " sport=") != std::string::npos &&
		       listener.out().find(" dport=" + std::to_string(to.port) + " ") != std::string::npos;
	};
	std::uint16_t port = 7000; // it listens at last
	ASSERT_TRUE(eventually(10s, [&] {
		try_trigger(lan2(), {kRemote2, ++port}, {}, 50ms);
		return tells({kRemote2, port});
	}));
	const Fd udp = start_talk(lan1(), {kRemote1, 0}, 6000);
	auto [remote, host] = connect_in(6001, lan1());
	ASSERT_TRUE(says(remote, host));
	EXPECT_EQ(ptrig({"session", "close", "--all"}).status, 0);
	ASSERT_EQ(answered(), 0);
	++port;
	ASSERT_TRUE(eventually(10s, [&] { // what came before has been told then
		try_trigger(lan2(), {kRemote2, port}, {}, 50ms);
		return tells({kRemote2, port});
	}));
	const std::string told = listener.out();
	EXPECT_EQ(told.find("dport=6000 "), std::string::npos) << told;
	EXPECT_EQ(told.find("dport=6001 "), std::string::npos) << told;
}

} // namespace lab
