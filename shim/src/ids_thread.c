/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids_thread.c: functions of libc that give the kernel the number which libc has
 * in memory for a thread, which is the virtual one; and signals, whose siginfo
 * has the sender's real one.
 */
#define _GNU_SOURCE
#include "ids.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long sys3(long nr, long a, long b, long c) { return esky_sys(nr, a, b, c, 0, 0, 0); }

/* What the functions of pthread.h return: 0 or an errno. */
static int plain(long result) { return result < 0 ? (int)-result : 0; }

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	esky_before_birth();
	return REAL(pthread_create)(thread, attr, start, arg);
}

/*
 * What the process has that translation does not serve. Of these mutexes the kernel
 * knows the owner by its number: who waits lends it its priority (PI), who dies is
 * said to have died (robust). The tracer reads the word (shim/ids.go).
 */
volatile int32_t esky_needs __attribute__((used));

EXPORT int pthread_mutexattr_setprotocol(pthread_mutexattr_t *attr, int protocol)
{
	if (protocol == PTHREAD_PRIO_INHERIT)
		esky_need(ESKY_NEEDS_PI);
	return REAL(pthread_mutexattr_setprotocol)(attr, protocol);
}

EXPORT int pthread_mutexattr_setrobust(pthread_mutexattr_t *attr, int robust)
{
	if (robust == PTHREAD_MUTEX_ROBUST)
		esky_need(ESKY_NEEDS_ROBUST);
	return REAL(pthread_mutexattr_setrobust)(attr, robust);
}

static int send(pthread_t thread, int sig)
{
	int32_t tid = esky_tid_of(thread);

	if (tid <= 0) /* it has ended, and waits to be joined */
		return 0;
	return plain(sys3(SYS_tgkill, sys3(SYS_getpid, 0, 0, 0), tid, sig));
}

EXPORT int pthread_kill(pthread_t thread, int sig)
{
	if (esky_ids.count == 0)
		return REAL(pthread_kill)(thread, sig);
	if (sig == 32 || sig == 33) /* libc's own */
		return EINVAL;
	return send(thread, sig);
}

EXPORT int pthread_sigqueue(pthread_t thread, int sig, const union sigval value)
{
	siginfo_t info;
	volatile char *p = (volatile char *)&info;
	int32_t tid;
	size_t i;

	if (esky_ids.count == 0)
		return REAL(pthread_sigqueue)(thread, sig, value);
	for (i = 0; i < sizeof info; i++)
		p[i] = 0;
	info.si_signo = sig;
	info.si_code = SI_QUEUE;
	info.si_pid = getpid();
	info.si_uid = (uid_t)sys3(SYS_getuid, 0, 0, 0);
	info.si_value = value;
	tid = esky_tid_of(thread);
	return tid <= 0 ? ESRCH : plain(esky_sys(SYS_rt_tgsigqueueinfo, sys3(SYS_getpid, 0, 0, 0), tid, sig, (long)&info, 0, 0));
}

/* libc marks the thread; its signal goes astray, so we send one. The number of
 * the signal is libc's own: SIGCANCEL of glibc is 32, of musl 33. */
EXPORT int pthread_cancel(pthread_t thread)
{
	extern const char *gnu_get_libc_version(void) __attribute__((weak));
	int ret = REAL(pthread_cancel)(thread);

	if (esky_ids.count && thread != pthread_self()) {
		send(thread, gnu_get_libc_version ? 32 : 33);
		ret = 0;
	}
	return ret;
}

EXPORT int pthread_getschedparam(pthread_t thread, int *policy, struct sched_param *param)
{
	long ret;

	if (esky_ids.count == 0)
		return REAL(pthread_getschedparam)(thread, policy, param);
	ret = sys3(SYS_sched_getscheduler, esky_tid_of(thread), 0, 0);
	if (ret < 0)
		return plain(ret);
	*policy = (int)ret;
	return plain(sys3(SYS_sched_getparam, esky_tid_of(thread), (long)param, 0));
}

EXPORT int pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *param)
{
	if (esky_ids.count == 0)
		return REAL(pthread_setschedparam)(thread, policy, param);
	return plain(sys3(SYS_sched_setscheduler, esky_tid_of(thread), policy, (long)param));
}

EXPORT int pthread_setschedprio(pthread_t thread, int priority)
{
	struct sched_param p = { .sched_priority = priority };

	if (esky_ids.count == 0)
		return REAL(pthread_setschedprio)(thread, priority);
	return plain(sys3(SYS_sched_setparam, esky_tid_of(thread), (long)&p, 0));
}

EXPORT int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
{
	if (esky_ids.count == 0)
		return REAL(pthread_setaffinity_np)(thread, size, set);
	return plain(sys3(SYS_sched_setaffinity, esky_tid_of(thread), (long)size, (long)set));
}

EXPORT int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set)
{
	long ret, i;

	if (esky_ids.count == 0)
		return REAL(pthread_getaffinity_np)(thread, size, set);
	ret = sys3(SYS_sched_getaffinity, esky_tid_of(thread), (long)size, (long)set);
	for (i = ret; ret >= 0 && i < (long)size; i++) /* the kernel's set may be smaller */
		((volatile char *)set)[i] = 0;
	return plain(ret);
}

EXPORT int pthread_getcpuclockid(pthread_t thread, clockid_t *clock)
{
	if (esky_ids.count == 0)
		return REAL(pthread_getcpuclockid)(thread, clock);
	*clock = (clockid_t)(~(unsigned)esky_tid_of(thread) << 3 | 6); /* CPUCLOCK_SCHED of a thread */
	return 0;
}

/* musl's abort() gives the kernel the number in memory. */
EXPORT void abort(void)
{
	if (esky_ids.count)
		raise(SIGABRT);
	REAL(abort)();
	for (;;)
		;
}

/* Signals */

static void translate(siginfo_t *info)
{
	int code = info->si_code;

	if (code == SI_USER || code == SI_QUEUE || code == SI_TKILL ||
	    (info->si_signo == SIGCHLD && code >= CLD_EXITED && code <= CLD_CONTINUED))
		info->si_pid = esky_virtual(info->si_pid);
}

typedef void (*handler)(int, siginfo_t *, void *);
static handler handlers[65];

static void deliver(int sig, siginfo_t *info, void *context)
{
	translate(info);
	handlers[sig](sig, info, context);
}

EXPORT int sigaction(int sig, const struct sigaction *new, struct sigaction *old)
{
	handler before = sig > 0 && sig < 65 ? handlers[sig] : 0;
	struct sigaction copy;
	int ret;

	if (new && before != (handler)new->sa_sigaction && (new->sa_flags & SA_SIGINFO) && sig > 0 && sig < 65 &&
	    new->sa_handler != SIG_DFL && new->sa_handler != SIG_IGN)
		handlers[sig] = new->sa_sigaction;
	if (new && (new->sa_flags & SA_SIGINFO) && new->sa_handler != SIG_DFL && new->sa_handler != SIG_IGN) {
		copy = *new;
		copy.sa_sigaction = deliver;
		new = &copy;
	}
	ret = REAL(sigaction)(sig, new, old);
	if (ret == 0 && old && old->sa_sigaction == deliver)
		old->sa_sigaction = before;
	return ret;
}

EXPORT __sighandler_t signal(int sig, __sighandler_t new)
{
	__sighandler_t old = REAL(signal)(sig, new);

	return old == (__sighandler_t)(void *)deliver ? (__sighandler_t)(void *)handlers[sig] : old;
}

EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
	int ret = REAL(sigtimedwait)(set, info, timeout);

	if (ret > 0 && info)
		translate(info);
	return ret;
}

EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
	int ret = REAL(sigwaitinfo)(set, info);

	if (ret > 0 && info)
		translate(info);
	return ret;
}
