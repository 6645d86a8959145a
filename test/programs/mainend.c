// SPDX-License-Identifier: Apache-2.0
// Processes whose main thread has ended (pthread_exit in main) while others run
// on: memory, files, sockets, signals, timers, children.
#include "testlib.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/time.h>

#define SIZE (64 << 10)

static pthread_barrier_t barrier;
static volatile int ticks;
static char memory[SIZE];
static pid_t child;
static int file, pair[2], pipefd[2];

static void tick(int sig UNUSED) { ticks++; }

// main_state is that of the main thread, and its exit code, as /proc shows them.
static char main_state(int *code)
{
	char text[1024], *end, state = 0;
	FILE *f = fopen("/proc/self/stat", "re");
	size_t n;

	CHECK(f, "/proc/self/stat: %s", strerror(errno));
	n = fread(text, 1, sizeof text - 1, f);
	text[n] = 0;
	fclose(f);
	end = strrchr(text, ')');
	CHECK(end && sscanf(end, ") %c", &state) == 1, "/proc/self/stat: %s", text);
	*code = atoi(strrchr(text, ' '));
	return state;
}

static void await_main_end(void)
{
	int code;

	for (int64_t end = ms() + 10000; main_state(&code) != 'Z';) {
		CHECK(ms() < end, "the main thread does not end");
		nap(2);
	}
}

static void set_up(void)
{
	struct itimerval every = { { 0, 20000 }, { 0, 20000 } };
	sigset_t block;

	pattern(memory, SIZE, 3);
	file = SYS(open(path(".file"), O_CREAT | O_RDWR, 0600));
	EQ("write", write(file, "0123456789", 10), 10);
	SYS(lseek(file, 4, SEEK_SET));
	SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	EQ("send", write(pair[0], "socket", 6), 6);
	SYS(pipe(pipefd));
	EQ("pipe", write(pipefd[1], "pipe", 4), 4);
	SYS(chdir("/usr"));
	umask(027);
	signal(SIGALRM, tick);
	sigemptyset(&block);
	sigaddset(&block, SIGRTMIN + 3);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 77 });
	setitimer(ITIMER_REAL, &every, NULL);
	prctl(PR_SET_NAME, "once main");
}

static void look(void)
{
	char text[PATH_MAX] = "";
	struct timespec soon = { 1, 0 };
	siginfo_t info;
	sigset_t s;
	FILE *f;
	int code = -1, before = ticks;

	EQ("state of the main thread", main_state(&code), 'Z');
	EQ("its exit code", code, 0);
	f = fopen("/proc/self/comm", "re");
	CHECK(f && fgets(text, sizeof text, f) && strcmp(text, "once main\n") == 0, "its name is %s", text);
	fclose(f);
	SAME("memory", memory, SIZE, 3);
	EQ("offset", lseek(file, 0, SEEK_CUR), 4);
	EQ("socket", read(pair[1], text, 20), 6);
	EQ("pipe", read(pipefd[0], text, 20), 4);
	SYS(getcwd(text, sizeof text));
	CHECK(strcmp(text, "/usr") == 0, "cwd is %s", text);
	EQ("umask", umask(0), 027);
	sigemptyset(&s);
	sigaddset(&s, SIGRTMIN + 3);
	EQ("signal of the process", sigtimedwait(&s, &info, &soon), SIGRTMIN + 3);
	EQ("its value", info.si_value.sival_int, 77);
	for (int64_t end = ms() + 10000; ticks == before;) {
		CHECK(ms() < end, "the timer has stopped");
		nap(5);
	}
}

static void *second(void *arg UNUSED)
{
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier); // across the checkpoint
	return (void *)5;
}

static void *first(void *arg UNUSED)
{
	pid_t tid = (pid_t)syscall(SYS_gettid), pid = getpid();
	pthread_t t;
	void *result;

	signals_expected = 1;
	EQ("thread", pthread_create(&t, NULL, second, NULL), 0);
	pthread_barrier_wait(&barrier);
	child = SYS(fork());
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, 0);
		EQ("parent", getppid(), pid);
		await();
		EQ("parent", getppid(), pid);
		_exit(9);
	}
	await_main_end();
	ready_and_await();
	EQ("pid", getpid(), pid);
	EQ("tid", syscall(SYS_gettid), tid);
	look();
	pthread_barrier_wait(&barrier);
	pthread_join(t, &result);
	EQ("result of the other thread", (long)result, 5);
	reap(child, 9);
	pass();
}

// threads: those that are left do all that a process can.
static void threads(void)
{
	pthread_t t;

	set_up();
	pthread_barrier_init(&barrier, NULL, 2);
	EQ("thread", pthread_create(&t, NULL, first, NULL), 0);
	pthread_exit(NULL);
}

static void *last(void *arg UNUSED)
{
	int code = -1;

	await_main_end();
	ready_and_await();
	EQ("state of the main thread", main_state(&code), 'Z');
	EQ("its exit code", code, 7 << 8);
	pass();
}

// status: the main thread has ended with another status than 0.
static void status(void)
{
	pthread_t t;

	EQ("thread", pthread_create(&t, NULL, last, NULL), 0);
	syscall(SYS_exit, 7);
}

static void *mourned(void *arg UNUSED)
{
	pid_t pid = SYS(fork());

	if (pid == 0) {
		SYS(prctl(PR_SET_PDEATHSIG, SIGTERM));
		nap(300000);
	}
	await_main_end();
	ready_and_await();
	SYS(kill(pid, SIGKILL));
	pass();
}

// death: a child that a thread has made gets a signal when that thread ends.
static void death(void)
{
	pthread_t t;

	EQ("thread", pthread_create(&t, NULL, mourned, NULL), 0);
	pthread_exit(NULL);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = { { "threads", threads }, { "status", status }, { "death", death }, { NULL, NULL } };

	begin(argc, argv);
	run_mode(modes);
}
