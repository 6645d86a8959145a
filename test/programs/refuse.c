// SPDX-License-Identifier: Apache-2.0
// Kinds of state that cannot be carried. A checkpoint must be refused by name,
// and the program, which looks whether it still has it, must go on with it.
#include "testlib.h"

#include <linux/audit.h>
#include <linux/fanotify.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>

static char stack[1 << 16] __attribute__((aligned(64)));
static volatile int held, done;

static void filter(void)
{
	static struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog prog = { 1, allow };

	SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

static void seccomp_filter(void)
{
	filter();
	ready_and_await();
	EQ("mode", prctl(PR_GET_SECCOMP), SECCOMP_MODE_FILTER);
}

static void seccomp_strict(void)
{
	int p[2];
	pid_t pid;
	char c;

	SYS(pipe(p));
	pid = SYS(fork());
	if (pid == 0) {
		close(p[1]);
		SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
		read(p[0], &c, 1);
		syscall(SYS_exit, 5);
	}
	nap(50);
	ready_and_await();
	close(p[1]);
	reap(pid, 5);
}

// in runs f in a thread, which says when it has what it should have.
static void in(void *(*f)(void *))
{
	pthread_t t;

	EQ("thread", pthread_create(&t, NULL, f, NULL), 0);
	while (!held)
		nap(2);
	ready_and_await();
	done = 1;
	pthread_join(t, NULL);
}

static void hold(void)
{
	held = 1;
	while (!done)
		nap(5);
}

static void *with_filter(void *arg UNUSED)
{
	filter();
	hold();
	EQ("mode", prctl(PR_GET_SECCOMP), SECCOMP_MODE_FILTER);
	return NULL;
}

static void *with_files(void *arg UNUSED)
{
	SYS(unshare(CLONE_FILES));
	close(0);
	hold();
	EQ("descriptor 0", fcntl(0, F_GETFD), -1);
	return NULL;
}

static void seccomp_thread(void) { in(with_filter); }
static void thread_files(void) { in(with_files); }

static pid_t tracee;

static void traced(void)
{
	int st;

	tracee = SYS(fork());
	if (tracee == 0)
		for (;;)
			nap(1000);
	SYS(ptrace(PTRACE_SEIZE, tracee, 0, 0));
	ready_and_await();
	SYS(ptrace(PTRACE_INTERRUPT, tracee, 0, 0));
	EQ("still traced", waitpid(tracee, &st, 0), tracee);
	SYS(kill(tracee, SIGKILL));
}

// A child that traces its parent, which is stopped by it.
static void traced_by_child(void)
{
	pid_t main_pid = getpid(), pid = SYS(fork());

	if (pid == 0) {
		SYS(ptrace(PTRACE_SEIZE, main_pid, 0, 0));
		held = 1;
		ready_and_await();
		SYS(ptrace(PTRACE_INTERRUPT, main_pid, 0, 0));
		EQ("still traced", waitpid(main_pid, NULL, __WALL), main_pid);
		SYS(ptrace(PTRACE_DETACH, main_pid, 0, 0));
		_exit(6);
	}
	signals_expected = 1;
	reap(pid, 6);
}

static int child(void *arg UNUSED)
{
	held = 1;
	for (int64_t end = ms() + 300000; !done && ms() < end;)
		nap(5);
	_exit(8);
}

// share makes a process that shares what a thread would.
static void share(int flags)
{
	pid_t pid = SYS(clone(child, stack + sizeof stack, flags | SIGCHLD, NULL));

	nap(50);
	ready_and_await();
	done = 1;
	EQ("it shares memory", held, 1);
	reap(pid, 8);
}

static void clone_vm(void) { share(CLONE_VM); }
static void clone_sighand(void) { share(CLONE_VM | CLONE_SIGHAND); }

// A process that shares memory with one that is neither its parent nor its child.
static void clone_sibling(void)
{
	pid_t pid = SYS(fork());

	if (pid == 0) {
		SYS(clone(child, stack + sizeof stack, CLONE_VM | CLONE_PARENT | SIGCHLD, NULL));
		nap(50);
		ready_and_await();
		EQ("it shares memory", held, 1);
		done = 1;
		_exit(0);
	}
	EQ("children", waitpid(-1, NULL, 0) > 0 && waitpid(-1, NULL, 0) > 0, 1);
}

static void new_namespace(int flags)
{
	pid_t pid = SYS(fork());

	if (pid == 0) {
		SYS(unshare(CLONE_NEWUSER | flags));
		ready_and_await();
		_exit(7);
	}
	reap(pid, 7);
}

static void ns_user(void) { new_namespace(0); }
static void ns_net(void) { new_namespace(CLONE_NEWNET); }

// The namespaces of children to come: they are those of nobody yet.
static void ns_pid_children(void)
{
	new_namespace(CLONE_NEWPID);
}

static void ns_pid(void)
{
	pid_t pid = SYS(fork());

	if (pid == 0) {
		SYS(unshare(CLONE_NEWUSER | CLONE_NEWPID));
		pid = SYS(fork());
		if (pid == 0) {
			EQ("pid", getpid(), 1);
			ready_and_await();
			_exit(7);
		}
		reap(pid, 7);
		_exit(7);
	}
	reap(pid, 7);
}

static void uring(void)
{
	struct io_uring_params p = { 0 };
	int fd = (int)SYS(syscall(SYS_io_uring_setup, 4, &p));

	ready_and_await();
	EQ("ring", fcntl(fd, F_GETFD) >= 0, 1);
}

// A ring whose memory alone is left.
static void uring_mapped(void)
{
	struct io_uring_params p = { 0 };
	int fd = (int)SYS(syscall(SYS_io_uring_setup, 4, &p));
	char *ring = SYS(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));

	close(fd);
	ready_and_await();
	EQ("ring", ring[0], 0);
}

static void uffd(void)
{
	int fd = (int)SYS(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));

	ready_and_await();
	EQ("descriptor", fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static void perf(void)
{
	struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK,
		.exclude_kernel = 1, .exclude_hv = 1 };
	uint64_t n = 0;
	int fd = (int)SYS(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));

	ready_and_await();
	EQ("count", read(fd, &n, sizeof n), 8);
	CHECK(n > 0, "the counter stands still");
}

static void landlock(void)
{
	struct { uint64_t files; } rules = { 1 };
	int fd = (int)SYS(syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0));

	ready_and_await();
	EQ("descriptor", fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static void fanotify(void)
{
	int fd = (int)SYS(syscall(SYS_fanotify_init, FAN_CLASS_NOTIF | FAN_REPORT_FID, O_RDONLY));

	ready_and_await();
	EQ("descriptor", fcntl(fd, F_GETFD), 0);
}

// A 32-bit program of our own, which needs no library: it calls pause(2) for ever.
static void ia32(void)
{
	static const unsigned char elf[] = {
		0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 4, 8, 52, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 52, 0, 32, 0, 1, 0, 40, 0, 0, 0, 0, 0,
		1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 4, 8, 0, 0x80, 4, 8, 0x5d, 0, 0, 0, 0x5d, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0,
		0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7, // mov $29 (pause), %eax; int $0x80; jmp
	};
	int fd = SYS(open(path(".ia32"), O_CREAT | O_WRONLY | O_CLOEXEC, 0755));
	pid_t pid;
	int st;

	EQ("program", write(fd, elf, sizeof elf), sizeof elf);
	close(fd);
	pid = SYS(fork());
	if (pid == 0) {
		execl(path(".ia32"), "ia32", NULL);
		_exit(1);
	}
	nap(100);
	ready_and_await();
	EQ("it runs on", waitpid(pid, &st, WNOHANG), 0);
	SYS(kill(pid, SIGKILL));
}

#define SET_DISPATCH 59 // PR_SET_SYSCALL_USER_DISPATCH

static void dispatch(void)
{
	static volatile char selector; // 0: allow

	SYS(prctl(SET_DISPATCH, 1, 0, 0, &selector));
	ready_and_await();
	SYS(prctl(SET_DISPATCH, 0, 0, 0, 0));
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "seccomp-filter", seccomp_filter }, { "seccomp-strict", seccomp_strict }, { "seccomp-thread", seccomp_thread },
		{ "thread-files", thread_files },
		{ "traced", traced }, { "traced-by-child", traced_by_child },
		{ "clone-vm", clone_vm },
		{ "clone-sighand", clone_sighand }, { "clone-sibling", clone_sibling },
		{ "ns-user", ns_user }, { "ns-net", ns_net }, { "ns-pid", ns_pid }, { "ns-pid-children", ns_pid_children },
		{ "uring", uring }, { "uring-mapped", uring_mapped }, { "uffd", uffd }, { "perf", perf }, { "fanotify", fanotify }, { "landlock", landlock },
		{ "ia32", ia32 }, { "dispatch", dispatch }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
