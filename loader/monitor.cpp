// The socket of the monitors. SOCK_SEQPACKET keeps one event one packet; the socket's own send buffer is
// the bounded queue of a client, so that the daemon keeps nothing but a count of what did not fit.
#include "loader/monitor.h"

#include <array>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "loader/system.h"

namespace ptrig {

namespace {

constexpr int kClientBuffer = 128 * 1024; ///< bytes of a client's queue; the kernel doubles it
constexpr std::size_t kMaxClients = 256;
constexpr std::size_t kMaxPacket = 4096;

Result<sockaddr_un> address_of(const std::string &path) {
	sockaddr_un address{};
	address.sun_family = AF_UNIX;
	if (path.size() >= sizeof(address.sun_path))
		return fail(
			fmt::format("socket {}: the path is longer than {} bytes", path, sizeof(address.sun_path) - 1));
	path.copy(address.sun_path, path.size());
	return address;
}

Done make_directory(const std::string &path) {
	const std::size_t slash = path.rfind('/');
	if (slash == std::string::npos || slash == 0)
		return {};
	const std::string directory = path.substr(0, slash);
	if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
		return system_error("make " + directory);
	return {};
}

/// Connects; the errno value if it fails.
Result<int> connect_to(const std::string &path) {
	const auto address = address_of(path);
	if (!address)
		return tl::unexpected(address.error());
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return system_error("make a socket");
	if (::connect(fd, reinterpret_cast<const sockaddr *>(&*address), sizeof(*address)) == 0)
		return fd;
	const int code = errno;
	close(fd);
	if (code == ENOENT || code == ECONNREFUSED)
		return fail("no daemon is running here (`ptrig run`, or systemctl start ptrig)");
	return system_error("connect to " + path, code);
}

} // namespace

std::string monitor_path(const std::string &pin_dir) {
	std::string path = runtime_file(pin_dir, "monitor");
	if (path.size() < sizeof(sockaddr_un::sun_path))
		return path;
	std::uint64_t hash = 0xcbf29ce484222325ULL; // FNV-1a: the same in every build
	for (const char c : path)
		hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
	return fmt::format("{}-{:016x}", runtime_file(kDefaultPinDir, "monitor"), hash);
}

MonitorServer::MonitorServer(std::string path, int listener, int epoll)
    : path_(std::move(path)), listener_(listener), epoll_(epoll) {}

MonitorServer::MonitorServer(MonitorServer &&other) noexcept
    : path_(std::move(other.path_)), listener_(std::exchange(other.listener_, -1)),
      epoll_(std::exchange(other.epoll_, -1)), clients_(std::exchange(other.clients_, {})) {}

MonitorServer &MonitorServer::operator=(MonitorServer &&other) noexcept {
	if (this != &other) {
		close_all();
		path_ = std::move(other.path_);
		listener_ = std::exchange(other.listener_, -1);
		epoll_ = std::exchange(other.epoll_, -1);
		clients_ = std::exchange(other.clients_, {});
	}
	return *this;
}

MonitorServer::~MonitorServer() {
	close_all();
}

void MonitorServer::close_all() {
	for (const auto &[client, lost] : clients_)
		close(client);
	clients_.clear();
	if (epoll_ >= 0)
		close(epoll_);
	if (listener_ >= 0) {
		unlink(path_.c_str());
		close(listener_);
	}
	listener_ = epoll_ = -1;
}

Result<MonitorServer> MonitorServer::listen(const std::string &path) {
	const auto address = address_of(path);
	if (!address)
		return tl::unexpected(address.error());
	if (auto made = make_directory(path); !made)
		return tl::unexpected(made.error());
	if (const auto other = connect_to(path)) {
		close(*other);
		return fail("listen at " + path + ": another daemon does");
	}
	unlink(path.c_str());
	const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0)
		return system_error("make the monitors' socket");
	MonitorServer server(path, listener, epoll_create1(EPOLL_CLOEXEC));
	if (server.epoll_ < 0)
		return system_error("make an epoll for the monitors");
	if (bind(listener, reinterpret_cast<const sockaddr *>(&*address), sizeof(*address)) != 0)
		return system_error("bind " + path);
	if (chmod(path.c_str(), 0600) != 0 || ::listen(listener, 64) != 0)
		return system_error("listen at " + path);
	// Of each client once: one that cannot be accepted for want of descriptors would wake us again and again.
	epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.fd = listener}};
	if (epoll_ctl(server.epoll_, EPOLL_CTL_ADD, listener, &event) != 0)
		return system_error("watch " + path);
	return server;
}

void MonitorServer::serve() {
	std::array<epoll_event, 16> events{};
	const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 0);
	for (int i = 0; i < count; ++i) {
		const auto &event = events[static_cast<std::size_t>(i)];
		const int fd = event.data.fd;
		if (fd == listener_) {
			accept_all();
			continue;
		}
		const auto client = clients_.find(fd);
		if (client == clients_.end())
			continue;
		// A monitor never writes: anything to read is its end.
		if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0) {
			drop(fd);
			accept_all(); // who waited for its descriptor
		} else if ((event.events & EPOLLOUT) != 0 && tell_lost(fd, client->second))
			watch(fd, false);
	}
}

void MonitorServer::accept_all() {
	for (;;) {
		const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client < 0)
			return;
		epoll_event event{.events = EPOLLIN | EPOLLRDHUP, .data = {.fd = client}};
		if (clients_.size() >= kMaxClients || epoll_ctl(epoll_, EPOLL_CTL_ADD, client, &event) != 0) {
			close(client);
			continue;
		}
		setsockopt(client, SOL_SOCKET, SO_SNDBUF, &kClientBuffer, sizeof(kClientBuffer));
		clients_.emplace(client, 0);
	}
}

void MonitorServer::watch(int client, bool behind) {
	epoll_event event{.events = EPOLLIN | EPOLLRDHUP | (behind ? EPOLLOUT : 0U), .data = {.fd = client}};
	epoll_ctl(epoll_, EPOLL_CTL_MOD, client, &event);
}

bool MonitorServer::send_to(int client, const std::string &packet) {
	return send(client, packet.data(), packet.size(), MSG_DONTWAIT | MSG_NOSIGNAL) ==
	       static_cast<ssize_t>(packet.size());
}

bool MonitorServer::tell_lost(int client, std::uint32_t &lost) {
	if (lost == 0)
		return true;
	timespec now{};
	clock_gettime(CLOCK_REALTIME, &now);
	EventView event;
	event.time = static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
	event.event = "lost";
	event.count = lost;
	if (!send_to(client, encode_event(event)))
		return false;
	lost = 0;
	return true;
}

void MonitorServer::publish(const EventView &event) {
	if (clients_.empty())
		return;
	const std::string packet = encode_event(event);
	for (auto &[client, lost] : clients_) {
		if (tell_lost(client, lost) && send_to(client, packet))
			continue;
		// What is lost is told as soon as there is room, even if no event follows.
		if (lost == 0)
			watch(client, true);
		lost += event.event == "lost" ? event.count : 1; // news of a loss stands for what was lost
	}
}

void MonitorServer::drop(int client) {
	epoll_ctl(epoll_, EPOLL_CTL_DEL, client, nullptr);
	close(client);
	clients_.erase(client);
}

MonitorClient::MonitorClient(MonitorClient &&other) noexcept : socket_(std::exchange(other.socket_, -1)) {}

MonitorClient &MonitorClient::operator=(MonitorClient &&other) noexcept {
	std::swap(socket_, other.socket_);
	return *this;
}

MonitorClient::~MonitorClient() {
	if (socket_ >= 0)
		close(socket_);
}

Result<MonitorClient> MonitorClient::connect(const std::string &path) {
	auto fd = connect_to(path);
	if (!fd)
		return tl::unexpected(fd.error());
	return MonitorClient(*fd);
}

Result<std::optional<EventView>> MonitorClient::next() {
	std::array<char, kMaxPacket> packet{};
	ssize_t size = 0;
	do
		size = recv(socket_, packet.data(), packet.size(), 0);
	while (size < 0 && errno == EINTR);
	if (size < 0 && errno != ECONNRESET)
		return system_error("read an event");
	if (size <= 0)
		return std::optional<EventView>{};
	auto event = decode_event({packet.data(), static_cast<std::size_t>(size)});
	if (!event)
		return tl::unexpected(event.error());
	return std::optional<EventView>(std::move(*event));
}

} // namespace ptrig
