// What the datapath does for user space: the sweep, and ending leases and sessions. Only the BPF programs pt_admin,
// which finds what is over, and pt_release, which takes conntrack's entries away first, delete anything, under the same
// rules as the packet programs beside them.
#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <unistd.h>

#include "loader/gateway_impl.h"

namespace ptrig {

namespace {

ptrig_admin request_of(std::uint32_t op, std::uint32_t reason) {
	ptrig_admin request{};
	request.op = op;
	request.reason = reason;
	return request;
}

/// The id that the filter's rule has; 0: the filter names none.
Result<std::uint32_t> filtered_rule(const Filter &filter, const Live &live) {
	if (!filter.rule)
		return 0U;
	const std::uint32_t id = live.id_of(*filter.rule);
	if (!id)
		return fail("there is no rule " + *filter.rule, Status::kInput);
	return id;
}

} // namespace

Done run_release(int program, std::uint32_t listed) {
	// A TC program wants a frame; this one reads only skb->mark.
	const std::array<std::uint8_t, 64> frame{};
	__sk_buff context{};
	context.mark = listed;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_size_in = frame.size(), .ctx_in = &context,
		    .ctx_size_in = sizeof(context));
	if (const int rc = bpf_prog_test_run_opts(program, &opts); rc < 0)
		return system_error("run pt_release", -rc);
	return {};
}

/// A call of pt_release holds its processor: this many are some 4 ms.
constexpr std::uint32_t kSessionsACall = PTRIG_OVER_MAX;

Result<ptrig_admin> run_admin(const std::string &dir, ptrig_admin request, unsigned most_calls) {
	auto program = open_pin(dir + "/prog/pt_admin", Access::kWrite); // there are no read-only programs
	if (!program)
		return tl::unexpected(std::move(program.error()));
	auto release = open_pin(dir + "/prog/pt_release", Access::kWrite);
	if (!release)
		return tl::unexpected(std::move(release.error()));
	// A syscall program's context is copied back where it came from; ctx_out is refused.
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &request, .ctx_size_in = sizeof(request));
	ptrig_admin sum = request;
	do {
		request.most = kSessionsACall;
		if (const int rc = bpf_prog_test_run_opts(program->get(), &opts); rc < 0)
			return system_error("run pt_admin", -rc);
		if (opts.retval != 0)
			return fail("pt_admin gave up: the gateway has no configuration");
		if (const auto listed = request.sessions + request.halfopen + request.asked; listed > 0)
			if (auto done = run_release(release->get(), listed); !done)
				return tl::unexpected(std::move(done.error()));
		sum.leases += request.leases;
		sum.sessions += request.sessions;
		sum.halfopen += request.halfopen;
		sum.conns += request.conns;
		sum.most = request.most;
		sum.mended = request.mended;
	} while (request.most == 0 && --most_calls > 0);
	return sum;
}

Done end_all_sessions(const std::string &dir) {
	const auto state = read_state(dir);
	if (!state || state->abi != PTRIG_ABI || access((dir + "/prog/pt_release").c_str(), F_OK) != 0)
		return {};
	auto ended = run_admin(dir, request_of(PTRIG_ADMIN_CLOSE_SESSIONS, PTRIG_CLOSED));
	if (!ended)
		return tl::unexpected(within("end all sessions", std::move(ended.error())));
	return {};
}

Result<SweepResult> Gateway::sweep(Sweep how_much) {
	const std::uint32_t op = how_much == Sweep::kLeases ? PTRIG_ADMIN_SWEEP_LEASES : PTRIG_ADMIN_SWEEP;
	auto swept = run_admin(impl_->dir, request_of(op, PTRIG_EXPIRED), how_much == Sweep::kSome ? 1 : ~0U);
	if (!swept)
		return tl::unexpected(within("sweep", std::move(swept.error())));
	return SweepResult{swept->leases, swept->sessions, swept->halfopen, swept->conns, swept->most == 0};
}

Result<std::vector<std::string>> Gateway::audit() {
	auto wrong = impl_->books.look(impl_->dir);
	if (!wrong)
		return tl::unexpected(within("compare counts and tables", std::move(wrong.error())));
	std::vector<std::string> lines;
	for (const Correction &correction : *wrong) {
		const Book &book = correction.book;
		ptrig_admin request = request_of(PTRIG_ADMIN_MEND, PTRIG_CLOSED);
		request.book = book.what;
		request.host = book.host;
		request.rule = book.rule;
		request.lease = book.lease;
		request.index = book.index;
		request.remote = book.remote;
		request.wan = book.wan;
		request.by = correction.by;
		auto done = run_admin(impl_->dir, request, 1);
		if (!done)
			return tl::unexpected(within("put a count right", std::move(done.error())));
		if (done->mended)
			lines.push_back(fmt::format("the count of {} was wrong by {} and has been put right",
						    text_of(book), -correction.by));
	}
	return lines;
}

Result<CloseResult> Gateway::close_leases(const Filter &filter, bool kill) {
	auto open = leases(filter);
	if (!open)
		return tl::unexpected(std::move(open.error()));
	CloseResult result;
	std::uint32_t sessions_before = 0;
	for (LeaseView &lease : *open) {
		if (lease.state != "live")
			continue;
		ptrig_admin request = request_of(PTRIG_ADMIN_CLOSE_LEASES, PTRIG_CLOSED);
		request.rule = lease.rule_id;
		request.lease = lease.lease_id;
		auto closed = run_admin(impl_->dir, request);
		if (!closed)
			return tl::unexpected(within("close the lease of " + lease.rule, std::move(closed.error())));
		if (!closed->leases)
			continue; // it ended, or changed hands, this very moment
		request.op = PTRIG_ADMIN_CLOSE_SESSIONS;
		if (auto cut = kill ? run_admin(impl_->dir, request) : Result<ptrig_admin>(request); !cut)
			return tl::unexpected(within("cut the sessions of " + lease.rule, std::move(cut.error())));
		sessions_before += lease.sessions;
		result.closed.push_back(std::move(lease));
	}
	if (result.closed.empty())
		return result;
	// Half-open sessions, and all of a rule with on_close = kill, end with their lease: now, not at the next sweep.
	if (auto swept = sweep(); !swept)
		return tl::unexpected(std::move(swept.error()));
	auto live = impl_->live();
	if (!live)
		return tl::unexpected(std::move(live.error()));
	auto traffic = traffic_by_lease(impl_->dir, **live);
	if (!traffic)
		return tl::unexpected(std::move(traffic.error()));
	for (const LeaseView &lease : result.closed)
		result.sessions_left += (*traffic)[lease.lease_id].sessions;
	result.sessions_closed = sessions_before - std::min(sessions_before, result.sessions_left);
	return result;
}

Result<std::uint32_t> Gateway::close_sessions(const Filter &filter) {
	if (filter.port)
		return fail("sessions are closed by rule, host or remote, not by port", Status::kInput);
	auto live = impl_->live();
	if (!live)
		return tl::unexpected(std::move(live.error()));
	auto rule = filtered_rule(filter, **live);
	if (!rule)
		return tl::unexpected(std::move(rule.error()));
	ptrig_admin request = request_of(PTRIG_ADMIN_CLOSE_SESSIONS, PTRIG_CLOSED);
	request.rule = *rule;
	request.host = filter.host ? to_net(*filter.host) : 0;
	request.remote = filter.remote ? to_net(*filter.remote) : 0;
	auto closed = run_admin(impl_->dir, request);
	if (!closed)
		return tl::unexpected(within("close sessions", std::move(closed.error())));
	return closed->sessions + closed->halfopen;
}

} // namespace ptrig
