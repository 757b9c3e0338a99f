// See pins.h. Only this file makes, renames and removes anything on the bpffs.
#include "loader/pins.h"

#include <filesystem>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/system.h"

namespace ptrig {

namespace {

constexpr const char *kBpffs = "/sys/fs/bpf";

std::string parent_of(const std::string &dir) {
	const auto parent = std::filesystem::path(dir).parent_path().string();
	return parent.empty() ? "." : parent;
}

/// Whether mounts made here are the machine's (or the container's): those of PID 1.
bool shares_mounts() {
	struct stat mine {
	}, init{};
	return stat("/proc/self/ns/mnt", &mine) == 0 && stat("/proc/1/ns/mnt", &init) == 0 &&
	       mine.st_ino == init.st_ino && mine.st_dev == init.st_dev;
}

Done check_owner(const std::string &path) {
	struct stat st {};
	if (lstat(path.c_str(), &st) < 0) {
		const int code = errno;
		if (code == ENOENT || code == ENOTDIR)
			return fail("no gateway at " + path, Status::kNoGateway);
		return system_error("look at " + path, code);
	}
	if (S_ISLNK(st.st_mode))
		return fail(path + " is a symlink; pins are only used where they are");
	if (st.st_uid != 0)
		return fail(path + " is not owned by root");
	if (st.st_mode & 077)
		return fail(path + " is open to others than root (it must be 0700, its files 0600)");
	return {};
}

/// The same of everything in `dir`; what goes meanwhile is not looked at.
Done check_contents(const std::string &dir) {
	std::error_code code;
	for (std::filesystem::recursive_directory_iterator entry(dir, code), end; !code && entry != end;
	     entry.increment(code))
		if (auto ours = check_owner(entry->path().string()); !ours && ours.error().status != Status::kNoGateway)
			return ours;
	if (code && code != std::errc::no_such_file_or_directory)
		return system_error("list " + dir, code.value());
	return {};
}

/// `how`: LOCK_EX, or LOCK_EX | LOCK_NB: no Fd then if another holds it.
Result<Fd> lock_directory(const std::string &dir, int how = LOCK_EX) {
	for (;;) {
		Fd fd(open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
		if (!fd) {
			const int code = errno;
			if (code == ENOENT)
				return fail("no gateway at " + dir, Status::kNoGateway);
			return system_error("open " + dir, code);
		}
		while (flock(fd.get(), how) < 0) {
			const int code = errno;
			if (code == EWOULDBLOCK)
				return Fd();
			if (code != EINTR)
				return system_error("lock " + dir, code);
		}
		// It may have been renamed or removed while we waited.
		struct stat held {
		}, there{};
		if (fstat(fd.get(), &held) == 0 && lstat(dir.c_str(), &there) == 0 && held.st_ino == there.st_ino)
			return fd;
	}
}

std::string old_pins_path(const std::string &dir) {
	return dir + "_old";
}

bool exists(const std::string &path) {
	struct stat st {};
	return lstat(path.c_str(), &st) == 0;
}

Done make_directory(const std::string &path) {
	if (mkdir(path.c_str(), 0700) < 0) {
		const int code = errno;
		return system_error("make " + path, code);
	}
	return {};
}

/// Remove everything in `dir`; the directory itself stays.
Done empty_directory(const std::string &dir) {
	std::error_code code;
	std::vector<std::filesystem::path> entries;
	for (const auto &entry : std::filesystem::directory_iterator(dir, code))
		entries.push_back(entry.path());
	if (code)
		return system_error("list " + dir, code.value());
	for (const auto &entry : entries) {
		std::filesystem::remove_all(entry, code);
		if (code)
			return system_error("remove " + entry.string(), code.value());
	}
	return {};
}

Done remove_directory(const std::string &dir) {
	if (auto empty = empty_directory(dir); !empty)
		return empty;
	if (rmdir(dir.c_str()) < 0) {
		const int code = errno;
		return system_error("remove " + dir, code);
	}
	return {};
}

} // namespace

std::string clean_pin_dir(std::string dir) {
	while (dir.size() > 1 && dir.back() == '/')
		dir.pop_back();
	return dir;
}

Done prepare_bpffs(const std::string &dir) {
	if (dir.rfind(std::string(kBpffs) + "/", 0) == 0 && shares_mounts())
		if (auto mounted = mount_bpffs(); !mounted)
			return tl::unexpected(std::move(mounted.error()));
	if (auto ready = require_bpffs(dir); !ready)
		return ready;
	const std::string parent = parent_of(dir);
	std::error_code code;
	std::filesystem::create_directories(parent, code);
	if (code)
		return system_error("make " + parent, code.value());
	return {};
}

Done check_pins(const std::string &dir) {
	auto owner = check_owner(dir);
	if (!owner && owner.error().status == Status::kNoGateway)
		if (auto bpffs = require_bpffs(dir); !bpffs)
			return fail(owner.error().what + ": " + bpffs.error().what, Status::kNoGateway);
	if (!owner)
		return owner;
	if (auto bpffs = require_bpffs(dir); !bpffs)
		return bpffs;
	auto state = check_owner(dir + "/pt_state");
	if (state)
		return check_contents(dir);
	if (state.error().status != Status::kNoGateway)
		return state;
	std::error_code ignored;
	if (std::filesystem::is_empty(dir, ignored))
		return fail("no gateway at " + dir, Status::kNoGateway);
	return fail("the pins at " + dir + " are incomplete (no pt_state): run ptrig down, then ptrig up");
}

static Result<std::optional<PinLock>> lock_whole_pins(const std::string &dir, int how) {
	if (auto ours = check_pins(dir); !ours)
		return tl::unexpected(std::move(ours.error()));
	auto fd = lock_directory(dir, how);
	if (!fd)
		return tl::unexpected(std::move(fd.error()));
	if (!*fd)
		return std::optional<PinLock>();
	if (auto still = check_pins(dir); !still)
		return tl::unexpected(std::move(still.error()));
	return std::optional(PinLock(std::move(*fd)));
}

Result<PinLock> lock_pins(const std::string &dir) {
	return lock_whole_pins(dir, LOCK_EX).map([](std::optional<PinLock> lock) { return std::move(*lock); });
}

Result<std::optional<PinLock>> try_lock_pins(const std::string &dir) {
	return lock_whole_pins(dir, LOCK_EX | LOCK_NB);
}

Result<PinLock> lock_any_pins(const std::string &dir) {
	auto fd = check_owner(dir).and_then([&] { return lock_directory(dir); });
	if (!fd)
		return tl::unexpected(std::move(fd.error()));
	return PinLock(std::move(*fd));
}

std::string new_pins_path(const std::string &dir) {
	return dir + "_new";
}

Result<PinLock> begin_pins(const std::string &dir) {
	const std::string path = new_pins_path(dir);
	for (;;) {
		if (mkdir(path.c_str(), 0700) < 0) {
			const int code = errno;
			if (code != EEXIST)
				return system_error("make " + path, code);
		}
		auto fd = check_owner(path).and_then([&] { return lock_directory(path); });
		if (!fd && fd.error().status == Status::kNoGateway)
			continue; // another start has just renamed it
		if (!fd)
			return tl::unexpected(std::move(fd.error()));
		auto made =
			empty_directory(path).and_then([&] { return make_directory(path + "/prog"); }).and_then([&] {
				return make_directory(path + "/link");
			});
		if (!made)
			return tl::unexpected(std::move(made.error()));
		return PinLock(std::move(*fd));
	}
}

Done commit_pins(const std::string &dir) {
	if (rename(new_pins_path(dir).c_str(), dir.c_str()) < 0) {
		const int code = errno;
		return system_error("put the pins in place at " + dir, code);
	}
	return {};
}

Done pin_over(int fd, const std::string &path) {
	const std::string beside = path + "_new";
	unlink(beside.c_str()); // left there by an interrupted call
	if (const int rc = bpf_obj_pin(fd, beside.c_str()); rc < 0)
		return system_error("pin " + path, -rc);
	if (chmod(beside.c_str(), 0600) < 0 || rename(beside.c_str(), path.c_str()) < 0) {
		const int code = errno;
		unlink(beside.c_str());
		return system_error("pin " + path, code);
	}
	return {};
}

Done check_removable(const std::string &dir) {
	int code = access(parent_of(dir).c_str(), W_OK) < 0 ? errno : 0;
	struct statx status {};
	if (code == 0 && statx(AT_FDCWD, dir.c_str(), AT_SYMLINK_NOFOLLOW, 0, &status) < 0)
		code = errno;
	if (code == 0 && status.stx_attributes & STATX_ATTR_MOUNT_ROOT)
		code = EBUSY;
	return code == 0 ? Done{} : system_error("remove " + dir, code);
}

Done remove_pins(const std::string &dir) {
	// Renamed first: whoever looks meanwhile, or after an interruption, finds a gateway or none.
	const std::string old = old_pins_path(dir);
	if (exists(old))
		if (auto removed = remove_directory(old); !removed)
			return removed;
	if (rename(dir.c_str(), old.c_str()) < 0) {
		const int code = errno;
		if (code == ENOENT || code == ENOTDIR)
			return {};
		return system_error("remove " + dir, code);
	}
	return remove_directory(old);
}

Done remove_leftovers(const std::string &dir) {
	rmdir(dir.c_str()); // only if it is empty
	for (const auto &path : {old_pins_path(dir), new_pins_path(dir)}) {
		if (!exists(path))
			continue;
		auto lock = lock_any_pins(path); // a start that is under way ends first, and has then renamed it
		if (!lock && lock.error().status == Status::kNoGateway)
			continue;
		if (auto removed = lock ? remove_directory(path) : Done(tl::unexpected(lock.error())); !removed)
			return removed;
	}
	return {};
}

} // namespace ptrig
