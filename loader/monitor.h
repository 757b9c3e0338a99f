// Events for any number of monitors: the daemon publishes, each connected client gets every event over a
// Unix socket in /run/ptrig. A client that does not read loses events and is told how many; it never
// makes the daemon wait.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "loader/gateway.h"
#include "loader/result.h"

namespace ptrig {

/// The text of reasons.h for its lower-case name; the name itself if there is none.
std::string_view describe_reason(std::string_view name);
/// An event as one line for people, without time: "irc-ident: refused 192.168.77.12: another host holds the lease".
std::string describe(const EventView &event);

/// How an event travels: one JSON object, one packet of the socket.
std::string encode_event(const EventView &event);
Result<EventView> decode_event(std::string_view text);

/// Where the daemon of these pins listens: runtime_file(pin_dir, "monitor"), shortened by a hash if a socket's
/// path cannot be that long.
std::string monitor_path(const std::string &pin_dir);

/// The daemon's side.
class MonitorServer {
public:
	/// Listens at `path` (0600); makes its directory (0700) if it is missing. A socket file without a listener is
	/// replaced, one with a listener is an error.
	static Result<MonitorServer> listen(const std::string &path);
	MonitorServer(MonitorServer &&other) noexcept;
	MonitorServer &operator=(MonitorServer &&other) noexcept;
	~MonitorServer(); ///< closes all and removes the socket file

	/// Readable when serve() has something to do: a new client, one that left, one that has caught up.
	int fd() const { return epoll_; }
	void serve();
	/// To every client; never blocks.
	void publish(const EventView &event);
	std::size_t clients() const { return clients_.size(); }

private:
	MonitorServer(std::string path, int listener, int epoll);
	void accept_all();
	void watch(int client, bool behind);
	bool send_to(int client, const std::string &packet);
	bool tell_lost(int client, std::uint32_t &lost);
	void drop(int client);
	void close_all();

	std::string path_;
	int listener_ = -1;
	int epoll_ = -1;
	std::map<int, std::uint32_t> clients_; ///< descriptor -> events it has lost and not been told of
};

/// A monitor's side.
class MonitorClient {
public:
	/// kSystem if nobody listens or it may not be reached.
	static Result<MonitorClient> connect(const std::string &path);
	MonitorClient(MonitorClient &&other) noexcept;
	MonitorClient &operator=(MonitorClient &&other) noexcept;
	~MonitorClient();

	/// Waits for the next event; nothing once the daemon has left.
	Result<std::optional<EventView>> next();
	int fd() const { return socket_; }

private:
	explicit MonitorClient(int socket) : socket_(socket) {}
	int socket_ = -1;
};

} // namespace ptrig
