// SPDX-License-Identifier: Apache-2.0
// Interval timers and POSIX timers: what is left of them, their interval, their
// ids, whom they signal.
#include "testlib.h"
#include <pthread.h>
#include <sys/time.h>

#define SLACK 400 // ms, for a busy machine

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static volatile int ticks;

static void on_tick(int sig)
{
	(void)sig;
	ticks++;
}

static int64_t tv(struct timeval t) { return t.tv_sec * 1000LL + t.tv_usec / 1000; }
static int64_t ts(struct timespec t) { return t.tv_sec * 1000LL + t.tv_nsec / 1000000; }

static void near(const char *what, int64_t is, int64_t want)
{
	CHECK(is >= want - SLACK && is <= want + SLACK, "%s: %lld ms, should be %lld ms", what, (long long)is, (long long)want);
}

static void set_itimer(int which, int first, int interval)
{
	struct itimerval t = { { interval / 1000, interval % 1000 * 1000 }, { first / 1000, first % 1000 * 1000 } };

	SYS(setitimer(which, &t, NULL));
}

static int64_t cpu_ms(void)
{
	struct timespec t;

	SYS(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t));
	return ts(t);
}

static void itimers(void)
{
	struct itimerval t;
	int64_t start = ms(), cpu = cpu_ms(), used;

	set_itimer(ITIMER_REAL, 100000, 30000);
	set_itimer(ITIMER_VIRTUAL, 200000, 0);
	set_itimer(ITIMER_PROF, 300000, 70000);
	ready_and_await();
	SYS(getitimer(ITIMER_REAL, &t));
	near("ITIMER_REAL", tv(t.it_value), 100000 - (ms() - start));
	EQ("its interval", tv(t.it_interval), 30000);
	used = cpu_ms() - cpu;
	if (used < 0)
		used = 0; // CPU time begins anew in a new process
	SYS(getitimer(ITIMER_VIRTUAL, &t));
	near("ITIMER_VIRTUAL", tv(t.it_value), 200000 - used);
	EQ("its interval", tv(t.it_interval), 0);
	SYS(getitimer(ITIMER_PROF, &t));
	near("ITIMER_PROF", tv(t.it_value), 300000 - used);
	EQ("its interval", tv(t.it_interval), 70000);
}

// A periodic timer goes on ticking, and misses no tick nor makes any up.
static void ticking(void)
{
	int64_t start, n;

	signals_expected = 1;
	signal(SIGALRM, on_tick);
	start = ms();
	set_itimer(ITIMER_REAL, 50, 50);
	ready_and_await();
	n = ticks;
	nap(10); // cut short by the next tick or not
	for (int64_t end = ms() + 5000; ticks < n + 4; nap(20))
		CHECK(ms() < end, "no more ticks of ITIMER_REAL");
	n = (ms() - start) / 50;
	CHECK(ticks <= n + 1 && ticks >= n - 3 * SLACK / 50, "%d ticks, should be %lld", ticks, (long long)n);
}

static timer_t make(clockid_t clock, int notify, int sig, int value, pid_t tid)
{
	struct sigevent ev = { .sigev_notify = notify, .sigev_signo = sig };
	timer_t id;

	ev.sigev_value.sival_int = value;
	if (notify == SIGEV_THREAD_ID)
		ev.sigev_notify_thread_id = tid;
	SYS(timer_create(clock, &ev, &id));
	return id;
}

static void arm(timer_t id, int first, int interval)
{
	struct itimerspec t = { { interval / 1000, interval % 1000 * 1000000L }, { first / 1000, first % 1000 * 1000000L } };

	SYS(timer_settime(id, 0, &t, NULL));
}

static void left(const char *what, timer_t id, int64_t first, int64_t interval)
{
	struct itimerspec t;

	SYS(timer_gettime(id, &t));
	if (first == 0)
		EQ(what, ts(t.it_value), 0);
	else
		near(what, ts(t.it_value), first);
	EQ("its interval", ts(t.it_interval), interval);
}

static volatile struct {
	pid_t tid;
	int value, code, done;
} target;

static void *waiter(void *arg)
{
	siginfo_t info;
	sigset_t set;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	target.tid = (pid_t)syscall(SYS_gettid);
	while (sigwaitinfo(&set, &info) < 0)
		CHECK(errno == EINTR, "sigwaitinfo: %s", strerror(errno));
	target.value = info.si_value.sival_int;
	target.code = info.si_code;
	__atomic_store_n(&target.done, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

// Timers with gaps between their ids; one signals a thread; one is not armed.
static void posix_timers(void)
{
	timer_t id[6], gap;
	int64_t start;
	pthread_t t;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	sigaddset(&set, SIGRTMIN + 6);
	SYS(sigprocmask(SIG_BLOCK, &set, NULL));
	EQ("pthread_create", pthread_create(&t, NULL, waiter, NULL), 0);
	while (!target.tid)
		nap(5);
	gap = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
	id[0] = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 6, 1, 0);
	id[1] = make(CLOCK_REALTIME, SIGEV_NONE, 0, 2, 0);
	SYS(timer_delete(gap));
	gap = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
	id[2] = make(CLOCK_BOOTTIME, SIGEV_SIGNAL, SIGRTMIN + 6, 3, 0);
	id[3] = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 5, 4444, target.tid);
	SYS(timer_delete(gap));
	id[4] = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
	start = ms();
	arm(id[0], 500000, 60000);
	arm(id[1], 600000, 0);
	arm(id[2], 700000, 10000);
	arm(id[3], 800000, 0);
	ready_and_await();
	left("first timer", id[0], 500000 - (ms() - start), 60000);
	left("timer of the boot time", id[2], 700000 - (ms() - start), 10000);
	left("timer of a thread", id[3], 800000 - (ms() - start), 0);
	left("timer that is not armed", id[4], 0, 0);
	CHECK(timer_getoverrun(id[1]) == 0, "the timer of the real time is lost");
	arm(id[3], 50, 0);
	for (int64_t end = ms() + 10000; !__atomic_load_n(&target.done, __ATOMIC_SEQ_CST); nap(5))
		CHECK(ms() < end, "the timer does not signal its thread");
	EQ("its value", target.value, 4444);
	EQ("its code", target.code, SI_TIMER);
	id[5] = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0); // a new one disturbs none
	for (int i = 0; i < 6; i++)
		SYS(timer_delete(id[i]));
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "itimers", itimers }, { "ticking", ticking }, { "posix", posix_timers }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
