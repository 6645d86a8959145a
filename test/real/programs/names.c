/* SPDX-License-Identifier: Apache-2.0 */

/* Names that are no UTF-8: the program works in a directory, writes, maps and
 * unlinks files, holds memory and has a name of its own that are such, and says
 * READY. When a file "go" appears in the directory it started in, it tells what
 * all of them are now; until then it removes files "ping" there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char odd[] = "caf\xe9\xff\xc3( x";

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int create(const char *kind)
{
	char name[300];
	int fd;

	snprintf(name, sizeof name, "%s.%s", odd, kind);
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, kind, strlen(kind)) != (ssize_t)strlen(kind))
		die(name);
	return fd;
}

static void say(const char *what, const char *text)
{
	printf("%s ", what);
	for (; *text; text++)
		printf(*text > ' ' && *text < 127 ? "%c" : "\\x%02x", (unsigned char)*text);
	putchar('\n');
}

static void say_link(const char *what, const char *link)
{
	char text[4096];
	ssize_t n = readlink(link, text, sizeof text - 1);

	if (n < 0)
		die(link);
	text[n] = 0;
	say(what, text);
}

static void say_content(const char *what, int fd)
{
	char text[64];
	ssize_t n = pread(fd, text, sizeof text - 1, 0);

	if (n < 0)
		die(what);
	text[n] = 0;
	say(what, text);
}

static void say_fd(const char *what, int fd)
{
	char link[64];

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	say_link(what, link);
	say_content(what, fd);
}

int main(void)
{
	char comm[17] = "";
	int start = open(".", O_RDONLY | O_DIRECTORY), written, mapped, unlinked, memory;
	char *map;

	if (start < 0 || mkdir(odd, 0755) != 0 || chdir(odd) != 0)
		die(odd);
	written = create("written");
	mapped = create("mapped");
	unlinked = create("unlinked");
	memory = memfd_create(odd, 0);
	map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
	if (map == MAP_FAILED || memory < 0 || write(memory, odd, strlen(odd)) < 0)
		die("map");
	char gone[300];
	snprintf(gone, sizeof gone, "%s.unlinked", odd);
	if (unlink(gone) != 0 || prctl(PR_SET_NAME, odd) != 0)
		die(gone);
	puts("READY");
	fflush(stdout);
	while (faccessat(start, "go", F_OK, 0) != 0) {
		unlinkat(start, "ping", 0);
		usleep(10000);
	}
	memcpy(map, "MAP", 3);
	if (pwrite(written, "WRI", 3, 0) != 3 || prctl(PR_GET_NAME, comm) != 0)
		die("write");
	say("comm", comm);
	say_link("cwd", "/proc/self/cwd");
	say_fd("written", written);
	say_fd("mapped", mapped);
	say_content("unlinked", unlinked);
	say_fd("memory", memory);
	return 0;
}
