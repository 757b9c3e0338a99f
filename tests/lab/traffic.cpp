// The fixture's traffic: triggers from the hosts, probes and conversations from the remotes.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "tests/lab/lab.h"

namespace lab {

namespace {

std::string token() {
	static unsigned counter = 0;
	return "token " + std::to_string(++counter);
}

milliseconds left(Clock::time_point end) {
	return std::max(0ms, std::chrono::duration_cast<milliseconds>(end - Clock::now()));
}

/// Wait for this very datagram; others that wait there are thrown away.
std::optional<Datagram> receive_token(const Fd &socket, const std::string &wanted, milliseconds deadline) {
	const auto end = Clock::now() + deadline;
	while (auto got = udp_receive(socket, left(end)))
		if (got->data == wanted)
			return got;
	return std::nullopt;
}

} // namespace

const Fd &Lab::listening(const NetNs &host, int type, const Endpoint &at) {
	const std::string key = host.name() + (type == SOCK_DGRAM ? " udp " : " tcp ") + to_string(at);
	auto it = listening_.find(key);
	if (it == listening_.end())
		it = listening_.emplace(key, type == SOCK_DGRAM ? udp_socket(host, at) : tcp_listener(host, at)).first;
	return it->second;
}

const Fd &Lab::udp_on(const NetNs &host, std::uint16_t port) {
	return listening(host, SOCK_DGRAM, {"0.0.0.0", port});
}
const Fd &Lab::tcp_on(const NetNs &host, std::uint16_t port) {
	return listening(host, SOCK_STREAM, {"0.0.0.0", port});
}

std::optional<Endpoint> Lab::try_trigger(const NetNs &host, const Endpoint &remote, const Endpoint &from,
					 milliseconds deadline) {
	const Fd &sink = udp_on(wan(), remote.port);
	const std::string text = token();
	udp_send(udp_socket(host, from), remote, text);
	const auto got = receive_token(sink, text, deadline);
	return got ? std::optional(got->from) : std::nullopt;
}

Endpoint Lab::trigger(const NetNs &host, const Endpoint &remote, const Endpoint &from) {
	const auto seen = try_trigger(host, remote, from);
	if (!seen)
		throw std::runtime_error("a datagram of " + host.name() + " did not reach " + to_string(remote));
	return *seen;
}

std::string Lab::who_gets_udp(std::uint16_t port, const Endpoint &remote, std::uint16_t host_port) {
	const Fd &at1 = udp_on(lan1(), host_port ? host_port : port);
	const Fd &at2 = udp_on(lan2(), host_port ? host_port : port);
	const Fd sender = udp_socket(wan(), remote);
	udp_connect(sender, {kWan, port});
	const std::string text = token();
	if (send(sender.get(), text.data(), text.size(), 0) < 0)
		throw std::runtime_error("cannot send to the open port");
	const auto end = Clock::now() + patient(1s);
	while (Clock::now() < end) {
		pollfd all[3] = {{at1.get(), POLLIN, 0}, {at2.get(), POLLIN, 0}, {sender.get(), POLLIN, 0}};
		poll(all, 3, static_cast<int>(left(end).count()));
		if (all[0].revents && receive_token(at1, text, 0ms))
			return "lan1";
		if (all[1].revents && receive_token(at2, text, 0ms))
			return "lan2";
		if (all[2].revents) {
			char byte = 0;
			return recv(sender.get(), &byte, 1, 0) < 0 && errno == ECONNREFUSED ? "gateway"
											    : "somebody who answers";
		}
	}
	return "nobody";
}

std::string Lab::who_gets_tcp(std::uint16_t port, const Endpoint &remote, std::uint16_t host_port) {
	const Fd &at1 = tcp_on(lan1(), host_port ? host_port : port);
	const Fd &at2 = tcp_on(lan2(), host_port ? host_port : port);
	const Connection connection = tcp_connect(wan(), {kWan, port}, remote);
	if (!connection)
		return connection.error == ECONNREFUSED ? "gateway" : "nobody";
	pollfd both[2] = {{at1.get(), POLLIN, 0}, {at2.get(), POLLIN, 0}};
	if (poll(both, 2, static_cast<int>(patient(1s).count())) <= 0)
		return "somebody who answers";
	const auto accepted = tcp_accept(both[0].revents ? at1 : at2, 0ms);
	return accepted && both[0].revents ? "lan1" : "lan2";
}

std::pair<Fd, Fd> Lab::connect_in(std::uint16_t port, const NetNs &host, const std::string &remote) {
	const Fd &listener = tcp_on(host, port);
	Connection connection = tcp_connect(wan(), {kWan, port}, {remote, 0});
	if (!connection)
		throw std::runtime_error("connect from " + remote +
					 " to the open port: " + std::generic_category().message(connection.error));
	auto accepted = tcp_accept(listener);
	if (!accepted)
		throw std::runtime_error(host.name() + " did not get the connection");
	return {std::move(connection.socket), std::move(*accepted)};
}

std::optional<std::pair<Fd, Fd>> Lab::connect_out(const NetNs &host, const Endpoint &to, std::uint16_t from_port,
						  milliseconds deadline) {
	const Fd &listener = tcp_on(wan(), to.port);
	Connection connection = tcp_connect(host, to, {"0.0.0.0", from_port}, deadline);
	if (!connection)
		return std::nullopt;
	auto accepted = tcp_accept(listener, deadline);
	if (!accepted)
		return std::nullopt;
	return std::pair(std::move(connection.socket), std::move(*accepted));
}

bool Lab::talk(const Fd &remote, const Fd &host, const Endpoint &to, milliseconds deadline) {
	const std::string there = token(), back = token();
	udp_send(remote, to, there);
	const auto got = receive_token(host, there, deadline);
	if (!got)
		return false;
	udp_send(host, got->from, back);
	const auto answer = receive_token(remote, back, deadline);
	return answer && answer->from == to;
}

bool Lab::answers(const Fd &host, const Fd &remote, const Endpoint &to, milliseconds deadline) {
	const std::string text = token();
	udp_send(host, to, text);
	return receive_token(remote, text, deadline).has_value();
}

Fd Lab::start_talk(const NetNs &host, const Endpoint &remote, std::uint16_t port) {
	Fd socket = udp_socket(wan(), remote);
	if (!talk(socket, udp_on(host, port), {kWan, port}))
		throw std::runtime_error("no conversation through the open port");
	return socket;
}

void Lab::expect_closed_between(Clock::time_point since, milliseconds least, milliseconds most) {
	std::string who;
	const bool closed = eventually(most + 3s, [&] { return (who = who_gets_udp(6000)) == "gateway"; });
	const auto after = std::chrono::duration_cast<milliseconds>(Clock::now() - since);
	EXPECT_TRUE(closed) << "the port still leads to " << who << " after " << after.count() << " ms";
	EXPECT_GE(after, least);
	EXPECT_LE(after, most);
}

} // namespace lab
