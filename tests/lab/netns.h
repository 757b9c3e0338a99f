// A network namespace with a name under /run/netns, as ip(8) keeps them, and functions run inside it.
#pragma once

#include <unistd.h>

#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace lab {

/// A file descriptor and its end.
class Fd {
public:
	explicit Fd(int fd = -1) : fd_(fd) {}
	Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
	Fd &operator=(Fd &&other) noexcept {
		std::swap(fd_, other.fd_);
		return *this;
	}
	~Fd() {
		if (fd_ >= 0)
			close(fd_);
	}
	int get() const { return fd_; }

private:
	int fd_;
};

class NetNs {
public:
	/// Make it: loopback up, no IPv6 (whose address detection would only add noise).
	explicit NetNs(std::string name);
	NetNs(NetNs &&) noexcept = default;
	NetNs &operator=(NetNs &&) = delete;
	~NetNs();

	const std::string &name() const { return name_; }
	int fd() const { return fd_.get(); }
	/// Call `work` in a thread that has entered the namespace; what it throws is thrown here.
	template <typename F> std::invoke_result_t<F> inside(F &&work) const {
		using R = std::invoke_result_t<F>;
		if constexpr (std::is_void_v<R>) {
			enter([&] { work(); });
		} else {
			std::optional<R> result;
			enter([&] { result.emplace(work()); });
			return std::move(*result);
		}
	}
	/// Write /proc/sys/net/KEY there, e.g. "ipv4/ip_forward".
	void sysctl(const std::string &key, const std::string &value) const;

private:
	void enter(const std::function<void()> &work) const;
	std::string name_;
	Fd fd_;
};

} // namespace lab
