// SPDX-License-Identifier: Apache-2.0
// Unix sockets with names: listeners, connections, datagrams, and descriptors on
// their way.
#include "testlib.h"
#include "sockdata.h"
#include <libgen.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

struct name {
	struct sockaddr_un a;
	socklen_t len;
};

// at_home makes the directory of the status file the working directory, so that
// names are short enough.
static void at_home(void)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof dir, "%s", status_path);
	SYS(chdir(dirname(dir)));
}

static const char *base(const char *suffix)
{
	static char all[PATH_MAX];
	const char *p = path(suffix);

	snprintf(all, sizeof all, "%s", strrchr(p, '/') + 1);
	return all;
}

static struct name file_name(const char *suffix)
{
	struct name n = { .a.sun_family = AF_UNIX };

	CHECK(strlen(base(suffix)) < sizeof n.a.sun_path, "the name is too long");
	strcpy(n.a.sun_path, base(suffix));
	n.len = offsetof(struct sockaddr_un, sun_path) + strlen(n.a.sun_path) + 1;
	return n;
}

// abstract names may have any bytes.
static struct name abstract_name(const char *suffix)
{
	struct name n = { .a.sun_family = AF_UNIX };
	uint64_t hash = 0xcbf29ce484222325ull; // FNV-1a: pids are the same in every job
	int len;

	for (const char *c = status_path; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 0x100000001b3ull;
	len = snprintf(n.a.sun_path + 1, sizeof n.a.sun_path - 8, "esky%llx%s", (unsigned long long)hash, suffix);

	memcpy(n.a.sun_path + 1 + len, "\0\xff!", 3);
	n.len = offsetof(struct sockaddr_un, sun_path) + 1 + len + 3;
	return n;
}

static int make(int type, const struct name *n)
{
	int s = SYS(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));

	if (n)
		SYS(bind(s, (const struct sockaddr *)&n->a, n->len));
	return s;
}

static int listener(int type, const struct name *n, int backlog)
{
	int s = make(type, n);

	SYS(listen(s, backlog));
	return s;
}

static int connected(int type, const struct name *to, const struct name *own)
{
	int s = make(type, own);

	SYS(connect(s, (const struct sockaddr *)&to->a, to->len));
	return s;
}

static void named(const char *what, int peer, int s, const struct name *n)
{
	struct sockaddr_un a;
	socklen_t len = sizeof a;

	SYS(peer ? getpeername(s, (struct sockaddr *)&a, &len) : getsockname(s, (struct sockaddr *)&a, &len));
	if (!n) {
		EQ(what, len, sizeof a.sun_family);
		return;
	}
	EQ(what, len, n->len);
	CHECK(memcmp(&a, &n->a, len) == 0, "%s: another name: %s", what, a.sun_path);
}

static int option(int s, int name)
{
	int v = -1;
	socklen_t len = sizeof v;

	SYS(getsockopt(s, SOL_SOCKET, name, &v, &len));
	return v;
}

static void cred(const char *what, int s, pid_t pid)
{
	struct ucred c;
	socklen_t len = sizeof c;

	SYS(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c, &len));
	EQ(what, c.pid, pid);
	EQ(what, c.uid, getuid());
}

// Listeners: with a file, with an abstract name, one whose file was removed.
static void listeners(void)
{
	struct name f, g, x;
	struct stat st;
	int l, a, gone, s, c;

	at_home();
	f = file_name(".l");
	g = file_name(".gone");
	x = abstract_name("l");
	l = listener(SOCK_STREAM, &f, 7);
	SYS(chmod(f.a.sun_path, 0640));
	a = listener(SOCK_SEQPACKET, &x, 3);
	SYS(fcntl(a, F_SETFL, O_NONBLOCK));
	gone = listener(SOCK_STREAM, &g, 1);
	SYS(unlink(g.a.sun_path));
	ready_and_await();
	named("listener", 0, l, &f);
	named("abstract listener", 0, a, &x);
	named("listener without a file", 0, gone, &g);
	SYS(stat(f.a.sun_path, &st));
	EQ("mode", st.st_mode & 07777, 0640);
	CHECK(access(g.a.sun_path, F_OK) != 0, "the file that was removed is there again");
	EQ("listens", option(l, SO_ACCEPTCONN), 1);
	EQ("listens", option(gone, SO_ACCEPTCONN), 1);
	EQ("nobody waits", accept(a, NULL, NULL), -1);
	EQ("error", errno, EAGAIN);
	c = connected(SOCK_STREAM, &f, NULL);
	s = SYS(accept(l, NULL, NULL));
	put_data(c, 80, 1);
	get_data("by the file", s, 80, 1);
	c = connected(SOCK_SEQPACKET, &x, NULL);
	s = SYS(accept(a, NULL, NULL));
	put_data(c, 88, 2);
	get_data("by the abstract name", s, 88, 2);
}

// Connections between processes, made by connect and accept, with data both ways;
// of one the listener is gone, of another a side has said that it sends no more.
static void connection(int type, const struct name *n, const struct name *own)
{
	int l = listener(type, n, 5), s[2], c[2], on = 1;
	pid_t pid = SYS(fork()), me = getppid();

	if (pid == 0) {
		close(l);
		c[0] = connected(type, n, own);
		put_data(c[0], 240, 3);
		put_data(c[0], 16, 4);
		SYS(recv(c[0], buf, 1, MSG_PEEK));
		while (!told())
			nap(20);
		named("client", 0, c[0], own);
		named("its server", 1, c[0], n);
		cred("pid of the server", c[0], me);
		get_data("what the client gets", c[0], 808, 5);
		EQ("end for the client", recv(c[0], buf, 1, 0), 0);
		put_data(c[0], 24, 6);
		_exit(0);
	}
	s[0] = SYS(accept(l, NULL, NULL));
	c[1] = connected(type, n, NULL);
	s[1] = SYS(accept(l, NULL, NULL));
	close(l);
	SYS(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
	put_data(c[1], 160, 7);
	put_data(s[0], 808, 5);
	SYS(shutdown(s[0], SHUT_WR));
	close(c[1]);
	readable("client", s[0]);
	nap(100);
	ready_and_await();
	named("server", 0, s[0], n);
	named("its client", 1, s[0], own);
	cred("pid of the client", s[0], pid);
	cred("pid of the closed client", s[1], getpid());
	EQ("SO_PASSCRED", option(s[1], SO_PASSCRED), 1);
	if (type == SOCK_STREAM) {
		EQ("what the server gets", recv(s[0], buf, 256, MSG_WAITALL), 256);
		SAME("what the server gets", buf, 240, 3);
		SAME("what the server gets", buf + 240, 16, 4);
	} else {
		get_data("what the server gets", s[0], 240, 3);
		get_data("and the second", s[0], 16, 4);
	}
	readable("what is sent now", s[0]);
	get_data("what is sent now", s[0], 24, 6);
	reap(pid, 0);
	get_data("what the closed one had sent", s[1], 160, 7);
	EQ("end", recv(s[1], buf, 1, 0), 0);
	EQ("send to the closed one", send(s[1], "x", 1, MSG_NOSIGNAL), -1);
	EQ("error", errno, EPIPE);
}

static void stream(void)
{
	struct name n, own;

	at_home();
	n = file_name(".s");
	own = file_name(".c");
	connection(SOCK_STREAM, &n, &own);
}

static void abstract(void)
{
	struct name n = abstract_name("s"), own = abstract_name("c");

	connection(SOCK_STREAM, &n, &own);
}

static void seqpacket(void)
{
	struct name n;

	at_home();
	n = file_name(".s");
	connection(SOCK_SEQPACKET, &n, NULL);
}

// Connections that nobody has accepted yet.
static void waiting(void)
{
	struct name n, own;
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 77 };
	int l, c[3], s, ep;

	at_home();
	n = file_name(".s");
	own = file_name(".c");
	l = listener(SOCK_STREAM, &n, 5);
	SYS(fcntl(l, F_SETFL, O_NONBLOCK));
	ep = SYS(epoll_create1(EPOLL_CLOEXEC));
	SYS(epoll_ctl(ep, EPOLL_CTL_ADD, l, &e));
	c[0] = connected(SOCK_STREAM, &n, NULL);
	c[1] = connected(SOCK_STREAM, &n, &own);
	c[2] = connected(SOCK_STREAM, &n, NULL);
	ready_and_await();
	e.data.u64 = 0;
	EQ("epoll", epoll_wait(ep, &e, 1, 0), 1);
	EQ("epoll", e.data.u64, 77);
	for (int i = 0; i < 3; i++) {
		s = SYS(accept(l, NULL, NULL));
		named("who waited", 1, s, i == 1 ? &own : NULL);
		cred("who waited", s, getpid());
		put_data(c[i], 80, 10 + i);
		get_data("in the order of connect", s, 80, 10 + i);
		put_data(s, 80, 20 + i);
		get_data("and back", c[i], 80, 20 + i);
	}
	EQ("one more", accept(l, NULL, NULL), -1);
	EQ("error", errno, EAGAIN);
}

// Data waits on connections that are accepted a moment later; the maker of one
// is gone.
static void late(void)
{
	struct name n;
	int l, c, gone, s;

	at_home();
	n = file_name(".s");
	l = listener(SOCK_STREAM, &n, 5);
	c = connected(SOCK_STREAM, &n, NULL);
	put_data(c, 80, 1);
	gone = connected(SOCK_STREAM, &n, NULL);
	put_data(gone, 96, 2);
	close(gone);
	ready();
	nap(1500);
	s = SYS(accept(l, NULL, NULL));
	gone = SYS(accept(l, NULL, NULL));
	await();
	get_data("sent before it was accepted", s, 80, 1);
	get_data("by one that is gone", gone, 96, 2);
	EQ("end of file", read(gone, buf, 1), 0);
	put_data(s, 80, 3);
	get_data("and back", c, 80, 3);
}

static void get_from(const char *what, int s, size_t n, uint64_t seed, const struct name *from)
{
	struct sockaddr_un a;
	socklen_t len = sizeof a;

	EQ(what, recvfrom(s, buf, sizeof buf, MSG_DONTWAIT, (struct sockaddr *)&a, &len), n);
	SAME(what, buf, n, seed);
	EQ(what, len, from ? from->len : 0);
	CHECK(!from || memcmp(&a, &from->a, len) == 0, "%s: from another: %s", what, a.sun_path);
}

// Datagram sockets with names; senders with and without, open and closed.
static void dgram(void)
{
	struct name n, x, f, g;
	struct timeval tv = { 3, 500000 }, got;
	socklen_t len = sizeof got;
	int r, ar, a, b, c, d, orphan, size = 50000;

	at_home();
	n = file_name(".r");
	f = file_name(".a");
	g = file_name(".g");
	x = abstract_name("r");
	r = make(SOCK_DGRAM, &n);
	ar = make(SOCK_DGRAM, &x);
	SYS(setsockopt(ar, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	SYS(setsockopt(ar, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
	a = connected(SOCK_DGRAM, &n, &f);
	b = make(SOCK_DGRAM, NULL);
	c = connected(SOCK_DGRAM, &x, NULL);
	d = make(SOCK_DGRAM, &g);
	put_data(a, 80, 1);
	pattern(buf, 88, 2);
	EQ("sendto", sendto(b, buf, 88, 0, (struct sockaddr *)&n.a, n.len), 88);
	EQ("sendto", sendto(d, buf, 88, 0, (struct sockaddr *)&n.a, n.len), 88);
	put_data(c, 96, 3);
	orphan = connected(SOCK_DGRAM, &g, NULL);
	close(d);
	SYS(unlink(g.a.sun_path));
	ready_and_await();
	named("receiver", 0, r, &n);
	named("sender", 0, a, &f);
	named("who the sender sends to", 1, a, &n);
	get_from("from one with a name", r, 80, 1, &f);
	get_from("from one without", r, 88, 2, NULL);
	get_from("from one that is closed", r, 88, 2, &g);
	nothing(r);
	get_from("by an abstract name", ar, 96, 3, NULL);
	nothing(ar);
	SYS(getsockopt(ar, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	EQ("SO_RCVTIMEO", got.tv_sec * 1000000 + got.tv_usec, 3500000);
	EQ("SO_RCVBUF", option(ar, SO_RCVBUF), 2 * size);
	put_data(a, 104, 4);
	get_from("what is sent now", r, 104, 4, &f);
	put_data(c, 112, 5);
	get_from("what is sent now", ar, 112, 5, NULL);
	EQ("send to one that is closed", send(orphan, "x", 1, MSG_NOSIGNAL), -1);
	EQ("error", errno, ECONNREFUSED);
}

static void send_with(int s, size_t n, uint64_t seed, const int *fds, size_t count, int creds)
{
	union {
		char room[512];
		struct cmsghdr align;
	} u = { 0 };
	struct iovec iov = { buf, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.room, .msg_controllen = sizeof u.room };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	size_t used = 0;

	pattern(buf, n, seed);
	if (count) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof *fds);
		memcpy(CMSG_DATA(c), fds, count * sizeof *fds);
		used += CMSG_SPACE(count * sizeof *fds);
		c = (struct cmsghdr *)(u.room + used);
	}
	if (creds) {
		struct ucred own = { getpid(), getuid(), getgid() };

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_CREDENTIALS;
		c->cmsg_len = CMSG_LEN(sizeof own);
		memcpy(CMSG_DATA(c), &own, sizeof own);
		used += CMSG_SPACE(sizeof own);
	}
	m.msg_controllen = used;
	EQ("sendmsg", sendmsg(s, &m, 0), n);
}

// receive_with gives the descriptors that came, and who sent it.
static size_t receive_with(const char *what, int s, size_t room, size_t n, uint64_t seed, int *fds, pid_t *pid)
{
	union {
		char room[512];
		struct cmsghdr align;
	} u;
	struct iovec iov = { buf, room };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.room, .msg_controllen = sizeof u.room };
	size_t count = 0;

	*pid = 0;
	EQ(what, recvmsg(s, &m, MSG_DONTWAIT), n);
	SAME(what, buf, n, seed);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_type == SCM_RIGHTS) {
			count = (c->cmsg_len - CMSG_LEN(0)) / sizeof *fds;
			memcpy(fds, CMSG_DATA(c), count * sizeof *fds);
		} else if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred got;

			memcpy(&got, CMSG_DATA(c), sizeof got);
			*pid = got.pid;
		}
	}
	return count;
}

// Descriptors on their way: of open files, shared with open ones; of files, pipes
// and sockets that are open nowhere else; a socket with a socket in it.
static void rights(void)
{
	int s[2], t[2], p[2], in[2], inner[2], fds[8], file, on = 1;
	pid_t pid, child;

	SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, t));
	SYS(setsockopt(t[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
	SYS(pipe(p));
	SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, in));
	SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
	file = SYS(open(path(".f"), O_RDWR | O_CREAT, 0600));
	EQ("write", write(file, "0123456789", 10), 10);
	EQ("write", write(p[1], "pipe", 4), 4);
	// A stream: bytes without, with, and without descriptors.
	put_data(s[0], 24, 1);
	send_with(s[0], 8, 2, (int[]){ file, p[0] }, 2, 0);
	put_data(s[0], 16, 3);
	// Messages: one socket in another, which is in a third.
	put_data(inner[0], 32, 4);
	send_with(in[0], 8, 5, (int[]){ inner[1] }, 1, 0);
	child = SYS(fork());
	if (child == 0) {
		send_with(t[0], 8, 6, (int[]){ in[1], p[1] }, 2, 1);
		while (!told())
			nap(20);
		_exit(0);
	}
	readable("credentials", t[1]);
	close(inner[1]);
	close(in[1]);
	close(p[0]);
	close(p[1]);
	ready_and_await();
	EQ("before them", receive_with("bytes before", s[1], 24, 24, 1, fds, &pid), 0);
	EQ("with them", receive_with("bytes with descriptors", s[1], 64, 8, 2, fds, &pid), 2);
	get_data("bytes behind", s[1], 16, 3);
	EQ("one open file", lseek(fds[0], 3, SEEK_SET), 3);
	EQ("shares its offset", lseek(file, 0, SEEK_CUR), 3);
	EQ("the pipe", read(fds[1], buf, 10), 4);
	EQ("of a message", receive_with("message", t[1], 64, 8, 6, fds, &pid), 2);
	EQ("who sent it", pid, child);
	put_data(in[0], 40, 7);
	EQ("of a socket on its way", receive_with("message inside", fds[0], 64, 8, 5, &fds[4], &pid), 1);
	get_data("sent after", fds[0], 40, 7);
	get_data("innermost", fds[4], 32, 4);
	reap(child, 0);
	nothing(s[1]);
	nothing(t[1]);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "listeners", listeners }, { "stream", stream }, { "abstract", abstract }, { "seqpacket", seqpacket },
		{ "waiting", waiting }, { "late", late }, { "dgram", dgram }, { "rights", rights }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
