// SPDX-License-Identifier: Apache-2.0
// TCP and UDP inside the job.
#include "testlib.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static char buf[65536];

struct name {
	struct sockaddr_storage a;
	socklen_t len;
};

static struct name loopback(int family)
{
	struct name n = { .a.ss_family = family };

	if (family == AF_INET) {
		((struct sockaddr_in *)&n.a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		n.len = sizeof(struct sockaddr_in);
	} else {
		((struct sockaddr_in6 *)&n.a)->sin6_addr = in6addr_loopback;
		n.len = sizeof(struct sockaddr_in6);
	}
	return n;
}

static struct name own(int s)
{
	struct name n = { .len = sizeof n.a };

	SYS(getsockname(s, (struct sockaddr *)&n.a, &n.len));
	return n;
}

static struct name far(int s)
{
	struct name n = { .len = sizeof n.a };

	SYS(getpeername(s, (struct sockaddr *)&n.a, &n.len));
	return n;
}

static void same(const char *what, struct name a, struct name b)
{
	EQ(what, a.len, b.len);
	CHECK(memcmp(&a.a, &b.a, a.len) == 0, "%s: another address", what);
}

static int bound(int type, int family)
{
	struct name n = loopback(family);
	int s = SYS(socket(family, type | SOCK_CLOEXEC, 0));

	SYS(bind(s, (struct sockaddr *)&n.a, n.len));
	return s;
}

static int listener(int family, int backlog)
{
	int s = bound(SOCK_STREAM, family);

	SYS(listen(s, backlog));
	return s;
}

static int connected(int l)
{
	struct name n = own(l);
	int s = SYS(socket(n.a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));

	SYS(connect(s, (struct sockaddr *)&n.a, n.len));
	return s;
}

static void set(int s, int level, int name, int v) { SYS(setsockopt(s, level, name, &v, sizeof v)); }

static int get(int s, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof v;

	SYS(getsockopt(s, level, name, &v, &len));
	return v;
}

static void put_data(int s, size_t n, uint64_t seed)
{
	pattern(buf, n, seed);
	EQ("send", send(s, buf, n, MSG_NOSIGNAL), n);
}

static void get_data(const char *what, int s, size_t n, uint64_t seed)
{
	readable(what, s);
	EQ(what, recv(s, buf, n, MSG_WAITALL), n);
	SAME(what, buf, n, seed);
}

// Listening sockets and their options.
static void listeners(void)
{
	struct linger on = { 1, 7 }, got;
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 99 };
	struct name n, n6;
	socklen_t len = sizeof got;
	int l = listener(AF_INET, 5), l6 = SYS(socket(AF_INET6, SOCK_STREAM, 0)), idle = SYS(socket(AF_INET, SOCK_STREAM, 0)), s, c, ep;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };

	set(l6, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	set(l6, SOL_SOCKET, SO_REUSEADDR, 1);
	SYS(bind(l6, (struct sockaddr *)&any, sizeof any));
	SYS(listen(l6, 3));
	SYS(fcntl(l6, F_SETFL, O_NONBLOCK));
	set(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
	set(idle, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(idle, IPPROTO_TCP, TCP_KEEPIDLE, 77);
	set(idle, IPPROTO_TCP, TCP_NODELAY, 1);
	set(idle, SOL_SOCKET, SO_RCVBUF, 30000);
	set(idle, IPPROTO_IP, IP_TOS, 16);
	SYS(setsockopt(idle, SOL_SOCKET, SO_LINGER, &on, sizeof on));
	n = own(l);
	n6 = own(l6);
	ep = SYS(epoll_create1(0));
	SYS(epoll_ctl(ep, EPOLL_CTL_ADD, l, &e));
	ready_and_await();
	same("the listener", own(l), n);
	same("the listener for both", own(l6), n6);
	EQ("listens", get(l, SOL_SOCKET, SO_ACCEPTCONN), 1);
	EQ("SO_REUSEADDR, not set", get(l, SOL_SOCKET, SO_REUSEADDR), 0);
	EQ("SO_REUSEADDR, set", get(l6, SOL_SOCKET, SO_REUSEADDR), 1);
	EQ("IPV6_V6ONLY", get(l6, IPPROTO_IPV6, IPV6_V6ONLY), 0);
	EQ("SO_KEEPALIVE", get(idle, SOL_SOCKET, SO_KEEPALIVE), 1);
	EQ("TCP_KEEPIDLE", get(idle, IPPROTO_TCP, TCP_KEEPIDLE), 77);
	EQ("TCP_NODELAY", get(idle, IPPROTO_TCP, TCP_NODELAY), 1);
	EQ("SO_RCVBUF", get(idle, SOL_SOCKET, SO_RCVBUF), 60000);
	EQ("IP_TOS", get(idle, IPPROTO_IP, IP_TOS), 16);
	SYS(getsockopt(idle, SOL_SOCKET, SO_LINGER, &got, &len));
	CHECK(got.l_onoff == 1 && got.l_linger == 7, "SO_LINGER is %d, %d", got.l_onoff, got.l_linger);
	EQ("nobody waits", accept(l6, NULL, NULL), -1);
	EQ("error", errno, EAGAIN);
	c = connected(l);
	EQ("epoll", epoll_wait(ep, &e, 1, 10000), 1);
	s = SYS(accept(l, NULL, NULL));
	put_data(c, 80, 1);
	get_data("a new connection", s, 80, 1);
}

// fill sends until nothing more fits, and gives how much that was.
static size_t fill(int s, uint64_t seed)
{
	size_t n = 0;

	for (;;) {
		ssize_t r;

		pattern(buf, sizeof buf, seed + n / 8);
		r = send(s, buf, sizeof buf, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r < 0) {
			EQ("error", errno, EAGAIN);
			return n;
		}
		n += (size_t)r;
		if (r % 8) // keep to whole words
			return n;
	}
}

static void drain(const char *what, int s, size_t n, uint64_t seed)
{
	char *all = SYS(mmap(NULL, n + 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	for (size_t at = 0; at < n;) {
		ssize_t r;

		readable(what, s);
		r = SYS(recv(s, all + at, n - at, 0));
		CHECK(r > 0, "%s ends after %zu bytes of %zu", what, at, n);
		at += (size_t)r;
	}
	SAME(what, all, n, seed);
	munmap(all, n + 8);
}

// Connections between two processes: data both ways, one full to the brim, half
// closed, closed.
static void stream_of(int family)
{
	int l = listener(family, 5), s[3], c[3], p[2];
	struct name a[3], b[3];
	size_t much;
	pid_t pid;

	SYS(pipe(p));
	for (int i = 0; i < 3; i++) {
		c[i] = connected(l);
		s[i] = SYS(accept(l, NULL, NULL));
		a[i] = own(s[i]);
		b[i] = own(c[i]);
	}
	set(c[0], IPPROTO_TCP, TCP_NODELAY, 1);
	set(s[0], IPPROTO_TCP, TCP_KEEPINTVL, 33);
	pid = SYS(fork());
	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			close(s[i]);
		close(l);
		put_data(c[0], 800, 1);
		put_data(c[1], 160, 7);
		SYS(shutdown(c[1], SHUT_WR));
		put_data(c[2], 240, 8);
		close(c[2]);
		EQ("tell", write(p[1], "x", 1), 1);
		get_data("what the child gets, blocked", c[0], 88, 2);
		get_data("the way that is open", c[1], 96, 3);
		same("its name", own(c[0]), b[0]);
		same("its peer", far(c[0]), a[0]);
		EQ("TCP_NODELAY", get(c[0], IPPROTO_TCP, TCP_NODELAY), 1);
		put_data(c[0], 104, 4);
		_exit(0);
	}
	for (int i = 0; i < 3; i++)
		close(c[i]);
	EQ("told", read(p[0], buf, 1), 1);
	nap(50);
	put_data(s[1], 96, 3);
	ready_and_await();
	for (int i = 0; i < 2; i++) {
		same("name", own(s[i]), a[i]);
		same("peer", far(s[i]), b[i]);
	}
	EQ("TCP_KEEPINTVL", get(s[0], IPPROTO_TCP, TCP_KEEPINTVL), 33);
	EQ("SO_RCVLOWAT", get(s[0], SOL_SOCKET, SO_RCVLOWAT), 1);
	get_data("what the parent gets", s[0], 800, 1);
	get_data("before the half close", s[1], 160, 7);
	EQ("its end", recv(s[1], buf, 1, 0), 0);
	get_data("before the close", s[2], 240, 8);
	EQ("its end", recv(s[2], buf, 1, 0), 0);
	put_data(s[0], 88, 2);
	get_data("what is sent now", s[0], 104, 4);
	reap(pid, 0);
	EQ("end", recv(s[0], buf, 1, 0), 0);
	// a connection that is made afterwards
	c[0] = connected(l);
	s[0] = SYS(accept(l, NULL, NULL));
	much = fill(c[0], 5);
	drain("much", s[0], much, 5);
}

static void stream(void) { stream_of(AF_INET); }
static void stream6(void) { stream_of(AF_INET6); }

static void brim(void)
{
	int l = listener(AF_INET, 1), s, c, small = 20000;
	size_t there, back;

	set(l, SOL_SOCKET, SO_RCVBUF, small);
	c = connected(l);
	s = SYS(accept(l, NULL, NULL));
	there = fill(c, 11);
	back = fill(s, 22);
	ready_and_await();
	EQ("SO_RCVBUF", get(s, SOL_SOCKET, SO_RCVBUF), 2 * small);
	drain("there", s, there, 11);
	drain("back", c, back, 22);
	EQ("more", recv(s, buf, 1, MSG_DONTWAIT), -1);
	EQ("error", errno, EAGAIN);
	put_data(c, 80, 1);
	get_data("what is sent now", s, 80, 1);
}

// Connections that wait to be accepted, and one that has just begun.
static void waiting(void)
{
	int l = listener(AF_INET, 5), c[2], s, found = 0;
	struct name b[2];

	for (int i = 0; i < 2; i++) {
		c[i] = connected(l);
		b[i] = own(c[i]);
	}
	ready_and_await();
	for (int i = 0; i < 2; i++) {
		struct name n;

		readable("the listener", l);
		s = SYS(accept(l, NULL, NULL));
		n = far(s);
		for (int k = 0; k < 2; k++) {
			if (memcmp(&n.a, &b[k].a, n.len) != 0)
				continue;
			found++;
			put_data(c[k], 80, 10 + k);
			get_data("who waited", s, 80, 10 + k);
			put_data(s, 80, 20 + k);
			get_data("and back", c[k], 80, 20 + k);
		}
	}
	EQ("found", found, 2);
}

// Data waits on connections that are not accepted yet, and the maker of one is
// gone. nobody: nor are they ever before .go.
static void late_for(int nobody)
{
	int l = listener(AF_INET, 5), c = connected(l), gone, s;
	int64_t from;
	struct name b = own(c);

	put_data(c, 80, 1);
	gone = connected(l);
	put_data(gone, 96, 2);
	close(gone);
	ready();
	if (nobody)
		await();
	for (from = ms(); ms() < from + 1500; nap(1))
		;
	CHECK(nobody || ms() < from + 1500 + 3000, "it stood still for %lld ms", (long long)(ms() - from - 1500));
	s = SYS(accept(l, NULL, NULL));
	same("the first", far(s), b);
	gone = SYS(accept(l, NULL, NULL));
	if (!nobody)
		await();
	get_data("sent before it was accepted", s, 80, 1);
	get_data("by one that is gone", gone, 96, 2);
	EQ("end of file", read(gone, buf, 1), 0);
	put_data(s, 80, 3);
	get_data("and back", c, 80, 3);
}

static void late(void) { late_for(0); }
static void never(void) { late_for(1); }

static void get_from(const char *what, int s, size_t n, uint64_t seed, struct name from)
{
	struct name got = { .len = sizeof got.a };

	readable(what, s);
	EQ(what, recvfrom(s, buf, sizeof buf, MSG_DONTWAIT, (struct sockaddr *)&got.a, &got.len), n);
	SAME(what, buf, n, seed);
	same(what, got, from);
}

static void udp_of(int family)
{
	int r = bound(SOCK_DGRAM, family), a = bound(SOCK_DGRAM, family), b = bound(SOCK_DGRAM, family), gone = bound(SOCK_DGRAM, family);
	struct name n = own(r), na = own(a), nb = own(b), ng = own(gone);

	set(r, SOL_SOCKET, SO_BROADCAST, 1);
	SYS(connect(a, (struct sockaddr *)&n.a, n.len));
	SYS(connect(b, (struct sockaddr *)&na.a, na.len));
	put_data(a, 80, 1);
	pattern(buf, 88, 2);
	EQ("sendto", sendto(b, buf, 88, 0, (struct sockaddr *)&n.a, n.len), 88);
	EQ("sendto", sendto(gone, buf, 88, 0, (struct sockaddr *)&n.a, n.len), 88);
	close(gone);
	ready_and_await();
	same("receiver", own(r), n);
	same("sender", own(a), na);
	same("its peer", far(a), n);
	same("another's peer", far(b), na);
	EQ("SO_BROADCAST", get(r, SOL_SOCKET, SO_BROADCAST), 1);
	get_from("first", r, 80, 1, na);
	get_from("second", r, 88, 2, nb);
	get_from("from one that is closed", r, 88, 2, ng);
	EQ("more", recv(r, buf, 1, MSG_DONTWAIT), -1);
	EQ("error", errno, EAGAIN);
	put_data(a, 96, 3);
	get_from("what is sent now", r, 96, 3, na);
}

static void udp(void) { udp_of(AF_INET); }
static void udp6(void) { udp_of(AF_INET6); }

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "listeners", listeners }, { "stream", stream }, { "stream6", stream6 }, { "brim", brim },
		{ "waiting", waiting }, { "late", late }, { "never", never }, { "udp", udp }, { "udp6", udp6 }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
