// What the internet may send at a gateway, from any address and many at a time.
#pragma once

#include <atomic>
#include <functional>
#include <random>
#include <thread>

#include "tests/lab/frames.h"

namespace lab {

/// An address as the internet has them: not the gateway's LANs, whose forged packets the kernel would answer there.
std::uint32_t any_remote(std::mt19937 &random);

/// Sends `total` shots at the gateway in bursts, no more than so many a second (0: as fast as it goes).
class Barrage {
public:
	Barrage(const NetNs &wan, unsigned total, unsigned per_second, std::function<Shot()> next);
	~Barrage() { thread_.join(); }
	Barrage(const Barrage &) = delete;
	Barrage &operator=(const Barrage &) = delete;

	bool over() const { return sent_ >= total_; }
	unsigned sent() const { return sent_; }
	unsigned refused() const { return refused_; }
	double seconds() const { return seconds_; }
	unsigned rate() const { return static_cast<unsigned>(total_ / seconds_); } ///< once it is over

private:
	void run();

	FrameSender sender_;
	const unsigned total_, per_second_;
	std::function<Shot()> next_;
	std::atomic<unsigned> sent_ = 0, refused_ = 0;
	std::atomic<double> seconds_ = 0;
	std::thread thread_;
};

} // namespace lab
