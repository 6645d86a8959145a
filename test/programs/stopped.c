// SPDX-License-Identifier: Apache-2.0
// A child that SIGSTOP has stopped stays stopped, and goes on when it is told
// to. Mode "noticed": the parent has seen the stop; "unnoticed": not yet, so
// it can still be waited for.
#include "testlib.h"

int main(int argc, char **argv)
{
	volatile long *count = shared(4096);
	siginfo_t info = { 0 };
	pid_t pid;
	long was;
	int st;

	begin(argc, argv);
	signals_expected = 1; // a stop and its end cut sleeps of the child short
	pid = SYS(fork());
	if (pid == 0)
		for (int64_t end = ms() + 300000; ms() < end; nap(1))
			++*count;
	while (*count < 3)
		nap(5);
	SYS(kill(pid, SIGSTOP));
	SYS(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT));
	if (!is_mode("unnoticed"))
		EQ("stop", waitpid(pid, &st, WUNTRACED), pid);
	was = *count;
	ready_and_await();
	nap(100);
	EQ("steps of the stopped child", *count, was);
	EQ("stop that can be waited for", waitpid(pid, &st, WUNTRACED | WNOHANG), is_mode("unnoticed") ? pid : 0);
	if (is_mode("unnoticed"))
		EQ("status of the stop", st, SIGSTOP << 8 | 0x7f);
	SYS(kill(pid, SIGCONT));
	EQ("continued", waitpid(pid, &st, WCONTINUED), pid);
	EQ("status", st, 0xffff);
	for (int64_t end = ms() + 10000; *count < was + 3; nap(5))
		CHECK(ms() < end, "the child does not go on after SIGCONT");
	SYS(kill(pid, SIGKILL));
	EQ("killed", waitpid(pid, &st, 0), pid);
	EQ("status", st, SIGKILL);
	pass();
}
