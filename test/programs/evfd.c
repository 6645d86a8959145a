// SPDX-License-Identifier: Apache-2.0
// eventfd, epoll, timerfd, signalfd.
#include "testlib.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define SLACK 400 // ms, for a busy machine

static void eventfds(void)
{
	int plain = SYS(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), sem = SYS(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK));
	uint64_t v = 0x123456789abcull;

	EQ("write", write(plain, &v, 8), 8);
	ready_and_await();
	EQ("close-on-exec", fcntl(plain, F_GETFD), FD_CLOEXEC);
	EQ("read", read(plain, &v, 8), 8);
	EQ("counter", v, 0x123456789abcull);
	EQ("read of 0", read(plain, &v, 8), -1);
	for (int i = 0; i < 3; i++) {
		EQ("read", read(sem, &v, 8), 8);
		EQ("semaphore gives", v, 1);
	}
	EQ("read of 0", read(sem, &v, 8), -1);
	EQ("error", errno, EAGAIN);
}

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = { .events = events, .data.u64 = data };

	SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

static void one(const char *what, int ep, uint32_t events, uint64_t data)
{
	struct epoll_event e[8];

	EQ(what, epoll_wait(ep, e, 8, 0), events ? 1 : 0);
	if (!events)
		return;
	EQ("its data", e[0].data.u64, data);
	EQ("its events", e[0].events, events);
}

// Level, edge, one shot that has fired, a copy of a number that was closed,
// an epoll in an epoll.
static void epolls(void)
{
	int ep = SYS(epoll_create1(EPOLL_CLOEXEC)), outer = SYS(epoll_create1(0)), p[3][2], fd;
	char c;

	for (int i = 0; i < 3; i++)
		SYS(pipe(p[i]));
	add(ep, p[0][0], EPOLLIN, 0xfeedface00000001);
	add(ep, p[1][0], EPOLLIN | EPOLLET, 2);
	add(ep, p[2][0], EPOLLIN | EPOLLONESHOT, 3);
	add(outer, ep, EPOLLIN, 99);
	EQ("write", write(p[2][1], "x", 1), 1);
	one("one shot", ep, EPOLLIN, 3);
	ready_and_await();
	EQ("close-on-exec", fcntl(ep, F_GETFD), FD_CLOEXEC);
	one("nothing ready", ep, 0, 0);
	one("nothing ready outside", outer, 0, 0);
	EQ("write", write(p[0][1], "x", 1), 1);
	one("level", ep, EPOLLIN, 0xfeedface00000001);
	one("level again", ep, EPOLLIN, 0xfeedface00000001);
	one("outside", outer, EPOLLIN, 99);
	EQ("read", read(p[0][0], &c, 1), 1);
	EQ("write", write(p[1][1], "x", 1), 1);
	one("edge", ep, EPOLLIN, 2);
	one("edge again", ep, 0, 0);
	fd = p[2][0];
	SYS(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &(struct epoll_event){ .events = EPOLLIN, .data.u64 = 33 }));
	one("one shot armed anew", ep, EPOLLIN, 33);
	EQ("add what is there", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ 0 }), -1);
	EQ("error", errno, EEXIST);
}

static int64_t ts(struct timespec t) { return t.tv_sec * 1000LL + t.tv_nsec / 1000000; }

static void set(int fd, int flags, int64_t first, int64_t interval)
{
	struct itimerspec t = { { interval / 1000, interval % 1000 * 1000000 }, { first / 1000, first % 1000 * 1000000 } };

	SYS(timerfd_settime(fd, flags, &t, NULL));
}

// A periodic one with ticks that nobody has read, one far off, one with an
// absolute time, one of the real time, one not armed.
static void timerfds(void)
{
	int fd[5];
	int64_t start = ms(), want;
	struct itimerspec t;
	uint64_t n, more;

	for (int i = 0; i < 5; i++)
		fd[i] = SYS(timerfd_create(i == 3 ? CLOCK_REALTIME : i == 2 ? CLOCK_BOOTTIME : CLOCK_MONOTONIC, TFD_NONBLOCK));
	set(fd[0], 0, 30, 30);
	set(fd[1], 0, 500000, 0);
	set(fd[2], 0, 600000, 70000);
	set(fd[3], TFD_TIMER_ABSTIME, (int64_t)time(NULL) * 1000 + 700000, 0);
	nap(100);
	ready_and_await();
	EQ("read", read(fd[0], &n, 8), 8);
	want = (ms() - start) / 30;
	CHECK((int64_t)n <= want && (int64_t)n >= want - SLACK / 30, "%lld ticks, should be %lld", (long long)n, (long long)want);
	nap(100);
	EQ("a periodic timer ticks on", read(fd[0], &more, 8), 8);
	want = (ms() - start) / 30;
	CHECK((int64_t)(n + more) <= want && (int64_t)(n + more) >= want - SLACK / 30, "%lld ticks, should be %lld", (long long)(n + more), (long long)want);
	SYS(timerfd_gettime(fd[1], &t));
	want = 500000 - (ms() - start);
	CHECK(llabs(ts(t.it_value) - want) < SLACK, "%lld ms left, should be %lld", (long long)ts(t.it_value), (long long)want);
	SYS(timerfd_gettime(fd[2], &t));
	want = 600000 - (ms() - start);
	CHECK(llabs(ts(t.it_value) - want) < SLACK, "%lld ms left, should be %lld", (long long)ts(t.it_value), (long long)want);
	EQ("its interval", ts(t.it_interval), 70000);
	SYS(timerfd_gettime(fd[3], &t));
	CHECK(ts(t.it_value) > 0 && ts(t.it_value) <= 700000, "%lld ms left of the real time", (long long)ts(t.it_value));
	SYS(timerfd_gettime(fd[4], &t));
	EQ("one that is not armed", ts(t.it_value), 0);
	EQ("read of one that has not ticked", read(fd[1], &n, 8), -1);
	EQ("error", errno, EAGAIN);
	set(fd[4], 0, 20, 0);
	nap(40);
	EQ("read", read(fd[4], &n, 8), 8);
}

static void signalfds(void)
{
	union sigval v = { .sival_int = 31337 };
	struct signalfd_siginfo info;
	sigset_t mask;
	int fd;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGRTMIN + 3);
	SYS(sigprocmask(SIG_BLOCK, &mask, NULL));
	fd = SYS(signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC));
	SYS(sigqueue(getpid(), SIGRTMIN + 3, v));
	ready_and_await();
	EQ("read", read(fd, &info, sizeof info), sizeof info);
	EQ("signal", info.ssi_signo, SIGRTMIN + 3);
	EQ("value", info.ssi_int, 31337);
	EQ("sender", info.ssi_pid, getpid());
	SYS(kill(getpid(), SIGUSR1));
	EQ("read", read(fd, &info, sizeof info), sizeof info);
	EQ("signal", info.ssi_signo, SIGUSR1);
	EQ("read", read(fd, &info, sizeof info), -1);
	EQ("error", errno, EAGAIN);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "eventfd", eventfds }, { "epoll", epolls }, { "timerfd", timerfds }, { "signalfd", signalfds }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
