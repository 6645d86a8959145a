// SPDX-License-Identifier: Apache-2.0
// What a process is besides its memory and files, one a mode.
#include "testlib.h"
#include <sched.h>
#include <sys/personality.h>
#include <sys/resource.h>

static void cwd(void)
{
	char was[PATH_MAX], is[PATH_MAX];
	struct stat a, b;

	SYS(mkdir(path(".cwd"), 0700));
	SYS(chdir(path(".cwd")));
	CHECK(getcwd(was, sizeof was), "getcwd");
	SYS(stat(".", &a));
	ready_and_await();
	CHECK(getcwd(is, sizeof is), "getcwd: %s", strerror(errno));
	CHECK(!strcmp(was, is), "the working directory is %s, was %s", is, was);
	SYS(stat(".", &b));
	EQ("its inode", b.st_ino, a.st_ino);
}

static void mask(void)
{
	umask(0137);
	ready_and_await();
	EQ("umask", umask(0), 0137);
}

static void limits(void)
{
	struct rlimit r, was[RLIM_NLIMITS];

	for (int i = 0; i < RLIM_NLIMITS; i++)
		SYS(getrlimit(i, &was[i]));
	was[RLIMIT_CORE].rlim_cur = 0;
	was[RLIMIT_NOFILE].rlim_cur = 333;
	was[RLIMIT_STACK].rlim_cur = 5 << 20;
	was[RLIMIT_FSIZE] = (struct rlimit){ 1 << 30, 2u << 30 };
	was[RLIMIT_MEMLOCK].rlim_cur = 65536;
	for (int i = 0; i < RLIM_NLIMITS; i++)
		SYS(setrlimit(i, &was[i]));
	ready_and_await();
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		SYS(getrlimit(i, &r));
		CHECK(r.rlim_cur == was[i].rlim_cur && r.rlim_max == was[i].rlim_max, "limit %d is %llx/%llx, was %llx/%llx", i,
		      (long long)r.rlim_cur, (long long)r.rlim_max, (long long)was[i].rlim_cur, (long long)was[i].rlim_max);
	}
}

static void niceness(void)
{
	SYS(setpriority(PRIO_PROCESS, 0, 7));
	ready_and_await();
	EQ("nice", getpriority(PRIO_PROCESS, 0), 7);
}

static void policy(void)
{
	struct sched_param p = { 0 };

	SYS(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &p)); // musl's own says ENOSYS
	ready_and_await();
	EQ("scheduling policy", syscall(SYS_sched_getscheduler, 0), SCHED_BATCH);
}

static void affinity(void)
{
	cpu_set_t all, set, now;
	int last = -1;

	SYS(sched_getaffinity(0, sizeof all, &all));
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all))
			last = i;
	CPU_ZERO(&set);
	CPU_SET(last, &set);
	SYS(sched_setaffinity(0, sizeof set, &set));
	ready_and_await();
	SYS(sched_getaffinity(0, sizeof now, &now));
	CHECK(CPU_EQUAL(&set, &now), "affinity differs: %d CPUs", CPU_COUNT(&now));
	EQ("CPU", sched_getcpu(), last);
}

static void persona(void)
{
	SYS(personality(ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC));
	ready_and_await();
	EQ("personality", personality(0xffffffff), ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC);
}

static void comm(void)
{
	char name[16];

	SYS(prctl(PR_SET_NAME, "a name) (of 15"));
	ready_and_await();
	SYS(prctl(PR_GET_NAME, name));
	CHECK(!strcmp(name, "a name) (of 15"), "the name is %s", name);
}

static void deathsig(void)
{
	int sig = 0;

	SYS(prctl(PR_SET_PDEATHSIG, SIGUSR2));
	ready_and_await();
	SYS(prctl(PR_GET_PDEATHSIG, &sig));
	EQ("signal when the parent dies", sig, SIGUSR2);
}

static void no_new_privs(void)
{
	SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ready_and_await();
	EQ("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
}

// An orphan comes to us, and not to pid 1.
static void subreaper(void)
{
	pid_t *orphan = shared(4096), child;
	int is = 0;

	SYS(prctl(PR_SET_CHILD_SUBREAPER, 1));
	ready_and_await();
	SYS(prctl(PR_GET_CHILD_SUBREAPER, &is));
	EQ("subreaper", is, 1);
	child = SYS(fork());
	if (child == 0) {
		pid_t parent = getpid(), pid = SYS(fork());

		if (pid)
			_exit(0);
		while (getppid() == parent)
			nap(2);
		*orphan = getppid();
		_exit(6);
	}
	reap(child, 0);
	SYS(waitpid(-1, &is, 0));
	EQ("status of the orphan", is, 6 << 8);
	EQ("its new parent", *orphan, getpid());
}

static void dumpable(void)
{
	SYS(prctl(PR_SET_DUMPABLE, 0));
	ready_and_await();
	EQ("dumpable", prctl(PR_GET_DUMPABLE), 0);
}

static void oom(void)
{
	char text[16] = "";
	int fd = SYS(open("/proc/self/oom_score_adj", O_RDWR));

	EQ("write", write(fd, "567", 3), 3);
	close(fd);
	ready_and_await();
	fd = SYS(open("/proc/self/oom_score_adj", O_RDONLY));
	SYS(read(fd, text, sizeof text - 1));
	EQ("oom_score_adj", atoi(text), 567);
}

static void slack(void)
{
	SYS(prctl(PR_SET_TIMERSLACK, 123456));
	ready_and_await();
	EQ("timer slack", prctl(PR_GET_TIMERSLACK), 123456);
}

static void ids(void)
{
	uid_t was[3], is[3];
	gid_t g[3], h[3];

	SYS(getresuid(&was[0], &was[1], &was[2]));
	SYS(getresgid(&g[0], &g[1], &g[2]));
	ready_and_await();
	SYS(getresuid(&is[0], &is[1], &is[2]));
	SYS(getresgid(&h[0], &h[1], &h[2]));
	CHECK(!memcmp(was, is, sizeof was), "the uid is %d, was %d", (int)is[0], (int)was[0]);
	CHECK(!memcmp(g, h, sizeof g), "the gid is %d, was %d", (int)h[0], (int)g[0]);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "cwd", cwd }, { "umask", mask }, { "limits", limits }, { "nice", niceness }, { "policy", policy },
		{ "affinity", affinity }, { "personality", persona }, { "comm", comm }, { "pdeathsig", deathsig },
		{ "no_new_privs", no_new_privs }, { "subreaper", subreaper }, { "dumpable", dumpable }, { "oom", oom },
		{ "timerslack", slack }, { "ids", ids }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
