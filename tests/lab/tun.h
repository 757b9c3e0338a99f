// A cable between two namespaces whose ends are tun devices: no Ethernet header, no MAC addresses, as ppp or WireGuard
// have it.
#pragma once

#include <string>
#include <thread>

#include "tests/lab/netns.h"

namespace lab {

class TunCable {
public:
	/// Makes `a_name` in `a` and `b_name` in `b`, both without addresses and down. Throws if it cannot.
	TunCable(const NetNs &a, const std::string &a_name, const NetNs &b, const std::string &b_name);
	TunCable(const TunCable &) = delete;
	TunCable &operator=(const TunCable &) = delete;
	~TunCable(); ///< both devices go

private:
	void carry();
	Fd a_, b_, stop_;
	std::thread thread_;
};

} // namespace lab
