// Errors are values: what failed, said once, each layer adding what it was doing.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <tl/expected.hpp>
#include <type_traits>
#include <utility>

namespace ptrig {

/// Exit statuses of the CLI (published contract).
enum class Status {
	kOk = 0,
	kSystem = 1,    ///< the system refused, or nothing matched what was to be closed
	kInput = 2,     ///< the user's input
	kNoGateway = 3, ///< no gateway at these pins
};

struct Error {
	Status status = Status::kSystem;
	std::string what; ///< "doing this: doing that: what went wrong"; one line, no final dot
};

/// A value or what went wrong. tl::expected, but the compiler minds when nobody looks at it.
template <typename T> class [[nodiscard]] Result : public tl::expected<T, Error> {
public:
	using tl::expected<T, Error>::expected;

	/// What `next` makes of the value (of nothing: Done), itself a Result; or the error.
	template <typename F> auto and_then(F &&next) && {
		if constexpr (std::is_void_v<T>) {
			using Next = std::invoke_result_t<F>;
			return *this ? std::forward<F>(next)() : Next(tl::unexpected(std::move(this->error())));
		} else {
			using Next = std::invoke_result_t<F, T &&>;
			return *this ? std::forward<F>(next)(std::move(**this))
				     : Next(tl::unexpected(std::move(this->error())));
		}
	}
	/// The same of a function that cannot fail.
	template <typename F> auto map(F &&change) && {
		using Next = Result<std::invoke_result_t<F, T &&>>;
		return *this ? Next(std::forward<F>(change)(std::move(**this)))
			     : Next(tl::unexpected(std::move(this->error())));
	}
};
using Done = Result<void>;

/// Nothing is done about this result, error or not, and this is why.
template <typename T> void discard(const Result<T> & /*result*/, std::string_view /*why*/) {}

/// An error from the system; `code` is an errno value.
inline tl::unexpected<Error> system_error(std::string doing, int code = errno) {
	return tl::unexpected(Error{Status::kSystem, std::move(doing) + ": " + std::generic_category().message(code)});
}
inline tl::unexpected<Error> fail(std::string what, Status status = Status::kSystem) {
	return tl::unexpected(Error{status, std::move(what)});
}
/// The same error, with what the caller was doing in front.
inline tl::unexpected<Error> within(std::string doing, Error error) {
	return tl::unexpected(Error{error.status, std::move(doing) + ": " + std::move(error.what)});
}

} // namespace ptrig
