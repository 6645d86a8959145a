// SPDX-License-Identifier: Apache-2.0
// A child made by posix_spawn(3), which has executed another program image,
// with its arguments, environment, auxiliary vector, name and program file.
#include "testlib.h"
#include <elf.h>
#include <spawn.h>
#include <sys/auxv.h>

static size_t slurp(const char *file, char *buf, size_t size)
{
	int fd = SYS(open(file, O_RDONLY));
	ssize_t n, all = 0;

	while ((n = SYS(read(fd, buf + all, size - (size_t)all))) > 0)
		all += n;
	close(fd);
	return (size_t)all;
}

// What /proc tells of us, where there is a /proc of our pid namespace.
struct view {
	size_t n[3];
	char text[3][8192];
	char exe[PATH_MAX];
};

static void look(struct view *v)
{
	static const char *file[] = { "/proc/self/cmdline", "/proc/self/environ", "/proc/self/auxv" };

	memset(v, 0, sizeof *v);
	for (int i = 0; i < 3; i++)
		v->n[i] = slurp(file[i], v->text[i], sizeof v->text[i]);
	SYS(readlink("/proc/self/exe", v->exe, sizeof v->exe - 1));
}

static void child(void)
{
	static struct view was, is;
	unsigned long random = getauxval(AT_RANDOM);

	look(&was);
	CHECK(put(".child", "READY\n"), "no file for the child");
	await();
	look(&is);
	for (int i = 0; i < 3; i++)
		CHECK(is.n[i] == was.n[i] && !memcmp(is.text[i], was.text[i], is.n[i]),
		      "file %d of cmdline, environ, auxv differs in the spawned child", i);
	CHECK(strcmp(is.exe, was.exe) == 0, "exe is %s, was %s", is.exe, was.exe);
	EQ("AT_RANDOM", getauxval(AT_RANDOM), random);
	CHECK(getenv("PLANET") && !strcmp(getenv("PLANET"), "Pluto"), "the environment is lost");
	_exit(42);
}

int main(int argc, char **argv)
{
	char *args[] = { argv[0], argv[1], "child", "one \"argument\"", "", NULL };
	char *env[] = { "PLANET=Pluto", NULL, NULL };
	char preload[PATH_MAX + 16];
	pid_t pid;

	begin(argc, argv);
	if (is_mode("child"))
		child();
	if (getenv("LD_PRELOAD")) {
		snprintf(preload, sizeof preload, "LD_PRELOAD=%s", getenv("LD_PRELOAD"));
		env[1] = preload;
	}
	EQ("posix_spawn", posix_spawn(&pid, argv[0], NULL, NULL, args, env), 0);
	while (access(path(".child"), F_OK) != 0) {
		EQ("child ended early", waitpid(pid, NULL, WNOHANG), 0);
		nap(5);
	}
	ready_and_await();
	reap(pid, 42);
	pass();
}
