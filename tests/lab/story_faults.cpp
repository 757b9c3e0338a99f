// What goes wrong with a gateway's own state: pins removed by hand, a bpffs that is read-only or hidden, full tables.
#include "tests/lab/lab.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/mount.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <system_error>
#include <utility>

namespace lab {

class Faults : public Lab {
protected:
	/// What the kernel has set aside for the maps, in bytes.
	std::uint64_t map_memory() const;
	std::pair<int, int> used_of(const char *table) const {
		const Json limit = json({"status"}).at("limits").at(table);
		return {limit.at("used"), limit.at("max")};
	}
};
LAB_STORIES(Faults);

namespace {

/// A mount, in the stories' own mount namespace alone, and its end.
class Mounted {
public:
	Mounted(const char *type, const char *where, unsigned long flags, std::function<void()> undo)
	    : undo_(std::move(undo)) {
		if (mount(type, where, type, flags, "mode=700") < 0)
			throw std::system_error(errno, std::generic_category(), std::string("mount ") + where);
	}
	Mounted(const Mounted &) = delete;
	Mounted &operator=(const Mounted &) = delete;
	~Mounted() { end(); }
	void end() {
		if (auto undo = std::exchange(undo_, nullptr))
			undo();
	}

private:
	std::function<void()> undo_;
};

constexpr const char *kBpffs = "/sys/fs/bpf";

} // namespace

/// The daemon says so and ends, which systemd notices; nothing is left open, and `up` starts anew.
TEST_P(Faults, PinsRemovedByHand) {
	Process &daemon = run_daemon(game());
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
	std::filesystem::remove_all(kPins);
	const auto end = daemon.wait(30s);
	ASSERT_TRUE(end) << daemon.err();
	EXPECT_EQ(end->status, 1);
	EXPECT_NE(end->err.find("the gateway at " + kPins + " is gone: its pins have been removed"), std::string::npos)
		<< end->err;
	EXPECT_EQ(ptrig({"status"}).status, 3);
	const Output again = ptrig({"up"});
	EXPECT_EQ(again.status, 0) << again.err;
	EXPECT_EQ(who_gets_udp(6000), "gateway") << "the lease went with the maps";
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

/// A gateway that another process has started afresh is no longer this daemon's.
TEST_P(Faults, AnotherGatewayInTheSamePlace) {
	Process &daemon = run_daemon(game());
	std::filesystem::remove_all(kPins);
	EXPECT_EQ(ptrig({"up"}).status, 0);
	const auto end = daemon.wait(30s);
	ASSERT_TRUE(end) << daemon.err();
	EXPECT_EQ(end->status, 1);
	EXPECT_NE(end->err.find("the gateway at " + kPins + " is gone"), std::string::npos) << end->err;
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

/// It keeps serving; what would write says why it cannot, and has changed nothing.
TEST_P(Faults, ReadOnlyBpffs) {
	Process &daemon = run_daemon(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	Mounted read_only("bpf", kBpffs, MS_REMOUNT | MS_RDONLY,
			  [] { mount("bpf", kBpffs, "bpf", MS_REMOUNT, "mode=700"); });
	write(kConfig, config(game() + rule("second", "4001/udp", "6100/udp")));
	for (const Words &words : {Words{"apply"}, {"up"}, {"lease", "close", "game"}, {"rule", "remove", "game"}}) {
		const Output output = ptrig(words);
		EXPECT_EQ(output.status, 1) << words.front();
		EXPECT_NE(output.err.find("Read-only file system"), std::string::npos) << output.err;
	}
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
	EXPECT_EQ(who_gets_udp(6001), "lan1");
	trigger(lan1());
	read_only.end();
	EXPECT_EQ(rule_row("game").at("granted"), 1);
	EXPECT_EQ(json({"rule", "list"}).size(), 1U);
	EXPECT_EQ(ptrig({"apply"}).status, 0);
	trigger(lan2(), {kRemote1, 4001});
	EXPECT_EQ(who_gets_udp(6100), "lan2");
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid()) << daemon.err();
}

/// Something is mounted over the bpffs: the daemon ends, as there is no gateway any more that it could see; packets go
/// on.
TEST_P(Faults, HiddenBpffs) {
	Process &daemon = run_daemon(game());
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	Mounted hidden("tmpfs", kBpffs, 0, [] { umount2(kBpffs, MNT_DETACH); });
	const auto end = daemon.wait(30s);
	ASSERT_TRUE(end) << daemon.err();
	EXPECT_EQ(end->status, 1);
	EXPECT_NE(end->err.find("the gateway at " + kPins + " is gone"), std::string::npos) << end->err;
	const Output up = ptrig({"up"});
	EXPECT_EQ(up.status, 1);
	EXPECT_NE(up.err.find("bpffs"), std::string::npos) << up.err;
	EXPECT_EQ(ptrig({"status"}).status, 3);
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
	EXPECT_EQ(who_gets_udp(6001), "lan1");
	hidden.end();
	EXPECT_EQ(leases("game").size(), 1U);
	run_daemon();
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
}

std::uint64_t Faults::map_memory() const {
	std::uint64_t sum = 0;
	for (const auto &pin : std::filesystem::directory_iterator(kPins)) {
		if (!pin.path().filename().string().starts_with("pt_"))
			continue;
		struct bpf_obj_get_opts opts {
			.sz = sizeof(opts), .file_flags = BPF_F_RDONLY
		};
		const Fd map(bpf_obj_get_opts(pin.path().c_str(), &opts));
		std::ifstream info("/proc/self/fdinfo/" + std::to_string(map.get()));
		std::uint64_t bytes = 0;
		for (std::string word; info >> word;)
			if (word == "memlock:" && info >> bytes)
				sum += bytes;
		EXPECT_GE(map.get(), 0) << pin.path();
	}
	return sum;
}

/// Each refuses and counts; what is in it goes on, and none of them grows.
TEST_P(Faults, EveryTableFullAtOnce) {
	const Process &daemon = run_daemon(game("remotes = 'contacted'") + rule("second", "4001/udp", "6100/udp"),
					   "max_leases = 3\nmax_sessions = 4\nmax_halfopen = 4\n");
	const std::uint64_t memory = map_memory();
	ASSERT_GT(memory, 0U);
	for (const std::string &remote : {kRemote1, kRemote2, kRemote3})
		trigger(lan1(), {remote, 4000});
	trigger(lan2(), {kRemote1, 4001});
	EXPECT_EQ(used_of("leases"), std::pair(3, 3));
	EXPECT_EQ(refused("second", "leases_full"), 1U);
	std::vector<Fd> talkers;
	talkers.reserve(4);
	for (int i = 0; i < 4; i++)
		talkers.push_back(start_talk(lan1()));
	EXPECT_EQ(used_of("sessions"), std::pair(4, 4));
	const Fd fifth = udp_socket(wan(), {kRemote2, 0});
	talk(fifth, udp_on(lan1(), 6000), {kWan, 6000}, 200ms); // what the kernel makes of the answer is its own affair
	EXPECT_GT(counter("sessions_full"), 0U);
	std::uint16_t port = 6001; // one host gets half of that table
	while (port < 6010 && who_gets_udp(port) == "lan1")
		port++;
	EXPECT_EQ(port - 6001, 2);
	EXPECT_EQ(used_of("halfopen"), std::pair(2, 4));
	EXPECT_GT(counter("halfopen_full"), 0U);
	for (const Fd &talker : talkers)
		EXPECT_TRUE(talk(talker, udp_on(lan1(), 6000)));
	for (const std::string &remote : {kRemote1, kRemote2, kRemote3})
		trigger(lan1(), {remote, 4000});
	EXPECT_EQ(rule_row("game").at("granted"), 3) << "a lease was evicted";
	EXPECT_EQ(map_memory(), memory);
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid()) << daemon.err();
}

} // namespace lab
