// SPDX-License-Identifier: Apache-2.0
// A random tree of processes: they fork, begin sessions and groups, change
// groups, adopt orphans and end, and in the end each that is left must still
// have its parent, its session and its group. The mode is the seed.
#include "testlib.h"

#include <stdatomic.h>

#define MOST 60 // processes

struct self {
	pid_t pid, ppid, pgrp, sid;
};

static struct world {
	atomic_int born, busy, phase, known, same, zombies;
	struct self was[MOST * 2];
	pid_t groups[MOST * 2];
} *w;

static unsigned seed;

static unsigned draw(unsigned n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

static struct self self(void)
{
	return (struct self){ getpid(), getppid(), getpgrp(), getsid(0) };
}

// live keeps a process until the end and compares it with what it was. One that
// has lost its parent meanwhile, because that could not wait, ends with it.
static void live(void)
{
	int me, zombies = 0, st;
	struct self is;

	w->busy--;
	while (w->phase == 0)
		nap(3);
	me = w->known++;
	w->was[me] = self();
	while (w->phase == 1)
		nap(20);
	is = self();
	CHECK(memcmp(&w->was[me], &is, sizeof is) == 0, "is pid %d ppid %d pgrp %d sid %d, was %d %d %d %d", is.pid, is.ppid,
	      is.pgrp, is.sid, w->was[me].pid, w->was[me].ppid, w->was[me].pgrp, w->was[me].sid);
	while (waitpid(-1, &st, WNOHANG) > 0) {
		EQ("status of a child that has ended", st, 11 << 8);
		zombies++;
	}
	w->zombies += zombies;
	w->same++;
	while (w->phase == 2) // nobody is orphaned before all have looked
		nap(3);
}

static void build(int depth);

static pid_t child(void)
{
	pid_t pid;

	if (w->born++ >= MOST) {
		w->born--;
		return -1;
	}
	w->busy++;
	pid = SYS(fork());
	if (pid == 0)
		seed = seed * 31 + (unsigned)w->born * 7919;
	else
		w->groups[w->born] = pid;
	return pid;
}

static void grow(int depth)
{
	pid_t pid = child();

	if (pid == 0) {
		build(depth + 1);
		live();
		_exit(12);
	}
	if (pid > 0 && draw(4) == 0)
		setpgid(pid, draw(2) ? pid : w->groups[draw(MOST)]);
}

// A child that has children and ends.
static void orphans(int depth)
{
	pid_t pid = child();

	if (pid == 0) {
		build(depth + 1);
		if (draw(2))
			grow(depth + 2);
		w->busy--;
		_exit(11);
	}
	if (pid > 0 && draw(2))
		waitpid(pid, NULL, 0);
}

static void build(int depth)
{
	for (unsigned n = 1 + draw(5); n > 0 && depth < 7; n--)
		switch (draw(9)) {
		case 0:
		case 1:
		case 2:
			grow(depth);
			break;
		case 3:
			setsid();
			break;
		case 4:
			setpgid(0, 0);
			break;
		case 5:
			setpgid(0, w->groups[draw(MOST)]);
			break;
		case 6:
		case 7:
			orphans(depth);
			break;
		case 8:
			if (draw(4) == 0)
				SYS(prctl(PR_SET_CHILD_SUBREAPER, draw(2)));
		}
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	signals_expected = 1; // an orphaned group of which one is stopped gets SIGHUP, and children end
	w = shared(sizeof *w);
	seed = (unsigned)atoi(mode) * 2654435761u;
	w->busy = 1;
	for (int i = 0; i < 4; i++)
		grow(0);
	orphans(0);
	w->busy--;
	while (w->busy > 0)
		nap(5);
	nap(50); // those that end have ended
	w->phase = 1;
	for (int last = -1; last != w->known; nap(100))
		last = w->known;
	ready_and_await();
	w->phase = 2;
	for (int64_t end = ms() + 20000; w->same < w->known; nap(5))
		CHECK(ms() < end, "%d of %d processes are left", w->same, w->known);
	w->phase = 3;
	while (waitpid(-1, NULL, 0) > 0)
		;
	pass();
}
