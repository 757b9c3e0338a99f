// See kernel.h.
#include "tests/bpf/kernel.h"

#include <cstring>
#include <map>
#include <stdexcept>

#include <arpa/inet.h>
#include <array>
#include <bpf/bpf.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include "tests/bpf/kernel.skel.h"
#include "tests/bpf/world.h"

namespace ptrig::test {

namespace {

class Program {
public:
	Program() : object_(ptrig_kernel_bpf::open_and_load()) {
		if (!object_)
			throw std::runtime_error("cannot load tests/bpf/kernel.bpf.c");
	}
	~Program() { ptrig_kernel_bpf::destroy(object_); }
	Program(const Program &) = delete;
	Program &operator=(const Program &) = delete;
	test_entry run(test_entry io) const {
		const std::uint32_t zero = 0;
		const int fd = bpf_map__fd(object_->maps.entry);
		const Bytes frame(64);
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_size_in = 64);
		if (bpf_map_update_elem(fd, &zero, &io, BPF_ANY) < 0 ||
		    bpf_prog_test_run_opts(bpf_program__fd(object_->progs.test_entry), &opts) < 0 ||
		    bpf_map_lookup_elem(fd, &zero, &io) < 0)
			throw std::runtime_error("run test_entry");
		if (opts.retval != 0)
			io.found = 0;
		return io;
	}

private:
	ptrig_kernel_bpf *object_;
};
const Program &program() {
	static const Program loaded;
	return loaded;
}

void put16(Bytes &frame, std::size_t at, std::uint16_t value) {
	frame[at] = static_cast<std::uint8_t>(value >> 8);
	frame[at + 1] = static_cast<std::uint8_t>(value);
}
std::uint16_t get16(const Bytes &frame, std::size_t at) {
	return static_cast<std::uint16_t>(frame[at] << 8 | frame[at + 1]);
}
std::size_t transport(const Bytes &frame, std::size_t l3) {
	return l3 + (frame[l3] & 0xfU) * 4U;
}

/// RFC 1624, equation 3, over the bytes that change.
void mend(Bytes &frame, std::size_t check_at, const Bytes &before, const Bytes &after) {
	const std::uint32_t sum = static_cast<std::uint16_t>(~get16(frame, check_at)) +
				  static_cast<std::uint32_t>(static_cast<std::uint16_t>(~ones_sum(before))) +
				  ones_sum(after);
	std::uint32_t folded = (sum & 0xffffU) + (sum >> 16);
	folded = (folded & 0xffffU) + (folded >> 16);
	put16(frame, check_at, static_cast<std::uint16_t>(~folded));
}

Bytes slice(const Bytes &frame, std::size_t from, std::size_t count) {
	return {frame.begin() + static_cast<std::ptrdiff_t>(from),
		frame.begin() + static_cast<std::ptrdiff_t>(from + count)};
}

/// An address and a port to new ones, with both checksums.
void rewrite(Bytes &frame, std::size_t l3, bool source, std::uint32_t address, std::uint16_t port) {
	const std::size_t l4 = transport(frame, l3), at = l3 + (source ? 12 : 16), port_at = l4 + (source ? 0 : 2);
	const bool tcp = frame[l3 + 9] == IPPROTO_TCP;
	const std::size_t check = l4 + (tcp ? 16 : 6);
	Bytes before = slice(frame, at, 4), after(4);
	std::memcpy(after.data(), &address, 4);
	mend(frame, l3 + 10, before, after);
	const Bytes old_port = slice(frame, port_at, 2);
	Bytes new_port(2);
	std::memcpy(new_port.data(), &port, 2);
	std::copy(after.begin(), after.end(), frame.begin() + static_cast<std::ptrdiff_t>(at));
	std::copy(new_port.begin(), new_port.end(), frame.begin() + static_cast<std::ptrdiff_t>(port_at));
	if (frame.size() < check + 2 || (!tcp && get16(frame, check) == 0))
		return;
	before.insert(before.end(), old_port.begin(), old_port.end());
	after.insert(after.end(), new_port.begin(), new_port.end());
	mend(frame, check, before, after);
	if (!tcp && get16(frame, check) == 0)
		put16(frame, check, 0xffff); // RFC 768
}

Bytes ethernet(std::uint32_t to, bool to_wan) {
	static const std::map<std::string, std::string> known{{kHost, kHostMac},         {kHost2, kHost2Mac},
							      {kStranger, kStrangerMac}, {kRemote, kRemoteMac},
							      {kRemote2, kRemote2Mac},   {kRemote1, kRemote1Mac}};
	char text[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &to, text, sizeof(text));
	const auto found = known.find(text);
	const std::string dst = found != known.end() ? found->second : to_wan ? kRouterMac : kSwitchMac;
	const bool wan1 = std::string(text).starts_with("192.0.2.");
	Bytes header = mac_bytes(dst);
	const Bytes src = mac_bytes(!to_wan ? kLanMac : wan1 ? kWan1Mac : kWanMac);
	header.insert(header.end(), src.begin(), src.end());
	header.push_back(0x08);
	header.push_back(0x00);
	return header;
}

} // namespace

std::optional<Tuple> tuple_of(const Bytes &frame, std::size_t l3) {
	if (frame.size() < l3 + 28 || frame[l3] >> 4 != 4)
		return std::nullopt;
	const std::size_t l4 = transport(frame, l3);
	Tuple out{.proto = frame[l3 + 9]};
	if ((out.proto != IPPROTO_TCP && out.proto != IPPROTO_UDP) || frame.size() < l4 + 4)
		return std::nullopt;
	std::memcpy(&out.tuple.saddr, &frame[l3 + 12], 4);
	std::memcpy(&out.tuple.daddr, &frame[l3 + 16], 4);
	std::memcpy(&out.tuple.sport, &frame[l4], 2);
	std::memcpy(&out.tuple.dport, &frame[l4 + 2], 2);
	return out;
}

test_entry make_entry(test_entry wanted) {
	wanted.op = TEST_ENTRY_MAKE;
	return program().run(wanted);
}
test_entry entry_of(const Tuple &packet) {
	return program().run({.op = TEST_ENTRY_LOOK, .proto = packet.proto, .tuple = packet.tuple});
}
void forget_entry(const Tuple &packet) {
	program().run({.op = TEST_ENTRY_FORGET, .proto = packet.proto, .tuple = packet.tuple});
}
void set_tcp_state(const Tuple &original, std::uint8_t state) {
	std::array<char, 1024> buffer{};
	nlmsghdr *message = mnl_nlmsg_put_header(buffer.data());
	message->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	auto *family = static_cast<nfgenmsg *>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
	family->nfgen_family = AF_INET;
	nlattr *tuple = mnl_attr_nest_start(message, CTA_TUPLE_ORIG);
	nlattr *ip = mnl_attr_nest_start(message, CTA_TUPLE_IP);
	mnl_attr_put_u32(message, CTA_IP_V4_SRC, original.tuple.saddr);
	mnl_attr_put_u32(message, CTA_IP_V4_DST, original.tuple.daddr);
	mnl_attr_nest_end(message, ip);
	nlattr *proto = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(message, CTA_PROTO_NUM, original.proto);
	mnl_attr_put_u16(message, CTA_PROTO_SRC_PORT, original.tuple.sport);
	mnl_attr_put_u16(message, CTA_PROTO_DST_PORT, original.tuple.dport);
	mnl_attr_nest_end(message, proto);
	mnl_attr_nest_end(message, tuple);
	nlattr *info = mnl_attr_nest_start(message, CTA_PROTOINFO);
	nlattr *tcp = mnl_attr_nest_start(message, CTA_PROTOINFO_TCP);
	mnl_attr_put_u8(message, CTA_PROTOINFO_TCP_STATE, state);
	mnl_attr_nest_end(message, tcp);
	mnl_attr_nest_end(message, info);
	mnl_socket *socket = mnl_socket_open(NETLINK_NETFILTER);
	const bool sent = socket && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0 &&
			  mnl_socket_sendto(socket, message, message->nlmsg_len) > 0;
	const auto got = sent ? mnl_socket_recvfrom(socket, buffer.data(), buffer.size()) : -1;
	const int rc = got > 0 ? mnl_cb_run(buffer.data(), static_cast<std::size_t>(got), 0, 0, nullptr, nullptr) : -1;
	if (socket)
		mnl_socket_close(socket);
	if (rc < 0)
		throw std::runtime_error(std::string("set the TCP state of an entry: ") + std::strerror(errno));
}
void answer_entry(const Tuple &packet) {
	program().run({.op = TEST_ENTRY_ANSWER, .proto = packet.proto, .tuple = packet.tuple});
}
test_entry masquerade(const Tuple &packet, const std::string &wan, std::uint16_t port) {
	test_entry wanted{.proto = packet.proto, .tuple = packet.tuple};
	std::memcpy(&wanted.from, ip_bytes(wan).data(), 4);
	wanted.from_port = port ? htons(port) : packet.tuple.sport;
	test_entry made = make_entry(wanted);
	for (int i = 0; !made.found && i < 16; i++) { // its port is taken: masquerade tries others
		wanted.from_port = htons(static_cast<std::uint16_t>(40000 + i));
		made = make_entry(wanted);
	}
	return made;
}

Bytes forwarded(const Bytes &frame, std::size_t l3, const test_entry &entry, bool to_wan, bool out_l3) {
	Bytes out(frame.begin() + static_cast<std::ptrdiff_t>(l3), frame.end());
	const test_tuple &other = entry.is_reply ? entry.orig : entry.reply;
	rewrite(out, 0, true, other.daddr, other.dport);
	rewrite(out, 0, false, other.saddr, other.sport);
	const Bytes before = slice(out, 8, 2);
	out[8]--;
	mend(out, 10, before, slice(out, 8, 2));
	if (out_l3)
		return out;
	Bytes header = ethernet(other.saddr, to_wan);
	header.insert(header.end(), out.begin(), out.end());
	return header;
}

} // namespace ptrig::test
