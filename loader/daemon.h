// The loop of `ptrig run`: follows the network, removes what has ended, reports events, reloads. The
// datapath does not need it: everything here is reporting and tidying.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "loader/result.h"

namespace ptrig {

/// What the daemon says; priorities are those of <syslog.h> (LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO).
using DaemonLog = std::function<void(int priority, const std::string &line)>;

struct DaemonOptions {
	std::string config_path;
	std::string pin_dir;
};

/// `up` unless it is, then follow until SIGTERM or SIGINT (Done; the datapath stays). SIGHUP applies the file again.
/// Tells the service manager READY=1, STATUS=, RELOADING=1 and WATCHDOG=1 (sd_notify(3)), and says "ready".
/// Errors: kInput for a wrong configuration, kSystem while another daemon has these pins.
Done run_daemon(const DaemonOptions &options, const DaemonLog &log);

/// Keeps a journal readable: at most `per_second` lines in a second, then the count of what was left out.
class LineLimit {
public:
	explicit LineLimit(unsigned per_second) : per_second_(per_second) {}
	/// May a line be written at this time (seconds, any origin)? Counts it if not.
	bool take(std::uint64_t now_s);
	/// Lines left out in seconds before this one, to be told once; 0: none.
	std::uint64_t left_out(std::uint64_t now_s);

private:
	unsigned per_second_;
	unsigned used_ = 0;
	std::uint64_t second_ = 0, dropped_ = 0;
};

} // namespace ptrig
