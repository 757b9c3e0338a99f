// ICMP errors through an open port, as the sockets at both ends see them: refused, too big, time to live used up.
#include "tests/lab/lab.h"
#include "tests/lab/sockets_icmp.h"

namespace lab {

class Icmp : public Lab {
protected:
	/// Sends until the socket reports an error; 0 at the deadline.
	static int error_of_sending(const Fd &socket, std::size_t bytes);
	/// Sends until it arrives; errors that are still on their way do not matter.
	static bool arrives(const Fd &from, const Fd &to, const std::string &data);
};
LAB_STORIES(Icmp);

int Icmp::error_of_sending(const Fd &socket, std::size_t bytes) {
	const auto end = Clock::now() + 20s;
	while (Clock::now() < end) {
		if (const int error = udp_try_send(socket, std::string(bytes, 'x')); error != 0)
			return error;
		if (const int error = udp_error(socket, 100ms); error != 0)
			return error;
	}
	return 0;
}

bool Icmp::arrives(const Fd &from, const Fd &to, const std::string &data) {
	const auto end = Clock::now() + 20s;
	while (Clock::now() < end) {
		udp_try_send(from, data);
		while (const auto got = udp_receive(to, 200ms))
			if (got->data == data)
				return true;
	}
	return false;
}

TEST_P(Icmp, TheRemoteLearnsThatTheHostsPortIsClosed) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp"));
	trigger(lan1());
	const Fd remote = udp_socket(wan(), {kRemote2, 5555});
	udp_connect(remote, {kWan, 6003});
	EXPECT_EQ(error_of_sending(remote, 10), ECONNREFUSED);
	EXPECT_EQ(json({"session", "list"}).at(0).at("state"), "half-open") << "an error answers nothing";
}

TEST_P(Icmp, TheHostLearnsThatTheRemotesPortIsClosed) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp"));
	trigger(lan1());
	const Fd host = udp_socket(lan1(), {host1(), 7003});
	udp_connect(host, {kRemote2, 5555});
	EXPECT_EQ(error_of_sending(host, 10), ECONNREFUSED);
}

TEST_P(Icmp, TheRemoteLearnsThePathMtu) {
	ip(gw(), "link set " + lan_device() + " mtu 1280\n");
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp"));
	trigger(lan1());
	const Fd remote = udp_socket(wan(), {kRemote2, 5555});
	udp_connect(remote, {kWan, 6003});
	udp_never_fragments(remote);
	EXPECT_EQ(path_mtu(remote), 1500);
	EXPECT_EQ(error_of_sending(remote, 1400), EMSGSIZE);
	EXPECT_EQ(path_mtu(remote), 1280);
	EXPECT_TRUE(arrives(remote, udp_on(lan1(), 7003), std::string(1280 - 28, 'x'))) << "what fits passes";
}

TEST_P(Icmp, TheHostLearnsThePathMtu) {
	// The far remote is behind a narrow link of the internet's.
	ip(wan(), "link add narrow mtu 1000 type veth peer name beyond\nlink set narrow up\nlink set beyond up\n"
		  "route add 198.51.100.99 dev narrow\n"
		  "neigh add 198.51.100.99 lladdr 02:00:00:00:99:99 dev narrow nud permanent\n");
	must(wan(), {"sysctl", "-q", "-w", "net.ipv4.ip_forward=1"});
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp"));
	trigger(lan1());
	const Fd host = udp_socket(lan1(), {host1(), 7003});
	udp_connect(host, {"198.51.100.99", 5555});
	udp_never_fragments(host);
	EXPECT_EQ(error_of_sending(host, 1400), EMSGSIZE);
	EXPECT_EQ(path_mtu(host), 1000);
}

TEST_P(Icmp, TheTimeToLiveRunsOutAtTheGateway) {
	up(rule("mapped", "4000/udp", "6000-6010=7000/udp"));
	trigger(lan1());
	const Fd remote = udp_socket(wan(), {kRemote2, 5555});
	udp_connect(remote, {kWan, 6003});
	udp_time_to_live(remote, 1);
	udp_queues_errors(remote);
	std::optional<SocketError> error;
	const auto end = Clock::now() + 20s;
	while (!error && Clock::now() < end) {
		udp_try_send(remote, "short-lived");
		error = udp_queued_error(remote, 200ms);
	}
	ASSERT_TRUE(error);
	EXPECT_EQ(error->type, 11) << "time exceeded";
	EXPECT_EQ(error->about, (Endpoint{kWan, 6003})) << "it quotes what the remote has sent";
	EXPECT_EQ(error->from, kWan);
	udp_time_to_live(remote, 2);
	EXPECT_TRUE(arrives(remote, udp_on(lan1(), 7003), "just right"));
}

} // namespace lab
