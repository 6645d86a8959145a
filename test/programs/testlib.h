// SPDX-License-Identifier: Apache-2.0
// testlib.h: the frame of the self-checking programs.
//
//     PROGRAM STATUS [MODE]
//
// A program sets a kind of state up, writes READY to the file STATUS, and goes
// on living with that state until the file STATUS.go appears: whoever runs it
// makes that file after the program was checkpointed, killed and resumed (or
// only checkpointed). Then it looks, from the inside, whether anything is not
// as it was, and writes PASS or "FAIL: what differs" to STATUS.result. Exit
// status 0 or 1. Other files it needs are named STATUS.something.
#ifndef TESTLIB_H
#define TESTLIB_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

static char status_path[PATH_MAX - 64];
static const char *mode = "";
static int signals_expected UNUSED; // else a nap that is cut short is a failure

// path of a file of this test; the result is overwritten by the fourth call after.
UNUSED static const char *path(const char *suffix)
{
	static __thread char buf[4][PATH_MAX];
	static __thread int next;

	next = (next + 1) % 4;
	snprintf(buf[next], sizeof buf[0], "%s%s", status_path, suffix);
	return buf[next];
}

// put writes a file that appears only when it is whole and on the disk. It does
// not replace one: of several processes that fail, the first tells why.
static int put(const char *suffix, const char *text)
{
	char tmp[PATH_MAX];
	int fd, ok;

	snprintf(tmp, sizeof tmp, "%s%s.%d", status_path, suffix, (int)syscall(SYS_gettid));
	fd = open(tmp, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd) != 0) {
		fprintf(stderr, "%s: %s\n", tmp, strerror(errno));
		_exit(2);
	}
	close(fd);
	ok = link(tmp, path(suffix)) == 0;
	unlink(tmp);
	return ok;
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
	char text[2048] = "FAIL: ";
	va_list args;

	va_start(args, format);
	vsnprintf(text + 6, sizeof text - 8, format, args);
	va_end(args);
	strcat(text, "\n");
	put(".result", text);
	fputs(text, stderr);
	_exit(1);
}

UNUSED __attribute__((noreturn)) static void pass(void)
{
	_exit(put(".result", "PASS\n") ? 0 : 1);
}

#define CHECK(cond, ...)                   \
	do {                               \
		if (!(cond))               \
			fail(__VA_ARGS__); \
	} while (0)

// EQ compares two numbers.
#define EQ(what, got, want)                                                              \
	do {                                                                             \
		long long got_ = (long long)(got), want_ = (long long)(want);            \
		if (got_ != want_)                                                       \
			fail("%s: is %lld (%#llx), was %lld (%#llx) [%s:%d]", what, got_, \
			     got_, want_, want_, __FILE__, __LINE__);                    \
	} while (0)

// SYS makes a call that must not fail and gives its result.
#define SYS(call)                                                                          \
	({                                                                                 \
		__typeof__(call) r_ = (call);                                              \
		if ((long)r_ == -1)                                                        \
			fail("%s: %s [%s:%d]", #call, strerror(errno), __FILE__, __LINE__); \
		r_;                                                                        \
	})

UNUSED static int is_mode(const char *m) { return strcmp(mode, m) == 0; }

struct mode {
	const char *name;
	void (*run)(void);
};

static void begin(int argc, char **argv)
{
	char cwd[PATH_MAX / 2];

	if (argc < 2) {
		fprintf(stderr, "usage: %s STATUS [MODE]\n", argv[0]);
		exit(64);
	}
	if (argv[1][0] == '/' || !getcwd(cwd, sizeof cwd))
		snprintf(status_path, sizeof status_path, "%s", argv[1]);
	else
		snprintf(status_path, sizeof status_path, "%s/%s", cwd, argv[1]);
	if (argc > 2)
		mode = argv[2];
}

// run_mode runs the function of the mode that was asked for, and passes.
UNUSED __attribute__((noreturn)) static void run_mode(const struct mode *m)
{
	for (; m->name; m++)
		if (is_mode(m->name)) {
			m->run();
			pass();
		}
	fprintf(stderr, "no mode \"%s\"\n", mode);
	exit(64);
}

// ms is CLOCK_MONOTONIC in milliseconds.
static int64_t ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

// nap sleeps by the bare system call, which nothing of libc's restarts.
static void nap(int millis)
{
	struct timespec t = { millis / 1000, millis % 1000 * 1000000L };

	if (syscall(SYS_nanosleep, &t, NULL) != 0 && !signals_expected)
		fail("nanosleep: %s", strerror(errno));
}

UNUSED static void ready(void)
{
	CHECK(put("", "READY\n"), "%s is there already", status_path);
}

static int told(void) { return access(path(".go"), F_OK) == 0; }

// await waits to be told that it is over. Nobody waits for ever.
UNUSED static void await(void)
{
	int64_t end = ms() + 300000;

	while (!told()) {
		nap(20);
		CHECK(ms() < end, "nobody made %s", path(".go"));
	}
#ifdef SPOIL
	SPOIL; // spoilcheck.sh: what must be noticed
#endif
}

UNUSED static void ready_and_await(void)
{
	ready();
	await();
}

// reap waits for a child that must exit with a status.
UNUSED static void reap(pid_t pid, int status)
{
	int st = -1;

	EQ("pid of the child that ended", waitpid(pid, &st, 0), pid);
	EQ("its wait status", st, status << 8);
}

// readable fails the test where nothing comes within 10 s.
UNUSED static void readable(const char *what, int fd)
{
	struct pollfd f = { .fd = fd, .events = POLLIN };

	CHECK(poll(&f, 1, 10000) > 0, "%s: nothing there to be read", what);
}

// shared memory of a process and its children, zeroed.
UNUSED static void *shared(size_t size)
{
	return SYS(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

// pattern fills memory with numbers that follow from a seed; pattern_at tells
// the first word that is another, or -1.
UNUSED static void pattern(void *p, size_t size, uint64_t seed)
{
	uint64_t *w = p;

	for (size_t i = 0; i < size / 8; i++)
		w[i] = (seed + i) * 0x9e3779b97f4a7c15ull;
}

UNUSED static long pattern_at(const void *p, size_t size, uint64_t seed)
{
	const uint64_t *w = p;

	for (size_t i = 0; i < size / 8; i++)
		if (w[i] != (seed + i) * 0x9e3779b97f4a7c15ull)
			return (long)(i * 8);
	return -1;
}

#define SAME(what, p, size, seed)                                                           \
	do {                                                                                \
		long at_ = pattern_at(p, size, seed);                                       \
		if (at_ >= 0)                                                               \
			fail("%s: byte %ld differs [%s:%d]", what, at_, __FILE__, __LINE__); \
	} while (0)

#endif
