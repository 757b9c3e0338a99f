// Any bytes as messages of rtnetlink, ctnetlink and nftables: read without a fault.
#include <cstdint>
#include <cstring>
#include <vector>

#include "loader/netfilter_message.h"
#include "loader/netlink_message.h"
#include "tests/fuzz/demand.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
	// Aligned as the kernel's are, and not a byte longer than they say.
	std::vector<std::uint32_t> words((size + 3) / 4);
	if (size > 0)
		std::memcpy(words.data(), data, size);
	int left = static_cast<int>(size);
	// libmnl takes a length of over 2 GiB for a negative one, which fits anywhere.
	for (const auto *message = reinterpret_cast<const nlmsghdr *>(words.data());
	     mnl_nlmsg_ok(message, left) && message->nlmsg_len <= size; message = mnl_nlmsg_next(message, &left)) {
		if (const auto link = ptrig::parse_link(message))
			fuzz::demand(link->name.find('\0') == std::string::npos, "a name with a NUL in it", link->name);
		if (const auto address = ptrig::parse_address(message))
			fuzz::demand(address->bits <= 32 && address->on_link.contains(address->on_link.address),
				     "an address without its prefix", "");
		if (const auto route = ptrig::parse_default_route(message))
			fuzz::demand(!route->ifindexes.empty(), "a route that leads nowhere", "");
		ptrig::parse_change(message);
		if (const auto expected = ptrig::parse_expectation(message))
			fuzz::demand(expected->proto == 6 || expected->proto == 17, "neither TCP nor UDP", "");
		ptrig::parse_netfilter_change(message);
	}
	return 0;
}
