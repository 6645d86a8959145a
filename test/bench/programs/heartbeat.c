/* SPDX-License-Identifier: Apache-2.0 */

/* Holds MIB of random memory, beats a thousand times a second and dirties
 * PAGES pages at each beat. Every gap between two beats that is longer than
 * three milliseconds is a line of output: when it ended, by the clock of the
 * day, and how long it was, in nanoseconds.
 *
 * usage: heartbeat MIB PAGES huge|small */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static uint64_t x = 88172645463325252u;

static uint64_t random_word(void)
{
	x ^= x << 13;
	x ^= x >> 7;
	return x ^= x << 17;
}

static int64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static uint64_t *get(size_t bytes, int huge)
{
	size_t room = bytes + (2 << 20);
	char *p = mmap(0, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	p += -(uintptr_t)p & ((2 << 20) - 1);
	madvise(p, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)p)[i] = random_word();
	return (uint64_t *)p;
}

static void rest(int64_t until)
{
	struct timespec t = { until / 1000000000, until % 1000000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0) != 0)
		;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 64;
	size_t pages = atol(argv[1]) << 8;
	long dirty = atol(argv[2]);
	uint64_t *memory = get(pages << 12, strcmp(argv[3], "huge") == 0);
	int64_t beat = now(CLOCK_MONOTONIC), last = now(CLOCK_REALTIME);

	puts("ready");
	fflush(stdout);
	for (;;) {
		beat += 1000000;
		if (beat < now(CLOCK_MONOTONIC))
			beat = now(CLOCK_MONOTONIC);
		rest(beat);
		for (long i = 0; i < dirty; i++)
			memory[(random_word() % pages) << 9] = x;
		int64_t t = now(CLOCK_REALTIME);

		if (t - last > 3000000) {
			printf("gap %lld %lld\n", (long long)t, (long long)(t - last));
			fflush(stdout);
			t = now(CLOCK_REALTIME); /* the line is not part of the next gap */
		}
		last = t;
	}
}
