/* SPDX-License-Identifier: Apache-2.0 */

/* Does one kind of work for a fixed amount and prints how many seconds that
 * took. usage: overhead KIND SCALE */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t sink;

static void cpu(void)
{
	uint64_t h = sink;

	for (int i = 0; i < 4000000; i++)
		h = (h ^ i) * 0x9e3779b97f4a7c15u;
	sink = h;
}

static void memory(void)
{
	static uint64_t a[1 << 20];

	for (int round = 0; round < 4; round++)
		for (int i = 0; i < 1 << 20; i++)
			a[(uint32_t)(i * 2654435761u) >> 12] += i;
	sink = a[5];
}

static void syscalls(void)
{
	for (int i = 0; i < 60000; i++)
		syscall(SYS_getppid);
}

static void clocks(void)
{
	struct timespec t;

	for (int i = 0; i < 200000; i++)
		clock_gettime(CLOCK_MONOTONIC, &t);
}

static void naps(void)
{
	struct timespec t = { 0, 1000 };

	for (int i = 0; i < 150; i++)
		nanosleep(&t, 0);
}

static void files(void)
{
	for (int i = 0; i < 6000; i++)
		close(open("/dev/null", O_RDWR));
}

static void pipes(void)
{
	int fd[2];
	char b[64] = "";

	if (pipe(fd) != 0)
		exit(1);
	for (int i = 0; i < 10000; i++)
		if (write(fd[1], b, sizeof b) < 0 || read(fd[0], b, sizeof b) < 0)
			exit(1);
	close(fd[0]);
	close(fd[1]);
}

static void allocate(void)
{
	for (int i = 0; i < 100000; i++) {
		char *p = malloc(16 + i % 2000);

		p[0] = 1;
		sink += p[0];
		free(p);
	}
}

static void maps(void)
{
	for (int i = 0; i < 2000; i++) {
		char *p = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		p[0] = 1;
		munmap(p, 65536);
	}
}

static void *nothing(void *arg) { return arg; }

static void threads(void)
{
	for (int i = 0; i < 300; i++) {
		pthread_t t;

		pthread_create(&t, 0, nothing, 0);
		pthread_join(t, 0);
	}
}

static void forks(void)
{
	for (int i = 0; i < 40; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		waitpid(pid, 0, 0);
	}
}

static void execs(void)
{
	for (int i = 0; i < 15; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			execl("/bin/true", "true", (char *)0);
			_exit(1);
		}
		waitpid(pid, 0, 0);
	}
}

static const struct { const char *name; void (*run)(void); } kinds[] = {
	{ "cpu", cpu }, { "memory", memory }, { "syscalls", syscalls }, { "clocks", clocks },
	{ "naps", naps }, { "files", files }, { "pipes", pipes }, { "malloc", allocate },
	{ "mmap", maps }, { "threads", threads }, { "fork", forks }, { "exec", execs },
};

int main(int argc, char **argv)
{
	struct timespec a, b;

	for (size_t k = 0; argc == 3 && k < sizeof kinds / sizeof *kinds; k++) {
		if (strcmp(argv[1], kinds[k].name) != 0)
			continue;
		clock_gettime(CLOCK_MONOTONIC, &a);
		for (int i = atoi(argv[2]); i > 0; i--)
			kinds[k].run();
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%.6f\n", b.tv_sec - a.tv_sec + (b.tv_nsec - a.tv_nsec) / 1e9);
		return 0;
	}
	return 64;
}
