// Sessions that say nothing for long, after their lease has ended: the kernel's own times for an entry are shorter than
// theirs.
#include "tests/lab/lab.h"

namespace lab {

class Silent : public Lab {
protected:
	/// Answered sessions of UDP and TCP through these open ports, which lead to the host's from `host_port` on;
	/// then their lease ends.
	void begin(const std::string &open, std::uint16_t host_port);
	/// Data both ways, beginning with this side, and the remote sees the open port as it did.
	bool udp_goes_on(bool remote_first);
	bool tcp_goes_on(bool remote_first);
	/// What conntrack will keep the session's entry for; nothing if it has none.
	std::optional<int> seconds_left(const std::string &proto, std::uint16_t port) const;
	void shorten_kernels_times();
	/// The kernel's time for both entries is over.
	void let_entries_end();
	void expect_closed_to_others();

	static constexpr std::uint16_t kUdp = 6000, kTcp = 6001;
	std::uint16_t host_port_ = 0;
	Fd udp_, remote_, host_;
};
LAB_STORIES(Silent);

void Silent::begin(const std::string &open, std::uint16_t host_port) {
	host_port_ = host_port;
	up(rule("game", "4000/udp", open));
	trigger(lan1());
	udp_ = udp_socket(wan(), {kRemote2, 0});
	ASSERT_TRUE(udp_goes_on(true));
	const Fd &listener = tcp_on(lan1(), std::uint16_t(host_port + 1));
	Connection in = tcp_connect(wan(), {kWan, kTcp}, {kRemote2, 0});
	ASSERT_TRUE(in);
	auto accepted = tcp_accept(listener);
	ASSERT_TRUE(accepted);
	remote_ = std::move(in.socket);
	host_ = std::move(*accepted);
	ASSERT_TRUE(tcp_goes_on(true));
	apply(rule("game", "4000/udp", open, "timeout = '1s'"));
	ASSERT_TRUE(eventually(10s, [&] { return leases().empty(); }));
}

bool Silent::udp_goes_on(bool remote_first) {
	const Fd &host = udp_on(lan1(), host_port_);
	if (!remote_first) {
		udp_send(host, local_end(udp_), "after a long time");
		const auto got = udp_receive(udp_);
		if (!got || got->from != Endpoint{kWan, kUdp})
			return false;
	}
	return talk(udp_, host, {kWan, kUdp});
}

bool Silent::tcp_goes_on(bool remote_first) {
	const Fd &first = remote_first ? remote_ : host_, &second = remote_first ? host_ : remote_;
	return says(first, second, patient(5s)) && says(second, first, patient(5s)) && says(first, second, patient(5s));
}

std::optional<int> Silent::seconds_left(const std::string &proto, std::uint16_t port) const {
	const std::string list = must(gw(), {"conntrack", "-L", "-p", proto, "--orig-src", kRemote2, "--orig-dst", kWan,
					     "--orig-port-dst", std::to_string(port)});
	const std::size_t number = list.find(proto == "udp" ? " 17 " : " 6 ");
	return number == std::string::npos ? std::nullopt : std::optional(std::stoi(list.substr(number + 3)));
}

void Silent::shorten_kernels_times() {
	for (const char *name :
	     {"udp_timeout", "udp_timeout_stream", "tcp_timeout_established", "tcp_timeout_unacknowledged"})
		sysctl(std::string("netfilter/nf_conntrack_") + name, "2");
}

void Silent::expect_closed_to_others() {
	EXPECT_EQ(who_gets_udp(kUdp, {kRemote1, 0}, host_port_), "gateway") << "a new remote";
	EXPECT_EQ(who_gets_tcp(kTcp, {kRemote1, 0}, std::uint16_t(host_port_ + 1)), "gateway") << "a new remote";
}

void Silent::let_entries_end() {
	ASSERT_TRUE(eventually(10s, [&] { // ptrig gives it the session's own time, once a second
		return tcp_goes_on(true) && seconds_left("tcp", kTcp) <= 2;
	})) << must(gw(), {"conntrack", "-L"});
	// The kernel's way is taken once a second, just when ptrig does that.
	must(gw(), {"conntrack", "-U", "-p", "udp", "--orig-src", kRemote2, "--orig-dst", kWan, "--orig-port-dst",
		    std::to_string(kUdp), "-t", "1"});
	ASSERT_TRUE(eventually(10s, [&] { return !seconds_left("udp", kUdp) && !seconds_left("tcp", kTcp); }));
}

TEST_P(Silent, SessionsOutliveTheKernelsTime) {
	shorten_kernels_times();
	begin("6000-6010/tcp+udp", 6000);
	for (const bool remote_first : {true, false}) {
		SCOPED_TRACE(remote_first ? "the remote's packet first" : "the host's packet first");
		ASSERT_NO_FATAL_FAILURE(let_entries_end());
		EXPECT_TRUE(udp_goes_on(remote_first));
		EXPECT_TRUE(tcp_goes_on(remote_first));
	}
	expect_closed_to_others();
}

TEST_P(Silent, SessionsOfMappedPortsOutliveTheKernelsTime) {
	shorten_kernels_times();
	begin("6000-6010=7000/tcp+udp", 7000);
	ASSERT_NO_FATAL_FAILURE(let_entries_end());
	EXPECT_TRUE(udp_goes_on(true));
	EXPECT_TRUE(tcp_goes_on(true));
	expect_closed_to_others();
}

/// One of the parameters will do: it waits.
class SilentLong : public Silent {};
LAB_STORIES_OF(SilentLong, "tc");

TEST_P(SilentLong, SessionsOutliveTheirLease) {
	begin("6000-6010=7000/tcp+udp", 7000);
	for (const bool remote_first : {true, false}) {
		SCOPED_TRACE(remote_first ? "the remote's packet first" : "the host's packet first");
		ASSERT_TRUE(eventually(20s, [&] {
			for (const Json &session : json({"session", "list"}))
				if (session.at("idle_s") < 5.0)
					return false;
			return true;
		}));
		EXPECT_EQ(json({"session", "list"}).size(), 2U);
		EXPECT_TRUE(udp_goes_on(remote_first));
		EXPECT_TRUE(tcp_goes_on(remote_first));
	}
	expect_closed_to_others();
}

} // namespace lab
