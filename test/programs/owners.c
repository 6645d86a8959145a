// SPDX-License-Identifier: Apache-2.0
// Locks that know who has them, held by main and by a thread; and functions that
// find a thread by what libc knows of it.
#include "testlib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <threads.h>

static pthread_mutex_t recursive, checking, inheriting;
static pthread_rwlock_t writers = PTHREAD_RWLOCK_INITIALIZER;
static mtx_t c11;
static volatile int go, got, signalled;

static void mutex(pthread_mutex_t *m, int type, int protocol)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, type);
	pthread_mutexattr_setprotocol(&attr, protocol);
	EQ("mutex", pthread_mutex_init(m, &attr), 0);
}

static void lock_all(void)
{
	EQ("lock", pthread_mutex_lock(&recursive), 0);
	EQ("lock", pthread_mutex_trylock(&recursive), 0);
	EQ("lock", pthread_mutex_lock(&checking), 0);
	EQ("lock", pthread_mutex_lock(&inheriting), 0);
	EQ("lock", pthread_rwlock_wrlock(&writers), 0);
	EQ("lock", mtx_lock(&c11), thrd_success);
	EQ("lock", mtx_trylock(&c11), thrd_success);
}

// Is it still the owner who has them?
static void unlock_all(void)
{
	EQ("lock again", pthread_mutex_lock(&recursive), 0);
	EQ("lock twice", pthread_mutex_lock(&checking), EDEADLK);
#ifdef __GLIBC__ // musl's has no owner
	EQ("lock twice", pthread_rwlock_wrlock(&writers), EDEADLK);
#endif
	for (int i = 0; i < 3; i++)
		EQ("unlock the recursive one", pthread_mutex_unlock(&recursive), 0);
	EQ("unlock it too often", pthread_mutex_unlock(&recursive), EPERM);
	EQ("unlock the checking one", pthread_mutex_unlock(&checking), 0);
	EQ("unlock the inheriting one", pthread_mutex_unlock(&inheriting), 0);
	EQ("unlock the rwlock", pthread_rwlock_unlock(&writers), 0);
	EQ("unlock the one of C11", mtx_unlock(&c11), thrd_success);
	EQ("unlock the one of C11", mtx_unlock(&c11), thrd_success);
}

static void must_be_free(void)
{
	EQ("trylock", pthread_mutex_trylock(&recursive), 0);
	EQ("trylock", pthread_mutex_trylock(&checking), 0);
	EQ("trylock", pthread_mutex_trylock(&inheriting), 0);
	EQ("trylock", pthread_rwlock_trywrlock(&writers), 0);
	EQ("trylock", mtx_trylock(&c11), thrd_success);
}

static void must_be_held(void)
{
	EQ("trylock", pthread_mutex_trylock(&recursive), EBUSY);
	EQ("trylock", pthread_mutex_trylock(&checking), EBUSY);
	EQ("trylock", pthread_mutex_trylock(&inheriting), EBUSY);
	EQ("trylock", pthread_rwlock_trywrlock(&writers), EBUSY);
	EQ("unlock what another has", pthread_mutex_unlock(&checking), EPERM);
	EQ("trylock", mtx_trylock(&c11), thrd_busy);
}

static void hit(int sig UNUSED) { signalled = (int)syscall(SYS_gettid); }

static void *thread(void *tid)
{
	*(volatile int *)tid = (int)syscall(SYS_gettid);
	lock_all();
	got = 1;
	while (!go)
		nap(2);
	unlock_all();
	while (go < 2)
		nap(2);
	for (;;)
		pause();
	return NULL;
}

static void until(const char *what, volatile int *n, int value)
{
	for (int64_t end = ms() + 10000; *n != value; nap(2))
		CHECK(ms() < end, "%s: is %d, waited for %d", what, *n, value);
}

static void locks(void)
{
	struct sigaction hitting = { .sa_handler = hit };
	struct sched_param param;
	volatile int tid = 0;
	cpu_set_t cpus;
	char name[16];
	pthread_t t;
	void *ret;
	int policy;

	signals_expected = 1;
	mutex(&recursive, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE);
	mutex(&checking, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE);
	mutex(&inheriting, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_INHERIT);
	EQ("mutex", mtx_init(&c11, mtx_timed | mtx_recursive), thrd_success);
	sigaction(SIGUSR1, &hitting, NULL);
	EQ("thread", pthread_create(&t, NULL, thread, (void *)&tid), 0);
	until("the thread has all locks", &got, 1);
	ready_and_await();
	must_be_held();
	go = 1;
	for (int64_t end = ms() + 10000; pthread_mutex_trylock(&inheriting) != 0; nap(2))
		CHECK(ms() < end, "the thread does not give up its locks");
	EQ("unlock", pthread_mutex_unlock(&inheriting), 0);
	for (int64_t end = ms() + 10000; mtx_trylock(&c11) != thrd_success; nap(2))
		CHECK(ms() < end, "the thread does not give up its locks");
	mtx_unlock(&c11);
	must_be_free();
	go = 2;
	EQ("pthread_kill", pthread_kill(t, SIGUSR1), 0);
	until("the signal comes to the thread", &signalled, tid);
	EQ("pthread_getschedparam", pthread_getschedparam(t, &policy, &param), 0);
	EQ("pthread_getaffinity_np", pthread_getaffinity_np(t, sizeof cpus, &cpus), 0);
	EQ("pthread_setname_np", pthread_setname_np(t, "renamed"), 0);
	EQ("pthread_getname_np", pthread_getname_np(t, name, sizeof name), 0);
	CHECK(!strcmp(name, "renamed"), "the thread is called %s", name);
	EQ("pthread_cancel", pthread_cancel(t), 0);
	EQ("pthread_join", pthread_join(t, &ret), 0);
	CHECK(ret == PTHREAD_CANCELED, "the thread was not cancelled");
}

#ifndef STATIC
// What opens a FIFO as a library waits for its other end with the loader's lock.
static void *loads(void *arg UNUSED)
{
	got = 1;
	CHECK(!dlopen(path(".fifo"), RTLD_NOW), "a FIFO was loaded");
	got = 2;
	return NULL;
}

static void *loads_nothing(void *arg UNUSED)
{
	CHECK(!dlopen(path(".none"), RTLD_NOW), "what is not there was loaded");
	got = 3;
	return NULL;
}

static void loading(void)
{
	pthread_t t;
	int fd;

	SYS(mkfifo(path(".fifo"), 0600));
	EQ("thread", pthread_create(&t, NULL, loads, NULL), 0);
	until("the thread loads", &got, 1);
	nap(100);
	ready_and_await();
	EQ("what the thread does", got, 1);
	fd = SYS(open(path(".fifo"), O_WRONLY));
	close(fd);
	until("the thread has tried to load", &got, 2);
	pthread_join(t, NULL);
	CHECK(dlopen(NULL, RTLD_NOW), "dlopen: %s", dlerror());
	EQ("a thread that loads", pthread_create(&t, NULL, loads_nothing, NULL), 0);
	until("it has tried", &got, 3);
}

#endif

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "locks", locks },
#ifndef STATIC
		{ "loading", loading },
#endif
		{ NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
