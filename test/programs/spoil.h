// SPDX-License-Identifier: Apache-2.0
// spoil.h: what spoilcheck.sh gives to programs so that they harm themselves.
#ifndef SPOIL_H
#define SPOIL_H

#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char spoil_maps[1 << 18];

static inline void spoil_read_maps(void)
{
	int fd = open("/proc/thread-self/maps", O_RDONLY);
	ssize_t n, all = 0;

	while ((n = read(fd, spoil_maps + all, sizeof spoil_maps - 1 - (size_t)all)) > 0)
		all += n;
	spoil_maps[all] = 0;
	close(fd);
}

// spoil changes one bit wherever memory holds the pattern of a seed.
static inline void spoil(uint64_t seed)
{
	const uint64_t k = 0x9e3779b97f4a7c15ull;
	unsigned long a, b;
	char perms[8], *line;

	spoil_read_maps();
	for (line = strtok(spoil_maps, "\n"); line; line = strtok(NULL, "\n")) {
		if (sscanf(line, "%lx-%lx %4s", &a, &b, perms) != 3 || strncmp(perms, "rw", 2) || b - a > 64 << 20)
			continue;
		for (volatile uint64_t *w = (uint64_t *)a; w < (uint64_t *)b - 3; w++)
			if (w[0] == seed * k && w[1] == (seed + 1) * k && w[2] == (seed + 2) * k)
				w[1] ^= 1;
	}
}

// spoil_perms makes mappings of these permissions and size readable and writable.
static inline void spoil_perms(const char *want, unsigned long size)
{
	unsigned long a, b;
	char perms[8], *line;

	spoil_read_maps();
	for (line = strtok(spoil_maps, "\n"); line; line = strtok(NULL, "\n"))
		if (sscanf(line, "%lx-%lx %4s", &a, &b, perms) == 3 && !strcmp(perms, want) && b - a == size)
			mprotect((void *)a, size, PROT_READ | PROT_WRITE);
}

static inline void spoil_unlock(int cmd, int fd)
{
	struct flock l = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	fcntl(fd, cmd, &l);
}

static inline void spoil_take(int fd)
{
	char b[128];

	if (read(fd, b, 1) < 0)
		(void)!read(fd, b, sizeof b); // eventfd, timerfd, signalfd
}

static inline void spoil_signal(int sig)
{
	struct timespec now = { 0, 0 };
	sigset_t s;

	sigemptyset(&s);
	sigaddset(&s, sig);
	sigtimedwait(&s, NULL, &now);
}

static inline void spoil_mask(void)
{
	sigset_t s;

	sigemptyset(&s);
	sigprocmask(SIG_SETMASK, &s, NULL);
}

static inline void spoil_timer(int which)
{
	struct itimerval t = { { 0, 0 }, { 0, 0 } };

	setitimer(which, &t, NULL);
}

static inline void spoil_limit(int which)
{
	struct rlimit r;

	getrlimit(which, &r);
	r.rlim_cur = 321;
	setrlimit(which, &r);
}

static inline void spoil_write(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);

	(void)!write(fd, text, strlen(text));
	close(fd);
}

// spoil_id is the id of the first System V object of a kind that has the key of
// this process, or of any of its own.
static inline int spoil_id(const char *kind, int skip)
{
	char path[64], line[512];
	int id = -1;
	FILE *f;

	snprintf(path, sizeof path, "/proc/sysvipc/%s", kind);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f)) {
		int key, this;

		if (sscanf(line, "%d %d", &key, &this) == 2 && key == (0x65000000 | getpid()) && skip-- == 0)
			id = this;
	}
	fclose(f);
	return id;
}

static inline void spoil_affinity(void)
{
	cpu_set_t all;

	memset(&all, 0xff, sizeof all);
	sched_setaffinity(0, sizeof all, &all);
}

#endif
