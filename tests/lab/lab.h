// The fixture of every story: a gateway between two LAN hosts and the remotes of one internet, each in
// its own network namespace, and ptrig on the gateway, driven by its CLI alone. A network that a story has
// left as it was serves the next one too, with the gateway still up and no rule on it.
//
//   lan1 192.168.77.11 ─┐ br0 192.168.77.1 (tc)                                  ┌ 203.0.113.10 (default route)
//                       ├ or lan1if 192.168.77.1, lan2if 192.168.78.1 (xdp) ─ gw ┤ wan0 203.0.113.2
//   lan2 192.168.77.12 ─┘ (lan2 is 192.168.78.12 then)                           └ wan: also .11, .12, 198.51.100.7
//
// nftables on the gateway: masquerade on wan0, forward policy drop, LAN to WAN and its answers accepted.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/lab/netns.h"
#include "tests/lab/process.h"
#include "tests/lab/sockets.h"

namespace lab {

using Json = nlohmann::json;

inline const std::string kWan = "203.0.113.2";
inline const std::string kRemote1 = "203.0.113.10";
inline const std::string kRemote2 = "203.0.113.11";
inline const std::string kRemote3 = "203.0.113.12";
inline const std::string kFar = "198.51.100.7"; ///< behind the default route
inline const std::string kConfig = "/etc/ptrig/ptrig.toml";
inline const std::string kPins = "/sys/fs/bpf/ptrig";

/// Why no story can run here; empty if they can. Set by main.
extern std::string why_not;

/// A rule "game": 4000/udp and 4000/tcp trigger, 6000-6010 of both open, one second. `more` adds keys; a key
/// that it sets replaces the one here.
std::string game(const std::string &more = "");
std::string rule(const std::string &name, const std::string &trigger, const std::string &open,
		 const std::string &more = "");

/// The namespaces of one network.
struct Ground {
	NetNs gw{"gw"}, lan1{"lan1"}, lan2{"lan2"}, wan{"wan"};
	std::string datapath;
	std::optional<std::string> up_with; ///< the gateway is up, with this [gateway] section
};

class Lab : public testing::TestWithParam<const char *> {
protected:
	void SetUp() override;
	void TearDown() override;

	bool xdp() const { return GetParam() == std::string("xdp"); }
	std::string host1() const { return "192.168.77.11"; }
	std::string host2() const { return xdp() ? "192.168.78.12" : "192.168.77.12"; }
	std::string lan_device() const { return xdp() ? "lan1if" : "br0"; } ///< where lan1 comes in
	/// As `status` has it: xdp, tc or waiting.
	std::string datapath_of(const std::string &device) const;
	/// What the fast path repeats is not decided on any more: permission lasts a second.
	void let_permissions_end() const { std::this_thread::sleep_for(std::chrono::milliseconds(1100)); }
	/// Does it fail in the end? What is forbidden now goes on for as long as permission lasts.
	static bool ends(const std::function<bool()> &works) {
		return eventually(std::chrono::seconds(5), [&] { return !works(); });
	}
	std::string mac_of(const NetNs &host, const std::string &device = "eth0") const;
	/// Lines for ip -batch. The network is then no longer as it was, and ends with the story.
	void ip(const NetNs &where, const std::string &commands);
	void nft(const std::string &commands);
	void load_firewall();                                          ///< the ruleset that the network begins with
	void sysctl(const std::string &key, const std::string &value); ///< of the gateway; as ip()
	void tc(const Words &words);                                   ///< likewise

	// ptrig on the gateway.
	std::string config(const std::string &rules, const std::string &gateway = "",
			   const std::string &tables = "") const;
	void write(const std::string &path, const std::string &text) const;
	Output ptrig(const Words &words, const std::string &input = "", milliseconds deadline = 20s) const;
	Json json(const Words &words) const; ///< with -j; status 0 demanded
	/// The gateway is up with this configuration; every interface must be in the story's datapath. What is up
	/// from the last story is adopted, by `ptrig apply`, if the [gateway] section is the same.
	void up(const std::string &rules, const std::string &gateway = "", const std::string &tables = "");
	void start_afresh(); ///< no gateway is up then
	/// As if a version with this layout of the maps had made the gateway that is up.
	static void set_abi(std::uint32_t abi);
	/// `ptrig run`, once it has said that it is ready.
	Process &run_daemon();
	/// `ptrig monitor -j`, once it is connected: its output begins with the event of an `apply`.
	Process &start_monitor();
	/// What it has written, but for configurations.
	static std::vector<Json> events(const Process &monitor);
	/// The same configuration and then the daemon.
	Process &run_daemon(const std::string &rules, const std::string &gateway = "", const std::string &tables = "");
	void apply(const std::string &rules, const std::string &gateway = "", const std::string &tables = "");
	Json leases(const std::string &rule = "") const;
	std::uint64_t counter(const std::string &reason) const; ///< since up()
	std::uint64_t refused(const std::string &rule, const std::string &reason) const;
	Json rule_row(const std::string &name) const;

	// Traffic.
	/// One UDP datagram to a remote's port, which must arrive there; as who the remote sees it.
	Endpoint trigger(const NetNs &host, const Endpoint &remote = {kRemote1, 4000}, const Endpoint &from = {});
	/// The same, and whether it arrived.
	std::optional<Endpoint> try_trigger(const NetNs &host, const Endpoint &remote = {kRemote1, 4000},
					    const Endpoint &from = {}, milliseconds deadline = patient(1s));
	/// Who gets a datagram or connection from a remote to a WAN port: "lan1", "lan2", "gateway" (which refuses it:
	/// the port is closed) or "nobody". host_port: where the hosts listen, if not at the same port.
	std::string who_gets_udp(std::uint16_t port, const Endpoint &remote = {kRemote1, 0},
				 std::uint16_t host_port = 0);
	std::string who_gets_tcp(std::uint16_t port, const Endpoint &remote = {kRemote1, 0},
				 std::uint16_t host_port = 0);
	/// A connection from a remote through the open port, both of its ends; throws if it does not come about.
	std::pair<Fd, Fd> connect_in(std::uint16_t port, const NetNs &host, const std::string &remote = kRemote1);
	/// A host's own connection to a remote, by the gateway's masquerade: its end and the remote's.
	std::optional<std::pair<Fd, Fd>> connect_out(const NetNs &host, const Endpoint &to = {kRemote1, 8080},
						     std::uint16_t from_port = 0, milliseconds deadline = patient(1s));
	/// The host's sockets at a port, kept for the whole story.
	const Fd &udp_on(const NetNs &host, std::uint16_t port);
	const Fd &tcp_on(const NetNs &host, std::uint16_t port);
	/// A datagram from the remote's socket to a WAN port, on to the host's socket, and back from the same port.
	bool talk(const Fd &remote, const Fd &host, const Endpoint &to = {kWan, 6000},
		  milliseconds deadline = patient(1s));
	/// A datagram from the host's socket arrives at the remote's.
	bool answers(const Fd &host, const Fd &remote, const Endpoint &to, milliseconds deadline = patient(1s));
	/// A remote's socket that has talked with the host's through a WAN port: an established session.
	Fd start_talk(const NetNs &host, const Endpoint &remote = {kRemote1, 0}, std::uint16_t port = 6000);
	/// The port is closed again by `least`..`most` after `since`.
	void expect_closed_between(Clock::time_point since, milliseconds least, milliseconds most);

	Process &background(const NetNs &where, const Words &words, const std::string &input = "", uid_t uid = 0);

	const NetNs &gw() const { return ground_->gw; }
	const NetNs &lan1() const { return ground_->lan1; }
	const NetNs &lan2() const { return ground_->lan2; }
	const NetNs &wan() const { return ground_->wan; }

private:
	void build();
	void tidy_up();   ///< no rule, lease or session is left; the gateway stays up for the next story
	void tear_down(); ///< the gateway goes, and the network with it

	static std::unique_ptr<Ground> ground_;
	bool spoiled_ = false;
	Json counters_at_up_ = Json::object();
	const Fd &listening(const NetNs &host, int type, const Endpoint &at);
	std::map<std::string, Fd> listening_;
	std::vector<std::unique_ptr<Process>> background_;
};

#define LAB_STORIES_OF(Suite, ...)                                                                                     \
	INSTANTIATE_TEST_SUITE_P(                                                                                      \
		, Suite, testing::Values(__VA_ARGS__),                                                                 \
		[](const testing::TestParamInfo<const char *> &story) { return std::string(story.param); })
#define LAB_STORIES(Suite) LAB_STORIES_OF(Suite, "tc", "xdp")

} // namespace lab
