// A LAN host talks to an open port of the WAN address: its session is one of the remote "WAN address and the client's
// own port". Who gives the packets has seen to it that this port is free (port_taken()).
#include <algorithm>

#include "tests/model/model.h"

namespace ptrig::model {

namespace {

/// The client's packet, as it would come back from the WAN.
Input turned(const Input &in, std::uint16_t port) {
	Input back = in;
	back.from_lan = false;
	back.host.clear();
	back.near = in.far;
	back.far = port;
	return back;
}

} // namespace

/// Another session has the client's port towards some open port.
std::optional<std::uint16_t> Gateway::port_taken(const Input &in) const {
	for (const Session &s : sessions_)
		if (!s.client.empty() && s.proto == in.proto && s.far == in.near)
			return s.wan_port;
	return std::nullopt;
}

std::optional<Output> Gateway::hairpin(const Input &in, bool &ended) {
	const auto known = std::find_if(sessions_.begin(), sessions_.end(), [&](const Session &s) {
		return s.client == in.host && s.client_port == in.near && s.wan_port == in.far && s.proto == in.proto;
	});
	if (known != sessions_.end()) {
		if (!known->client_via.empty() && known->client_via != in.mac)
			return Output{.reason = PTRIG_SPOOFED};
		const Input back = turned(in, known->far);
		auto out = established(back, ended);
		if (!out)
			out = half_open(back, ended, true);
		if (out)
			return out;
	}
	return admit(in, ended);
}

/// A new client: judged by its own address.
std::optional<Output> Gateway::admit(const Input &in, bool ended) {
	bool denied = false;
	const Input back = turned(in, in.near);
	for (const Rule &one : config_.rules) {
		const auto port = host_port(one, in.proto, in.far);
		Lease *lease = port ? live(one, wan_) : nullptr;
		if (!lease)
			continue;
		if (!allows_remote(one, in.host)) {
			denied = true;
			continue;
		}
		if (in.tcp() && !in.plain_syn())
			return Output{.reason = ended ? PTRIG_SESSION_ENDED : PTRIG_NOT_SYN};
		if (spoofed(in))
			return Output{.reason = PTRIG_SPOOFED};
		if (stranger(*lease)) {
			end_lease(*lease);
			return Output{.reason = PTRIG_NO_LEASE};
		}
		if (const auto reason = may_begin(*lease, one); reason != PTRIG_OPENED)
			return Output{.reason = reason};
		sessions_.push_back({.host = lease->host,
				     .remote = wan_,
				     .host_port = port,
				     .wan_port = in.far,
				     .far = in.near,
				     .proto = in.proto,
				     .rule = one.name,
				     .lease = lease->id,
				     .seen = now_,
				     .via = lease->mac,
				     .client = in.host,
				     .client_via = on_link(in.host) ? in.mac : "",
				     .client_port = in.near,
				     .kill = one.on_close == OnClose::kKill,
				     .wan = {.packets = 1, .bytes = in.length}});
		return finish(sessions_.back(), back, PTRIG_OPENED);
	}
	if (denied)
		return Output{.reason = PTRIG_REMOTE_DENIED};
	return std::nullopt;
}

} // namespace ptrig::model
