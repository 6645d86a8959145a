// SPDX-License-Identifier: Apache-2.0
// Children that have ended and wait to be reaped, with their status; one whose
// parent is another child.
#include "testlib.h"

static pid_t dead(int code, int sig)
{
	pid_t pid = SYS(fork());
	siginfo_t info;

	if (pid == 0) {
		if (sig)
			raise(sig);
		_exit(code);
	}
	SYS(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	return pid;
}

static void check(pid_t pid, int code, int status)
{
	siginfo_t info = { 0 };
	int st;

	SYS(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG));
	EQ("si_pid", info.si_pid, pid);
	EQ("si_code", info.si_code, code);
	EQ("si_status", info.si_status, status);
	EQ("si_uid", info.si_uid, getuid());
	EQ("waitpid", waitpid(pid, &st, WNOHANG), pid);
	EQ("status", st, code == CLD_EXITED ? status << 8 : status);
}

int main(int argc, char **argv)
{
	pid_t a, b, c, parent;
	int *done = shared(4096);

	begin(argc, argv);
	signal(SIGUSR1, SIG_DFL);
	a = dead(7, 0);
	b = dead(0, SIGUSR1);
	c = dead(0, 0);
	parent = SYS(fork());
	if (parent == 0) {
		pid_t z = dead(9, 0);

		*done = 1;
		await();
		check(z, CLD_EXITED, 9);
		_exit(0);
	}
	while (!*done)
		nap(5);
	ready_and_await();
	check(a, CLD_EXITED, 7);
	check(b, CLD_KILLED, SIGUSR1);
	check(c, CLD_EXITED, 0);
	reap(parent, 0);
	pass();
}
