/* SPDX-License-Identifier: Apache-2.0 */
/*
 * esky.h: what a program can say to esky.
 *
 * A program needs none of this to be checkpointed and resumed. One that
 * includes this header still runs where there is no esky: nothing is linked
 * in, the functions are weak symbols that libesky.so (preloaded into every
 * job) provides, and the inline functions below do the right thing without.
 *
 *     #include <esky.h>
 *
 *     esky_critical_begin();          // a transaction with the outside world
 *     …
 *     esky_critical_end();
 *
 *     if (esky_checkpoint_now() == 1)
 *             puts("this is the resumed process");
 *
 * None of the functions changes errno. All but esky_on_checkpoint() may be
 * called from any thread and from a signal handler.
 */
#ifndef ESKY_H
#define ESKY_H

#ifdef __cplusplus
extern "C" {
#endif

#define ESKY_API __attribute__((__weak__, __visibility__("default")))

/*
 * esky_checkpoint asks for a checkpoint of the whole job and waits for it.
 *  0  the image is published and this process runs on
 *  1  this process was resumed from an image taken during the call
 * -1  there is none: the job does not run under esky, or esky refused (its
 *     log says why)
 */
ESKY_API int esky_checkpoint(void);

/*
 * Between esky_hold and esky_release no checkpoint is taken. The two nest, and
 * count for the process: a section may be entered by one thread and left by
 * another. Keep it short: after a time (see `esky-wrap run --help`) the
 * checkpoint is given up, or the job ends without one. A child of fork(2)
 * starts outside any section.
 */
ESKY_API void esky_hold(void);
ESKY_API void esky_release(void);

/* esky_generation: how many times this process has been resumed. */
ESKY_API unsigned esky_generation(void);

/*
 * esky_on_checkpoint has `before` called ahead of each checkpoint, and `after`
 * when it is over: resumed is 1 in a process resumed from it, 0 in the one
 * that goes on. Either may be NULL. They run one after the other in a thread
 * of the library's own, with all signals blocked, while the threads of the
 * program run on; `after` in reverse order. They must not call esky_checkpoint.
 * Returns 0, or -1 when there is no room (16), or the program has no threads
 * (glibc before 2.34 without libpthread). A child of fork(2) has no callbacks
 * until it registers its own. The thread keeps the process alive if main()
 * ends by pthread_exit(3).
 */
ESKY_API int esky_on_checkpoint(void (*before)(void *arg),
				 void (*after)(void *arg, int resumed),
				 void *arg);

/*
 * The same for programs that also run without esky. A program that is not
 * position-independent (-fno-pie) must use these and not the functions: its
 * linker settles a weak symbol that nobody defines as 0 once and for all,
 * unless its address is asked for through the global offset table.
 */
#if defined(__x86_64__) && !defined(__PIC__) && !defined(__PIE__)
#define ESKY_FIND(fn, pointer)                                   \
	__asm__(".weak " #fn "\n\tmovq " #fn "@GOTPCREL(%%rip), %0" \
		: "=r"(pointer))
#else
#define ESKY_FIND(fn, pointer) ((pointer) = fn)
#endif

static inline int esky_available(void)
{
	int (*fn)(void);

	ESKY_FIND(esky_checkpoint, fn);
	return fn != 0;
}

static inline int esky_checkpoint_now(void)
{
	int (*fn)(void);

	ESKY_FIND(esky_checkpoint, fn);
	return fn ? fn() : -1;
}

static inline void esky_critical_begin(void)
{
	void (*fn)(void);

	ESKY_FIND(esky_hold, fn);
	if (fn)
		fn();
}

static inline void esky_critical_end(void)
{
	void (*fn)(void);

	ESKY_FIND(esky_release, fn);
	if (fn)
		fn();
}

static inline unsigned esky_times_resumed(void)
{
	unsigned (*fn)(void);

	ESKY_FIND(esky_generation, fn);
	return fn ? fn() : 0;
}

static inline int esky_callbacks(void (*before)(void *),
				 void (*after)(void *, int), void *arg)
{
	int (*fn)(void (*)(void *), void (*)(void *, int), void *);

	ESKY_FIND(esky_on_checkpoint, fn);
	return fn ? fn(before, after, arg) : -1;
}

#ifdef __cplusplus
}
#endif

#endif
