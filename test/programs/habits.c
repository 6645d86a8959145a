// SPDX-License-Identifier: Apache-2.0
// What the kernel keeps for each thread by itself, and what a process has asked
// it for by prctl(2); one kind a mode.
#include "testlib.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#define N 5

// What thread number i is made to be, and what it is found to be.
struct own {
	char name[16];
	int nice, policy, cpu, ioprio, privs, death, reset;
	long slack;
};

static pthread_barrier_t set, end;

static struct own asked(int i)
{
	struct own o = { .nice = 3 * i, .policy = i % 2 ? SCHED_BATCH : SCHED_OTHER, .ioprio = 2 << 13 | i, .privs = i > 2,
		.death = SIGUSR1 * (i == 1), .reset = i == 3, .slack = 1000 * (i + 1) };

	sprintf(o.name, "thread no. %d", i);
	if (i == 4)
		o.policy = SCHED_IDLE;
	return o;
}

static struct own found(void)
{
	struct own o = { 0 };
	int policy = (int)SYS(syscall(SYS_sched_getscheduler, 0));

	SYS(prctl(PR_GET_NAME, o.name));
	o.nice = getpriority(PRIO_PROCESS, 0);
	o.policy = policy & ~SCHED_RESET_ON_FORK;
	o.reset = !!(policy & SCHED_RESET_ON_FORK);
	o.ioprio = (int)SYS(syscall(SYS_ioprio_get, 1, 0));
	o.privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	SYS(prctl(PR_GET_PDEATHSIG, &o.death));
	o.slack = prctl(PR_GET_TIMERSLACK);
	return o;
}

static void *thread(void *arg)
{
	int i = (int)(intptr_t)arg;
	struct own a = asked(i), f;
	struct sched_param p = { 0 };

	SYS(prctl(PR_SET_NAME, a.name));
	SYS(prctl(PR_SET_TIMERSLACK, a.slack));
	SYS(setpriority(PRIO_PROCESS, 0, a.nice));
	SYS(syscall(SYS_sched_setscheduler, 0, a.policy | (a.reset ? SCHED_RESET_ON_FORK : 0), &p));
	SYS(syscall(SYS_ioprio_set, 1, 0, a.ioprio));
	if (a.privs)
		SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	SYS(prctl(PR_SET_PDEATHSIG, a.death));
	pthread_barrier_wait(&set);
	pthread_barrier_wait(&end);
	f = found();
	CHECK(!strcmp(f.name, a.name), "thread %d is called %s", i, f.name);
	EQ("nice", f.nice, a.nice);
	EQ("policy", f.policy, a.policy);
	EQ("reset on fork", f.reset, a.reset);
	EQ("I/O priority", f.ioprio, a.ioprio);
	EQ("no_new_privs", f.privs, a.privs);
	EQ("parent death signal", f.death, a.death);
	EQ("timer slack", f.slack, a.slack);
	return NULL;
}

static void threads(void)
{
	pthread_t t[N];

	pthread_barrier_init(&set, NULL, N + 1);
	pthread_barrier_init(&end, NULL, N + 1);
	for (int i = 0; i < N; i++)
		EQ("thread", pthread_create(&t[i], NULL, thread, (void *)(intptr_t)i), 0);
	pthread_barrier_wait(&set);
	ready_and_await();
	pthread_barrier_wait(&end);
	for (int i = 0; i < N; i++)
		pthread_join(t[i], NULL);
	EQ("nice of main", getpriority(PRIO_PROCESS, 0), 0);
	EQ("no_new_privs of main", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

static void keepcaps(void)
{
	SYS(prctl(PR_SET_KEEPCAPS, 1));
	ready_and_await();
	EQ("keepcaps", prctl(PR_GET_KEEPCAPS), 1);
}

static void thp(void)
{
	SYS(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	ready_and_await();
	EQ("huge pages disabled", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
}

// PR_SET_MDWE of Linux 6.3: no memory is written and executed.
static void mdwe(void)
{
	void *p;

	SYS(prctl(65, 1, 0, 0, 0));
	ready_and_await();
	EQ("deny write and execute", prctl(66, 0, 0, 0, 0), 1);
	p = SYS(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	EQ("mprotect", mprotect(p, 4096, PROT_READ | PROT_EXEC), -1);
	EQ("errno", errno, EACCES);
}

// The signal that the death of the parent brings, to a child and a grandchild.
static void death(void)
{
	int *got = shared(4096);
	pid_t parent = SYS(fork()), pid;

	if (parent == 0) {
		pid = SYS(fork());
		if (pid == 0) {
			sigset_t s;
			int sig = 0;

			sigemptyset(&s);
			sigaddset(&s, SIGUSR2);
			sigaddset(&s, SIGHUP);
			sigprocmask(SIG_BLOCK, &s, NULL);
			SYS(prctl(PR_SET_PDEATHSIG, SIGUSR2));
			got[1] = 1;
			sigwait(&s, &sig);
			got[0] = sig;
			_exit(0);
		}
		for (;;)
			nap(1000);
	}
	while (!got[1])
		nap(2);
	ready_and_await();
	EQ("a signal while the parent lives", got[0], 0);
	SYS(kill(parent, SIGKILL));
	EQ("parent", waitpid(parent, NULL, 0), parent);
	for (int64_t until = ms() + 10000; !got[0]; nap(5))
		CHECK(ms() < until, "no signal when the parent died");
	EQ("signal", got[0], SIGUSR2);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "threads", threads }, { "keepcaps", keepcaps }, { "thp", thp }, { "mdwe", mdwe }, { "death", death }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
