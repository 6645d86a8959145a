// SPDX-License-Identifier: Apache-2.0
// inotify: watches of files and directories, their numbers and masks; each change
// after the checkpoint is told once.
#include "testlib.h"
#include <sys/epoll.h>
#include <sys/inotify.h>

static int watch(int fd, const char *what, uint32_t mask) { return SYS(inotify_add_watch(fd, what, mask)); }

// event reads one event, which must be there; names are shorter than 16 bytes.
static void event(const char *what, int fd, int wd, uint32_t mask, const char *name)
{
	_Alignas(struct inotify_event) char buf[32];
	const struct inotify_event *e = (const void *)buf;
	ssize_t n;

	readable(what, fd);
	n = read(fd, buf, sizeof *e);
	if (n == -1 && errno == EINVAL) // there is a name as well
		n = SYS(read(fd, buf, sizeof buf));
	EQ(what, e->wd, wd);
	EQ("what has happened", e->mask, mask);
	EQ("length of what was read", n, sizeof *e + e->len);
	CHECK(strcmp(e->len ? e->name : "", name) == 0, "%s: of \"%s\", not \"%s\"", what, e->len ? e->name : "", name);
}

static void silence(int fd)
{
	char buf[4096];

	EQ("read without an event", read(fd, buf, sizeof buf), -1);
	EQ("error", errno, EAGAIN);
}

static void touch(const char *file)
{
	int fd = SYS(open(file, O_CREAT | O_WRONLY | O_APPEND, 0644));

	EQ("write", write(fd, "x", 1), 1);
	close(fd);
}

// A file that is open, one that is not, a symbolic link; a watch that ends with
// its first event.
static void files(void)
{
	int fd = SYS(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), open_file = SYS(open(path(".open"), O_CREAT | O_RDWR, 0644)), a, b, l, o;

	touch(path(".closed"));
	touch(path(".once"));
	SYS(symlink(path(".nowhere"), path(".link")));
	a = watch(fd, path(".open"), IN_MODIFY);
	b = watch(fd, path(".closed"), IN_MODIFY | IN_ATTRIB);
	l = watch(fd, path(".link"), IN_DELETE_SELF | IN_DONT_FOLLOW);
	o = watch(fd, path(".once"), IN_MODIFY | IN_ONESHOT);
	ready_and_await();
	EQ("close-on-exec", fcntl(fd, F_GETFD), FD_CLOEXEC);
	silence(fd);
	EQ("write", write(open_file, "x", 1), 1);
	event("an open file", fd, a, IN_MODIFY, "");
	SYS(chmod(path(".closed"), 0600));
	event("a closed file", fd, b, IN_ATTRIB, "");
	touch(path(".closed"));
	event("a closed file", fd, b, IN_MODIFY, "");
	SYS(unlink(path(".link")));
	event("a symbolic link", fd, l, IN_DELETE_SELF, "");
	event("its watch", fd, l, IN_IGNORED, "");
	touch(path(".once"));
	EQ("end of a watch that was for one event", inotify_rm_watch(fd, o), -1);
	EQ("error", errno, EINVAL);
}

// A directory, through two descriptors and an epoll, read by a child as well.
static void directory(void)
{
	int fd = SYS(inotify_init1(IN_NONBLOCK)), copy = SYS(dup(fd)), ep = SYS(epoll_create1(0)), wd, n;
	struct epoll_event e = { .events = EPOLLIN | EPOLLET, .data.u64 = 77 };
	pid_t child;

	SYS(mkdir(path(".dir"), 0755));
	wd = watch(fd, path(".dir"), IN_CREATE | IN_MOVED_TO | IN_DELETE);
	SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	child = SYS(fork());
	if (child == 0) {
		while (!told())
			nap(20);
		event("what the child sees", fd, wd, IN_CREATE, "two");
		_exit(0);
	}
	ready_and_await();
	silence(copy);
	EQ("epoll without an event", epoll_wait(ep, &e, 1, 0), 0);
	SYS(close(SYS(open(path(".dir/two"), O_CREAT | O_WRONLY, 0644))));
	reap(child, 0);
	silence(copy);
	n = SYS(epoll_wait(ep, &e, 1, 0));
	CHECK(n <= 1, "%d events of epoll", n);
	SYS(mkdir(path(".dir/three"), 0755));
	EQ("epoll", epoll_wait(ep, &e, 1, 0), 1);
	EQ("its data", e.data.u64, 77);
	event("through the copy", copy, wd, IN_CREATE | IN_ISDIR, "three");
	SYS(rename(path(".dir/two"), path(".dir/four")));
	event("rename", fd, wd, IN_MOVED_TO, "four");
	silence(copy);
	SYS(inotify_rm_watch(copy, wd));
	event("end of the watch", fd, wd, IN_IGNORED, "");
}

// Numbers with gaps, of which the first is one; an instance without a watch.
static void gaps(void)
{
	int fd = SYS(inotify_init1(IN_NONBLOCK)), none = SYS(inotify_init1(IN_NONBLOCK)), keep[3], k = 0;
	char buf[64];

	touch(path(".other"));
	for (int i = 1; i <= 3000; i++) {
		int kept = i == 7 || i == 1505 || i == 3000;
		char suffix[32];

		snprintf(suffix, sizeof suffix, ".%d", i);
		if (kept)
			touch(path(suffix));
		EQ("number of the watch", watch(fd, path(kept ? suffix : ".other"), IN_MODIFY), i);
		if (kept) {
			keep[k++] = i;
			continue;
		}
		SYS(inotify_rm_watch(fd, i));
		EQ("read of IN_IGNORED", read(fd, buf, sizeof buf), sizeof(struct inotify_event));
	}
	ready_and_await();
	silence(fd);
	touch(path(".7"));
	event("watch 7", fd, keep[0], IN_MODIFY, "");
	touch(path(".1505"));
	event("watch 1505", fd, keep[1], IN_MODIFY, "");
	touch(path(".3000"));
	event("watch 3000", fd, keep[2], IN_MODIFY, "");
	EQ("a watch that ended", inotify_rm_watch(fd, 6), -1);
	EQ("error", errno, EINVAL);
	EQ("the next watch", watch(fd, path(".other"), IN_MODIFY), 3001);
	EQ("first watch of the other", watch(none, path(".other"), IN_MODIFY), 1);
}

// Events that come all the time, and are read at once.
static void busy(void)
{
	int fd = SYS(inotify_init1(0)), wd;
	volatile int *stop = shared(4096);
	pid_t child;

	touch(path(".file"));
	wd = watch(fd, path(".file"), IN_ATTRIB);
	child = SYS(fork());
	if (child == 0) {
		for (; !*stop; nap(10))
			SYS(chmod(path(".file"), 0600));
		_exit(0);
	}
	ready();
	while (!told())
		event("change", fd, wd, IN_ATTRIB, "");
	await();
	event("one more change", fd, wd, IN_ATTRIB, "");
	*stop = 1;
	reap(child, 0);
}

// An event that nobody reads.
static void unread(void)
{
	int fd = SYS(inotify_init1(0));

	touch(path(".file"));
	watch(fd, path(".file"), IN_MODIFY);
	touch(path(".file"));
	ready_and_await();
	readable("the event", fd);
}

static void gone(void)
{
	int fd = SYS(inotify_init1(0)), keep;

	touch(path(".file"));
	keep = SYS(open(path(".file"), O_RDONLY));
	watch(fd, path(".file"), IN_MODIFY);
	SYS(unlink(path(".file")));
	ready_and_await();
	close(keep);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "files", files }, { "directory", directory }, { "gaps", gaps }, { "busy", busy },
		{ "unread", unread }, { "gone", gone }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
