// SPDX-License-Identifier: Apache-2.0
// storm DIR: counts signals that somebody sends all the time. Queued ones carry
// numbers, of which none may be missing, doubled or out of order.
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { HANDLED = 3, WAITED, DIRECT };

// What the sender reads.
static volatile struct {
	int next[8]; // of SIGRTMIN+n
	int traps, usr1, spins;
} *counts;

static const char *dir;

static void fail(const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;
	FILE *f;

	snprintf(path, sizeof path, "%s/fail", dir);
	f = fopen(path, "w");
	va_start(args, format);
	vfprintf(f, format, args);
	va_end(args);
	fclose(f);
	_exit(1);
}

static void took(int kind, int value)
{
	if (counts->next[kind] != value)
		fail("signal %d: got number %d, expected %d", kind, value, counts->next[kind]);
	counts->next[kind]++;
}

static void queued(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (info->si_code != SI_QUEUE)
		fail("signal %d has code %d", sig, info->si_code);
	took(sig - SIGRTMIN, info->si_value.sival_int);
}

static void plain(int sig)
{
	if (sig == SIGTRAP)
		counts->traps++;
	else
		counts->usr1++;
}

static void *waits(void *set)
{
	siginfo_t info;

	for (;;)
		if (sigwaitinfo(set, &info) > 0)
			took(info.si_signo - SIGRTMIN, info.si_value.sival_int);
}

static void *reads(void *set)
{
	int fd = signalfd(-1, set, SFD_CLOEXEC);
	struct signalfd_siginfo info[3];
	ssize_t n;

	while ((n = read(fd, info, sizeof info)) > 0)
		for (int i = 0; i < n / (ssize_t)sizeof info[0]; i++)
			took((int)info[i].ssi_signo - SIGRTMIN, info[i].ssi_int);
	fail("signalfd: %m");
	return NULL;
}

static void *spins(void *arg)
{
	for (;; counts->spins++)
		if (counts->spins % 1000 == 0)
			nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	return arg;
}

int main(int argc, char **argv)
{
	static sigset_t all, waited, direct;
	struct sigaction act = { .sa_sigaction = queued, .sa_flags = SA_SIGINFO | SA_RESTART };
	char path[PATH_MAX];
	pthread_t t;
	int fd;

	dir = argc > 1 ? argv[1] : ".";
	snprintf(path, sizeof path, "%s/counts", dir);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	if (ftruncate(fd, 4096) != 0)
		fail("counts: %m");
	counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	for (int i = 0; i < HANDLED; i++)
		sigaction(SIGRTMIN + i, &act, NULL);
	signal(SIGTRAP, plain);
	signal(SIGUSR1, plain);
	sigfillset(&all);
	sigaddset(&waited, SIGRTMIN + WAITED);
	sigaddset(&direct, SIGRTMIN + DIRECT);
	sigprocmask(SIG_SETMASK, &all, NULL);
	pthread_create(&t, NULL, waits, &waited);
	pthread_create(&t, NULL, reads, &direct);
	pthread_create(&t, NULL, spins, NULL);
	for (int i = 0; i < HANDLED; i++)
		sigdelset(&all, SIGRTMIN + i);
	sigdelset(&all, SIGTRAP);
	sigdelset(&all, SIGUSR1);
	for (int i = 0; i < HANDLED; i++)
		sigdelset(&all, SIGRTMIN + i);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	snprintf(path, sizeof path, "%s/ready", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	for (snprintf(path, sizeof path, "%s/stop", dir); access(path, F_OK) != 0;)
		usleep(500);
	_exit(0);
}
