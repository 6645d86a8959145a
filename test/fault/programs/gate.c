/* SPDX-License-Identifier: Apache-2.0 */

/* A job that does what it is told by files in its directory, so that a test
 * decides what happens between two checkpoints: "advance-N" makes it take step
 * N, which changes a part of its memory and prints a line; "finish" makes it
 * print a hash of all of its memory and end with status 7.
 *
 * usage: gate MIB */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t *memory;
static size_t words;

static uint64_t random_word(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	return x ^= x << 17;
}

static uint64_t hash(void)
{
	uint64_t h = 1;

	for (size_t i = 0; i < words; i++)
		h = (h ^ memory[i]) * 0x9e3779b97f4a7c15u;
	return h;
}

static void take(int step)
{
	for (size_t i = step; i < words; i += 1009)
		memory[i] = random_word();
	printf("step %d\n", step);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int step = 0;
	char name[64];

	words = (size_t)(argc > 1 ? atoi(argv[1]) : 1) << 17;
	memory = malloc(words * sizeof *memory);
	if (!memory)
		return 1;
	for (size_t i = 0; i < words; i++)
		memory[i] = random_word();
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct timespec nap = { 0, 2000000 };

		snprintf(name, sizeof name, "advance-%d", step + 1);
		if (access(name, F_OK) == 0)
			take(++step);
		if (access("finish", F_OK) == 0)
			break;
		nanosleep(&nap, 0);
	}
	printf("result %d %016llx\n", step, (unsigned long long)hash());
	return 7;
}
