// SPDX-License-Identifier: Apache-2.0
// Writes a number to all places of a file by turns, seldom enough for the file to be at
// rest most of the time, and compares it with what it remembers, when the file "end" is
// there and after each turn.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { places = 96, size = 1 << 20 };

static char block[size];
static uint64_t turn;

static void compare(int fd)
{
	uint64_t there;

	for (int i = 0; i < places; i++)
		if (pread(fd, &there, sizeof there, (off_t)i * size) != sizeof there || there != turn) {
			printf("in turn %lu place %d has %lu\n", turn, i, there);
			exit(1);
		}
}

int main(void)
{
	struct timespec rest = { 0, 120000000 };
	int fd = open("table", O_RDWR | O_CREAT | O_EXCL, 0644);

	memset(block, 'x', size); // holes would not be copied
	memset(block, 0, sizeof turn);
	for (int i = 0; i < places; i++)
		if (pwrite(fd, block, size, (off_t)i * size) != size)
			return 2;
	close(open("begun", O_CREAT | O_WRONLY, 0644));
	while (access("end", F_OK) != 0) {
		nanosleep(&rest, NULL);
		compare(fd);
		turn++;
		for (int i = 0; i < places; i++)
			if (pwrite(fd, &turn, sizeof turn, (off_t)i * size) != sizeof turn)
				return 2;
	}
	compare(fd);
	return 0;
}
