// Any bytes as what other programs and the kernel say of the machine (nft, iptables-save, /proc/net, miniupnpd), and as
// single values of a rule: read without a fault, and values print as they read. The first byte chooses.
#include <cstdint>
#include <string>
#include <string_view>

#include "include/ptrig/abi.h"
#include "loader/rule.h"
#include "loader/system.h"
#include "tests/fuzz/demand.h"

namespace {

template <typename T> void check_value(const ptrig::Result<T> &value, ptrig::Result<T> (*parse)(std::string_view)) {
	if (!value)
		return;
	const std::string printed = ptrig::to_string(*value);
	const auto again = parse(printed);
	fuzz::demand(again && *again == *value, "a value that reads back as another", printed);
}

void check_values(std::string_view text) {
	using namespace ptrig;
	check_value(parse_port_range(text), parse_port_range);
	check_value(parse_open_range(text), parse_open_range);
	check_value(parse_prefix(text), parse_prefix);
	check_value(parse_ip4(text), parse_ip4);
	check_value(parse_mac(text), parse_mac);
	check_value(parse_duration(text), parse_duration);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
	if (size == 0)
		return 0;
	const std::string_view text(reinterpret_cast<const char *>(data) + 1, size - 1);
	switch (data[0] % 5) {
	case 0:
		ptrig::discard(ptrig::parse_nft(text), "an error is an answer");
		ptrig::parse_offloaded_devices(text);
		break;
	case 1:
		ptrig::parse_iptables_save(text);
		break;
	case 2:
		ptrig::parse_proc_sockets(text, PTRIG_TCP, {});
		break;
	case 3:
		ptrig::parse_upnp_leases(text);
		break;
	default:
		check_values(text);
	}
	return 0;
}
