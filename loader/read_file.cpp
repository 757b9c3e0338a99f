// Files that others have put somewhere: what is opened may be no file at all, and must not hold anybody up.
#include "loader/read_file.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace ptrig {

namespace {

const char *kind_of(mode_t mode) {
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a pipe (FIFO)";
	case S_IFSOCK:
		return "a socket";
	default:
		return "a device";
	}
}

Result<std::string> read_if_regular(int fd, std::size_t most) {
	struct stat status {};
	if (::fstat(fd, &status) != 0)
		return system_error("cannot be read");
	if (!S_ISREG(status.st_mode))
		return fail(fmt::format("is {}: a regular file is wanted", kind_of(status.st_mode)), Status::kInput);
	return read_all(fd, most);
}

} // namespace

Result<std::string> read_all(int fd, std::size_t most) {
	std::string text;
	std::array<char, 65536> part;
	for (;;) {
		const ssize_t got = ::read(fd, part.data(), part.size());
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return system_error("cannot be read");
		if (got == 0)
			return text;
		text.append(part.data(), static_cast<std::size_t>(got));
		if (text.size() > most)
			return fail(fmt::format("is larger than {} MiB", most >> 20), Status::kInput);
	}
}

Result<std::string> read_regular_file(const std::string &path, std::size_t most) {
	// Opening a FIFO waits for its writer, opening a terminal may wait for its line.
	const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ENXIO)
		return fail("is a socket or a device without its hardware: a regular file is wanted", Status::kInput);
	if (fd < 0)
		return system_error("cannot be read");
	auto text = read_if_regular(fd, most);
	::close(fd);
	return text;
}

} // namespace ptrig
