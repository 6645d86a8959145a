// SPDX-License-Identifier: Apache-2.0
/*
 * big has a great many of one thing, and looks after each of them when it is
 * told to stop.
 *
 * usage: big DIR tree|threads|descriptors|mappings|timers N
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *dir;

static void path(char *buf, const char *name) { snprintf(buf, 4096, "%s/%s", dir, name); }

static void fail(int line, const char *what)
{
	char name[4096], text[256];
	int n = snprintf(text, sizeof text, "line %d: %s: %s\n", line, what, strerror(errno));

	path(name, "fail");
	int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (write(fd, text, n) != n)
		abort();
	_exit(99);
}

#define check(cond) do { if (!(cond)) fail(__LINE__, #cond); } while (0)

static void ready(void)
{
	char name[4096];

	path(name, "ready");
	check(close(open(name, O_CREAT | O_WRONLY, 0644)) == 0);
}

static int told(void)
{
	char name[4096];
	struct stat st;

	path(name, "stop");
	return stat(name, &st) == 0;
}

static void nap(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	check(nanosleep(&t, NULL) == 0);
}

static void wait_until_told(void)
{
	while (!told())
		nap(20);
}

/* a tree of N processes, every one with children of its own kind */
struct shared {
	int alive;
	int stop;
};

static int branch(struct shared *sh, int n, pid_t parent)
{
	pid_t me = getpid(), left = 0, right = 0;
	int status, private = n * 7;

	__atomic_add_fetch(&sh->alive, 1, __ATOMIC_SEQ_CST);
	if (n > 1) {
		if ((left = fork()) == 0)
			_exit(branch(sh, n / 2, me));
		check(left > 0);
	}
	if (n > 2) {
		if ((right = fork()) == 0)
			_exit(branch(sh, n - 1 - n / 2, me));
		check(right > 0);
	}
	while (!__atomic_load_n(&sh->stop, __ATOMIC_SEQ_CST))
		nap(50);
	check(getpid() == me && private == n * 7);
	check(parent == 0 || getppid() == parent);
	if (left)
		check(waitpid(left, &status, 0) == left && WIFEXITED(status) && WEXITSTATUS(status) == (n / 2) % 100);
	if (right)
		check(waitpid(right, &status, 0) == right && WIFEXITED(status) && WEXITSTATUS(status) == (n - 1 - n / 2) % 100);
	check(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
	return n % 100;
}

static void tree(int n)
{
	struct shared *sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t top;

	check(sh != MAP_FAILED);
	top = fork();
	if (top == 0)
		_exit(branch(sh, n, 0));
	while (__atomic_load_n(&sh->alive, __ATOMIC_SEQ_CST) < n)
		nap(5);
	ready();
	wait_until_told();
	check(sh->alive == n);
	sh->stop = 1;
	check(waitpid(top, &status, 0) == top && WIFEXITED(status) && WEXITSTATUS(status) == n % 100);
}

/* N threads, each with a value of its own */
static __thread long mine;
static int begun, stop;

static void *thread(void *arg)
{
	pid_t tid = gettid();
	volatile double x = (long)arg + 0.5;

	mine = (long)arg;
	__atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST))
		nap(100);
	check(gettid() == tid && mine == (long)arg && x == (long)arg + 0.5);
	return (void *)(mine * 2);
}

static void threads(int n)
{
	pthread_t *t = calloc(n, sizeof *t);
	pthread_attr_t attr;
	void *out;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (long i = 0; i < n; i++)
		check(pthread_create(&t[i], &attr, thread, (void *)i) == 0);
	while (__atomic_load_n(&begun, __ATOMIC_SEQ_CST) < n)
		nap(5);
	ready();
	wait_until_told();
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	for (long i = 0; i < n; i++)
		check(pthread_join(t[i], &out) == 0 && (long)out == 2 * i);
}

/* N descriptors: files at different offsets, duplicates, pipes with something in
 * them, counters */
static void descriptors(int n)
{
	struct rlimit lim;
	char name[4096];
	int *fd = calloc(n, sizeof *fd);
	uint64_t v;

	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	path(name, "data");
	for (int i = 0; i + 5 <= n; i += 5) {
		check((fd[i] = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644)) >= 0);
		check(lseek(fd[i], i, SEEK_SET) == i);
		check((fd[i + 1] = dup(fd[i])) >= 0);
		check(pipe2(fd + i + 2, O_NONBLOCK) == 0);
		check(write(fd[i + 3], &i, sizeof i) == sizeof i);
		check((fd[i + 4] = eventfd(i + 1, 0)) >= 0);
	}
	ready();
	wait_until_told();
	for (int i = 0; i + 5 <= n; i += 5) {
		int got;
		check(lseek(fd[i], 0, SEEK_CUR) == i && fcntl(fd[i], F_GETFD) == FD_CLOEXEC);
		check(lseek(fd[i], 1, SEEK_CUR) == i + 1 && lseek(fd[i + 1], 0, SEEK_CUR) == i + 1);
		check(fcntl(fd[i + 1], F_GETFD) == 0);
		check(read(fd[i + 2], &got, sizeof got) == sizeof got && got == i);
		check(read(fd[i + 2], &got, sizeof got) == -1 && errno == EAGAIN);
		check(read(fd[i + 4], &v, sizeof v) == sizeof v && v == (uint64_t)i + 1);
	}
}

/* N mappings of a page, no two neighbours alike */
static void mappings(int n)
{
	const size_t page = 4096;
	char *at = mmap(NULL, n * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(at != MAP_FAILED);
	for (int i = 0; i < n; i++) {
		memset(at + i * page, i % 251 + 1, page);
		if (i % 2)
			check(mprotect(at + i * page, page, PROT_READ) == 0);
	}
	ready();
	wait_until_told();
	for (int i = 0; i < n; i++) {
		check((unsigned char)at[i * page] == i % 251 + 1 && (unsigned char)at[i * page + page - 1] == i % 251 + 1);
		if (i % 2 == 0)
			at[i * page] = 0;
	}
}

/* N timers of each kind that are far from ringing */
static void timers(int n)
{
	struct sigevent ev = { .sigev_notify = SIGEV_NONE };
	struct itimerspec it, want;
	timer_t *t = calloc(n, sizeof *t);
	int *fd = calloc(n, sizeof *fd);

	memset(&want, 0, sizeof want);
	for (int i = 0; i < n; i++) {
		want.it_value.tv_sec = 10000 + i;
		check(timer_create(CLOCK_MONOTONIC, &ev, &t[i]) == 0 && timer_settime(t[i], 0, &want, NULL) == 0);
		check((fd[i] = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0 && timerfd_settime(fd[i], 0, &want, NULL) == 0);
	}
	ready();
	wait_until_told();
	for (int i = 0; i < n; i++) {
		check(timer_gettime(t[i], &it) == 0 && it.it_value.tv_sec > 9900 + i && it.it_value.tv_sec < 10000 + i);
		check(timerfd_gettime(fd[i], &it) == 0 && it.it_value.tv_sec > 9900 + i && it.it_value.tv_sec < 10000 + i);
	}
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*run)(int); } kinds[] = {
		{ "tree", tree }, { "threads", threads }, { "descriptors", descriptors }, { "mappings", mappings }, { "timers", timers },
	};

	if (argc != 4)
		return 64;
	dir = argv[1];
	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (!strcmp(argv[2], kinds[i].name)) {
			kinds[i].run(atoi(argv[3]));
			return 0;
		}
	return 64;
}
