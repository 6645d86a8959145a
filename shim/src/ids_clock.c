/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids_clock.c: functions of libc that tell, or wait for, a time of a clock that
 * goes on for the job from where it was. Every deadline that the kernel gets is a
 * copy on our part of the stack: a resume corrects it there (restore/shim.go).
 */
#define _GNU_SOURCE
#include "ids.h"

#include <semaphore.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

static const int64_t second = 1000000000;

extern const char *gnu_get_libc_version(void) __attribute__((weak));

/* By how much the job's clock is ahead of the kernel's. */
static int64_t shift_of(clockid_t clock)
{
	switch (clock) {
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
		return esky_ids.monotonic;
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		return esky_ids.boottime;
	}
	return 0;
}

static struct timespec plus(struct timespec t, int64_t ns)
{
	t.tv_sec += ns / second;
	t.tv_nsec += ns % second;
	if (t.tv_nsec < 0) {
		t.tv_sec--;
		t.tv_nsec += second;
	} else if (t.tv_nsec >= second) {
		t.tv_sec++;
		t.tv_nsec -= second;
	}
	return t;
}

/* A deadline of the job's as one of the kernel's. What is no time stays none, and
 * what lies before the kernel's clock began has passed. */
struct timespec esky_for_kernel(clockid_t clock, const struct timespec *t)
{
	int64_t shift = shift_of(clock);
	struct timespec k = *t;

	if (shift == 0 || t->tv_nsec < 0 || t->tv_nsec >= second || t->tv_sec < 0)
		return k;
	k = plus(k, -shift);
	if (k.tv_sec < 0)
		k.tv_sec = k.tv_nsec = 0;
	return k;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *t)
{
	int ret = REAL(clock_gettime)(clock, t);
	int64_t shift = shift_of(clock);

	if (ret == 0 && shift)
		*t = plus(*t, shift);
	return ret;
}

EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *want, struct timespec *left)
{
	struct timespec k;

	if (!(flags & TIMER_ABSTIME) || !want)
		return REAL(clock_nanosleep)(clock, flags, want, left);
	k = esky_for_kernel(clock, want);
	return REAL(clock_nanosleep)(clock, flags, &k, left);
}

/* The clock of a condition variable: glibc's in __wrefs, musl's in _c_clock. */
static clockid_t clock_of(const pthread_cond_t *cond)
{
	enum { glibc_wrefs = 36, glibc_monotonic = 2, musl_clock = 16 };
	const char *c = (const char *)cond;

	if (gnu_get_libc_version)
		return *(const unsigned *)(c + glibc_wrefs) & glibc_monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME;
	return *(const int *)(c + musl_clock) & 0x7fffffff;
}

EXPORT int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
	struct timespec k = esky_for_kernel(clock_of(cond), until);

	return REAL(pthread_cond_timedwait)(cond, mutex, &k);
}

EXPORT int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until)
{
	struct timespec k = esky_for_kernel(clock, until);

	return REAL(pthread_cond_clockwait)(cond, mutex, clock, &k);
}

EXPORT int sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *until)
{
	struct timespec k = esky_for_kernel(clock, until);

	return REAL(sem_clockwait)(sem, clock, &k);
}

EXPORT int pthread_rwlock_clockrdlock(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *until)
{
	struct timespec k = esky_for_kernel(clock, until);

	return REAL(pthread_rwlock_clockrdlock)(lock, clock, &k);
}

/* The clock of a POSIX timer is known to who made it. */
enum { timers = 256 };
static struct {
	timer_t id;
	clockid_t clock;
} made[timers];
static unsigned next;

EXPORT int timer_create(clockid_t clock, struct sigevent *event, timer_t *id)
{
	int ret = REAL(timer_create)(clock, event, id);
	unsigned i;

	if (ret == 0 && shift_of(clock) == 0 && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME)
		clock = CLOCK_REALTIME;
	if (ret == 0) {
		i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % timers;
		made[i].id = *id;
		made[i].clock = clock;
	}
	return ret;
}

EXPORT int timer_settime(timer_t id, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	struct itimerspec k;
	unsigned i, n = __atomic_load_n(&next, __ATOMIC_RELAXED);

	if (!(flags & TIMER_ABSTIME) || !new || (new->it_value.tv_sec == 0 && new->it_value.tv_nsec == 0))
		return REAL(timer_settime)(id, flags, new, old);
	k = *new;
	for (i = n; i-- > 0 && n - i <= timers;) /* the newest of that number */
		if (made[i % timers].id == id) {
			k.it_value = esky_for_kernel(made[i % timers].clock, &new->it_value);
			if (k.it_value.tv_sec == 0 && k.it_value.tv_nsec == 0)
				k.it_value.tv_nsec = 1; /* passed; zero would disarm it */
			break;
		}
	return REAL(timer_settime)(id, flags, &k, old);
}

/* The clock of a timerfd: "clockid: N" in its fdinfo (proc(5)). */
static clockid_t clock_of_fd(int fd)
{
	char path[] = "/proc/self/fdinfo/0000000000", buf[512];
	static const char want[] = "clockid: ";
	long n, i, j, f;
	int digits = 1, v;

	for (v = fd; v >= 10; v /= 10)
		digits++;
	i = (long)sizeof "/proc/self/fdinfo/" - 1 + digits;
	path[i] = 0;
	for (v = fd; digits-- > 0; v /= 10)
		path[--i] = (char)('0' + v % 10);
	f = esky_sys(SYS_openat, -100, (long)path, 02000000, 0, 0, 0);
	if (f < 0)
		return CLOCK_REALTIME;
	n = esky_sys(SYS_read, f, (long)buf, sizeof buf - 1, 0, 0, 0);
	esky_sys(SYS_close, f, 0, 0, 0, 0, 0);
	for (i = 0; i < n; i++) {
		for (j = 0; want[j] && i + j < n && buf[i + j] == want[j]; j++)
			;
		if (!want[j] && i + j < n)
			return buf[i + j] - '0';
	}
	return CLOCK_REALTIME;
}

EXPORT int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	struct itimerspec k;

	if (!(flags & TFD_TIMER_ABSTIME) || !new || (esky_ids.monotonic == 0 && esky_ids.boottime == 0) ||
	    (new->it_value.tv_sec == 0 && new->it_value.tv_nsec == 0))
		return REAL(timerfd_settime)(fd, flags, new, old);
	k = *new;
	k.it_value = esky_for_kernel(clock_of_fd(fd), &new->it_value);
	if (k.it_value.tv_sec == 0 && k.it_value.tv_nsec == 0)
		k.it_value.tv_nsec = 1;
	return REAL(timerfd_settime)(fd, flags, &k, old);
}
