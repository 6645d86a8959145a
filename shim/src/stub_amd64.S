/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stub: runs a batch of system calls between two ptrace stops.
 *
 *   in   rbx  first record (struct esky_record, 64 bytes each)
 *        rbp  number of records; 0 is allowed
 *        r15  not 0: stop at the first call that fails
 *   out  every record that ran has its result; int3 at the end.
 *        rbp = 0, or the number of records left, the failed one included, at
 *        which rbx then points.
 *
 * No stack is used, so rsp may hold anything. rax, rcx and r11 are clobbered by
 * the syscall instruction, the argument registers by us. The code has no
 * addresses in it: the same bytes are injected into processes that have no
 * library of ours.
 */
	.text
	.globl	esky_stub
	.hidden	esky_stub
	.type	esky_stub, @function
	.p2align 6
esky_stub:
	testq	%rbp, %rbp
	jz	3f
1:	movq	0(%rbx), %rax
	movq	8(%rbx), %rdi
	movq	16(%rbx), %rsi
	movq	24(%rbx), %rdx
	movq	32(%rbx), %r10
	movq	40(%rbx), %r8
	movq	48(%rbx), %r9
	syscall
	movq	%rax, 56(%rbx)
	testq	%r15, %r15
	jz	2f
	cmpq	$-4095, %rax		/* -4095 … -1: an errno */
	jae	3f
2:	addq	$64, %rbx
	decq	%rbp
	jnz	1b
3:	int3
	.size	esky_stub, . - esky_stub
	.globl	esky_stub_end
	.hidden	esky_stub_end
	.type	esky_stub_end, @notype
esky_stub_end:
	.section .note.GNU-stack, "", @progbits
