// Frames that are put together in an uncommon way.
#include "tests/lab/frames.h"
#include "tests/lab/lab.h"

namespace lab {

class OddFrames : public Lab {
protected:
	OddFrames(FrameBytes bytes, bool priority) : bytes_(bytes), priority_(priority) {}
	/// A trigger, a session both ways, the host's own packet from an open port, a remote's SYN.
	void expect_all_paths();

private:
	void from_lan(const Endpoint &to, std::uint16_t from_port = 5000, bool tcp = false);
	void from_wan(const Endpoint &remote, std::uint16_t port, bool tcp = false);
	FrameSender sender(const NetNs &where, const std::string &to) const {
		FrameSender sender(where, "eth0", to_mac(to), bytes_);
		if (priority_)
			sender.tag_priority();
		return sender;
	}
	FrameBytes bytes_;
	bool priority_;
};

/// Nothing but the Ethernet header lies in the linear part, as from PPPoE, tunnels and cards that split headers: the
/// sender shares its memory with the kernel (packet_mmap). A veth's XDP program gets a copy that is whole.
class Nonlinear : public OddFrames {
protected:
	Nonlinear() : OddFrames(FrameBytes::shared, false) {}
};
LAB_STORIES(Nonlinear);

/// Telephones and some providers' modems send frames with a priority and no VLAN.
class PriorityTagged : public OddFrames {
protected:
	PriorityTagged() : OddFrames(FrameBytes::copied, true) {}
};
LAB_STORIES(PriorityTagged);

void OddFrames::from_lan(const Endpoint &to, std::uint16_t from_port, bool tcp) {
	FrameSender sender = this->sender(lan1(), mac_of(gw(), lan_device()));
	sender.add(to_mac(mac_of(lan1())), {to_number(host1()), to_number(to.address), from_port, to.port, tcp});
	sender.send();
}

void OddFrames::from_wan(const Endpoint &remote, std::uint16_t port, bool tcp) {
	FrameSender sender = this->sender(wan(), mac_of(gw(), "wan0"));
	sender.add(to_mac(mac_of(wan())), {to_number(remote.address), to_number(kWan), remote.port, port, tcp});
	sender.send();
}

void OddFrames::expect_all_paths() {
	up(game());
	const Fd &triggered = udp_on(wan(), 4000);
	from_lan({kRemote1, 4000});
	const auto arrived = udp_receive(triggered, 10s);
	ASSERT_TRUE(arrived);
	EXPECT_EQ(arrived->from.address, kWan);
	ASSERT_EQ(leases("game").size(), 1U) << "it did not trigger";

	const Endpoint remote{kRemote2, 5555};
	const Fd there = udp_socket(wan(), remote);
	const Fd &host = udp_on(lan1(), 6000);
	for (int i = 0; i < 20; i++) {
		from_wan(remote, 6000);
		const auto in = udp_receive(host, 10s);
		ASSERT_TRUE(in) << "round " << i;
		EXPECT_EQ(in->from, remote);
		from_lan(remote, 6000);
		const auto out = udp_receive(there, 10s);
		ASSERT_TRUE(out) << "round " << i;
		EXPECT_EQ(out->from, (Endpoint{kWan, 6000}));
	}
	const Json session = json({"session", "list", "--port", "6000/udp"}).at(0);
	EXPECT_EQ(session.at("packets_in"), 20);
	EXPECT_EQ(session.at("packets_out"), 20);
	EXPECT_EQ(session.at("state"), "established");

	from_lan(remote, 6001); // the host's own first packet from an open port
	const auto own = udp_receive(there, 10s);
	ASSERT_TRUE(own);
	EXPECT_EQ(own->from, (Endpoint{kWan, 6001}));
	EXPECT_EQ(counter("own_port"), 1U);

	tcp_on(lan1(), 6002);
	from_wan({kRemote3, 5556}, 6002, true);
	EXPECT_TRUE(eventually(10s, [&] { return json({"session", "list", "--port", "6002/tcp"}).size() == 1; }));
	EXPECT_EQ(counter("malformed"), 0U);
}

TEST_P(Nonlinear, TriggerSessionAndBothDirections) {
	expect_all_paths();
}

TEST_P(PriorityTagged, TriggerSessionAndBothDirections) {
	expect_all_paths();
}

} // namespace lab
