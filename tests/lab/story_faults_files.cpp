// A daemon that may open no file any more: it goes on with what it has, and takes up the rest when it may again.
#include "tests/lab/lab.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace lab {

namespace {

rlim_t open_files(pid_t pid) {
	const std::filesystem::directory_iterator files("/proc/" + std::to_string(pid) + "/fd");
	return static_cast<rlim_t>(std::distance(begin(files), end(files)));
}

/// Those that it keeps open: now and then it has another one for a moment.
rlim_t files_kept(pid_t pid) {
	rlim_t least = open_files(pid);
	for (int i = 0; i < 50; i++) {
		poll(nullptr, 0, 5);
		least = std::min(least, open_files(pid));
	}
	return least;
}

/// The lowest descriptor that is not in use: with that as its limit a process gets none.
rlim_t lowest_free(pid_t pid) {
	rlim_t number = 0;
	while (std::filesystem::is_symlink("/proc/" + std::to_string(pid) + "/fd/" + std::to_string(number)))
		number++;
	return number;
}

void allow_files(pid_t pid, rlim_t count) {
	const rlimit limit{count, 4096};
	if (prlimit(pid, RLIMIT_NOFILE, &limit, nullptr) < 0)
		throw std::runtime_error("limit the daemon's open files");
}

/// Of all its threads, in seconds.
double cpu_time(pid_t pid) {
	std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
	std::string text;
	std::getline(file, text);
	std::istringstream fields(text.substr(text.rfind(')') + 2));
	std::string skipped;
	for (int i = 0; i < 11; i++)
		fields >> skipped;
	double user = 0, system = 0;
	fields >> user >> system;
	return (user + system) / double(sysconf(_SC_CLK_TCK));
}

/// As `ptrig monitor` connects.
Fd connect_monitor() {
	Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	sockaddr_un at{.sun_family = AF_UNIX, .sun_path = "/run/ptrig/monitor"};
	if (connect(fd.get(), reinterpret_cast<const sockaddr *>(&at), sizeof(at)) < 0)
		throw std::runtime_error("connect to the daemon's monitors");
	return fd;
}

bool hears(const Fd &monitor, milliseconds deadline) {
	pollfd wanted{monitor.get(), POLLIN, 0};
	return poll(&wanted, 1, static_cast<int>(deadline.count())) > 0;
}

} // namespace

class FaultsFiles : public Lab {};
LAB_STORIES(FaultsFiles);

TEST_P(FaultsFiles, NoneIsLeft) {
	const Process &daemon = run_daemon(game("timeout = '60s'"));
	const rlim_t at_first = files_kept(daemon.pid());
	const Fd before = connect_monitor();
	ASSERT_TRUE(eventually(10s, [&] { return open_files(daemon.pid()) == at_first + 1; }));
	allow_files(daemon.pid(), lowest_free(daemon.pid()));
	std::vector<Fd> waiting;
	waiting.reserve(5);
	for (int i = 0; i < 5; i++)
		waiting.push_back(connect_monitor());
	ip(gw(), "addr del 203.0.113.2/24 dev wan0\naddr add 203.0.113.3/24 dev wan0\n"
		 "route replace default via 203.0.113.10\n");
	const double used = cpu_time(daemon.pid());
	poll(nullptr, 0, 1000); // long enough to tell a daemon that spins
	EXPECT_LT(cpu_time(daemon.pid()) - used, 0.2) << "it spins";
	EXPECT_EQ(open_files(daemon.pid()), at_first + 1) << daemon.err();
	trigger(lan1());
	EXPECT_TRUE(hears(before, patient(10s))) << "who was connected hears nothing";
	EXPECT_FALSE(hears(waiting[0], 0ms));

	allow_files(daemon.pid(), 1024);
	const Fd after = connect_monitor();
	EXPECT_TRUE(eventually(15s,
			       [&] {
				       trigger(lan1());
				       return leases("game").at(0).at("wan") == "203.0.113.3";
			       }))
		<< "the new address was forgotten: " << daemon.err();
	EXPECT_EQ(ptrig({"lease", "close", "game"}).status, 0);
	for (const Fd *monitor : std::initializer_list<const Fd *>{&waiting[0], &waiting[4], &after})
		EXPECT_TRUE(hears(*monitor, patient(10s)));
	waiting.clear();
	EXPECT_TRUE(eventually(10s, [&] { return open_files(daemon.pid()) == at_first + 2; })) << "files are left open";
	EXPECT_EQ(json({"status"}).at("daemon"), daemon.pid());
}

} // namespace lab
