// Text of IPv4 addresses, prefixes, MAC addresses and interfaces, read and printed.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "loader/rule.h"
#include "loader/rule_text.h"

namespace ptrig {
namespace {

using text::in_quotes;

constexpr unsigned kAddressBits = 32;

std::uint32_t mask_of(unsigned bits) {
	return bits == 0 ? 0 : ~std::uint32_t{0} << (kAddressBits - bits);
}

tl::unexpected<Error> refuse(std::string_view whole, std::string_view why) {
	return fail(fmt::format("{}: {}", in_quotes(whole), why), Status::kInput);
}

/// Four numbers and nothing else: inet_aton's octal, hexadecimal and short forms would be surprises.
std::optional<Ip4> dotted(std::string_view text) {
	const auto parts = text::split(text, '.');
	if (parts.size() != 4)
		return std::nullopt;
	Ip4 address;
	for (const std::string_view part : parts) {
		const auto number = text::whole_number(part);
		if (!number || *number > 255)
			return std::nullopt;
		address.value = address.value << 8 | static_cast<std::uint32_t>(*number);
	}
	return address;
}

tl::unexpected<Error> refuse_name(std::string_view text, std::string_view example) {
	return fail(fmt::format("{} is a name, write an address: names are not looked up, write one as in {}",
				in_quotes(text), example),
		    Status::kInput);
}

std::optional<std::uint8_t> hex_byte(std::string_view text) {
	constexpr std::string_view kDigits = "0123456789abcdef";
	if (text.size() != 2)
		return std::nullopt;
	unsigned value = 0;
	for (const char c : text) {
		const std::size_t digit = kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c);
		if (digit == std::string_view::npos)
			return std::nullopt;
		value = value << 4 | static_cast<unsigned>(digit);
	}
	return static_cast<std::uint8_t>(value);
}

std::optional<Mac> six_bytes(std::string_view text, char separator) {
	const auto parts = text::split(text, separator);
	Mac mac;
	if (parts.size() != mac.bytes.size())
		return std::nullopt;
	for (std::size_t i = 0; i < parts.size(); ++i) {
		const auto byte = hex_byte(parts[i]);
		if (!byte)
			return std::nullopt;
		mac.bytes[i] = *byte;
	}
	return mac;
}

/// Twelve digits without separators or with dots: "aabbccddeeff", "aabb.ccdd.eeff".
std::optional<Mac> packed_bytes(std::string_view text) {
	std::string digits(text);
	if (text.size() == 14 && text[4] == '.' && text[9] == '.')
		std::erase(digits, '.');
	Mac mac;
	if (digits.size() != 2 * mac.bytes.size())
		return std::nullopt;
	for (std::size_t i = 0; i < mac.bytes.size(); ++i) {
		const auto byte = hex_byte(std::string_view(digits).substr(2 * i, 2));
		if (!byte)
			return std::nullopt;
		mac.bytes[i] = *byte;
	}
	return mac;
}

} // namespace

bool Prefix::contains(Ip4 a) const {
	return ((a.value ^ address.value) & mask_of(bits)) == 0;
}

bool Prefix::overlaps(const Prefix &other) const {
	return bits <= other.bits ? contains(other.address) : other.contains(address);
}

Result<Ip4> parse_ip4(std::string_view text) {
	if (const auto address = dotted(text))
		return *address;
	if (text.find(':') != std::string_view::npos)
		return refuse(text, "not an IPv4 address: write one as in 203.0.113.10 (there is no IPv6 here)");
	if (text::is_name(text))
		return refuse_name(text, "203.0.113.10");
	return refuse(text, "not an IPv4 address: write four numbers from 0 to 255, as in 203.0.113.10");
}

Result<Prefix> parse_prefix(std::string_view text) {
	const std::size_t slash = text.find('/');
	const auto address = dotted(text.substr(0, slash));
	if (!address && text.find(':') != std::string_view::npos)
		return refuse(text, "not an IPv4 prefix: write one as in 203.0.113.0/24 (there is no IPv6 here)");
	if (!address && text::is_name(text.substr(0, slash)))
		return refuse_name(text, "203.0.113.0/24 or 203.0.113.10");
	if (!address)
		return refuse(text, "not an IPv4 prefix: write one as in 203.0.113.0/24 or 203.0.113.10");
	if (slash == std::string_view::npos)
		return Prefix{*address, kAddressBits};
	const auto bits = text::whole_number(text.substr(slash + 1));
	if (!bits || *bits > kAddressBits)
		return refuse(text, "the length of a prefix is 0 to 32, as in 203.0.113.0/24");
	const Prefix prefix{Ip4{address->value & mask_of(*bits)}, static_cast<std::uint8_t>(*bits)};
	if (prefix.address != *address)
		return refuse(text,
			      fmt::format("an address, not a prefix of {} bits: write {} for the whole prefix or {} "
					  "for the one address",
					  *bits, to_string(prefix), to_string(*address)));
	return prefix;
}

Result<Mac> parse_mac(std::string_view text) {
	const auto mac = six_bytes(text, ':');
	if (!mac) {
		if (const auto dashed = six_bytes(text, '-'))
			return refuse(text,
				      fmt::format("a MAC address is written with \":\": write {}", to_string(*dashed)));
		if (const auto packed = packed_bytes(text))
			return refuse(text, fmt::format("not a MAC address as it is written here: write {}",
							to_string(*packed)));
		return refuse(text, "not a MAC address: write six bytes as in 02:00:5e:10:00:01");
	}
	if (mac->bytes[0] & 1)
		return refuse(text, "a group address, which no host sends from: write a host's own");
	if (*mac == Mac{})
		return refuse(text, "the empty MAC address belongs to no host: write a host's own");
	return *mac;
}

/// As the kernel's dev_valid_name().
Result<std::string> parse_interface(std::string_view text) {
	constexpr std::size_t kLongest = 15;
	if (text.empty())
		return refuse(text, "an interface's name is missing: write one as in \"br0\"");
	if (text.size() > kLongest)
		return refuse(text, "no interface has a name longer than 15 characters");
	if (text == "." || text == ".." || text.find_first_of("/: \t\n\v\f\r") != std::string_view::npos ||
	    !text::is_printable(text))
		return refuse(text, "no interface can have this name: write one as in \"br0\"");
	return std::string(text);
}

Result<MacSource> parse_mac_source(std::string_view text) {
	const std::size_t at = text.find('@');
	auto mac = parse_mac(text.substr(0, at));
	if (!mac)
		return tl::unexpected(std::move(mac.error()));
	if (at == std::string_view::npos)
		return MacSource(*mac);
	auto interface = parse_interface(text.substr(at + 1));
	if (!interface)
		return tl::unexpected(std::move(interface.error()));
	return MacSource(*mac, std::move(*interface));
}

std::string to_string(Ip4 address) {
	const std::uint32_t v = address.value;
	return fmt::format("{}.{}.{}.{}", v >> 24, v >> 16 & 255, v >> 8 & 255, v & 255);
}

std::string to_string(const Prefix &prefix) {
	if (prefix.bits == kAddressBits)
		return to_string(prefix.address);
	return fmt::format("{}/{}", to_string(prefix.address), prefix.bits);
}

std::string to_string(const Mac &mac) {
	return fmt::format("{:02x}", fmt::join(mac.bytes, ":"));
}

std::string to_string(const MacSource &source) {
	return to_string(source.mac) + (source.interface.empty() ? "" : "@" + source.interface);
}

} // namespace ptrig
