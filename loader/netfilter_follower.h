// The daemon's part that follows netfilter: tells the gateway what helpers expect as soon as they do, and puts the nat
// chain back when it is gone, and lets the fast path ask sooner when the ruleset has changed. Events are quick, a look
// once a second finds what they did not tell.
#pragma once

#include <chrono>
#include <string>

#include "loader/gateway.h"
#include "loader/netfilter.h"

namespace ptrig {

class NetfilterFollower {
public:
	static Result<NetfilterFollower> open();

	int fd() const { return monitor_.fd(); }
	/// What has happened, when fd() is readable.
	void read(Gateway &gateway);
	/// At the start, and then once a second.
	void look(Gateway &gateway);

	/// What does not work just now; empty if all does.
	const std::string &helpers_trouble() const { return helpers_trouble_; }
	const std::string &chain_trouble() const { return chain_trouble_; }
	/// How often the chain was put back since the last call.
	unsigned put_back() { return std::exchange(put_back_, 0); }

private:
	explicit NetfilterFollower(NetfilterMonitor monitor) : monitor_(std::move(monitor)) {}
	void look_at_expected(Gateway &gateway);
	void look_at_chain(Gateway &gateway);
	void shorten_permissions(Gateway &gateway);

	NetfilterMonitor monitor_;
	bool ruleset_changed_ = true;
	bool looked_at_chain_ =
		false;         ///< since the last look(): whoever changes rulesets all the time does not keep us busy
	bool shorten_ = false; ///< the ruleset has changed since permissions were shortened at
	std::chrono::steady_clock::time_point shortened_{};
	unsigned put_back_ = 0;
	std::string helpers_trouble_, chain_trouble_;
};

} // namespace ptrig
