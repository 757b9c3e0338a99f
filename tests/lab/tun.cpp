// Carries packets between the two devices, one by one and in order.
#include "tests/lab/tun.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <stdexcept>
#include <vector>

namespace lab {

namespace {

constexpr std::size_t kLargest = 65536; ///< bytes of a packet

Fd open_tun(const NetNs &where, const std::string &name) {
	Fd tun(where.inside([&] {
		Fd fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
		ifreq request{};
		name.copy(request.ifr_name, IFNAMSIZ - 1);
		request.ifr_flags = IFF_TUN | IFF_NO_PI;
		return ioctl(fd.get(), TUNSETIFF, &request) == 0 ? fcntl(fd.get(), F_DUPFD_CLOEXEC, 0) : -1;
	}));
	if (tun.get() < 0)
		throw std::runtime_error("cannot make the tun device " + name);
	return tun;
}

void carry_one(const Fd &from, const Fd &to, std::vector<char> &packet) {
	const ssize_t length = read(from.get(), packet.data(), packet.size());
	if (length > 0) // a device that is down, or full, loses it, as a cable would
		[[maybe_unused]]
		const ssize_t written = write(to.get(), packet.data(), std::size_t(length));
}

} // namespace

TunCable::TunCable(const NetNs &a, const std::string &a_name, const NetNs &b, const std::string &b_name)
    : a_(open_tun(a, a_name)), b_(open_tun(b, b_name)), stop_(eventfd(0, EFD_CLOEXEC)), thread_([this] { carry(); }) {}

TunCable::~TunCable() {
	eventfd_write(stop_.get(), 1);
	thread_.join();
}

void TunCable::carry() {
	std::vector<char> packet(kLargest);
	pollfd all[3] = {{a_.get(), POLLIN, 0}, {b_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
	while (poll(all, 3, -1) >= 0 && !all[2].revents) {
		if (all[0].revents & POLLIN)
			carry_one(a_, b_, packet);
		if (all[1].revents & POLLIN)
			carry_one(b_, a_, packet);
	}
}

} // namespace lab
