/* SPDX-License-Identifier: Apache-2.0 */
/*
 * esky_abi.h: the words that libesky.so and the tracer share.
 *
 * The library lives inside a process of the job; the tracer and the monitor
 * live outside it, as the same user, and reach these words through
 * process_vm_readv(2) and process_vm_writev(2). Nothing else connects the two:
 * no file descriptor, no shared memory, so nothing of ours is in the job's way.
 *
 * The struct is one page of its own (symbol esky_state), little endian, and
 * only grows at its end; abi goes up when the meaning of a word changes.
 * shim/state.go mirrors it, and a test compares the two.
 *
 * fork(2) copies the page. Words that only hold for the process that wrote
 * them therefore carry its pid in their upper half (pid in the innermost pid
 * namespace): where that is not the pid of the process looked at, the word is
 * a left-over of its parent and means 0. After execve(2) the page is new.
 *
 *   word        written by   meaning
 *   generation  restore      times this process was resumed
 *   hold        library      pid<<32 | number of critical sections open
 *   waiting     tracer       1: a checkpoint waits for hold to become 0
 *   request     library      counts calls of esky_checkpoint()
 *   taken       monitor      requests that it knows of (a sign of life)
 *   published   monitor      requests that are done
 *   result      monitor      0, or -1 when the last of them was refused
 *   service     library      pid<<32 | tid of the service thread, 0: none
 *   ask         tracer       counts the checkpoints that callbacks are run for
 *   phase       library      ESKY_IDLE, ESKY_BEFORE, ESKY_READY, ESKY_AFTER
 *   verdict     tracer       ESKY_UNDECIDED, ESKY_GOES_ON, ESKY_RESUMED
 *   callbacks   library      number of callbacks registered
 *
 * Critical sections. With every thread stopped the tracer reads hold. When
 * it is of this process and its lower half is not 0, it lets all threads go,
 * writes waiting = 1, and tries again a little later, up to a limit of its
 * own; at the end it writes waiting = 0. While waiting is 1 a thread that
 * leaves the last critical section waits up to ESKY_YIELD_MS for the tracer,
 * so a program that enters one after the other cannot keep it out for ever.
 *
 * esky_checkpoint(). The library adds 1 to request, queues SIGRTMAX-3 with
 * the new number as its value to pid 1 of the namespace, and waits until
 * published has reached that number. When pid 1 tells the monitor, the
 * monitor writes taken = request: without that or the end of the wait within
 * ESKY_TAKEN_MS the call gives up. While all is stopped the tracer notes R =
 * request; when the image is published (or refused) the monitor writes
 * result, then published = R. A restore writes result = 0, published =
 * request and generation + 1 before the process runs on: it is by generation
 * that the call tells its caller which of the two it is.
 *
 * Callbacks. Where service is of this process and phase is ESKY_IDLE, then
 * before it stops anything the tracer
 *   1. writes verdict = ESKY_UNDECIDED, then ask = ask + 1;
 *   2. sends SIGRTMAX-2 to that thread by tgkill(2) (the library waits for it
 *      in rt_sigtimedwait(2), so it interrupts no one);
 *   3. polls phase until it is ESKY_READY, up to a limit of its own. The
 *      thread writes ESKY_BEFORE, runs the `before` functions in the order in
 *      which they were registered, then writes ESKY_READY;
 *   4. stops, saves;
 *   5. writes verdict = ESKY_GOES_ON before it lets the process go on, or when
 *      it gives up at any point after 1. A restore writes ESKY_RESUMED.
 *      No signal is needed: in ESKY_READY the thread looks every few ms.
 * The thread then writes ESKY_AFTER, runs the `after` functions in reverse
 * order, and writes ESKY_IDLE. A tracer that finds ESKY_READY with verdict
 * ESKY_UNDECIDED (the one before it died) goes on with step 4; in any other
 * phase it waits for one of the two.
 */
#ifndef ESKY_ABI_H
#define ESKY_ABI_H

#include <stdint.h>

#define ESKY_MAGIC "eskyshm1"
#define ESKY_ABI 1

/* SIGRTMAX is 64 in the kernel; libc's SIGRTMAX is the same number. */
#define ESKY_SIG_SERVICE 62 /* SIGRTMAX-2, tracer to the service thread */
#define ESKY_SIG_REQUEST 61 /* SIGRTMAX-3, library to pid 1 */

#define ESKY_IDLE 0
#define ESKY_BEFORE 1
#define ESKY_READY 2
#define ESKY_AFTER 3

#define ESKY_UNDECIDED 0
#define ESKY_GOES_ON 1
#define ESKY_RESUMED 2

#define ESKY_YIELD_MS 100
#define ESKY_TAKEN_MS 300000

#define ESKY_PAGE 4096
#define ESKY_AREA_SIZE (128 * 1024)

struct esky_state {
	char magic[8];       /*  0 ESKY_MAGIC, without a final NUL */
	uint32_t abi;        /*  8 ESKY_ABI */
	uint32_t generation; /* 12 */
	uint64_t hold;       /* 16 */
	uint32_t waiting;    /* 24 */
	uint32_t request;    /* 28 */
	uint32_t taken;      /* 32 */
	uint32_t published;  /* 36 */
	int32_t result;      /* 40 */
	uint32_t callbacks;  /* 44 */
	uint64_t service;    /* 48 */
	uint32_t ask;        /* 56 */
	uint32_t phase;      /* 60 */
	uint32_t verdict;    /* 64 */
	uint32_t reserved;   /* 68 */
};

/* One system call of a batch; see src/stub_amd64.S. */
struct esky_record {
	int64_t nr;     /*  0 */
	int64_t arg[6]; /*  8 */
	int64_t result; /* 56 */
};

#endif
