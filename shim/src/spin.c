/* SPDX-License-Identifier: Apache-2.0 */
/*
 * esky-spin: a program of its own, without libc. It reads a number of four bytes
 * from standard input and uses up process numbers (spin.h) until that one was the
 * last, or for some turns; it writes the last one, or a negative errno. It comes
 * to the point by itself because others make processes at the same time.
 */
#include <stdint.h>

#include "sys_amd64.h"
#include "spin.h"

#define AT_MOST 100000 /* some seconds */

__attribute__((noreturn, used)) void _start(void)
{
	int32_t want, last;

	while (sys4(SYS_read, 0, (long)&want, sizeof want, 0) == sizeof want) {
		long i = 0;

		do
			last = (int32_t)esky_spin();
		while (last > 0 && last != want && ++i < AT_MOST);
		if (sys4(1 /* write */, 1, (long)&last, sizeof last, 0) != sizeof last)
			break;
	}
	for (;;)
		sys4(60 /* exit */, 0, 0, 0, 0);
}
