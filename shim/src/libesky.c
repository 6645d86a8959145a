/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libesky.so: what is preloaded into every process of a job.
 *
 * It wraps nothing (libesky-ids.so does, where it is loaded too), has no constructor and needs no other library, so that it
 * costs nothing until it is called, and is the same file under glibc and musl.
 * It brings the stub and its record area, which the tracer uses, and the
 * functions of esky.h. The protocol between the two is told in esky_abi.h.
 */
#include "../esky.h"
#include "../esky_abi.h"

#if defined(__x86_64__)
#include "sys_amd64.h"
#else
#error "libesky: no system calls and no stub for this architecture yet"
#endif

#define NAP_US 2000
#define READY_US 5000
#define CALLBACKS 16

/* From libc where there is one; see environ(7) and pthread_create(3). */
extern char **__environ __attribute__((weak));
extern int pthread_create(unsigned long *, const void *, void *(*)(void *),
			  void *) __attribute__((weak));
extern const char *gnu_get_libc_version(void) __attribute__((weak));

/* From libesky-ids.so, which jobs without namespaces have. */
extern int32_t esky_virtual(int32_t real) __attribute__((weak));
extern int32_t esky_real(int32_t virtual) __attribute__((weak));

struct timespec64 {
	int64_t sec, nsec;
};

/* siginfo_t as rt_sigqueueinfo(2) takes it. */
struct siginfo_queue {
	int32_t signo, error, code, pad;
	int32_t pid;
	uint32_t uid;
	int64_t value;
	char rest[96];
};
_Static_assert(sizeof(struct siginfo_queue) == 128, "siginfo_t");

/*
 * The tracer writes both while the process is stopped: pages of their own, so
 * that nothing of the program's or of ours lies beside them.
 */
char esky_stub_area[ESKY_AREA_SIZE] __attribute__((aligned(ESKY_PAGE)));

static union {
	struct esky_state s;
	char page[ESKY_PAGE];
} esky_state __attribute__((aligned(ESKY_PAGE), used)) = {
	.s = { .magic = { 'e', 's', 'k', 'y', 's', 'h', 'm', '1' }, .abi = ESKY_ABI }
};

#define state (&esky_state.s)
#define load(p) __atomic_load_n(&(p), __ATOMIC_SEQ_CST)
#define store(p, v) __atomic_store_n(&(p), (v), __ATOMIC_SEQ_CST)

static struct {
	void (*before)(void *);
	void (*after)(void *, int);
	void *arg;
} callback[CALLBACKS];

static uint32_t registering; /* pid of the process whose thread registers */

/* A number as the program knows it: what it wrote before a resume holds on. */
static uint32_t known(long number)
{
	return (uint32_t)(esky_virtual ? esky_virtual((int32_t)number) : number);
}

static uint32_t getpid32(void)
{
	return known(sys4(SYS_getpid, 0, 0, 0, 0));
}

static uint32_t gettid32(void)
{
	return known(sys4(SYS_gettid, 0, 0, 0, 0));
}

/* The init of the job, for the kernel. */
static long init_pid(void)
{
	return esky_real ? esky_real(1) : 1;
}

static void nap(long us)
{
	struct timespec64 t = { us / 1000000, us % 1000000 * 1000 };

	sys4(SYS_nanosleep, (long)&t, 0, 0, 0);
}

static int64_t now_ms(void)
{
	struct timespec64 t = { 0, 0 };

	sys4(SYS_clock_gettime, 1 /* CLOCK_MONOTONIC */, (long)&t, 0, 0);
	return t.sec * 1000 + t.nsec / 1000000;
}

/* The lower half of a word that carries its owner's pid, 0 if not ours. */
static uint32_t owned(uint64_t word, uint32_t pid)
{
	return (uint32_t)(word >> 32) == pid ? (uint32_t)word : 0;
}

static uint64_t own(uint32_t pid, uint32_t low)
{
	return (uint64_t)pid << 32 | low;
}

/* Critical sections */

static uint32_t hold_change(int by)
{
	uint32_t pid = getpid32();
	uint64_t old = load(state->hold);
	uint32_t n;

	do {
		n = owned(old, pid);
		if (by < 0 && n == 0)
			return 1; /* released more often than held: nothing to do */
		n += (uint32_t)by;
	} while (!__atomic_compare_exchange_n(&state->hold, &old, own(pid, n), 0,
					      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return n;
}

void esky_hold(void)
{
	hold_change(1);
}

void esky_release(void)
{
	int64_t until;

	if (hold_change(-1) != 0 || !load(state->waiting))
		return;
	until = now_ms() + ESKY_YIELD_MS;
	while (load(state->waiting) && now_ms() < until)
		nap(NAP_US);
}

/* Do we run under esky? */

static int has_prefix(const char *s, const char *prefix)
{
	while (*prefix)
		if (*s++ != *prefix++)
			return 0;
	return 1;
}

static int job_in_environ(void)
{
	char **e = &__environ ? __environ : 0;

	for (; e && *e; e++)
		if (has_prefix(*e, "ESKY_JOB="))
			return 1;
	return 0;
}

/* What execve(2) gave, for programs that have cleared their environment. */
static int job_at_start(void)
{
	static const char want[] = "\0ESKY_JOB=";
	char buf[512];
	long i, n, at = 1; /* the file begins as if after a NUL */
	long fd = sys4(SYS_openat, -100 /* AT_FDCWD */, (long)"/proc/self/environ",
		       02000000 /* O_CLOEXEC */, 0);

	if (fd < 0)
		return 0;
	while (at < 10 && (n = sys4(SYS_read, fd, (long)buf, sizeof buf, 0)) > 0)
		for (i = 0; i < n && at < 10; i++)
			at = buf[i] == want[at] ? at + 1 : buf[i] == 0;
	sys4(SYS_close, fd, 0, 0, 0);
	return at == 10;
}

/*
 * A job lives in a pid namespace of its own. An environment that has travelled out
 * of one (sbatch, ssh) must not make us send signals to the init of a host, or of a
 * container, and wait for its answer. Where /proc shows another namespace than ours,
 * or hides pid 1, it tells nothing; but the first one always has this inode
 * (PROC_PID_INIT_INO).
 */
static int init_is_ours(void)
{
	char buf[32] = { 0 };
	long i, fd, pid = 0;

	sys4(SYS_readlink, (long)"/proc/self/ns/pid", (long)buf, sizeof buf - 1, 0);
	if (has_prefix(buf, "pid:[4026531836]"))
		return 0;
	for (i = 0; i < (long)sizeof buf; i++)
		((volatile char *)buf)[i] = 0;
	sys4(SYS_readlink, (long)"/proc/self", (long)buf, sizeof buf - 1, 0);
	for (i = 0; buf[i]; i++)
		pid = pid * 10 + buf[i] - '0';
	if (pid != sys4(SYS_getpid, 0, 0, 0, 0) ||
	    (fd = sys4(SYS_openat, -100, (long)"/proc/1/cmdline", 02000000 /* O_CLOEXEC */, 0)) < 0)
		return 1;
	sys4(SYS_read, fd, (long)buf, sizeof buf - 1, 0);
	sys4(SYS_close, fd, 0, 0, 0);
	return has_prefix(buf, "esky-init");
}

static int under_esky(void)
{
	return (job_in_environ() || job_at_start()) && (init_pid() != 1 || init_is_ours());
}

/* Asking for a checkpoint */

static long tell_init(uint32_t number)
{
	struct siginfo_queue info;
	char *p = (char *)&info;
	volatile char *end = p + sizeof info; /* volatile: no call of memset */

	while (p < end)
		*p++ = 0;
	info.signo = ESKY_SIG_REQUEST;
	info.code = -1; /* SI_QUEUE */
	info.pid = (int32_t)getpid32();
	info.uid = (uint32_t)sys4(SYS_getuid, 0, 0, 0, 0);
	info.value = number;
	return sys4(SYS_rt_sigqueueinfo, init_pid(), ESKY_SIG_REQUEST, (long)&info, 0);
}

/* Numbers wrap around, so compare by distance. */
static int reached(uint32_t counter, uint32_t number)
{
	return (int32_t)(counter - number) >= 0;
}

static int wait_published(uint32_t number)
{
	int64_t until = now_ms() + ESKY_TAKEN_MS;

	while (!reached(load(state->published), number)) {
		if (!reached(load(state->taken), number) && now_ms() > until)
			return 0;
		nap(NAP_US);
	}
	return 1;
}

int esky_checkpoint(void)
{
	uint32_t generation = load(state->generation);
	uint32_t tid = owned(load(state->service), getpid32());
	uint32_t number;
	int result;

	if (tid == gettid32() || !under_esky())
		return -1;
	number = __atomic_add_fetch(&state->request, 1, __ATOMIC_SEQ_CST);
	if (tell_init(number) != 0 || !wait_published(number))
		return -1;
	result = load(state->result);
	while (tid && load(state->phase) != ESKY_IDLE)
		nap(NAP_US); /* the callbacks belong to this checkpoint */
	if (load(state->generation) != generation)
		return 1;
	return result == 0 ? 0 : -1;
}

unsigned esky_generation(void)
{
	return load(state->generation);
}

/* Callbacks */

static void wait_service_signal(long us)
{
	uint64_t set = 1ull << (ESKY_SIG_SERVICE - 1);
	struct timespec64 t = { 0, us * 1000 };

	sys4(SYS_rt_sigtimedwait, (long)&set, 0, us ? (long)&t : 0, sizeof set);
}

static void run_callbacks(void)
{
	uint32_t i, verdict, n = load(state->callbacks);

	store(state->phase, ESKY_BEFORE);
	for (i = 0; i < n; i++)
		if (callback[i].before)
			callback[i].before(callback[i].arg);
	store(state->phase, ESKY_READY);
	while ((verdict = load(state->verdict)) == ESKY_UNDECIDED)
		wait_service_signal(READY_US);
	store(state->phase, ESKY_AFTER);
	for (i = n; i-- > 0;)
		if (callback[i].after)
			callback[i].after(callback[i].arg, verdict == ESKY_RESUMED);
	store(state->phase, ESKY_IDLE);
}

static void *serve(void *arg)
{
	uint32_t done = load(state->ask);

	(void)arg;
	store(state->service, own(getpid32(), gettid32()));
	for (;;) {
		wait_service_signal(0);
		if (load(state->ask) == done)
			continue;
		done = load(state->ask);
		run_callbacks();
	}
	return 0;
}

/*
 * Every signal is blocked in the thread, so that the program's handlers run in
 * its own threads, save those by which libc itself speaks to threads: 32 and
 * 33, and 34 in musl; glibc gives 34 to programs as SIGRTMIN.
 */
static int start_service(void)
{
	uint64_t old = 0, block = ~(3ull << 31);
	unsigned long thread;
	int err;

	if (!pthread_create)
		return -1;
	if (!gnu_get_libc_version)
		block &= ~(1ull << 33);
	sys4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&block, (long)&old, 8);
	err = pthread_create(&thread, 0, serve, 0);
	sys4(SYS_rt_sigprocmask, 2, (long)&old, 0, 8);
	if (err)
		return -1;
	while (!owned(load(state->service), getpid32()))
		nap(100);
	return 0;
}

/* After fork(2): forget the parent's thread and its callbacks. */
static int first_of_process(uint32_t pid)
{
	if (owned(load(state->service), pid))
		return 0;
	store(state->callbacks, 0);
	store(state->phase, ESKY_IDLE);
	store(state->verdict, ESKY_UNDECIDED);
	return 1;
}

static int register_callback(void (*before)(void *), void (*after)(void *, int),
			     void *arg, uint32_t pid)
{
	uint32_t n;

	if (first_of_process(pid) && start_service() != 0)
		return -1;
	n = load(state->callbacks);
	if (n == CALLBACKS)
		return -1;
	callback[n].before = before;
	callback[n].after = after;
	callback[n].arg = arg;
	store(state->callbacks, n + 1);
	return 0;
}

int esky_on_checkpoint(void (*before)(void *), void (*after)(void *, int),
		       void *arg)
{
	uint32_t pid = getpid32(), old;
	int ret;

	do { /* a lock that a parent held at fork(2) is nobody's */
		old = load(registering);
		if (old == pid)
			nap(100);
	} while (old == pid || !__atomic_compare_exchange_n(&registering, &old, pid, 0,
							    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	ret = register_callback(before, after, arg, pid);
	store(registering, 0);
	return ret;
}
