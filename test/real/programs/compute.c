/* SPDX-License-Identifier: Apache-2.0 */

/* A long computation in one thread with its output in a file of its own and
 * on standard output: argv[1] lines, each the state of a hash over 1 MiB of
 * memory that is changed all the time. It naps between the lines. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORDS (1 << 17)

static uint64_t step(uint64_t *memory, uint64_t hash)
{
	for (int i = 0; i < WORDS; i++) {
		hash = (hash ^ memory[i]) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 29;
		memory[(hash >> 20) % WORDS] += hash;
	}
	return hash;
}

int main(int argc, char **argv)
{
	int lines = argc > 1 ? atoi(argv[1]) : 200;
	uint64_t *memory = calloc(WORDS, sizeof *memory), hash = 1;
	int out = open("out", O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (!memory || out < 0)
		return 1;
	for (int i = 0; i < lines; i++) {
		char line[64];
		struct timespec nap = { 0, 8000000 };
		double half = 0.5 * (double)(hash = step(memory, hash));

		int n = snprintf(line, sizeof line, "%d %016llx %.17g\n", i, (unsigned long long)hash, half);
		if (write(out, line, n) != n)
			return 1;
		printf("%d %016llx\n", i, (unsigned long long)hash);
		fflush(stdout);
		if (nanosleep(&nap, 0) != 0) {
			puts("nanosleep was interrupted");
			return 1;
		}
	}
	return 0;
}
