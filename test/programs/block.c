// SPDX-License-Identifier: Apache-2.0
// A system call in progress, one a mode. It must not return EINTR, and it must
// last as long as was asked for on CLOCK_MONOTONIC, no matter what happens
// meanwhile: 3 s, or BLOCK_MS of the environment, from before the call. Calls
// without a timeout are ended by a helper after the file .go has appeared.
// READY is written a third of the time into the call, so that a call that is
// begun anew lasts too long.
#include "testlib.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>

// of linux/futex.h, which musl-gcc does not find
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAIT_BITSET_PRIVATE (9 | 128)
#define FUTEX_BITSET_MATCH_ANY 0xffffffff

#define EARLY 12 // ms; the kernel itself is never early
#define LATE 600 // ms, for a busy machine; what begins anew is late by a third of span at least
#define TAIL 100 // ms from .go to what ends a call without a timeout

static int64_t span = 3000;
static struct timespec rel; // span
static volatile int alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

static struct timespec after(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	t.tv_sec += rel.tv_sec;
	t.tv_nsec += rel.tv_nsec;
	if (t.tv_nsec >= 1000000000)
		t.tv_sec++, t.tv_nsec -= 1000000000;
	return t;
}

// Each call below gives what is known of its duration.
enum { EXACT, MAY_BE_EARLY, MAY_BE_LATE };

static int is(long ret, long want, int err)
{
	int e = errno;

	CHECK(ret == want && (want != -1 || e == err), "returned %ld (%s), should be %ld (%s)", ret,
	      ret == -1 ? strerror(e) : "", want, want == -1 ? strerror(err) : "");
	return 0;
}

static int c_nanosleep(void) { return is(syscall(SYS_nanosleep, &rel, NULL), 0, 0); }
static int c_nanosleep_rem(void)
{
	struct timespec rem;
	return is(syscall(SYS_nanosleep, &rel, &rem), 0, 0);
}
static int c_clock_nanosleep(void) { return is(clock_nanosleep(CLOCK_MONOTONIC, 0, &rel, NULL), 0, 0); }
static int c_clock_nanosleep_abs(void)
{
	struct timespec t = after(CLOCK_MONOTONIC);
	return is(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0, 0);
}
static int c_usleep(void) { return is(usleep((useconds_t)(span * 1000)), 0, 0); }
static int c_sleep(void)
{
	unsigned s = (unsigned)(span / 1000);
	span = s * 1000;
	return is(sleep(s), 0, 0);
}
static int c_poll(void) { return is(poll(NULL, 0, (int)span), 0, 0); }
static int c_poll_fd(void)
{
	int p[2];
	SYS(pipe(p));
	struct pollfd f = { .fd = p[0], .events = POLLIN };
	return is(poll(&f, 1, (int)span), 0, 0);
}
static int c_ppoll(void)
{
	struct timespec t = rel;
	return is(ppoll(NULL, 0, &t, NULL), 0, 0);
}
static int c_select(void)
{
	struct timeval t = { rel.tv_sec, rel.tv_nsec / 1000 };
	return is(select(0, NULL, NULL, NULL, &t), 0, 0);
}
static int c_pselect(void)
{
	struct timespec t = rel;
	return is(pselect(0, NULL, NULL, NULL, &t, NULL), 0, 0);
}
static int c_epoll(void)
{
	struct epoll_event e;
	return is(epoll_wait(SYS(epoll_create1(0)), &e, 1, (int)span), 0, 0);
}
static int c_epoll_pwait(void)
{
	struct epoll_event e;
	sigset_t set;
	sigemptyset(&set);
	return is(epoll_pwait(SYS(epoll_create1(0)), &e, 1, (int)span, &set), 0, 0);
}
static int c_futex(void)
{
	static uint32_t word;
	return is(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &rel, NULL, 0), -1, ETIMEDOUT);
}
static int c_futex_abs(void)
{
	static uint32_t word;
	struct timespec t = after(CLOCK_MONOTONIC);
	return is(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY), -1, ETIMEDOUT);
}
static int c_cond_timedwait(void)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_condattr_t attr;
	pthread_cond_t c;
	struct timespec t = after(CLOCK_MONOTONIC);
	int ret;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c, &attr);
	pthread_mutex_lock(&m);
	ret = pthread_cond_timedwait(&c, &m, &t);
	return is(ret, ETIMEDOUT, 0);
}
// A deadline on the real time: may pass while the job is away, never early.
static int c_sem_timedwait(void)
{
	sem_t s;
	struct timespec t = after(CLOCK_REALTIME), now;
	int ret;

	sem_init(&s, 0, 0);
	ret = sem_timedwait(&s, &t);
	is(ret, -1, ETIMEDOUT);
	clock_gettime(CLOCK_REALTIME, &now);
	CHECK(now.tv_sec > t.tv_sec || (now.tv_sec == t.tv_sec && now.tv_nsec >= t.tv_nsec), "ended before its deadline");
	return MAY_BE_EARLY;
}
static int c_sigtimedwait(void)
{
	struct timespec t = rel;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return is(sigtimedwait(&set, NULL, &t), -1, EAGAIN);
}
static int c_semtimedop(void)
{
	struct sembuf op = { 0, -1, 0 };
	struct timespec t = rel;
	int id = SYS(semget(IPC_PRIVATE, 1, 0600)), ret, err;

	ret = semtimedop(id, &op, 1, &t);
	err = errno;
	semctl(id, 0, IPC_RMID);
	errno = err;
	return is(ret, -1, EAGAIN);
}
// The timeout belongs to the socket and not to the call, so a call that is begun
// anew waits for all of it again. That is longer, but never EINTR.
static int c_recv_timeout(void)
{
	struct timeval t = { rel.tv_sec, rel.tv_nsec / 1000 };
	int s[2];
	char c;

	SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	SYS(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
	is(recv(s[0], &c, 1, 0), -1, EAGAIN);
	return MAY_BE_LATE;
}
static void arm(void)
{
	struct itimerval t = { { 0, 0 }, { rel.tv_sec, rel.tv_nsec / 1000 } };

	signal(SIGALRM, on_alarm);
	SYS(setitimer(ITIMER_REAL, &t, NULL));
}
static int c_pause(void)
{
	arm();
	is(pause(), -1, EINTR);
	return is(alarms, 1, 0);
}
static int c_sigsuspend(void)
{
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	SYS(sigprocmask(SIG_BLOCK, &set, &old));
	arm();
	is(sigsuspend(&old), -1, EINTR);
	SYS(sigprocmask(SIG_BLOCK, NULL, &old));
	is(sigismember(&old, SIGALRM), 1, 0);
	return is(alarms, 1, 0);
}

// The helper is a child that waits for .go, then a little, then does `end`.
static pid_t helper(void (*end)(void *), void *arg)
{
	pid_t pid = SYS(fork());

	if (pid)
		return pid;
	await();
	nap(TAIL);
	end(arg);
	_exit(7);
}

static void end_write(void *fd) { EQ("write", write(*(int *)fd, "!", 1), 1); }
static void end_nothing(void *arg) { (void)arg; }
static void end_post(void *s) { sem_post(s); }
static void end_kill(void *pid) { SYS(kill(*(pid_t *)pid, SIGUSR1)); }
static void end_wake(void *word)
{
	__atomic_store_n((uint32_t *)word, 1, __ATOMIC_SEQ_CST);
	SYS(syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0));
}

static int u_read(void)
{
	int p[2];
	char c = 0;

	SYS(pipe(p));
	helper(end_write, &p[1]);
	is(read(p[0], &c, 1), 1, 0);
	return is(c, '!', 0);
}
static int u_wait(void)
{
	pid_t pid = helper(end_nothing, NULL);
	int st;

	is(wait4(pid, &st, 0, NULL), pid, 0);
	return is(st, 7 << 8, 0);
}
static int u_futex(void)
{
	uint32_t *word = shared(4096);

	helper(end_wake, word);
	return is(syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0), 0, 0);
}
static int u_sem(void)
{
	sem_t *s = shared(4096);

	sem_init(s, 1, 0);
	helper(end_post, s);
	return is(sem_wait(s), 0, 0);
}
static int u_poll(void)
{
	int p[2];
	struct pollfd f = { .events = POLLIN };

	SYS(pipe(p));
	f.fd = p[0];
	helper(end_write, &p[1]);
	return is(poll(&f, 1, -1), 1, 0);
}
static int u_epoll(void)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 0x123456789 };
	int p[2], fd = SYS(epoll_create1(0));

	SYS(pipe(p));
	SYS(epoll_ctl(fd, EPOLL_CTL_ADD, p[0], &e));
	helper(end_write, &p[1]);
	is(epoll_wait(fd, &e, 1, -1), 1, 0);
	return is((long)e.data.u64, 0x123456789, 0);
}
static int u_sigwait(void)
{
	pid_t pid = getpid();
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	helper(end_kill, &pid);
	return is(sigwaitinfo(&set, NULL), SIGUSR1, 0);
}
// The helper holds the lock until it ends.
static int u_flock(void)
{
	int *locked = shared(4096), fd, ret;
	pid_t pid = SYS(fork());

	if (pid == 0) {
		fd = SYS(open(path(".lock"), O_CREAT | O_RDWR, 0600));
		SYS(flock(fd, LOCK_EX));
		*locked = 1;
		await();
		nap(TAIL);
		_exit(0);
	}
	while (!*locked)
		nap(5);
	fd = SYS(open(path(".lock"), O_RDWR));
	ret = flock(fd, LOCK_EX);
	return is(ret, 0, 0);
}
static int u_recv(void)
{
	int s[2];
	char c = 0;

	SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	helper(end_write, &s[1]);
	return is(recv(s[0], &c, 1, 0), 1, 0);
}

static const struct {
	const char *name;
	int (*call)(void);
	int timed;
} calls[] = {
	{ "nanosleep", c_nanosleep, 1 }, { "nanosleep-rem", c_nanosleep_rem, 1 },
	{ "clock_nanosleep", c_clock_nanosleep, 1 }, { "clock_nanosleep-abs", c_clock_nanosleep_abs, 1 },
	{ "usleep", c_usleep, 1 }, { "sleep", c_sleep, 1 }, { "poll", c_poll, 1 }, { "poll-fd", c_poll_fd, 1 },
	{ "ppoll", c_ppoll, 1 }, { "select", c_select, 1 }, { "pselect", c_pselect, 1 }, { "epoll_wait", c_epoll, 1 },
	{ "epoll_pwait", c_epoll_pwait, 1 }, { "futex", c_futex, 1 }, { "futex-abs", c_futex_abs, 1 },
	{ "cond_timedwait", c_cond_timedwait, 1 }, { "sem_timedwait", c_sem_timedwait, 1 },
	{ "sigtimedwait", c_sigtimedwait, 1 }, { "semtimedop", c_semtimedop, 1 }, { "recv-timeout", c_recv_timeout, 1 },
	{ "pause", c_pause, 1 }, { "sigsuspend", c_sigsuspend, 1 },
	{ "read", u_read, 0 }, { "wait4", u_wait, 0 }, { "futex-untimed", u_futex, 0 }, { "sem_wait", u_sem, 0 },
	{ "poll-untimed", u_poll, 0 }, { "epoll-untimed", u_epoll, 0 }, { "sigwaitinfo", u_sigwait, 0 },
	{ "flock", u_flock, 0 }, { "recv", u_recv, 0 },
};

static void run(int (*call)(void), int timed)
{
	int64_t start, took;
	int duration;

	if (SYS(fork()) == 0) { // says READY when a third of the time has gone by
		nap((int)span / 3);
		ready();
		_exit(0);
	}
	start = ms();
	duration = call();
	took = ms() - start;
	if (!timed) {
		CHECK(told(), "returned after %lld ms, before anything had ended it", (long long)took);
		pass();
	}
	CHECK(duration == MAY_BE_EARLY || took >= span - EARLY, "lasted %lld ms, asked for %lld", (long long)took, (long long)span);
	CHECK(duration == MAY_BE_LATE || took <= span + LATE, "lasted %lld ms, asked for %lld", (long long)took, (long long)span);
	await();
	pass();
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (getenv("BLOCK_MS"))
		span = atoi(getenv("BLOCK_MS"));
	rel = (struct timespec){ span / 1000, span % 1000 * 1000000 };
	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
		if (is_mode(calls[i].name))
			run(calls[i].call, calls[i].timed);
	fprintf(stderr, "no mode \"%s\"\n", mode);
	return 64;
}
