/* SPDX-License-Identifier: Apache-2.0 */

/* Four OpenMP threads that never rest: they spin at the barriers between the
 * loops. Integers only, so that the order of the additions does not show. */
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define WORDS (1 << 18)

int main(int argc, char **argv)
{
	int lines = argc > 1 ? atoi(argv[1]) : 200, threads = 0;
	uint64_t *a = malloc(WORDS * sizeof *a), *b = malloc(WORDS * sizeof *b), sum = 0;

	for (uint64_t i = 0; i < WORDS; i++)
		a[i] = i * 0x9e3779b97f4a7c15u;
	for (int n = 0; n < lines; n++) {
		for (int round = 0; round < 12; round++) {
			uint64_t part = 0;

#pragma omp parallel for reduction(+ : part)
			for (int i = 0; i < WORDS; i++) {
				uint64_t x = a[i] ^ a[(i * 17 + n) % WORDS];

				x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
				b[i] = x;
				part += x;
			}
			uint64_t *swap = a;
			a = b, b = swap;
			sum = sum * 31 + part;
		}
#pragma omp parallel
#pragma omp single
		threads = omp_get_num_threads();
		printf("%d %016llx %d threads\n", n, (unsigned long long)sum, threads);
		fflush(stdout);
	}
	return 0;
}
