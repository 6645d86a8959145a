// SPDX-License-Identifier: Apache-2.0
// Locks on files and what goes with them: who holds which bytes, who waits, leases,
// and the owners of signal-driven descriptors.
#include "testlib.h"
#include <sys/file.h>
#include <sys/socket.h>

static int file(const char *suffix)
{
	int fd = SYS(open(path(suffix), O_CREAT | O_RDWR, 0600));

	SYS(ftruncate(fd, 1000));
	return fd;
}

static struct flock range(short type, off_t start, off_t len)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };
}

static void lock(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock l = range(type, start, len);

	SYS(fcntl(fd, cmd, &l));
}

// held checks what a lock for writing would meet.
static void held(int fd, int cmd, off_t start, off_t len, short type, off_t from, off_t length, pid_t by)
{
	struct flock l = range(F_WRLCK, start, len);

	SYS(fcntl(fd, cmd, &l));
	EQ("kind of lock", l.l_type, type);
	if (type == F_UNLCK)
		return;
	EQ("start of a lock", l.l_start, from);
	EQ("length of a lock", l.l_len, length);
	EQ("who holds it", l.l_pid, by);
}

// POSIX locks belong to processes: parent and child lock through one description.
static void posix(void)
{
	int fd = file(".locked");
	pid_t parent = getpid(), child;

	lock(fd, F_SETLK, F_WRLCK, 0, 100);
	lock(fd, F_SETLK, F_RDLCK, 200, 100);
	child = SYS(fork());
	if (child == 0) {
		lock(fd, F_SETLK, F_WRLCK, 400, 100);
		lock(fd, F_SETLK, F_RDLCK, 600, 0); // to the end
		put(".child", "locked");
		await();
		held(fd, F_GETLK, 0, 150, F_WRLCK, 0, 100, parent);
		held(fd, F_GETLK, 100, 100, F_UNLCK, 0, 0, 0);
		held(fd, F_GETLK, 150, 250, F_RDLCK, 200, 100, parent);
		put(".checked", "");
		while (access(path(".parent"), F_OK))
			nap(2);
		_exit(0);
	}
	while (access(path(".child"), F_OK))
		nap(2);
	ready_and_await();
	held(fd, F_GETLK, 300, 150, F_WRLCK, 400, 100, child);
	held(fd, F_GETLK, 500, 100, F_UNLCK, 0, 0, 0);
	held(fd, F_GETLK, 5000, 1, F_RDLCK, 600, 0, child);
	while (access(path(".checked"), F_OK))
		nap(2);
	put(".parent", "");
	reap(child, 0);
	held(fd, F_GETLK, 300, 0, F_UNLCK, 0, 0, 0);
}

// OFD locks belong to descriptions: shared with a child, foreign to another open.
static void ofd(void)
{
	int fd = file(".locked"), copy = SYS(dup(fd)), other = SYS(open(path(".locked"), O_RDWR));
	pid_t pid;

	lock(fd, F_OFD_SETLK, F_WRLCK, 0, 100);
	lock(other, F_OFD_SETLK, F_RDLCK, 200, 100);
	pid = SYS(fork());
	if (pid == 0) {
		await();
		held(fd, F_OFD_GETLK, 0, 100, F_UNLCK, 0, 0, 0);
		held(other, F_OFD_GETLK, 0, 200, F_WRLCK, 0, 100, -1);
		_exit(0);
	}
	ready_and_await();
	reap(pid, 0);
	held(copy, F_OFD_GETLK, 0, 100, F_UNLCK, 0, 0, 0);
	held(copy, F_OFD_GETLK, 100, 300, F_RDLCK, 200, 100, -1);
	held(other, F_OFD_GETLK, 0, 200, F_WRLCK, 0, 100, -1);
	lock(copy, F_OFD_SETLK, F_UNLCK, 0, 100);
	held(other, F_OFD_GETLK, 0, 200, F_UNLCK, 0, 0, 0);
}

static void flocks(void)
{
	int fd = file(".a"), copy = SYS(dup(fd)), shared = file(".b"), again = SYS(open(path(".b"), O_RDONLY));
	int probe = SYS(open(path(".a"), O_RDONLY)), probe_b = SYS(open(path(".b"), O_RDONLY));
	pid_t pid;

	SYS(flock(fd, LOCK_EX));
	SYS(flock(shared, LOCK_SH));
	SYS(flock(again, LOCK_SH));
	pid = SYS(fork());
	if (pid == 0) {
		await();
		EQ("lock through the shared description", flock(fd, LOCK_EX | LOCK_NB), 0);
		EQ("lock through another", flock(probe, LOCK_SH | LOCK_NB), -1);
		_exit(0);
	}
	ready_and_await();
	reap(pid, 0);
	EQ("lock what is locked", flock(probe, LOCK_SH | LOCK_NB), -1);
	EQ("share what is shared", flock(probe_b, LOCK_SH | LOCK_NB), 0);
	SYS(flock(probe_b, LOCK_UN));
	EQ("lock what is shared", flock(probe_b, LOCK_EX | LOCK_NB), -1);
	SYS(flock(shared, LOCK_UN));
	EQ("lock what is shared still", flock(probe_b, LOCK_EX | LOCK_NB), -1);
	SYS(flock(again, LOCK_UN));
	EQ("lock what nobody has", flock(probe_b, LOCK_EX | LOCK_NB), 0);
	SYS(flock(copy, LOCK_UN));
	EQ("lock what was let go by a copy", flock(probe, LOCK_EX | LOCK_NB), 0);
}

// Children wait for locks that the parent holds, each kind, until it lets go.
static void waiting(void)
{
	int fd = file(".posix"), other = file(".ofd"), third = file(".flock");
	pid_t pid[3];

	lock(fd, F_SETLK, F_WRLCK, 0, 0);
	lock(other, F_OFD_SETLK, F_WRLCK, 10, 20);
	SYS(flock(third, LOCK_EX));
	for (int i = 0; i < 3; i++) {
		pid[i] = SYS(fork());
		if (pid[i])
			continue;
		if (i == 0) {
			lock(fd, F_SETLKW, F_WRLCK, 5, 1);
		} else if (i == 1) {
			int mine = SYS(open(path(".ofd"), O_RDWR));

			lock(mine, F_OFD_SETLKW, F_WRLCK, 0, 0);
		} else {
			int mine = SYS(open(path(".flock"), O_RDWR));

			SYS(flock(mine, LOCK_EX));
		}
		_exit(told() ? 0 : 1);
	}
	ready_and_await();
	nap(50);
	for (int i = 0; i < 3; i++)
		EQ("a child waits", waitpid(pid[i], NULL, WNOHANG), 0);
	lock(fd, F_SETLK, F_UNLCK, 0, 0);
	reap(pid[0], 0);
	lock(other, F_OFD_SETLK, F_UNLCK, 0, 0);
	reap(pid[1], 0);
	SYS(flock(third, LOCK_UN));
	reap(pid[2], 0);
}

static void lease(void)
{
	int fd = SYS(open(path(".leased"), O_CREAT | O_RDWR, 0600)), reader, wanted = SIGRTMIN + 3;
	struct timespec patience = { 20, 0 };
	sigset_t set;
	siginfo_t info;
	pid_t pid;

	close(SYS(open(path(".read"), O_CREAT | O_RDWR, 0600)));
	reader = SYS(open(path(".read"), O_RDONLY));
	sigemptyset(&set);
	sigaddset(&set, wanted);
	sigprocmask(SIG_BLOCK, &set, NULL);
	SYS(fcntl(fd, F_SETSIG, wanted));
	SYS(fcntl(fd, F_SETLEASE, F_WRLCK));
	SYS(fcntl(reader, F_SETLEASE, F_RDLCK));
	ready_and_await();
	EQ("lease for writing", fcntl(fd, F_GETLEASE), F_WRLCK);
	EQ("lease for reading", fcntl(reader, F_GETLEASE), F_RDLCK);
	EQ("its signal", fcntl(fd, F_GETSIG), wanted);
	pid = SYS(fork());
	if (pid == 0) {
		close(fd);
		close(SYS(open(path(".leased"), O_RDONLY)));
		_exit(0);
	}
	signals_expected = 1;
	EQ("signal of a lease that is broken", sigtimedwait(&set, &info, &patience), wanted);
	EQ("its descriptor", info.si_fd, fd);
	SYS(fcntl(fd, F_SETLEASE, F_UNLCK));
	reap(pid, 0);
}

// Signal-driven input: O_ASYNC with an owner and a signal, and an owner alone.
static void async(void)
{
	int p[2], s[2], wanted = SIGRTMIN + 5;
	struct f_owner_ex own = { F_OWNER_TID, 0 }, is;
	struct timespec patience = { 20, 0 };
	sigset_t set;
	siginfo_t info;
	pid_t pid;

	SYS(pipe(p));
	SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	sigemptyset(&set);
	sigaddset(&set, wanted);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (getpgrp() == 0)	/* in a container the group may be one from outside */
		SYS(setpgid(0, 0));
	own.pid = (pid_t)syscall(SYS_gettid);
	SYS(fcntl(p[0], F_SETOWN_EX, &own));
	SYS(fcntl(p[0], F_SETSIG, wanted));
	SYS(fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK));
	SYS(fcntl(s[0], F_SETOWN, -getpgrp()));
	pid = SYS(fork());
	if (pid == 0) {
		await();
		nap(100);
		EQ("write", write(p[1], "x", 1), 1);
		_exit(0);
	}
	ready_and_await();
	EQ("flags", fcntl(p[0], F_GETFL) & (O_ASYNC | O_NONBLOCK), O_ASYNC | O_NONBLOCK);
	EQ("signal", fcntl(p[0], F_GETSIG), wanted);
	SYS(fcntl(p[0], F_GETOWN_EX, &is));
	EQ("type of owner", is.type, F_OWNER_TID);
	EQ("owner", is.pid, own.pid);
	SYS(fcntl(s[0], F_GETOWN_EX, &is));
	EQ("type of owner", is.type, F_OWNER_PGRP);
	EQ("owner", is.pid, getpgrp());
	EQ("signal for input", sigtimedwait(&set, &info, &patience), wanted);
	EQ("its descriptor", info.si_fd, p[0]);
	EQ("its band", info.si_band & POLLIN, POLLIN);
	reap(pid, 0);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "posix", posix }, { "ofd", ofd }, { "flock", flocks }, { "waiting", waiting },
		{ "lease", lease }, { "async", async }, { 0, 0 },
	};

	begin(argc, argv);
	run_mode(modes);
}
