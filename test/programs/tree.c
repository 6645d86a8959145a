// SPDX-License-Identifier: Apache-2.0
// A tree of processes with its sessions and groups, also those whose leader is
// dead, and parents as they were; exit statuses still reach the parent.
#include "testlib.h"

static int report[2]; // each process says in one byte that it is as it was

struct self {
	pid_t pid, ppid, pgrp, sid;
};

static struct self self(void)
{
	return (struct self){ getpid(), getppid(), getpgrp(), getsid(0) };
}

// live tells that all is set up, waits, and compares.
static void live(char name, pid_t pgrp, pid_t sid)
{
	struct self was = self(), is;

	EQ("group before", was.pgrp, pgrp);
	EQ("session before", was.sid, sid);
	EQ("report", write(report[1], &name, 1), 1);
	await();
	is = self();
	CHECK(memcmp(&was, &is, sizeof was) == 0,
	      "process %c: is pid %d ppid %d pgrp %d sid %d, was %d %d %d %d", name,
	      is.pid, is.ppid, is.pgrp, is.sid, was.pid, was.ppid, was.pgrp, was.sid);
	EQ("report", write(report[1], &name, 1), 1);
}

static void hear(int n)
{
	char names[16];

	for (int i = 0; i < n; i++)
		EQ("report", read(report[0], names + i, 1), 1);
}

// A session with a second group in it, and a child of that group's.
static pid_t session(void)
{
	pid_t a = SYS(fork()), b, c, sid;

	if (a)
		return a;
	sid = SYS(setsid());
	b = SYS(fork());
	if (b == 0) {
		SYS(setpgid(0, 0));
		c = SYS(fork());
		if (c == 0) {
			live('c', getppid(), sid);
			_exit(3);
		}
		live('b', getpid(), sid);
		reap(c, 3);
		_exit(2);
	}
	live('a', sid, sid);
	reap(b, 2);
	_exit(1);
}

// A process whose parent, the leader of its session and group, is dead.
static void orphan(void)
{
	pid_t leader = SYS(fork());

	if (leader == 0) {
		SYS(setsid());
		leader = getpid();
		if (SYS(fork()) == 0) {
			while (getppid() == leader)
				nap(5);
			live('o', leader, leader);
			_exit(0);
		}
		_exit(4);
	}
	reap(leader, 4);
}

// The rest of a pipeline: the leader of the group is dead and reaped.
static pid_t pipeline(void)
{
	int hold[2];
	pid_t leader, rest, sid = getsid(0);
	char c;

	SYS(pipe(hold));
	leader = SYS(fork());
	if (leader == 0) {
		close(hold[1]);
		_exit(read(hold[0], &c, 1) == 0 ? 5 : 6);
	}
	SYS(setpgid(leader, leader));
	rest = SYS(fork());
	if (rest == 0) {
		close(hold[1]);
		SYS(setpgid(0, leader));
		while (kill(leader, 0) == 0)
			nap(5);
		live('p', leader, sid);
		_exit(7);
	}
	SYS(setpgid(rest, leader));
	close(hold[0]);
	close(hold[1]);
	reap(leader, 5);
	return rest;
}

int main(int argc, char **argv)
{
	pid_t a, p;

	begin(argc, argv);
	SYS(pipe(report));
	a = session();
	orphan();
	p = pipeline();
	hear(5);
	ready();
	live('m', getpgrp(), getsid(0));
	hear(7); // five, and main twice
	reap(a, 1);
	reap(p, 7);
	EQ("children left", waitpid(-1, NULL, 0), -1);
	pass();
}
