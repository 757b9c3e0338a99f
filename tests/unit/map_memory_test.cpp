// The memory that `ptrig check` prints: every map of bpf/*.h is in it, with its own size.
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <regex>
#include <set>

#include "include/ptrig/abi.h"
#include "include/ptrig/reasons.h"
#include "loader/check.h"

namespace ptrig {
namespace {

namespace fs = std::filesystem;

std::uint64_t bytes_of(const std::string &map, const GatewayConfig &gateway, unsigned cpus = 1) {
	for (const MapMemory &memory : memory_by_map(gateway, cpus))
		if (memory.name == map)
			return memory.bytes;
	ADD_FAILURE() << "no map " << map;
	return 0;
}

/// The source tree's bpf/: beside this file, or, where the compiler was told to cut file names, above the build.
fs::path bpf_sources() {
	fs::path tree = fs::path(__FILE__).parent_path() / "../..";
	for (fs::path up = fs::current_path(); !fs::exists(tree / "bpf/maps.h") && up != up.root_path();
	     up = up.parent_path())
		tree = up;
	return tree / "bpf";
}

TEST(MapMemory, KnowsEveryMapOfTheSources) {
	const fs::path bpf = bpf_sources();
	ASSERT_TRUE(fs::exists(bpf / "maps.h")) << bpf;
	const std::regex macro("PT_MAP\\((pt_[a-z_]+)"), plain("\\} (pt_[a-z_]+) SEC\\(\"\\.maps\"\\)");
	std::set<std::string> in_sources;
	for (const auto &file : fs::directory_iterator(bpf)) {
		std::ifstream stream(file.path());
		const std::string text{std::istreambuf_iterator<char>(stream), {}};
		for (const std::regex &pattern : {macro, plain})
			for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at)
				in_sources.insert((*at)[1]);
	}
	std::set<std::string> counted;
	for (const MapMemory &memory : memory_by_map({}, 1))
		EXPECT_TRUE(counted.insert(memory.name).second) << memory.name << " twice";
	EXPECT_EQ(counted, in_sources);
}

TEST(MapMemory, GrowsWithTheSettingThatIsMeant) {
	const struct {
		const char *map;
		std::uint32_t GatewayConfig::*setting;
	} cases[] = {
		{"pt_sessions", &GatewayConfig::max_sessions}, {"pt_halfopen", &GatewayConfig::max_halfopen},
		{"pt_leases", &GatewayConfig::max_leases},     {"pt_conns", &GatewayConfig::max_leases},
		{"pt_hosts", &GatewayConfig::max_leases},      {"pt_rules", &GatewayConfig::max_rules},
		{"pt_hits", &GatewayConfig::max_rules},        {"pt_last", &GatewayConfig::max_rules},
		{"pt_lists", &GatewayConfig::max_port_lists},
	};
	for (const auto &c : cases) {
		GatewayConfig more;
		more.*c.setting *= 2;
		const double factor =
			static_cast<double>(bytes_of(c.map, more)) / static_cast<double>(bytes_of(c.map, {}));
		EXPECT_NEAR(factor, 2.0, 0.01) << c.map;
	}
}

TEST(MapMemory, PerCpuMapsCountForEachCpu) {
	for (const char *map : {"pt_hits", "pt_counters"}) {
		const std::uint64_t one_cpu = bytes_of(map, {}, 2) - bytes_of(map, {}, 1);
		EXPECT_GT(one_cpu, 0U) << map;
		EXPECT_EQ(bytes_of(map, {}, 8) - bytes_of(map, {}, 1), 7 * one_cpu) << map;
	}
	EXPECT_EQ(bytes_of("pt_rules", {}, 8), bytes_of("pt_rules", {}, 1));
}

TEST(MapMemory, IsTheSumAndModestByDefault) {
	std::uint64_t sum = 0;
	for (const MapMemory &memory : memory_by_map({}, 4))
		sum += memory.bytes;
	EXPECT_EQ(map_memory({}, 4), sum);
	EXPECT_GT(sum, 20U << 20);
	EXPECT_LT(sum, 64U << 20);
}

} // namespace
} // namespace ptrig
