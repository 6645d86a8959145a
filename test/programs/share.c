// SPDX-License-Identifier: Apache-2.0
// What processes have in common without being threads of one (clone(2)), and
// threads have for themselves (unshare(2)): descriptors, working directory, umask.
#include "testlib.h"

#include <pthread.h>
#include <sched.h>

// Each does its part when it is its turn, in memory that all see.
static volatile int *turn;
static char start[PATH_MAX]; // the working directory

static void wait_turn(int n)
{
	int64_t end = ms() + 300000;

	while (*turn < n) {
		nap(2);
		CHECK(ms() < end, "turn %d has not come", n);
	}
}

static void next_turn(void) { ++*turn; }

// born makes a process with a copy of the memory, as fork(2) does.
static pid_t born(int flags)
{
	return (pid_t)SYS(syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL));
}

static void is_in(const char *want)
{
	char cwd[PATH_MAX];

	SYS(getcwd(cwd, sizeof cwd));
	CHECK(strcmp(cwd, want) == 0, "cwd is %s, not %s", cwd, want);
}

static void has_umask(mode_t want)
{
	mode_t mask = umask(want);

	EQ("umask", mask, want);
}

static struct flock whole(short type)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET };
}

static int is_open(int fd) { return fcntl(fd, F_GETFD) != -1; }

// The other one that shares descriptors: what it opens and closes, the first sees.
static void files_child(void)
{
	struct flock l = whole(F_WRLCK);

	SYS(fcntl(20, F_SETLK, &l));
	SYS(chdir("/usr"));
	next_turn();
	wait_turn(2);
	EQ("cloexec of 22, seen by the child", fcntl(22, F_GETFD), FD_CLOEXEC);
	EQ("descriptor 23, opened by the parent", is_open(23), 1);
	is_in("/usr");
	SYS(close(22));
	SYS(dup2(21, 24));
	next_turn();
	wait_turn(4);
	_exit(3);
}

// One that does not share them.
static void files_stranger(void)
{
	struct flock l = whole(F_RDLCK);

	wait_turn(3);
	SYS(fcntl(20, F_GETLK, &l));
	EQ("the lock of both", l.l_type, F_WRLCK);
	EQ("descriptor 22 of the stranger", is_open(22), 1);
	EQ("descriptor 24 of the stranger", is_open(24), 0);
	_exit(4);
}

static void files(void)
{
	int p[2], fd = SYS(open(path(".file"), O_CREAT | O_RDWR, 0600));
	struct flock l = whole(F_WRLCK);
	pid_t child, stranger;

	SYS(pipe(p));
	SYS(dup2(fd, 20));
	SYS(dup2(p[0], 21));
	SYS(dup3(p[1], 22, O_CLOEXEC));
	stranger = born(0);
	if (stranger == 0)
		files_stranger();
	child = born(CLONE_FILES);
	if (child == 0)
		files_child();
	wait_turn(1);
	ready_and_await();
	SYS(dup2(20, 23));
	next_turn();
	wait_turn(3);
	EQ("descriptor 22, closed by the child", is_open(22), 0);
	EQ("descriptor 24, opened by the child", is_open(24), 1);
	is_in(start);
	reap(stranger, 4);
	SYS(fcntl(20, F_SETLK, &l)); // it is ours too
	next_turn();
	reap(child, 3);
}

// One that shares directory and umask, and not the descriptors.
static void fs_child(void)
{
	SYS(chdir("/usr"));
	umask(0123);
	next_turn();
	wait_turn(2);
	is_in("/");
	has_umask(0444);
	SYS(chdir("/usr/bin"));
	SYS(close(20));
	next_turn();
	_exit(3);
}

static void fs(void)
{
	pid_t child;

	SYS(dup2(SYS(open("/dev/null", O_RDWR)), 20));
	child = born(CLONE_FS);
	if (child == 0)
		fs_child();
	wait_turn(1);
	ready_and_await();
	is_in("/usr");
	has_umask(0123);
	SYS(chdir("/"));
	umask(0444);
	next_turn();
	wait_turn(3);
	is_in("/usr/bin");
	EQ("descriptor 20", is_open(20), 1);
	reap(child, 3);
}

// sibling is one of two that share both; their maker is no part of it, any more.
static void sibling(int first)
{
	if (first) {
		wait_turn(1);
		if (is_mode("siblings"))
			SYS(setsid());
		SYS(chdir("/usr"));
		SYS(dup2(SYS(open("/dev/zero", O_RDONLY)), 25));
		next_turn();
		wait_turn(4);
		SYS(chdir("/"));
		SYS(close(25));
		next_turn();
		_exit(5);
	}
	wait_turn(3);
	is_in("/usr");
	EQ("descriptor 25", is_open(25), 1);
	next_turn();
	wait_turn(5);
	is_in("/");
	EQ("descriptor 25", is_open(25), 0);
	next_turn();
	_exit(6);
}

static void make_siblings(pid_t pids[2])
{
	for (int i = 0; i < 2; i++) {
		pids[i] = born(CLONE_FILES | CLONE_FS);
		if (pids[i] == 0)
			sibling(i == 0);
	}
	SYS(unshare(CLONE_FILES | CLONE_FS));
	next_turn();
	wait_turn(2);
}

static void siblings(void)
{
	pid_t pids[2];

	make_siblings(pids);
	EQ("descriptor 25", is_open(25), 0);
	ready_and_await();
	is_in(start);
	next_turn();
	reap(pids[0], 5);
	reap(pids[1], 6);
	is_in(start);
}

// orphans: the one that has made the two is dead.
static void orphans(void)
{
	pid_t pids[2], maker;

	setpgid(0, 0); // so that who adopts this one knows whose they are
	maker = born(0);
	if (maker == 0) {
		make_siblings(pids);
		_exit(0);
	}
	reap(maker, 0);
	ready_and_await();
	next_turn();
	wait_turn(6);
	is_in(start);
}

// tangled: B shares the descriptors of its grandparent, and another child those of
// its parent, which has left them.
static void tangled(void)
{
	pid_t child = born(CLONE_FILES);

	if (child == 0) {
		if (born(CLONE_FILES) != 0) {
			SYS(unshare(CLONE_FILES));
			if (born(CLONE_FILES) != 0)
				next_turn();
		}
		await();
		_exit(0);
	}
	wait_turn(1);
	ready_and_await();
	reap(child, 0);
}

static void *late_thread(void *arg UNUSED)
{
	next_turn();
	wait_turn(3);
	is_in("/usr/bin");
	has_umask(0246);
	SYS(chdir("/usr"));
	umask(0135);
	next_turn();
	return NULL;
}

// A thread with a directory and a umask of its own, which makes another that shares them.
static void *own_thread(void *arg UNUSED)
{
	pthread_t late;

	SYS(unshare(CLONE_FS));
	SYS(chdir("/usr/bin"));
	umask(0246);
	EQ("thread", pthread_create(&late, NULL, late_thread, NULL), 0);
	wait_turn(1);
	next_turn();
	pthread_join(late, NULL);
	is_in("/usr");
	has_umask(0135);
	return NULL;
}

static void threads(void)
{
	pthread_t t;

	umask(0012);
	EQ("thread", pthread_create(&t, NULL, own_thread, NULL), 0);
	wait_turn(2);
	ready_and_await();
	is_in(start);
	has_umask(0012);
	next_turn();
	pthread_join(t, NULL);
	is_in(start);
	has_umask(0012);
}

// thread_and_process: a process that shares the directory which a thread has left
// its own for.
static void *with_process(void *arg UNUSED)
{
	pid_t pid;

	SYS(unshare(CLONE_FS));
	pid = born(CLONE_FS);
	if (pid == 0) {
		await();
		_exit(0);
	}
	next_turn();
	reap(pid, 0);
	return NULL;
}

static void thread_and_process(void)
{
	pthread_t t;

	EQ("thread", pthread_create(&t, NULL, with_process, NULL), 0);
	wait_turn(1);
	ready_and_await();
	pthread_join(t, NULL);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "files", files }, { "fs", fs }, { "siblings", siblings }, { "orphans", orphans },
		{ "threads", threads }, { "tangled", tangled }, { "thread-process", thread_and_process }, { 0 },
	};

	begin(argc, argv);
	turn = SYS(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	SYS(getcwd(start, sizeof start));
	run_mode(modes);
}
