// SPDX-License-Identifier: Apache-2.0
// Restartable sequences stay registered at their place in every thread: the
// kernel goes on telling there on which CPU the thread runs.
#include "testlib.h"
#include <pthread.h>
#include <sched.h>
#ifdef __GLIBC__
#if __GLIBC_PREREQ(2, 35)
#include <sys/rseq.h>
#define LIBC_HAS_RSEQ 1
#endif
#endif

#define SIGNATURE 0x53053053

struct area { // struct rseq of the kernel
	uint32_t cpu_id_start, cpu_id;
	uint64_t cs;
	uint32_t flags, node, mm_cid, pad;
} __attribute__((aligned(32)));

static volatile int set_up;

static int rseq(volatile struct area *a, int flags)
{
	return (int)syscall(SYS_rseq, a, 32, flags, SIGNATURE);
}

// The thread's area: libc's, or one of our own where libc has none.
static volatile struct area *find(void)
{
	static __thread struct area own;

#ifdef LIBC_HAS_RSEQ
	if (__rseq_size)
		return (struct area *)((char *)__builtin_thread_pointer() + __rseq_offset);
#endif
	SYS(rseq(&own, 0));
	return &own;
}

static void *thread(void *arg)
{
	volatile struct area *a = find();
	cpu_set_t all, one;

	(void)arg;
	SYS(sched_getaffinity(0, sizeof all, &all));
	__atomic_add_fetch(&set_up, 1, __ATOMIC_SEQ_CST);
	await();
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		SYS(sched_setaffinity(0, sizeof one, &one));
		EQ("CPU in the rseq area", a->cpu_id, i);
	}
	EQ("register it again", rseq(a, 0), -1);
	EQ("error", errno, EBUSY); // EINVAL: another area is registered, EPERM: another signature
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[3];

	begin(argc, argv);
	for (int i = 0; i < 3; i++)
		EQ("pthread_create", pthread_create(&t[i], NULL, thread, NULL), 0);
	while (set_up < 3)
		nap(2);
	ready();
	thread(NULL);
	for (int i = 0; i < 3; i++)
		EQ("pthread_join", pthread_join(t[i], NULL), 0);
	pass();
}
