// Locks between processes: writers take turns, one daemon per pin directory.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <sstream>
#include <string>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "loader/gateway.h"
#include "loader/read_file.h"
#include "loader/system.h"

namespace ptrig {

namespace {

/// Opens the file, made with its directory if need be. An fd that the caller owns.
Result<int> open_lock_file(const std::string &path) {
	auto slash = path.rfind('/');
	if (slash != std::string::npos && slash > 0) {
		if (mkdir(path.substr(0, slash).c_str(), 0755) != 0 && errno != EEXIST) {
			return system_error("make " + path.substr(0, slash));
		}
	}
	int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return system_error("open " + path);
	}
	return fd;
}

struct flock whole_file() {
	struct flock lock {};
	lock.l_type = F_WRLCK;
	lock.l_whence = SEEK_SET;
	return lock;
}

/// The number in the file; unset while its writer has not come to it.
std::optional<int> read_pid(int fd) {
	char text[16];
	auto bytes = pread(fd, text, sizeof text, 0);
	int pid = 0;
	if (bytes <= 0 || std::from_chars(text, text + bytes, pid).ec != std::errc() || pid <= 0) {
		return std::nullopt;
	}
	return pid;
}

void close_if_open(int fd) {
	if (fd >= 0) {
		close(fd);
	}
}

} // namespace

std::string runtime_file(const std::string &pin_dir, std::string_view name) {
	std::string path = "/run/ptrig/" + std::string(name);
	std::string place = pin_dir;
	while (place.size() > 1 && place.back() == '/') {
		place.pop_back();
	}
	if (place == kDefaultPinDir) {
		return path;
	}
	std::replace(place.begin(), place.end(), '/', '-');
	return path + (place.starts_with('-') ? "" : "-") + place;
}

Result<FileLock> FileLock::lock(const std::string &path, int operation) {
	auto fd = open_lock_file(path);
	if (!fd) {
		return tl::unexpected(fd.error());
	}
	FileLock held(*fd);
	while (flock(*fd, operation) != 0) {
		int code = errno;
		if (code == EINTR) {
			continue;
		}
		if (code == EWOULDBLOCK) {
			close_if_open(std::exchange(held.fd_, -1));
			break;
		}
		return system_error("lock " + path, code);
	}
	return held;
}

Result<FileLock> FileLock::acquire(const std::string &path) {
	return lock(path, LOCK_EX);
}

Result<std::optional<FileLock>> FileLock::try_acquire(const std::string &path) {
	auto held = lock(path, LOCK_EX | LOCK_NB);
	if (!held) {
		return tl::unexpected(held.error());
	}
	return held->fd_ < 0 ? std::optional<FileLock>() : std::optional<FileLock>(std::move(*held));
}

FileLock::FileLock(FileLock &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
FileLock &FileLock::operator=(FileLock &&other) noexcept {
	std::swap(fd_, other.fd_);
	return *this;
}
FileLock::~FileLock() {
	close_if_open(fd_);
}

// An OFD lock instead of flock, because it can be asked about without taking it: a `status` that took it for a
// moment would make a daemon that starts just then give up.
Result<DaemonLock> DaemonLock::take(const std::string &path) {
	auto fd = open_lock_file(path);
	if (!fd) {
		return tl::unexpected(fd.error());
	}
	DaemonLock held(*fd);
	auto lock = whole_file();
	if (fcntl(*fd, F_OFD_SETLK, &lock) != 0) {
		int code = errno;
		if (code == EAGAIN || code == EACCES) {
			auto pid = read_pid(*fd);
			return fail("a daemon runs already" +
				    (pid ? " (pid " + std::to_string(*pid) + ")" : std::string()));
		}
		return system_error("lock " + path, code);
	}
	auto text = std::to_string(getpid()) + "\n";
	if (ftruncate(*fd, 0) != 0 || pwrite(*fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
		return system_error("write " + path);
	}
	return held;
}

DaemonLock::DaemonLock(DaemonLock &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
DaemonLock &DaemonLock::operator=(DaemonLock &&other) noexcept {
	std::swap(fd_, other.fd_);
	return *this;
}
DaemonLock::~DaemonLock() {
	close_if_open(fd_);
}

Result<std::optional<int>> daemon_pid(const std::string &path) {
	int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		int code = errno;
		if (code == ENOENT || code == ENOTDIR) {
			return std::optional<int>();
		}
		return system_error("open " + path, code);
	}
	auto lock = whole_file();
	int failed = fcntl(fd, F_OFD_GETLK, &lock);
	int code = errno;
	auto pid = read_pid(fd);
	close(fd);
	if (failed != 0) {
		return system_error("look at the lock " + path, code);
	}
	// Locked and not yet written: a daemon starts right now; 0 is no process, so its pid counts as unknown.
	return lock.l_type == F_UNLCK ? std::optional<int>() : pid ? pid : std::optional<int>(0);
}

Done write_trouble(const std::string &path, const std::vector<std::string> &lines) {
	if (lines.empty()) {
		if (unlink(path.c_str()) != 0 && errno != ENOENT) {
			return system_error("remove " + path);
		}
		return {};
	}
	std::string text;
	for (const auto &line : lines) {
		text += line + "\n";
	}
	const std::string fresh = path + ".new";
	const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return system_error("write " + fresh);
	}
	const auto written = write(fd, text.data(), text.size());
	const int code = errno;
	close(fd);
	if (written != static_cast<ssize_t>(text.size())) {
		return system_error("write " + fresh, written < 0 ? code : ENOSPC);
	}
	if (rename(fresh.c_str(), path.c_str()) != 0) {
		return system_error("rename to " + path);
	}
	return {};
}

std::vector<std::string> read_trouble(const std::string &path) {
	constexpr std::size_t kMost = 1U << 20;
	std::vector<std::string> lines;
	if (const auto text = read_regular_file(path, kMost)) {
		std::istringstream stream(*text);
		for (std::string line; std::getline(stream, line);) {
			lines.push_back(line);
		}
	}
	return lines;
}

} // namespace ptrig
