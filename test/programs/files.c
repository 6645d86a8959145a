// SPDX-License-Identifier: Apache-2.0
// Files: offsets and who shares them, flags, content of what has no name.
#include "testlib.h"
#include <sys/sysmacros.h>

static char buf[65536];

static int make(const char *suffix, int flags, size_t size, uint64_t seed)
{
	int fd = SYS(open(path(suffix), O_CREAT | O_TRUNC | flags, 0640));

	pattern(buf, size, seed);
	EQ("write", write(fd, buf, size), size);
	return fd;
}

static void content(int fd, size_t size, uint64_t seed)
{
	memset(buf, 0, sizeof buf);
	EQ("size", pread(fd, buf, sizeof buf, 0), size);
	SAME("content", buf, size, seed);
}

// One open file under two numbers and in two processes: one offset. The same
// file opened again: another.
static void regular(void)
{
	int fd = make(".data", O_RDWR, 8000, 1), again, copy, high;
	pid_t pid;

	again = SYS(open(path(".data"), O_RDONLY | O_NOATIME));
	copy = SYS(dup(fd));
	high = SYS(fcntl(fd, F_DUPFD_CLOEXEC, 300));
	SYS(lseek(fd, 1000, SEEK_SET));
	SYS(lseek(again, 77, SEEK_SET));
	SYS(fcntl(again, F_SETFL, O_NONBLOCK | O_NOATIME));
	pid = SYS(fork());
	if (pid == 0) {
		await();
		SYS(lseek(copy, 500, SEEK_CUR));
		EQ("read in the child", read(fd, buf, 24), 24);
		_exit(0);
	}
	ready_and_await();
	reap(pid, 0);
	EQ("offset that parent and child share", lseek(fd, 0, SEEK_CUR), 1524);
	EQ("offset of its copy", lseek(copy, 0, SEEK_CUR), 1524);
	EQ("offset of its copy at 300", lseek(high, 0, SEEK_CUR), 1524);
	EQ("offset of the file opened again", lseek(again, 0, SEEK_CUR), 77);
	EQ("close-on-exec", fcntl(high, F_GETFD), FD_CLOEXEC);
	EQ("no close-on-exec", fcntl(fd, F_GETFD), 0);
	EQ("flags", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_RDWR);
	EQ("flags", fcntl(again, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_NOATIME), O_RDONLY | O_NONBLOCK | O_NOATIME);
	EQ("a free number", fcntl(299, F_GETFD), -1);
	content(fd, 8000, 1);
}

static void append(void)
{
	int fd = make(".log", O_WRONLY | O_APPEND, 800, 1), r;

	ready_and_await();
	EQ("flags", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
	EQ("offset", lseek(fd, 0, SEEK_CUR), 800);
	SYS(lseek(fd, 0, SEEK_SET));
	pattern(buf, 80, 101);
	EQ("write", write(fd, buf, 80), 80);
	r = SYS(open(path(".log"), O_RDONLY));
	content(r, 880, 1);
}

// Rounds of writing: whatever was written after the checkpoint is written
// again after the resume, and stands in the file once.
static void growing(void)
{
	int fd = SYS(open(path(".out"), O_CREAT | O_TRUNC | O_RDWR, 0644));
	uint64_t n = 0, line;

	ready();
	for (; !told(); nap(2)) {
		line = n++;
		EQ("write", write(fd, &line, 8), 8);
	}
	EQ("size", lseek(fd, 0, SEEK_END), n * 8);
	for (uint64_t i = 0; i < n; i++) {
		EQ("read", pread(fd, &line, 8, (off_t)(i * 8)), 8);
		EQ("line", line, i);
	}
}

static void unlinked(void)
{
	int fd = make(".gone", O_RDWR, 16000, 1), again = SYS(open(path(".gone"), O_RDONLY | O_NOFOLLOW));
	char *map = SYS(mmap(NULL, 16000, PROT_READ, MAP_SHARED, fd, 0));
	struct stat st;

	SYS(unlink(path(".gone")));
	SYS(lseek(fd, 123, SEEK_SET));
	ready_and_await();
	EQ("offset", lseek(fd, 0, SEEK_CUR), 123);
	content(fd, 16000, 1);
	content(again, 16000, 1);
	SAME("mapping", map, 16000, 1);
	SYS(fstat(fd, &st));
	EQ("names it has", st.st_nlink, 0);
	EQ("mode", st.st_mode & 07777, 0640);
	CHECK(access(path(".gone"), F_OK) != 0, "the file has got a name");
	pattern(buf, 80, 500);
	EQ("write", pwrite(fd, buf, 80, 0), 80);
	EQ("read", pread(again, buf, 80, 0), 80);
	SAME("what another descriptor reads", buf, 80, 500);
	SAME("what the mapping shows", map, 80, 500);
}

// What a file's mode denies: a mode counts only when a file is opened (open(2)).
static void denied(void)
{
	int ro, none, later, dir, copy;
	char *map;
	struct stat st;

	unlink(path(".ro"));
	unlink(path(".none"));
	ro = SYS(open(path(".ro"), O_CREAT | O_EXCL | O_RDWR, 0444)); // as git does
	pattern(buf, 9000, 1);
	EQ("write", write(ro, buf, 9000), 9000);
	map = SYS(mmap(NULL, 9000, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0));
	none = SYS(open(path(".none"), O_CREAT | O_EXCL | O_WRONLY, 0));
	EQ("write", write(none, buf, 100), 100);
	later = make(".later", O_RDWR, 700, 2);
	copy = make(".lost", O_RDWR, 700, 3);
	SYS(unlink(path(".lost")));
	SYS(fchmod(later, 0));
	SYS(fchmod(copy, 0));
	SYS(mkdir(path(".dir"), 0700));
	dir = SYS(open(path(".dir"), O_RDONLY | O_DIRECTORY));
	SYS(fchmod(dir, 0100));
	ready_and_await();
	content(ro, 9000, 1);
	SAME("mapping", map, 9000, 1);
	pattern(buf, 80, 500);
	EQ("write", pwrite(ro, buf, 80, 0), 80);
	SAME("what the mapping shows", map, 80, 500);
	EQ("offset", lseek(none, 0, SEEK_CUR), 100);
	EQ("write", write(none, buf, 80), 80);
	content(later, 700, 2);
	content(copy, 700, 3);
	SYS(fstat(ro, &st));
	EQ("mode", st.st_mode & 07777, 0444);
	SYS(fstat(none, &st));
	EQ("mode", st.st_mode & 07777, 0);
	EQ("size", st.st_size, 180);
	SYS(fstat(later, &st));
	EQ("mode", st.st_mode & 07777, 0);
	SYS(fstat(dir, &st));
	EQ("mode of the directory", st.st_mode & 07777, 0100);
	SYS(fstat(copy, &st));
	EQ("mode of what has no name", st.st_mode & 07777, 0);
}

static void tmpfile_(void)
{
	char dir[PATH_MAX];
	int fd;

	snprintf(dir, sizeof dir, "%s", status_path);
	*strrchr(dir, '/') = 0;
	fd = open(dir, O_TMPFILE | O_RDWR, 0600);
	CHECK(fd >= 0, "O_TMPFILE in %s: %s", dir, strerror(errno));
	pattern(buf, 9000, 3);
	EQ("write", write(fd, buf, 9000), 9000);
	ready_and_await();
	EQ("offset", lseek(fd, 0, SEEK_CUR), 9000);
	content(fd, 9000, 3);
	EQ("write", write(fd, buf, 8), 8);
}

// read_names reads up to some entries by the system call itself, as libc reads
// ahead, and counts those of each number. It returns how many there were.
static int read_names(int fd, int calls, char *seen)
{
	struct entry { // struct linux_dirent64
		uint64_t ino, off;
		uint16_t len;
		unsigned char type;
		char name[];
	} *e;
	int n = 0;

	while (calls--) {
		long got = SYS(syscall(SYS_getdents64, fd, buf, 512));

		if (got == 0)
			break;
		for (long at = 0; at < got; at += e->len, n++) {
			e = (struct entry *)(buf + at);
			if (e->name[0] != '.')
				seen[atoi(e->name)]++;
		}
	}
	return n;
}

// A directory read half.
static void directory(void)
{
	char name[PATH_MAX], seen[100] = { 0 };
	int n, half, fd;

	SYS(mkdir(path(".dir"), 0700));
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof name, "%s/%d", path(".dir"), i);
		close(SYS(open(name, O_CREAT | O_WRONLY, 0600)));
	}
	half = SYS(open(path(".dir"), O_RDONLY | O_DIRECTORY));
	fd = SYS(open(path(".dir"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	n = read_names(half, 2, seen);
	CHECK(n > 0 && n < 100, "%d entries at first", n);
	ready_and_await();
	EQ("entries in all", n + read_names(half, 1000, seen), 102);
	for (int i = 0; i < 100; i++)
		EQ("times that an entry was read", seen[i], 1);
	EQ("a name below the descriptor", faccessat(fd, "99", F_OK, 0), 0);
}

static void device(void)
{
	static const char *name[] = { "/dev/null", "/dev/zero", "/dev/urandom", "/dev/full" };
	int fd[4];
	struct stat st;

	for (int i = 0; i < 4; i++)
		fd[i] = SYS(open(name[i], O_RDWR));
	ready_and_await();
	for (int i = 0; i < 4; i++) {
		SYS(fstat(fd[i], &st));
		EQ("minor number", minor(st.st_rdev), ((int[]){ 3, 5, 9, 7 })[i]);
	}
	EQ("write to null", write(fd[0], "x", 1), 1);
	EQ("read of null", read(fd[0], buf, 1), 0);
	buf[0] = 1;
	EQ("read of zero", read(fd[1], buf, 1), 1);
	EQ("what it gives", buf[0], 0);
	EQ("read of urandom", read(fd[2], buf, 16), 16);
	EQ("write to full", write(fd[3], "x", 1), -1);
	EQ("error", errno, ENOSPC);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "regular", regular }, { "append", append }, { "growing", growing }, { "unlinked", unlinked },
		{ "denied", denied }, { "tmpfile", tmpfile_ }, { "directory", directory }, { "device", device }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
