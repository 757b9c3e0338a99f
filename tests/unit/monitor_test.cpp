// The fan-out of events over real sockets: several clients, one that does not read, one that leaves.
#include "loader/line_limit.h"
#include "loader/monitor.h"

#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

namespace ptrig {
namespace {

EventView event(std::uint32_t number) {
	EventView view;
	view.time = 1700000000.5;
	view.event = "refused";
	view.rule = "irc-ident";
	view.reason = "held";
	view.host = Ip4{number};
	view.remote = *parse_ip4("203.0.113.10");
	view.old_host = *parse_ip4("192.168.77.11");
	view.mac = *parse_mac("02:00:00:00:00:12");
	view.count = 3;
	view.log = false;
	return view;
}

bool readable(int fd, int timeout_ms = 5000) {
	pollfd one{.fd = fd, .events = POLLIN};
	return poll(&one, 1, timeout_ms) == 1;
}

class Monitor : public testing::Test {
protected:
	Monitor() {
		std::string pattern = testing::TempDir() + "ptrig-monitor-XXXXXX";
		dir_ = mkdtemp(pattern.data());
		path_ = dir_ + "/run/monitor";
		auto server = MonitorServer::listen(path_);
		EXPECT_TRUE(server) << server.error().what;
		server_.emplace(std::move(*server));
	}
	~Monitor() override { std::filesystem::remove_all(dir_); }

	MonitorClient join() {
		auto client = MonitorClient::connect(path_);
		EXPECT_TRUE(client) << client.error().what;
		EXPECT_TRUE(readable(server_->fd()));
		server_->serve();
		return std::move(*client);
	}
	static EventView next(MonitorClient &client) {
		EXPECT_TRUE(readable(client.fd()));
		const auto got = client.next();
		EXPECT_TRUE(got && *got);
		return got && *got ? **got : EventView{};
	}

	std::string dir_, path_;
	std::optional<MonitorServer> server_;
};

TEST_F(Monitor, EveryClientGetsEveryEvent) {
	MonitorClient first = join(), second = join();
	server_->publish(event(1));
	server_->publish(event(2));
	for (MonitorClient *client : {&first, &second}) {
		const EventView got = next(*client);
		EXPECT_EQ(encode_event(got), encode_event(event(1)));
		EXPECT_EQ(got.host, event(1).host);
		EXPECT_EQ(got.mac, event(1).mac);
		EXPECT_EQ(got.count, 3U);
		EXPECT_FALSE(got.log);
		EXPECT_EQ(next(*client).host, Ip4{2});
	}
}

TEST_F(Monitor, ASlowClientLosesAndIsToldHowMany) {
	MonitorClient slow = join(), quick = join();
	constexpr std::uint32_t kEvents = 20000;
	for (std::uint32_t i = 0; i < kEvents; ++i) {
		server_->publish(event(i));
		ASSERT_EQ(next(quick).host, Ip4{i}) << "a slow neighbour costs nothing";
	}
	std::uint32_t seen = 0;
	while (readable(slow.fd(), 0)) {
		const EventView got = next(slow);
		ASSERT_EQ(got.event, "refused");
		ASSERT_EQ(got.host, Ip4{seen++});
	}
	ASSERT_LT(seen, kEvents);
	ASSERT_TRUE(readable(server_->fd())) << "there is room again, and something to tell";
	server_->serve();
	const EventView lost = next(slow);
	EXPECT_EQ(lost.event, "lost");
	EXPECT_EQ(lost.count, kEvents - seen);
	server_->publish(event(kEvents));
	EXPECT_EQ(next(slow).host, Ip4{kEvents});
	EXPECT_FALSE(readable(server_->fd(), 0)) << "nothing left to do: the daemon sleeps";
}

TEST_F(Monitor, NewsOfALossThatDoesNotArriveCountsForAllThatWasLost) {
	MonitorClient slow = join();
	EventView lost = event(0);
	lost.event = "lost";
	std::uint32_t made = 0;
	for (std::uint32_t i = 0; i < 20000; ++i) {
		const bool is_lost = i % 2 == 1;
		lost.count = i;
		server_->publish(is_lost ? lost : event(i));
		made += is_lost ? i : 1;
	}
	std::uint32_t told = 0, last = 0;
	const auto read_all = [&] {
		while (readable(slow.fd(), 0)) {
			const EventView got = next(slow);
			last = got.event == "lost" ? got.count : 1;
			told += last;
		}
	};
	read_all();
	ASSERT_LT(told, made);
	ASSERT_TRUE(readable(server_->fd()));
	server_->serve();
	read_all();
	EXPECT_EQ(told, made);
	EXPECT_GT(last, 20000U) << "the rest in one piece";
	EXPECT_FALSE(readable(server_->fd(), 0));
}

TEST_F(Monitor, AClientThatLeavesIsForgotten) {
	{ const MonitorClient gone = join(); }
	MonitorClient stays = join();
	while (readable(server_->fd(), 0))
		server_->serve();
	EXPECT_EQ(server_->clients(), 1U);
	server_->publish(event(1));
	EXPECT_EQ(next(stays).host, Ip4{1});
}

TEST_F(Monitor, TheEndOfTheDaemonIsSeen) {
	MonitorClient client = join();
	server_.reset();
	ASSERT_TRUE(readable(client.fd()));
	const auto got = client.next();
	ASSERT_TRUE(got);
	EXPECT_FALSE(*got);
	EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(Monitor, OnlyTheOwnerMayComeIn) {
	struct stat status {};
	ASSERT_EQ(stat(path_.c_str(), &status), 0);
	EXPECT_EQ(status.st_mode & 0777U, 0600U);
	ASSERT_EQ(stat((dir_ + "/run").c_str(), &status), 0);
	EXPECT_EQ(status.st_mode & 0777U, 0700U);
}

TEST_F(Monitor, ASecondDaemonIsRefusedAndADeadOneReplaced) {
	EXPECT_FALSE(MonitorServer::listen(path_));
	EXPECT_NO_FATAL_FAILURE(join()) << "the first is still there";
	server_.reset();
	const int stale = mknod(path_.c_str(), S_IFSOCK | 0600, 0);
	ASSERT_EQ(stale, 0);
	EXPECT_TRUE(MonitorServer::listen(path_));
}

TEST_F(Monitor, WithoutADaemonItIsSaid) {
	const auto client = MonitorClient::connect(dir_ + "/nobody");
	ASSERT_FALSE(client);
	EXPECT_EQ(client.error().status, Status::kSystem);
	EXPECT_NE(client.error().what.find("no daemon"), std::string::npos);
}

TEST(MonitorPath, IsOfThePinsAndNeverTooLong) {
	EXPECT_NE(monitor_path("/sys/fs/bpf/ptrig"), monitor_path("/sys/fs/bpf/other"));
	const std::string deep(300, 'x');
	EXPECT_LT(monitor_path("/sys/fs/bpf/" + deep).size(), 108U);
	EXPECT_NE(monitor_path("/sys/fs/bpf/" + deep), monitor_path("/sys/fs/bpf/" + deep + "y"));
}

TEST(EventText, IsALineForPeople) {
	EventView view = event(0xC0A84D0C);
	EXPECT_EQ(describe(view),
		  "irc-ident: refused 192.168.77.12, which sent to 203.0.113.10: another host holds the "
		  "lease (192.168.77.11) (and 3 refusals before)");
	view.event = "takeover";
	EXPECT_EQ(describe(view),
		  "irc-ident: lease of 192.168.77.11 taken over by 192.168.77.12, which sent to 203.0.113.10 (and 3 "
		  "changes of its leases before)");
	view.count = 0;
	view.event = "ended";
	view.reason = "expired";
	EXPECT_EQ(describe(view), "irc-ident: lease of 192.168.77.12 ended: idle for the rule's timeout");
	view.event = "takeover";
	EXPECT_EQ(describe(view),
		  "irc-ident: lease of 192.168.77.11 taken over by 192.168.77.12, which sent to 203.0.113.10");
	view.event = "moved";
	EXPECT_EQ(describe(view), "irc-ident: lease of 192.168.77.11 moved along to 192.168.77.12");
	view.event = "granted";
	EXPECT_EQ(describe(view), "irc-ident: lease granted to 192.168.77.12, which sent to 203.0.113.10");
	view.count = 3;
	view.event = "lost";
	EXPECT_EQ(describe(view), "3 events lost");
	EXPECT_EQ(describe({.event = "config"}), "the configuration was replaced");
}

TEST(EventText, WhatIsNoEventIsAnError) {
	EXPECT_FALSE(decode_event("nonsense"));
	EXPECT_FALSE(decode_event("[1]"));
	EXPECT_FALSE(decode_event(R"({"event":7})"));
}

TEST(LineLimit, LeavesOutAndCounts) {
	LineLimit limit(2);
	EXPECT_TRUE(limit.take(10, "a")) << "its first line";
	EXPECT_TRUE(limit.take(10, "a"));
	EXPECT_TRUE(limit.take(10, "a"));
	EXPECT_FALSE(limit.take(10, "a"));
	EXPECT_FALSE(limit.take(10, "a"));
	EXPECT_EQ(limit.left_out(10), 0U) << "told when the second is over";
	EXPECT_EQ(limit.left_out(11), 2U);
	EXPECT_EQ(limit.left_out(11), 0U) << "and once";
	EXPECT_TRUE(limit.take(11, "a"));
}

TEST(LineLimit, AFloodOfOneRuleHidesNoOther) {
	LineLimit limit(2);
	for (int i = 0; i < 1000; i++)
		limit.take(10, "flood");
	EXPECT_TRUE(limit.take(10, "phone"));
	EXPECT_FALSE(limit.take(10, "phone")) << "the second one is as good as any";
	EXPECT_TRUE(limit.take(11, "phone"));
}

TEST(LineLimit, ManyRulesAreNoWayRoundIt) {
	LineLimit limit(2);
	unsigned written = 0;
	for (int i = 0; i < 4096; i++)
		written += limit.take(10, std::to_string(i));
	EXPECT_EQ(written, LineLimit::kFirstLines + 2);
	EXPECT_EQ(limit.left_out(11), 4096 - written);
}

} // namespace
} // namespace ptrig
