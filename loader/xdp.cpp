// XDP links: attached natively, pinned, given new programs in place, removed. Never generic mode.
#include "loader/xdp.h"

#include <bpf/bpf.h>
#include <cerrno>
#include <linux/if_link.h>
#include <net/if.h>
#include <unistd.h>

namespace ptrig {

namespace {

class Fd {
public:
	explicit Fd(int fd) : fd_(fd) {}
	Fd(const Fd &) = delete;
	Fd &operator=(const Fd &) = delete;
	~Fd() {
		if (fd_ >= 0) {
			close(fd_);
		}
	}
	int get() const { return fd_; }

private:
	int fd_;
};

std::string interface_name(std::uint32_t ifindex) {
	char name[IF_NAMESIZE];
	return if_indextoname(ifindex, name) != nullptr ? name : "interface " + std::to_string(ifindex);
}

Result<XdpLink> link_info(int fd) {
	bpf_link_info info{};
	std::uint32_t size = sizeof info;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0) {
		return system_error("ask for the link");
	}
	if (info.type != BPF_LINK_TYPE_XDP) {
		return fail("what is pinned there is not an XDP link");
	}
	return XdpLink{.prog_id = info.prog_id, .ifindex = info.xdp.ifindex};
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

Done attach_new(std::uint32_t ifindex, int prog_fd, const std::string &pin_path) {
	bpf_link_create_opts opts{};
	opts.sz = sizeof opts;
	opts.flags = XDP_FLAGS_DRV_MODE;
	int created = bpf_link_create(prog_fd, static_cast<int>(ifindex), BPF_XDP, &opts);
	int code = errno;
	if (created < 0) {
		if (code == EBUSY || code == EEXIST) {
			if (auto taken = occupant(ifindex); !taken.empty()) {
				return fail(taken);
			}
		}
		if (code == EOPNOTSUPP || code == EINVAL) {
			return system_error("its driver does not take a native XDP program", code);
		}
		return system_error("create the link", code);
	}
	Fd fd(created);
	if (bpf_obj_pin(fd.get(), pin_path.c_str()) != 0) {
		return system_error("pin the link at " + pin_path); // closing the link detaches
	}
	return {};
}

Result<XdpAttached> attach(std::uint32_t ifindex, int prog_fd, const std::string &pin_path) {
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
			return XdpAttached{.replaced = true};
		}
		if (auto gone = xdp_detach(pin_path); !gone) {
			return tl::unexpected(gone.error());
		}
	}
	if (auto done = attach_new(ifindex, prog_fd, pin_path); !done) {
		return tl::unexpected(done.error());
	}
	return XdpAttached{};
}

} // namespace

Result<std::optional<XdpLink>> xdp_query(const std::string &pin_path) {
	Fd fd(bpf_obj_get(pin_path.c_str()));
	int code = errno;
	if (fd.get() < 0) {
		if (code == ENOENT) {
			return std::optional<XdpLink>();
		}
		return system_error("open the XDP link " + pin_path, code);
	}
	auto info = link_info(fd.get());
	if (!info) {
		return within("open the XDP link " + pin_path, info.error());
	}
	return std::optional(*info);
}

Result<XdpAttached> xdp_attach(std::uint32_t ifindex, int prog_fd, const std::string &pin_path) {
	auto result = attach(ifindex, prog_fd, pin_path);
	if (!result) {
		return within("attach XDP to " + interface_name(ifindex), result.error());
	}
	return result;
}

Done xdp_detach(const std::string &pin_path) {
	Fd fd(bpf_obj_get(pin_path.c_str()));
	int code = errno;
	if (fd.get() < 0) {
		return code == ENOENT ? Done() : system_error("open the XDP link " + pin_path, code);
	}
	if (auto info = link_info(fd.get()); !info) {
		return within("detach " + pin_path, info.error());
	}
	// Explicitly, not by the last reference: another process may hold the link open.
	if (bpf_link_detach(fd.get()) != 0 && errno != ENOLINK && errno != ENODEV) {
		return system_error("detach the XDP link " + pin_path);
	}
	if (unlink(pin_path.c_str()) != 0 && errno != ENOENT) {
		return system_error("remove " + pin_path);
	}
	return {};
}

} // namespace ptrig
