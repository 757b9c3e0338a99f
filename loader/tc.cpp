// clsact filters: looked at by netlink, attached by libbpf. The one file that creates or removes a qdisc.
#include "loader/tc.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <netinet/in.h>

#include "loader/netlink.h"
#include "loader/netlink_socket.h"

namespace ptrig {

namespace {

constexpr std::string_view kOwnPrefix = "pt_";

const char *side_name(TcSide side) {
	return side == TcSide::kIngress ? "ingress" : "egress";
}

bpf_tc_hook hook_of(std::uint32_t ifindex, TcSide side) {
	bpf_tc_hook hook{};
	hook.sz = sizeof hook;
	hook.ifindex = static_cast<int>(ifindex);
	hook.attach_point = side == TcSide::kIngress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
	return hook;
}

/// Where a classifier keeps its actions; 0: not known, or it has none.
unsigned action_attribute(std::string_view kind) {
	if (kind == "u32") {
		return TCA_U32_ACT;
	}
	if (kind == "matchall") {
		return TCA_MATCHALL_ACT;
	}
	if (kind == "flower") {
		return TCA_FLOWER_ACT;
	}
	if (kind == "bpf") {
		return TCA_BPF_ACT;
	}
	if (kind == "basic") {
		return TCA_BASIC_ACT;
	}
	return kind == "fw" ? TCA_FW_ACT : 0;
}

std::uint32_t redirect_target(const NetlinkAttrs &actions) {
	for (const auto *attr : actions.all()) {
		NetlinkAttrs action(attr);
		if (action.text(TCA_ACT_KIND) != "mirred") {
			continue;
		}
		NetlinkAttrs options = action.nest(TCA_ACT_OPTIONS);
		const auto *parms = options.get(TCA_MIRRED_PARMS);
		if (parms != nullptr && mnl_attr_get_payload_len(parms) >= sizeof(tc_mirred)) {
			tc_mirred mirred;
			std::memcpy(&mirred, mnl_attr_get_payload(parms), sizeof mirred);
			return mirred.ifindex;
		}
	}
	return 0;
}

TcFilter parse_filter(const nlmsghdr *message) {
	const auto *header = static_cast<const tcmsg *>(mnl_nlmsg_get_payload(message));
	NetlinkAttrs attrs(message, sizeof *header);
	NetlinkAttrs options = attrs.nest(TCA_OPTIONS);
	TcFilter filter;
	filter.priority = TC_H_MAJ(header->tcm_info) >> 16;
	filter.protocol = ntohs(static_cast<std::uint16_t>(TC_H_MIN(header->tcm_info)));
	filter.handle = header->tcm_handle;
	filter.chain = attrs.u32(TCA_CHAIN).value_or(0);
	filter.kind = attrs.text(TCA_KIND);
	if (filter.kind == "bpf") {
		filter.name = options.text(TCA_BPF_NAME);
		filter.prog_id = options.u32(TCA_BPF_ID).value_or(0);
		filter.direct_action = options.u32(TCA_BPF_FLAGS).value_or(0) & TCA_BPF_FLAG_ACT_DIRECT;
	}
	if (unsigned type = action_attribute(filter.kind)) {
		filter.redirect = redirect_target(options.nest(type));
	}
	return filter;
}

Result<bool> ensure_clsact(std::uint32_t ifindex, TcSide side) {
	auto kind = tc_classifier_qdisc(ifindex);
	if (!kind) {
		return tl::unexpected(kind.error());
	}
	if (*kind == "ingress" && side == TcSide::kEgress) {
		auto name = interface_name(ifindex);
		return fail("it has an ingress qdisc, which has no egress side; put a clsact in its place and add its "
			    "filters "
			    "again (tc qdisc replace dev " +
			    name + " clsact)");
	}
	if (!kind->empty()) {
		return false;
	}
	auto hook = hook_of(ifindex, TcSide::kIngress);
	hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
	int code = -bpf_tc_hook_create(&hook);
	if (code == EEXIST) {
		return false; // somebody was faster
	}
	if (code != 0) {
		return system_error("add a clsact qdisc", code);
	}
	return true;
}

Done require_own_name(int prog_fd) {
	bpf_prog_info info{};
	std::uint32_t size = sizeof info;
	if (bpf_obj_get_info_by_fd(prog_fd, &info, &size) != 0) {
		return system_error("ask for the program's name");
	}
	if (std::string_view(info.name).substr(0, kOwnPrefix.size()) != kOwnPrefix) {
		return fail("the program \"" + std::string(info.name) +
			    "\" is not one of ptrig's: its name does not begin with pt_");
	}
	return {};
}

/// Removes the clsact if nothing is attached to it.
Done remove_empty_clsact(std::uint32_t ifindex) {
	auto kind = tc_classifier_qdisc(ifindex);
	if (!kind) {
		return tl::unexpected(kind.error());
	}
	if (*kind != "clsact") {
		return {};
	}
	for (auto side : {TcSide::kIngress, TcSide::kEgress}) {
		auto filters = tc_filters(ifindex, side);
		if (!filters) {
			return tl::unexpected(filters.error());
		}
		if (!filters->empty()) {
			return {};
		}
	}
	auto hook = hook_of(ifindex, TcSide::kIngress);
	hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
	int code = -bpf_tc_hook_destroy(&hook);
	if (code != 0 && code != ENOENT && code != ENODEV && code != EINVAL) {
		return system_error("remove the clsact qdisc", code);
	}
	return {};
}

Done remove_filter(std::uint32_t ifindex, TcSide side, std::uint32_t priority) {
	auto hook = hook_of(ifindex, side);
	bpf_tc_opts opts{};
	opts.sz = sizeof opts;
	opts.handle = kTcHandle;
	opts.priority = priority;
	int code = -bpf_tc_detach(&hook, &opts);
	if (code != 0 && code != ENOENT && code != ENODEV) {
		return system_error("remove the filter", code);
	}
	return {};
}

Done remove_filters(std::uint32_t ifindex, TcSide side, const std::vector<TcFilter> &filters,
		    std::uint32_t but_priority = 0) {
	for (const auto &filter : filters) {
		if (!filter.is_ptrig() || filter.priority == but_priority) {
			continue;
		}
		if (auto removed = remove_filter(ifindex, side, filter.priority); !removed) {
			return removed;
		}
	}
	return {};
}

/// Add the filter, or give ours the new program. True: one was there.
Result<bool> set_filter(std::uint32_t ifindex, TcSide side, int prog_fd) {
	auto filters = tc_filters(ifindex, side);
	if (!filters) {
		return tl::unexpected(filters.error());
	}
	const auto priority = tc_free_priority(*filters);
	const auto own = [](const TcFilter &filter) { return filter.is_ptrig(); };
	const auto own_here = [&](const TcFilter &filter) { return own(filter) && filter.priority == priority; };
	auto hook = hook_of(ifindex, side);
	bpf_tc_opts opts{};
	opts.sz = sizeof opts;
	opts.prog_fd = prog_fd;
	opts.flags = std::any_of(filters->begin(), filters->end(), own_here) ? BPF_TC_F_REPLACE : 0;
	opts.handle = kTcHandle;
	opts.priority = priority;
	if (int code = -bpf_tc_attach(&hook, &opts); code != 0) {
		if (code == EOPNOTSUPP) {
			return fail("its filters are in a shared block (tc qdisc ... ingress_block), which ptrig does "
				    "not touch");
		}
		return system_error("add the filter", code);
	}
	// The new place first: for a moment both may see a packet, never neither.
	if (auto removed = remove_filters(ifindex, side, *filters, priority); !removed) {
		return tl::unexpected(removed.error());
	}
	return std::any_of(filters->begin(), filters->end(), own);
}

Result<TcAttached> attach(std::uint32_t ifindex, TcSide side, int prog_fd) {
	if (auto named = require_own_name(prog_fd); !named) {
		return tl::unexpected(named.error());
	}
	auto created = ensure_clsact(ifindex, side);
	if (!created) {
		return tl::unexpected(created.error());
	}
	auto replaced = set_filter(ifindex, side, prog_fd);
	if (!replaced) {
		if (*created) {
			discard(remove_empty_clsact(ifindex), "the first error is told");
		}
		return tl::unexpected(replaced.error());
	}
	return TcAttached{.created_clsact = *created, .replaced = *replaced};
}

Done detach(std::uint32_t ifindex, TcSide side, bool remove_clsact) {
	auto filters = tc_filters(ifindex, side);
	if (!filters) {
		return tl::unexpected(filters.error());
	}
	if (auto removed = remove_filters(ifindex, side, *filters); !removed) {
		return removed;
	}
	return remove_clsact ? remove_empty_clsact(ifindex) : Done();
}

std::string place(std::uint32_t ifindex, TcSide side) {
	return interface_name(ifindex) + " " + side_name(side);
}

} // namespace

std::string interface_name(std::uint32_t ifindex) {
	char name[IF_NAMESIZE];
	return if_indextoname(ifindex, name) != nullptr ? name : "interface " + std::to_string(ifindex);
}

bool TcFilter::is_ptrig() const {
	return handle == kTcHandle && chain == 0 && kind == "bpf" && protocol == ETH_P_ALL &&
	       std::string_view(name).substr(0, kOwnPrefix.size()) == kOwnPrefix;
}

std::uint32_t tc_free_priority(const std::vector<TcFilter> &filters) {
	std::uint32_t priority = 1;
	const auto taken = [&](const TcFilter &filter) {
		return filter.priority == priority && filter.chain == 0 && !filter.is_ptrig();
	};
	while (std::any_of(filters.begin(), filters.end(), taken)) {
		priority++;
	}
	return priority;
}

Result<std::string> tc_classifier_qdisc(std::uint32_t ifindex) {
	auto qdiscs = read_qdiscs();
	if (!qdiscs) {
		return tl::unexpected(qdiscs.error());
	}
	for (const auto &qdisc : *qdiscs) {
		if (qdisc.ifindex == ifindex && qdisc.parent == TC_H_CLSACT) {
			return qdisc.kind;
		}
	}
	return std::string();
}

Result<std::vector<TcFilter>> tc_filters(std::uint32_t ifindex, TcSide side) {
	if (side == TcSide::kEgress) {
		// Asked for its egress side, an ingress qdisc answers with the ingress one (kernel 6.18 and all
		// before).
		auto qdisc = tc_classifier_qdisc(ifindex);
		if (!qdisc) {
			return tl::unexpected(qdisc.error());
		}
		if (*qdisc != "clsact") {
			return std::vector<TcFilter>();
		}
	}
	int code = 0;
	auto answer = netlink_dump(
		NETLINK_ROUTE,
		[&](nlmsghdr *message) {
			message->nlmsg_type = RTM_GETTFILTER;
			auto *header = static_cast<tcmsg *>(mnl_nlmsg_put_extra_header(message, sizeof(tcmsg)));
			header->tcm_ifindex = static_cast<int>(ifindex);
			header->tcm_parent =
				TC_H_MAKE(TC_H_CLSACT, side == TcSide::kIngress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
		},
		{}, &code);
	if (!answer) {
		if (code == ENODEV || code == EINVAL) {
			return std::vector<TcFilter>(); // no such device, or no such qdisc
		}
		return within("list the filters of " + place(ifindex, side), answer.error());
	}
	std::vector<TcFilter> filters;
	for (const auto *message : answer->messages()) {
		if (message->nlmsg_type != RTM_NEWTFILTER) {
			continue;
		}
		auto filter = parse_filter(message);
		// A classifier announces itself, without a handle, before its filters; matchall's only filter may have
		// none.
		bool listed = std::any_of(filters.begin(), filters.end(), [&](const TcFilter &other) {
			return other.handle == 0 && other.priority == filter.priority && other.chain == filter.chain;
		});
		if (listed && filter.handle != 0) {
			std::erase_if(filters, [&](const TcFilter &other) {
				return other.handle == 0 && other.priority == filter.priority &&
				       other.chain == filter.chain;
			});
		}
		filters.push_back(std::move(filter));
	}
	return filters;
}

Result<TcAttached> tc_attach(std::uint32_t ifindex, TcSide side, int prog_fd) {
	auto result = attach(ifindex, side, prog_fd);
	if (!result) {
		return within("attach to " + place(ifindex, side), result.error());
	}
	return result;
}

Done tc_detach(std::uint32_t ifindex, TcSide side, bool remove_clsact) {
	if (auto done = detach(ifindex, side, remove_clsact); !done) {
		return within("detach from " + place(ifindex, side), done.error());
	}
	return {};
}

Result<std::optional<std::uint32_t>> tc_query(std::uint32_t ifindex, TcSide side) {
	auto filters = tc_filters(ifindex, side);
	if (!filters) {
		return tl::unexpected(filters.error());
	}
	for (const auto &filter : *filters) {
		if (filter.is_ptrig()) {
			return std::optional(filter.prog_id);
		}
	}
	return std::optional<std::uint32_t>();
}

} // namespace ptrig
