// The fixture of the policy stories: where their rules stand, and their traffic.
#include "tests/lab/policy.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/lab/soak.h"

namespace lab {

bool line_arrives(const Fd &from, const Fd &to, milliseconds deadline) {
	static unsigned counter = 0;
	const std::string line = "policy line " + std::to_string(++counter) + "\n";
	if (send(from.get(), line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
		return false;
	const auto end = Clock::now() + deadline;
	for (std::string got; got.find(line) == std::string::npos;) {
		const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now());
		pollfd wanted{to.get(), POLLIN, 0};
		if (poll(&wanted, 1, static_cast<int>(std::max(0ms, left).count())) <= 0)
			return false;
		char part[256];
		const ssize_t n = recv(to.get(), part, sizeof(part), 0);
		if (n <= 0)
			return false;
		got.append(part, static_cast<std::size_t>(n));
	}
	return true;
}

PacketCount::PacketCount(const NetNs &where, const std::string &hook, const std::string &match) : where_(where) {
	must(where, {"nft", "-f", "-"},
	     "table inet soak {\n\tcounter of_udp { }\n\tcounter of_tcp { }\n\tchain counting {\n\t\ttype filter "
	     "hook " +
		     hook + "\n\t\t" + match + " meta l4proto udp counter name of_udp\n\t\t" + match +
		     " meta l4proto tcp counter name of_tcp\n\t}\n}\n");
}
PacketCount::~PacketCount() {
	run(where_, {"nft", "delete table inet soak"});
}
std::uint64_t PacketCount::udp() const {
	return counted_by(where_, "of_udp");
}
std::uint64_t PacketCount::tcp() const {
	return counted_by(where_, "of_tcp");
}

void PolicyLab::place_chains() {
	if (placed_)
		return;
	placed_ = true;
	nft("add chain inet lab behind\nadd rule inet lab forward index 0 jump behind\n");
	nft("add chain inet lab front\ninsert rule inet lab forward jump front\n");
}

namespace {

std::string only(const std::string &chain, const std::vector<std::string> &rules) {
	std::string text = "flush chain inet lab " + chain + "\n";
	for (const std::string &rule : rules)
		text += "add rule inet lab " + chain + " " + rule + "\n";
	return text;
}

} // namespace

void PolicyLab::in_front(const std::vector<std::string> &rules) {
	place_chains();
	nft(only("front", rules));
}

void PolicyLab::behind(const std::vector<std::string> &rules) {
	place_chains();
	nft(only("behind", rules));
}

PolicyLab::Sessions PolicyLab::begin_sessions(const NetNs &host, const std::string &remote, std::uint16_t port) {
	Fd udp = start_talk(host, {remote, 0}, port);
	auto [tcp, tcp_host] = connect_in(port, host, remote);
	return {std::move(udp), std::move(tcp), std::move(tcp_host), udp_on(host, port), port};
}

bool PolicyLab::udp_comes_in(const Sessions &sessions, milliseconds deadline) {
	return answers(sessions.udp, sessions.udp_host, {kWan, sessions.port}, deadline);
}
bool PolicyLab::udp_goes_out(const Sessions &sessions, milliseconds deadline) {
	return answers(sessions.udp_host, sessions.udp, local_end(sessions.udp), deadline);
}
bool PolicyLab::tcp_comes_in(const Sessions &sessions, milliseconds deadline) {
	return line_arrives(sessions.tcp, sessions.tcp_host, deadline);
}
bool PolicyLab::tcp_goes_out(const Sessions &sessions, milliseconds deadline) {
	return line_arrives(sessions.tcp_host, sessions.tcp, deadline);
}

testing::AssertionResult PolicyLab::run_both_ways(const Sessions &sessions) {
	std::string fails;
	if (!udp_comes_in(sessions))
		fails += " UDP comes in,";
	if (!udp_goes_out(sessions))
		fails += " UDP goes out,";
	if (!tcp_comes_in(sessions))
		fails += " TCP comes in,";
	if (!tcp_goes_out(sessions))
		fails += " TCP goes out,";
	return fails.empty() ? testing::AssertionSuccess() : testing::AssertionFailure() << "not so:" << fails;
}

bool PolicyLab::own_udp(const NetNs &host, std::uint16_t from, const Endpoint &to, milliseconds deadline) {
	return answers(udp_on(host, from), udp_on(wan(), to.port), to, deadline);
}

bool PolicyLab::own_tcp(const NetNs &host, std::uint16_t from, const Endpoint &to, milliseconds deadline) {
	return connect_out(host, to, from, deadline).has_value();
}

bool PolicyLab::reaches_udp(const Endpoint &open, const NetNs &host, milliseconds deadline) {
	return answers(udp_socket(wan(), {kRemote1, 0}), udp_on(host, open.port), open, deadline);
}

bool PolicyLab::reaches_tcp(const Endpoint &open, const NetNs &host, milliseconds deadline) {
	const Fd &listener = tcp_on(host, open.port);
	const Connection connection = tcp_connect(wan(), open, {kRemote1, 0}, deadline);
	return connection && tcp_accept(listener, deadline).has_value();
}

} // namespace lab
