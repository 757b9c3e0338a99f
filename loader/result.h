// Errors are values: what failed, said once, each layer adding what it was doing.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>
#include <tl/expected.hpp>
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

template <typename T> using Result = tl::expected<T, Error>;
using Done = Result<void>;

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
