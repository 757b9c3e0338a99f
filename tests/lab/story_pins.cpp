// The pins: root's alone, or they are not used; those of another version are not misread, whichever of the two is
// newer.
#include "tests/lab/lab.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "include/ptrig/abi.h"
#include "loader/map.h"

namespace lab {

class Pins : public Lab {
protected:
	/// A command that must fail in one line, which has these words.
	void expect_refused(const Words &words, const std::string &why);
	static std::uint32_t entries(const std::string &map);
	/// `ptrig run` as ptrig.service has it: three capabilities, and /sys/fs/bpf read-only but for the pins.
	Process &run_confined();
};
LAB_STORIES(Pins);

void Pins::expect_refused(const Words &words, const std::string &why) {
	const Output output = ptrig(words);
	EXPECT_EQ(output.status, 1) << words.front() << ": " << output.out << output.err;
	EXPECT_NE(output.err.find(why), std::string::npos) << words.front() << ": " << output.err;
	EXPECT_EQ(std::count(output.err.begin(), output.err.end(), '\n'), 1) << words.front() << ": " << output.err;
}

std::uint32_t Pins::entries(const std::string &map) {
	bpf_map_info info{};
	std::uint32_t size = sizeof(info);
	const auto fd = ptrig::open_pin(kPins + "/" + map, ptrig::Access::kRead);
	return fd && bpf_obj_get_info_by_fd(fd->get(), &info, &size) == 0 ? info.max_entries : 0;
}

TEST_P(Pins, AreRootsAlone) {
	up(game());
	for (const auto &entry : std::filesystem::recursive_directory_iterator(kPins)) {
		struct stat st {};
		ASSERT_EQ(lstat(entry.path().c_str(), &st), 0) << entry.path();
		EXPECT_EQ(st.st_mode & 07777U, S_ISDIR(st.st_mode) ? 0700U : 0600U) << entry.path();
		EXPECT_EQ(st.st_uid, 0U) << entry.path();
	}
	struct stat st {};
	ASSERT_EQ(lstat(kPins.c_str(), &st), 0);
	EXPECT_EQ(st.st_mode & 07777U, 0700U);
}

TEST_P(Pins, OfOthersAreRefused) {
	up(game());
	const std::string leases = kPins + "/pt_leases", aside = "/sys/fs/bpf/aside";
	for (const std::string &path : {kPins, kPins + "/pt_state", leases, kPins + "/prog/pt_admin"}) {
		for (const Words &words : {Words{"status"}, {"up"}, {"apply"}, {"lease", "list"}}) {
			ASSERT_EQ(chmod(path.c_str(), 0666), 0);
			expect_refused(words, path + " is open to others than root");
			ASSERT_EQ(chmod(path.c_str(), path == kPins ? 0700 : 0600), 0);
			ASSERT_EQ(chown(path.c_str(), 65534, 0), 0);
			expect_refused(words, path + " is not owned by root");
			ASSERT_EQ(chown(path.c_str(), 0, 0), 0);
		}
	}
	for (const std::string &path : {kPins, leases}) {
		std::filesystem::rename(path, aside);
		ASSERT_EQ(symlink(aside.c_str(), path.c_str()), 0);
		expect_refused({"status"}, path + " is a symlink");
		expect_refused({"up"}, path + " is a symlink");
		std::filesystem::remove(path);
		std::filesystem::rename(aside, path);
	}
	EXPECT_EQ(ptrig({"status"}).status, 0) << "as it was before";
	ASSERT_EQ(chmod(leases.c_str(), 0666), 0);
	EXPECT_EQ(ptrig({"down"}).status, 0) << "the way out";
	EXPECT_FALSE(std::filesystem::exists(kPins));
}

Process &Pins::run_confined() {
	const std::string mounts = "mount --bind " + kPins + " " + kPins + " && mount -o remount,bind,ro /sys/fs/bpf";
	return background(gw(), {"unshare", "--mount", "sh", "-c",
				 mounts + " && exec setpriv --bounding-set=-all,+bpf,+net_admin,+perfmon "
					  "--inh-caps=-all " PTRIG_BIN " run"});
}

/// For `tc` the pins are of an older version, as after an upgrade; for `xdp` of a newer one, as after the way back.
TEST_P(Pins, OfAnotherVersionAreStartedAfresh) {
	up(game());
	trigger(lan1());
	const std::uint32_t other = xdp() ? PTRIG_ABI + 1 : PTRIG_ABI - 1;
	set_abi(other);
	const std::string abis = "ABI " + std::to_string(other) + ", this one has " + std::to_string(PTRIG_ABI);
	for (const Words &words : {Words{"status"}, {"apply"}, {"lease", "list"}, {"export"}})
		expect_refused(words, "was started by another version (" + abis +
					      "): `ptrig up` or `systemctl restart ptrig` starts it afresh");
	const Output short_of_files = run(gw(), {"prlimit", "--nofile=20", PTRIG_BIN, "up"});
	EXPECT_EQ(short_of_files.status, 1);
	EXPECT_NE(short_of_files.err.find("cannot be taken over (" + abis + ") and goes on as it is: "),
		  std::string::npos)
		<< short_of_files.err;
	EXPECT_EQ(who_gets_udp(6000), "lan1") << "what is up goes on meanwhile";
	const Output up = ptrig({"up"});
	EXPECT_EQ(up.status, 0) << up.err;
	EXPECT_NE(up.err.find("the gateway that was up cannot be taken over (" + abis +
			      "): started afresh, its leases and sessions are lost\n"),
		  std::string::npos)
		<< up.err;
	EXPECT_EQ(leases(), Json::array());
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	trigger(lan1());
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

/// It cannot begin anew, so it changes nothing; the unit's privileged step before it does.
TEST_P(Pins, OfAnotherVersionUnderTheUnit) {
	up(game("timeout = '60s'"));
	trigger(lan1());
	const Fd remote = start_talk(lan1());
	const std::uint32_t other = xdp() ? PTRIG_ABI + 1 : PTRIG_ABI - 1;
	set_abi(other);
	const std::string abis = "(ABI " + std::to_string(other) + ", this one has " + std::to_string(PTRIG_ABI) + ")";
	const auto end = run_confined().wait(30s);
	ASSERT_TRUE(end);
	EXPECT_EQ(end->status, 1);
	EXPECT_EQ(end->err, "ptrig: run: the gateway at " + kPins + " cannot be taken over " + abis +
				    " and goes on as it is: remove " + kPins +
				    ": Read-only file system (`systemctl restart ptrig-datapath` starts it afresh)\n");
	EXPECT_TRUE(talk(remote, udp_on(lan1(), 6000)));
	EXPECT_EQ(who_gets_udp(6001), "lan1");

	EXPECT_EQ(ptrig({"up", "--if-needed", "-c", "/nonexistent.toml"}).status, 2);
	EXPECT_EQ(who_gets_udp(6002), "lan1") << "a wrong file closed it";
	const Output before = ptrig({"up", "--if-needed"});
	EXPECT_EQ(before.status, 0);
	EXPECT_EQ(before.err.find("the gateway that was up cannot be taken over " + abis +
				  ": started afresh, its leases and sessions are lost\n"),
		  0U)
		<< before.err;
	Process &daemon = run_confined();
	EXPECT_TRUE(eventually(30s, [&] { return daemon.err().find("ready") != std::string::npos; })) << daemon.err();
	EXPECT_EQ(who_gets_udp(6000), "gateway");
	trigger(lan1());
	const Output again = ptrig({"up", "--if-needed", "-c", "/nonexistent.toml"});
	EXPECT_EQ(again.status, 0);
	EXPECT_EQ(again.err, "") << "it is not needed";
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

/// Other settings are no other version: the sizes that the gateway has are those it keeps.
TEST_P(Pins, KeepTheSizesThatTheyWereMadeWith) {
	start_afresh();
	up(game(), "max_leases = 64\nmax_sessions = 128\nmax_rules = 32\nmax_halfopen = 64\nmax_port_lists = 16\n");
	trigger(lan1());
	write(kConfig, config(game()));
	const Output up = ptrig({"up"});
	EXPECT_EQ(up.status, 0) << up.err;
	EXPECT_EQ(up.err.find("afresh"), std::string::npos) << up.err;
	EXPECT_EQ(entries("pt_leases"), 64U);
	EXPECT_EQ(who_gets_udp(6000), "lan1");
}

TEST_P(Pins, DownLeavesNoEntryBehind) {
	up(game());
	trigger(lan1());
	const Fd talk = start_talk(lan1());
	const auto [remote, host] = connect_in(6001, lan1());
	const Fd unanswered = udp_socket(wan(), {kRemote2, 0});
	udp_send(unanswered, {kWan, 6005}, "nobody listens");
	const std::string of_host = "src=" + host1() + " dst=" + kRemote1;
	const auto entries = [&] { return must(gw(), {"conntrack", "-L", "--dst-nat"}); };
	EXPECT_TRUE(eventually(5s, [&] { return entries().find("dport=6001") != std::string::npos; })) << entries();
	const std::string users = must(gw(), {"conntrack", "-L", "--src-nat"});
	EXPECT_NE(users.find(of_host), std::string::npos) << "the trigger's own flow: " << users;
	EXPECT_EQ(ptrig({"down"}).status, 0);
	EXPECT_EQ(entries().find("dst=" + kWan), std::string::npos) << entries();
	EXPECT_NE(must(gw(), {"conntrack", "-L", "--src-nat"}).find(of_host), std::string::npos)
		<< "the user's own flows stay";
}

} // namespace lab
