// Attaching: programs to interfaces, and the maps that tell the programs about them. Makes the
// difference between what pt_ifaces says and what is wanted, and mends what others have removed.
#include <algorithm>
#include <atomic>
#include <filesystem>

#include <fmt/format.h>

#include "loader/bpf_link.h"
#include "loader/classifier.h"
#include "loader/gateway_impl.h"
#include "loader/system.h"
#include "loader/tc.h"
#include "loader/xdp.h"

namespace ptrig {

namespace {

std::string link_pin(const std::string &dir, std::uint32_t ifindex) {
	return fmt::format("{}/link/xdp_{}", dir, ifindex); // no name in it: bpffs refuses the dots of VLAN devices
}

/// A pinned program and its id.
struct PinnedProgram {
	Fd fd;
	std::uint32_t id = 0;
	static Result<PinnedProgram> open(const std::string &dir, const std::string &name) {
		auto fd = open_pin(dir + "/prog/" + name, Access::kWrite); // there are no read-only programs
		if (!fd)
			return tl::unexpected(std::move(fd.error()));
		bpf_prog_info info{};
		std::uint32_t size = sizeof(info);
		if (const int rc = bpf_obj_get_info_by_fd(fd->get(), &info, &size); rc < 0)
			return system_error("look at " + name, -rc);
		return PinnedProgram{std::move(*fd), info.id};
	}
};

/// Both sides of an interface; `made_clsact`: its clsact goes too, if nobody else uses it.
Done detach_classifiers(const std::string &dir, std::uint32_t ifindex, bool made_clsact) {
	return classifier_detach({dir, ifindex, TcSide::kIngress}, false).and_then([&] {
		return classifier_detach({dir, ifindex, TcSide::kEgress}, made_clsact);
	});
}

class Attacher {
public:
	Attacher(const std::string &dir, const Wanted &wanted, AttachOptions options,
		 std::map<std::uint32_t, std::string> &names)
	    : dir_(dir), wanted_(wanted), options_(options), names_(names) {}

	Result<AttachReport> run() {
		report_.conditions = wanted_.conditions;
		auto done = open_maps()
				    .and_then([&] { return add_addresses(); })
				    .and_then([&] { return attach_wanted(); })
				    .and_then([&] { return detach_unwanted(); })
				    .and_then([&] { return tell_any_fast(); })
				    .and_then([&] { return remove_addresses(); })
				    .and_then([&] { return add_left_out(); });
		if (!done)
			return tl::unexpected(std::move(done.error()));
		return std::move(report_);
	}

private:
	Done open_maps();
	using AddressKey = std::pair<std::uint32_t, std::uint32_t>; // as in Wanted::addresses
	Done add_addresses();
	Done add_address(const AddressKey &where, std::uint32_t primary);
	Done add_left_out();
	Done remove_addresses();
	Done attach_wanted();
	Done detach_unwanted();
	Done attach(const WantedInterface &interface);
	Done attach_side(const Link &link, TcSide side, const std::string &program, ptrig_iface &entry);
	Done attach_xdp(const Link &link, ptrig_iface &entry);
	Done start_xdp(const Link &link, XdpContext context, ptrig_iface &entry);
	Done tell_fast(const Link &link, ptrig_iface &entry);
	Done tell_any_fast();
	Done stop_xdp(std::uint32_t ifindex, ptrig_iface &entry);
	Done detach(std::uint32_t ifindex, const ptrig_iface &entry);
	Done store(std::uint32_t ifindex, const ptrig_iface &entry);
	Result<const PinnedProgram *> program(const std::string &name);
	bool was_attached(std::uint32_t ifindex) const { return attached_.count(ifindex) != 0; }

	bool is_wanted(std::uint32_t ifindex) const {
		return std::any_of(wanted_.interfaces.begin(), wanted_.interfaces.end(),
				   [&](const WantedInterface &interface) { return interface.link.ifindex == ifindex; });
	}

	const std::string &dir_;
	const Wanted &wanted_;
	const AttachOptions options_;
	std::map<std::uint32_t, std::string> &names_;
	std::map<std::uint32_t, ptrig_iface> attached_;
	std::map<std::string, PinnedProgram> programs_;
	Map<std::uint32_t, ptrig_iface> ifaces_;
	Map<std::uint32_t, std::uint32_t> devs_;
	Map<ptrig_wan_key, std::uint32_t> addresses_;
	std::vector<AddressKey> left_out_;
	std::string why_left_out_;
	bool any_fast_ = false;
	AttachReport report_;
};

Done Attacher::open_maps() {
	auto attached = read_ifaces(dir_);
	auto ifaces = Map<std::uint32_t, ptrig_iface>::open(dir_, "pt_ifaces");
	auto devs = Map<std::uint32_t, std::uint32_t>::open(dir_, "pt_devs");
	auto addresses = Map<ptrig_wan_key, std::uint32_t>::open(dir_, "pt_wan_addrs");
	for (auto *error : {attached ? nullptr : &attached.error(), ifaces ? nullptr : &ifaces.error(),
			    devs ? nullptr : &devs.error(), addresses ? nullptr : &addresses.error()})
		if (error)
			return tl::unexpected(std::move(*error));
	attached_ = std::move(*attached);
	ifaces_ = std::move(*ifaces);
	devs_ = std::move(*devs);
	addresses_ = std::move(*addresses);
	return {};
}

Result<const PinnedProgram *> Attacher::program(const std::string &name) {
	if (const auto known = programs_.find(name); known != programs_.end())
		return &known->second;
	auto opened = PinnedProgram::open(dir_, name);
	if (!opened)
		return tl::unexpected(std::move(opened.error()));
	return &programs_.emplace(name, std::move(*opened)).first->second;
}

Done Attacher::store(std::uint32_t ifindex, const ptrig_iface &entry) {
	const auto known = attached_.find(ifindex);
	if (known != attached_.end() && known->second.flags == entry.flags && known->second.mtu == entry.mtu)
		return {};
	return ifaces_.update(ifindex, entry);
}

/// Those of the interfaces' own choice first: if there is no room for all, these are the ones that matter.
Done Attacher::add_addresses() {
	for (const std::uint32_t of_kind : {1U, 0U}) {
		for (const auto &[where, primary] : wanted_.addresses) {
			if (primary != of_kind)
				continue;
			if (auto done = add_address(where, primary); !done) {
				left_out_.push_back(where);
				why_left_out_ = done.error().what;
			}
		}
	}
	return {};
}

Done Attacher::add_address(const AddressKey &where, std::uint32_t primary) {
	const ptrig_wan_key key{.ifindex = where.first, .address = where.second};
	auto known = addresses_.lookup(key);
	if (!known)
		return tl::unexpected(std::move(known.error()));
	if (*known == primary)
		return {};
	if (auto done = addresses_.update(key, primary); !done)
		return done;
	const bool is_new = !*known || **known & PTRIG_WAN_GONE;
	if (const Link *link = wanted_.network.find(where.first); link && is_new && was_attached(where.first))
		report_.lines.push_back(
			fmt::format("wan {}: address {}", link->name, to_string(ip_from_net(where.second))));
	return {};
}

/// For which there may be room, now that others have gone. The rest stays a condition: all else goes on.
Done Attacher::add_left_out() {
	std::vector<AddressKey> still;
	for (const AddressKey &where : left_out_)
		if (auto done = add_address(where, wanted_.addresses.at(where)); !done) {
			still.push_back(where);
			why_left_out_ = done.error().what;
		}
	if (!still.empty())
		report_.conditions.push_back(fmt::format("{} of {} WAN addresses are not followed, nothing opens on "
							 "them: {} and on: {}",
							 still.size(), wanted_.addresses.size(),
							 to_string(ip_from_net(still.front().second)), why_left_out_));
	return {};
}

/// One that goes is marked for some seconds, unless others wait for its room.
Done Attacher::remove_addresses() {
	const auto now = static_cast<std::uint32_t>(boot_now_ns() / 1000000000U) & ~PTRIG_WAN_GONE;
	std::vector<ptrig_wan_key> old, gone;
	auto listed = addresses_.each([&](const ptrig_wan_key &key, std::uint32_t value) {
		if (wanted_.addresses.count({key.ifindex, key.address}))
			return;
		if (!(value & PTRIG_WAN_GONE))
			gone.push_back(key);
		if (!left_out_.empty() ||
		    (value & PTRIG_WAN_GONE && now - (value & ~PTRIG_WAN_GONE) >= PTRIG_WAN_GONE_SECONDS))
			old.push_back(key);
	});
	if (!listed)
		return listed;
	for (const auto &key : gone) {
		if (auto done = addresses_.update(key, PTRIG_WAN_GONE | now); !done)
			return done;
		const bool elsewhere =
			std::any_of(wanted_.addresses.begin(), wanted_.addresses.end(),
				    [&](const auto &entry) { return entry.first.second == key.address; });
		if (!elsewhere)
			report_.gone.push_back(ip_from_net(key.address));
		if (is_wanted(key.ifindex))
			report_.lines.push_back(fmt::format("wan {}: address {} is gone", names_[key.ifindex],
							    to_string(ip_from_net(key.address))));
	}
	for (const auto &key : old)
		if (auto done = addresses_.erase(key); !done)
			return done;
	return {};
}

Done Attacher::attach_wanted() {
	for (const auto &interface : wanted_.interfaces) {
		const Link &link = interface.link;
		names_[link.ifindex] = link.name;
		auto free = was_attached(link.ifindex) ? Done{} : check_not_anothers(dir_, link);
		if (!free && options_.strict)
			return free;
		if (!free) {
			report_.conditions.push_back(free.error().what);
			continue;
		}
		auto done = attach(interface);
		if (done)
			continue;
		Error error = within(link.name, std::move(done.error())).value();
		if (options_.strict)
			return tl::unexpected(std::move(error));
		report_.conditions.push_back(error.what);
		if (auto undone = detach(link.ifindex, ptrig_iface{}); !undone)
			return undone;
	}
	return {};
}

Done Attacher::attach(const WantedInterface &interface) {
	const Link &link = interface.link;
	const bool lan = interface.role & PTRIG_IFACE_LAN;
	const std::string suffix = interface.role & PTRIG_IFACE_L3 ? "_l3" : "";
	const std::uint32_t kept =
		PTRIG_IFACE_XDP | PTRIG_IFACE_XDP_IN | PTRIG_IFACE_FAST_IN | PTRIG_IFACE_FAST_OUT | kIfaceMadeClsact;
	ptrig_iface entry{.flags = interface.role, .mtu = link.mtu};
	if (was_attached(link.ifindex))
		entry.flags |= attached_[link.ifindex].flags & kept;
	auto done = store(link.ifindex, entry).and_then([&] {
		return attach_side(link, TcSide::kIngress, (lan ? "pt_lan_in" : "pt_wan_in") + suffix, entry);
	});
	if (!done)
		return done;
	if (!lan || wanted_.lan_egress)
		done = attach_side(link, TcSide::kEgress, (lan ? "pt_lan_out" : "pt_wan_out") + suffix, entry);
	else
		done = classifier_detach({dir_, link.ifindex, TcSide::kEgress}, false);
	if (!done)
		return done;
	done = attach_xdp(link, entry).and_then([&] { return tell_fast(link, entry); });
	any_fast_ |= (entry.flags & PTRIG_IFACE_FAST_IN) != 0;
	auto stored = ifaces_.update(link.ifindex, entry); // also when XDP failed: a clsact may be ours
	if (!done || !stored)
		return done ? stored : done;
	for (auto &warning : place_warnings(dir_, link, entry.flags, wanted_.lan_egress))
		report_.conditions.push_back(std::move(warning));
	if (!was_attached(link.ifindex))
		report_.lines.push_back(
			fmt::format("attached to {} {} ({})", lan ? "lan" : "wan", link.name, datapath_name(entry)));
	return {};
}

Done Attacher::attach_side(const Link &link, TcSide side, const std::string &name, ptrig_iface &entry) {
	auto wanted = program(name);
	const ClassifierPlace place(dir_, link.ifindex, side);
	auto there = classifier_query(place);
	if (!wanted)
		return tl::unexpected(std::move(wanted.error()));
	if (!there)
		return tl::unexpected(std::move(there.error()));
	if (there->blocked)
		return {}; // place_warnings() tells it; the rest goes on
	if (!options_.replace && there->settled && there->prog_id == (*wanted)->id)
		return {};
	auto attached = classifier_attach(place, (*wanted)->fd.get());
	if (!attached)
		return tl::unexpected(std::move(attached.error()));
	if (attached->created_clsact)
		entry.flags |= kIfaceMadeClsact;
	if (was_attached(link.ifindex) && !there->prog_id && name.rfind("pt_lan_out", 0) != 0)
		report_.lines.push_back(fmt::format("{}: the {} program was gone: attached again", link.name,
						    side == TcSide::kIngress ? "ingress" : "egress"));
	return {};
}

Done Attacher::attach_xdp(const Link &link, ptrig_iface &entry) {
	if (wanted_.datapath == Datapath::kTc || wanted_.datapath == Datapath::kKernel)
		return stop_xdp(link.ifindex, entry);
	const bool forced = wanted_.datapath == Datapath::kXdp;
	XdpContext context;
	context.trunk = wanted_.network.is_trunk(link.ifindex);
	context.features = xdp_features(link.ifindex).value_or(std::nullopt);
	XdpChoice choice = forced ? xdp_possible(link, context) : xdp_auto(link, context);
	if (choice.use) {
		if (auto shaping = read_shaping(wanted_.network, link.ifindex)) {
			context.egress_shaped = !shaping->egress.empty();
			context.ingress_redirect = !shaping->ingress.empty();
		}
		choice = forced ? xdp_possible(link, context) : xdp_auto(link, context);
	}
	Done started;
	if (choice.use)
		started = start_xdp(link, context, entry);
	else if (forced)
		started = fail("no XDP here: " + choice.why + "; datapath = \"auto\" serves it by TC", Status::kInput);
	if (choice.use && started)
		return {};
	auto stopped = stop_xdp(link.ifindex, entry);
	if (started || !stopped)
		return stopped;
	if (forced && options_.strict)
		return started;
	report_.conditions.push_back(link.name + ": served by TC: " + started.error().what);
	return {};
}

Done Attacher::start_xdp(const Link &link, XdpContext context, ptrig_iface &entry) {
	const std::string pin = link_pin(dir_, link.ifindex);
	auto wanted = program(entry.flags & PTRIG_IFACE_LAN ? "pt_xdp_lan" : "pt_xdp_wan");
	auto there = link_query(pin);
	if (!wanted)
		return tl::unexpected(std::move(wanted.error()));
	if (!there)
		return tl::unexpected(std::move(there.error()));
	const bool attached = *there && (*there)->ifindex == link.ifindex;
	if (options_.replace || !attached || (*there)->prog_id != (*wanted)->id) {
		auto done = link_attach(link.ifindex, LinkHook::kXdp, (*wanted)->fd.get(), pin);
		if (!done)
			return tl::unexpected(std::move(done.error()));
		if (!attached && entry.flags & PTRIG_IFACE_XDP_IN)
			report_.lines.push_back(link.name + ": the XDP program was gone: attached again");
	}
	entry.flags |= PTRIG_IFACE_XDP_IN;
	context.features = xdp_features(link.ifindex).value_or(std::nullopt);
	if (!xdp_takes_redirects(link, context)) {
		entry.flags &= ~PTRIG_IFACE_XDP;
		return devs_.erase(link.ifindex);
	}
	// In the map before any session is told of it.
	auto done = devs_.update(link.ifindex, link.ifindex);
	if (done)
		entry.flags |= PTRIG_IFACE_XDP;
	return done;
}

/// The fast path would pass over what others have put there.
Done Attacher::tell_fast(const Link &link, ptrig_iface &entry) {
	entry.flags &= ~(PTRIG_IFACE_FAST_IN | PTRIG_IFACE_FAST_OUT);
	if (wanted_.datapath == Datapath::kKernel)
		return {};
	for (const TcSide side : {TcSide::kIngress, TcSide::kEgress}) {
		const auto there = classifier_query({dir_, link.ifindex, side});
		if (!there)
			return tl::unexpected(there.error());
		if (there->others.empty())
			entry.flags |= side == TcSide::kIngress ? PTRIG_IFACE_FAST_IN : PTRIG_IFACE_FAST_OUT;
	}
	return {};
}

/// One word, so that nothing of the fast path is looked for where there is none, or while it rests.
Done Attacher::tell_any_fast() {
	auto state = MappedArray<ptrig_state>::open(dir_, "pt_state");
	if (!state)
		return tl::unexpected(std::move(state.error()));
	std::atomic_ref<std::uint32_t>((*state)[0].fast) = !any_fast_                 ? PTRIG_STATE_FAST_OFF
							   : wanted_.lan_egress.rests ? PTRIG_STATE_FAST_RESTS
										      : PTRIG_STATE_FAST_ON;
	return {};
}

Done Attacher::stop_xdp(std::uint32_t ifindex, ptrig_iface &entry) {
	entry.flags &= ~(PTRIG_IFACE_XDP | PTRIG_IFACE_XDP_IN);
	return link_detach(link_pin(dir_, ifindex)).and_then([&] { return devs_.erase(ifindex); });
}

Done Attacher::detach_unwanted() {
	for (const auto &[ifindex, entry] : attached_) {
		if (is_wanted(ifindex))
			continue;
		if (auto done = detach(ifindex, entry); !done)
			return done;
		const Link *link = wanted_.network.find(ifindex);
		const std::string known =
			names_.count(ifindex) ? names_[ifindex] : fmt::format("interface {}", ifindex);
		if (!link)
			report_.lines.push_back(known + " is gone");
		else if (link->name != known && names_.count(ifindex))
			report_.lines.push_back(fmt::format("{} is called {} now: detached", known, link->name));
		else
			report_.lines.push_back("detached from " + link->name);
	}
	return {};
}

Done Attacher::detach(std::uint32_t ifindex, const ptrig_iface &entry) {
	const auto known = attached_.find(ifindex);
	const std::uint32_t flags = entry.flags | (known == attached_.end() ? 0 : known->second.flags);
	ptrig_iface ignored{};
	return detach_classifiers(dir_, ifindex, flags & kIfaceMadeClsact)
		.and_then([&] { return stop_xdp(ifindex, ignored); })
		.and_then([&] { return ifaces_.erase(ifindex); });
}

} // namespace

Result<AttachReport> attach_interfaces(const std::string &dir, const Wanted &wanted, AttachOptions options,
				       std::map<std::uint32_t, std::string> &names) {
	return Attacher(dir, wanted, options, names).run();
}

Done detach_all(const std::string &dir, bool everywhere) {
	if (everywhere) {
		auto links = read_links();
		if (!links)
			return tl::unexpected(std::move(links.error()));
		for (const Link &link : *links)
			if (auto done = check_not_anothers(dir, link) ? detach_classifiers(dir, link.ifindex, false)
								      : Done{};
			    !done)
				return done;
	} else {
		auto ifaces = read_ifaces(dir);
		if (!ifaces)
			return tl::unexpected(std::move(ifaces.error()));
		for (const auto &[ifindex, entry] : *ifaces)
			if (auto done = detach_classifiers(dir, ifindex, entry.flags & kIfaceMadeClsact); !done)
				return done;
	}
	std::error_code ignored;
	std::vector<std::string> links;
	for (const auto &entry : std::filesystem::directory_iterator(dir + "/link", ignored))
		links.push_back(entry.path().string());
	for (const auto &link : links)
		if (auto done = link_detach(link); !done)
			return done;
	return {};
}

} // namespace ptrig
