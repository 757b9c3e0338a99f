// Tests that change a real kernel's network: each in a child process with network, mounts, bpffs and /run of its own.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <gtest/gtest.h>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

namespace ptrig {

inline void sh(const std::string &command) {
	ASSERT_EQ(std::system(("exec 2>&1; " + command).c_str()), 0) << command;
}

inline bool isolate() {
	return unshare(CLONE_NEWNET | CLONE_NEWNS) == 0 &&
	       mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
	       mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr) == 0 && mount("tmpfs", "/run", "tmpfs", 0, nullptr) == 0;
}

/// Runs `body` in a child with namespaces of its own; its failures are this test's.
inline void isolated(const std::function<void()> &body) {
	std::fflush(nullptr);
	pid_t child = fork();
	ASSERT_GE(child, 0);
	if (child == 0) {
		if (!isolate()) {
			std::perror("isolate");
			_exit(2);
		}
		body();
		std::fflush(nullptr);
		_exit(testing::Test::HasFailure() ? 1 : 0);
	}
	int status = 0;
	ASSERT_EQ(waitpid(child, &status, 0), child);
	EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
		<< "the child's failures are above, status " << status;
}

class IsolatedTest : public testing::Test {
protected:
	void SetUp() override {
		if (geteuid() != 0) {
			if (std::getenv("CI") != nullptr) {
				FAIL() << "needs root";
			}
			GTEST_SKIP() << "needs root";
		}
	}
};

} // namespace ptrig
