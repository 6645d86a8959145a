/* SPDX-License-Identifier: Apache-2.0 */

/* A program that knows the good moments: it asks for a checkpoint after each
 * stage, and keeps checkpoints away while it talks to somebody outside who
 * would be confused by being told the same thing twice.
 *
 * cc -o checkpoint_here checkpoint_here.c -I PREFIX/include
 *
 * Nothing of esky is linked in; without esky the program runs as ever. */
#include <stdio.h>
#include <unistd.h>

#include <esky.h>

static void stage(int n)
{
	printf("stage %d\n", n);
	fflush(stdout);
	sleep(1);
}

static void tell_the_database(int n)
{
	esky_critical_begin();
	printf("transaction %d\n", n);
	esky_critical_end();
}

int main(void)
{
	for (int n = 1; n <= 5; n++) {
		stage(n);
		switch (esky_checkpoint_now()) {
		case 0:
			printf("stage %d is safe\n", n);
			break;
		case 1:
			printf("resumed after stage %d (times resumed: %u)\n", n, esky_times_resumed());
			break;
		default:
			printf("no checkpoint after stage %d\n", n);
		}
		tell_the_database(n);
	}
	return 0;
}
