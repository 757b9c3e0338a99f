// Where ptrig runs: its network namespace, bpffs, kernel modules, and child processes.
#include "loader/system.h"

#include <array>
#include <bpf/libbpf.h>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

namespace ptrig {

namespace {

constexpr long kBpfFsMagic = 0xCAFE4A11; // BPF_FS_MAGIC of linux/magic.h
constexpr const char *kBpfFs = "/sys/fs/bpf";
constexpr std::size_t kMostOutput = 64U << 20;

/// Is anything mounted exactly there? Comparing devices fails for a bind mount, and the mount table also lists what is
/// hidden below a later mount of a parent.
bool is_mount_point(const std::string &path) {
	struct statx status {};
	return statx(AT_FDCWD, path.c_str(), AT_NO_AUTOMOUNT, 0, &status) == 0 &&
	       (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

class Pipe {
public:
	Pipe() = default;
	Pipe(const Pipe &) = delete;
	Pipe &operator=(const Pipe &) = delete;
	~Pipe() {
		close_end(0);
		close_end(1);
	}
	bool open() { return pipe2(ends_.data(), O_CLOEXEC) == 0; }
	int read_end() const { return ends_[0]; }
	int write_end() const { return ends_[1]; }
	void close_end(std::size_t end) {
		if (ends_[end] >= 0) {
			close(ends_[end]);
			ends_[end] = -1;
		}
	}

private:
	std::array<int, 2> ends_{-1, -1};
};

/// Starts it with no signal blocked or ignored and nothing inherited but the standard descriptors. Returns an errno.
int spawn(const std::vector<std::string> &argv, const Pipe &out, const Pipe &err, pid_t &child) {
	std::vector<char *> args;
	args.reserve(argv.size() + 1);
	for (const auto &argument : argv) {
		args.push_back(const_cast<char *>(argument.c_str()));
	}
	args.push_back(nullptr);
	char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", locale[] = "LC_ALL=C";
	char *environment[] = {path, locale, nullptr};
	posix_spawn_file_actions_t files;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out.write_end(), STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, err.write_end(), STDERR_FILENO);
	posix_spawnattr_t attributes;
	posix_spawnattr_init(&attributes);
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	int code = posix_spawn(&child, args[0], &files, &attributes, args.data(), environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return code;
}

/// Reads what is there; false at the end of the stream (or past all reason).
bool read_some(int fd, std::string &text) {
	std::array<char, 65536> buffer;
	auto bytes = read(fd, buffer.data(), buffer.size());
	if (bytes < 0) {
		return errno == EINTR || errno == EAGAIN;
	}
	text.append(buffer.data(), static_cast<std::size_t>(bytes));
	return bytes > 0 && text.size() < kMostOutput;
}

/// Collects output until both streams end and the child is gone. False: the time is up.
bool collect(int out, int err, int process, int timeout_ms, ChildOutput &output) {
	auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
	std::array<pollfd, 3> polled{{{out, POLLIN, 0}, {err, POLLIN, 0}, {process, POLLIN, 0}}};
	while (polled[0].fd >= 0 || polled[1].fd >= 0 || polled[2].fd >= 0) {
		auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline -
										  std::chrono::steady_clock::now());
		if (left.count() <= 0) {
			return false;
		}
		if (poll(polled.data(), polled.size(), static_cast<int>(left.count())) <= 0) {
			continue;
		}
		if (polled[0].revents != 0 && !read_some(out, output.out)) {
			polled[0].fd = -1;
		}
		if (polled[1].revents != 0 && !read_some(err, output.err)) {
			polled[1].fd = -1;
		}
		if (polled[2].revents != 0) {
			polled[2].fd = -1;
		}
	}
	return true;
}

} // namespace

Result<NetnsId> netns_identity() {
	struct stat info;
	if (stat("/proc/thread-self/ns/net", &info) != 0) {
		return system_error("identify the network namespace");
	}
	return NetnsId{info.st_dev, info.st_ino};
}

Result<bool> is_on_bpffs(const std::string &path) {
	std::error_code error;
	auto place = std::filesystem::absolute(path, error);
	struct statfs info;
	while (statfs(place.c_str(), &info) != 0) {
		int code = errno;
		if (code != ENOENT || place == place.parent_path()) {
			return system_error("look at " + place.string(), code);
		}
		place = place.parent_path();
	}
	return static_cast<std::uint32_t>(info.f_type) == static_cast<std::uint32_t>(kBpfFsMagic);
}

Done require_bpffs(const std::string &path) {
	auto on = is_on_bpffs(path);
	if (!on) {
		return tl::unexpected(on.error());
	}
	if (!*on) {
		return fail(path + " is not on a bpffs (mount -t bpf bpf " + kBpfFs +
			    "; `ip netns exec` hides the one that is there, `nsenter --net=/run/netns/NAME` does not)");
	}
	return {};
}

Result<bool> mount_bpffs() {
	auto on = is_on_bpffs(kBpfFs);
	if (!on) {
		return within("mount a bpffs", on.error());
	}
	if (*on) {
		return false;
	}
	if (is_mount_point(kBpfFs)) {
		return false; // somebody else's; require_bpffs tells it
	}
	if (mount("bpf", kBpfFs, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0) {
		return system_error(std::string("mount a bpffs at ") + kBpfFs);
	}
	return true;
}

std::vector<std::string> load_conntrack_modules() {
	std::vector<std::string> complaints;
	const char *modprobe = access("/sbin/modprobe", X_OK) == 0 ? "/sbin/modprobe" : "/usr/sbin/modprobe";
	for (const char *module : {"nf_conntrack", "nf_nat"}) {
		if (access((std::string("/sys/module/") + module).c_str(), F_OK) == 0) {
			continue;
		}
		auto output = run_child({modprobe, "-q", module}, 30000);
		if (!output) {
			complaints.push_back(output.error().what);
		} else if (output->status != 0) {
			complaints.push_back(std::string("modprobe ") + module + ": exit status " +
					     std::to_string(output->status));
		}
	}
	return complaints;
}

Result<unsigned> possible_cpus() {
	int count = libbpf_num_possible_cpus();
	if (count < 1) {
		return system_error("count the possible CPUs", -count);
	}
	return static_cast<unsigned>(count);
}

Result<ChildOutput> run_child(const std::vector<std::string> &argv, int timeout_ms) {
	const std::string doing = "run " + argv.front();
	Pipe out, err;
	if (!out.open() || !err.open()) {
		return system_error(doing);
	}
	pid_t child = -1;
	if (int code = spawn(argv, out, err, child); code != 0) {
		return system_error(doing, code);
	}
	out.close_end(1);
	err.close_end(1);
	// Without it (kernel < 5.3 or a sandbox) the streams' ends have to do.
	int process = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
	ChildOutput output;
	bool ended = collect(out.read_end(), err.read_end(), process, timeout_ms, output);
	if (process >= 0) {
		close(process);
	}
	if (!ended) {
		kill(child, SIGKILL);
	}
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
	}
	if (!ended) {
		return fail(doing + ": it took longer than " + std::to_string(timeout_ms / 1000) + " s");
	}
	output.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return output;
}

} // namespace ptrig
