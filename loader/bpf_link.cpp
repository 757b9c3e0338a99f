// Links on devices: attached, pinned, given new programs in place, removed.
#include "loader/bpf_link.h"

#include <bpf/bpf.h>
#include <cerrno>
#include <linux/if_link.h>
#include <unistd.h>

#include "loader/map.h"
#include "loader/netlink.h"

namespace ptrig {

namespace {

// linux/bpf.h of kernel 6.6; Debian 12's is older.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr auto kTcxEgress = static_cast<bpf_attach_type>(47);
constexpr std::uint32_t kLinkTypeTcx = 11;
constexpr std::uint32_t kTcxPrograms = 64; // no more fit (BPF_MPROG_MAX)
constexpr std::uint32_t kBefore = 1U << 3; // BPF_F_BEFORE; with no program named: before all that are there

Result<PinnedLink> link_info(int fd) {
	bpf_link_info info{};
	std::uint32_t size = sizeof info;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0) {
		return system_error("ask for the link");
	}
	if (info.type != BPF_LINK_TYPE_XDP && info.type != kLinkTypeTcx) {
		return fail("what is pinned there is not a link to a device");
	}
	return PinnedLink{.prog_id = info.prog_id, .ifindex = info.xdp.ifindex}; // both kinds begin with it
}

/// The program in the way, if that is what a refusal was about.
std::string occupant(std::uint32_t ifindex) {
	auto link = read_link(ifindex);
	if (!link || !*link || (*link)->xdp.mode == XdpSlot::Mode::kNone) {
		return {};
	}
	bool generic = (*link)->xdp.mode == XdpSlot::Mode::kGeneric;
	return "its XDP slot is taken by program id " + std::to_string((*link)->xdp.prog_id) +
	       (generic ? " (generic mode)" : "") + "; ptrig does not displace it (datapath = \"tc\" works beside it)";
}

/// Why the kernel has not made the link.
tl::unexpected<Error> refusal(std::uint32_t ifindex, LinkHook hook, int code) {
	if (hook == LinkHook::kXdp && (code == EBUSY || code == EEXIST)) {
		if (auto taken = occupant(ifindex); !taken.empty()) {
			return fail(taken);
		}
	}
	if (hook == LinkHook::kXdp && code == ERANGE)
		return system_error("its MTU is too large for native XDP (datapath = \"tc\" serves it)", code);
	const bool driver = hook == LinkHook::kXdp && (code == EOPNOTSUPP || code == EINVAL);
	return system_error(driver ? "its driver does not take a native XDP program" : "create the link", code);
}

Done attach_new(std::uint32_t ifindex, LinkHook hook, int prog_fd, const std::string &pin_path) {
	bpf_link_create_opts opts{};
	opts.sz = sizeof opts;
	opts.flags = hook == LinkHook::kXdp ? XDP_FLAGS_DRV_MODE : kBefore;
	Fd fd(bpf_link_create(prog_fd, static_cast<int>(ifindex), attach_type(hook), &opts));
	if (int code = errno; !fd) {
		return refusal(ifindex, hook, code);
	}
	if (bpf_obj_pin(fd.get(), pin_path.c_str()) != 0) {
		return system_error("pin the link at " + pin_path); // closing the link detaches
	}
	return {};
}

Result<LinkAttached> attach(std::uint32_t ifindex, LinkHook hook, int prog_fd, const std::string &pin_path) {
	Fd pinned(bpf_obj_get(pin_path.c_str()));
	int code = errno;
	if (pinned.get() < 0 && code != ENOENT) {
		return system_error("open " + pin_path, code);
	}
	if (pinned.get() >= 0) {
		auto info = link_info(pinned.get());
		if (!info) {
			return within(pin_path, info.error());
		}
		if (info->ifindex == ifindex) {
			if (bpf_link_update(pinned.get(), prog_fd, nullptr) != 0) {
				return system_error("replace the program");
			}
			return LinkAttached{.replaced = true};
		}
		if (auto gone = link_detach(pin_path); !gone) {
			return tl::unexpected(gone.error());
		}
	}
	if (auto done = attach_new(ifindex, hook, prog_fd, pin_path); !done) {
		return tl::unexpected(done.error());
	}
	return LinkAttached{};
}

} // namespace

bpf_attach_type attach_type(LinkHook hook) {
	if (hook == LinkHook::kXdp) {
		return BPF_XDP;
	}
	return hook == LinkHook::kTcIngress ? kTcxIngress : kTcxEgress;
}

Result<std::optional<PinnedLink>> link_query(const std::string &pin_path) {
	Fd fd(bpf_obj_get(pin_path.c_str()));
	int code = errno;
	if (fd.get() < 0) {
		if (code == ENOENT) {
			return std::optional<PinnedLink>();
		}
		return system_error("open the link " + pin_path, code);
	}
	auto info = link_info(fd.get());
	if (!info) {
		return within("open the link " + pin_path, info.error());
	}
	return std::optional(*info);
}

Result<LinkAttached> link_attach(std::uint32_t ifindex, LinkHook hook, int prog_fd, const std::string &pin_path) {
	auto result = attach(ifindex, hook, prog_fd, pin_path);
	if (!result) {
		return within(hook == LinkHook::kXdp ? "attach XDP to " + interface_name(ifindex)
						     : "attach to " + interface_name(ifindex),
			      result.error());
	}
	return result;
}

Done link_detach(const std::string &pin_path) {
	Fd fd(bpf_obj_get(pin_path.c_str()));
	int code = errno;
	if (fd.get() < 0) {
		return code == ENOENT ? Done() : system_error("open the link " + pin_path, code);
	}
	if (auto info = link_info(fd.get()); !info) {
		return within("detach " + pin_path, info.error());
	}
	// Explicitly, not by the last reference: another process may hold the link open.
	if (bpf_link_detach(fd.get()) != 0 && errno != ENOLINK && errno != ENODEV) {
		return system_error("detach the link " + pin_path);
	}
	if (unlink(pin_path.c_str()) != 0 && errno != ENOENT) {
		return system_error("remove " + pin_path);
	}
	return {};
}

Result<std::optional<std::vector<std::uint32_t>>> tcx_programs(std::uint32_t ifindex, TcSide side) {
	std::vector<std::uint32_t> ids(kTcxPrograms);
	std::uint32_t count = kTcxPrograms;
	if (bpf_prog_query(static_cast<int>(ifindex), attach_type(hook_of(side)), 0, nullptr, ids.data(), &count) !=
	    0) {
		if (errno == EINVAL) {
			return std::optional<std::vector<std::uint32_t>>();
		}
		if (errno != ENOENT && errno != ENODEV) {
			return system_error("list the programs of " + interface_name(ifindex));
		}
		count = 0;
	}
	ids.resize(count);
	return std::optional(std::move(ids));
}

} // namespace ptrig
