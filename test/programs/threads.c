// SPDX-License-Identifier: Apache-2.0
// 64 threads with what each has of its own: tid, thread-local storage, name,
// signal mask, alternate stack, list of robust mutexes, the word that the
// kernel clears at its end; waiting in mutexes, condition variables, barriers.
#include "testlib.h"
#include <pthread.h>

#define N 64

struct robust {
	void *head;
	size_t len;
};

struct own {
	pid_t tid;
	char name[16];
	sigset_t mask;
	stack_t alt;
	struct robust robust;
};

static __thread uint64_t tls[32];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, robust;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static int waiting, go;

static void look(struct own *o)
{
	memset(o, 0, sizeof *o);
	o->tid = (pid_t)syscall(SYS_gettid);
	prctl(PR_GET_NAME, o->name);
	pthread_sigmask(SIG_BLOCK, NULL, &o->mask);
	sigaltstack(NULL, &o->alt);
	SYS(syscall(SYS_get_robust_list, 0, &o->robust.head, &o->robust.len));
}

static void set_up(long i)
{
	stack_t alt = { .ss_sp = malloc(65536), .ss_size = 65536 };
	sigset_t mask;
	char name[16];

	pattern(tls, sizeof tls, (uint64_t)i);
	snprintf(name, sizeof name, "thread %ld", i);
	prctl(PR_SET_NAME, name);
	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN + 1 + (int)i % 20);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	sigaltstack(&alt, NULL);
}

static void *thread(void *arg)
{
	long i = (long)arg;
	struct own was, is;

	set_up(i);
	look(&was);
	pthread_mutex_lock(&lock);
	waiting++;
	while (!go)
		pthread_cond_wait(&cond, &lock);
	waiting--;
	pthread_mutex_unlock(&lock);
	look(&is);
	SAME("thread-local storage", tls, sizeof tls, (uint64_t)i);
	EQ("tid", is.tid, was.tid);
	CHECK(!strcmp(is.name, was.name), "thread name is %s, was %s", is.name, was.name);
	CHECK(!memcmp(&is.mask, &was.mask, 8), "the signal mask of thread %ld differs", i);
	CHECK(is.alt.ss_sp == was.alt.ss_sp && is.alt.ss_size == was.alt.ss_size && is.alt.ss_flags == was.alt.ss_flags,
	      "the alternate stack of thread %ld differs", i);
	CHECK(is.robust.head == was.robust.head && is.robust.len == was.robust.len, "the robust list of thread %ld differs", i);
	pthread_barrier_wait(&barrier);
	return (void *)(i * 3 + 1);
}

// Holds the robust mutex and ends with it.
static void *holder(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&robust);
	pthread_mutex_lock(&lock);
	waiting++;
	while (!go)
		pthread_cond_wait(&cond, &lock);
	waiting--;
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void wait_for_all(void)
{
	for (int n = 0; n != N + 1; nap(5)) {
		pthread_mutex_lock(&lock);
		n = waiting;
		pthread_mutex_unlock(&lock);
	}
}

int main(int argc, char **argv)
{
	pthread_t t[N], h;
	pthread_mutexattr_t attr;
	void *ret;

	begin(argc, argv);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &attr);
	pthread_barrier_init(&barrier, NULL, N);
	for (long i = 0; i < N; i++)
		EQ("pthread_create", pthread_create(&t[i], NULL, thread, (void *)i), 0);
	EQ("pthread_create", pthread_create(&h, NULL, holder, NULL), 0);
	wait_for_all();
	EQ("robust mutex is held", pthread_mutex_trylock(&robust), EBUSY);
	ready_and_await();
	EQ("robust mutex is still held", pthread_mutex_trylock(&robust), EBUSY);
	pthread_mutex_lock(&lock);
	EQ("threads that wait", waiting, N + 1);
	go = 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	for (long i = 0; i < N; i++) {
		EQ("pthread_join", pthread_join(t[i], &ret), 0);
		EQ("what a thread returned", (long)ret, i * 3 + 1);
	}
	EQ("pthread_join", pthread_join(h, NULL), 0);
	EQ("robust mutex of a dead owner", pthread_mutex_lock(&robust), EOWNERDEAD);
	pass();
}
