// What ptrig keeps in step with netfilter: connections that a conntrack helper expects reach who they are for, although
// another host's lease covers the port; and the nat chain of ptrig's own, without which nothing is translated where the
// gateway has no other.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "include/ptrig/abi.h"
#include "loader/map.h"
#include "loader/netfilter.h"
#include "tests/lab/lab.h"

namespace lab {

class Netfilter : public Lab {
protected:
	/// Active FTP is followed on the gateway; the reason if this kernel has no helper for it.
	std::string follow_ftp();
	/// lan2 has a control connection to the FTP server.
	void log_in();
	/// It says at which of its ports it waits for the data, and the helper translates that.
	void wait_for_data_at(std::uint16_t port);
	/// Who gets the server's data connection to that port.
	std::string who_gets_data(std::uint16_t port) { return who_gets_tcp(port, {kRemote1, 20}); }
	/// Packets know that the connection is expected.
	bool is_expected(std::uint16_t port) const;

	bool has_nat_chain() const { return run(gw(), {"nft", "list", "chain", "ip", "ptrig", "nat"}).status == 0; }
	/// The gateway's packets are told that it is there.
	static bool nat_ready() {
		return (*ptrig::MappedArray<ptrig_state>::open(kPins, "pt_state"))[0].nat_ready == 1;
	}

	std::optional<std::pair<Fd, Fd>> control_;
};
LAB_STORIES(Netfilter);

namespace {

/// As in the field: one trigger opens nearly everything, and lan1 holds the lease.
std::string wide() {
	return rule("wide", "3074/udp", "1024-65535/tcp");
}

constexpr const char *kFtpHelper = R"(
table inet lab_helper {
	ct helper ftp {
		type "ftp" protocol tcp
		l3proto ip
	}
	chain prerouting {
		type filter hook prerouting priority filter
		tcp dport 21 ct helper set "ftp"
	}
}
)";

ptrig::Expectation expectation_at(std::uint16_t port) {
	return {.remote = *ptrig::parse_ip4(kRemote1),
		.local = *ptrig::parse_ip4(kWan),
		.port = port,
		.proto = IPPROTO_TCP};
}

} // namespace

std::string Netfilter::follow_ftp() {
	return run(gw(), {"nft", "-f", "-"}, kFtpHelper).err;
}

void Netfilter::log_in() {
	control_ = connect_out(lan2(), {kRemote1, 21});
	ASSERT_TRUE(control_) << "no control connection";
	ASSERT_TRUE(says(control_->first, control_->second)); // the helper takes no first line for a command
}

void Netfilter::wait_for_data_at(std::uint16_t port) {
	std::string address = host2();
	std::replace(address.begin(), address.end(), '.', ',');
	const std::string line =
		"PORT " + address + "," + std::to_string(port >> 8) + "," + std::to_string(port & 0xff) + "\r\n";
	ASSERT_EQ(::write(control_->first.get(), line.data(), line.size()), static_cast<ssize_t>(line.size()));
	std::string seen;
	EXPECT_TRUE(eventually(2s, [&] {
		char text[256];
		const ssize_t n = recv(control_->second.get(), text, sizeof(text), MSG_DONTWAIT);
		seen.append(text, n > 0 ? static_cast<std::size_t>(n) : 0);
		return seen.find('\n') != std::string::npos;
	}));
	EXPECT_EQ(seen.rfind("PORT 203,0,113,2,", 0), 0U) << "the helper has not seen it: " << seen;
}

bool Netfilter::is_expected(std::uint16_t port) const {
	const auto map = ptrig::Map<ptrig_expected_key, std::uint64_t>::open(kPins, "pt_expected");
	const auto expected = expectation_at(port);
	return map
		->lookup({.remote = htonl(expected.remote.value),
			  .wan = htonl(expected.local.value),
			  .port = htons(port),
			  .proto = IPPROTO_TCP})
		.value()
		.has_value();
}

TEST_P(Netfilter, DataOfActiveFtpReachesItsHost) {
	up(wide());
	if (const std::string why = follow_ftp(); !why.empty())
		GTEST_SKIP() << "the kernel has no FTP helper: " << why;
	log_in();
	wait_for_data_at(50001);
	EXPECT_EQ(who_gets_data(50001), "lan2") << "without a lease";
	trigger(lan1(), {kRemote1, 3074});
	wait_for_data_at(50002);
	EXPECT_EQ(who_gets_data(50002), "lan1") << "nobody has told packets what the helper expects";

	wait_for_data_at(50003);
	run_daemon();
	EXPECT_TRUE(is_expected(50003)) << "from before the daemon";
	EXPECT_EQ(who_gets_data(50003), "lan2");
	log_in();
	wait_for_data_at(50004);
	EXPECT_TRUE(eventually(5s, [&] { return is_expected(50004); }));
	const auto before = counter("flow_expected");
	EXPECT_EQ(who_gets_data(50004), "lan2");
	EXPECT_GT(counter("flow_expected"), before);

	EXPECT_TRUE(eventually(5s, [&] { return !is_expected(50003) && !is_expected(50004); })) << "they have come";
	EXPECT_EQ(who_gets_data(50005), "lan1") << "which nobody expects";
	EXPECT_EQ(who_gets_tcp(50006, {kRemote2, 20}), "lan1");
}

/// The events alone: a data connection comes sooner than the look that the daemon takes once a second.
TEST_P(Netfilter, ExpectationsAreToldAtOnce) {
	using Kind = ptrig::NetfilterChange::Kind;
	auto monitor = gw().inside([] { return ptrig::NetfilterMonitor::open(); });
	ASSERT_TRUE(monitor);
	if (const std::string why = follow_ftp(); !why.empty())
		GTEST_SKIP() << "the kernel has no FTP helper: " << why;
	std::vector<ptrig::NetfilterChange> told;
	const auto tells = [&](const ptrig::NetfilterChange &wanted) {
		return eventually(2s, [&] {
			const auto changes = monitor->drain();
			for (ptrig::NetfilterChange change : changes.value()) {
				change.expectation.timeout_s = 0;
				told.push_back(change);
			}
			return std::find(told.begin(), told.end(), wanted) != told.end();
		});
	};
	EXPECT_TRUE(tells({Kind::kRuleset, {}})) << "the helper's table";
	log_in();
	wait_for_data_at(50011);
	EXPECT_TRUE(tells({Kind::kExpected, expectation_at(50011)}));
	const auto now = gw().inside([] { return ptrig::read_expectations(); });
	ASSERT_TRUE(now);
	ASSERT_EQ(now->size(), 1U);
	EXPECT_GT(now->front().timeout_s, 200U);
	EXPECT_EQ(who_gets_data(50011), "lan2");
	EXPECT_TRUE(tells({Kind::kUnexpected, expectation_at(50011)}));
}

TEST_P(Netfilter, NatChainIsThereFromUpToDown) {
	start_afresh();
	EXPECT_FALSE(has_nat_chain());
	up(game());
	EXPECT_TRUE(has_nat_chain());
	EXPECT_TRUE(nat_ready());
	nft("delete table ip ptrig");
	EXPECT_EQ(ptrig({"up"}).status, 0);
	EXPECT_TRUE(has_nat_chain());
	EXPECT_EQ(ptrig({"down"}).status, 0);
	EXPECT_FALSE(has_nat_chain());
	EXPECT_EQ(ptrig({"down"}).status, 0) << "nothing to remove";
	up(game());
	nft("delete table ip ptrig");
	EXPECT_EQ(ptrig({"down"}).status, 0) << "somebody else has removed it";
}

TEST_P(Netfilter, NatChainComesBack) {
	Process &daemon = run_daemon(game());
	for (const char *gone : {"flush ruleset", "delete table ip ptrig"}) {
		nft(gone);
		EXPECT_TRUE(eventually(3s, [&] { return has_nat_chain(); })) << gone << "\n" << daemon.err();
		EXPECT_TRUE(eventually(3s, [] { return nat_ready(); }));
	}
	EXPECT_NE(daemon.err().find("table ip ptrig was gone: added again"), std::string::npos) << daemon.err();
	load_firewall(); // which begins with a flush, too
	EXPECT_TRUE(eventually(3s, [&] { return has_nat_chain(); }));
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

} // namespace lab
