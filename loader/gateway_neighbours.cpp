// Gateways pinned elsewhere: two of them on one interface would take its packets from each other.
#include <filesystem>
#include <mntent.h>

#include <bpf/bpf.h>
#include <fmt/format.h>

#include "loader/bpf_link.h"
#include "loader/gateway_impl.h"
#include "loader/tc.h"

namespace ptrig {

namespace {

namespace fs = std::filesystem;

std::vector<std::string> bpf_mounts() {
	std::vector<std::string> mounts;
	const std::unique_ptr<FILE, int (*)(FILE *)> table(setmntent("/proc/self/mounts", "re"), endmntent);
	if (!table)
		return mounts;
	mntent entry{};
	char text[8192];
	while (getmntent_r(table.get(), &entry, text, sizeof(text)))
		if (std::string_view(entry.mnt_type) == "bpf")
			mounts.emplace_back(entry.mnt_dir);
	return mounts;
}

bool has_program(const fs::path &dir, std::uint32_t id) {
	std::error_code code;
	for (fs::directory_iterator entry(dir / "prog", code), end; !code && entry != end; entry.increment(code)) {
		const Fd fd(bpf_obj_get(entry->path().c_str()));
		bpf_prog_info info{};
		std::uint32_t size = sizeof(info);
		if (fd && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 && info.id == id)
			return true;
	}
	return false;
}

/// Where a gateway is pinned that has this program; empty: nowhere, it is left over from one that is gone.
std::string pins_with(std::uint32_t id) {
	for (const auto &mount : bpf_mounts()) {
		std::error_code code;
		for (fs::recursive_directory_iterator entry(mount, fs::directory_options::skip_permission_denied, code),
		     end;
		     !code && entry != end; entry.increment(code))
			if (const auto &path = entry->path();
			    path.filename() == "pt_state" && has_program(path.parent_path(), id))
				return path.parent_path();
	}
	return {};
}

/// What may be a gateway's on that side. Of what is wrong there whoever attaches is told.
std::vector<std::uint32_t> programs_of(std::uint32_t ifindex, TcSide side) {
	std::vector<std::uint32_t> programs;
	if (const auto linked = tcx_programs(ifindex, side); linked && *linked)
		programs = **linked;
	if (const auto filter = tc_query(ifindex, side); filter && *filter)
		programs.push_back(**filter);
	return programs;
}

} // namespace

Done check_not_anothers(const std::string &dir, const Link &link) {
	for (const TcSide side : {TcSide::kIngress, TcSide::kEgress}) {
		for (const std::uint32_t program : programs_of(link.ifindex, side)) {
			std::error_code code;
			const std::string owner = pins_with(program);
			if (!owner.empty() && !fs::equivalent(owner, dir, code))
				return fail(fmt::format("{} belongs to the gateway at {}: take that down first (ptrig "
							"--pin-dir {} down), or name other interfaces",
							link.name, owner, owner));
		}
	}
	return {};
}

} // namespace ptrig
