// Numbered datagrams and bytes; see flow.h.
#include "tests/lab/flow.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace lab {

Flow::Flow(const Fd &from, const Endpoint &to, const Fd &at, int per_second, unsigned most)
    : from_(from), at_(at), per_ms_(per_second / 1000), seen_(most) {
	udp_connect(from_, to);
	const int size = 64 << 20;
	setsockopt(at_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	receiver_ = std::thread([this] { receive(); });
	sender_ = std::thread([this] { send(); });
}

std::pair<unsigned, unsigned> Flow::finish() {
	if (!sender_.joinable())
		return {sent_, 0};
	stop_ = true;
	sender_.join();
	eventually(2s, [&] { return arrived_ >= sent_; });
	done_ = true;
	receiver_.join();
	return {sent_, sent_ - arrived_};
}

void Flow::send() {
	const auto start = Clock::now();
	while (!stop_ && sent_ + unsigned(per_ms_) < seen_.size()) {
		const auto due = std::chrono::duration_cast<milliseconds>(Clock::now() - start).count() * per_ms_;
		while (sent_ < due && sent_ < seen_.size() && !stop_) {
			const unsigned number = sent_;
			if (::send(from_.get(), &number, sizeof(number), 0) == ssize_t(sizeof(number)))
				sent_ = number + 1;
		}
		poll(nullptr, 0, 1);
	}
}

void Flow::receive() {
	while (!done_) {
		const auto got = udp_receive(at_, 20ms);
		unsigned number = 0;
		if (!got || got->data.size() != sizeof(number))
			continue;
		std::memcpy(&number, got->data.data(), sizeof(number));
		if (number < seen_.size() && !seen_[number]) {
			seen_[number] = true;
			arrived_++;
		}
	}
}

namespace {

char byte_at(std::uint64_t place) {
	return static_cast<char>((place * 0x9e3779b97f4a7c15) >> 56);
}

} // namespace

Stream::Stream(const Fd &one, const Fd &other) : there_{one, other}, back_{other, one}, thread_([this] { run(); }) {}

void Stream::Direction::push() {
	std::array<char, 256> part{};
	for (size_t i = 0; i < part.size(); i++)
		part[i] = byte_at(sent + i);
	const ssize_t n = send(from.get(), part.data(), part.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		sent += static_cast<std::uint64_t>(n);
	else if (errno != EAGAIN)
		broken = true;
}

void Stream::Direction::pull() {
	std::array<char, 65536> part{};
	const ssize_t n = recv(to.get(), part.data(), part.size(), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		broken = true;
	for (ssize_t i = 0; i < n; i++)
		if (part[static_cast<size_t>(i)] != byte_at(arrived++))
			broken = true;
}

void Stream::run() {
	Clock::time_point end = Clock::time_point::max();
	const auto going_on = [&] { return there_.sent > there_.arrived || back_.sent > back_.arrived; };
	while (Clock::now() < end && !(there_.broken || back_.broken)) {
		if (stop_ && end == Clock::time_point::max())
			end = Clock::now() + 15s; // for what must be sent again
		if (stop_ && !going_on())
			break;
		for (Direction *way : {&there_, &back_}) {
			if (!stop_)
				way->push();
			way->pull();
		}
		poll(nullptr, 0, 1);
	}
}

Stream::Result Stream::finish() {
	stop_ = true;
	if (thread_.joinable())
		thread_.join();
	return {there_.sent + back_.sent, there_.sent - there_.arrived + back_.sent - back_.arrived,
		unsigned(there_.broken) + unsigned(back_.broken)};
}

} // namespace lab
