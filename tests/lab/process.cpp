// Runs programs: fork, enter the namespace, exec; a pidfd tells their end.
#include "tests/lab/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

namespace lab {

namespace {

Fd memory_file(const char *name, const std::string &content = "") {
	Fd fd(memfd_create(name, MFD_CLOEXEC));
	if (fd.get() < 0)
		throw std::system_error(errno, std::generic_category(), "memfd_create");
	size_t done = 0;
	while (done < content.size()) {
		const ssize_t n = write(fd.get(), content.data() + done, content.size() - done);
		if (n < 0)
			throw std::system_error(errno, std::generic_category(), "write to a memory file");
		done += static_cast<size_t>(n);
	}
	lseek(fd.get(), 0, SEEK_SET);
	return fd;
}

std::string content_of(const Fd &fd) {
	std::string text;
	char part[65536];
	ssize_t n = 0;
	while ((n = pread(fd.get(), part, sizeof(part), static_cast<off_t>(text.size()))) > 0)
		text.append(part, static_cast<size_t>(n));
	return text;
}

/// In the child, between fork and exec: only what is safe there.
[[noreturn]] void become(int netns, const std::vector<char *> &argv, int in, int out, int err, uid_t uid) {
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (setns(netns, CLONE_NEWNET) < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(126);
	if (uid != 0 && (setgid(uid) < 0 || setuid(uid) < 0))
		_exit(126);
	execvp(argv[0], argv.data());
	static constexpr char kNotFound[] = "lab: program not found\n";
	if (write(2, kNotFound, sizeof(kNotFound) - 1) < 0)
		_exit(126);
	_exit(127);
}

} // namespace

milliseconds patient(milliseconds deadline) {
	static const char *const wanted = std::getenv("PTRIG_LAB_PATIENCE");
	static const int times = wanted == nullptr ? 1 : std::max(1, std::atoi(wanted));
	return deadline * times;
}

bool is_slow() {
	return patient(1ms) > 1ms;
}

Process::Process(const NetNs &where, const Words &words, const std::string &input, uid_t uid)
    : out_(memory_file("stdout")), err_(memory_file("stderr")) {
	const Fd in = memory_file("stdin", input);
	std::vector<char *> argv;
	for (const std::string &word : words)
		argv.push_back(const_cast<char *>(word.c_str()));
	argv.push_back(nullptr);
	pid_ = fork();
	if (pid_ < 0)
		throw std::system_error(errno, std::generic_category(), "fork");
	if (pid_ == 0)
		become(where.fd(), argv, in.get(), out_.get(), err_.get(), uid);
	pidfd_ = Fd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
}

Process::Process(Process &&other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)), out_(std::move(other.out_)),
      err_(std::move(other.err_)) {}

Process::~Process() {
	if (pid_ < 0)
		return;
	kill(-pid_, SIGKILL);
	kill(pid_, SIGKILL);
	waitpid(pid_, nullptr, 0);
}

void Process::signal(int number) const {
	if (pid_ > 0)
		kill(pid_, number);
}

std::optional<Output> Process::wait(milliseconds deadline) {
	pollfd ended{pidfd_.get(), POLLIN, 0};
	if (poll(&ended, 1, static_cast<int>(patient(deadline).count())) <= 0)
		return std::nullopt;
	int status = 0;
	rusage usage{};
	if (wait4(std::exchange(pid_, -1), &status, 0, &usage) < 0)
		throw std::system_error(errno, std::generic_category(), "wait4");
	const auto seconds = [](const timeval &t) { return double(t.tv_sec) + double(t.tv_usec) / 1e6; };
	return Output{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), out(), err(),
		      seconds(usage.ru_utime) + seconds(usage.ru_stime)};
}

std::string Process::out() const {
	return content_of(out_);
}
std::string Process::err() const {
	return content_of(err_);
}

Output run(const NetNs &where, const Words &words, const std::string &input, milliseconds deadline, uid_t uid) {
	Process process(where, words, input, uid);
	if (auto output = process.wait(deadline))
		return *output;
	return {255, process.out(), process.err() + "(killed at its deadline)\n", 0};
}

std::string must(const NetNs &where, const Words &words, const std::string &input) {
	Output output = run(where, words, input);
	if (output.status == 0)
		return std::move(output.out);
	std::string line;
	for (const std::string &word : words)
		line += word + " ";
	throw std::runtime_error(line + "in " + where.name() + ": status " + std::to_string(output.status) + ": " +
				 output.err + output.out);
}

bool eventually(milliseconds deadline, const std::function<bool()> &what) {
	const auto end = Clock::now() + patient(deadline);
	while (!what()) {
		if (Clock::now() >= end)
			return false;
		poll(nullptr, 0, 20);
	}
	return true;
}

} // namespace lab
