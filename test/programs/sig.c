// SPDX-License-Identifier: Apache-2.0
// Signals: what is to be done about them, what is blocked, what waits to be
// delivered, a handler that runs on its alternate stack.
#include "testlib.h"
#include <pthread.h>

struct kernel_sigaction { // of rt_sigaction(2); libc hides two signals
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

static volatile int handled[65];
static volatile int value;

static void on_info(int sig, siginfo_t *info, void *context)
{
	(void)context;
	handled[sig]++;
	value = info->si_value.sival_int;
}

static void on_plain(int sig) { handled[sig]++; }

static void action(int sig, int flags, int blocked, void (*plain)(int))
{
	struct sigaction sa = { .sa_flags = flags };

	if (plain)
		sa.sa_handler = plain;
	else
		sa.sa_sigaction = on_info;
	sigemptyset(&sa.sa_mask);
	if (blocked)
		sigaddset(&sa.sa_mask, blocked);
	SYS(sigaction(sig, &sa, NULL));
}

static void get_actions(struct kernel_sigaction *a)
{
	for (int sig = 1; sig <= 64; sig++)
		SYS(syscall(SYS_rt_sigaction, sig, NULL, &a[sig], 8));
}

static void actions(void)
{
	static struct kernel_sigaction was[65], is[65];
	union sigval v = { .sival_int = 4711 };
	sigset_t mask, now;

	action(SIGUSR1, SA_SIGINFO | SA_RESTART, SIGUSR2, NULL);
	action(SIGUSR2, SA_RESETHAND | SA_NODEFER, 0, on_plain);
	action(SIGHUP, 0, 0, SIG_IGN);
	action(SIGCHLD, SA_NOCLDSTOP | SA_NOCLDWAIT, 0, SIG_DFL);
	action(SIGSEGV, SA_ONSTACK, SIGTERM, on_plain);
	action(SIGTRAP, 0, 0, SIG_IGN); // a tracer's own signal
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig += 3)
		action(sig, SA_SIGINFO, sig - 1, NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGALRM);
	sigaddset(&mask, SIGRTMAX);
	SYS(sigprocmask(SIG_SETMASK, &mask, NULL));
	get_actions(was);
	ready_and_await();
	get_actions(is);
	for (int sig = 1; sig <= 64; sig++)
		CHECK(memcmp(&was[sig], &is[sig], sizeof was[0]) == 0,
		      "signal %d: handler %p flags %lx mask %llx, was %p %lx %llx", sig, is[sig].handler, is[sig].flags,
		      (long long)is[sig].mask, was[sig].handler, was[sig].flags, (long long)was[sig].mask);
	SYS(sigprocmask(SIG_SETMASK, NULL, &now));
	CHECK(!memcmp(&mask, &now, 8), "the signal mask differs");
	SYS(sigqueue(getpid(), SIGUSR1, v));
	EQ("handled", handled[SIGUSR1], 1);
	EQ("with the value", value, 4711);
	raise(SIGHUP);
	raise(SIGTRAP);
	raise(SIGUSR2);
	EQ("handled once and reset", handled[SIGUSR2], 1);
	get_actions(is);
	CHECK(is[SIGUSR2].handler == SIG_DFL, "SA_RESETHAND is lost");
}

static void queue(pid_t tid, int sig, int v)
{
	siginfo_t info;

	memset(&info, 0, sizeof info);
	info.si_signo = sig;
	info.si_code = SI_QUEUE;
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_ptr = (void *)(0x7700000000 + v);
	if (tid)
		SYS(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, sig, &info));
	else
		SYS(syscall(SYS_rt_sigqueueinfo, getpid(), sig, &info));
}

static void expect(int sig, int v)
{
	struct timespec none = { 0, 0 };
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	errno = 0;
	EQ("signal that is pending", sigtimedwait(&set, &info, &none), v ? sig : -1);
	if (!v)
		return;
	EQ("si_value", info.si_value.sival_ptr, 0x7700000000 + v);
	EQ("si_code", info.si_code, SI_QUEUE);
	EQ("si_pid", info.si_pid, getpid());
	EQ("si_uid", info.si_uid, getuid());
}

static volatile pid_t other_tid; // volatile: libc calls are "leaf" to the compiler

static void *other(void *arg)
{
	(void)arg;
	other_tid = (pid_t)syscall(SYS_gettid);
	await();
	expect(SIGRTMIN + 2, 21);
	expect(SIGRTMIN + 2, 22);
	expect(SIGRTMIN + 2, 0); // the main thread's is not seen from here
	return NULL;
}

// Signals that wait for the process and for each of two threads, in their
// order, with what they carry.
static void pending(void)
{
	const struct timespec soon = { 1, 0 };
	siginfo_t info = { 0 };
	pthread_t t;
	sigset_t all;
	pid_t pid;

	sigfillset(&all);
	SYS(sigprocmask(SIG_BLOCK, &all, NULL));
	EQ("pthread_create", pthread_create(&t, NULL, other, NULL), 0);
	while (!other_tid)
		nap(5);
	queue(0, SIGRTMIN + 1, 1);
	queue(0, SIGRTMIN + 1, 2);
	queue(0, SIGRTMIN + 1, 3);
	queue(other_tid, SIGRTMIN + 2, 21);
	queue(other_tid, SIGRTMIN + 2, 22);
	queue((pid_t)syscall(SYS_gettid), SIGRTMIN + 2, 31);
	SYS(kill(getpid(), SIGTERM));
	pid = SYS(fork());
	if (pid == 0)
		_exit(0);
	SYS(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT)); // and its SIGCHLD
	ready_and_await();
	EQ("pthread_join", pthread_join(t, NULL), 0);
	for (int v = 1; v <= 3; v++)
		expect(SIGRTMIN + 1, v);
	expect(SIGRTMIN + 1, 0);
	expect(SIGRTMIN + 2, 31);
	expect(SIGRTMIN + 2, 0);
	sigemptyset(&all);
	sigaddset(&all, SIGTERM);
	EQ("kill", sigtimedwait(&all, &info, &soon), SIGTERM);
	EQ("its code", info.si_code, SI_USER);
	EQ("its sender", info.si_pid, getpid());
	sigemptyset(&all);
	sigaddset(&all, SIGCHLD);
	EQ("child", sigtimedwait(&all, &info, &soon), SIGCHLD);
	EQ("its pid", info.si_pid, pid);
	EQ("its code", info.si_code, CLD_EXITED);
	reap(pid, 0);
}

static void on_stack(int sig)
{
	sigset_t mask;
	stack_t alt;

	SYS(sigaltstack(NULL, &alt));
	EQ("on the alternate stack before", alt.ss_flags, SS_ONSTACK);
	ready_and_await();
	SYS(sigaltstack(NULL, &alt));
	EQ("on the alternate stack", alt.ss_flags, SS_ONSTACK);
	CHECK((char *)&alt > (char *)alt.ss_sp && (char *)&alt < (char *)alt.ss_sp + alt.ss_size, "which is another one");
	SYS(sigprocmask(SIG_SETMASK, NULL, &mask));
	EQ("the signal is blocked in its handler", sigismember(&mask, sig), 1);
	EQ("and so is that of sa_mask", sigismember(&mask, SIGTERM), 1);
	handled[sig]++;
}

// Away and back in a handler on the alternate stack, which then returns.
static void altstack(void)
{
	stack_t alt = { .ss_sp = malloc(65536), .ss_size = 65536 }, now;
	sigset_t was, is;
	volatile double x = 1.0 / 7;

	SYS(sigaltstack(&alt, NULL));
	SYS(sigprocmask(SIG_SETMASK, NULL, &was));
	action(SIGUSR1, SA_ONSTACK, SIGTERM, on_stack);
	raise(SIGUSR1);
	EQ("handled", handled[SIGUSR1], 1);
	SYS(sigprocmask(SIG_SETMASK, NULL, &is));
	CHECK(!memcmp(&was, &is, 8), "the mask after the handler differs");
	SYS(sigaltstack(NULL, &now));
	EQ("not on the alternate stack any more", now.ss_flags, 0);
	CHECK(now.ss_sp == alt.ss_sp && now.ss_size == alt.ss_size, "the alternate stack differs");
	CHECK(x == 1.0 / 7, "floating point differs");
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "actions", actions }, { "pending", pending }, { "altstack", altstack }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
