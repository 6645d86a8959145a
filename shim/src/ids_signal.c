/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids_signal.c: making threads, whose numbers must be none of the table; and signals,
 * whose siginfo has the sender's real number.
 */
#define _GNU_SOURCE
#include "ids.h"

#include <time.h>

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	esky_before_birth();
	return REAL(pthread_create)(thread, attr, start, arg);
}

/* What the process has that translation does not serve (ids.h). */
volatile int32_t esky_needs __attribute__((used));

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
