// What user space asks for, of the model and of pt_admin.
#include "tests/model/differential.h"

namespace ptrig::test {

namespace {

std::string text(unsigned leases, unsigned sessions, unsigned halfopen, unsigned conns) {
	return "leases " + std::to_string(leases) + " sessions " + std::to_string(sessions) + " half-open " +
	       std::to_string(halfopen) + " conns " + std::to_string(conns);
}

} // namespace

model::Filter Differential::random_filter() {
	model::Filter which;
	if (pick(2))
		which.rule = config_.rules[pick(static_cast<unsigned>(config_.rules.size()))].name;
	if (pick(2))
		which.host = pick(2) ? kHost : kHost2;
	if (pick(3) == 0)
		which.remote = pick(2) ? kRemote : kRemote2;
	if (pick(5) == 0)
		which.wan = pick(2) ? kWan : kWanSecond;
	return which;
}

std::string Differential::administer(model::Gateway &gateway) {
	ptrig_admin args{.op = PTRIG_ADMIN_SWEEP, .reason = PTRIG_CLOSED};
	model::Ended wanted;
	const unsigned what = pick(4);
	if (what > 1) {
		wanted = gateway.sweep();
	} else {
		const model::Filter which = random_filter();
		args.op = what ? PTRIG_ADMIN_CLOSE_LEASES : PTRIG_ADMIN_CLOSE_SESSIONS;
		args.rule = which.rule.empty() ? 0 : rule_id(which.rule);
		args.host = which.host.empty() ? 0 : be(which.host);
		args.remote = which.remote.empty() ? 0 : be(which.remote);
		args.wan = which.wan.empty() ? 0 : be(which.wan);
		wanted = what ? gateway.close_leases(which) : gateway.close_sessions(which);
	}
	const ptrig_admin got = admin(args);
	const std::string model = text(wanted.leases, wanted.sessions, wanted.halfopen, wanted.conns),
			  datapath = text(got.leases, got.sessions, got.halfopen, got.conns);
	return model == datapath ? ""
				 : "admin " + std::to_string(args.op) + ": model " + model + "\ndatapath " + datapath;
}

} // namespace ptrig::test
