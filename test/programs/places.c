// SPDX-License-Identifier: Apache-2.0
// Names that are gone, were given to others, or are too long: directories, mapped
// files, the program itself; and descriptors that are but a name.
#include "testlib.h"

static char buf[65536];

static int make(const char *suffix, size_t size, uint64_t seed)
{
	int fd = SYS(open(path(suffix), O_CREAT | O_TRUNC | O_RDWR, 0640));

	pattern(buf, size, seed);
	EQ("write", write(fd, buf, size), size);
	return fd;
}

// A working directory that was removed, of two processes.
static void cwd_removed(void)
{
	struct stat mine, his;
	pid_t pid;
	int p[2], fd;

	SYS(mkdir(path(".dir"), 0700));
	fd = SYS(open(path(".dir"), O_RDONLY | O_DIRECTORY));
	char absolute[PATH_MAX];
	CHECK(realpath(path(".dir"), absolute), "realpath");
	SYS(pipe(p));
	SYS(chdir(absolute));
	SYS(rmdir(absolute));
	pid = SYS(fork());
	if (pid == 0) {
		await();
		SYS(stat(".", &his));
		EQ("write", write(p[1], &his, sizeof his), sizeof his);
		_exit(0);
	}
	ready_and_await();
	EQ("status of getcwd", syscall(SYS_getcwd, buf, sizeof buf), -1);
	EQ("error of getcwd", errno, ENOENT);
	EQ("make a file there", open("x", O_CREAT | O_WRONLY, 0600), -1);
	EQ("its error", errno, ENOENT);
	SYS(stat(".", &mine));
	EQ("read", read(p[0], &his, sizeof his), sizeof his);
	EQ("inode of the child's directory", his.st_ino, mine.st_ino);
	SYS(fstat(fd, &his));
	EQ("inode of the open directory", his.st_ino, mine.st_ino);
	EQ("entries", syscall(SYS_getdents64, fd, buf, sizeof buf), -1);
	EQ("error", errno, ENOENT);
	CHECK(access(absolute, F_OK) != 0, "the directory has its name back");
	reap(pid, 0);
}

// A working directory whose path no system call takes.
static void cwd_deep(void)
{
	enum { DEPTH = 30 };
	char name[201], top[PATH_MAX];
	struct stat above, here;
	int fd;

	memset(name, 'n', 200);
	name[200] = 0;
	CHECK(getcwd(top, sizeof top), "getcwd");
	SYS(stat(".", &above));
	for (int i = 0; i < DEPTH; i++) {
		name[0] = (char)('a' + i % 26);
		SYS(mkdir(name, 0700));
		SYS(chdir(name));
	}
	fd = SYS(open("file", O_CREAT | O_WRONLY, 0600));
	EQ("write", write(fd, "deep", 4), 4);
	close(fd);
	ready_and_await();
	EQ("getcwd", syscall(SYS_getcwd, buf, 4096), -1);
	EQ("its error", errno, ENAMETOOLONG);
	fd = SYS(open("file", O_RDONLY));
	EQ("read", read(fd, buf, 4), 4);
	CHECK(!memcmp(buf, "deep", 4), "another file is in the working directory");
	for (int i = 0; i < DEPTH; i++)
		SYS(chdir(".."));
	SYS(stat(".", &here));
	EQ("the directory above all", here.st_ino, above.st_ino);
}

// Open files whose names changed: the file itself, and a directory above it.
static void renamed(void)
{
	int fd = make(".old", 8000, 1), below;

	SYS(mkdir(path(".dir"), 0700));
	snprintf(buf, sizeof buf, "%s/file", path(".dir"));
	below = SYS(open(buf, O_CREAT | O_RDWR, 0600));
	EQ("write", write(below, "below", 5), 5);
	SYS(rename(path(".old"), path(".new")));
	SYS(rename(path(".dir"), path(".moved")));
	close(make(".old", 100, 77));
	ready_and_await();
	EQ("offset", lseek(fd, 0, SEEK_CUR), 8000);
	EQ("read", pread(fd, buf, sizeof buf, 0), 8000);
	SAME("content of a renamed file", buf, 8000, 1);
	EQ("read", pread(below, buf, 10, 0), 5);
	CHECK(!memcmp(buf, "below", 5), "another file below a renamed directory");
}

// A mapped file that was upgraded, and one that was removed and ends in the middle
// of its mapping.
static void replaced(void)
{
	int fd = make(".lib", 16384, 1), tail = make(".tail", 5000, 9);
	char *own = SYS(mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	char *same = SYS(mmap(NULL, 16384, PROT_READ, MAP_SHARED, fd, 0));
	char *longer = SYS(mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, tail, 0));
	char *shared = SYS(mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, tail, 0));

	pattern(own + 4096, 4096, 5);
	close(fd);
	close(tail);
	close(make(".upgrade", 16384, 33));
	SYS(rename(path(".upgrade"), path(".lib")));
	SYS(unlink(path(".tail")));
	longer[1] ^= 1;
	ready_and_await();
	longer[1] ^= 1;
	SAME("page of the old file", own, 4096, 1);
	SAME("page of the program's own", own + 4096, 4096, 5);
	SAME("old file, mapped shared", same, 16384, 1);
	SAME("removed file", longer, 5000, 9);
	shared[0] ^= 1;
	shared[0] ^= 1;
	SAME("removed file, mapped shared", shared, 5000, 9);
	fd = SYS(open(path(".lib"), O_RDONLY));
	EQ("read", read(fd, buf, 16384), 16384);
	SAME("the new file", buf, 16384, 33);
}

static uint64_t text_sum(void)
{
	extern char __executable_start, etext;
	uint64_t sum = 1;

	for (char *p = &__executable_start; p < &etext; p++)
		sum = (sum ^ (unsigned char)*p) * 0x100000001b3ull;
	return sum;
}

// The program's own file is replaced by another while it runs.
static void upgraded(void)
{
	uint64_t sum;

	if (!getenv("UPGRADED")) {
		char *args[] = { (char *)path(".exe"), status_path, "upgraded", NULL };
		int in = SYS(open("/proc/self/exe", O_RDONLY)), out = SYS(open(path(".exe"), O_CREAT | O_WRONLY, 0700));
		ssize_t n;

		while ((n = read(in, buf, sizeof buf)) > 0)
			EQ("copy", write(out, buf, (size_t)n), n);
		close(in);
		close(out);
		setenv("UPGRADED", "1", 1);
		SYS(execv(args[0], args));
	}
	close(make(".next", 30000, 3));
	SYS(rename(path(".next"), path(".exe")));
	sum = text_sum();
	ready_and_await();
	EQ("sum of the program's code", text_sum(), sum);
}

// FIFOs: one without a name any more, one that is open at one end only.
static void fifo(void)
{
	int r, w, alone;

	SYS(mkfifo(path(".gone"), 0600));
	r = SYS(open(path(".gone"), O_RDONLY | O_NONBLOCK));
	w = SYS(open(path(".gone"), O_WRONLY));
	SYS(unlink(path(".gone")));
	EQ("write", write(w, "abc", 3), 3);
	SYS(mkfifo(path(".alone"), 0600));
	alone = SYS(open(path(".alone"), O_RDONLY | O_NONBLOCK));
	ready_and_await();
	EQ("read", read(r, buf, 10), 3);
	CHECK(!memcmp(buf, "abc", 3), "something else was in the FIFO");
	EQ("write", write(w, "d", 1), 1);
	close(w);
	EQ("read", read(r, buf, 10), 1);
	EQ("read without a writer", read(r, buf, 10), 0);
	EQ("read where nobody writes", read(alone, buf, 10), 0);
	w = SYS(open(path(".alone"), O_WRONLY));
	EQ("write", write(w, "x", 1), 1);
	EQ("read", read(alone, buf, 10), 1);
}

// Descriptors that are but a name: of a file, a directory, a symbolic link.
static void opath(void)
{
	int file, dir, link, fd;
	struct stat st, was;

	close(make(".file", 100, 1));
	SYS(symlink("nowhere", path(".link")));
	file = SYS(open(path(".file"), O_PATH));
	dir = SYS(open("/proc/self/cwd", O_PATH | O_DIRECTORY));
	link = SYS(open(path(".link"), O_PATH | O_NOFOLLOW));
	SYS(fstat(file, &was));
	ready_and_await();
	EQ("flags of a name", fcntl(file, F_GETFL) & O_PATH, O_PATH);
	EQ("read", read(file, buf, 1), -1);
	EQ("error", errno, EBADF);
	SYS(fstat(file, &st));
	EQ("inode", st.st_ino, was.st_ino);
	snprintf(buf, sizeof buf, "/proc/self/fd/%d", file);
	fd = SYS(open(buf, O_RDONLY));
	EQ("read", read(fd, buf, 200), 100);
	EQ("length of a link", readlinkat(link, "", buf, sizeof buf), 7);
	CHECK(!memcmp(buf, "nowhere", 7), "another link");
	EQ("a name below a directory", faccessat(dir, "status", F_OK, 0), 0);
}

// Files of /proc and /sys, read in part: of the program, a child, the kernel.
static void proc(void)
{
	int self, mem, child, task, kernel, sys, fds;
	volatile uint64_t word = 42;
	uint64_t got = 0;
	char name[64];
	pid_t pid = SYS(fork());

	if (pid == 0) {
		await();
		while (!told())
			nap(2);
		nap(300);
		_exit(0);
	}
	self = SYS(open("/proc/self/status", O_RDONLY));
	mem = SYS(open("/proc/self/mem", O_RDWR));
	snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
	child = SYS(open(name, O_RDONLY));
	snprintf(name, sizeof name, "/proc/self/task/%d/comm", (int)getpid());
	task = SYS(open(name, O_RDWR));
	kernel = SYS(open("/proc/version", O_RDONLY));
	sys = SYS(open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY));
	fds = SYS(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
	EQ("read", read(self, buf, 6), 6);
	EQ("read", read(kernel, buf, 6), 6);
	ready_and_await();
	EQ("offset", lseek(self, 0, SEEK_CUR), 6);
	CHECK(read(self, buf, 100) > 10, "no more status of the program");
	snprintf(name, sizeof name, "%d ", (int)pid);
	// Without namespaces (ESKY_IDS) the kernel tells its own number.
	CHECK(pread(child, buf, 100, 0) > 10 && strstr(buf, "(places)") &&
	      (!strncmp(buf, name, strlen(name)) || getenv("ESKY_IDS")), "the child's stat: %.20s", buf);
	EQ("read of memory", pread(mem, &got, 8, (off_t)(uintptr_t)&word), 8);
	EQ("what it gave", got, 42);
	EQ("write of a name", write(task, "renamed", 7), 7);
	EQ("read of the name", prctl(PR_GET_NAME, buf), 0);
	CHECK(!strcmp(buf, "renamed"), "the name is %s", buf);
	EQ("read of the version", read(kernel, buf, 8), 8);
	CHECK(!memcmp(buf, "version ", 8), "version: %.8s", buf);
	CHECK(read(sys, buf, 100) > 5, "nothing in /sys");
	snprintf(name, sizeof name, "%d", sys);
	EQ("a name in the table of descriptors", faccessat(fds, name, F_OK, AT_SYMLINK_NOFOLLOW), 0);
	reap(pid, 0);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "cwd-removed", cwd_removed }, { "cwd-deep", cwd_deep }, { "renamed", renamed },
		{ "replaced", replaced }, { "upgraded", upgraded }, { "fifo", fifo }, { "opath", opath },
		{ "proc", proc }, { 0, 0 },
	};

	begin(argc, argv);
	run_mode(modes);
}
