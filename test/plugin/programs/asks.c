// SPDX-License-Identifier: Apache-2.0
// Asks for a checkpoint whenever there is a file ask, and writes down the answer.
#include <stdio.h>
#include <unistd.h>

#include "esky.h"

int main(void)
{
	while (access("go", F_OK) != 0) {
		if (unlink("ask") == 0) {
			int answer = esky_checkpoint_now();
			FILE *f = fopen("answers", "a");

			fprintf(f, "%d\n", answer);
			fclose(f);
		}
		usleep(10000);
	}
	return 3;
}
