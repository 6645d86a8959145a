/* SPDX-License-Identifier: Apache-2.0 */
/* sys_amd64.h: raw system calls; results as the kernel gives them (-errno). */
#ifndef ESKY_SYS_AMD64_H
#define ESKY_SYS_AMD64_H

#define SYS_read 0
#define SYS_close 3
#define SYS_rt_sigprocmask 14
#define SYS_nanosleep 35
#define SYS_getpid 39
#define SYS_readlink 89
#define SYS_getuid 102
#define SYS_rt_sigtimedwait 128
#define SYS_rt_sigqueueinfo 129
#define SYS_gettid 186
#define SYS_openat 257
#define SYS_clock_gettime 228

static inline long sys4(long nr, long a, long b, long c, long d)
{
	long ret;
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

#endif
