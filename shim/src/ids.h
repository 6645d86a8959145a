/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids.h: the table of libesky-ids.so, and what its parts share.
 *
 * Where a job has no namespaces of its own, a resumed process has another pid for
 * the kernel (real) than the one that the program remembers (virtual), and the
 * kernel's clocks are those of another host. The table says which is which.
 * internal/ids writes it: into each process that is resumed, and into the file
 * $ESKY_IDS, which a program reads when it is started.
 *
 * It does not change while the job runs. New processes and threads keep the
 * number that the kernel gives them; esky_before_birth() sees to it that this is
 * none of the table.
 */
#ifndef ESKY_IDS_H
#define ESKY_IDS_H

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define ESKY_IDS_MAGIC 0x31736469 /* "ids1" */
#define ESKY_IDS_MOST 8192

#define ESKY_IDS_EXE 4096
#define ESKY_IDS_HELD 4096

struct esky_pair {
	int32_t virtual, real;
};

struct esky_ids {
	uint32_t magic;
	uint32_t count;
	int64_t init;      /* the job's init, which the job knows as 1 */
	int64_t monotonic; /* the job's clock less the kernel's, in ns */
	int64_t boottime;
	struct esky_pair pairs[2 * ESKY_IDS_MOST]; /* by virtual, then by real number */
};

extern struct esky_ids esky_ids;
extern char esky_exe[ESKY_IDS_EXE]; /* what /proc/self/exe led to before the resume, or "" */

int32_t esky_virtual(int32_t real);
int32_t esky_real(int32_t virtual);
void esky_before_birth(void);
const char *esky_program(const char *path); /* esky_exe for /proc/self/exe */
long esky_sys(long nr, long a, long b, long c, long d, long e, long f);
long esky_ret(long result); /* as libc: -1 and errno */
struct timespec esky_for_kernel(clockid_t clock, const struct timespec *until);

/* Bits of the word by which the tracer learns what a process has. */
#define ESKY_NEEDS_NUMBERS 1 /* owners of locks that nobody could find */
#define ESKY_NEEDS_SEMAPHORES 4 /* of System V */
#define ESKY_NEEDS_QUEUES 8	/* of System V */
#define ESKY_NEEDS_SEGMENTS 16	/* of System V */

extern volatile int32_t esky_needs;
static inline void esky_need(int32_t what) { __atomic_fetch_or(&esky_needs, what, __ATOMIC_RELAXED); }

/* A process group is a negative number in kill(2) and wait(2). */
static inline int32_t esky_real_signed(int32_t n)
{
	return n < -1 ? -esky_real(-n) : n > 0 ? esky_real(n) : n;
}

#define EXPORT __attribute__((visibility("default")))

/*
 * The function that a program would get without us. They are looked up at the start
 * (find_reals): dlsym(3) waits for who is in dlopen(3), which the program does not
 * expect of, say, nanosleep(2). Constructors of other libraries may come before.
 */
struct esky_next {
	const char *name;
	void **function;
};
#define REAL(f)                                                                      \
	({                                                                           \
		static __typeof__(&f) next;                                          \
		static const struct esky_next entry                                  \
			__attribute__((section("esky_next"), used)) = { #f, (void **)&next }; \
		if (!next)                                                           \
			*entry.function = dlsym(RTLD_NEXT, entry.name);              \
		next;                                                                \
	})

#endif
