// The pin directory: on a bpffs, root's alone, taken and given back as a whole. Its layout is
// DIR/pt_* (maps), DIR/prog/NAME (programs), DIR/link/NAME (XDP links). Everything is made in a
// sibling DIR_new that is renamed when it is complete, so that a gateway is there or it is not.
#pragma once

#include <optional>
#include <string>

#include "loader/map.h"
#include "loader/result.h"

namespace ptrig {

/// An exclusive hold on a pin directory, for as long as it lives. It follows the directory when that is renamed.
class PinLock {
public:
	explicit PinLock(Fd fd) : fd_(std::move(fd)) {}

private:
	Fd fd_;
};

/// As every path here is expected: without slashes at its end.
std::string clean_pin_dir(std::string dir);

/// The parent of `dir` is a bpffs, made if need be. /sys/fs/bpf is mounted if nothing is there and this
/// process shares the machine's mounts (a private mount would take the pins away with it).
Done prepare_bpffs(const std::string &dir);

/// Done if a gateway is pinned at `dir` and the pins are root's alone. Errors: kNoGateway if there is
/// none; kSystem if `dir` or anything in it is a symlink, not root's, open to others, or may not be read.
Done check_pins(const std::string &dir);

/// Wait for the writers' lock. Errors: those of check_pins, also when the gateway went away meanwhile.
Result<PinLock> lock_pins(const std::string &dir);
/// The same without waiting; nothing while another writer holds it.
Result<std::optional<PinLock>> try_lock_pins(const std::string &dir);

/// The same for pins of which some may be missing: root's alone is all they must be.
Result<PinLock> lock_any_pins(const std::string &dir);

/// The sibling where pins are made.
std::string new_pins_path(const std::string &dir);
/// Make an empty, locked new_pins_path(dir), with prog/ and link/; removes what an interrupted start left there.
Result<PinLock> begin_pins(const std::string &dir);
/// Rename new_pins_path(dir) to `dir`. An empty directory in its place is replaced.
Done commit_pins(const std::string &dir);

/// Pin `fd` at `path` (0600), in place of what is pinned there, at no time with nothing there.
Done pin_over(int fd, const std::string &path);
/// Error if remove_pins() could not even begin: `dir` is a mount point, or what it is in is read-only (to a unit's
/// process). Changes nothing.
Done check_removable(const std::string &dir);
/// Unpin all of it and remove the directory; done if it is not there.
Done remove_pins(const std::string &dir);
/// Remove what an interrupted start or end left beside `dir`, and `dir` itself if it is empty.
Done remove_leftovers(const std::string &dir);

} // namespace ptrig
