// SPDX-License-Identifier: Apache-2.0
// Signal handlers that are at work in the checkpoint, and timers that tell by
// signals and threads.
#include "testlib.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/signalfd.h>
#include <ucontext.h>

static char alt[3 * 65536];
static sigjmp_buf back;
static volatile int depth;
static volatile uintptr_t at[3];

static int on_alt(const volatile void *p)
{
	return (uintptr_t)p >= (uintptr_t)alt && (uintptr_t)p < (uintptr_t)alt + sizeof alt;
}

static void inner(int sig, siginfo_t *info, void *context)
{
	ucontext_t *c = context;
	volatile char here = 1;
	uint64_t pat[32];

	EQ("signal", sig, SIGUSR2);
	EQ("sender", info->si_pid, getpid());
	at[1] = (uintptr_t)&here;
	depth++;
	pattern(pat, sizeof pat, 77);
	ready_and_await();
	SAME("stack of the handler", pat, sizeof pat, 77);
	CHECK(on_alt(&here) && on_alt((void *)c->uc_mcontext.gregs[REG_RSP]), "the handlers are not on the alternate stack");
	EQ("value", here, 1);
}

static void outer(int sig, siginfo_t *info, void *context)
{
	volatile char here = 2;
	uint64_t pat[32];

	(void)context;
	EQ("signal", sig, SIGUSR1);
	EQ("payload", info->si_value.sival_int, 4711);
	at[0] = (uintptr_t)&here;
	depth++;
	pattern(pat, sizeof pat, 66);
	raise(SIGUSR2);
	EQ("depth", depth, 2);
	SAME("stack of the outer handler", pat, sizeof pat, 66);
	EQ("value", here, 2);
	siglongjmp(back, 5);
}

static void handle(int sig, void (*f)(int, siginfo_t *, void *))
{
	struct sigaction a = { .sa_sigaction = f, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigemptyset(&a.sa_mask);
	SYS(sigaction(sig, &a, NULL));
}

// nested: a handler in a handler, both on the alternate stack, left by siglongjmp.
static void nested(void)
{
	stack_t st = { .ss_sp = alt, .ss_size = sizeof alt }, now;
	sigset_t set;

	SYS(sigaltstack(&st, NULL));
	handle(SIGUSR1, outer);
	handle(SIGUSR2, inner);
	if (sigsetjmp(back, 1) == 0) {
		SYS(sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 4711 }));
		fail("the handler returned");
	}
	SYS(sigaltstack(NULL, &now));
	EQ("on the alternate stack", now.ss_flags, 0);
	EQ("its size", now.ss_size, sizeof alt);
	SYS(sigprocmask(SIG_BLOCK, NULL, &set));
	EQ("SIGUSR1 blocked", sigismember(&set, SIGUSR1), 0);
	EQ("SIGUSR2 blocked", sigismember(&set, SIGUSR2), 0);
}

static volatile int traps;
static void trapped(int sig) { traps += sig == SIGTRAP; }

// trap: a SIGTRAP that is blocked and waits.
static void trap(void)
{
	sigset_t set, pending;

	signal(SIGTRAP, trapped);
	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	SYS(sigprocmask(SIG_BLOCK, &set, NULL));
	SYS(kill(getpid(), SIGTRAP));
	ready_and_await();
	EQ("handled while blocked", traps, 0);
	SYS(sigpending(&pending));
	EQ("pending", sigismember(&pending, SIGTRAP), 1);
	SYS(sigprocmask(SIG_UNBLOCK, &set, NULL));
	EQ("handled", traps, 1);
}

static atomic_int calls, gets;

static void call(union sigval v)
{
	EQ("value", v.sival_int, 99);
	calls++;
}

static void *get(void *arg UNUSED)
{
	sigset_t set;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	for (;;) {
		if (sigwaitinfo(&set, &info) < 0)
			fail("sigwaitinfo: %s", strerror(errno));
		EQ("code", info.si_code, SI_TIMER);
		EQ("value", info.si_value.sival_int, 88);
		gets++;
	}
}

static timer_t timer(clockid_t clock, struct sigevent e, int millis)
{
	struct itimerspec t = { { 0, millis * 1000000L }, { 0, millis * 1000000L } };
	timer_t id;

	SYS(timer_create(clock, &e, &id));
	SYS(timer_settime(id, 0, &t, NULL));
	return id;
}

static void more(const char *what, atomic_int *n)
{
	int was = *n;

	for (int64_t end = ms() + 10000; *n < was + 3; nap(5))
		CHECK(ms() < end, "%s: no more", what);
}

// notify: timers that call a function in a thread, and that wake a thread.
static void notify(void)
{
	struct sigevent thread = { .sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 99 };
	struct sigevent sig = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3, .sigev_value.sival_int = 88 };
	sigset_t set;
	pthread_t t;

	signals_expected = 1;
	thread.sigev_notify_function = call;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	EQ("thread", pthread_create(&t, NULL, get, NULL), 0);
	timer(CLOCK_MONOTONIC, thread, 20);
	timer(CLOCK_REALTIME, sig, 30);
	more("calls", &calls);
	more("signals", &gets);
	ready_and_await();
	more("calls", &calls);
	more("signals", &gets);
}

static volatile int ticks;
static void tick(int sig) { ticks += sig > 0; }

// cpu: a timer on the time that the process computes.
static void cpu(void)
{
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4 };
	struct itimerspec left;
	timer_t id;

	signals_expected = 1;
	signal(SIGRTMIN + 4, tick);
	id = timer(CLOCK_PROCESS_CPUTIME_ID, e, 50);
	ready_and_await();
	SYS(timer_gettime(id, &left));
	EQ("interval", left.it_interval.tv_nsec, 50000000);
	CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 50000000, "left: %ld.%09ld",
	      (long)left.it_value.tv_sec, left.it_value.tv_nsec);
	for (int was = ticks, i = 0; ticks < was + 2; i++)
		CHECK(i < 2000000000, "no ticks");
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "nested", nested }, { "trap", trap }, { "notify", notify }, { "cpu", cpu }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
