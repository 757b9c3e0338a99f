// The pure parts of the facts about a gateway: firewall rules, sockets, UPnP, addresses, warnings; locks and children.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sys/wait.h>
#include <unistd.h>

#include "include/ptrig/abi.h"
#include "loader/system.h"

namespace ptrig {
namespace {

/// A ruleset in nft's JSON: table ip nat with these rules (chain, statements).
std::string ruleset(const std::vector<std::pair<std::string, std::string>> &rules, const std::string &more = "") {
	auto chain = [](const std::string &name, const std::string &hook) {
		return R"({"chain":{"family":"ip","table":"nat","name":")" + name + "\"" +
		       (hook.empty() ? "" : R"(,"type":"nat","hook":")" + hook + "\"") + "}}";
	};
	std::string text = R"({"nftables":[{"metainfo":{"json_schema_version":1}},)" + chain("pre", "prerouting") +
			   "," + chain("post", "postrouting") + "," + chain("out", "output") + "," + chain("side", "") +
			   more;
	for (const auto &[name, statements] : rules) {
		text += R"(,{"rule":{"family":"ip","table":"nat","chain":")" + name + R"(","expr":[)" + statements +
			"]}}";
	}
	return text + "]}";
}

std::string match(const std::string &left, const std::string &right, const std::string &op = "==") {
	return R"({"match":{"op":")" + op + R"(","left":)" + left + R"(,"right":)" + right + "}}";
}
const std::string kIif = R"({"meta":{"key":"iifname"}})", kOif = R"({"meta":{"key":"oifname"}})";
const std::string kTcpPort = R"({"payload":{"protocol":"tcp","field":"dport"}})";
const std::string kAnyPort = R"({"payload":{"protocol":"th","field":"dport"}})";
const std::string kL4 = R"({"meta":{"key":"l4proto"}})";
const std::string kMasquerade = R"({"masquerade":null})", kDnat = R"({"dnat":{"addr":"10.0.0.1"}})";
std::string jump(const std::string &to) {
	return R"({"jump":{"target":")" + to + "\"}}";
}

std::string ports(const Firewall &firewall, const char *interface = "wan0") {
	std::string text;
	for (const auto &range : firewall.forwarded_ports(interface)) {
		text += (text.empty() ? "" : " ") + to_string(range);
	}
	return text;
}

TEST(Nft, MasqueradeOfTheInterface) {
	auto firewall = parse_nft(ruleset({{"post", match(kOif, "\"wan0\"") + "," + kMasquerade}})).value();
	EXPECT_TRUE(firewall.masquerades("wan0"));
	EXPECT_FALSE(firewall.masquerades("wan1"));
	auto negated = parse_nft(ruleset({{"post", match(kOif, "\"lo\"", "!=") + "," + kMasquerade}})).value();
	EXPECT_TRUE(negated.masquerades("wan0"));
	EXPECT_FALSE(negated.masquerades("lo"));
	auto any = parse_nft(ruleset({{"post", R"({"snat":{"addr":"203.0.113.2"}})"}})).value();
	EXPECT_TRUE(any.masquerades("wan0"));
	auto wild =
		parse_nft(ruleset({{"post", match(kOif, R"({"set":["eth0","ppp*"]})") + "," + kMasquerade}})).value();
	EXPECT_TRUE(wild.masquerades("ppp7"));
	EXPECT_FALSE(wild.masquerades("wan0"));
}

TEST(Nft, OnlyChainsThatPacketsMeetCount) {
	auto dead = parse_nft(ruleset({{"side", kMasquerade}, {"side", match(kTcpPort, "80") + "," + kDnat}})).value();
	EXPECT_FALSE(dead.masquerades("wan0"));
	EXPECT_EQ(ports(dead), "");
	auto reached =
		parse_nft(ruleset({{"side", kMasquerade}, {"post", match(kOif, "\"wan0\"") + "," + jump("side")}}));
	EXPECT_TRUE(reached->masquerades("wan0"));
	EXPECT_FALSE(reached->masquerades("wan1"));
	const std::string by_name =
		R"({"vmap":{"key":)" + kOif + R"(,"data":{"set":[["wan1",)" + jump("side") + "]]}}}";
	auto mapped = parse_nft(ruleset({{"side", kMasquerade}, {"post", by_name}})).value();
	EXPECT_TRUE(mapped.masquerades("wan1"));
	EXPECT_FALSE(mapped.masquerades("wan0"));
	auto unknown =
		parse_nft(ruleset({{"side", kMasquerade}, {"post", R"({"vmap":{"key":{},"data":"@m"}})"}})).value();
	EXPECT_TRUE(unknown.masquerades("wan0")) << "what is not known could match";
	auto own = parse_nft(ruleset({{"out", match(kTcpPort, "80") + "," + kDnat}})).value();
	EXPECT_EQ(ports(own), "") << "the gateway's own packets are not the WAN's";
	auto loop = parse_nft(ruleset({{"post", jump("side")}, {"side", jump("side")}}));
	EXPECT_TRUE(loop);
}

TEST(Nft, ForwardedPorts) {
	EXPECT_EQ(ports(*parse_nft(ruleset({{"pre", match(kTcpPort, "8080") + "," + kDnat}}))), "8080/tcp");
	const std::string set = R"({"set":[81,{"range":[90,95]},{"elem":{"val":99,"timeout":60}}]})";
	EXPECT_EQ(ports(*parse_nft(ruleset({{"pre", match(kTcpPort, set) + "," + kDnat}}))), "81/tcp 90-95/tcp 99/tcp");
	const std::string lan = match(kIif, "\"br0\"") + "," + match(kTcpPort, "80") + "," + kDnat;
	EXPECT_EQ(ports(*parse_nft(ruleset({{"pre", lan}}))), "");
	const std::string both = match(kL4, R"({"set":["tcp","udp"]})") + "," + match(kAnyPort, "53");
	EXPECT_EQ(ports(*parse_nft(ruleset({{"pre", both + R"(,{"redirect":{"port":5353}})"}}))), "53/tcp+udp");
	const std::string udp = match(kL4, "\"udp\"") + "," + match(kAnyPort, "53") + "," + kDnat;
	EXPECT_EQ(ports(*parse_nft(ruleset({{"pre", udp}}))), "53/udp");
	EXPECT_EQ(ports(*parse_nft(ruleset({{"pre", match(kTcpPort, "77", "!=") + "," + kDnat}}))), "");
	EXPECT_EQ(ports(*parse_nft(ruleset({{"pre", match(kTcpPort, "70000") + "," + kDnat}}))), "") << "no such port";
}

TEST(Nft, PortsInMaps) {
	const std::string map = R"({"dnat":{"addr":{"map":{"key":)" + kTcpPort +
				R"(,"data":{"set":[[25,"10.0.0.1"],[{"range":[110,120]},"10.0.0.2"]]}}}}})";
	EXPECT_EQ(ports(*parse_nft(ruleset({{"pre", map}}))), "25/tcp 110-120/tcp");
	const std::string named =
		R"({"dnat":{"addr":{"map":{"key":{"concat":[)" + kL4 + "," + kAnyPort + R"(]},"data":"@cc"}}}})";
	const std::string declared = R"(,{"map":{"family":"ip","table":"nat","name":"cc","type":"x"}})";
	std::vector<SetName> unresolved;
	auto first = parse_nft(ruleset({{"pre", named}}, declared), {}, &unresolved);
	EXPECT_EQ(ports(*first), "");
	ASSERT_EQ(unresolved.size(), 1U);
	EXPECT_EQ(unresolved[0], (SetName{"ip", "nat", "cc", true}));
	const std::string listed = R"({"nftables":[{"map":{"family":"ip","table":"nat","name":"cc","elem":)"
				   R"([[{"concat":["udp",99]},"10.0.0.1"]]}}]})";
	unresolved.clear();
	EXPECT_EQ(ports(*parse_nft(ruleset({{"pre", named}}, declared), {listed}, &unresolved)), "99/udp");
	EXPECT_TRUE(unresolved.empty());
}

std::string vmap(const std::string &key, const std::string &elements) {
	return R"({"vmap":{"key":)" + key + R"(,"data":)" + elements + "}}";
}

// kube-proxy and others lead to a chain by port, where the dnat is.
TEST(Nft, PortsOfJumpsAndVerdictMaps) {
	const std::pair<std::string, std::string> service{"side", kDnat};
	const auto with = [&](const std::string &rule) { return ports(*parse_nft(ruleset({service, {"pre", rule}}))); };
	EXPECT_EQ(with(match(kTcpPort, "77") + "," + jump("side")), "77/tcp");
	EXPECT_EQ(with(vmap(kTcpPort,
			    R"({"set":[[8082,)" + jump("side") +
				    R"(],[{"range":[90,95]},{"goto":{"target":"side"}}],[7,{"accept":null}]]})")),
		  "90-95/tcp 8082/tcp");
	EXPECT_EQ(with(vmap(R"({"concat":[)" + kL4 + "," + kAnyPort + "]}",
			    R"({"set":[[{"concat":["udp",8083]},)" + jump("side") + "]]}")),
		  "8083/udp");
	EXPECT_EQ(with(match(kIif, "\"br0\"") + "," + vmap(kTcpPort, R"({"set":[[8082,)" + jump("side") + "]]}")), "");
	const std::string declared = R"(,{"map":{"family":"ip","table":"nat","name":"zm","type":"x","map":"verdict"}})";
	const std::string listed = R"({"nftables":[{"map":{"family":"ip","table":"nat","name":"zm","elem":[[9090,)" +
				   jump("side") + "]]}}]}";
	std::vector<SetName> unresolved;
	const auto text = ruleset({service, {"pre", vmap(kTcpPort, "\"@zm\"")}}, declared);
	ASSERT_TRUE(parse_nft(text, {}, &unresolved));
	EXPECT_EQ(unresolved, (std::vector<SetName>{{"ip", "nat", "zm", true}}));
	EXPECT_EQ(ports(*parse_nft(text, {listed})), "9090/tcp");
	EXPECT_EQ(parse_nft(text)->forwards[0].all, 0) << "a map that could not be read is no DMZ";
}

TEST(Nft, ExposedHost) {
	const auto all = [](const std::string &rule) {
		const auto firewall = parse_nft(ruleset({{"side", kDnat}, {"pre", rule}}));
		return firewall->forwards.empty() ? -1 : firewall->forwards[0].all;
	};
	constexpr int kBoth = PTRIG_TCP | PTRIG_UDP;
	const std::string wan = match(kIif, "\"wan0\""), daddr = R"({"payload":{"protocol":"ip","field":"daddr"}})";
	const std::string local = match(R"({"fib":{"result":"type","flags":["daddr"]}})", "\"local\"");
	EXPECT_EQ(all(wan + "," + kDnat), kBoth);
	EXPECT_EQ(all(wan + "," + local + "," + match(R"({"ct":{"key":"state"}})", "\"new\"", "in") + "," + kDnat),
		  kBoth);
	EXPECT_EQ(all(wan + "," + jump("side")), kBoth);
	EXPECT_EQ(all(wan + "," + match(kL4, "\"tcp\"") + "," + kDnat), PTRIG_TCP);
	EXPECT_EQ(all(match(daddr, "\"203.0.113.2\"") + "," + kDnat), kBoth);
	EXPECT_EQ(all(wan + "," + match(kTcpPort, "80") + "," + kDnat), 0);
	EXPECT_EQ(all(wan + "," + match(kTcpPort, "80", "!=") + "," + kDnat), 0);
	EXPECT_EQ(all(wan + "," + match(R"({"payload":{"protocol":"ip","field":"saddr"}})", "\"10.0.0.1\"") + "," +
		      kDnat),
		  0);
	EXPECT_EQ(all(wan + "," + match(kL4, "\"gre\"") + "," + kDnat), 0);
	EXPECT_EQ(all(wan + R"(,{"dnat":{"addr":{"map":{"key":)" + daddr +
		      R"(,"data":{"set":[["1.2.3.4","5.6.7.8"]]}}}}})"),
		  0);
	EXPECT_EQ(all(wan + "," + vmap(kTcpPort, R"({"set":[[8082,)" + jump("side") + "]]}")), 0);
	EXPECT_EQ(all(vmap(daddr, R"({"set":[["1.2.3.4",)" + jump("side") + "]]}")), 0);
	const auto prefixed = parse_nft(
		ruleset({{"pre", match(daddr, R"({"prefix":{"addr":"203.0.113.0","len":28}})") + "," + kDnat}}));
	EXPECT_EQ(prefixed->forwards[0].to, std::vector<Prefix>{*parse_prefix("203.0.113.0/28")});
}

TEST(Nft, ConntrackZonesOfAnyRule) {
	const auto zones = [](const std::string &value, const std::string &chain = "side",
			      const std::string &dir = "") {
		return parse_nft(ruleset({{chain, match(kIif, "\"wan0\"") + R"(,{"mangle":{"key":{"ct":{"key":"zone")" +
							  dir + R"(}},"value":)" + value + "}}"}}))
			->zones;
	};
	EXPECT_EQ(zones("7"), "nftables ip nat side");
	EXPECT_EQ(zones("8", "pre", R"(,"dir":"original")"), "nftables ip nat pre");
	EXPECT_EQ(zones(R"({"map":{"key":{"meta":{"key":"iifname"}},"data":{"set":[["a",1]]}}})"),
		  "nftables ip nat side");
	EXPECT_EQ(zones("0"), "");
	EXPECT_EQ(parse_nft(ruleset({{"pre", R"({"mangle":{"key":{"ct":{"key":"mark"}},"value":7}})"}}))->zones, "");
	EXPECT_EQ(parse_iptables_save("*raw\n-A PREROUTING -i wan0 -j CT --zone 5\nCOMMIT\n").zones, "iptables raw");
	EXPECT_EQ(parse_iptables_save("*raw\n-A PREROUTING -i wan0 -j CT --notrack\nCOMMIT\n").zones, "");
}

TEST(IptablesSave, ExposedHost) {
	const auto all = [](const std::string &rule) {
		const auto firewall =
			parse_iptables_save("*nat\n:PREROUTING ACCEPT [0:0]\n:DMZ - [0:0]\n-A DMZ -j DNAT "
					    "--to-destination 10.0.0.9\n-A PREROUTING " +
					    rule + "\nCOMMIT\n");
		return firewall.forwards.empty() ? -1 : firewall.forwards[0].all;
	};
	const std::string dnat = " -j DNAT --to-destination 10.0.0.9";
	EXPECT_EQ(all("-i wan0" + dnat), PTRIG_TCP | PTRIG_UDP);
	EXPECT_EQ(all("-d 203.0.113.2/32 -i wan0 -m comment --comment \"the -s box\"" + dnat), PTRIG_TCP | PTRIG_UDP);
	EXPECT_EQ(all("-m addrtype --dst-type LOCAL -j DMZ"), PTRIG_TCP | PTRIG_UDP);
	EXPECT_EQ(all("-i wan0 -p udp" + dnat), PTRIG_UDP);
	EXPECT_EQ(all("-i wan0 -s 198.51.100.0/24" + dnat), 0);
	EXPECT_EQ(all("-i wan0 -p tcp -m tcp --dport 80 -j DMZ"), 0);
	EXPECT_EQ(all("-i wan0 -p tcp -m tcp --sport 80" + dnat), 0);
	EXPECT_EQ(all("! -d 203.0.113.2/32 -i wan0" + dnat), 0);
	EXPECT_EQ(ports(parse_iptables_save("*nat\n:PREROUTING ACCEPT [0:0]\n:S - [0:0]\n-A S -j DNAT --to 10.0.0.9\n"
					    "-A PREROUTING -p tcp --dport 81 -j S\nCOMMIT\n")),
		  "81/tcp");
}

TEST(Nft, OtherFamiliesAndRubbish) {
	EXPECT_TRUE(parse_nft(ruleset({{"pre", R"({"xt":null})"}}))->has_xt);
	EXPECT_FALSE(parse_nft(""));
	EXPECT_FALSE(parse_nft("{}"));
	EXPECT_FALSE(parse_nft("[]"));
	EXPECT_TRUE(parse_nft(R"({"nftables":[]})"));
	for (const char *odd :
	     {R"({"nftables":[1,"x",null,{"rule":1},{"rule":{"expr":3}}]})",
	      R"({"nftables":[{"rule":{"family":"ip","expr":[{"match":[]},{"match":{"left":5,"right":{}}},7]}}]})",
	      R"({"nftables":[{"rule":{"family":"ip","expr":[{"dnat":{"addr":{"map":{"data":5}}}},{"vmap":[]}]}}]})",
	      R"({"nftables":[{"chain":{"name":5}},{"set":{"elem":{"a":1}}}]})"}) {
		EXPECT_TRUE(parse_nft(odd)) << odd;
	}
}

TEST(IptablesSave, ChainsNegationAndPortLists) {
	auto firewall = parse_iptables_save(R"(# Generated
*filter
:INPUT ACCEPT [0:0]
-A INPUT -p tcp --dport 22 -j DNAT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DEAD - [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A PREROUTING -i wan+ -p udp -m multiport --dports 500,6000:6010 -m comment --comment "a \"b\" -j c" -j DNAT --to 10.0.0.1
-A PREROUTING -p tcp ! --dport 7 -j REDIRECT
-A OUTPUT -p tcp --dport 1 -j DNAT --to-destination 10.0.0.9
-A DEAD -p tcp --dport 2 -j DNAT --to-destination 10.0.0.9
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A POSTROUTING -s 192.168.0.0/16 ! -o br0 -j MASQUERADE
COMMIT
)");
	EXPECT_EQ(ports(firewall), "500/udp 6000-6010/udp 8080/tcp");
	EXPECT_EQ(ports(firewall, "docker0"), "");
	EXPECT_TRUE(firewall.masquerades("wan0"));
	EXPECT_FALSE(firewall.masquerades("br0"));
	EXPECT_TRUE(parse_iptables_save("*nat\n-A\n:\n-A X -j\n").source_nat.empty());
}

TEST(ProcSockets, ListenersOnTheWan) {
	const std::string heading = "  sl  local_address rem_address   st tx_queue rx_queue\n";
	const std::vector<Ip4> wan{parse_ip4("203.0.113.2").value()}; // 027100CB as a little-endian word
	auto tcp = parse_proc_sockets(heading + "   0: 00000000:0016 00000000:0000 0A 00000000:00000000\n" // any:22
						"   1: 0100007F:0277 00000000:0000 0A 00000000:00000000\n" // loopback
						"   2: 027100CB:0050 00000000:0000 0A 00000000:00000000\n" // WAN:80
						"   3: 027100CB:0051 0A7100CB:C000 01 00000000:00000000\n" // connected
						"   4: 037100CB:0052 00000000:0000 0A 00000000:00000000\n" // elsewhere
						"   5: 027100CB\n   6: XX:YY 0 0A\n",
				      PTRIG_TCP, wan);
	ASSERT_EQ(tcp.size(), 2U);
	EXPECT_EQ(tcp[0].port, 22);
	EXPECT_EQ(tcp[1].port, 80);
	const std::string none = " 00000000000000000000000000000000:0000 ";
	auto udp6 = parse_proc_sockets(heading + "   0: 00000000000000000000000000000000:14E9" + none + "07 0\n" // any
					       + "   1: 0000000000000000FFFF0000027100CB:0035" + none + "07 0\n" // WAN
					       + "   2: 0000000000000000FFFF0000027100CB:0036" + none +
					       "01 0\n" // connected
					       + "   3: 00000000000000000000000001000000:0037" + none + "07 0\n", // ::1
				       PTRIG_UDP, wan);
	ASSERT_EQ(udp6.size(), 2U);
	EXPECT_EQ(udp6[0].port, 5353);
	EXPECT_EQ(udp6[1].port, 53);
}

TEST(Upnp, Leases) {
	auto leases = parse_upnp_leases(
		"TCP:6881:192.168.1.10:6881:0:a:b\nUDP:0:192.168.1.10:1\nSCTP:1:192.168.1.1:1\n\nUDP:9:x:1\n"
		"UDP:3074:192.168.1.20:3074:1700000000:Game");
	ASSERT_EQ(leases.size(), 2U);
	EXPECT_EQ(to_string(leases[1].port) + " " + to_string(leases[1].host), "3074/udp 192.168.1.20");
}

TEST(Addresses, PrivateAndShared) {
	auto is = [](const char *text) {
		auto address = parse_ip4(text).value();
		return std::pair(is_private(address), is_shared_space(address));
	};
	for (const char *text : {"10.255.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1"}) {
		EXPECT_EQ(is(text), std::pair(true, false)) << text;
	}
	for (const char *text : {"100.64.0.1", "100.127.255.255"}) {
		EXPECT_EQ(is(text), std::pair(false, true)) << text;
	}
	for (const char *text :
	     {"172.32.0.1", "172.15.0.1", "100.128.0.1", "100.63.255.255", "192.169.0.1", "11.0.0.1"}) {
		EXPECT_EQ(is(text), std::pair(false, false)) << text;
	}
}

/// wan0 203.0.113.2/24 and br0 192.168.77.1/24 with its member eth1, all in order.
GatewayFacts good_gateway() {
	GatewayFacts facts;
	facts.wan = {"wan0"};
	facts.lan = {"br0"};
	auto add = [&](std::uint32_t index, const char *name, const char *local, const char *prefix) {
		Link link;
		link.ifindex = index;
		link.name = name;
		facts.network.links.push_back(link);
		if (local != nullptr) {
			auto on_link = parse_prefix(prefix).value();
			facts.network.addresses.push_back(
				Address{index, parse_ip4(local).value(), on_link, on_link.bits, 0, false});
		}
	};
	add(2, "wan0", "203.0.113.2", "203.0.113.0/24");
	add(3, "br0", "192.168.77.1", "192.168.77.0/24");
	add(4, "eth1", nullptr, nullptr);
	facts.network.links[2].master = 3;
	facts.network.links[2].slave_kind = "bridge";
	facts.forwarding = {{"all", true}, {"wan0", true}, {"br0", true}};
	facts.firewall.looked = true;
	facts.firewall.source_nat.push_back({});
	return facts;
}

std::string warning(const GatewayFacts &facts, const std::vector<Rule> &rules = {},
		    const std::vector<PortRange> &reserved = {}) {
	auto warnings = gateway_warnings(facts, rules, reserved);
	EXPECT_LE(warnings.size(), 1U);
	return warnings.empty() ? "" : warnings[0];
}

TEST(Warnings, NoneForAGoodGateway) {
	EXPECT_EQ(warning(good_gateway()), "");
}

TEST(Warnings, Forwarding) {
	auto facts = good_gateway();
	facts.forwarding = {{"all", false}, {"wan0", false}, {"br0", false}};
	EXPECT_NE(warning(facts).find("IPv4 forwarding is off:"), std::string::npos);
	facts.forwarding = {{"all", true}, {"wan0", false}};
	EXPECT_NE(warning(facts).find("off on wan0"), std::string::npos);
	facts.forwarding.clear();
	EXPECT_EQ(warning(facts), "") << "not readable is not off";
}

TEST(Warnings, Masquerade) {
	auto facts = good_gateway();
	facts.firewall.source_nat[0].out.names = {"eth7"};
	EXPECT_NE(warning(facts).find("no masquerade or snat rule found for wan0"), std::string::npos);
	facts.firewall.looked = false;
	facts.firewall.why_not = "nft is not installed";
	EXPECT_EQ(warning(facts), "whether wan0 masquerades could not be looked at: nft is not installed");
}

TEST(Warnings, WanAddress) {
	auto facts = good_gateway();
	facts.network.addresses[0].local = parse_ip4("100.64.3.4").value();
	EXPECT_NE(warning(facts).find("shared (100.64.0.0/10) address 100.64.3.4"), std::string::npos);
	facts.network.addresses[0].local = parse_ip4("192.168.1.2").value();
	EXPECT_NE(warning(facts).find("private address 192.168.1.2"), std::string::npos);
	auto beside = good_gateway();
	beside.network.addresses.push_back(beside.network.addresses[0]);
	beside.network.addresses.back().local = parse_ip4("192.168.100.2").value();
	EXPECT_EQ(warning(beside), "") << "the modem's net beside a public address";
	facts.network.addresses.clear();
	EXPECT_EQ(warning(facts), "wan0 has no IPv4 address");
}

TEST(Warnings, BridgeMember) {
	auto facts = good_gateway();
	facts.lan = {"eth1"};
	EXPECT_EQ(warning(facts), "eth1 is a member of the bridge br0: name br0 instead");
}

TEST(Warnings, ShapingOnlyWhereThereIsXdp) {
	auto facts = good_gateway();
	facts.shaping["wan0"] = Shaping{"htb", "ifb0"};
	EXPECT_EQ(warning(facts), "");
	facts.xdp = {"br0"};
	EXPECT_NE(warning(facts).find("wan0 is shaped by htb"), std::string::npos);
	facts.xdp = {"wan0"};
	facts.shaping["wan0"].egress.clear();
	EXPECT_NE(warning(facts).find("redirected to ifb0"), std::string::npos);
	for (const char *kind : {"htb", "tbf", "cake", "hfsc", "prio", "netem", "drr", "one_of_tomorrow"}) {
		EXPECT_TRUE(is_shaping(kind)) << kind;
	}
	for (const char *kind : {"fq_codel", "fq", "mq", "noqueue", "pfifo_fast", "clsact"}) {
		EXPECT_FALSE(is_shaping(kind)) << kind;
	}
}

TEST(Nft, DevicesOfFlowTablesThatOffloadIntoHardware) {
	const char *text = R"(table inet filter {
	flowtable soft {
		hook ingress priority filter
		devices = { eth5, eth6 }
	}
	flowtable hard {
		hook ingress priority filter + 10
		devices = { eth0, "br0.7" }
		flags offload
		counter
	}
}
table ip other {
	flowtable without {
		hook ingress priority filter
		flags offload
	}
}
)";
	EXPECT_EQ(parse_offloaded_devices(text), (std::vector<std::string>{"eth0", "br0.7"}));
	const char *flow_table =
		R"(,{"flowtable":{"family":"ip","name":"f","table":"nat","handle":3,"hook":"ingress","prio":0,"dev":"eth0"}})";
	EXPECT_TRUE(parse_nft(ruleset({}, flow_table)).value().has_flow_table);
	EXPECT_FALSE(parse_nft(ruleset({})).value().has_flow_table);
}

TEST(Warnings, HardwareOffload) {
	auto facts = good_gateway();
	facts.firewall.offloaded = {"eth9"};
	EXPECT_EQ(warning(facts), "");
	facts.firewall.offloaded = {"br0"};
	EXPECT_NE(warning(facts).find("leaves flows of br0 to the hardware"), std::string::npos);
}

TEST(Warnings, ExposedHostAndZones) {
	Rule rule;
	rule.name = "game";
	rule.open = {parse_open_range("3000-3100/udp").value()};
	const auto with = [&](Protos all, std::vector<Prefix> to, const char *by = "wan0") {
		auto facts = good_gateway();
		facts.firewall.forwards.push_back(PortForward{{{by}}, {}, "nftables ip nat pre", all, std::move(to)});
		EXPECT_EQ(warning(facts), "") << "no rule, nothing to clash";
		return warning(facts, {rule});
	};
	EXPECT_EQ(with(PTRIG_TCP | PTRIG_UDP, {})
			  .find("the firewall sends every port of wan0 to one place (a DMZ; nftables ip "
				"nat pre): a port that a lease opens"),
		  0U);
	EXPECT_NE(with(PTRIG_TCP, {}).find("every tcp port of wan0"), std::string::npos);
	EXPECT_NE(with(PTRIG_UDP, {*parse_prefix("203.0.113.2")}).find("every udp port of wan0"), std::string::npos);
	EXPECT_EQ(with(PTRIG_UDP, {*parse_prefix("203.0.113.7")}), "") << "another address";
	EXPECT_EQ(with(PTRIG_UDP, {}, "br0"), "");
	EXPECT_EQ(with(0, {}), "");
	auto facts = good_gateway();
	facts.firewall.zones = "nftables ip raw pre";
	EXPECT_NE(warning(facts, {rule})
			  .find("conntrack zones (nftables ip raw pre), and these are not seen by ptrig: flows in a "
				"zone other than 0 are not known to it"),
		  std::string::npos);
	facts.conntrack_zone = 7;
	EXPECT_EQ(warning(facts, {rule}), "");
}

TEST(Warnings, PortsThatOthersUseToo) {
	Rule rule;
	rule.name = "game";
	rule.open = {parse_open_range("3000-3100/udp").value()};
	auto facts = good_gateway();
	facts.firewall.forwards.push_back(PortForward{{}, {parse_port_range("3100-3200/udp").value()}, "x"});
	EXPECT_NE(warning(facts, {rule}).find("rule game opens ports that the firewall forwards too: 3100-3200/udp"),
		  std::string::npos);
	EXPECT_EQ(warning(facts, {rule}, {parse_port_range("3100/udp").value()}), "") << "reserved";
	rule.enabled = false;
	EXPECT_EQ(warning(facts, {rule}), "");
	rule.enabled = true;
	facts = good_gateway();
	facts.listeners = {{3050, PTRIG_TCP}, {3050, PTRIG_UDP}, {3200, PTRIG_UDP}};
	EXPECT_NE(warning(facts, {rule}).find("the gateway itself listens on: 3050/udp;"), std::string::npos);
	facts = good_gateway();
	facts.upnp = parse_upnp_leases("UDP:3074:192.168.77.20:3074:0:Game\n");
	EXPECT_NE(warning(facts, {rule}).find("miniupnpd has given out: 3074/udp to 192.168.77.20"), std::string::npos);
	auto check = check_facts(facts, 4);
	EXPECT_EQ(check.dnat.size(), 1U);
	EXPECT_EQ(check.possible_cpus, 4U);
}

TEST(Overlap, LanAndWan) {
	auto network = good_gateway().network;
	EXPECT_TRUE(check_overlap(network, {"wan0"}, {"br0"}));
	EXPECT_TRUE(check_overlap(network, {"ppp0"}, {"br0"})) << "not there yet";
	auto same = check_overlap(network, {"wan0"}, {"wan0"});
	ASSERT_FALSE(same);
	EXPECT_EQ(same.error().status, Status::kInput);
	network.addresses[0].on_link = parse_prefix("192.168.0.0/16").value();
	auto overlap = check_overlap(network, {"wan0"}, {"br0"});
	ASSERT_FALSE(overlap);
	EXPECT_NE(overlap.error().what.find("LAN br0 (192.168.77.0/24) and WAN wan0 (192.168.0.0/16)"),
		  std::string::npos);
	// Point-to-point: the peer is elsewhere, the own address inside the LAN.
	network.addresses[0].on_link = parse_prefix("198.51.100.1").value();
	network.addresses[0].local = parse_ip4("192.168.77.9").value();
	EXPECT_FALSE(check_overlap(network, {"wan0"}, {"br0"}));
}

class Locks : public testing::Test {
protected:
	void SetUp() override {
		std::string name = (std::filesystem::temp_directory_path() / "ptrig-lock-XXXXXX").string();
		ASSERT_NE(mkdtemp(name.data()), nullptr);
		directory_ = name;
	}
	void TearDown() override { std::filesystem::remove_all(directory_); }
	std::string directory_;
};

TEST_F(Locks, OneHolderAtATime) {
	auto path = directory_ + "/new/lock";
	{
		auto held = FileLock::acquire(path);
		ASSERT_TRUE(held) << held.error().what;
		EXPECT_FALSE(FileLock::try_acquire(path).value());
	}
	EXPECT_TRUE(FileLock::try_acquire(path).value());
	EXPECT_FALSE(FileLock::acquire("/proc/none/lock"));
}

TEST_F(Locks, DaemonsPidWhileItLives) {
	auto path = directory_ + "/daemon";
	EXPECT_EQ(daemon_pid(path).value(), std::nullopt);
	int ready[2], go[2];
	ASSERT_EQ(pipe(ready), 0);
	ASSERT_EQ(pipe(go), 0);
	pid_t child = fork();
	if (child == 0) {
		auto held = DaemonLock::take(path);
		char byte = held ? 'y' : 'n';
		(void)!write(ready[1], &byte, 1);
		(void)!read(go[0], &byte, 1);
		_exit(0);
	}
	char byte = 0;
	ASSERT_EQ(read(ready[0], &byte, 1), 1);
	EXPECT_EQ(byte, 'y');
	EXPECT_EQ(daemon_pid(path).value(), child);
	auto second = DaemonLock::take(path);
	ASSERT_FALSE(second);
	EXPECT_EQ(second.error().what, "a daemon runs already (pid " + std::to_string(child) + ")");
	ASSERT_EQ(write(go[1], &byte, 1), 1);
	ASSERT_EQ(waitpid(child, nullptr, 0), child);
	EXPECT_EQ(daemon_pid(path).value(), std::nullopt) << "a lock dies with its process";
	EXPECT_TRUE(DaemonLock::take(path));
	for (int fd : {ready[0], ready[1], go[0], go[1]}) {
		close(fd);
	}
}

TEST_F(Locks, TheDaemonsTroubleForStatus) {
	const auto path = directory_ + "/trouble";
	EXPECT_TRUE(read_trouble(path).empty());
	EXPECT_TRUE(write_trouble(path, {}));
	ASSERT_TRUE(write_trouble(path, {"follow the network: no", "report events: no"}));
	EXPECT_EQ(read_trouble(path), (std::vector<std::string>{"follow the network: no", "report events: no"}));
	ASSERT_TRUE(write_trouble(path, {}));
	EXPECT_FALSE(std::filesystem::exists(path));
	EXPECT_FALSE(write_trouble(directory_ + "/none/trouble", {"x"}));
}

TEST(RuntimeFile, OnePerPinDirectory) {
	EXPECT_EQ(runtime_file("/sys/fs/bpf/ptrig", "lock"), "/run/ptrig/lock");
	EXPECT_EQ(runtime_file("/sys/fs/bpf/ptrig/", "lock"), "/run/ptrig/lock");
	EXPECT_EQ(runtime_file("/sys/fs/bpf/other", "lock"), "/run/ptrig/lock-sys-fs-bpf-other");
}

TEST(RunChild, OutputStatusAndTimeout) {
	auto good = run_child({"/bin/sh", "-c", "echo out; echo err >&2; exit 3"});
	ASSERT_TRUE(good) << good.error().what;
	EXPECT_EQ(good->out, "out\n");
	EXPECT_EQ(good->err, "err\n");
	EXPECT_EQ(good->status, 3);
	auto literal = run_child({"/bin/echo", "$HOME; `id`"});
	EXPECT_EQ(literal->out, "$HOME; `id`\n") << "no shell";
	auto big = run_child({"/usr/bin/head", "-c", "300000", "/dev/zero"});
	EXPECT_EQ(big->out.size(), 300000U);
	EXPECT_FALSE(run_child({"/nonexistent/program"}));
	auto slow = run_child({"/bin/sleep", "30"}, 50);
	ASSERT_FALSE(slow);
	EXPECT_NE(slow.error().what.find("longer than"), std::string::npos);
}

TEST(Bpffs, OfAPathOrItsParent) {
	EXPECT_FALSE(is_on_bpffs("/tmp/not/there").value());
	EXPECT_FALSE(require_bpffs("/tmp"));
	EXPECT_TRUE(netns_identity());
}

} // namespace
} // namespace ptrig
