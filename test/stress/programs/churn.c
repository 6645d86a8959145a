// SPDX-License-Identifier: Apache-2.0
/*
 * churn never stands still: its processes fork, execute, spawn by vfork, end,
 * make threads, stop and continue each other and send each other signals all the
 * time. All of them keep books, and notice what should not happen: a child they
 * did not make, a status that is not the one they expect, a wait that ends too
 * early or with EINTR, a signal that is lost or comes twice.
 *
 * usage: churn DIR    runs until DIR/stop exists; 0 and "PASS" if all books are right
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static struct shared {
	volatile int stop;
	volatile int ready;
	volatile long rounds[32];
} *sh;

static const char *dir, *self, *role = "main";
static char failfile[4096];

static void fail(const char *fmt, ...)
{
	va_list ap;
	char text[512];
	int n = snprintf(text, sizeof text, "%s (pid %d): ", role, getpid());

	va_start(ap, fmt);
	n += vsnprintf(text + n, sizeof text - n - 2, fmt, ap);
	va_end(ap);
	text[n++] = '\n';
	int fd = open(failfile, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (write(fd, text, n) != n)
		abort();
	_exit(99);
}

#define check(cond) do { if (!(cond)) fail("line %d: %s (errno %s)", __LINE__, #cond, strerror(errno)); } while (0)

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void rest(void)
{
	struct timespec t = { 0, 300000 };

	while (nanosleep(&t, &t) < 0)
		check(errno == EINTR);
}

static void no_child(void)
{
	errno = 0;
	check(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD);
}

static void reap(pid_t pid, int want)
{
	int status;

	check(pid > 0);
	check(waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != want)
		fail("child %d ended with %#x, not with exit status %d", pid, status, want);
}

/* children that end at once */
static void forker(long n)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(n & 63);
	reap(pid, n & 63);
	no_child();
}

/* children that end before they are waited for: zombies */
static void hoarder(long n)
{
	pid_t pid[4];

	for (int i = 0; i < 4; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			if (i == 3)
				raise(SIGKILL);
			_exit((n + i) & 63);
		}
		check(pid[i] > 0);
	}
	rest();
	rest();
	for (int i = 0; i < 3; i++)
		reap(pid[i], (n + i) & 63);
	int status;
	check(waitpid(pid[3], &status, 0) == pid[3] && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	no_child();
}

static void child_args(char *buf, size_t len, char **argv, const char *verb, long n)
{
	snprintf(buf, len, "%ld", n & 63);
	argv[0] = (char *)self, argv[1] = (char *)verb, argv[2] = buf, argv[3] = NULL;
}

static void execer(long n)
{
	char num[16], *argv[4];

	child_args(num, sizeof num, argv, "--exit", n);
	pid_t pid = fork();
	if (pid == 0) {
		execv(self, argv);
		_exit(98);
	}
	reap(pid, n & 63);
}

static void spawner(long n)
{
	char num[16], *argv[4];
	pid_t pid;

	child_args(num, sizeof num, argv, "--exit", n);
	check(posix_spawn(&pid, self, NULL, NULL, argv, environ) == 0);
	reap(pid, n & 63);
}

static void *exec_in_thread(void *argv)
{
	execv(self, argv);
	_exit(98);
}

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* a thread that is not the first executes a program, which ends all others */
static void threadexecer(long n)
{
	char num[16], *argv[4];

	child_args(num, sizeof num, argv, "--exit", n);
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t t;
		for (int i = 0; i < 3; i++)
			check(pthread_create(&t, NULL, wait_for_ever, NULL) == 0);
		check(pthread_create(&t, NULL, exec_in_thread, argv) == 0);
		for (;;)
			pause();
	}
	reap(pid, n & 63);
}

static void *add(void *arg)
{
	volatile double x = (long)arg;

	for (int i = 0; i < 1000; i++)
		x = x * 2 / 2;
	return (void *)((long)x + 1);
}

static void threader(long n)
{
	pthread_t t[8];
	void *out;
	long sum = 0;

	for (int i = 0; i < 8; i++)
		check(pthread_create(&t[i], NULL, add, (void *)(n + i)) == 0);
	for (int i = 0; i < 8; i++) {
		check(pthread_join(t[i], &out) == 0);
		sum += (long)out;
	}
	check(sum == 8 * n + 28 + 8);
}

/* a child is stopped and goes on; the parent is told of each stop, once */
static void stopper(long n)
{
	int status;
	pid_t pid = fork();

	(void)n;
	if (pid == 0)
		for (;;)
			pause();
	check(pid > 0);
	for (int i = 0; i < 4; i++) {
		check(kill(pid, SIGSTOP) == 0);
		check(waitpid(pid, &status, WUNTRACED) == pid);
		check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
		check(waitpid(pid, &status, WUNTRACED | WNOHANG) == 0);
		rest();
		check(waitpid(pid, &status, WUNTRACED | WNOHANG) == 0);
		check(kill(pid, SIGCONT) == 0);
		rest();
		/* that a child was continued is forgotten by a resume in between */
		pid_t told = waitpid(pid, &status, WCONTINUED | WNOHANG);
		check(told == 0 || (told == pid && WIFCONTINUED(status)));
	}
	check(kill(pid, SIGTERM) == 0);
	check(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* grandchildren that the init has to reap */
static void orphaner(long n)
{
	int p[2];
	char c = 0;

	check(pipe(p) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (fork() == 0) {
			rest();
			c = n & 63;
			_exit(write(p[1], &c, 1) != 1);
		}
		_exit(7);
	}
	close(p[1]);
	reap(pid, 7);
	check(read(p[0], &c, 1) == 1 && c == (n & 63));
	check(read(p[0], &c, 1) == 0);
	close(p[0]);
}

/* queued signals with values go to and fro; none may be lost or come twice */
static volatile int expected, peer;

static void pong(int sig, siginfo_t *info, void *ctx)
{
	int e = errno;

	(void)ctx;
	check(info->si_value.sival_int == expected);
	check(info->si_code == SI_QUEUE);
	expected++;
	union sigval v = { .sival_int = info->si_value.sival_int };
	check(sigqueue(info->si_pid, sig, v) == 0);
	errno = e;
}

static pid_t pinged;
static sigset_t rt;

static void pinger(long n)
{
	siginfo_t info;

	if (pinged == 0) {
		sigemptyset(&rt);
		sigaddset(&rt, SIGRTMIN + 5);
		sigprocmask(SIG_BLOCK, &rt, NULL);
		pinged = fork();
		if (pinged == 0) {
			struct sigaction sa = { .sa_sigaction = pong, .sa_flags = SA_SIGINFO };
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sigaction(SIGRTMIN + 5, &sa, NULL);
			sigprocmask(SIG_UNBLOCK, &rt, NULL);
			while (!sh->stop)
				poll(NULL, 0, 50);
			for (int i = 0; i < 20; i++) /* for the last of them */
				rest();
			_exit(0);
		}
	}
	for (int i = 0; i < 5; i++) {
		union sigval v = { .sival_int = (int)n * 5 + i };
		check(sigqueue(pinged, SIGRTMIN + 5, v) == 0);
	}
	for (int i = 0; i < 5; i++) {
		check(sigwaitinfo(&rt, &info) == SIGRTMIN + 5);
		check(info.si_pid == pinged && info.si_value.sival_int == (int)n * 5 + i);
	}
}

/* waits: none may end early or with EINTR, since no handler ever runs here */
static sem_t never;

static void *waits(void *arg)
{
	int kind = (int)(long)arg, ep = epoll_create1(0);
	const int64_t ms = 1000000;
	sigset_t none;

	sigemptyset(&none);
	sigaddset(&none, SIGUSR2);
	while (!sh->stop) {
		int64_t t0 = now(), asked = 4 * ms;
		struct timespec ts = { 0, asked }, at;
		int r = 0;

		errno = 0;
		switch (kind) {
		case 0: r = nanosleep(&ts, NULL); break;
		case 1: r = clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts); break;
		case 2: r = poll(NULL, 0, 4); break;
		case 3: { struct epoll_event e; r = epoll_wait(ep, &e, 1, 4); break; }
		case 4:
			clock_gettime(CLOCK_REALTIME, &at);
			at.tv_nsec += asked;
			if (at.tv_nsec >= 1000000000)
				at.tv_nsec -= 1000000000, at.tv_sec++;
			r = sem_timedwait(&never, &at);
			check(r == -1 && errno == ETIMEDOUT);
			r = 0;
			asked = 0; /* by another clock */
			break;
		case 5:
			r = sigtimedwait(&none, NULL, &ts);
			check(r == -1 && errno == EAGAIN);
			r = 0;
			break;
		case 6: { struct timeval tv = { 0, 4000 }; r = select(0, NULL, NULL, NULL, &tv); break; }
		case 7: r = ppoll(NULL, 0, &ts, &none); break;
		}
		if (r != 0)
			fail("wait %d returned %d: %s", kind, r, strerror(errno));
		if (now() - t0 < asked - ms)
			fail("wait %d took %ld us, not %ld", kind, (long)(now() - t0) / 1000, (long)asked / 1000);
	}
	close(ep);
	return NULL;
}

static void waiter(long n)
{
	pthread_t t[8];

	(void)n;
	sem_init(&never, 0, 0);
	for (long i = 0; i < 8; i++)
		check(pthread_create(&t[i], NULL, waits, (void *)i) == 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	sh->rounds[n]++;
}

/* children end while epoll_wait(2) waits: SIGCHLD without a handler is no news */
static void epoller(long n)
{
	static int ep = -1;
	struct epoll_event e;
	pid_t pid = fork();

	if (ep < 0)
		ep = epoll_create1(EPOLL_CLOEXEC);
	if (pid == 0) {
		rest();
		_exit(n & 63);
	}
	int r = epoll_wait(ep, &e, 1, 3);
	if (r != 0)
		fail("epoll_wait returned %d: %s", r, strerror(errno));
	reap(pid, n & 63);
}

/* an endless stream of numbers through a pipe */
static void piper(long n)
{
	static int fd = -1;
	static pid_t child;
	uint32_t got[256];
	size_t have = 0;

	if (fd < 0) {
		int p[2];
		check(pipe(p) == 0);
		child = fork();
		if (child == 0) {
			uint32_t v[256];
			signal(SIGPIPE, SIG_DFL);
			close(p[0]);
			for (uint32_t i = 0;; i += 256) {
				for (int k = 0; k < 256; k++)
					v[k] = i + k;
				check(write(p[1], v, sizeof v) == sizeof v);
			}
		}
		close(p[1]);
		fd = p[0];
	}
	while (have < sizeof got) {
		ssize_t r = read(fd, (char *)got + have, sizeof got - have);
		check(r > 0);
		have += r;
	}
	for (int k = 0; k < 256; k++)
		check(got[k] == (uint32_t)n * 256 + k);
	if (sh->stop) {
		close(fd);
		waitpid(child, NULL, 0);
	}
}

/* handlers that nest, on another stack, at full speed */
static volatile long handled;

static void count(int sig) { (void)sig; handled++; }

static void raiser(long n)
{
	static char stack[65536];

	if (n == 0) {
		stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };
		struct sigaction sa = { .sa_handler = count, .sa_flags = SA_ONSTACK | SA_RESTART };
		check(sigaltstack(&ss, NULL) == 0);
		sigaction(SIGUSR1, &sa, NULL);
		sigaction(SIGUSR2, &sa, NULL);
	}
	long before = handled;
	for (int i = 0; i < 20; i++) {
		raise(SIGUSR1);
		kill(getpid(), SIGUSR2);
	}
	check(handled == before + 40);
}

static const struct { const char *name; void (*run)(long); } roles[] = {
	{ "forker", forker }, { "hoarder", hoarder }, { "execer", execer }, { "spawner", spawner },
	{ "threadexecer", threadexecer }, { "threader", threader }, { "stopper", stopper }, { "orphaner", orphaner },
	{ "pinger", pinger }, { "waiter", NULL }, { "epoller", epoller }, { "piper", piper }, { "raiser", raiser },
};
enum { ROLES = sizeof roles / sizeof roles[0] };

static int play(int i)
{
	role = roles[i].name;
	prctl(PR_SET_NAME, role);
	__atomic_add_fetch(&sh->ready, 1, __ATOMIC_SEQ_CST);
	if (!roles[i].run) {
		waiter(i);
		return 0;
	}
	long n = 0;
	do {
		roles[i].run(n++);
		sh->rounds[i] = n;
		for (int k = 0; k < 5; k++) /* leave some processor to the tracer */
			rest();
	} while (!sh->stop);
	if (roles[i].run == piper)
		roles[i].run(n);
	if (pinged > 0)
		reap(pinged, 0);
	no_child();
	return 0;
}

int main(int argc, char **argv)
{
	static char exe[4096];
	int status, left = ROLES;
	pid_t pid[ROLES];
	struct stat st;
	char path[4096];

	if (argc == 3 && !strcmp(argv[1], "--exit"))
		return atoi(argv[2]);
	if (argc != 2)
		return 64;
	dir = argv[1];
	check(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
	self = exe;
	snprintf(failfile, sizeof failfile, "%s/fail", dir);
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(sh != MAP_FAILED);
	for (int i = 0; i < ROLES; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			_exit(play(i));
		check(pid[i] > 0);
	}
	while (sh->ready < ROLES)
		rest();
	snprintf(path, sizeof path, "%s/ready", dir);
	close(open(path, O_CREAT | O_WRONLY, 0644));
	snprintf(path, sizeof path, "%s/stop", dir);
	while (stat(path, &st) != 0) {
		struct timespec t = { 0, 20000000 };
		check(nanosleep(&t, NULL) == 0);
		pid_t p = waitpid(-1, &status, WNOHANG | __WALL);
		if (p != 0)
			fail("child %d ended with %#x", p, status);
	}
	sh->stop = 1;
	while (left > 0) {
		int i;
		pid_t p = waitpid(-1, &status, 0);
		check(p > 0);
		for (i = 0; i < ROLES && pid[i] != p; i++)
			;
		if (i == ROLES)
			fail("a child that was not made: %d", p);
		if (status != 0)
			fail("%s ended with %#x", roles[i].name, status);
		if (sh->rounds[i] < 1)
			fail("%s did nothing", roles[i].name);
		left--;
	}
	no_child();
	printf("PASS");
	for (int i = 0; i < ROLES; i++)
		printf(" %s %ld", roles[i].name, sh->rounds[i]);
	printf("\n");
	return 0;
}
