// A story that counts, of lines: whoever is refused again and again cannot fill the log, and nothing is lost from the
// count.
#include <poll.h>

#include <algorithm>
#include <regex>
#include <sstream>

#include "tests/lab/frames.h"
#include "tests/lab/soak.h"

namespace lab {

TEST_P(Soak, RefusedTriggersAndTheLog) {
	const unsigned shots = count(20000, 1000000);
	Process &daemon = run_daemon(game("timeout = '10m'\ntrigger = ['4000-4001/udp']"));
	trigger(lan1());
	trigger(lan2()); // the next are refused for the same reason
	EXPECT_TRUE(eventually(15s, [&] { return refused("game", "held") == 1; }));
	const auto start = Clock::now();
	FrameSender sender(lan2(), "eth0", to_mac(xdp() ? "02:00:00:00:78:01" : "02:00:00:00:77:01"));
	const MacBytes own = to_mac(mac_of(lan2()));
	unsigned sent = 0, dropped = 0;
	while (sent < shots) {
		for (unsigned i = 0; i < 500 && sent < shots; i++, sent++)
			sender.add(own, {to_number(host2()), to_number(kRemote1), 5000, 4001});
		dropped += sender.send();
	}
	std::uint64_t counted = 0;
	EXPECT_TRUE(eventually(30s, [&] { return std::exchange(counted, refused("game", "held")) == counted; }));
	EXPECT_GE(counted + dropped + device_drops(), shots);
	EXPECT_GE(counted, shots / 2);
	poll(nullptr, 0, 1100); // the next refusal is in another second and says how many there were before
	trigger(lan2());
	counted = refused("game", "held");
	std::uint64_t told = 0;
	std::size_t lines = 0;
	const auto all_told = [&] {
		told = lines = 0;
		std::istringstream text(daemon.err());
		static const std::regex refusal(R"(: refused .*?(?:\(and (\d+) refusals before\))?$)");
		for (std::string line; std::getline(text, line);)
			if (std::smatch found; std::regex_search(line, found, refusal)) {
				lines++;
				told += 1 + (found[1].matched ? std::stoull(found[1]) : 0);
			}
		return told == counted;
	};
	EXPECT_TRUE(eventually(15s, all_told)) << told << " told of " << counted << "\n" << daemon.err();
	const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - start).count();
	EXPECT_LE(lines, static_cast<std::size_t>(seconds) + 3) << "a line a second\n" << daemon.err();
	report(std::to_string(counted) + " refused triggers, " + std::to_string(lines) + " lines of the log in " +
	       std::to_string(seconds) + " s, which tell of " + std::to_string(told));
}

} // namespace lab
