// SPDX-License-Identifier: Apache-2.0
/*
 * shared is a parent whose workers have inherited its data by fork, and have
 * since changed, given back, protected and moved some of it.
 *
 * usage: shared DIR WORKERS MIB
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define WORDS (PAGE / 8)
#define PART (64 * PAGE)

static const char *dir;

static void path(char *buf, const char *name) { snprintf(buf, 4096, "%s/%s", dir, name); }

static void fail(int line, const char *what, long where)
{
	char name[4096], text[256];
	int n = snprintf(text, sizeof text, "pid %d, line %d: %s: %ld (%s)\n", getpid(), line, what, where, strerror(errno));

	path(name, "fail");
	int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (write(fd, text, n) != n)
		abort();
	_exit(99);
}

#define check(cond, where) do { if (!(cond)) fail(__LINE__, #cond, (long)(where)); } while (0)

// word i of the data: splitmix64, which looks random to any encoder.
static uint64_t word(uint64_t seed, uint64_t i)
{
	uint64_t x = (seed << 40) + i * 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static void fill(uint64_t *p, size_t bytes, uint64_t seed, uint64_t from)
{
	for (size_t i = 0; i < bytes / 8; i++)
		p[i] = word(seed, from + i);
}

static void same(int line, const uint64_t *p, size_t bytes, uint64_t seed, uint64_t from)
{
	for (size_t i = 0; i < bytes / 8; i++)
		if (p[i] != word(seed, from + i))
			fail(line, "content at byte", (long)(from + i) * 8);
}

static void zero(int line, const char *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (p[i])
			fail(line, "not zero at byte", (long)i);
}

#define SAME(p, bytes, seed, from) same(__LINE__, (uint64_t *)(p), bytes, seed, (from) / 8)
#define ZERO(p, bytes) zero(__LINE__, (char *)(p), bytes)

static int told(void)
{
	char name[4096];
	struct stat st;

	path(name, "stop");
	return stat(name, &st) == 0;
}

static void nap(void) { nanosleep(&(struct timespec){ 0, 5000000 }, NULL); }

static char *data;  // as all have it at first
static size_t size;
static volatile int *count; // shared: who is how far
static int workers;

static void arrive(int at)
{
	__atomic_add_fetch(count + at, 1, __ATOMIC_SEQ_CST);
}

static void meet(int at)
{
	arrive(at);
	while (count[at] < workers + 1)
		nap();
}

// The parts of the data, in units of PART; the rest stays as it was.
enum { OWN = 1, GIVEN_BACK = 3, READONLY = 5, MOVED = 7, GONE = 9, ZEROED = 11, NEW_THERE = 13,
       PARENT_OWN = 15, PARENT_GONE = 17, TORN = 19, PARTS = 24 };

#define AT(part) (data + (part) * PART)

// Every second worker leaves its memory as it is, so that there are always two
// that share and others that differ.
static void quiet_worker(int id)
{
	meet(0);
	while (!told())
		nap();
	SAME(data, size, 1, 0);
	meet(1);
	fill((uint64_t *)data, PART, 400 + id, 0);
	meet(2);
	SAME(data, PART, 400 + id, 0);
	SAME(data + PART, size - PART, 1, PART);
	meet(3);
	_exit(0);
}

static void worker(int id)
{
	char *moved;

	if (id % 2)
		quiet_worker(id);
	fill((uint64_t *)AT(OWN), PART, 100 + id, 0);
	check(madvise(AT(GIVEN_BACK), PART, MADV_DONTNEED) == 0, id);
	check(mprotect(AT(READONLY), PART, PROT_READ) == 0, id);
	moved = mremap(AT(MOVED), PART, 2 * PART, MREMAP_MAYMOVE);
	check(moved != MAP_FAILED && moved != AT(MOVED), id);
	check(munmap(AT(GONE), PART) == 0, id);
	memset(AT(ZEROED), 0, PART);
	check(mmap(AT(NEW_THERE), PART, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == AT(NEW_THERE), id);
	fill((uint64_t *)AT(NEW_THERE), PAGE, 200 + id, 0);
	for (size_t i = 0; i < PART; i += 2 * PAGE) // every second page
		fill((uint64_t *)(AT(TORN) + i), PAGE, 300 + id, i / 8);

	meet(0);
	while (!told())
		nap();

	SAME(data, PART, 1, 0);
	SAME(AT(OWN), PART, 100 + id, 0);
	SAME(AT(OWN + 1), PART, 1, (OWN + 1) * PART);
	ZERO(AT(GIVEN_BACK), PART);
	SAME(AT(READONLY), PART, 1, READONLY * PART);
	SAME(moved, PART, 1, MOVED * PART);
	ZERO(moved + PART, PART);
	check(msync(AT(GONE), PART, MS_ASYNC) == -1 && errno == ENOMEM, id);
	ZERO(AT(ZEROED), PART);
	SAME(AT(NEW_THERE), PAGE, 200 + id, 0);
	ZERO(AT(NEW_THERE) + PAGE, PART - PAGE);
	SAME(AT(PARENT_OWN), PART, 1, PARENT_OWN * PART);
	SAME(AT(PARENT_GONE), PART, 1, PARENT_GONE * PART);
	for (size_t i = 0; i < PART; i += 2 * PAGE) {
		SAME(AT(TORN) + i, PAGE, 300 + id, i);
		SAME(AT(TORN) + i + PAGE, PAGE, 1, TORN * PART + i + PAGE);
	}
	SAME(AT(PARTS), size - PARTS * PART, 1, PARTS * PART);

	// Who writes now writes to its own.
	meet(1);
	fill((uint64_t *)data, PART, 400 + id, 0);
	fill((uint64_t *)(data + size - PAGE), PAGE, 400 + id, 0);
	meet(2);
	SAME(data, PART, 400 + id, 0);
	SAME(data + size - PAGE, PAGE, 400 + id, 0);
	check(mprotect(AT(READONLY), PART, PROT_READ | PROT_WRITE) == 0, id);
	fill((uint64_t *)AT(READONLY), PART, 500 + id, 0);
	SAME(AT(READONLY), PART, 500 + id, 0);
	meet(3);
	_exit(0);
}

static void parent(void)
{
	for (int i = 0; i < workers; i++)
		check(fork() > 0 || (worker(i), 0), i);
	fill((uint64_t *)AT(PARENT_OWN), PART, 2, 0);
	check(munmap(AT(PARENT_GONE), PART) == 0, 0);

	meet(0);
	char name[4096];
	path(name, "ready");
	check(close(open(name, O_CREAT | O_WRONLY, 0644)) == 0, 0);
	while (!told())
		nap();

	SAME(data, PARENT_OWN * PART, 1, 0);
	SAME(AT(PARENT_OWN), PART, 2, 0);
	check(msync(AT(PARENT_GONE), PART, MS_ASYNC) == -1 && errno == ENOMEM, 0);
	SAME(AT(PARENT_GONE + 1), size - (PARENT_GONE + 1) * PART, 1, (PARENT_GONE + 1) * PART);
	meet(1);
	fill((uint64_t *)data, PART, 3, 0);
	meet(2);
	SAME(data, PART, 3, 0);
	SAME(AT(READONLY), PART, 1, READONLY * PART);
	SAME(data + size - PAGE, PAGE, 1, size - PAGE);
	meet(3);
	for (int i = 0; i < workers; i++) {
		int status;
		check(wait(&status) > 0 && status == 0, status);
	}
}

int main(int argc, char **argv)
{
	check(argc == 4, argc);
	dir = argv[1];
	workers = atoi(argv[2]);
	size = (size_t)atoi(argv[3]) << 20;
	check(size > PARTS * PART, size);
	count = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(count != MAP_FAILED && data != MAP_FAILED, size);
	fill((uint64_t *)data, size, 1, 0);
	parent();
	return 0;
}
