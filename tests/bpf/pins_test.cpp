// Whose pins may be used, and which maps fit the programs of this build.
#include <filesystem>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/pins.h"
#include "loader/program.h"
#include "tests/bpf/isolated.h"

namespace ptrig {
namespace {

namespace fs = std::filesystem;
using Pins = IsolatedTest;

const std::string kDir = "/sys/fs/bpf/gateway";

void pin_map(const std::string &name, enum bpf_map_type type, std::uint32_t key, std::uint32_t value,
	     std::uint32_t entries) {
	const Fd fd(bpf_map_create(type, fs::path(name).filename().c_str(), key, value, entries, nullptr));
	ASSERT_TRUE(fd) << name;
	auto pinned = pin_over(fd.get(), kDir + "/" + name);
	ASSERT_TRUE(pinned) << pinned.error().what;
}

/// Pins that have the form of a gateway's.
void make_pins() {
	ASSERT_EQ(mkdir(kDir.c_str(), 0700), 0);
	ASSERT_EQ(mkdir((kDir + "/prog").c_str(), 0700), 0);
	for (const char *name : {"pt_state", "pt_leases", "prog/pt_wan_in"})
		pin_map(name, BPF_MAP_TYPE_ARRAY, 4, 8, 1);
	ASSERT_TRUE(check_pins(kDir));
}

std::string refused() {
	const auto checked = check_pins(kDir);
	return checked ? "(they may be used)" : checked.error().what;
}

TEST_F(Pins, OpenToOthersAreRefused) {
	isolated([] {
		make_pins();
		for (const std::string name : {"", "/pt_state", "/pt_leases", "/prog", "/prog/pt_wan_in"}) {
			const std::string path = kDir + name;
			struct stat st {};
			ASSERT_EQ(lstat(path.c_str(), &st), 0);
			EXPECT_EQ(st.st_mode & 07777U, S_ISDIR(st.st_mode) ? 0700U : 0600U) << path;
			for (const unsigned mode : {0666U, 0660U, 0604U, 0610U}) {
				ASSERT_EQ(chmod(path.c_str(), mode), 0);
				EXPECT_EQ(refused(),
					  path + " is open to others than root (it must be 0700, its files 0600)");
			}
			ASSERT_EQ(chmod(path.c_str(), st.st_mode & 07777U), 0);
		}
		EXPECT_TRUE(check_pins(kDir)) << "as they were";
	});
}

TEST_F(Pins, OfAForeignOwnerAreRefused) {
	isolated([] {
		make_pins();
		for (const std::string name : {"", "/pt_state", "/pt_leases", "/prog", "/prog/pt_wan_in"}) {
			ASSERT_EQ(chown((kDir + name).c_str(), 65534, 65534), 0);
			EXPECT_EQ(refused(), kDir + name + " is not owned by root");
			ASSERT_EQ(chown((kDir + name).c_str(), 0, 0), 0);
		}
		EXPECT_TRUE(check_pins(kDir)) << "as they were";
	});
}

TEST_F(Pins, BehindASymlinkAreRefused) {
	isolated([] {
		make_pins();
		for (const std::string name : {"", "/pt_state", "/pt_leases", "/prog"}) {
			const std::string path = kDir + name, aside = "/sys/fs/bpf/aside";
			fs::rename(path, aside);
			fs::create_symlink(aside, path);
			EXPECT_EQ(refused(), path + " is a symlink; pins are only used where they are");
			fs::remove(path);
			fs::rename(aside, path);
		}
		EXPECT_TRUE(check_pins(kDir)) << "as they were";
	});
}

TEST_F(Pins, MapsOfAnotherLayoutOrSizeDoNotFit) {
	isolated([] {
		capture_libbpf_log();
		const MapSizes sizes{64, 32, 256, 64, 16, 1};
		ASSERT_EQ(mkdir(kDir.c_str(), 0700), 0);
		ASSERT_EQ(mkdir((kDir + "/prog").c_str(), 0700), 0);
		auto pinned = Programs::load(sizes, "").and_then([](const Programs &made) { return made.pin(kDir); });
		ASSERT_TRUE(pinned) << pinned.error().what;
		const auto misfit = [&](const MapSizes &asked) { return maps_misfit(kDir, asked).value(); };
		EXPECT_EQ(misfit(sizes), "");
		MapSizes more = sizes;
		more.leases = 33;
		EXPECT_NE(misfit(more).find(" has another size"), std::string::npos);
		const auto instead = [&](const std::string &name, enum bpf_map_type type, std::uint32_t key,
					 std::uint32_t value, std::uint32_t entries) {
			fs::rename(kDir + "/" + name, "/sys/fs/bpf/aside");
			EXPECT_EQ(misfit(sizes), "there is no " + name);
			pin_map(name, type, key, value, entries);
			const std::string why = misfit(sizes);
			fs::rename("/sys/fs/bpf/aside", kDir + "/" + name);
			EXPECT_EQ(misfit(sizes), "");
			return why;
		};
		EXPECT_EQ(instead("pt_leases", BPF_MAP_TYPE_HASH, 8, 16, 32), "pt_leases has another layout");
		EXPECT_EQ(instead("pt_usage", BPF_MAP_TYPE_HASH, 4, 48, 1), "pt_usage has another layout");
		EXPECT_EQ(instead("pt_counters", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, PTRIG_REASON_COUNT - 1),
			  "pt_counters has another size")
			<< "a version with one reason less";
		EXPECT_EQ(instead("pt_events", BPF_MAP_TYPE_RINGBUF, 0, 0, 4096), "pt_events has another size");
	});
}

} // namespace
} // namespace ptrig
