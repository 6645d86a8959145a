// SPDX-License-Identifier: Apache-2.0
// Mode "pids": pids and tids are the very same, and signals by them arrive.
// Mode "clock": CLOCK_MONOTONIC and CLOCK_BOOTTIME go on where they stopped,
// by the vDSO as by the system call, in all processes alike.
#include "testlib.h"
#include <pthread.h>

#define THREADS 5
#define GAP 2000 // ms that may pass between two looks at the clock

static volatile pid_t tid[THREADS];
static volatile int hits;

static void on_hit(int sig)
{
	(void)sig;
	__atomic_add_fetch(&hits, 1, __ATOMIC_SEQ_CST);
}

static void *thread(void *arg)
{
	long i = (long)arg;

	tid[i] = (pid_t)syscall(SYS_gettid);
	await();
	EQ("tid", syscall(SYS_gettid), tid[i]);
	nap(300); // cut short by a signal
	return NULL;
}

static void pids(void)
{
	pid_t pid = getpid(), parent = getppid(), child;
	pthread_t t[THREADS];
	int st;

	signal(SIGUSR1, on_hit);
	signals_expected = 1;
	for (long i = 0; i < THREADS; i++)
		EQ("pthread_create", pthread_create(&t[i], NULL, thread, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		while (!tid[i])
			nap(2);
	child = SYS(fork());
	if (child == 0)
		for (;;)
			nap(1000);
	ready_and_await();
	EQ("pid", getpid(), pid);
	EQ("pid by the system call", syscall(SYS_getpid), pid);
	EQ("parent", getppid(), parent);
	EQ("tid of the main thread", syscall(SYS_gettid), pid);
	for (int i = 0; i < THREADS; i++)
		SYS(syscall(SYS_tgkill, pid, tid[i], SIGUSR1));
	for (int i = 0; i < THREADS; i++)
		EQ("pthread_join", pthread_join(t[i], NULL), 0);
	EQ("signals to threads that arrived", hits, THREADS);
	SYS(kill(child, SIGKILL));
	EQ("child", waitpid(child, &st, 0), child);
	EQ("its end", st, SIGKILL);
}

static int64_t by_call(clockid_t clock)
{
	struct timespec t;

	SYS(syscall(SYS_clock_gettime, clock, &t));
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static int64_t boot_ms(void)
{
	struct timespec t;

	SYS(clock_gettime(CLOCK_BOOTTIME, &t));
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void watch(void)
{
	int64_t last = ms(), boot = boot_ms(), now, later;

	for (; !told(); last = now, boot = later, nap(5)) {
		now = ms();
		later = boot_ms();
		CHECK(now >= last, "CLOCK_MONOTONIC went back by %lld ms", (long long)(last - now));
		CHECK(now < last + GAP, "CLOCK_MONOTONIC jumped by %lld ms", (long long)(now - last));
		CHECK(later >= boot && later < boot + GAP, "CLOCK_BOOTTIME went by %lld ms", (long long)(later - boot));
		CHECK(llabs(by_call(CLOCK_MONOTONIC) - now) < GAP / 2, "CLOCK_MONOTONIC of the vDSO and the kernel differ");
		CHECK(llabs(by_call(CLOCK_BOOTTIME) - later) < GAP / 2, "CLOCK_BOOTTIME of the vDSO and the kernel differ");
	}
}

static void clocks(void)
{
	pid_t child = SYS(fork());

	if (child == 0) {
		watch();
		_exit(0);
	}
	ready();
	watch();
	reap(child, 0);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = { { "pids", pids }, { "clock", clocks }, { NULL, NULL } };

	begin(argc, argv);
	run_mode(modes);
}
