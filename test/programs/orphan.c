// SPDX-License-Identifier: Apache-2.0
// An orphan in the session of a process that is no child of the init: the child
// of a process that has ended, in a session whose leader lives on below main.
#include "testlib.h"

struct ids {
	pid_t pid, ppid, pgid, sid;
};

static struct ids mine(void)
{
	struct ids i = { getpid(), getppid(), getpgrp(), getsid(0) };

	return i;
}

static void check_ids(const char *who, struct ids was)
{
	struct ids is = mine();

	CHECK(memcmp(&is, &was, sizeof is) == 0, "%s: pid %d parent %d group %d session %d, were %d %d %d %d", who,
	      is.pid, is.ppid, is.pgid, is.sid, was.pid, was.ppid, was.pgid, was.sid);
}

// the orphan ends with 0 through a pipe, since nobody can wait for it
static void orphan(int out)
{
	struct ids was;

	while (getppid() != 1)
		nap(1);
	was = mine();
	SYS(write(out, "r", 1));
	await();
	check_ids("orphan", was);
	SYS(write(out, "d", 1));
	_exit(0);
}

static void leader(int out)
{
	struct ids was;
	pid_t pid;

	SYS(setsid());
	pid = SYS(fork());
	if (pid == 0) {
		if (SYS(fork()) == 0)
			orphan(out);
		_exit(0);
	}
	reap(pid, 0);
	was = mine();
	await();
	check_ids("leader", was);
	_exit(7);
}

int main(int argc, char **argv)
{
	int p[2];
	char c;
	pid_t pid;

	begin(argc, argv);
	SYS(pipe(p));
	pid = SYS(fork());
	if (pid == 0)
		leader(p[1]);
	SYS(close(p[1]));
	EQ("read", read(p[0], &c, 1), 1);
	ready_and_await();
	reap(pid, 7);
	EQ("read", read(p[0], &c, 1), 1);
	EQ("what the orphan says", c, 'd');
	EQ("end", read(p[0], &c, 1), 0);
	pass();
}
