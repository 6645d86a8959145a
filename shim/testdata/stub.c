// SPDX-License-Identifier: Apache-2.0
// Runs the stub's bytes (file argv[1]) on batches of system calls, with rsp = 0.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include "../esky_abi.h"

static long back[3]; // where the int3 returns to: rip, rsp, rbp
static volatile long rbx, rbp, rip; // at the int3

static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig, (void)info;
	rbx = u->uc_mcontext.gregs[REG_RBX];
	rbp = u->uc_mcontext.gregs[REG_RBP];
	rip = u->uc_mcontext.gregs[REG_RIP];
	u->uc_mcontext.gregs[REG_RIP] = back[0];
	u->uc_mcontext.gregs[REG_RSP] = back[1];
	u->uc_mcontext.gregs[REG_RBP] = back[2];
}

// Enter the stub with no stack, as a tracer would set the registers.
static void run(char *stub, struct esky_record *r, long n, long stop)
{
	__asm__ volatile(
		"lea 1f(%%rip), %%rax\n\t"
		"mov %%rax, %[rip]\n\t"
		"mov %%rsp, %[rsp]\n\t"
		"mov %%rbp, %[rbp]\n\t"
		"mov %[s], %%rax\n\t"
		"mov %[stop], %%r15\n\t"
		"mov %[n], %%rcx\n\t"
		"mov %[r], %%rbx\n\t"
		"mov %%rcx, %%rbp\n\t"
		"xor %%esp, %%esp\n\t"
		"jmp *%%rax\n"
		"1:"
		: [rip] "=m"(back[0]),
		  [rsp] "=m"(back[1]),
		  [rbp] "=m"(back[2])
		: [s] "m"(stub), [stop] "m"(stop), [n] "m"(n), [r] "m"(r)
		: "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
		  "r12", "r13", "r14", "r15", "memory", "cc");
}

static void want(const char *what, long got, long expect)
{
	if (got == expect)
		return;
	printf("%s: %ld, want %ld\n", what, got, expect);
	exit(1);
}

int main(int argc, char **argv)
{
	static struct esky_record r[4];
	static char trap_stack[65536];
	stack_t alt = { .ss_sp = trap_stack, .ss_size = sizeof trap_stack };
	struct sigaction sa = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	int fd = open(argv[argc - 1], O_RDONLY);
	off_t size = lseek(fd, 0, SEEK_END);
	char *stub = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

	sigaltstack(&alt, NULL);
	sigaction(SIGTRAP, &sa, NULL);

	// All six arguments arrive: mmap takes six, and each matters.
	int f = memfd_create("six", 0);
	want("ftruncate", ftruncate(f, 8192), 0);
	want("pwrite", pwrite(f, "Q", 1, 4096), 1);
	r[0] = (struct esky_record){ SYS_mmap, { 0x10000000, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, f, 4096 }, 7 };
	r[1] = (struct esky_record){ SYS_getpid, { 0 }, 7 };
	r[2] = (struct esky_record){ SYS_close, { -1 }, 7 };
	r[3] = (struct esky_record){ SYS_gettid, { 0 }, 7 };
	run(stub, r, 4, 0);
	want("mmap", r[0].result, 0x10000000);
	want("mapped byte", *(char *)0x10000000, 'Q');
	want("getpid", r[1].result, getpid());
	want("close", r[2].result, -EBADF);
	want("gettid after a failed call", r[3].result, getpid());
	want("rbp at the end", rbp, 0);
	want("rbx at the end", rbx, (long)(r + 4));
	want("rip at the end", rip, (long)(stub + size));

	// Stop on error: the fourth is not run, rbx and rbp tell the failed one.
	r[3].result = 7;
	run(stub, r, 4, 1);
	want("close again", r[2].result, -EBADF);
	want("the call after the failed one", r[3].result, 7);
	want("rbp at the failed one", rbp, 2);
	want("rbx at the failed one", rbx, (long)(r + 2));

	// An address is not an error, however large; -4095 is the last errno.
	r[0] = (struct esky_record){ SYS_lseek, { f, 4096, SEEK_SET }, 7 };
	run(stub, r, 2, 1);
	want("lseek", r[0].result, 4096);
	want("rbp after both", rbp, 0);

	run(stub, r + 3, 0, 1);
	want("a batch of none", r[3].result, 7);
	puts("ok");
	return 0;
}
