// What the stories with real programs have in common.
#include "tests/lab/programs.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

namespace lab {

namespace {

/// Whether the namespace's table of the protocol has a socket at the port, a listening one for TCP.
bool has_socket(const NetNs &where, const std::string &protocol, std::uint16_t port) {
	const std::string table = where.inside([&] {
		std::ifstream file("/proc/thread-self/net/" + protocol);
		std::ostringstream text;
		text << file.rdbuf();
		return text.str();
	});
	char wanted[8];
	std::snprintf(wanted, sizeof(wanted), ":%04X", port);
	std::istringstream lines(table);
	for (std::string line; std::getline(lines, line);) {
		std::string slot, local, remote, state;
		std::istringstream(line) >> slot >> local >> remote >> state;
		if (local.ends_with(wanted) && (protocol != "tcp" || state == "0A"))
			return true;
	}
	return false;
}

constexpr const char *kTally = R"(
table inet tally {
	chain in {
		type filter hook prerouting priority raw;
	}
	chain out {
		type filter hook postrouting priority 300;
	}
}
)";

} // namespace

void Programs::SetUp() {
	Lab::SetUp();
	if (IsSkipped() || HasFatalFailure())
		return;
	std::filesystem::remove_all(kDir);
	std::filesystem::create_directories(kDir);
}

void Programs::TearDown() {
	for (const NetNs *where : tallying_)
		run(*where, {"nft", "delete", "table", "inet", "tally"});
	Lab::TearDown();
}

void Programs::make_file(const std::string &path, std::size_t bytes) const {
	std::filesystem::create_directories(std::filesystem::path(path).parent_path());
	std::ofstream file(path, std::ios::binary);
	std::mt19937_64 random(bytes);
	for (std::size_t i = 0; i < bytes / sizeof(std::uint64_t); i++) {
		const std::uint64_t word = random();
		file.write(reinterpret_cast<const char *>(&word), sizeof(word));
	}
	file.close();
	ASSERT_TRUE(file) << "write " << path;
	chmod(path.c_str(), 0444);
}

bool Programs::same(const std::string &one, const std::string &other) const {
	return run(gw(), {"cmp", one, other}).status == 0;
}

void Programs::await_tcp(const NetNs &where, const Endpoint &at) const {
	if (!eventually(15s, [&] { return bool(tcp_connect(where, at)); }))
		throw std::runtime_error("nobody listens at " + to_string(at));
}

void Programs::await_socket(const NetNs &where, const std::string &protocol, std::uint16_t port) const {
	if (!eventually(15s, [&] { return has_socket(where, protocol, port); }))
		throw std::runtime_error("no socket at " + std::to_string(port) + "/" + protocol);
}

void Programs::tally(const NetNs &where, const std::string &name, const std::string &direction,
		     const std::string &match, const std::string &verdict) {
	if (tallying_.insert(&where).second)
		must(where, {"nft", "-f", "-"}, kTally);
	must(where, {"nft", "-f", "-"},
	     "add counter inet tally " + name + "\nadd rule inet tally " + direction + " " + match + " counter name " +
		     name + " " + verdict + "\n");
}

std::uint64_t Programs::tallied(const NetNs &where, const std::string &name) const {
	const Json listed = Json::parse(must(where, {"nft", "-j", "list", "counter", "inet", "tally", name}));
	for (const Json &object : listed.at("nftables"))
		if (object.contains("counter"))
			return object.at("counter").at("packets");
	throw std::runtime_error("no counter " + name);
}

} // namespace lab
