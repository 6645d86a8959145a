/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ids_exe.c: functions of libc by which a program finds or executes itself. Who has
 * no power over the host cannot tell the kernel which program a resumed process
 * executes (PR_SET_MM_EXE_FILE), so /proc/self/exe leads to the seed that it was made
 * from: a program that executed that would sleep for ever.
 */
#define _GNU_SOURCE
#include "ids.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

char esky_exe[ESKY_IDS_EXE] __attribute__((used));

static int same(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	return *a == *b;
}

/* Is the path /proc/self/exe, or the same by the number that the job knows? */
static int is_own(const char *path)
{
	static const char proc[] = "/proc/";
	const char *p = path;
	int32_t n = 0;
	int i;

	if (esky_exe[0] == 0 || !path)
		return 0;
	for (i = 0; i < 6; i++)
		if (*p++ != proc[i])
			return 0;
	if (same(p, "self/exe") || same(p, "thread-self/exe"))
		return 1;
	for (; *p >= '0' && *p <= '9' && n < 100000000; p++)
		n = n * 10 + (*p - '0');
	return n && same(p, "/exe") && n == getpid();
}

const char *esky_program(const char *path) { return is_own(path) ? esky_exe : path; }

static ssize_t tell(char *buf, size_t size)
{
	volatile char *to = buf;
	size_t n;

	for (n = 0; n < size && esky_exe[n]; n++)
		to[n] = esky_exe[n];
	return (ssize_t)n;
}

EXPORT ssize_t readlink(const char *path, char *buf, size_t size)
{
	return is_own(path) ? tell(buf, size) : esky_ret(esky_sys(SYS_readlink, (long)path, (long)buf, (long)size, 0, 0, 0));
}

EXPORT ssize_t readlinkat(int dir, const char *path, char *buf, size_t size)
{
	return is_own(path) ? tell(buf, size) : esky_ret(esky_sys(SYS_readlinkat, dir, (long)path, (long)buf, (long)size, 0, 0));
}

/* What programs that are built with _FORTIFY_SOURCE call. */
ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room);
EXPORT ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room)
{
	if (size > room)
		abort();
	return readlink(path, buf, size);
}

ssize_t __readlinkat_chk(int dir, const char *path, char *buf, size_t size, size_t room);
EXPORT ssize_t __readlinkat_chk(int dir, const char *path, char *buf, size_t size, size_t room)
{
	if (size > room)
		abort();
	return readlinkat(dir, path, buf, size);
}

EXPORT char *realpath(const char *path, char *out) { return REAL(realpath)(esky_program(path), out); }

char *__realpath_chk(const char *path, char *out, size_t room);
EXPORT char *__realpath_chk(const char *path, char *out, size_t room)
{
	if (room < PATH_MAX)
		abort();
	return realpath(path, out);
}

EXPORT int execve(const char *path, char *const argv[], char *const env[]) { return REAL(execve)(esky_program(path), argv, env); }
EXPORT int execv(const char *path, char *const argv[]) { return REAL(execv)(esky_program(path), argv); }
EXPORT int execvp(const char *path, char *const argv[]) { return REAL(execvp)(esky_program(path), argv); }

EXPORT int execvpe(const char *path, char *const argv[], char *const env[])
{
	return REAL(execvpe)(esky_program(path), argv, env);
}
