// Programs in namespaces: run to their end under a deadline, or kept in the background and killed with
// their object. Output goes to memory files, so a child that outlives its parent blocks nobody.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/lab/netns.h"

namespace lab {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

/// A deadline, as many times as long as PTRIG_LAB_PATIENCE says, for machines that are slow: 1 unless it is set. Only
/// for what must come at last, never for what a story measures.
milliseconds patient(milliseconds deadline);
/// The machine is slow, by PTRIG_LAB_PATIENCE: a story that demands a rate of packets cannot hold there.
bool is_slow();

/// How a program ended. status is its exit status, 128 + the signal that ended it, or 255 past the deadline.
struct Output {
	int status = 255;
	std::string out, err;
	double cpu_s = 0; ///< user and system time
};

using Words = std::vector<std::string>;

/// A program that runs until its object goes, or until it ends by itself.
class Process {
public:
	/// `uid` other than 0: run as that user, without capabilities.
	Process(const NetNs &where, const Words &words, const std::string &input = "", uid_t uid = 0);
	Process(Process &&other) noexcept;
	Process(const Process &) = delete;
	Process &operator=(Process &&) = delete;
	~Process();

	pid_t pid() const { return pid_; }
	void signal(int number) const;
	/// Its end, or nothing if it still runs at the deadline, which is patient.
	std::optional<Output> wait(milliseconds deadline);
	/// What it has written so far.
	std::string out() const;
	std::string err() const;

private:
	pid_t pid_ = -1;
	Fd pidfd_, out_, err_;
};

/// Run to the end; past the deadline, which is patient, it is killed and status is 255.
Output run(const NetNs &where, const Words &words, const std::string &input = "", milliseconds deadline = 20s,
	   uid_t uid = 0);
/// The same, throwing std::runtime_error unless it exits with 0. Returns what it wrote to stdout.
std::string must(const NetNs &where, const Words &words, const std::string &input = "");

/// Poll until `what` holds; false at the deadline, which is patient.
bool eventually(milliseconds deadline, const std::function<bool()> &what);

} // namespace lab
