// Counts, the kernel's log and what devices have dropped; see soak.h.
#include "tests/lab/soak.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "kernel_faults.h"
#include "loader/map.h"

namespace lab {

KernelLog::KernelLog() : fd_(open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
	if (fd_.get() < 0 || lseek(fd_.get(), 0, SEEK_END) < 0)
		throw std::system_error(errno, std::generic_category(), "read the kernel's log");
}

std::vector<std::string> KernelLog::faults() {
	static const std::regex fault(kKernelFaults);
	std::vector<std::string> found;
	char record[8192];
	for (;;) {
		const ssize_t n = read(fd_.get(), record, sizeof(record));
		if (n < 0 && errno == EPIPE) // overwritten meanwhile; goes on at the oldest that is left
			continue;
		if (n < 0 && errno == EAGAIN)
			return found;
		if (n <= 0)
			throw std::system_error(errno, std::generic_category(), "read the kernel's log");
		const std::string line(record, static_cast<size_t>(n));
		if (std::regex_search(line, fault))
			found.push_back(line);
	}
}

void Soak::SetUp() {
	Lab::SetUp();
	if (why_not.empty())
		log_.emplace();
}

void Soak::TearDown() {
	Lab::TearDown();
	if (!log_)
		return;
	for (const std::string &line : log_->faults())
		ADD_FAILURE() << "the kernel says: " << line;
}

unsigned Soak::count(unsigned few, unsigned full) {
	const char *factor = std::getenv("PTRIG_SOAK");
	return factor == nullptr ? few : std::max(few, static_cast<unsigned>(std::lround(full * std::atof(factor))));
}

unsigned Soak::seed() {
	const char *wanted = std::getenv("PTRIG_SOAK_SEED");
	const unsigned seed = wanted == nullptr ? 20250101 : static_cast<unsigned>(std::strtoul(wanted, nullptr, 10));
	std::cout << "PTRIG_SOAK_SEED=" << seed << "\n";
	return seed;
}

void Soak::report(const std::string &counted) const {
	std::cout << "soak: " << (xdp() ? "xdp: " : "tc: ") << counted << std::endl;
}

std::vector<ptrig::LeaseView> Soak::lease_views() const {
	return gw().inside([] {
		const auto gateway = ptrig::Gateway::open(kPins);
		if (!gateway)
			throw std::runtime_error("open the gateway: " + gateway.error().what);
		auto leases = gateway->leases({});
		if (!leases)
			throw std::runtime_error("list the leases: " + leases.error().what);
		return std::move(*leases);
	});
}

std::uint64_t Soak::half_open_sessions() const {
	const auto map = ptrig::Map<std::uint32_t, ptrig_usage>::open(kPins, "pt_usage", ptrig::Access::kRead);
	return map->lookup(0).value().value().halfopen;
}

std::uint64_t Soak::conntrack_count() const {
	return gw().inside([] {
		std::uint64_t count = 0;
		std::ifstream file("/proc/sys/net/netfilter/nf_conntrack_count");
		if (!(file >> count))
			throw std::runtime_error("read nf_conntrack_count");
		return count;
	});
}

std::string text(std::uint64_t number) {
	return std::to_string(number);
}

std::uint64_t share_of(std::uint64_t drops, std::uint64_t packets, std::uint64_t all) {
	return std::min(drops, 4 * drops * packets / std::max<std::uint64_t>(all, 1) + 3);
}

std::uint64_t counted_by(const NetNs &host, const std::string &name) {
	const Json listed = Json::parse(must(host, {"nft", "-j", "list", "counter", "inet", "soak", name}));
	for (const Json &object : listed.at("nftables"))
		if (object.contains("counter"))
			return object.at("counter").at("packets");
	throw std::runtime_error("no counter " + name);
}

std::uint64_t Soak::device_drops() const {
	std::uint64_t sum = 0;
	for (const NetNs *where : {&gw(), &lan1(), &lan2(), &wan()})
		for (const Json &link : Json::parse(must(*where, {"ip", "-j", "-s", "link", "show"})))
			if (link.at("ifname") != "lo")
				sum += link.at("stats64").at("tx").at("dropped").get<std::uint64_t>();
	for (const char *device : {"wan0", "lan1if", "lan2if"}) {
		std::istringstream lines(must(gw(), {"ethtool", "-S", device}));
		for (std::string line; std::getline(lines, line);)
			if (line.find("_drops:") != std::string::npos || line.find("_errors:") != std::string::npos)
				sum += std::stoull(line.substr(line.find(':') + 1));
	}
	return sum;
}

std::uint64_t Soak::received_by_wan() const {
	const Json links = Json::parse(must(gw(), {"ip", "-j", "-s", "link", "show", "dev", "wan0"}));
	return links.at(0).at("stats64").at("rx").at("packets");
}

unsigned Soak::own_flows(const NetNs &host) {
	const auto ends = connect_out(host, {kRemote3, 8080}, 0, 10s);
	const Fd client = udp_socket(host), server = udp_socket(wan(), {kRemote3, 7777});
	udp_send(client, {kRemote3, 7777}, "question");
	const auto asked = udp_receive(server, 5s);
	return unsigned(ends && says(ends->first, ends->second) && says(ends->second, ends->first)) +
	       unsigned(asked && asked->from.address == kWan && answers(server, client, asked->from, 5s));
}

void Soak::replace(const std::string &path, const std::string &text) const {
	write(path + ".new", text);
	std::filesystem::rename(path + ".new", path);
}

} // namespace lab
