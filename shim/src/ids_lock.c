/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids_lock.c: notes where libc keeps numbers of threads that own locks. The kernel
 * reads them (robust and priority-inheriting mutexes), and so does libc
 * (error-checking and recursive ones, writers of rwlocks): a resume writes the new
 * numbers there (restore/tids.go). Mutexes of the usual kind have none that counts,
 * and cost nothing here.
 */
#define _GNU_SOURCE
#include "ids.h"

#include <threads.h>

extern const char *gnu_get_libc_version(void) __attribute__((weak));

/*
 * The words that may have the number of an owner: those of locks that are held or
 * waited for, each as often as it is. Which is where a word stands at first follows
 * from its address, so threads seldom meet. Who dies with a lock leaves it here.
 */
volatile uintptr_t esky_held[ESKY_IDS_HELD] __attribute__((used));

enum { window = 64 };

static volatile uintptr_t *slot(const void *word, unsigned i)
{
	return &esky_held[(((uintptr_t)word >> 3) * 11 + i) % ESKY_IDS_HELD];
}

/* Puts now in the place of was, which is the word or none. */
static int put(const void *word, uintptr_t was, uintptr_t now)
{
	unsigned i;

	for (i = 0; i < window; i++) {
		uintptr_t old = was;
		volatile uintptr_t *at = slot(word, i);

		if (*at == was && __atomic_compare_exchange_n(at, &old, now, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			return 1;
	}
	return 0;
}

/* What of a lock is to be noted. */
struct owners {
	int32_t *word[2];
};

/* glibc: the lock itself, which has the owner if the kernel knows the kind; count;
 * owner; users; kind. musl: kind; lock. */
static struct owners of_mutex(const void *mutex)
{
	enum { recursive = 1, errorcheck = 2, kinds = 3, robust = 16, inherits = 32, musl_kinds = 15 };
	int32_t *m = (int32_t *)mutex;
	struct owners o = { { 0, 0 } };

	if (!gnu_get_libc_version) {
		if (m[0] & musl_kinds)
			o.word[0] = m + 1;
		return o;
	}
	if (m[4] & (robust | inherits))
		o.word[1] = m;
	if (o.word[1] || (m[4] & kinds) == recursive || (m[4] & kinds) == errorcheck)
		o.word[0] = m + 2;
	return o;
}

/* glibc tells by the writer what is to be unlocked. */
static struct owners of_rwlock(const void *lock)
{
	enum { writer = 6 };
	struct owners o = { { gnu_get_libc_version ? (int32_t *)lock + writer : 0, 0 } };

	return o;
}

static void note(struct owners o)
{
	int i;

	for (i = 0; i < 2; i++)
		if (o.word[i] && !put(o.word[i], 0, (uintptr_t)o.word[i]))
			esky_need(ESKY_NEEDS_NUMBERS);
}

static void forget(struct owners o)
{
	int i;

	for (i = 0; i < 2; i++)
		if (o.word[i])
			put(o.word[i], (uintptr_t)o.word[i], 0);
}

/* Locking: noted before it can be held, for the resume may come in between. */
#define LOCKING(o, call)                          \
	({                                        \
		struct owners of = o;             \
		int ret;                          \
		note(of);                         \
		ret = call;                       \
		if (ret != 0 && ret != EOWNERDEAD) \
			forget(of);               \
		ret;                              \
	})

#define UNLOCKING(o, call)              \
	({                              \
		struct owners of = o;   \
		int ret = call;         \
		if (ret == 0)           \
			forget(of);     \
		ret;                    \
	})

EXPORT int pthread_mutex_lock(pthread_mutex_t *m) { return LOCKING(of_mutex(m), REAL(pthread_mutex_lock)(m)); }
EXPORT int pthread_mutex_trylock(pthread_mutex_t *m) { return LOCKING(of_mutex(m), REAL(pthread_mutex_trylock)(m)); }
EXPORT int pthread_mutex_unlock(pthread_mutex_t *m) { return UNLOCKING(of_mutex(m), REAL(pthread_mutex_unlock)(m)); }

EXPORT int pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *until)
{
	return LOCKING(of_mutex(m), REAL(pthread_mutex_timedlock)(m, until));
}

EXPORT int pthread_mutex_clocklock(pthread_mutex_t *m, clockid_t clock, const struct timespec *until)
{
	struct timespec k = esky_for_kernel(clock, until);

	return LOCKING(of_mutex(m), REAL(pthread_mutex_clocklock)(m, clock, &k));
}

EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *l) { return LOCKING(of_rwlock(l), REAL(pthread_rwlock_wrlock)(l)); }
EXPORT int pthread_rwlock_trywrlock(pthread_rwlock_t *l) { return LOCKING(of_rwlock(l), REAL(pthread_rwlock_trywrlock)(l)); }

EXPORT int pthread_rwlock_timedwrlock(pthread_rwlock_t *l, const struct timespec *until)
{
	return LOCKING(of_rwlock(l), REAL(pthread_rwlock_timedwrlock)(l, until));
}

EXPORT int pthread_rwlock_clockwrlock(pthread_rwlock_t *l, clockid_t clock, const struct timespec *until)
{
	struct timespec k = esky_for_kernel(clock, until);

	return LOCKING(of_rwlock(l), REAL(pthread_rwlock_clockwrlock)(l, clock, &k));
}

EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *l)
{
	struct owners o = of_rwlock(l);

	if (o.word[0] && *(volatile int32_t *)o.word[0] == 0)
		o.word[0] = 0; /* readers have it */
	return UNLOCKING(o, REAL(pthread_rwlock_unlock)(l));
}

/* Mutexes of C11 are those of POSIX, and only the recursive ones are of a kind. */
EXPORT int mtx_lock(mtx_t *m) { return LOCKING(of_mutex(m), REAL(mtx_lock)(m)); }
EXPORT int mtx_trylock(mtx_t *m) { return LOCKING(of_mutex(m), REAL(mtx_trylock)(m)); }
EXPORT int mtx_unlock(mtx_t *m) { return UNLOCKING(of_mutex(m), REAL(mtx_unlock)(m)); }

EXPORT int mtx_timedlock(mtx_t *m, const struct timespec *until)
{
	return LOCKING(of_mutex(m), REAL(mtx_timedlock)(m, until));
}
