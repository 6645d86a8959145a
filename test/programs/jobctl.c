// SPDX-License-Identifier: Apache-2.0
// Job control: processes of several threads that are stopped, noticed or not by
// their parent, or have been told to go on, which it may still wait for.
#include "testlib.h"

#include <pthread.h>

#define N 4

static volatile long *count;

static void *counter(void *i)
{
	for (int64_t end = ms() + 300000; ms() < end; nap(1))
		++count[(intptr_t)i];
	return NULL;
}

static pid_t child(void)
{
	pid_t pid = SYS(fork());
	pthread_t t;

	if (pid == 0) {
		signals_expected = 1;
		SYS(prctl(PR_SET_PDEATHSIG, SIGKILL));
		for (intptr_t i = 1; i < N; i++)
			EQ("thread", pthread_create(&t, NULL, counter, (void *)i), 0);
		counter(0);
		_exit(1);
	}
	for (int i = 0; i < N; i++)
		while (count[i] < 3)
			nap(5);
	return pid;
}

static void stop(pid_t pid)
{
	siginfo_t info = { 0 };

	SYS(kill(pid, SIGSTOP));
	SYS(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT));
}

static void end(pid_t pid)
{
	int st;

	SYS(kill(pid, SIGKILL));
	EQ("killed", waitpid(pid, &st, 0), pid);
	EQ("status", st, SIGKILL);
}

static void goes_on(void)
{
	long was[N];

	memcpy(was, (void *)count, sizeof was);
	for (int i = 0; i < N; i++)
		for (int64_t until = ms() + 10000; count[i] < was[i] + 3; nap(5))
			CHECK(ms() < until, "thread %d does not go on", i);
}

static void stopped(int noticed)
{
	pid_t pid = child();
	long was[N];
	int st;

	stop(pid);
	if (noticed)
		EQ("stop", waitpid(pid, &st, WUNTRACED), pid);
	nap(20);
	memcpy(was, (void *)count, sizeof was);
	ready_and_await();
	nap(100);
	CHECK(memcmp(was, (void *)count, sizeof was) == 0, "a stopped child has gone on");
	EQ("stop that can be waited for", waitpid(pid, &st, WUNTRACED | WNOHANG), noticed ? 0 : pid);
	SYS(kill(pid, SIGCONT));
	EQ("continued", waitpid(pid, &st, WCONTINUED), pid);
	goes_on();
	end(pid);
}

static void stopped_noticed(void) { stopped(1); }
static void stopped_unnoticed(void) { stopped(0); }

// A child that goes on: the parent is yet to hear of it.
static void continued(void)
{
	pid_t pid = child(), other = child();
	int st = 0;

	stop(pid);
	EQ("stop", waitpid(pid, &st, WUNTRACED), pid);
	SYS(kill(pid, SIGCONT));
	goes_on();
	ready_and_await();
	goes_on();
	EQ("news of another child", waitpid(other, &st, WUNTRACED | WCONTINUED | WNOHANG), 0);
	EQ("news of the child", waitpid(pid, &st, WUNTRACED | WCONTINUED | WNOHANG), pid);
	EQ("status", st, 0xffff);
	EQ("more news", waitpid(pid, &st, WUNTRACED | WCONTINUED | WNOHANG), 0);
	end(pid);
	end(other);
}

// A parent that is in waitpid(WCONTINUED) when there is nothing yet.
static void *tell(void *pid)
{
	await();
	SYS(kill((pid_t)(intptr_t)pid, SIGCONT));
	return NULL;
}

static void awaited(void)
{
	pid_t pid = child();
	pthread_t t;
	int st;

	stop(pid);
	EQ("stop", waitpid(pid, &st, WUNTRACED), pid);
	EQ("thread", pthread_create(&t, NULL, tell, (void *)(intptr_t)pid), 0);
	ready();
	EQ("continued", waitpid(pid, &st, WUNTRACED | WCONTINUED), pid);
	EQ("status", st, 0xffff);
	goes_on();
	end(pid);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "noticed", stopped_noticed }, { "unnoticed", stopped_unnoticed }, { "continued", continued },
		{ "awaited", awaited }, { NULL, NULL },
	};

	begin(argc, argv);
	count = shared(4096);
	run_mode(modes);
}
