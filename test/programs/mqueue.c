// SPDX-License-Identifier: Apache-2.0
// mqueue: POSIX message queues (mq_overview(7)).
#include "testlib.h"

#include <mqueue.h>

// name is one that no other run has.
static const char *name(const char *what)
{
	static char buf[2][64];
	static int next;

	next = !next;
	snprintf(buf[next], sizeof buf[0], "/esky-%s-%d", what, getpid());
	return buf[next];
}

static void put_in(mqd_t q, unsigned priority, const char *text)
{
	SYS(mq_send(q, text, strlen(text), priority));
}

static void want(mqd_t q, unsigned priority, const char *text)
{
	char buf[8192 + 1] = "";
	unsigned p = 99;

	EQ("length of a message", SYS(mq_receive(q, buf, 8192, &p)), strlen(text));
	EQ("its priority", p, priority);
	CHECK(strcmp(buf, text) == 0, "message \"%s\", was \"%s\"", buf, text);
}

static struct mq_attr attr_of(mqd_t q)
{
	struct mq_attr a;

	SYS(mq_getattr(q, &a));
	return a;
}

// queues: one with a name and priorities, opened twice; one that was removed
// while it is open; one that nobody has open; one who waits for a message.
static void queues(void)
{
	struct mq_attr small = { .mq_maxmsg = 7, .mq_msgsize = 64 };
	mqd_t q, rd, gone, closed;
	struct stat st;
	pid_t child;

	umask(022);
	q = SYS(mq_open(name("test"), O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0640, &small));
	rd = SYS(mq_open(name("test"), O_RDONLY));
	gone = SYS(mq_open(name("gone"), O_CREAT | O_EXCL | O_RDWR, 0600, NULL));
	closed = SYS(mq_open(name("closed"), O_CREAT | O_EXCL | O_RDWR, 0600, NULL));
	SYS(mq_unlink(name("gone")));
	put_in(q, 1, "one");
	put_in(q, 9, "urgent");
	put_in(q, 1, "one more");
	put_in(q, 0, "");
	put_in(closed, 3, "left behind");
	SYS(mq_close(closed));
	child = SYS(fork());
	if (child == 0) {
		want(gone, 5, "to the child");
		_exit(7);
	}
	nap(50);
	ready_and_await();
	EQ("messages", attr_of(q).mq_curmsgs, 4);
	EQ("room", attr_of(q).mq_maxmsg, 7);
	EQ("size", attr_of(q).mq_msgsize, 64);
	EQ("flags", attr_of(q).mq_flags, O_NONBLOCK);
	EQ("flags of the other", attr_of(rd).mq_flags, 0);
	SYS(fstat(q, &st));
	EQ("mode", st.st_mode & 07777, 0640);
	CHECK(fcntl(q, F_GETFD) == FD_CLOEXEC, "the queue is not closed by exec");
	CHECK(mq_send(rd, "x", 1, 0) != 0 && errno == EBADF, "a descriptor for reading writes");
	CHECK(mq_open(name("gone"), O_RDWR) == -1, "a removed queue has its name again");
	put_in(gone, 5, "to the child");
	reap(child, 7);
	want(q, 9, "urgent");
	want(rd, 1, "one");
	want(q, 1, "one more");
	want(rd, 0, "");
	EQ("messages", attr_of(q).mq_curmsgs, 0);
	closed = SYS(mq_open(name("closed"), O_RDWR));
	want(closed, 3, "left behind");
	SYS(mq_unlink(name("closed")));
	SYS(mq_unlink(name("test")));
}

// notify: one who is to be told of the next message; what goes with the signal
// nobody can read.
static void notify(void)
{
	mqd_t q = SYS(mq_open(name("notify"), O_CREAT | O_EXCL | O_RDWR, 0600, NULL));
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	e.sigev_value.sival_int = 4711;
	SYS(mq_notify(q, &e));
	ready_and_await();
	put_in(q, 1, "x");
	SYS(sigwaitinfo(&set, &info));
	EQ("value", info.si_value.sival_int, 4711);
	SYS(mq_unlink(name("notify")));
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = { { "queues", queues }, { "notify", notify }, { NULL, NULL } };

	begin(argc, argv);
	run_mode(modes);
}
