// Makes and enters network namespaces. ip(8) is not used for that: it would remount /sys and hide the bpffs.
#include "tests/lab/netns.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "tests/lab/process.h"

namespace lab {

namespace {

[[noreturn]] void give_up(const std::string &doing, int code) {
	throw std::system_error(code, std::generic_category(), doing);
}

/// Run in a thread of its own, whose namespace may change; exceptions travel back.
void in_thread(const std::function<void()> &work) {
	std::exception_ptr error;
	std::thread thread([&] {
		try {
			work();
		} catch (...) {
			error = std::current_exception();
		}
	});
	thread.join();
	if (error)
		std::rethrow_exception(error);
}

} // namespace

NetNs::NetNs(std::string name) : name_(std::move(name)) {
	const std::string path = "/run/netns/" + name_;
	in_thread([&] {
		if (unshare(CLONE_NEWNET) < 0)
			give_up("unshare for " + name_, errno);
		mkdir("/run/netns", 0755);
		Fd file(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
		if (file.get() < 0)
			give_up("create " + path, errno);
		const std::string self = "/proc/self/task/" + std::to_string(syscall(SYS_gettid)) + "/ns/net";
		if (mount(self.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) < 0)
			give_up("bind " + path, errno);
		fd_ = Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
		if (fd_.get() < 0)
			give_up("open " + path, errno);
	});
	sysctl("ipv6/conf/all/disable_ipv6", "1");
	sysctl("ipv6/conf/default/disable_ipv6", "1");
	must(*this, {"ip", "link", "set", "lo", "up"});
}

NetNs::~NetNs() {
	if (fd_.get() < 0)
		return;
	const std::string path = "/run/netns/" + name_;
	umount2(path.c_str(), MNT_DETACH);
	unlink(path.c_str());
}

void NetNs::enter(const std::function<void()> &work) const {
	in_thread([&] {
		if (setns(fd_.get(), CLONE_NEWNET) < 0)
			give_up("enter " + name_, errno);
		work();
	});
}

void NetNs::sysctl(const std::string &key, const std::string &value) const {
	enter([&] {
		std::ofstream file("/proc/sys/net/" + key);
		file << value << std::flush;
		if (!file)
			throw std::runtime_error("set net/" + key + " in " + name_);
	});
}

} // namespace lab
