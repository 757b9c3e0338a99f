// Real programs that hand over files: TFTP (tftp-hpa), BitTorrent (aria2, opentracker) and IRC's DCC SEND (weechat,
// ngircd).
#include "tests/lab/programs.h"

#include <sys/stat.h>

#include <filesystem>

namespace lab {

class ProgramsTransfer : public Programs {
protected:
	/// A weechat that is connected to the server as `nick` and then does `command`.
	Process chat(const NetNs &where, const std::string &nick, const std::string &command = "") const;
};
LAB_STORIES(ProgramsTransfer);

// The server answers from a port that nobody has written to.
TEST_P(ProgramsTransfer, Tftp) {
	start_afresh();
	make_file(kDir + "/tftp/blob", 1 << 20);
	write(kDir + "/tftp/upload", "");
	chmod((kDir + "/tftp/upload").c_str(), 0666);
	background(wan(), {"in.tftpd", "-L", "-s", "-u", "nobody", "-a", kRemote1 + ":69", kDir + "/tftp"});
	await_socket(wan(), "udp", 69);
	const std::string here = kDir + "/blob", there = kDir + "/tftp/upload", sent = kDir + "/tftp/blob";
	const auto transfer = [&](const std::string &command, const std::string &timeout = "30") {
		return run(lan1(), {"tftp", "-4", "-R", "50000:50009", kRemote1},
			   "mode binary\nrexmt 1\ntimeout " + timeout + "\n" + command + "\nquit\n", 60s);
	};
	EXPECT_NE(transfer("get blob " + here, "3").out.find("Transfer timed out"), std::string::npos);
	EXPECT_FALSE(same(here, sent)) << "the control works without ptrig";
	up(rule("tftp", "69/udp", "50000-50009/udp"));
	transfer("get blob " + here);
	EXPECT_TRUE(same(here, sent));
	transfer("put " + sent + " upload");
	EXPECT_TRUE(same(sent, there));
	EXPECT_EQ(leases("tftp").at(0).at("host"), host1());
}

// The other peer is behind a firewall of its own: one of the two must be reached from outside.
TEST_P(ProgramsTransfer, BitTorrentPeer) {
	start_afresh();
	const std::string seed = kDir + "/seed/blob", leech = kDir + "/leech/blob", torrent = kDir + "/blob.torrent";
	make_file(seed, 8 << 20);
	must(wan(), {"mktorrent", "-a", "http://" + kRemote1 + ":6969/announce", "-o", torrent, seed});
	const std::string shown = must(wan(), {"aria2c", "-S", torrent}), before_hash = "Info Hash: ";
	write(kDir + "/whitelist", shown.substr(shown.find(before_hash) + before_hash.size(), 40) + "\n");
	background(wan(), {"opentracker", "-i", kRemote1, "-p", "6969", "-P", "6969", "-d", kDir, "-w", "whitelist",
			   "-u", "nobody"});
	await_tcp(wan(), {kRemote1, 6969});
	const auto client = [&](const Words &more) {
		Words words{"aria2c",
			    "--no-conf",
			    "--enable-dht=false",
			    "--bt-enable-lpd=false",
			    "--enable-peer-exchange=false",
			    "--summary-interval=0",
			    "--file-allocation=none",
			    "--bt-tracker-interval=1",
			    torrent};
		words.insert(words.end(), more.begin(), more.end());
		return words;
	};
	const Words seeding = client({"--listen-port=6881", "--seed-ratio=0", "-V", "--dir", kDir + "/seed"});
	const Words leeching = client({"--listen-port=7000", "--seed-time=0", "--dir", kDir + "/leech"});
	tally(wan(), "refused", "in", "ip saddr 203.0.113.2 tcp sport 6881 tcp flags & rst == rst");
	tally(wan(), "firewalled", "in", "tcp dport 7000", "drop");
	{
		const Process seeder(lan1(), seeding), leecher(wan(), leeching);
		EXPECT_TRUE(eventually(30s, [&] { return tallied(wan(), "refused") > 0; })) << leecher.out();
		EXPECT_FALSE(same(leech, seed)) << "the control works without ptrig";
	}
	std::filesystem::remove_all(kDir + "/leech");
	up(rule("torrent", "6969/tcp", "6881-6889/tcp"));
	const Process seeder(lan1(), seeding);
	Process leecher(wan(), leeching);
	const auto ended = leecher.wait(60s);
	EXPECT_TRUE(ended && ended->status == 0) << leecher.out();
	EXPECT_TRUE(same(leech, seed));
	EXPECT_EQ(leases("torrent").at(0).at("host"), host1());
}

Process ProgramsTransfer::chat(const NetNs &where, const std::string &nick, const std::string &command) const {
	return Process(where, {"weechat-headless", "--stdout", "-d", kDir + "/" + nick, "-r",
			       "/set logger.file.flush_delay 0;/set xfer.file.auto_accept_files on;"
			       "/set xfer.file.download_path " +
				       kDir + "/" + nick + ";/set xfer.network.own_ip " + kWan +
				       ";/set xfer.network.port_range 5000-5009;"
				       "/server add lab " +
				       kRemote1 + "/6667 -notls;/set irc.server.lab.nicks " + nick +
				       ";/set irc.server.lab.command \"" + command + "\";/connect lab"});
}

TEST_P(ProgramsTransfer, DccSend) {
	start_afresh();
	make_file(kDir + "/blob", 8 << 20);
	write(kDir + "/ngircd.conf", "[Global]\nName = irc.lab\nInfo = lab\nListen = " + kRemote1 +
					     "\n[Options]\nIdent = no\nDNS = no\nPAM = no\n");
	background(wan(), {"ngircd", "-n", "-f", kDir + "/ngircd.conf"});
	await_tcp(wan(), {kRemote1, 6667});
	const auto log_of = [&](const std::string &nick, const std::string &buffer) {
		return run(wan(), {"cat", kDir + "/" + nick + "/logs/" + buffer + ".weechatlog"}).out;
	};
	const auto says = [&](const std::string &nick, const std::string &buffer, const std::string &text) {
		return eventually(30s, [&] { return log_of(nick, buffer).find(text) != std::string::npos; });
	};
	const Process bob = chat(wan(), "bob");
	ASSERT_TRUE(says("bob", "irc.server.lab", "Welcome to the Internet Relay Network")) << bob.out();
	{
		const Process alice = chat(lan1(), "alice", "/dcc send bob " + kDir + "/blob");
		EXPECT_TRUE(says("bob", "core.weechat", "file blob received from alice (203.0.113.2): FAILED"))
			<< log_of("bob", "core.weechat");
		EXPECT_FALSE(same(kDir + "/blob", kDir + "/bob/alice.blob")) << "the control works without ptrig";
	}
	up(rule("irc-dcc", "6660-6669/tcp", "5000-5009/tcp"));
	const Process carol = chat(lan1(), "carol", "/dcc send bob " + kDir + "/blob");
	EXPECT_TRUE(says("bob", "core.weechat", "file blob received from carol (203.0.113.2): OK"))
		<< log_of("bob", "core.weechat");
	EXPECT_TRUE(says("carol", "core.weechat", "file blob sent to bob (203.0.113.10): OK"))
		<< log_of("carol", "core.weechat");
	EXPECT_TRUE(same(kDir + "/blob", kDir + "/bob/carol.blob"));
	EXPECT_EQ(leases("irc-dcc").at(0).at("host"), host1());
}

} // namespace lab
