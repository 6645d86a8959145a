// SPDX-License-Identifier: Apache-2.0
//
// count ROUNDS MILLISECONDS STATUS [FILE]: a computation whose output depends on
// nothing but ROUNDS. Each round mixes a table of 8 MiB, sleeps, and writes a
// line to FILE or stdout; a round that is lost, doubled or resumed with a wrong
// byte of memory changes all lines after it. Ends with STATUS.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WORDS (1 << 20)

static uint64_t table[WORDS];

static uint64_t mix(uint64_t x)
{
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x * 0x2545F4914F6CDD1DULL;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 64;
	long rounds = atol(argv[1]), ms = atol(argv[2]);
	FILE *out = argc > 4 ? fopen(argv[4], "w") : stdout;
	if (!out)
		return 66;
	uint64_t x = 88172645463325252ULL;
	for (long r = 1; r <= rounds; r++) {
		for (long i = 0; i < WORDS; i++)
			x = table[i] = mix(x + table[(i * 31 + r) & (WORDS - 1)]);
		fprintf(out, "round %ld %016llx\n", r, (unsigned long long)x);
		if (fflush(out))
			return 73;
		struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
		nanosleep(&t, NULL);
	}
	return atoi(argv[3]);
}
