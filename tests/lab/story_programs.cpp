// Real programs whose server connects back to the client: active FTP (lftp, vsftpd), IRC ident (ngircd, oidentd)
// and the return test of iperf.
#include "tests/lab/programs.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace lab {

class ProgramsBack : public Programs {
protected:
	/// lftp fetches the server's file in active mode; true if it came, whole.
	bool fetch();
	void start_ftp_server();
	void start_irc();
	/// What the server says first: "... 001 NICK :Welcome ... NICK!USER@HOST".
	std::string welcome(const std::string &nick);

	static constexpr uid_t kAlice = 1077;
};
LAB_STORIES(ProgramsBack);

void ProgramsBack::start_ftp_server() {
	make_file(kDir + "/ftp/blob", 64U << 20);
	std::filesystem::create_directories("/run/vsftpd/empty");
	chmod((kDir + "/ftp").c_str(), 0555);
	write(kDir + "/vsftpd.conf", "listen=YES\nbackground=NO\nanonymous_enable=YES\nanon_root=/run/lab/ftp\n"
				     "no_anon_password=YES\nport_enable=YES\npasv_enable=NO\nconnect_from_port_20=YES\n"
				     "seccomp_sandbox=NO\nsecure_chroot_dir=/run/vsftpd/empty\n");
	background(wan(), {"vsftpd", kDir + "/vsftpd.conf"});
	await_tcp(wan(), {kRemote1, 21});
}

bool ProgramsBack::fetch() {
	const std::string blob = kDir + "/blob";
	std::filesystem::remove(blob);
	const Output lftp = run(
		lan1(),
		{"lftp", "-e",
		 "set net:timeout 5; set net:max-retries 1; set ftp:passive-mode off; set ftp:port-ipv4 " + kWan +
			 "; set ftp:port-range 50000-50009; set ftp:ssl-allow no; get blob -o " + blob + " && ls; quit",
		 "ftp://" + kRemote1},
		"", 60s);
	return lftp.status == 0 && lftp.out.find("blob") != std::string::npos && same(blob, kDir + "/ftp/blob");
}

TEST_P(ProgramsBack, ActiveFtp) {
	start_afresh();
	start_ftp_server();
	EXPECT_FALSE(fetch()) << "the control works without ptrig";
	up(rule("ftp-active", "21/tcp", "50000-50009/tcp"));
	EXPECT_TRUE(fetch());
	EXPECT_EQ(leases("ftp-active").at(0).at("host"), host1());
}

void ProgramsBack::start_irc() {
	write("/etc/hosts", "127.0.0.1 localhost\n" + kWan + " gw\n" + kRemote1 + " irc.lab\n" + host1() + " lan1\n");
	write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n");
	write(kDir + "/ngircd.conf", "[Global]\nName = irc.lab\nInfo = lab\nListen = " + kRemote1 +
					     "\n[Options]\nIdent = yes\nDNS = yes\nPAM = no\n");
	std::ofstream("/etc/passwd", std::ios::app) << "alice:x:1077:1077::/run/lab:/bin/sh\n";
	background(wan(), {"ngircd", "-n", "-f", kDir + "/ngircd.conf"});
	background(lan1(), {"oidentd", "-i", "-S", "-d", "-u", "nobody", "-g", "nogroup"});
	await_tcp(wan(), {kRemote1, 6667});
	await_tcp(lan1(), {host1(), 113});
}

std::string ProgramsBack::welcome(const std::string &nick) {
	// Ident answers with the owner of the connection's socket, so the client runs as alice.
	Process client(lan1(), {"ncat", "--no-shutdown", kRemote1, "6667"}, "NICK " + nick + "\r\nUSER zzz 0 * :A\r\n",
		       kAlice);
	eventually(10s, [&] { return client.out().find(" 001 ") != std::string::npos; });
	const std::string text = client.out();
	return text.substr(0, text.find('\n'));
}

TEST_P(ProgramsBack, IrcIdent) {
	start_afresh();
	start_irc();
	const std::string control = welcome("before");
	EXPECT_NE(control.find(" before!~zzz@"), std::string::npos) << "control: " << control;
	up(rule("irc-ident", "6660-6669/tcp", "113/tcp"));
	const std::string found = welcome("after");
	EXPECT_NE(found.find(" after!alice@"), std::string::npos) << found;
}

// The client sends 8 MiB, then the server connects back to the port that it was told, and sends as much.
TEST_P(ProgramsBack, IperfTradeoff) {
	start_afresh();
	const Process &server = background(wan(), {"iperf", "-s", "-B", kRemote1});
	await_tcp(wan(), {kRemote1, 5001});
	const Words client{"iperf", "-c", kRemote1, "-r", "-L", "5002", "-n", "8M", "-y", "C"};
	const auto received_back = [&](const std::string &csv) {
		const std::size_t line = csv.find("," + host1() + ",5002,");
		return line != std::string::npos && csv.find(",8388608,", line) != std::string::npos;
	};
	tally(wan(), "refused", "in", "ip saddr 203.0.113.2 tcp sport 5002 tcp flags & rst == rst");
	{
		const Process waiting(lan1(), client); // for a connection that never comes
		EXPECT_TRUE(eventually(15s, [&] { return tallied(wan(), "refused") > 0; })) << server.err();
		EXPECT_FALSE(received_back(waiting.out())) << "the control works without ptrig: " << waiting.out();
	}
	up(rule("iperf", "5001/tcp", "5002/tcp"));
	const Output output = run(lan1(), client, "", 60s);
	EXPECT_EQ(output.status, 0) << output.err;
	EXPECT_TRUE(received_back(output.out)) << output.out << output.err;
	EXPECT_EQ(leases("iperf").at(0).at("host"), host1());
}

} // namespace lab
