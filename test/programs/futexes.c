// SPDX-License-Identifier: Apache-2.0
// Mutexes and conditions for which the kernel keeps something: a list of robust
// mutexes of each thread, the owner of a priority-inheriting one, waiters.
#include "testlib.h"

#include <pthread.h>
#include <stdatomic.h>

// What threads or processes share, at one place.
struct world {
	pthread_mutex_t robust, left, plain, pi;
	pthread_cond_t cond;
	pthread_barrier_t barrier;
	atomic_int told, got, waiting, word[2];
};

static struct world *w;

static void mutex(pthread_mutex_t *m, int robust, int protocol)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, robust);
	pthread_mutexattr_setprotocol(&attr, protocol);
	EQ("mutex", pthread_mutex_init(m, &attr), 0);
}

static void make_world(void)
{
	pthread_condattr_t cond;
	pthread_barrierattr_t barrier;

	w = shared(sizeof *w);
	mutex(&w->robust, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
	mutex(&w->left, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
	mutex(&w->plain, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
	mutex(&w->pi, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_INHERIT);
	pthread_condattr_init(&cond);
	pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
	EQ("cond", pthread_cond_init(&w->cond, &cond), 0);
	pthread_barrierattr_init(&barrier);
	pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED);
	EQ("barrier", pthread_barrier_init(&w->barrier, &barrier, 3), 0);
}

// until waits for a number to be reached, for ten seconds.
static void until(const char *what, atomic_int *n, int value)
{
	for (int64_t end = ms() + 10000; *n < value; nap(2))
		CHECK(ms() < end, "%s: is %d, waited for %d", what, *n, value);
}

static void *thread(void *(*f)(void *))
{
	pthread_t t;

	EQ("thread", pthread_create(&t, NULL, f, NULL), 0);
	return (void *)t;
}

// holds takes a robust mutex and dies with it when it is told to.
static void *holds(void *m)
{
	EQ("lock", pthread_mutex_lock(m), 0);
	w->got++;
	while (!w->told)
		nap(5);
	return NULL;
}

static void *holds_robust(void *arg UNUSED) { return holds(&w->robust); }
static void *holds_pi(void *arg UNUSED) { return holds(&w->pi); }

static void *dies_at_once(void *arg UNUSED)
{
	EQ("lock", pthread_mutex_lock(&w->left), 0);
	return NULL;
}

// owner_dead takes a mutex whose owner must have died.
static void owner_dead(const char *what, pthread_mutex_t *m)
{
	EQ(what, pthread_mutex_lock(m), EOWNERDEAD);
	EQ("consistent", pthread_mutex_consistent(m), 0);
	EQ("unlock", pthread_mutex_unlock(m), 0);
	EQ("lock again", pthread_mutex_lock(m), 0);
	EQ("unlock", pthread_mutex_unlock(m), 0);
}

static void robust(void)
{
	pid_t pid;
	int st;

	make_world();
	pthread_join((pthread_t)thread(dies_at_once), NULL);
	thread(holds_robust);
	pid = SYS(fork());
	if (pid == 0) {
		EQ("lock", pthread_mutex_lock(&w->plain), 0);
		EQ("unlock", pthread_mutex_unlock(&w->plain), 0);
		holds(&w->pi);
		_exit(9); // with the mutex
	}
	until("owners", &w->got, 2);
	ready_and_await();
	EQ("held by a thread that lives", pthread_mutex_trylock(&w->robust), EBUSY);
	EQ("held by a process that lives", pthread_mutex_trylock(&w->pi), EBUSY);
	owner_dead("died before", &w->left);
	w->told = 1;
	reap(pid, 9);
	owner_dead("died with its thread", &w->robust);
	owner_dead("died with its process", &w->pi);
	EQ("told", waitpid(-1, &st, 0), -1);
}

static void *wants_pi(void *arg UNUSED)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 600;
	w->waiting++;
	if (w->waiting % 2)
		EQ("lock", pthread_mutex_lock(&w->pi), 0);
	else
		EQ("timed lock", pthread_mutex_timedlock(&w->pi, &end), 0);
	w->got++;
	EQ("unlock", pthread_mutex_unlock(&w->pi), 0);
	return NULL;
}

// pi: three threads and a process wait for a mutex that main has.
static void pi(void)
{
	void *t[3];
	pid_t pid;

	make_world();
	EQ("lock", pthread_mutex_lock(&w->pi), 0);
	pid = SYS(fork());
	if (pid == 0) {
		wants_pi(NULL);
		_exit(3);
	}
	for (int i = 0; i < 3; i++)
		t[i] = thread(wants_pi);
	until("waiters", &w->waiting, 4);
	nap(100);
	ready_and_await();
	EQ("got it while it was taken", w->got, 0);
	EQ("held by main", pthread_mutex_trylock(&w->pi), EBUSY);
	EQ("unlock", pthread_mutex_unlock(&w->pi), 0);
	for (int i = 0; i < 3; i++)
		pthread_join((pthread_t)t[i], NULL);
	reap(pid, 3);
	EQ("got it", w->got, 4);
	EQ("lock", pthread_mutex_lock(&w->pi), 0);
}

// pi_owner: main waits for a mutex whose owner, a thread, dies with it.
static void *tells(void *arg UNUSED)
{
	await();
	w->told = 1;
	return NULL;
}

static void pi_owner(void)
{
	make_world();
	thread(holds_pi);
	until("owner", &w->got, 1);
	thread(tells);
	ready();
	owner_dead("died with its thread", &w->pi);
}

static void *barrier(void *arg UNUSED)
{
	w->waiting++;
	if (pthread_barrier_wait(&w->barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
		w->word[0]++;
	w->got++;
	return NULL;
}

static void *cond(void *arg UNUSED)
{
	EQ("lock", pthread_mutex_lock(&w->plain), 0);
	w->waiting++;
	while (!w->told)
		EQ("cond_wait", pthread_cond_wait(&w->cond, &w->plain), 0);
	w->got++;
	EQ("unlock", pthread_mutex_unlock(&w->plain), 0);
	return NULL;
}

// with runs f in a thread and in a process.
static pid_t with(void *(*f)(void *), void **t)
{
	pid_t pid = SYS(fork());

	if (pid == 0) {
		f(NULL);
		_exit(4);
	}
	*t = thread(f);
	until("waiters", &w->waiting, 2);
	nap(100);
	return pid;
}

static void process_shared(void)
{
	void *t, *u;
	pid_t c, b;

	make_world();
	c = with(cond, &t);
	w->waiting = 0;
	b = with(barrier, &u);
	ready_and_await();
	EQ("went on by themselves", w->got, 0);
	barrier(NULL);
	pthread_join((pthread_t)u, NULL);
	reap(b, 4);
	EQ("through the barrier", w->got, 3);
	EQ("serial threads", w->word[0], 1);
	EQ("lock", pthread_mutex_lock(&w->plain), 0);
	w->told = 1;
	EQ("broadcast", pthread_cond_broadcast(&w->cond), 0);
	EQ("unlock", pthread_mutex_unlock(&w->plain), 0);
	pthread_join((pthread_t)t, NULL);
	reap(c, 4);
	EQ("through the condition", w->got, 5);
}

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

// struct futex_waitv of futex2; the C library's headers may be older.
struct waiter {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};

static void *waitv(void *timed)
{
	struct waiter v[2];
	struct timespec end;

	memset(v, 0, sizeof v);
	for (int i = 0; i < 2; i++) {
		v[i].uaddr = (uint64_t)(uintptr_t)&w->word[i];
		v[i].flags = 2; // FUTEX_32, shared
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 600;
	w->waiting++;
	EQ("woken by", syscall(SYS_futex_waitv, v, 2, 0, timed ? &end : NULL, CLOCK_MONOTONIC), 1);
	w->got++;
	return NULL;
}

static void futex_waitv(void)
{
	pthread_t t[2];

	make_world();
	EQ("thread", pthread_create(&t[0], NULL, waitv, NULL), 0);
	EQ("thread", pthread_create(&t[1], NULL, waitv, w), 0);
	until("waiters", &w->waiting, 2);
	nap(100);
	ready_and_await();
	EQ("went on by themselves", w->got, 0);
	for (int64_t end = ms() + 10000; w->got < 2; nap(5)) {
		syscall(SYS_futex, &w->word[1], 1 /* FUTEX_WAKE */, 10, NULL, NULL, 0);
		CHECK(ms() < end, "%d of 2 were woken", w->got);
	}
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "robust", robust }, { "pi", pi }, { "pi-owner", pi_owner },
		{ "process-shared", process_shared }, { "waitv", futex_waitv }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
