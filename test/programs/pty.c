// SPDX-License-Identifier: Apache-2.0
// pty: pseudo-terminals that the program opened itself (pty(7)).
#include "testlib.h"

#include <sys/ioctl.h>
#include <termios.h>

static int new_master(int unlock)
{
	int fd = SYS(posix_openpt(O_RDWR | O_NOCTTY)), no = 0;

	if (unlock)
		SYS(ioctl(fd, TIOCSPTLCK, &no));
	return fd;
}

static unsigned number(int master)
{
	unsigned n;

	SYS(ioctl(master, TIOCGPTN, &n));
	return n;
}

static int open_slave(int master, int flags)
{
	char name[64];

	snprintf(name, sizeof name, "/dev/pts/%u", number(master));
	return SYS(open(name, O_RDWR | O_NOCTTY | flags));
}

static void say(int fd, const char *text) { EQ("written", SYS(write(fd, text, strlen(text))), strlen(text)); }

static void hear(const char *what, int fd, const char *want)
{
	char buf[512] = "";
	size_t n = 0;

	while (n < strlen(want)) {
		readable(what, fd);
		n += (size_t)SYS(read(fd, buf + n, strlen(want) - n));
	}
	CHECK(strcmp(buf, want) == 0, "%s: \"%s\", was \"%s\"", what, buf, want);
}

// pair: modes, sizes, what waits both ways, packet mode, locks, hung up and
// closed ones.
static void pair(void)
{
	int burnt = new_master(0), m = new_master(1), locked = new_master(0), raw = new_master(1);
	int packet = new_master(1), closed = new_master(1), gone = new_master(1), fresh = new_master(1);
	int s = open_slave(m, 0), s2 = open_slave(m, O_NONBLOCK), rs = open_slave(raw, 0), ps = open_slave(packet, 0);
	int cs = open_slave(closed, 0), hung = open_slave(gone, 0), yes = 1, v = 0;
	struct winsize w = { 33, 77, 1, 2 };
	struct termios t, rt;
	unsigned n = number(m), nl = number(locked);
	char buf[64];

	close(burnt);
	SYS(tcgetattr(s, &t));
	t.c_cc[VINTR] = 7;
	t.c_lflag &= ~(tcflag_t)ECHOE;
	cfsetspeed(&t, B9600);
	SYS(tcsetattr(s, TCSANOW, &t));
	SYS(ioctl(s, TIOCSWINSZ, &w));
	SYS(ioctl(s, TIOCEXCL));
	SYS(fcntl(m, F_SETFL, O_NONBLOCK));
	say(s, "out\n");
	while (ioctl(m, FIONREAD, &v) == 0 && v < 5)
		nap(1);
	say(m, "one line\nhalf a l");
	cfmakeraw(&t);
	SYS(tcsetattr(rs, TCSANOW, &t));
	say(raw, "a\003\004\n\r\177b");
	say(rs, "\nraw\n");
	SYS(ioctl(packet, TIOCPKT, &yes));
	say(ps, "packet");
	say(cs, "last words");
	close(cs);
	close(gone);
	CHECK(read(hung, buf, 1) == 0, "a hung-up terminal reads something");
	nap(20);
	ready_and_await();
	EQ("number", number(m), n);
	EQ("number of the locked one", number(locked), nl);
	SYS(tcgetattr(s, &rt));
	EQ("VINTR", rt.c_cc[VINTR], 7);
	EQ("ECHOE", rt.c_lflag & ECHOE, 0);
	EQ("ICANON", rt.c_lflag & ICANON, ICANON);
	EQ("OPOST", rt.c_oflag & OPOST, OPOST);
	EQ("speed", cfgetispeed(&rt), B9600);
	memset(&w, 0, sizeof w);
	SYS(ioctl(m, TIOCGWINSZ, &w));
	CHECK(w.ws_row == 33 && w.ws_col == 77 && w.ws_xpixel == 1 && w.ws_ypixel == 2, "size %d x %d", w.ws_row, w.ws_col);
	SYS(ioctl(s, TIOCGEXCL, &v));
	EQ("exclusive", v, 1);
	SYS(ioctl(packet, TIOCGPKT, &v));
	EQ("packet mode", v, 1);
	SYS(ioctl(m, TIOCGPKT, &v));
	EQ("packet mode of the other", v, 0);
	SYS(ioctl(locked, TIOCGPTLCK, &v));
	EQ("lock", v, 1);
	EQ("flags of the master", fcntl(m, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	EQ("flags of a slave", fcntl(s2, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	EQ("flags of the other slave", fcntl(s, F_GETFL) & O_NONBLOCK, 0);
	hear("output", m, "out\r\none line\r\nhalf a l");
	say(m, "\177L!\n");
	hear("a line", s, "one line\n");
	hear("a line that was being typed", s2, "half a L!\n");
	hear("raw input", rs, "a\003\004\n\r\177b");
	hear("raw output", raw, "\nraw\n");
	EQ("packet", SYS(read(packet, buf, sizeof buf)), 7);
	CHECK(memcmp(buf, "\0packet", 7) == 0, "another packet");
	hear("last words", closed, "last words");
	CHECK(read(closed, buf, 1) == -1 && errno == EIO, "a master without a slave does not say EIO");
	CHECK(read(hung, buf, 1) == 0 && write(hung, "x", 1) == -1 && errno == EIO, "a hung-up terminal is none any more");
	SYS(fcntl(fresh, F_SETFL, O_NONBLOCK));
	CHECK(read(fresh, buf, 1) == -1 && errno == EAGAIN, "a slave that was never open was");
	v = open_slave(new_master(1), 0);
	CHECK(isatty(v), "a new terminal is none");
}

static volatile sig_atomic_t interrupts, resizes, hangups;
static void count(int sig)
{
	if (sig == SIGINT)
		interrupts++;
	else if (sig == SIGWINCH)
		resizes++;
	else
		hangups++;
}

static void until(const char *what, volatile int *p, int want)
{
	for (int64_t end = ms() + 10000; *p != want; nap(2))
		CHECK(ms() < end, "%s: is %d, not %d", what, *p, want);
}

// session: a session with this as its controlling terminal, a group in the
// foreground and one that is not.
static void session(void)
{
	int m = new_master(1), s = open_slave(m, 0), *at = shared(4096);
	struct winsize w = { 10, 20, 0, 0 };
	struct sigaction a = { .sa_handler = count };
	pid_t leader = SYS(fork());

	signals_expected = 1;
	if (leader == 0) {
		char link[64], name[64] = "";
		int tty;
		pid_t front;

		close(m);
		SYS(setsid());
		SYS(ioctl(s, TIOCSCTTY, 0));
		signal(SIGTTOU, SIG_IGN);
		tty = SYS(open("/dev/tty", O_RDWR | O_CLOEXEC));
		sigaction(SIGINT, &a, NULL);
		sigaction(SIGWINCH, &a, NULL);
		sigaction(SIGHUP, &a, NULL);
		front = SYS(fork());
		if (front == 0) {
			SYS(setpgid(0, 0));
			SYS(tcsetpgrp(tty, getpid()));
			at[0] = getpid();
			while (at[9] == 0) {
				at[1] = interrupts, at[2] = resizes;
				nap(2);
			}
			CHECK(tcgetpgrp(tty) == getpid(), "not in the foreground");
			hear("typed", tty, "hello\n");
			_exit(7);
		}
		while (at[8] == 0) {
			at[3] = interrupts, at[4] = resizes;
			at[5] = tcgetpgrp(s), at[6] = tcgetsid(tty);
			nap(2);
		}
		EQ("flag of /dev/tty", fcntl(tty, F_GETFD), FD_CLOEXEC);
		snprintf(link, sizeof link, "/proc/self/fd/%d", tty);
		SYS(readlink(link, name, sizeof name - 1));
		CHECK(strcmp(name, "/dev/tty") == 0, "/dev/tty is %s now", name);
		reap(front, 7);
		at[7] = 1;
		until("hangups of the leader", (volatile int *)&hangups, 1);
		CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO, "there is a terminal after a hangup");
		_exit(8);
	}
	close(s);
	for (int64_t end = ms() + 10000; at[0] == 0 || at[5] != at[0]; nap(2))
		CHECK(ms() < end, "nobody in the foreground");
	SYS(ioctl(m, TIOCSWINSZ, &w));
	until("sizes that the foreground noticed", at + 2, 1);
	ready_and_await();
	nap(20);
	EQ("sizes that the foreground noticed meanwhile", at[2], 1);
	EQ("interrupts meanwhile", at[1], 0);
	EQ("session, by the master", tcgetsid(m), leader);
	EQ("foreground group, by the master", tcgetpgrp(m), at[0]);
	w.ws_row = 11;
	SYS(ioctl(m, TIOCSWINSZ, &w));
	until("sizes that the foreground noticed", at + 2, 2);
	say(m, "\003");
	until("interrupts in the foreground", at + 1, 1);
	EQ("interrupts in the background", at[3], 0);
	EQ("sizes that the background noticed", at[4], 0);
	EQ("foreground group, by the slave", at[5], at[0]);
	EQ("session, by /dev/tty", at[6], leader);
	at[9] = 1;
	say(m, "hello\n");
	at[8] = 1;
	until("the leader", at + 7, 1);
	close(m);
	reap(leader, 8);
}

// background: one that stopped when it read from its terminal in the background.
static void background(void)
{
	int m = new_master(1), s = open_slave(m, 0), st;
	char buf[64];
	pid_t leader = SYS(fork());

	if (leader == 0) {
		pid_t back;

		SYS(setsid());
		SYS(ioctl(s, TIOCSCTTY, 0));
		back = SYS(fork());
		if (back == 0) {
			SYS(setpgid(0, 0));
			EQ("read", SYS(read(s, buf, sizeof buf)), 12); // stops it
			_exit(memcmp(buf, "to the back\n", 12) == 0 ? 7 : 1);
		}
		EQ("stopped", SYS(waitpid(back, &st, WUNTRACED)), back);
		EQ("signal", WIFSTOPPED(st) ? WSTOPSIG(st) : 0, SIGTTIN);
		ready();
		await();
		SYS(tcsetpgrp(s, back));
		SYS(kill(back, SIGCONT));
		reap(back, 7);
		_exit(8);
	}
	while (access(status_path, F_OK) != 0)
		nap(5);
	await();
	say(m, "to the back\n");
	reap(leader, 8);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "pair", pair }, { "session", session }, { "background", background }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
