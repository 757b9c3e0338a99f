// The loop of `ptrig run`: follows the network, removes what has ended, reports events, reloads. The
// datapath does not need it: everything here is reporting and tidying.
#pragma once

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

} // namespace ptrig
