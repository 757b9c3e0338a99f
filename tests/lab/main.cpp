// Runs the stories where they can touch nothing: as children in their own network, mount and PID namespaces
// with their own /run, bpffs and /etc, several side by side (gtest's shards; PTRIG_LAB_JOBS, default 4; an even
// number keeps each shard to one datapath, whose gateway then serves story after story).
// Without root every story is skipped by name; with CI=true a skip is a failure.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "tests/lab/lab.h"

namespace lab {

std::string why_not;

} // namespace lab

namespace {

constexpr const char *kInside = "PTRIG_LAB_INSIDE";

/// A private place for everything that the stories or ptrig write; the error if there cannot be one.
std::string make_private() {
	const auto failed = [](const char *doing) { return std::string(doing) + ": " + std::strerror(errno); };
	if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0)
		return failed("make mounts private");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) < 0)
		return failed("mount /proc");
	if (mount("tmpfs", "/run", "tmpfs", 0, "mode=755") < 0)
		return failed("mount /run");
	if (mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=700") < 0)
		return failed("mount /sys/fs/bpf");
	// A copy, not an overlay: it works on every file system. /etc/ptrig and the programs' own files live in it.
	if (std::system("mkdir /run/etc && cp -a /etc/. /run/etc/ && rm -rf /run/etc/ptrig && mkdir /run/etc/ptrig") !=
	    0)
		return "copy /etc";
	if (mount("/run/etc", "/etc", nullptr, MS_BIND, nullptr) < 0)
		return failed("mount /etc");
	return {};
}

/// PID 1 of the shard: runs the stories in a child and buries what they leave behind.
int init_process(char **argv) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (const std::string error = make_private(); !error.empty()) {
		std::cerr << "lab: " << error << "\n";
		return 1;
	}
	const pid_t child = fork();
	if (child == 0) {
		setenv(kInside, "1", 1);
		execv("/proc/self/exe", argv);
		_exit(127);
	}
	int status = 0;
	pid_t ended = 0;
	while ((ended = waitpid(-1, &status, 0)) != child)
		if (ended < 0 && errno != EINTR)
			return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Enter new namespaces and run one shard there. Never returns.
[[noreturn]] void shard_process(char **argv, int index, int count) {
	if (count > 1) {
		setenv("GTEST_TOTAL_SHARDS", std::to_string(count).c_str(), 1);
		setenv("GTEST_SHARD_INDEX", std::to_string(index).c_str(), 1);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID) < 0)
		_exit(126);
	const pid_t child = fork();
	if (child == 0)
		_exit(init_process(argv));
	int status = 0;
	waitpid(child, &status, 0);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

struct Shard {
	pid_t pid = -1;
	int output = -1;
	std::string line; ///< what has come since the last newline
};

Shard start_shard(char **argv, int index, int count) {
	int ends[2] = {-1, -1};
	if (count > 1 && pipe2(ends, O_CLOEXEC) < 0)
		return {};
	const pid_t pid = fork();
	if (pid == 0) {
		if (count > 1) {
			dup2(ends[1], 1);
			dup2(ends[1], 2);
		}
		shard_process(argv, index, count);
	}
	if (count > 1)
		close(ends[1]);
	return {pid, ends[0], {}};
}

/// Pass on the shards' lines as they come, each with its shard's number in front.
void relay(std::vector<Shard> &shards) {
	size_t running = shards.size();
	while (running > 0) {
		std::vector<pollfd> wanted;
		for (const Shard &shard : shards)
			wanted.push_back({shard.output, POLLIN, 0});
		poll(wanted.data(), wanted.size(), -1);
		for (size_t i = 0; i < shards.size(); i++) {
			if (!wanted[i].revents)
				continue;
			char part[4096];
			const ssize_t n = read(shards[i].output, part, sizeof(part));
			if (n <= 0) {
				close(std::exchange(shards[i].output, -1));
				running--;
				continue;
			}
			std::string &line = shards[i].line.append(part, static_cast<size_t>(n));
			for (size_t end = 0; (end = line.find('\n')) != std::string::npos; line.erase(0, end + 1))
				std::cout << i << "| " << line.substr(0, end + 1) << std::flush;
		}
	}
}

int run_shards(char **argv, int count) {
	std::vector<Shard> shards;
	for (int i = 0; i < count; i++)
		shards.push_back(start_shard(argv, i, count));
	if (count > 1)
		relay(shards);
	int worst = 0;
	for (const Shard &shard : shards) {
		int status = 0;
		waitpid(shard.pid, &status, 0);
		worst = std::max(worst, WIFEXITED(status) ? WEXITSTATUS(status) : 128);
	}
	if (count > 1)
		std::cout << (worst == 0 ? "every shard passed\n" : "a shard FAILED\n");
	return worst;
}

bool can_isolate() {
	const pid_t child = fork();
	if (child == 0)
		_exit(unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID) == 0 ? 0 : 1);
	int status = 1;
	waitpid(child, &status, 0);
	return geteuid() == 0 && status == 0;
}

int run_stories() {
	const int failed = RUN_ALL_TESTS();
	const int skipped = testing::UnitTest::GetInstance()->skipped_test_count();
	const char *ci = std::getenv("CI");
	if (skipped > 0 && ci != nullptr && std::strcmp(ci, "true") == 0) {
		std::cerr << "lab: " << skipped << " skipped, which CI=true makes a failure\n";
		return 1;
	}
	return failed;
}

} // namespace

int main(int argc, char **argv) {
	const std::vector<char *> words(argv, argv + argc + 1); // gtest removes its own from argv
	testing::InitGoogleTest(&argc, argv);
	if (std::getenv(kInside) != nullptr || testing::GTEST_FLAG(list_tests))
		return run_stories();
	if (!can_isolate()) {
		lab::why_not = "needs root: namespaces, BPF, nftables";
		return run_stories();
	}
	const char *jobs = std::getenv("PTRIG_LAB_JOBS");
	const bool one_file = !testing::GTEST_FLAG(output).empty() || std::getenv("GTEST_TOTAL_SHARDS") != nullptr;
	const int count = one_file ? 1 : std::max(1, jobs != nullptr ? std::atoi(jobs) : 4);
	return run_shards(const_cast<char **>(words.data()), count);
}
