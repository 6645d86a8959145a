// SPDX-License-Identifier: Apache-2.0
// What is in the registers: general, x87 with its control word, MXCSR, SSE, AVX
// and AVX-512 as far as the machine has them, the gs base. A thread keeps them
// in a loop of its own code, in mode "spin" without, in mode "syscall" with
// system calls, until it is told.
#include "testlib.h"
#include <cpuid.h>
#include <pthread.h>
#include <stddef.h>

#if !defined(__x86_64__)
#error "cpu.c knows the registers of x86-64 only"
#endif

#define SET_GS 0x1001 // arch_prctl(2)
#define GET_GS 0x1004

struct regs {
	uint8_t zmm[32][64];
	uint64_t k[8];
	uint64_t gpr[6]; // r8 r9 r10 r12 r13 r14
	double st[4];
	uint32_t mxcsr;
	uint16_t fcw, fsw, pad[10];
} __attribute__((aligned(64)));

static struct regs in, out;
static struct timespec step = { 0, 2000000 };
static volatile uint32_t stop;
static int avx, avx512;

static void detect(void)
{
	uint32_t a, b, c, d, lo = 0, hi;

	__cpuid(1, a, b, c, d);
	if (c & bit_OSXSAVE)
		__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	__cpuid_count(7, 0, a, b, c, d);
	avx = (lo & 6) == 6;
	avx512 = (lo & 0xe6) == 0xe6 && (b & bit_AVX512F) && (b & bit_AVX512BW);
}

#define EACH16(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)
#define HIGH16(x) x(16) x(17) x(18) x(19) x(20) x(21) x(22) x(23) x(24) x(25) x(26) x(27) x(28) x(29) x(30) x(31)
#define KS(x) x(1) x(2) x(3) x(4) x(5) x(6) x(7)

#define LOAD_X(n) "movdqu 64*" #n "(%[p]), %%xmm" #n "\n\t"
#define LOAD_Y(n) "vmovdqu 64*" #n "(%[p]), %%ymm" #n "\n\t"
#define LOAD_Z(n) "vmovdqu64 64*" #n "(%[p]), %%zmm" #n "\n\t"
#define LOAD_K(n) "kmovq 2048+8*" #n "(%[p]), %%k" #n "\n\t"
#define SAVE_X(n) "movdqu %%xmm" #n ", 64*" #n "(%[p])\n\t"
#define SAVE_Y(n) "vmovdqu %%ymm" #n ", 64*" #n "(%[p])\n\t"
#define SAVE_Z(n) "vmovdqu64 %%zmm" #n ", 64*" #n "(%[p])\n\t"
#define SAVE_K(n) "kmovq %%k" #n ", 2048+8*" #n "(%[p])\n\t"

// The vector registers are set, kept and stored by three statements with no C
// between them that could use one: keep() is asm alone.
#define HOLD(LOAD, SAVE, CALL)                                                       \
	__asm__ volatile(                                                            \
		"movq %[i], %%rbx\n\t"                                               \
		"ldmxcsr %c[mx](%%rbx)\n\tfninit\n\tfldcw %c[cw](%%rbx)\n\t"         \
		"fldl %c[st](%%rbx)\n\tfldl %c[st]+8(%%rbx)\n\tfldl %c[st]+16(%%rbx)\n\t" \
		"movq %c[g](%%rbx), %%r8\n\tmovq %c[g]+8(%%rbx), %%r9\n\t"           \
		"movq %c[g]+16(%%rbx), %%r10\n\tmovq %c[g]+24(%%rbx), %%r12\n\t"     \
		"movq %c[g]+32(%%rbx), %%r13\n\tmovq %c[g]+40(%%rbx), %%r14\n\t"     \
		LOAD                                                                 \
		"std\n"                                                              \
		"1:\n\t" CALL                                                        \
		"cmpl $0, (%[s])\n\tje 1b\n\t"                                       \
		"leaq -128(%%rsp), %%rsp\n\tpushfq\n\tcld\n\tpopq %%rax\n\t" /* red zone */ \
		"leaq 128(%%rsp), %%rsp\n\tmovq %%rax, %[flags]\n\t"               \
		"movq %[o], %%rbx\n\tmovq %%rbx, %[p]\n\t"                           \
		SAVE                                                                 \
		"movq %%r8, %c[g](%%rbx)\n\tmovq %%r9, %c[g]+8(%%rbx)\n\t"           \
		"movq %%r10, %c[g]+16(%%rbx)\n\tmovq %%r12, %c[g]+24(%%rbx)\n\t"     \
		"movq %%r13, %c[g]+32(%%rbx)\n\tmovq %%r14, %c[g]+40(%%rbx)\n\t"     \
		"fnstsw %c[sw](%%rbx)\n\tfnstcw %c[cw](%%rbx)\n\tstmxcsr %c[mx](%%rbx)\n\t" \
		"fstpl %c[st]+16(%%rbx)\n\tfstpl %c[st]+8(%%rbx)\n\tfstpl %c[st](%%rbx)\n\t" \
		"fninit\n\tldmxcsr %[plain]\n\t"                                     \
		: [p] "+r"(p), [flags] "+m"(flags)                                   \
		: [i] "m"(inp), [o] "m"(outp), [s] "r"(&stop), [plain] "m"(plain),   \
		  [mx] "i"(offsetof(struct regs, mxcsr)), [cw] "i"(offsetof(struct regs, fcw)), \
		  [sw] "i"(offsetof(struct regs, fsw)), [st] "i"(offsetof(struct regs, st)), \
		  [g] "i"(offsetof(struct regs, gpr)), [t] "m"(stepp)                \
		: "rax", "rbx", "rcx", "rdi", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", \
		  "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",   \
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

#define PAUSE "pause\n\t"
#define NANOSLEEP "movl $35, %%eax\n\tmovq %[t], %%rdi\n\txorl %%esi, %%esi\n\tsyscall\n\ttestq %%rax, %%rax\n\tjnz 2f\n\t"
#define AFTER "2:\n\t"

static unsigned long keep(int calls)
{
	struct regs *p = &in, *inp = &in, *outp = &out;
	struct timespec *stepp = &step;
	uint32_t plain = 0x1f80;
	unsigned long flags = 0;

	if (avx512 && calls)
		HOLD(EACH16(LOAD_Z) HIGH16(LOAD_Z) KS(LOAD_K), AFTER EACH16(SAVE_Z) HIGH16(SAVE_Z) KS(SAVE_K), NANOSLEEP);
	else if (avx512)
		HOLD(EACH16(LOAD_Z) HIGH16(LOAD_Z) KS(LOAD_K), EACH16(SAVE_Z) HIGH16(SAVE_Z) KS(SAVE_K), PAUSE);
	else if (avx && calls)
		HOLD(EACH16(LOAD_Y), AFTER EACH16(SAVE_Y), NANOSLEEP);
	else if (avx)
		HOLD(EACH16(LOAD_Y), EACH16(SAVE_Y), PAUSE);
	else if (calls)
		HOLD(EACH16(LOAD_X), AFTER EACH16(SAVE_X), NANOSLEEP);
	else
		HOLD(EACH16(LOAD_X), EACH16(SAVE_X), PAUSE);
	if (avx)
		__asm__ volatile("vzeroupper");
	return flags;
}

static void *teller(void *arg)
{
	(void)arg;
	ready_and_await();
	stop = 1;
	return NULL;
}

static void compare(void)
{
	int n = avx512 ? 32 : 16, width = avx512 ? 64 : avx ? 32 : 16;

	for (int i = 0; i < n; i++)
		CHECK(!memcmp(in.zmm[i], out.zmm[i], (size_t)width), "vector register %d of %d bytes differs", i, width);
	for (int i = 1; avx512 && i < 8; i++)
		EQ("mask register", out.k[i], in.k[i]);
	for (int i = 0; i < 6; i++)
		EQ("general register", out.gpr[i], in.gpr[i]);
	for (int i = 0; i < 3; i++)
		CHECK(in.st[i] == out.st[i], "x87 register %d is %g, was %g", i, out.st[i], in.st[i]);
	EQ("mxcsr", out.mxcsr, in.mxcsr);
	EQ("x87 control word", out.fcw, in.fcw);
	EQ("x87 top of stack", out.fsw >> 11 & 7, 5);
}

int main(int argc, char **argv)
{
	static unsigned long gs_memory[2] = { 0x1122334455667788, 0x99aabbccddeeff00 };
	unsigned long gs = 0, word, flags;
	pthread_t t;

	begin(argc, argv);
	detect();
	pattern(&in, offsetof(struct regs, st), 11);
	in.st[0] = 1.0 / 3, in.st[1] = -2e-300, in.st[2] = 1e18;
	in.mxcsr = 0x1f80 | 0x6000 | 0x8000 | 0x20; // toward zero, flush to zero, a sticky flag
	in.fcw = 0x037f | 0x0c00;                    // toward zero
	in.fcw &= (uint16_t)~0x0100;                 // 53 bits
	SYS(syscall(SYS_arch_prctl, SET_GS, gs_memory));
	EQ("pthread_create", pthread_create(&t, NULL, teller, NULL), 0);
	flags = keep(is_mode("syscall"));
	CHECK(stop, "a system call was interrupted");
	EQ("direction flag", flags >> 10 & 1, 1);
	compare();
	SYS(syscall(SYS_arch_prctl, GET_GS, &gs));
	EQ("gs base", gs, (long)gs_memory);
	__asm__ volatile("movq %%gs:8, %0" : "=r"(word));
	EQ("memory at the gs base", word, (long)gs_memory[1]);
	pass();
}
