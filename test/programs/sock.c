// SPDX-License-Identifier: Apache-2.0
// Pairs of sockets with data on the way in both directions, half closed, and
// with the other end in another process.
#include "testlib.h"
#include "sockdata.h"
#include <sys/socket.h>

static void pair(int type, int *s)
{
	SYS(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, s));
}

static void both_ways(int type)
{
	int s[2], messages = type != SOCK_STREAM, size = 98304, is;
	socklen_t len = sizeof is;

	pair(type, s);
	SYS(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
	SYS(fcntl(s[1], F_SETFL, O_NONBLOCK));
	put_data(s[0], 800, 1);
	put_data(s[0], 1600, 101);
	put_data(s[1], 24, 7);
	ready_and_await();
	SYS(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &is, &len));
	EQ("type", is, type);
	SYS(getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &is, &len));
	EQ("send buffer", is, 2 * size);
	EQ("flags", fcntl(s[1], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	EQ("close-on-exec", fcntl(s[0], F_GETFD), FD_CLOEXEC);
	if (messages) {
		get_data("first message", s[1], 800, 1);
		get_data("second message", s[1], 1600, 101);
	} else {
		get_data("stream", s[1], 2400, 1);
	}
	get_data("the other way", s[0], 24, 7);
	nothing(s[0]);
	nothing(s[1]);
	put_data(s[1], 800, 5);
	get_data("what is sent now", s[0], 800, 5);
}

static void stream(void) { both_ways(SOCK_STREAM); }
static void dgram(void) { both_ways(SOCK_DGRAM); }
static void seqpacket(void) { both_ways(SOCK_SEQPACKET); }

// One end has said that it sends no more; another is closed altogether.
static void half(void)
{
	int s[2], t[2];

	pair(SOCK_STREAM, s);
	pair(SOCK_STREAM, t);
	put_data(s[0], 800, 1);
	SYS(shutdown(s[0], SHUT_WR));
	put_data(t[0], 80, 3);
	close(t[0]);
	ready_and_await();
	get_data("what was sent before the end", s[1], 800, 1);
	EQ("end", recv(s[1], buf, 1, MSG_DONTWAIT), 0);
	EQ("send after the end", send(s[0], "x", 1, MSG_NOSIGNAL), -1);
	EQ("error", errno, EPIPE);
	put_data(s[1], 80, 2);
	get_data("the way that is open", s[0], 80, 2);
	get_data("what was sent before the close", t[1], 80, 3);
	EQ("end", recv(t[1], buf, 1, MSG_DONTWAIT), 0);
	EQ("send to nobody", send(t[1], "x", 1, MSG_NOSIGNAL), -1);
	EQ("error", errno, EPIPE);
}

// receive in pieces: one call may be cut short when data is there already
static void receive(const char *what, int s, size_t size, uint64_t seed)
{
	for (size_t n = 0; n < size;) {
		ssize_t r;

		if (n) // the first one is the call that the process is blocked in
			readable(what, s);
		r = SYS(recv(s, buf + n, size - n, 0));
		CHECK(r > 0, "%s ends after %zu bytes", what, n);
		n += (size_t)r;
	}
	SAME(what, buf, size, seed);
}

static void between(void)
{
	int s[2];
	pid_t pid;

	pair(SOCK_STREAM, s);
	pid = SYS(fork());
	if (pid == 0) {
		close(s[0]);
		receive("what the child receives", s[1], 800, 9);
		put_data(s[1], 800, 8);
		_exit(0);
	}
	close(s[1]);
	put_data(s[0], 400, 9);
	ready_and_await();
	put_data(s[0], 400, 59);
	receive("what the parent receives", s[0], 800, 8);
	reap(pid, 0);
	EQ("end when the child has ended", recv(s[0], buf, 1, 0), 0);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "stream", stream }, { "dgram", dgram }, { "seqpacket", seqpacket }, { "half", half }, { "between", between }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
