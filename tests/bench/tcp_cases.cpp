// One TCP bulk stream through the gateway, between sockets, with every offload as it comes: what ordinary traffic
// loses by ptrig in `auto`, and how an open port compares with the recipe.
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <fmt/format.h>
#include <thread>

#include "tests/bench/cases.h"
#include "tests/bench/contender.h"
#include "tests/lab/sockets.h"

namespace bench {

namespace {

using Seconds = std::chrono::duration<double>;
using namespace std::chrono_literals;

/// Reads until the other end closes, or nothing comes for ten seconds. Bytes and the time from the first to the last.
double bytes_a_second(const lab::Fd &socket) {
	std::vector<char> buffer(1 << 20);
	std::uint64_t bytes = 0;
	auto first = lab::Clock::now(), last = first;
	pollfd wait{socket.get(), POLLIN, 0};
	while (poll(&wait, 1, 10000) > 0) {
		const ssize_t got = recv(socket.get(), buffer.data(), buffer.size(), 0);
		if (got <= 0)
			break;
		last = lab::Clock::now();
		if (bytes == 0)
			first = last;
		bytes += static_cast<std::uint64_t>(got);
	}
	const double took = Seconds(last - first).count();
	return took > 0 ? static_cast<double>(bytes) / took : 0;
}

/// Writes for so long, and never waits longer than ten seconds for room.
void fill(const lab::Fd &socket, Seconds time) {
	const std::vector<char> buffer(128 << 10, 'x');
	const auto end = lab::Clock::now() + std::chrono::duration_cast<lab::Clock::duration>(time);
	pollfd wait{socket.get(), POLLOUT, 0};
	while (lab::Clock::now() < end && poll(&wait, 1, 10000) > 0)
		if (send(socket.get(), buffer.data(), buffer.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
		    errno != EAGAIN)
			break;
}

/// A stream from `from` to `listener` at `to`; the receiver is on CPU 0, the sender and most of the gateway on CPU 1.
double stream(const lab::NetNs &from, const lab::NetNs &at, const lab::Endpoint &listen, const lab::Endpoint &to,
	      double seconds) {
	const lab::Fd listener = lab::tcp_listener(at, listen);
	lab::Connection sender = lab::tcp_connect(from, to, {}, 5s);
	const std::optional<lab::Fd> receiver = lab::tcp_accept(listener, 5s);
	if (!sender || !receiver)
		throw std::runtime_error("no connection to " + lab::to_string(to));
	double rate = 0;
	std::thread reading([&] {
		pin_to_cpu(0);
		rate = bytes_a_second(*receiver);
	});
	fill(sender.socket, Seconds(seconds));
	shutdown(sender.socket.get(), SHUT_WR);
	reading.join();
	return rate;
}

double ordinary(Contender &contender, double seconds) {
	const Rig &rig = contender.rig();
	return stream(rig.host(), rig.remote(), {"203.0.113.10", 5001}, {"203.0.113.10", 5001}, seconds);
}

double opened(Contender &contender, double seconds) {
	const Rig &rig = contender.rig();
	return stream(rig.remote(), rig.host(), {"192.168.77.11", kOpenPort}, {"203.0.113.2", kOpenPort}, seconds);
}

using Measure = double (*)(Contender &, double);

void run(const std::string &name, const std::string &peer, double target, Measure measure, const Options &options,
	 Report &report) {
	report.begin(name);
	Wanted wanted;
	wanted.sinks = false;
	const auto without = make_contender(peer, wanted), with = make_contender("auto", wanted);
	std::vector<double> peers, ours;
	for (int round = 0; round < options.rounds; round++) {
		peers.push_back(measure(*without, std::max(options.seconds, 0.5)));
		ours.push_back(measure(*with, std::max(options.seconds, 0.5)));
	}
	for (const auto &[who, bytes] : {std::pair(peer, peers), std::pair(std::string("auto"), ours)})
		report.note(fmt::format("{:10} {:.2f} Gbit/s", who, median(bytes) * 8 / 1e9));
	report.at_least(fmt::format("{}: auto ÷ {}", name, peer), target, ratio(ours, peers));
}

} // namespace

std::vector<Case> tcp_cases() {
	return {
		{"tcp bulk, ordinary",
		 [](const Options &options, Report &report) {
			 run("tcp bulk, ordinary", "masquerade", 0.98, ordinary, options, report);
		 }},
		{"tcp bulk, open port",
		 [](const Options &options, Report &report) {
			 run("tcp bulk, open port", "nft", 1.0, opened, options, report);
		 }},
	};
}

} // namespace bench
