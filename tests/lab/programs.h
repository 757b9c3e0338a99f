// The fixture of the stories with real programs: the files that they send, what they listen to, and packets
// counted at the hosts. Each story begins with its control, the same without the rule, which must fail.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "tests/lab/lab.h"

namespace lab {

class Programs : public Lab {
protected:
	void SetUp() override;
	void TearDown() override;

	/// Random bytes in a file that everybody may read; directories are made.
	void make_file(const std::string &path, std::size_t bytes) const;
	/// Both are there and have the same bytes.
	bool same(const std::string &one, const std::string &other) const;

	/// Wait until a program takes connections; it is demanded.
	void await_tcp(const NetNs &where, const Endpoint &at) const;
	/// Wait until a program has an IPv4 socket at a port of its namespace, for "tcp" a listening one; likewise.
	void await_socket(const NetNs &where, const std::string &protocol, std::uint16_t port) const;

	/// Count packets in a namespace from now on. `match` is an nftables expression; they are counted as they
	/// arrive there ("in") or leave ("out"), and may be dropped: `verdict`.
	void tally(const NetNs &where, const std::string &name, const std::string &direction, const std::string &match,
		   const std::string &verdict = "");
	std::uint64_t tallied(const NetNs &where, const std::string &name) const;

	static inline const std::string kDir = "/run/lab"; ///< empty when a story begins

private:
	std::set<const NetNs *> tallying_;
};

} // namespace lab
