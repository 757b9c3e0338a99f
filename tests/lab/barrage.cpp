// Shots in bursts, from a thread of their own; see barrage.h.
#include "tests/lab/barrage.h"

#include <poll.h>

#include <algorithm>

#include "tests/lab/lab.h"

namespace lab {

namespace {

constexpr unsigned kBurst = 32;
const MacBytes kGateway = to_mac("02:00:00:00:00:02"), kRouter = to_mac("02:00:00:00:00:10");

} // namespace

std::uint32_t any_remote(std::mt19937 &random) {
	for (;;) {
		const std::uint32_t address = random(), first = address >> 24;
		if (first >= 1 && first < 224 && first != 127 && address >> 16 != 0xc0a8 && address != to_number(kWan))
			return address;
	}
}

Barrage::Barrage(const NetNs &wan, unsigned total, unsigned per_second, std::function<Shot()> next)
    : sender_(wan, "eth0", kGateway), total_(total), per_second_(per_second), next_(std::move(next)),
      thread_([this] { run(); }) {}

void Barrage::run() {
	const auto start = Clock::now();
	const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
	for (unsigned sent = 0; sent < total_;) {
		const unsigned burst = std::min(kBurst, total_ - sent);
		for (unsigned i = 0; i < burst; i++)
			sender_.add(kRouter, next_());
		refused_ += sender_.send();
		sent += burst;
		seconds_ = passed();
		sent_ = sent;
		while (per_second_ && sent > passed() * per_second_)
			poll(nullptr, 0, 1);
	}
}

} // namespace lab
