// What BPF_PROG_TEST_RUN leaves out: it takes every frame to begin with an Ethernet header, so that on other devices
// skb->pkt_type is nonsense. These programs put that right and run the one under test by a tail call.
#pragma once

#include <cstdint>
#include <vector>

#include "loader/map.h"

namespace ptrig::test {

/// What a run returns if the tail call did not happen.
inline constexpr int kNoTailCall = 99;

class TailCall {
public:
	/// A program that makes the packet one for this machine and goes on to `target`.
	static TailCall for_this_machine(int target);
	/// A program to be run with any repeat: each time it writes `header` over the start of the frame, which the
	/// last run may have rewritten, and goes on to `target`.
	static TailCall over_and_over(bpf_prog_type type, const std::vector<std::uint8_t> &header, int target);
	int fd() const { return program_.get(); }

private:
	Fd targets_, program_;
};

/// An XDP program that passes everything: a veth has receive queues for XDP only while it has one.
Fd xdp_pass();

} // namespace ptrig::test
