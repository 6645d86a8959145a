// SPDX-License-Identifier: Apache-2.0
// pidfds: of a child that runs, through two descriptors, of one that has ended
// and is not reaped, and of one that is.
#include <poll.h>
#include "testlib.h"

static int open_pidfd(pid_t pid) { return (int)SYS(syscall(SYS_pidfd_open, pid, 0)); }

static int ended(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return (int)SYS(poll(&p, 1, 0));
}

int main(int argc, char **argv)
{
	int p[2], fd, again, dead, reaped;
	siginfo_t info = { 0 };
	pid_t pid, gone, nobody;

	begin(argc, argv);
	SYS(pipe(p));
	pid = SYS(fork());
	if (pid == 0) {
		char c;

		close(p[1]);
		_exit(read(p[0], &c, 1) == 0 ? 4 : 5);
	}
	close(p[0]);
	gone = SYS(fork());
	if (gone == 0)
		_exit(9);
	SYS(waitid(P_PID, (id_t)gone, &info, WEXITED | WNOWAIT));
	nobody = SYS(fork());
	if (nobody == 0)
		_exit(3);
	reaped = open_pidfd(nobody);
	reap(nobody, 3);
	fd = open_pidfd(pid);
	again = SYS(fcntl(fd, F_DUPFD, 40));
	dead = open_pidfd(gone);
	ready_and_await();
	EQ("the child has ended", ended(fd), 0);
	EQ("the other has ended", ended(dead), 1);
	EQ("the reaped one has ended", ended(reaped), 1);
	EQ("a signal to it", syscall(SYS_pidfd_send_signal, reaped, 0, NULL, 0), -1);
	EQ("errno", errno, ESRCH);
	EQ("waiting for it", waitid((idtype_t)3 /* P_PIDFD */, (id_t)reaped, &info, WEXITED), -1);
	EQ("errno", errno, ECHILD);
	EQ("close-on-exec", fcntl(fd, F_GETFD), FD_CLOEXEC);
	EQ("close-on-exec of the duplicate", fcntl(again, F_GETFD), 0);
	close(p[1]);
	SYS(waitid((idtype_t)3 /* P_PIDFD */, (id_t)again, &info, WEXITED));
	EQ("whose", info.si_pid, pid);
	EQ("status", info.si_status, 4);
	EQ("the child has ended", ended(fd), 1);
	reap(gone, 9);
	pass();
}
