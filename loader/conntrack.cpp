// Requests of ctnetlink by libmnl.
#include "loader/conntrack.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include "loader/netlink_socket.h"

namespace ptrig {

namespace {

void put_tuple(nlmsghdr *message, const TcpTuple &connection) {
	auto *tuple = mnl_attr_nest_start(message, CTA_TUPLE_ORIG);
	auto *ip = mnl_attr_nest_start(message, CTA_TUPLE_IP);
	mnl_attr_put_u32(message, CTA_IP_V4_SRC, htonl(connection.source.value));
	mnl_attr_put_u32(message, CTA_IP_V4_DST, htonl(connection.destination.value));
	mnl_attr_nest_end(message, ip);
	auto *proto = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(message, CTA_PROTO_NUM, IPPROTO_TCP);
	mnl_attr_put_u16(message, CTA_PROTO_SRC_PORT, htons(connection.source_port));
	mnl_attr_put_u16(message, CTA_PROTO_DST_PORT, htons(connection.destination_port));
	mnl_attr_nest_end(message, proto);
	mnl_attr_nest_end(message, tuple);
}

/// A change of an entry that is there: without NLM_F_CREATE none is made.
void fill_liberal(nlmsghdr *message, const TcpTuple &connection, std::uint32_t zone) {
	constexpr nf_ct_tcp_flags kLiberal{.flags = IP_CT_TCP_FLAG_BE_LIBERAL, .mask = IP_CT_TCP_FLAG_BE_LIBERAL};
	put_netfilter(message, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW, AF_INET);
	message->nlmsg_flags = NLM_F_REQUEST;
	put_tuple(message, connection);
	mnl_attr_put_u16(message, CTA_ZONE, htons(static_cast<std::uint16_t>(zone)));
	auto *info = mnl_attr_nest_start(message, CTA_PROTOINFO);
	auto *tcp = mnl_attr_nest_start(message, CTA_PROTOINFO_TCP);
	mnl_attr_put(message, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, sizeof(kLiberal), &kLiberal);
	mnl_attr_put(message, CTA_PROTOINFO_TCP_FLAGS_REPLY, sizeof(kLiberal), &kLiberal);
	mnl_attr_nest_end(message, tcp);
	mnl_attr_nest_end(message, info);
}

} // namespace

Done make_liberal(const std::vector<TcpTuple> &connections, std::uint32_t zone) {
	if (connections.empty())
		return {};
	auto socket = open_netlink(NETLINK_NETFILTER);
	if (!socket)
		return tl::unexpected(std::move(socket.error()));
	for (const TcpTuple &connection : connections) {
		std::array<char, 512> buffer{};
		auto *message = mnl_nlmsg_put_header(buffer.data());
		fill_liberal(message, connection, zone);
		// The kernel has done it when this returns; it answers errors only, of which a missing entry is none.
		if (mnl_socket_sendto(socket->get(), message, message->nlmsg_len) < 0) {
			const int code = errno;
			return system_error("change conntrack's entry of a connection", code);
		}
	}
	return {};
}

} // namespace ptrig
