// SPDX-License-Identifier: Apache-2.0
// Again and again a vfork(2) whose child takes its time, so that a checkpoint
// meets a parent that cannot be stopped until the child has ended.
#include "testlib.h"

int main(int argc, char **argv)
{
	const struct timespec t = { 0, 150000000 };
	volatile int rounds = 0;
	pid_t pid;

	begin(argc, argv);
	ready();
	do {
		pid = vfork();
		if (pid == 0) {
			syscall(SYS_nanosleep, &t, NULL);
			_exit(5);
		}
		SYS(pid);
		reap(pid, 5);
		rounds++;
	} while (!told());
	CHECK(rounds > 0, "no rounds");
	pass();
}
