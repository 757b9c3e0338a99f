// Namespaces, devices, addresses, neighbours and sockets of the tests' network.
#include "tests/bpf/world.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdexcept>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <thread>

namespace ptrig::test {

namespace {

bool entered = false;
Fd lan_ns, wan_ns; ///< /proc/self/ns/net of the two
Fd tunl, tunw;     ///< held open: a tun device has a carrier only while somebody holds it

std::string errno_text(const std::string &what) {
	return what + ": " + std::strerror(errno);
}

void feed(const char *command, const std::string &text) {
	FILE *pipe = ::popen(command, "we");
	if (!pipe)
		throw std::runtime_error(errno_text(command));
	std::fwrite(text.data(), 1, text.size(), pipe);
	if (::pclose(pipe) != 0)
		throw std::runtime_error(std::string(command) + " failed for:\n" + text);
}

void set_sysctl(const std::string &name, const std::string &value) {
	std::ofstream file("/proc/sys/net/" + name);
	file << value << std::flush;
	if (!file)
		throw std::runtime_error("cannot set net/" + name);
}

Fd new_ns() {
	Fd fd;
	std::string error;
	std::thread([&] {
		if (::unshare(CLONE_NEWNET) < 0)
			error = errno_text("unshare");
		else
			fd = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
	}).join();
	if (!fd)
		throw std::runtime_error(error);
	return fd;
}

Fd new_tun(const char *name) {
	Fd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
	ifreq request{};
	std::strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
	request.ifr_flags = IFF_TUN | IFF_NO_PI;
	if (::ioctl(fd.get(), TUNSETIFF, &request) < 0)
		throw std::runtime_error(errno_text(name));
	return fd;
}

/// How ip(8), a child of this process, finds a namespace.
std::string ns_path(const Fd &fd) {
	return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd.get());
}

void private_mounts() {
	if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
	    ::mount("sysfs", "/sys", "sysfs", 0, nullptr) < 0 ||
	    ::mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700") < 0 || ::mount("run", "/run", "tmpfs", 0, nullptr) < 0)
		throw std::runtime_error(errno_text("private mounts"));
}

void gateway_network() {
	const std::string lan = ns_path(lan_ns), wan = ns_path(wan_ns);
	tunl = new_tun("tunl");
	tunw = new_tun("tunw");
	ip_batch(Ns::kGateway, "link set lo up\n"
			       "link add lan0 address " +
				       kLanMac + " type veth peer name eth0 address " + kHostMac + " netns " + lan +
				       "\n"
				       "link add lan1 address " +
				       kLan1Mac + " type veth peer name eth1 netns " + lan +
				       "\n"
				       "link add wan0 address " +
				       kWanMac + " type veth peer name eth0 address " + kRemoteMac + " netns " + wan +
				       "\n"
				       "link add wan1 address " +
				       kWan1Mac + " type veth peer name eth1 netns " + wan +
				       "\n"
				       "address add 192.168.77.1/24 dev lan0\n"
				       "address add 192.168.88.1/24 dev lan1\n"
				       "address add 203.0.113.2/24 dev wan0\n"
				       "address add 203.0.113.3/24 dev wan0\n"
				       "address add 192.0.2.2/24 dev wan1\n"
				       "address add 8.0.77.1/24 dev tunl\n"
				       "address add 8.0.113.2/24 dev tunw\n");
	for (const char *dev : {"lan0", "lan1", "wan0", "wan1", "tunl", "tunw"})
		ip_batch(Ns::kGateway, "link set " + std::string(dev) + " up\n");
}

void gateway_neighbours() {
	const auto neighbour = [](const std::string &address, const std::string &mac, const char *dev) {
		ip_batch(Ns::kGateway,
			 "neighbour replace " + address + " lladdr " + mac + " nud permanent dev " + dev + "\n");
	};
	neighbour(kHost, kHostMac, "lan0");
	neighbour(kHost2, kHost2Mac, "lan0");
	neighbour(kSwitch, kSwitchMac, "lan0");
	neighbour(kRemote, kRemoteMac, "wan0");
	neighbour(kRemote2, kRemote2Mac, "wan0");
	neighbour("203.0.113.1", kRouterMac, "wan0");
	neighbour(kRemote1, kRemote1Mac, "wan1");
	ip_batch(Ns::kGateway, "route add default via 203.0.113.1 dev wan0\n"
			       "route add 10.77.0.0/16 via " +
				       kSwitch + " dev lan0\n");
}

void peers_network() {
	ip_batch(Ns::kLan, "link set lo up\n"
			   "link set eth0 up\n"
			   "link set eth1 up\n"
			   "address add " +
				   kHost +
				   "/24 dev eth0\n"
				   "route add default via " +
				   kLanAddr + "\n");
	ip_batch(Ns::kWan, "link set lo up\n"
			   "link set eth0 up\n"
			   "link set eth1 up\n"
			   "address add " +
				   kRemote +
				   "/24 dev eth0\n"
				   "address add " +
				   kRemote2 + "/24 dev eth0\n");
}

} // namespace

void inside(Ns ns, const std::function<void()> &what) {
	std::exception_ptr error;
	std::thread([&] {
		try {
			const Fd &fd = ns == Ns::kLan ? lan_ns : wan_ns;
			if (ns != Ns::kGateway && ::setns(fd.get(), CLONE_NEWNET) < 0)
				throw std::runtime_error(errno_text("setns"));
			what();
		} catch (...) {
			error = std::current_exception();
		}
	}).join();
	if (error)
		std::rethrow_exception(error);
}

std::string enter_world() {
	try {
		if (::unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
			return errno_text("unshare");
		private_mounts();
		lan_ns = new_ns();
		wan_ns = new_ns();
		for (const Ns ns : {Ns::kGateway, Ns::kLan, Ns::kWan})
			inside(ns, [] { set_sysctl("ipv6/conf/all/disable_ipv6", "1"); });
		set_sysctl("ipv4/ip_forward", "1");
		gateway_network();
		gateway_neighbours();
		peers_network();
		nft("table ip nat {\n"
		    "  chain post {\n"
		    "    type nat hook postrouting priority srcnat\n"
		    "    oifname \"wan*\" masquerade\n"
		    "  }\n"
		    "}\n");
	} catch (const std::exception &error) {
		return error.what();
	}
	entered = true;
	return "";
}

bool in_world() {
	return entered;
}

std::uint32_t ifindex(const std::string &name) {
	const unsigned index = ::if_nametoindex(name.c_str());
	if (!index)
		throw std::runtime_error(errno_text(name));
	return index;
}

void ip_batch(Ns ns, const std::string &lines) {
	inside(ns, [&] { feed("ip -batch -", lines); });
}

void nft(const std::string &ruleset) {
	feed("nft -f -", ruleset);
}

void forget_flows() {
	// A delete without a tuple deletes all (nf_conntrack_netlink.c, ctnetlink_del_conntrack).
	struct {
		nlmsghdr header;
		nfgenmsg family;
	} request{};
	request.header.nlmsg_len = sizeof(request);
	request.header.nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
	request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	request.family.nfgen_family = AF_INET;
	const Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
	char answer[256];
	if (::send(fd.get(), &request, sizeof(request), 0) < 0 || ::recv(fd.get(), answer, sizeof(answer), 0) < 0)
		throw std::runtime_error(errno_text("flush conntrack"));
}

void neighbour(const std::string &address, const std::vector<std::uint8_t> &mac, const std::string &dev) {
	struct {
		nlmsghdr header;
		ndmsg message;
		rtattr to;
		in_addr address;
		rtattr by;
		std::uint8_t mac[8];
	} request{};
	request.header.nlmsg_len = sizeof(request);
	request.header.nlmsg_type = mac.empty() ? RTM_DELNEIGH : RTM_NEWNEIGH;
	request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | (mac.empty() ? 0 : NLM_F_CREATE | NLM_F_REPLACE);
	request.message.ndm_family = AF_INET;
	request.message.ndm_ifindex = static_cast<int>(ifindex(dev));
	request.message.ndm_state = NUD_PERMANENT;
	request.to = {RTA_LENGTH(sizeof(in_addr)), NDA_DST};
	::inet_pton(AF_INET, address.c_str(), &request.address);
	request.by = {RTA_LENGTH(6), NDA_LLADDR};
	std::copy(mac.begin(), mac.end(), request.mac);
	const Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	alignas(nlmsghdr) char answer[256];
	if (::send(fd.get(), &request, sizeof(request), 0) < 0 || ::recv(fd.get(), answer, sizeof(answer), 0) < 0)
		throw std::runtime_error(errno_text("neighbour " + address));
	const auto *error = reinterpret_cast<const nlmsgerr *>(answer + NLMSG_HDRLEN);
	if (error->error && error->error != -ENOENT)
		throw std::runtime_error("neighbour " + address + ": " + std::strerror(-error->error));
}

std::string flows() {
	std::ifstream file("/proc/self/net/nf_conntrack");
	return std::string(std::istreambuf_iterator<char>(file), {});
}

namespace {

sockaddr_in socket_address(const std::string &address, std::uint16_t port) {
	sockaddr_in to{};
	to.sin_family = AF_INET;
	to.sin_port = htons(port);
	if (::inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1)
		throw std::runtime_error("not an address: " + address);
	return to;
}

} // namespace

Fd socket_at(Ns ns, int type, const std::string &address, std::uint16_t port, bool listening) {
	Fd fd;
	inside(ns, [&] {
		fd = Fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
		const int one = 1;
		::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		const sockaddr_in at = socket_address(address, port);
		if (::bind(fd.get(), reinterpret_cast<const sockaddr *>(&at), sizeof(at)) < 0)
			throw std::runtime_error(errno_text("bind " + address));
		if (type == SOCK_STREAM && listening && ::listen(fd.get(), 4) < 0)
			throw std::runtime_error(errno_text("listen"));
	});
	return fd;
}

void send_to(const Fd &socket, const std::string &address, std::uint16_t port, const std::string &text) {
	const sockaddr_in to = socket_address(address, port);
	if (::sendto(socket.get(), text.data(), text.size(), 0, reinterpret_cast<const sockaddr *>(&to), sizeof(to)) <
	    0)
		throw std::runtime_error(errno_text("sendto " + address));
}

std::string receive(const Fd &socket) {
	pollfd waiting{socket.get(), POLLIN, 0};
	if (::poll(&waiting, 1, 3000) != 1)
		throw std::runtime_error("no datagram within 3 s");
	char text[2048], address[INET_ADDRSTRLEN];
	sockaddr_in from{};
	socklen_t size = sizeof(from);
	if (::recvfrom(socket.get(), text, sizeof(text), 0, reinterpret_cast<sockaddr *>(&from), &size) < 0)
		throw std::runtime_error(errno_text("recvfrom"));
	::inet_ntop(AF_INET, &from.sin_addr, address, sizeof(address));
	return std::string(address) + ":" + std::to_string(ntohs(from.sin_port));
}

} // namespace ptrig::test
