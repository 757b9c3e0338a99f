// Requests of nf_tables by libmnl, in one transaction each.
#include "loader/nat_chain.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <vector>

#include "loader/netlink_socket.h"

namespace ptrig {

namespace {

constexpr const char *kTable = "ptrig";
constexpr const char *kChain = "nat";
constexpr int kDstnat = -100; // NF_IP_PRI_NAT_DST

void put_nft(nlmsghdr *message, unsigned type) {
	put_netfilter(message, NFNL_SUBSYS_NFTABLES << 8 | type, NFPROTO_IPV4);
}

void fill_table(nlmsghdr *message) {
	put_nft(message, NFT_MSG_NEWTABLE);
	message->nlmsg_flags |= NLM_F_CREATE;
	mnl_attr_put_strz(message, NFTA_TABLE_NAME, kTable);
}

void fill_chain(nlmsghdr *message) {
	put_nft(message, NFT_MSG_NEWCHAIN);
	message->nlmsg_flags |= NLM_F_CREATE;
	mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, kTable);
	mnl_attr_put_strz(message, NFTA_CHAIN_NAME, kChain);
	auto *hook = mnl_attr_nest_start(message, NFTA_CHAIN_HOOK);
	mnl_attr_put_u32(message, NFTA_HOOK_HOOKNUM, htonl(NF_INET_PRE_ROUTING));
	mnl_attr_put_u32(message, NFTA_HOOK_PRIORITY, htonl(static_cast<std::uint32_t>(kDstnat)));
	mnl_attr_nest_end(message, hook);
	mnl_attr_put_strz(message, NFTA_CHAIN_TYPE, "nat");
	mnl_attr_put_u32(message, NFTA_CHAIN_POLICY, htonl(NF_ACCEPT));
}

/// One expression of a rule; `fill` writes its attributes.
template <typename F> void put_expression(nlmsghdr *message, const char *name, F &&fill) {
	auto *element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
	mnl_attr_put_strz(message, NFTA_EXPR_NAME, name);
	auto *data = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
	fill();
	mnl_attr_nest_end(message, data);
	mnl_attr_nest_end(message, element);
}
void put_word(nlmsghdr *message, std::uint16_t attribute, std::uint32_t value) {
	auto *data = mnl_attr_nest_start(message, attribute);
	mnl_attr_put_u32(message, NFTA_DATA_VALUE, value);
	mnl_attr_nest_end(message, data);
}

/// "ct state new accept". It changes no packet's way, for the policy is accept; but conntrack follows only the
/// namespaces in which a rule asks it something (nf_ct_netns_get), and ours may be the only rule after a flush.
void fill_rule(nlmsghdr *message) {
	constexpr std::uint32_t kNew = 8; // NF_CT_STATE_BIT(IP_CT_NEW), in the order of the machine's bytes
	put_nft(message, NFT_MSG_NEWRULE);
	message->nlmsg_flags |= NLM_F_CREATE | NLM_F_APPEND;
	mnl_attr_put_strz(message, NFTA_RULE_TABLE, kTable);
	mnl_attr_put_strz(message, NFTA_RULE_CHAIN, kChain);
	auto *expressions = mnl_attr_nest_start(message, NFTA_RULE_EXPRESSIONS);
	put_expression(message, "ct", [&] {
		mnl_attr_put_u32(message, NFTA_CT_KEY, htonl(NFT_CT_STATE));
		mnl_attr_put_u32(message, NFTA_CT_DREG, htonl(NFT_REG_1));
	});
	put_expression(message, "bitwise", [&] {
		mnl_attr_put_u32(message, NFTA_BITWISE_SREG, htonl(NFT_REG_1));
		mnl_attr_put_u32(message, NFTA_BITWISE_DREG, htonl(NFT_REG_1));
		mnl_attr_put_u32(message, NFTA_BITWISE_LEN, htonl(sizeof(kNew)));
		put_word(message, NFTA_BITWISE_MASK, kNew);
		put_word(message, NFTA_BITWISE_XOR, 0);
	});
	put_expression(message, "cmp", [&] {
		mnl_attr_put_u32(message, NFTA_CMP_SREG, htonl(NFT_REG_1));
		mnl_attr_put_u32(message, NFTA_CMP_OP, htonl(NFT_CMP_NEQ));
		put_word(message, NFTA_CMP_DATA, 0);
	});
	put_expression(message, "immediate", [&] {
		mnl_attr_put_u32(message, NFTA_IMMEDIATE_DREG, htonl(NFT_REG_VERDICT));
		auto *data = mnl_attr_nest_start(message, NFTA_IMMEDIATE_DATA);
		auto *verdict = mnl_attr_nest_start(message, NFTA_DATA_VERDICT);
		mnl_attr_put_u32(message, NFTA_VERDICT_CODE, htonl(NF_ACCEPT));
		mnl_attr_nest_end(message, verdict);
		mnl_attr_nest_end(message, data);
	});
	mnl_attr_nest_end(message, expressions);
}

void fill_removal(nlmsghdr *message) {
	put_nft(message, NFT_MSG_DELTABLE);
	mnl_attr_put_strz(message, NFTA_TABLE_NAME, kTable);
}

/// Of a request, and of a transaction, to a kernel without nf_tables.
bool has_no_nftables(int code) {
	return code == EINVAL || code == EOPNOTSUPP;
}

/// The requests as one transaction: all of them or none. `code` receives the errno of the first that failed.
Done transact(const std::vector<void (*)(nlmsghdr *)> &requests, int &code) {
	auto socket = open_netlink(NETLINK_NETFILTER);
	if (!socket)
		return tl::unexpected(std::move(socket.error()));
	std::array<char, 4096> buffer{};
	std::size_t size = 0;
	std::uint32_t seq = 0;
	const auto next = [&](std::uint16_t flags, const auto &fill) {
		auto *message = mnl_nlmsg_put_header(buffer.data() + size);
		message->nlmsg_flags = NLM_F_REQUEST | flags;
		message->nlmsg_seq = seq++;
		fill(message);
		size += NLMSG_ALIGN(message->nlmsg_len);
	};
	next(0, [](nlmsghdr *m) { put_netfilter(m, NFNL_MSG_BATCH_BEGIN, AF_UNSPEC, NFNL_SUBSYS_NFTABLES); });
	for (const auto &request : requests)
		next(NLM_F_ACK, request);
	next(0, [](nlmsghdr *m) { put_netfilter(m, NFNL_MSG_BATCH_END, AF_UNSPEC, NFNL_SUBSYS_NFTABLES); });
	if (mnl_socket_sendto(socket->get(), buffer.data(), size) < 0) {
		code = errno;
		return system_error("send a netlink request", code);
	}
	for (std::size_t acknowledged = 0; acknowledged < requests.size();) {
		std::array<char, 4096> answer{};
		const auto bytes = mnl_socket_recvfrom(socket->get(), answer.data(), answer.size());
		code = errno;
		if (bytes < 0 && code == EINTR)
			continue;
		if (bytes < 0)
			return system_error("receive a netlink answer", code);
		const auto *message = reinterpret_cast<const nlmsghdr *>(answer.data());
		for (int left = static_cast<int>(bytes); mnl_nlmsg_ok(message, left);
		     message = mnl_nlmsg_next(message, &left)) {
			if (message->nlmsg_type != NLMSG_ERROR || mnl_nlmsg_get_payload_len(message) < sizeof(nlmsgerr))
				continue;
			code = -static_cast<const nlmsgerr *>(mnl_nlmsg_get_payload(message))->error;
			if (code != 0)
				return fail(std::generic_category().message(code));
			acknowledged++;
		}
	}
	return {};
}

} // namespace

Result<bool> nat_chain_present() {
	int code = 0;
	const auto answer = netlink_get(
		NETLINK_NETFILTER,
		[](nlmsghdr *message) {
			put_nft(message, NFT_MSG_GETCHAIN);
			mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, kTable);
			mnl_attr_put_strz(message, NFTA_CHAIN_NAME, kChain);
		},
		&code);
	if (!answer && code == ENOENT)
		return false;
	if (!answer)
		return within("look for the nat chain of table ip ptrig",
			      has_no_nftables(code) ? Error{Status::kSystem, "this kernel has no nftables"}
						    : answer.error());
	for (const auto *message : answer->messages())
		if (NetlinkAttrs(message, sizeof(nfgenmsg)).text(NFTA_CHAIN_TYPE) == "nat")
			return true;
	return false;
}

Done add_nat_chain() {
	int code = 0;
	auto done = transact({fill_table, fill_chain, fill_rule}, code);
	if (!done && code == ENOENT) // nothing can ask conntrack on this kernel: it follows where NAT is done
		done = transact({fill_table, fill_chain}, code);
	return done ? done : within("add the nat chain of table ip ptrig", std::move(done.error()));
}

Done remove_nat_chain() {
	int code = 0;
	auto done = transact({fill_removal}, code);
	if (done || code == ENOENT || has_no_nftables(code))
		return {};
	return within("remove table ip ptrig", std::move(done.error()));
}

} // namespace ptrig
