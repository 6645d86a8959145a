/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spin.h: uses up process numbers. The kernel gives them in turn, so after n
 * threads that end at once the next one is n further.
 */
#ifndef ESKY_SPIN_H
#define ESKY_SPIN_H

/* CLONE_VM|FS|FILES|SIGHAND|VFORK|THREAD|SYSVSEM: a thread needs no wait(2), and
 * VFORK has it ended when we go on. */
#define ESKY_SPIN_FLAGS (0x100 | 0x200 | 0x400 | 0x800 | 0x4000 | 0x10000 | 0x40000)

/* Makes a thread that touches no memory and ends; returns its number or -errno. */
static inline long esky_spin(void)
{
	long ret;
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;

	__asm__ volatile("syscall\n\t"
			 "testq %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xorl %%edi, %%edi\n\t"
			 "movl $60, %%eax\n\t" /* exit */
			 "syscall\n"
			 "1:"
			 : "=a"(ret)
			 : "a"(56L /* clone */), "D"((long)ESKY_SPIN_FLAGS), "S"(0L), "d"(0L),
			   "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

#endif
