// Real programs end to end: active FTP (lftp, vsftpd) and IRC ident (ngircd, oidentd). Each story begins with
// its control, the same without the rule, which must fail.
#include "tests/lab/lab.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>

namespace lab {

class Programs : public Lab {
protected:
	/// lftp fetches the server's file in active mode; true if it came, whole.
	bool fetch();
	void start_ftp_server();
	void start_irc();
	/// What the server says first: "... 001 NICK :Welcome ... NICK!USER@HOST".
	std::string welcome(const std::string &nick);

	static constexpr uid_t kAlice = 1077;
	const std::filesystem::path dir_ = "/run/lab";
};
LAB_STORIES(Programs);

void Programs::start_ftp_server() {
	std::filesystem::create_directories(dir_ / "ftp");
	std::filesystem::create_directories("/run/vsftpd/empty");
	std::ofstream blob(dir_ / "ftp/blob", std::ios::binary);
	std::mt19937_64 random(64);
	for (size_t i = 0; i < (64U << 20) / sizeof(std::uint64_t); i++) {
		const std::uint64_t word = random();
		blob.write(reinterpret_cast<const char *>(&word), sizeof(word));
	}
	blob.close();
	chmod((dir_ / "ftp").c_str(), 0555);
	chmod((dir_ / "ftp/blob").c_str(), 0444);
	write(dir_ / "vsftpd.conf", "listen=YES\nbackground=NO\nanonymous_enable=YES\nanon_root=/run/lab/ftp\n"
				    "no_anon_password=YES\nport_enable=YES\npasv_enable=NO\nconnect_from_port_20=YES\n"
				    "seccomp_sandbox=NO\nsecure_chroot_dir=/run/vsftpd/empty\n");
	background(wan(), {"vsftpd", dir_ / "vsftpd.conf"});
	ASSERT_TRUE(eventually(15s, [&] {
		return bool(tcp_connect(wan(), {kRemote1, 21}));
	})) << "vsftpd does not listen";
}

bool Programs::fetch() {
	std::filesystem::remove(dir_ / "blob");
	const Output lftp =
		run(lan1(),
		    {"lftp", "-e",
		     "set net:timeout 5; set net:max-retries 1; set ftp:passive-mode off; set ftp:port-ipv4 " + kWan +
			     "; set ftp:port-range 50000-50009; set ftp:ssl-allow no; get blob -o /run/lab/blob && ls; "
			     "quit",
		     "ftp://" + kRemote1},
		    "", 60s);
	if (lftp.status != 0 || lftp.out.find("blob") == std::string::npos)
		return false;
	return must(lan1(), {"sha256sum", dir_ / "blob"}).substr(0, 64) ==
	       must(lan1(), {"sha256sum", dir_ / "ftp/blob"}).substr(0, 64);
}

TEST_P(Programs, ActiveFtp) {
	start_afresh();
	ASSERT_NO_FATAL_FAILURE(start_ftp_server());
	EXPECT_FALSE(fetch()) << "the control works without ptrig";
	up(rule("ftp-active", "21/tcp", "50000-50009/tcp"));
	EXPECT_TRUE(fetch());
	EXPECT_EQ(leases("ftp-active").at(0).at("host"), host1());
	if (xdp()) {
		if (!tells_xdp_features())
			GTEST_SKIP() << "whole; by XDP only with a kernel that tells XDP features (6.3)";
		EXPECT_GT(redirected("wan0"), 1000U) << "64 MiB did not take the fast path";
	}
}

void Programs::start_irc() {
	std::filesystem::create_directories(dir_);
	write("/etc/hosts", "127.0.0.1 localhost\n" + kWan + " gw\n" + kRemote1 + " irc.lab\n" + host1() + " lan1\n");
	write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n");
	write(dir_ / "ngircd.conf", "[Global]\nName = irc.lab\nInfo = lab\nListen = " + kRemote1 +
					    "\n[Options]\nIdent = yes\nDNS = yes\nPAM = no\n");
	std::ofstream("/etc/passwd", std::ios::app) << "alice:x:1077:1077::/run/lab:/bin/sh\n";
	background(wan(), {"ngircd", "-n", "-f", dir_ / "ngircd.conf"});
	background(lan1(), {"oidentd", "-i", "-S", "-d", "-u", "nobody", "-g", "nogroup"});
	ASSERT_TRUE(eventually(15s, [&] {
		return bool(tcp_connect(wan(), {kRemote1, 6667}));
	})) << "ngircd does not listen";
	ASSERT_TRUE(eventually(15s, [&] {
		return bool(tcp_connect(lan1(), {host1(), 113}));
	})) << "oidentd does not listen";
}

std::string Programs::welcome(const std::string &nick) {
	// Ident answers with the owner of the connection's socket, so the client runs as alice.
	Process client(lan1(), {"ncat", "--no-shutdown", kRemote1, "6667"}, "NICK " + nick + "\r\nUSER zzz 0 * :A\r\n",
		       kAlice);
	eventually(10s, [&] { return client.out().find(" 001 ") != std::string::npos; });
	const std::string text = client.out();
	return text.substr(0, text.find('\n'));
}

TEST_P(Programs, IrcIdent) {
	start_afresh();
	ASSERT_NO_FATAL_FAILURE(start_irc());
	const std::string control = welcome("before");
	EXPECT_NE(control.find(" before!~zzz@"), std::string::npos) << "control: " << control;
	up(rule("irc-ident", "6660-6669/tcp", "113/tcp"));
	const std::string found = welcome("after");
	EXPECT_NE(found.find(" after!alice@"), std::string::npos) << found;
}

} // namespace lab
