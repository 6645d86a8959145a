// SPDX-License-Identifier: Apache-2.0
// Pipes and FIFOs: content, capacity, ends that are closed, ends of several
// processes.
#include "testlib.h"

static char buf[1 << 20];

static void fill(int fd, size_t size, uint64_t seed)
{
	pattern(buf, size, seed);
	EQ("write", write(fd, buf, size), size);
}

static void drain(const char *what, int fd, size_t size, uint64_t seed)
{
	size_t n = 0;
	ssize_t r;

	do {
		readable(what, fd);
		r = SYS(read(fd, buf + n, size - n));
		n += (size_t)r;
	} while (r > 0 && n < size);
	EQ(what, n, size);
	SAME(what, buf, size, seed);
}

static void empty(int fd)
{
	SYS(fcntl(fd, F_SETFL, O_NONBLOCK));
	EQ("more than there was", read(fd, buf, 1), -1);
	EQ("error of an empty pipe", errno, EAGAIN);
}

static void content(void)
{
	int p[2], big[2];

	SYS(pipe2(p, O_CLOEXEC | O_NONBLOCK));
	SYS(pipe(big));
	SYS(fcntl(big[1], F_SETPIPE_SZ, 1 << 19));
	fill(p[1], 1000, 1);
	fill(p[1], 2000, 126);
	fill(big[1], 400000, 9);
	ready_and_await();
	EQ("capacity", fcntl(big[0], F_GETPIPE_SZ), 1 << 19);
	EQ("capacity", fcntl(p[0], F_GETPIPE_SZ), 65536);
	EQ("flags", fcntl(p[0], F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
	EQ("flags", fcntl(p[1], F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_WRONLY | O_NONBLOCK);
	EQ("close-on-exec", fcntl(p[1], F_GETFD), FD_CLOEXEC);
	drain("content", p[0], 3000, 1);
	drain("much content", big[0], 400000, 9);
	empty(p[0]);
	empty(big[0]);
	fill(big[1], 8000, 5);
	drain("what is written now", big[0], 8000, 5);
}

// Packets: one read takes one of them, and the rest of it is gone (pipe2(2)).
static void packets(void)
{
	int p[2], none[2], one[2];

	SYS(pipe2(p, O_DIRECT));
	SYS(pipe2(one, O_DIRECT));
	fill(one[1], 8, 1);
	SYS(pipe2(none, O_DIRECT | O_NONBLOCK));
	fill(p[1], 100, 1);
	fill(p[1], 4000, 2);
	fill(p[1], 80, 3);
	ready_and_await();
	EQ("flags", fcntl(p[1], F_GETFL) & (O_DIRECT | O_NONBLOCK), O_DIRECT);
	EQ("flags of an empty one", fcntl(none[1], F_GETFL) & (O_DIRECT | O_NONBLOCK), O_DIRECT | O_NONBLOCK);
	EQ("first packet", read(p[0], buf, sizeof buf), 100);
	SAME("first packet", buf, 100, 1);
	EQ("part of the second", read(p[0], buf, 800), 800);
	SAME("second packet", buf, 800, 2);
	EQ("third packet", read(p[0], buf, sizeof buf), 80);
	fill(p[1], 8, 4);
	fill(p[1], 8, 5);
	EQ("a packet written now", read(p[0], buf, sizeof buf), 8);
	EQ("and the next", read(p[0], buf, sizeof buf), 8);
	fill(one[1], 8, 5);
	EQ("a single packet", read(one[0], buf, sizeof buf), 8);
	empty(none[0]);
}

// The writer has closed: content, then the end. The reader has: EPIPE.
static void closed(void)
{
	int p[2], q[2];

	signal(SIGPIPE, SIG_IGN);
	SYS(pipe(p));
	SYS(pipe(q));
	fill(p[1], 800, 2);
	close(p[1]);
	close(q[0]);
	ready_and_await();
	drain("content", p[0], 800, 2);
	EQ("end", read(p[0], buf, 1), 0);
	EQ("write without a reader", write(q[1], "x", 1), -1);
	EQ("error", errno, EPIPE);
}

// A child at the other end, which writes before and after.
static void between(void)
{
	int p[2], *step = shared(4096);
	pid_t pid;

	SYS(pipe(p));
	pid = SYS(fork());
	if (pid == 0) {
		close(p[0]);
		fill(p[1], 4000, 3);
		*step = 1;
		await();
		fill(p[1], 4000, 503);
		_exit(0);
	}
	close(p[1]);
	while (!*step)
		nap(5);
	ready_and_await();
	drain("content of before and after", p[0], 8000, 3);
	EQ("end when the child has ended", read(p[0], buf, 1), 0);
	reap(pid, 0);
}

static void fifo(void)
{
	int r, w, both;
	struct stat st;

	SYS(mkfifo(path(".fifo"), 0600));
	r = SYS(open(path(".fifo"), O_RDONLY | O_NONBLOCK));
	w = SYS(open(path(".fifo"), O_WRONLY));
	fill(w, 2400, 4);
	SYS(mkfifo(path(".fifo2"), 0600));
	both = SYS(open(path(".fifo2"), O_RDWR));
	fill(both, 1600, 7);
	ready_and_await();
	SYS(stat(path(".fifo"), &st));
	CHECK(S_ISFIFO(st.st_mode), "the FIFO has no name any more");
	drain("content", r, 2400, 4);
	EQ("more", read(r, buf, 1), -1);
	EQ("error", errno, EAGAIN);
	fill(w, 800, 6);
	drain("what is written now", r, 800, 6);
	close(w);
	EQ("end", read(r, buf, 1), 0);
	w = SYS(open(path(".fifo"), O_WRONLY | O_NONBLOCK)); // the reader is at the same FIFO
	fill(w, 80, 8);
	drain("by a new writer", r, 80, 8);
	drain("content of the one opened both ways", both, 1600, 7);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "content", content }, { "packets", packets }, { "closed", closed }, { "between", between }, { "fifo", fifo }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
