// The fast path as its users meet it: it is there while sessions are, what it repeats ends when the firewall says so,
// and a transfer that fills the path outlives whatever happens to rules and tables meanwhile.
#include <net/if.h>

#include <atomic>
#include <thread>

#include "loader/classifier.h"
#include "tests/lab/flow.h"
#include "tests/lab/frames.h"
#include "tests/lab/policy.h"
#include "tests/lab/soak.h"

namespace lab {

namespace {

/// Something done again and again beside the story, until this goes.
class Meanwhile {
public:
	Meanwhile(milliseconds every, std::function<void()> what)
	    : thread_([this, every, what = std::move(what)] {
		      while (!stop_) {
			      what();
			      times_++;
			      std::this_thread::sleep_for(every);
		      }
	      }) {}
	~Meanwhile() {
		stop_ = true;
		thread_.join();
	}
	Meanwhile(const Meanwhile &) = delete;
	Meanwhile &operator=(const Meanwhile &) = delete;
	unsigned times() const { return times_; }

private:
	std::atomic<bool> stop_ = false;
	std::atomic<unsigned> times_ = 0;
	std::thread thread_;
};

} // namespace

class FastPath : public PolicyLab {
protected:
	/// Does a program of ptrig's see what leaves to the LAN?
	bool looks_at_lan_egress() const {
		return gw().inside([&] {
			const auto there = ptrig::classifier_query(
				{kPins, if_nametoindex(lan_device().c_str()), ptrig::TcSide::kEgress});
			return there.value().prog_id.has_value();
		});
	}
	/// What of a connection's packets conntrack takes for invalid, and comes to the forward chain, which drops it,
	/// or to the gateway itself.
	void count_invalid(const Fd &remote) {
		const std::string port = std::to_string(local_end(remote).port);
		std::string rules[2];
		for (const char *end : {"sport", "dport"}) {
			const std::string match =
				"\t\ttcp " + std::string(end) + " " + port + " ct state invalid counter name invalid";
			rules[0] += match + " drop\n";
			rules[1] += match + "\n";
		}
		nft("table inet soak {\n\tcounter invalid { }\n"
		    "\tchain forward {\n\t\ttype filter hook forward priority -1\n" +
		    rules[0] + "\t}\n\tchain input {\n\t\ttype filter hook input priority -1\n" + rules[1] +
		    "\t}\n}\n");
	}
	std::uint64_t invalid() const { return counted_by(gw(), "invalid"); }
	/// So much each way, as fast as it goes.
	testing::AssertionResult transfer(const std::pair<Fd, Fd> &ends, unsigned mebibytes) const;
};
LAB_STORIES(FastPath);

testing::AssertionResult FastPath::transfer(const std::pair<Fd, Fd> &ends, unsigned mebibytes) const {
	constexpr unsigned kPart = 8; // at once, for the sake of memory
	milliseconds pause{};
	for (unsigned done = 0; done < (is_slow() ? 24 : mebibytes); done += kPart)
		if (!exchange(ends.first, ends.second, kPart << 20, patient(20s), &pause))
			return testing::AssertionFailure() << "between " << done << " and " << done + kPart << " MiB";
	std::printf("fast path: longest pause of a transfer: %d ms\n", static_cast<int>(pause.count()));
	return testing::AssertionSuccess();
}

TEST_P(FastPath, RestsWhileNoSessionIsThere) {
	Process &daemon = run_daemon(game());
	EXPECT_TRUE(looks_at_lan_egress());
	ASSERT_TRUE(eventually(30s, [&] { return !looks_at_lan_egress(); })) << daemon.err();
	for (const Json &warning : json({"status"}).at("warnings"))
		EXPECT_EQ(warning.get<std::string>().find("program"), std::string::npos) << warning;
	const std::uint64_t before = counter("accelerated");
	trigger(lan1());
	const Fd remote = start_talk(lan1(), {kRemote2, 0});
	{
		const Flow flow(remote, {kWan, 6000}, udp_on(lan1(), 6000), 1000);
		EXPECT_TRUE(eventually(10s, [&] { return counter("accelerated") > before + 100; }));
	}
	ptrig({"lease", "close", "--kill", "--all"});
	ASSERT_TRUE(eventually(30s, [&] { return !looks_at_lan_egress(); })) << daemon.err();
	daemon.signal(SIGTERM);
	EXPECT_EQ(daemon.wait(20s).value_or(Output{}).status, 0);
	EXPECT_TRUE(looks_at_lan_egress()) << "nobody is there to wake it";
}

/// Of whatever kind its end is: soon nothing comes to the host any more, of a thousand datagrams a second.
TEST_P(FastPath, EndsWithItsSession) {
	const std::string rules = game("conflict = 'takeover'\non_close = 'kill'\ntimeout = " +
				       std::string(is_slow() ? "'20s'" : "'2s'"));
	run_daemon(rules);
	const Fd &host = udp_on(lan1(), 6000);
	const PacketCount at_host(lan1(), "prerouting priority raw", "udp dport 6000");
	struct End {
		const char *name;
		std::function<void()> make;
	};
	const std::vector<End> ends{
		{"its lease is closed",
		 [&] {
			 ptrig({"lease", "close", "game"});
		 }},
		{"the session is closed",
		 [&] {
			 ptrig({"session", "close", "--all"});
		 }},
		{"another host takes the lease", [&] { trigger(lan2()); }},
		{"the lease ends by time", [] {}},
		{"its remote is denied", [&] { apply(rules, "deny_remotes = ['" + kRemote2 + "']\n"); }},
	};
	for (const End &end : ends) {
		SCOPED_TRACE(end.name);
		trigger(lan1());
		const Fd remote = start_talk(lan1(), {kRemote2, 0});
		const std::uint64_t before = counter("accelerated");
		const Flow flow(remote, {kWan, 6000}, host, 1000);
		ASSERT_TRUE(eventually(10s, [&] {
			try_trigger(lan1());
			return counter("accelerated") > before + 100;
		}));
		end.make();
		EXPECT_TRUE(eventually(30s, [&] {
			const std::uint64_t arrived = at_host.udp();
			std::this_thread::sleep_for(200ms);
			return at_host.udp() == arrived;
		})) << at_host.udp();
		ptrig({"session", "close", "--all"});
		ptrig({"lease", "close", "--all"});
	}
}

TEST_P(FastPath, ALargeTransferOutlivesRulesThatChange) {
	run_daemon(game());
	trigger(lan1());
	const auto ends = connect_in(6001, lan1(), kRemote2);
	count_invalid(ends.first);
	nft("add chain inet lab changing\n");
	unsigned changes = 0;
	{
		const Meanwhile change(200ms, [&] {
			nft("flush chain inet lab changing\nadd rule inet lab changing ip saddr 192.0.2." +
			    std::to_string(changes++ % 250) + " drop\n");
		});
		EXPECT_TRUE(transfer(ends, 304));
		while (change.times() < 5 && !HasFailure())
			EXPECT_TRUE(transfer(ends, 16));
	}
	EXPECT_EQ(invalid(), 0U);
	EXPECT_GT(counter("accelerated"), 100U);
	EXPECT_EQ(counter("out_of_window"), 0U);
}

/// Each flush makes the connection's entry anew, with no knowledge of its windows.
TEST_P(FastPath, ALargeTransferOutlivesFlushes) {
	run_daemon(game());
	trigger(lan1());
	const auto ends = connect_in(6001, lan1(), kRemote2);
	count_invalid(ends.first);
	{
		const Meanwhile flush(700ms, [&] { must(gw(), {"conntrack", "-F"}); });
		EXPECT_TRUE(transfer(ends, 304));
		while (flush.times() < 5 && !HasFailure())
			EXPECT_TRUE(transfer(ends, 16));
	}
	EXPECT_GT(counter("accelerated"), 100U);
}

/// Sixty thousand sessions of one remote with one host, both ends in frames of the story's own making.
class ManySessions : public PolicyLab {
protected:
	static constexpr std::uint16_t kFirst = 2000, kPort = 6000;
	static constexpr unsigned kSessions = 60000;

	/// The daemon runs, and all sessions are answered.
	void begin_all();
	/// One packet of each session, each way.
	void round();
	void send(bool from_remote, unsigned first, unsigned count);
	std::uint64_t arrived() const { return counted_by(lan1(), "of_udp"); }
	std::uint64_t left() const { return counted_by(wan(), "of_udp"); }
	/// Nothing arrives any more at either end, in a while, for traffic that goes on.
	void expect_all_ends_with(const std::function<void()> &bedtime);

	MacBytes host_mac_{};
	std::unique_ptr<FrameSender> remote_, host_;
	std::unique_ptr<PacketCount> at_host_, at_remote_;
};
LAB_STORIES(ManySessions);

void ManySessions::send(bool from_remote, unsigned first, unsigned count) {
	static const std::uint32_t remote = to_number(kRemote2), wan_address = to_number(kWan);
	const std::uint32_t host = to_number(host1());
	const MacBytes from = from_remote ? to_mac("02:00:00:00:00:10") : host_mac_;
	FrameSender &sender = from_remote ? *remote_ : *host_;
	for (unsigned i = first; i < first + count; i++) {
		const auto port = static_cast<std::uint16_t>(kFirst + i);
		sender.add(from, from_remote
					 ? Shot{.from = remote, .to = wan_address, .from_port = port, .to_port = kPort}
					 : Shot{.from = host, .to = remote, .from_port = kPort, .to_port = port});
	}
	sender.send();
}

void ManySessions::round() {
	constexpr unsigned kBatch = 250;
	for (unsigned first = 0; first < kSessions; first += kBatch) {
		send(true, first, kBatch);
		send(false, first, kBatch);
	}
}

void ManySessions::begin_all() {
	run_daemon(game("timeout = '60s'"), "max_sessions = 65536\nmax_halfopen = 4096\n",
		   "[limits]\nsessions_per_host = 0\nnew_sessions_per_second = 0\n");
	trigger(lan1());
	host_mac_ = to_mac(mac_of(lan1()));
	// Nobody listens there, and neither end is to answer with ICMP.
	const std::string hook = "prerouting priority raw";
	at_host_ = std::make_unique<PacketCount>(lan1(), hook, "udp dport 6000");
	at_remote_ = std::make_unique<PacketCount>(wan(), hook, "udp sport 6000");
	must(lan1(), {"nft", "add rule inet soak counting udp dport 6000 drop"});
	must(wan(), {"nft", "add rule inet soak counting udp sport 6000 drop"});
	remote_ = std::make_unique<FrameSender>(wan(), "eth0", to_mac(mac_of(gw(), "wan0")));
	host_ = std::make_unique<FrameSender>(lan1(), "eth0", to_mac(mac_of(gw(), lan_device())));
	ASSERT_TRUE(eventually(30s, [&] {
		round();
		return json({"status"}).at("sessions").get<unsigned>() >= kSessions;
	})) << json({"status"});
}

void ManySessions::expect_all_ends_with(const std::function<void()> &bedtime) {
	const Meanwhile traffic(0ms, [&] { round(); });
	const std::uint64_t in = arrived(), out = left();
	ASSERT_TRUE(eventually(5s, [&] { return arrived() > in + kSessions && left() > out + kSessions; }));
	bedtime();
	const auto since = Clock::now();
	auto last = since; // that anything arrived
	std::uint64_t before = arrived() + left();
	unsigned rounds = traffic.times();
	EXPECT_TRUE(eventually(20s,
			       [&] {
				       if (const std::uint64_t now = arrived() + left(); now != before) {
					       before = now;
					       last = Clock::now();
					       rounds = traffic.times();
				       }
				       return traffic.times() >= rounds + 2;
			       }))
		<< "after 20 s: " << arrived() << " in, " << left() << " out";
	std::printf("fast path: bedtime of %u sessions within %.1f s\n", kSessions,
		    std::chrono::duration<double>(last - since).count());
}

TEST_P(ManySessions, EndWithTheirBedtime) {
	begin_all();
	ASSERT_TRUE(eventually(30s, [&] { // most of them have permission
		const std::uint64_t before = counter("accelerated");
		round();
		return counter("accelerated") - before > kSessions;
	})) << json({"status"}).at("counters");
	expect_all_ends_with([&] { in_front({"ip daddr " + host1() + " drop", "ip saddr " + host1() + " drop"}); });
}

/// The kernel tells nobody of their changes, so permission never lasts longer than a second.
TEST_P(ManySessions, EndWithTheirBedtimeByLegacyIptables) {
	nft("flush ruleset\n");
	ip(gw(), ""); // the network is no longer as it was
	const std::string rules = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n"
				  "*nat\n-A POSTROUTING -o wan0 -j MASQUERADE\nCOMMIT\n";
	must(gw(), {"iptables-legacy-restore"}, rules);
	begin_all();
	expect_all_ends_with([&] {
		must(gw(), {"iptables-legacy", "-I", "FORWARD", "-d", host1(), "-j", "DROP"});
		must(gw(), {"iptables-legacy", "-I", "FORWARD", "-s", host1(), "-j", "DROP"});
	});
}

} // namespace lab
