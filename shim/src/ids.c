/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libesky-ids.so: shows the processes of a job without namespaces the numbers and
 * clocks that they know (ids.h). It is preloaded into such jobs only.
 *
 * It stands between the program and libc, so what does not go by way of libc is
 * not translated: static programs, Go, vDSO and system calls of one's own; nor is
 * what libc does inside itself. The thread numbers that libc keeps in memory are the
 * real ones: a resume writes the new ones there, and into the locks that have copies
 * of them (ids_lock.c).
 */
#define _GNU_SOURCE
#include "ids.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

#include "spin.h"

struct esky_ids esky_ids __attribute__((aligned(64))); /* untouched memory costs nothing */

extern const char *gnu_get_libc_version(void) __attribute__((weak));
extern char **__environ __attribute__((weak));

/* Where the thread's number is, from its pthread_t, which is its %fs; 0: not known. */
volatile int64_t esky_tid_offset __attribute__((used));

long esky_sys(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

long esky_ret(long result)
{
	if (result < 0 && result > -4096) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

/* The first of n pairs, sorted by that member, whose number is not below want. */
static uint32_t search(const struct esky_pair *p, uint32_t n, int by_real, int32_t want)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if ((by_real ? p[mid].real : p[mid].virtual) < want)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

EXPORT int32_t esky_virtual(int32_t real)
{
	uint32_t n = esky_ids.count, i;

	if (esky_ids.init && real == esky_ids.init)
		return 1;
	if (n == 0)
		return real;
	i = search(esky_ids.pairs + n, n, 1, real);
	return i < n && esky_ids.pairs[n + i].real == real ? esky_ids.pairs[n + i].virtual : real;
}

EXPORT int32_t esky_real(int32_t virtual)
{
	uint32_t n = esky_ids.count, i;

	if (virtual == 1 && esky_ids.init)
		return (int32_t)esky_ids.init;
	if (n == 0)
		return virtual;
	i = search(esky_ids.pairs, n, 0, virtual);
	return i < n && esky_ids.pairs[i].virtual == virtual ? esky_ids.pairs[i].real : virtual;
}

/* The last number that the kernel gave, or -1. */
static int32_t last_number(void)
{
	char buf[16];
	int32_t v = 0;
	long i, n, fd = esky_sys(SYS_openat, -100 /* AT_FDCWD */, (long)"/proc/sys/kernel/ns_last_pid",
				 02000000 /* O_CLOEXEC */, 0, 0, 0);

	if (fd < 0)
		return -1;
	n = esky_sys(SYS_read, fd, (long)buf, sizeof buf, 0, 0, 0);
	esky_sys(SYS_close, fd, 0, 0, 0, 0, 0);
	for (i = 0; i < n && buf[i] >= '0' && buf[i] <= '9'; i++)
		v = v * 10 + buf[i] - '0';
	return i > 0 ? v : -1;
}

/* Is a number of the table among the next few? Others make processes, too. */
static int in_the_way(int32_t last)
{
	enum { few = 32 };
	const struct esky_pair *p = esky_ids.pairs;
	uint32_t n = esky_ids.count;
	uint32_t v = search(p, n, 0, last + 1), r = search(p + n, n, 1, last + 1);

	return (v < n && p[v].virtual <= last + few) || (r < n && p[n + r].real <= last + few);
}

/* Is called ahead of whatever makes a process or a thread. */
void esky_before_birth(void)
{
	int32_t last;
	uint64_t all = ~0ull, old;

	if (esky_ids.count == 0 || (last = last_number()) < 0 || !in_the_way(last))
		return;
	esky_sys(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&all, (long)&old, 8, 0, 0);
	while (last > 0 && in_the_way(last))
		last = (int32_t)esky_spin();
	esky_sys(SYS_rt_sigprocmask, 2, (long)&old, 0, 8, 0, 0);
}

/* musl keeps the number in the first words of its struct, glibc tells where. */
static void find_tid(void)
{
	char *self = (char *)pthread_self();
	int32_t tid = (int32_t)esky_sys(SYS_gettid, 0, 0, 0, 0, 0, 0);
	char *at = 0;
	long i;

	if (&gnu_get_libc_version && gnu_get_libc_version) {
		esky_sys(SYS_prctl, PR_GET_TID_ADDRESS, (long)&at, 0, 0, 0, 0);
		if (at > self && at < self + 4096)
			esky_tid_offset = at - self;
		return;
	}
	for (i = 0; i < 128; i += 4)
		if (*(int32_t *)(self + i) == tid) {
			esky_tid_offset = i;
			return;
		}
}

static const char *variable(const char *name)
{
	char **e = &__environ ? __environ : 0;
	long i;

	for (; e && *e; e++) {
		for (i = 0; name[i] && (*e)[i] == name[i]; i++)
			;
		if (!name[i])
			return *e + i;
	}
	return 0;
}

/* A program that a resumed job executes learns the table from the file. */
static void find_reals(void)
{
	extern const struct esky_next __start_esky_next[], __stop_esky_next[];

	for (const struct esky_next *n = __start_esky_next; n < __stop_esky_next; n++)
		*n->function = dlsym(RTLD_NEXT, n->name);
}

static void __attribute__((constructor)) begin(void)
{
	const char *path = variable("ESKY_IDS=");
	long fd, n, got = 0;

	find_reals();
	find_tid();
	/* Without a namespace of the user's own Yama allows only ancestors to trace. */
	esky_sys(SYS_prctl, PR_SET_PTRACER, -1, 0, 0, 0, 0);
	if (!path || (fd = esky_sys(SYS_openat, -100, (long)path, 02000000, 0, 0, 0)) < 0)
		return;
	while (got < (long)sizeof esky_ids &&
	       (n = esky_sys(SYS_read, fd, (long)&esky_ids + got, sizeof esky_ids - got, 0, 0, 0)) > 0)
		got += n;
	esky_sys(SYS_close, fd, 0, 0, 0, 0, 0);
	if (esky_ids.magic != ESKY_IDS_MAGIC || esky_ids.count > ESKY_IDS_MOST)
		esky_ids.count = 0, esky_ids.init = esky_ids.monotonic = esky_ids.boottime = 0;
}
