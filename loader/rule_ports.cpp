// Text of ports: "21/tcp", "6000-6010/tcp+udp" and mapped "6000-6010=7000/udp", read and printed.
// Every refusal says how it would be right.
#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "include/ptrig/abi.h"
#include "loader/rule.h"
#include "loader/rule_text.h"

namespace ptrig {
namespace {

using text::in_quotes;

constexpr unsigned kLastPort = 65535;

template <typename... Args> auto refuse(std::string_view whole, fmt::format_string<Args...> format, Args &&...args) {
	return fail(in_quotes(whole) + ": " + fmt::format(format, std::forward<Args>(args)...), Status::kInput);
}

std::string_view protos_text(Protos protos) {
	return protos == PTRIG_TCP ? "tcp" : protos == PTRIG_UDP ? "udp" : "tcp+udp";
}

/// In either case: routers and manuals write "TCP".
Result<Protos> parse_protos(std::string_view word, std::string_view whole) {
	const std::string lower = text::lowered(word);
	for (const Protos protos : {PTRIG_TCP, PTRIG_UDP, PTRIG_TCP | PTRIG_UDP})
		if (lower == protos_text(protos))
			return protos;
	return refuse(whole, "the protocol is tcp, udp or tcp+udp, not {}", in_quotes(word));
}

/// Does it name a protocol that routers' lists of ports also have: "gre", "47/ip", "PPTP", "esp/50"?
bool has_no_ports(std::string_view whole) {
	constexpr std::array<std::string_view, 9> kNames{"gre",  "esp",  "ah",   "pptp", "ipsec",
							 "icmp", "igmp", "ipip", "6in4"};
	constexpr std::array<std::string_view, 3> kNumbers{"47", "50", "51"}; // GRE, ESP, AH
	const std::string lower = text::lowered(whole);
	bool is_number = false, is_port = false;
	for (std::size_t begin = 0; begin < lower.size();) {
		const std::size_t end = std::min(lower.find_first_of("/ :=-+,", begin), lower.size());
		const auto word = std::string_view(lower).substr(begin, end - begin);
		if (std::find(kNames.begin(), kNames.end(), word) != kNames.end())
			return true;
		is_number |= std::find(kNumbers.begin(), kNumbers.end(), word) != kNumbers.end();
		is_port |= word == "tcp" || word == "udp";
		begin = end + 1;
	}
	return is_number && !is_port && lower.find('/') != std::string::npos;
}

/// What cannot be a port and is often taken for one; nothing if it is none of these.
std::optional<tl::unexpected<Error>> refuse_foreign(std::string_view whole) {
	constexpr std::array<std::string_view, 4> kDashes{"\u2013", "\u2014", "\u2212", "\u2011"};
	if (has_no_ports(whole))
		return refuse(whole, "only TCP and UDP can be opened; GRE and ESP have no ports");
	for (const std::string_view dash : kDashes)
		if (whole.find(dash) != std::string_view::npos)
			return refuse(whole, "a range is written with the plain \"-\", as in \"6000-6010/tcp\"");
	return std::nullopt;
}

Result<std::uint16_t> parse_port(std::string_view word, std::string_view whole) {
	if (word.empty())
		return refuse(whole,
			      "a port number is missing: write 1 to 65535, as in \"21/tcp\" or \"6000-6010/udp\"");
	if (word.find_first_not_of("0123456789") != std::string_view::npos)
		return refuse(whole, "{} is not a port number: write 1 to 65535", in_quotes(word));
	const std::size_t zeros = word.find_first_not_of('0');
	if (zeros == std::string_view::npos)
		return refuse(whole, "there is no port 0: ports are 1 to 65535");
	if (zeros > 0)
		return refuse(whole, "write port numbers without a leading 0");
	const auto number = text::whole_number(word);
	if (!number || *number > kLastPort)
		return refuse(whole, "no port is above 65535: ports are 1 to 65535");
	return static_cast<std::uint16_t>(*number);
}

/// "21" or "6000-6010".
Result<PortRange> parse_ports(std::string_view ports, Protos protos, std::string_view whole) {
	const std::size_t dash = ports.find('-');
	const auto first = parse_port(ports.substr(0, dash), whole);
	if (!first)
		return tl::unexpected(first.error());
	if (dash == std::string_view::npos)
		return PortRange{*first, *first, protos};
	const auto last = parse_port(ports.substr(dash + 1), whole);
	if (!last)
		return tl::unexpected(last.error());
	if (*last < *first)
		return refuse(whole, "the range runs backwards: write \"{}\"",
			      to_string(PortRange{*last, *first, protos}));
	return PortRange{*first, *last, protos};
}

/// "PORTS/PROTO" taken apart at its last slash.
struct Parts {
	std::string_view ports;
	Protos protos;
};
Result<Parts> parse_parts(std::string_view whole) {
	const std::size_t slash = whole.rfind('/');
	if (slash == std::string_view::npos) {
		if (parse_open_range(std::string(whole) + "/tcp"))
			return refuse(whole,
				      "the protocol is missing: write \"{0}/tcp\", \"{0}/udp\" or \"{0}/tcp+udp\"",
				      whole);
		return refuse(whole, "not a port: write one as in \"21/tcp\" or \"6000-6010/udp\"");
	}
	const auto protos = parse_protos(whole.substr(slash + 1), whole);
	if (!protos)
		return tl::unexpected(protos.error());
	return Parts{whole.substr(0, slash), *protos};
}

/// ":" is a range to iptables and a mapping to docker: neither is guessed, the right spellings are offered.
tl::unexpected<Error> refuse_colon(std::string_view whole, bool may_be_mapped) {
	const std::string range = text::replaced(whole, ':', '-');
	const std::string mapping = text::replaced(whole, ':', '=');
	const bool range_is_right = parse_port_range(range).has_value();
	const bool mapping_is_right = may_be_mapped && parse_open_range(mapping).has_value();
	if (range_is_right && mapping_is_right)
		return refuse(whole,
			      "\":\" could mean two things: write \"{}\" for a range, \"{}\" for WAN port to host port",
			      range, mapping);
	if (range_is_right)
		return refuse(whole, "a range is written with \"-\": write \"{}\"", range);
	if (mapping_is_right)
		return refuse(whole, "a mapping is written with \"=\": write \"{}\"", mapping);
	if (!may_be_mapped)
		return refuse(whole, "\":\" is not used: write a range as in \"6000-6010/tcp\"");
	return refuse(whole, "\":\" is not used: write a range as in \"6000-6010/tcp\", "
			     "WAN ports to host ports as in \"6000-6010=7000/udp\"");
}

Result<std::uint16_t> parse_host_port(std::string_view word, const PortRange &wan, std::string_view whole) {
	if (word.find('-') != std::string_view::npos)
		return refuse(whole, "after \"=\" comes only the first host port, as in \"6000-6010=7000/udp\"");
	const auto first = parse_port(word, whole);
	if (!first)
		return tl::unexpected(first.error());
	const unsigned last = *first + (wan.last - wan.first);
	if (last > kLastPort)
		return refuse(whole, "the host ports would run up to {}: for {} ports the first can be {} at most",
			      last, wan.last - wan.first + 1, kLastPort - (wan.last - wan.first));
	return *first;
}

std::string ports_text(unsigned first, unsigned last) {
	return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

} // namespace

Result<PortRange> parse_port_range(std::string_view text) {
	if (auto foreign = refuse_foreign(text))
		return std::move(*foreign);
	if (text.find(':') != std::string_view::npos)
		return refuse_colon(text, false);
	const auto parts = parse_parts(text);
	if (!parts)
		return tl::unexpected(parts.error());
	if (parts->ports.find('=') != std::string_view::npos)
		return refuse(text, "only open ports are mapped to host ports (\"=\"): write one port or range, as in "
				    "\"6000-6010/tcp\"");
	return parse_ports(parts->ports, parts->protos, text);
}

Result<OpenRange> parse_open_range(std::string_view text) {
	if (auto foreign = refuse_foreign(text))
		return std::move(*foreign);
	if (text.find(':') != std::string_view::npos)
		return refuse_colon(text, true);
	const auto parts = parse_parts(text);
	if (!parts)
		return tl::unexpected(parts.error());
	const std::size_t equals = parts->ports.find('=');
	const std::string_view wan_ports = parts->ports.substr(0, equals);
	if (equals != std::string_view::npos && wan_ports.find('/') != std::string_view::npos)
		return refuse(text, "the protocol is written once, at the end, as in \"6000-6010=7000/udp\"");
	const auto wan = parse_ports(wan_ports, parts->protos, text);
	if (!wan)
		return tl::unexpected(wan.error());
	if (equals == std::string_view::npos)
		return OpenRange{*wan, wan->first};
	const auto host_first = parse_host_port(parts->ports.substr(equals + 1), *wan, text);
	if (!host_first)
		return tl::unexpected(host_first.error());
	return OpenRange{*wan, *host_first};
}

std::string to_string(const PortRange &range) {
	return ports_text(range.first, range.last) + "/" + std::string(protos_text(range.protos));
}

std::string to_string(const OpenRange &open) {
	if (open.host_first == open.wan.first)
		return to_string(open.wan);
	return fmt::format("{}={}/{}", ports_text(open.wan.first, open.wan.last), open.host_first,
			   protos_text(open.wan.protos));
}

std::string describe(const OpenRange &open) {
	const unsigned host_last = open.host_first + (open.wan.last - open.wan.first);
	return fmt::format("WAN {} → host {} {}", ports_text(open.wan.first, open.wan.last),
			   ports_text(open.host_first, host_last), protos_text(open.wan.protos));
}

} // namespace ptrig
