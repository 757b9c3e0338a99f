// The size of the kernel's connection table as ptrig is told it: the table itself is the whole machine's.
#pragma once

#include <sys/mount.h>

#include <fstream>
#include <system_error>

#include "tests/lab/netns.h"

namespace lab {

/// Who reads nf_conntrack_max in the namespace reads this number, until the object goes.
class ToldTableSize {
public:
	ToldTableSize(const NetNs &where, unsigned entries) : where_(where) {
		std::ofstream(kFile) << entries << "\n" << std::flush;
		where_.inside([] {
			if (mount(kFile, kSysctl, nullptr, MS_BIND, nullptr) < 0)
				throw std::system_error(errno, std::generic_category(), "mount over nf_conntrack_max");
		});
	}
	ToldTableSize(const ToldTableSize &) = delete;
	ToldTableSize &operator=(const ToldTableSize &) = delete;
	~ToldTableSize() {
		where_.inside([] { umount2(kSysctl, MNT_DETACH); });
	}

private:
	static constexpr const char *kFile = "/run/nf_conntrack_max";
	static constexpr const char *kSysctl = "/proc/sys/net/netfilter/nf_conntrack_max";
	const NetNs &where_;
};

} // namespace lab
