// Traffic that is numbered, so that what is lost can be counted: datagrams one way, bytes both ways.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "tests/lab/sockets.h"

namespace lab {

/// Numbered datagrams from one socket to a port at a steady rate, and which of them have arrived at another.
class Flow {
public:
	/// `per_second` is a multiple of 1000; no more than `most` are sent.
	Flow(const Fd &from, const Endpoint &to, const Fd &at, int per_second, unsigned most = 1 << 20);
	~Flow() { finish(); }
	Flow(const Flow &) = delete;
	Flow &operator=(const Flow &) = delete;

	/// Stop sending and wait for the rest to arrive. How many were sent, and how many of them never came.
	std::pair<unsigned, unsigned> finish();
	unsigned sent() const { return sent_; }

private:
	void send();
	void receive();

	const Fd &from_, &at_;
	const int per_ms_;
	std::vector<bool> seen_;
	std::atomic<unsigned> sent_ = 0, arrived_ = 0;
	std::atomic<bool> stop_ = false, done_ = false;
	std::thread receiver_, sender_;
};

/// Bytes both ways over one connection, each told by its place, a few hundred kilobytes a second.
class Stream {
public:
	Stream(const Fd &one, const Fd &other);
	~Stream() { finish(); }
	Stream(const Stream &) = delete;
	Stream &operator=(const Stream &) = delete;

	struct Result {
		std::uint64_t sent = 0, lost = 0;
		unsigned broken = 0; ///< reset, closed or with a wrong byte: 1 for each direction
	};
	/// Stop sending and wait for the rest to arrive.
	Result finish();

private:
	struct Direction {
		const Fd &from, &to;
		std::uint64_t sent = 0, arrived = 0;
		bool broken = false;
		void push();
		void pull();
	};
	void run();

	Direction there_, back_;
	std::atomic<bool> stop_ = false;
	std::thread thread_;
};

} // namespace lab
