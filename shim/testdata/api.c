// SPDX-License-Identifier: Apache-2.0
// A program that uses esky.h: one command a line on stdin, one answer a line.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../esky.h"

static char trace[256];

static void before(void *arg)
{
	sprintf(trace + strlen(trace), " before:%s", (char *)arg);
	// The call must not wait for itself.
	sprintf(trace + strlen(trace), "%d", esky_checkpoint_now());
}

static void after(void *arg, int resumed)
{
	sprintf(trace + strlen(trace), " after:%s%d", (char *)arg, resumed);
}

static void answer(const char *line)
{
	if (!strcmp(line, "available\n"))
		printf("%d\n", esky_available());
	else if (!strcmp(line, "checkpoint\n"))
		printf("%d%s\n", esky_checkpoint_now(), trace);
	else if (!strcmp(line, "trace\n"))
		printf("trace%s\n", trace);
	else if (!strcmp(line, "generation\n"))
		printf("%u\n", esky_times_resumed());
	else if (!strcmp(line, "clearenv\n"))
		printf("%d\n", clearenv());
	else if (!strcmp(line, "hold\n"))
		esky_critical_begin(), puts("held");
	else if (!strcmp(line, "release\n"))
		esky_critical_end(), puts("released");
	else if (!strcmp(line, "callbacks\n")) {
		int a = esky_callbacks(before, after, "A");

		printf("%d%d\n", a, esky_callbacks(before, after, "B"));
	} else if (!strcmp(line, "fill\n")) {
		int n = 0;

		while (esky_callbacks(NULL, NULL, NULL) == 0)
			n++;
		printf("%d\n", n);
	} else
		puts("what?");
}

int main(void)
{
	char line[64];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		trace[0] = 0;
		errno = 77;
		if (!strcmp(line, "fork\n")) { // the child takes over, the parent waits for it
			if (fork() > 0)
				return wait(NULL) < 0;
			puts("forked");
			continue;
		}
		answer(line);
		if (errno != 77)
			printf("errno is now %d\n", errno);
	}
	return 0;
}
