/* SPDX-License-Identifier: Apache-2.0 */

/* Threads that are nearly always blocked, each in another system call:
 * nanosleep, epoll_wait, poll, select, futex (a condition variable), and read
 * of a pipe. The main thread sends each of them a token in turn and waits for
 * the answer, so that all orders are fixed. A call that fails, with EINTR for
 * one, ends up in the output, and so does a sleep that was too short. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

enum { EPOLL, POLL, SELECT, READ, PIPES, COND = PIPES, WORKERS };
static const char *const names[] = { "epoll_wait", "poll", "select", "read", "futex" };

static int in[PIPES][2], answer[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static uint64_t for_cond, naps;

static void trouble(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	fflush(stdout);
	exit(1);
}

static void block(int who, int epoll)
{
	struct pollfd p = { .fd = in[who % PIPES][0], .events = POLLIN };
	struct epoll_event e;
	fd_set set;

	switch (who) {
	case EPOLL:
		if (epoll_wait(epoll, &e, 1, -1) != 1)
			trouble("epoll_wait");
		break;
	case POLL:
		if (poll(&p, 1, 100000) != 1)
			trouble("poll");
		break;
	case SELECT:
		FD_ZERO(&set);
		FD_SET(p.fd, &set);
		if (select(p.fd + 1, &set, 0, 0, 0) != 1)
			trouble("select");
		break;
	}
}

static uint64_t take(int who, int epoll)
{
	uint64_t token;

	if (who == COND) {
		pthread_mutex_lock(&lock);
		while (for_cond == 0)
			pthread_cond_wait(&cond, &lock);
		token = for_cond;
		for_cond = 0;
		pthread_mutex_unlock(&lock);
		return token;
	}
	block(who, epoll);
	if (read(in[who][0], &token, sizeof token) != sizeof token)
		trouble("read");
	return token;
}

static void *worker(void *arg)
{
	int who = (int)(intptr_t)arg, epoll = -1;
	uint64_t state = who + 1;

	if (who == EPOLL) {
		struct epoll_event e = { .events = EPOLLIN };

		epoll = epoll_create1(0);
		if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, in[EPOLL][0], &e) != 0)
			trouble("epoll_ctl");
	}
	for (;;) {
		state = (state ^ take(who, epoll)) * 0x9e3779b97f4a7c15u;
		if (write(answer[1], &state, sizeof state) != sizeof state)
			trouble("write");
	}
	return 0;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *napper(void *unused)
{
	for (;;) {
		double start = now();
		struct timespec nap = { 0, 150000000 };

		if (nanosleep(&nap, 0) != 0)
			trouble("nanosleep");
		if (now() - start < 0.15)
			trouble("nanosleep was too short");
		__atomic_add_fetch(&naps, 1, __ATOMIC_SEQ_CST);
	}
	return unused;
}

static void hand(int who, uint64_t token)
{
	if (who == COND) {
		pthread_mutex_lock(&lock);
		for_cond = token;
		pthread_cond_signal(&cond);
		pthread_mutex_unlock(&lock);
	} else if (write(in[who][1], &token, sizeof token) != sizeof token) {
		trouble("write");
	}
}

int main(int argc, char **argv)
{
	int lines = argc > 1 ? atoi(argv[1]) : 200;
	pthread_t t;

	for (int i = 0; i < PIPES; i++)
		if (pipe(in[i]) != 0)
			trouble("pipe");
	if (pipe(answer) != 0)
		trouble("pipe");
	for (intptr_t i = 0; i < WORKERS; i++)
		pthread_create(&t, 0, worker, (void *)i);
	pthread_create(&t, 0, napper, 0);
	for (int n = 0; n < lines; n++) {
		uint64_t reply;
		struct timespec nap = { 0, 15000000 };

		nanosleep(&nap, 0);
		hand(n % WORKERS, n + 1);
		if (read(answer[0], &reply, sizeof reply) != sizeof reply)
			trouble("read");
		printf("%d %s %016llx\n", n, names[n % WORKERS], (unsigned long long)reply);
		fflush(stdout);
	}
	if (__atomic_load_n(&naps, __ATOMIC_SEQ_CST) == 0)
		trouble("the napper never woke");
	return 0;
}
