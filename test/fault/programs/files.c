// SPDX-License-Identifier: Apache-2.0
// A job that works on all kinds of files, and takes a step when it may.
//
//     files STEPS LOCAL
//
// Step N begins when the file go-N is there; then the file at has N in it. What a
// step writes depends on what all files held before, so that a step that is taken
// twice, or from files of another time, shows in the end. LOCAL is a directory
// for those files that only one host has; it is made.
#define _GNU_SOURCE
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TABLE 65536
#define CELLS (1 << 16)

static const char *local;

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static const char *in(const char *name)
{
	static char buf[4][512];
	static int next;

	next = (next + 1) % 4;
	snprintf(buf[next], sizeof buf[0], "%s/%s", local, name);
	return buf[next];
}

static int make(const char *path, int flags, size_t size)
{
	int fd = open(path, O_CREAT | O_TRUNC | flags, 0640);

	check(fd >= 0, path);
	check(ftruncate(fd, (off_t)size) == 0, path);
	return fd;
}

// turn makes a number of a file's content, and changes some of it.
static uint64_t turn(int fd, size_t size, uint64_t seed)
{
	static unsigned char buf[TABLE];
	uint64_t sum = seed * 0x9e3779b97f4a7c15ull + 1;

	check(pread(fd, buf, size, 0) == (ssize_t)size, "read a table");
	for (size_t i = 0; i < size; i++)
		sum = (sum ^ buf[i]) * 0x100000001b3ull;
	for (size_t i = 0; i < size; i += 997)
		buf[(i + sum) % size] += (unsigned char)(sum >> (i % 32));
	check(pwrite(fd, buf, size, 0) == (ssize_t)size, "write a table");
	return sum;
}

static uint64_t stir(volatile uint64_t *cell, uint64_t seed)
{
	for (int i = 0; i < 100; i++)
		seed = cell[(seed + (uint64_t)i) % CELLS] += seed * 0x2545f4914f6cdd1dull + (uint64_t)i;
	return seed;
}

static uint64_t *map(int fd)
{
	void *p = mmap(NULL, CELLS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	check(p != MAP_FAILED, "mmap");
	return p;
}

static void may(int step)
{
	char name[32];

	for (snprintf(name, sizeof name, "go-%d", step); access(name, F_OK) != 0;)
		usleep(2000);
}

static void tell(int step)
{
	FILE *f = fopen("at.new", "w");

	fprintf(f, "%d", step);
	fclose(f);
	rename("at.new", "at");
}

int main(int argc, char **argv)
{
	int steps = argc > 1 ? atoi(argv[1]) : 0, logfd, table, gone, heap, store, plain;
	uint64_t n = 1, *mapped, *shm;
	char line[64];
	sem_t *sem;

	if (argc < 3)
		return 64;
	local = argv[2];
	mkdir(local, 0700);
	logfd = make("log", O_WRONLY | O_APPEND, 0);
	plain = make("plain", O_WRONLY, 0);
	table = make("table", O_RDWR, TABLE);
	heap = make("heap", O_RDWR, CELLS * 8);
	mapped = map(heap);
	gone = make("gone", O_RDWR, TABLE);
	unlink("gone");
	store = make(in("store"), O_RDWR, TABLE);
	shm_unlink(strrchr(local, '/'));
	shm = map(shm_open(strrchr(local, '/'), O_CREAT | O_RDWR | O_TRUNC, 0600));
	snprintf(line, sizeof line, "/dev/shm%s", strrchr(local, '/'));
	check(truncate(line, CELLS * 8) == 0, line);
	snprintf(line, sizeof line, "%s-sem", strrchr(local, '/'));
	sem_unlink(line);
	sem = sem_open(line, O_CREAT | O_RDWR, 0600, 1);
	check(sem != SEM_FAILED, "sem_open");
	tell(0);
	for (int i = 1; i <= steps; i++) {
		int v;

		may(i);
		n = turn(table, TABLE, n);
		n = stir(mapped, n);
		n = turn(gone, TABLE, n);
		n = turn(store, TABLE, n);
		n = stir(shm, n);
		sem_post(sem);
		sem_getvalue(sem, &v);
		n += (uint64_t)v;
		snprintf(line, sizeof line, "%d %016llx\n", i, (unsigned long long)n);
		check(write(logfd, line, strlen(line)) > 0, "log");
		check(write(plain, line, strlen(line)) > 0, "plain");
		if (i % 3 == 0) { // an editor's way: a new file under the old name
			int fd = make("plain.new", O_RDWR, 0);

			check(write(fd, line, strlen(line)) > 0, "plain.new");
			close(plain);
			check(rename("plain.new", "plain") == 0, "rename");
			plain = fd;
		}
		if (i == steps - 1)
			unlink(in("store"));
		tell(i);
	}
	memcpy(mapped, shm, CELLS * 4);
	shm_unlink(strrchr(local, '/'));
	snprintf(line, sizeof line, "%s-sem", strrchr(local, '/'));
	sem_unlink(line);
	rmdir(local);
	return 0;
}
